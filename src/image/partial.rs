//! A blob on its way to disk, which a later process may go on with.
//!
//! It lies in the store's `partial` folder under its digest, locked by who downloads it. What a process that was killed
//! has left is hashed again and gone on with; should the whole not have the right digest then, it is fetched once more
//! from the start. Nothing is taken for a blob before its digest was seen to be right.

use super::digest::{Digest, Hasher};
use super::error::{Error, Result};
use super::manifest::Descriptor;
use rustix::fs::{FlockOperation, flock, fstat};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// A file that is being filled, and who may fill it.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    size: u64,
    digest: Digest,
    /// Bytes that were there before.
    pub(super) found: u64,
    /// Away while a thread writes.
    state: Option<State>,
}

/// What is written so far.
pub(super) struct State {
    file: File,
    hasher: Hasher,
    got: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("got", &self.got).finish()
    }
}

impl Partial {
    /// Opens the file of a blob in `shared`; where another process is at it, one in `own` that starts from nothing.
    /// Blocking: what is there is read.
    pub(super) fn open(descriptor: &Descriptor, shared: &Path, own: &Path) -> Result<Partial> {
        let (size, digest) = (descriptor.size, descriptor.digest.clone());
        let path = shared.join(digest.hex());
        let opened = match take(&path).map_err(|why| Error::store("write", &path, why).needing(size))? {
            Some(mut file) => {
                State::of(&mut file, size).map(|(hasher, got)| (path.clone(), State { file, hasher, got }))
            }
            None => {
                let path = own.join(format!("{}.blob", digest.hex()));
                let file = File::options().read(true).write(true).create_new(true).open(&path);
                file.map(|file| (path, State { file, hasher: Hasher::default(), got: 0 }))
            }
        };
        let (path, state) = opened.map_err(|why| Error::store("write", &path, why).needing(size))?;
        Ok(Partial { path, size, digest, found: state.got, state: Some(state) })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes are there.
    pub(super) fn got(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.got)
    }

    /// Lends what is written to the thread that goes on with it.
    pub(super) fn lend(&mut self) -> Result<State> {
        self.state.take().ok_or(Error::Cancelled)
    }

    /// Takes it back.
    pub(super) fn give_back(&mut self, state: State) {
        self.state = Some(state);
    }

    /// Whether all is there and right. Where what was found of an earlier process was wrong, all is forgotten, so that
    /// it can be fetched anew: false.
    ///
    /// # Errors
    /// The digest of what arrived, where it is wrong and all of it arrived now.
    pub(super) fn is_whole(&mut self) -> Result<bool, Digest> {
        let Some(state) = &mut self.state else { return Ok(false) };
        let digest = std::mem::take(&mut state.hasher).finish();
        if digest == self.digest {
            return Ok(true);
        }
        if std::mem::take(&mut self.found) == 0 || state.file.set_len(0).is_err() {
            return Err(digest);
        }
        let _ = io::Seek::rewind(&mut state.file);
        state.got = 0;
        Ok(false)
    }

    /// Whether another try has to ask for anything.
    pub(super) fn is_complete(&self) -> bool {
        self.got() == self.size
    }

    /// Removes the file.
    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// The locked file at `path`; `None` where another has it.
fn take(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        // Whoever had it before may have been done and removed it.
        if fstat(&file)?.st_nlink > 0 {
            return Ok(Some(file));
        }
    }
}

impl State {
    /// What a file holds already; nothing where that is more than it should.
    fn of(file: &mut File, size: u64) -> io::Result<(Hasher, u64)> {
        let mut hasher = Hasher::default();
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let mut buffer = vec![0; 128 << 10];
        let mut got = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((hasher, got)),
                count => {
                    hasher.update(&buffer[..count]);
                    got += count as u64;
                }
            }
        }
    }

    /// Writes what arrives until there is no more. Blocking.
    pub(super) fn write(mut self, mut waiting: mpsc::Receiver<Bytes>) -> (State, io::Result<()>) {
        while let Some(piece) = waiting.blocking_recv() {
            if let Err(why) = self.file.write_all(&piece) {
                let _ = self.file.set_len(self.got);
                return (self, Err(why));
            }
            self.hasher.update(&piece);
            self.got += piece.len() as u64;
        }
        (self, Ok(()))
    }
}
