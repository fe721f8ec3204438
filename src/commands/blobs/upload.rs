//! A body that comes: written aside, hashed on its way, and given its name once it is whole and on the disk.

use super::{Blobs, Key, Refusal, Running, Slot, There, blocking, discard, whole};
use crate::commands::command::Stored;
use crate::commands::limits::PIECE;
use crate::sys::file::free_space;
use ring::digest::{Context, SHA256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

/// After so many bytes the disk is waited for, so that the end does not have to wait for all of it.
const SYNC_EVERY: u64 = 64 * 1024 * 1024;

/// What bodies leave of a disk: commands go on where no body fits any more.
const LEFT: u64 = 16 * 1024 * 1024;

/// See the module. One that is dropped leaves nothing.
pub struct Upload {
    blobs: Arc<Blobs>,
    key: Key,
    number: u64,
    /// How many bytes it has to have.
    said: Option<u64>,
    came: u64,
    gathered: Vec<u8>,
    aside: Arc<Aside>,
    /// Not while it is written.
    open: Option<Open>,
}

/// Half a body. Its file goes with the last that uses it, which may be a write that nobody waits for any more.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || discard(&path));
        }
    }
}

struct Open {
    file: File,
    context: Context,
    unsynced: u64,
}

impl Blobs {
    /// Begins an upload; one of the same that is under way ends. `said` is how many bytes it has to have.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`], [`Refusal::Full`]; [`Refusal::Overtaken`] where what is there may not be replaced.
    pub fn begin(self: &Arc<Self>, key: Key, said: Option<u64>) -> Result<Upload, Refusal> {
        if said.is_some_and(|said| said > self.most_of_one) {
            return Err(Refusal::TooLarge { most: self.most_of_one });
        }
        let mut inner = self.inner();
        inner.uploads += 1;
        let number = inner.uploads;
        let slot = inner.slot_or_new(&key);
        if slot.sealed || slot.landing {
            return Err(Refusal::Overtaken);
        }
        let begun = inner.change(&key, self.most_of_all, |slot| {
            slot.running = Some(Running { number, bytes: said.unwrap_or_default() });
        });
        if let Err(refusal) = begun {
            inner.abandon(&key, number);
            return Err(refusal);
        }
        drop(inner);
        let aside = Arc::new(Aside(self.dir.join(format!(".{}.{number}", key.file_name()))));
        Ok(Upload { blobs: Arc::clone(self), key, number, said, came: 0, gathered: Vec::new(), aside, open: None })
    }
}

impl Upload {
    /// Takes more of it.
    ///
    /// # Errors
    /// [`Refusal::Size`] where it is more than was said, [`Refusal::TooLarge`], [`Refusal::Full`], [`Refusal::NoSpace`],
    /// [`Refusal::Overtaken`]. Nothing can be done with it then.
    pub async fn write(&mut self, mut piece: &[u8]) -> Result<(), Refusal> {
        self.came += piece.len() as u64;
        if let Some(said) = self.said.filter(|said| self.came > *said) {
            return Err(Refusal::Size { said, came: self.came });
        }
        if self.came > self.blobs.most_of_one {
            return Err(Refusal::TooLarge { most: self.blobs.most_of_one });
        }
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(PIECE - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            piece = later;
            if self.gathered.len() == PIECE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Refusal> {
        self.count(|_| {})?;
        let (open, aside) = (self.open.take(), Arc::clone(&self.aside));
        let mut gathered = std::mem::take(&mut self.gathered);
        let written = blocking(move || {
            let mut open = match open {
                Some(open) => open,
                None => {
                    let file = File::options().write(true).create_new(true).mode(0o600).open(&aside.0)?;
                    Open { file, context: Context::new(&SHA256), unsynced: 0 }
                }
            };
            if free_space(&aside.0)? < LEFT + gathered.len() as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            open.file.write_all(&gathered)?;
            open.context.update(&gathered);
            open.unsynced += gathered.len() as u64;
            if open.unsynced >= SYNC_EVERY {
                open.file.sync_data()?;
                open.unsynced = 0;
            }
            gathered.clear();
            Ok((open, gathered))
        });
        let (open, gathered) = written.await?;
        (self.open, self.gathered) = (Some(open), gathered);
        Ok(())
    }

    /// Counts what has come, if it may, and notes something about the slot with it.
    fn count(&self, note: impl Fn(&mut Slot)) -> Result<(), Refusal> {
        let mut inner = self.blobs.inner();
        if !inner.slot(&self.key).is_some_and(|slot| self.is_newest(slot) && !slot.sealed) {
            return Err(Refusal::Overtaken);
        }
        let bytes = self.came.max(self.said.unwrap_or_default());
        inner.change(&self.key, self.blobs.most_of_all, |slot| {
            slot.running = Some(Running { number: self.number, bytes });
            note(slot);
        })
    }

    fn is_newest(&self, slot: &Slot) -> bool {
        slot.running.is_some_and(|running| running.number == self.number)
    }

    /// That was all of it. It is there, through kill -9 and loss of power, once this has answered; an earlier one is not
    /// any more. Not to be dropped half-way.
    ///
    /// # Errors
    /// [`Refusal::Size`], [`Refusal::Digest`] where it is another than was said; those of [`Upload::write`].
    pub async fn finish(mut self, sha256: Option<[u8; 32]>) -> Result<Stored, Refusal> {
        if let Some(said) = self.said.filter(|said| self.came != *said) {
            return Err(Refusal::Size { said, came: self.came });
        }
        self.flush().await?;
        let Some(Open { file, context, .. }) = self.open.take() else { return Err(Refusal::Missing) };
        let body = Stored { size: self.came, sha256: whole(context) };
        if sha256.is_some_and(|sha256| sha256 != body.sha256) {
            return Err(Refusal::Digest);
        }
        blocking(move || file.sync_all()).await?;
        // From here on it gets its name.
        self.count(|slot| slot.landing = true)?;
        let (aside, path, dir) = (Arc::clone(&self.aside), self.blobs.path(&self.key), self.blobs.dir.clone());
        let landed = blocking(move || {
            fs::rename(&aside.0, path)?;
            File::open(dir)?.sync_all()
        });
        self.landed(landed.await.map(|()| body))
    }

    fn landed(&self, body: Result<Stored, Refusal>) -> Result<Stored, Refusal> {
        let there = body.as_ref().ok().map(|body| There { size: body.size, sha256: Some(body.sha256) });
        let mut inner = self.blobs.inner();
        let kept = match inner.slot(&self.key) {
            Some(slot) if slot.landing && self.is_newest(slot) => inner.change(&self.key, u64::MAX, |slot| {
                (slot.there, slot.running, slot.landing) = (there, None, false);
            }),
            _ => Err(Refusal::Overtaken),
        };
        drop(inner);
        let body = body.and_then(|body| kept.map(|()| body));
        if body.is_err() {
            // What it was for has ended meanwhile; or the disk has failed, and nobody knows what stands there now.
            let path = self.blobs.path(&self.key);
            tokio::task::spawn_blocking(move || discard(&path));
        }
        body
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.blobs.inner().abandon(&self.key, self.number);
    }
}
