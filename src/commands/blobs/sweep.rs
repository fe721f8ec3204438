//! What an earlier process left: what is still needed is taken up, the rest removed.

use super::{Blobs, Key, There, discard};
use crate::commands::command::{Command, Upload};
use crate::commands::protocol::State;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

impl Blobs {
    /// Takes up the files of commands that have not ended and of results that are kept, and the room that was promised;
    /// removes all others. Before anybody is answered.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn sweep(&self, open: &[Command], results: &[(String, String)]) -> io::Result<()> {
        let open: HashMap<&str, &Command> = open.iter().map(|command| (command.id.as_str(), command)).collect();
        let results: HashSet<Key> = results.iter().map(|(command, lease)| Key::response(command, lease)).collect();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let key = entry.file_name().to_str().and_then(Key::of_file);
            let needed = |key: &Key| {
                let command = open.get(key.command.as_str());
                results.contains(key) || command.is_some_and(|command| is_needed(command, key))
            };
            match key.filter(needed) {
                Some(key) => self.take_up(&key, entry.metadata()?.len()),
                None => discard(&entry.path()),
            }
        }
        for command in open.values().filter(|command| command.state == State::PendingUpload) {
            let size = command.upload.and_then(|upload| upload.size).unwrap_or_default();
            self.set(&Key::params(&command.id), |slot| slot.promised = size);
        }
        self.tell_missing(open.values().copied(), &results);
        Ok(())
    }

    fn take_up(&self, key: &Key, size: u64) {
        self.set(key, |slot| slot.there = Some(There { size, sha256: None }));
    }

    /// What is there is there, also where the limits are lower than before.
    fn set(&self, key: &Key, change: impl Fn(&mut super::Slot)) {
        let mut inner = self.inner();
        inner.slot_or_new(key);
        let _ = inner.change(key, u64::MAX, change);
    }

    fn tell_missing<'a>(&self, open: impl Iterator<Item = &'a Command>, results: &HashSet<Key>) {
        let stored = open.filter(|command| command.upload.as_ref().and_then(Upload::stored).is_some());
        let needed = stored.map(|command| Key::params(&command.id)).chain(results.iter().cloned());
        let mut inner = self.inner();
        for key in needed.filter(|key| inner.slot(key).is_none_or(|slot| slot.there.is_none())).collect::<Vec<_>>() {
            tracing::error!(file = key.file_name(), "a body is not there any more");
        }
    }
}

/// Whether a command that has not ended needs a file: its parameters, and what its receiver has put under its lease.
fn is_needed(command: &Command, key: &Key) -> bool {
    match &key.part {
        super::Part::Params => command.upload.is_some(),
        super::Part::Response { lease } => command.is_leased_by(lease),
    }
}
