//! A supervisor's eye on the scanner.

use super::LOCK;
use crate::supervisor::{handover, lock};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A supervisor's eye on the scanner.
pub struct Watched {
    state_dir: PathBuf,
    handle: Option<OwnedFd>,
}

impl Watched {
    /// Looks for the scanner of `state_dir`.
    pub fn new(state_dir: &Path) -> Self {
        let handle = lock::holder_handle(&state_dir.join(LOCK)).map(|(_, handle)| handle);
        Watched { state_dir: state_dir.to_owned(), handle }
    }

    /// Readable once the scanner has ended.
    pub fn handle(&self) -> Option<&impl AsRawFd> {
        self.handle.as_ref()
    }

    /// The scanner has ended: there must be another one. The first of many supervisors to see it starts it.
    pub fn renew(&mut self) {
        let find = |path: &Path| lock::holder_handle(path).map(|(_, handle)| handle);
        let path = self.state_dir.join(LOCK);
        self.handle = find(&path);
        if self.handle.is_none() {
            let started = handover::wanted(&self.state_dir).and_then(|program| {
                Command::new(program).arg("scan").arg(&self.state_dir).env_clear().stdin(Stdio::null()).status()
            });
            if let Err(error) = started {
                eprintln!("cannot start a scanner: {error}");
            }
            self.handle = find(&path);
        }
    }
}
