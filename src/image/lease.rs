//! Keeps what a running call needs from being pruned.
//!
//! ```text
//! <store>/prune.lock        flock: shared while something is about to be leased, exclusive while a prune decides
//! <store>/leases/<random>   names of layers and blobs, a line each; locked (flock) as long as its holder lives
//! ```
//!
//! A lease names all layers of an image before it is looked at which of them are there, so a prune that comes before
//! it takes them away before they are counted on, and one that comes after it leaves them. Both hold the gate for no
//! longer than a few file operations: a prune never waits for a download, nor the other way round. Who puts an image to
//! use writes that down while it still holds the lease; a prune reads leases first and then what is in use.

use super::digest::Digest;
use super::error::{Error, Result};
use super::store::Store;
use rustix::fs::{FlockOperation, flock};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

/// Held as long as it, or a clone of it, lives. All are equal: which one is held is no part of what an image is.
#[derive(Debug, Clone, Default)]
pub struct Lease(#[allow(dead_code)] Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    _file: File,
}

impl PartialEq for Lease {
    fn eq(&self, _: &Lease) -> bool {
        true
    }
}

impl Eq for Lease {}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The gate, held until it is dropped; nothing on a file system that nobody can write, and so nobody prune.
#[derive(Debug)]
pub(super) struct Gate(#[allow(dead_code)] Option<File>);

impl Store {
    /// Waits for the gate. Blocking, but not for long.
    pub(super) fn gate(&self, operation: FlockOperation) -> Result<Gate> {
        let path = self.dir().join("prune.lock");
        let failed = |why| Error::store("lock", &path, why);
        let file = match File::options().read(true).write(true).create(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(Gate(None)),
            Err(why) => return Err(failed(why)),
        };
        loop {
            match flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                locked => return locked.map(|()| Gate(Some(file))).map_err(|why| failed(why.into())),
            }
        }
    }

    /// The gate, held alone, where nobody has it.
    pub(super) fn gate_now(&self) -> Result<Option<Gate>> {
        let path = self.dir().join("prune.lock");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|why| Error::store("lock", &path, why))?;
        Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then(|| Gate(Some(file))))
    }

    /// Keeps layers and blobs with these names from being pruned, whether they are there or not yet.
    pub(super) fn lease<'n>(&self, names: impl Iterator<Item = &'n Digest>) -> Result<Lease> {
        let gate = self.gate(FlockOperation::LockShared)?;
        if gate.0.is_none() {
            return Ok(Lease(None));
        }
        let dir = self.dir().join("leases");
        let failed = |why| Error::store("write", &dir, why);
        let names: String = names.map(|name| format!("{}\n", name.hex())).collect();
        let mut file = tempfile::NamedTempFile::new_in(&dir).map_err(failed)?;
        file.write_all(names.as_bytes()).map_err(failed)?;
        let path = file.into_temp_path().keep().map_err(|why| failed(why.error))?;
        // Held for reading: an open file that is written to would keep the file system from becoming read-only. Nobody
        // takes it for a dead one meanwhile: they would need the gate.
        let file = File::open(&path).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|why| failed(why.into()))?;
        Ok(Lease(Some(Arc::new(Inner { path, _file: file }))))
    }

    /// The names that are leased by processes that live. To be called with the gate held alone.
    pub(super) fn leased(&self) -> Result<HashSet<String>> {
        let dir = self.dir().join("leases");
        let failed = |why| Error::store("read", &dir, why);
        let mut names = HashSet::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let file = match File::options().read(true).write(true).open(&path) {
                // It was let go of just now.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_file(&path);
            } else {
                names.extend(io::read_to_string(file).map_err(failed)?.lines().map(str::to_owned));
            }
        }
        Ok(names)
    }
}
