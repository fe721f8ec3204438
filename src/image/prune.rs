//! Taking away what nobody uses, beside calls that fetch.
//!
//! Under the gate (see `lease`) it is decided what goes, and that loses its name: layers are moved into a session,
//! documents and references removed. The contents go afterwards, when others may go on.

use super::error::{Error, Result};
use super::store::Store;
use super::usage::{Kept, bytes_below};
use rustix::fs::{FlockOperation, flock};
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

/// What is in use outside of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// Names of layers.
    pub layers: HashSet<String>,
    /// What images are known by.
    pub digests: HashSet<String>,
}

/// What went, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images that are no longer here.
    pub images: Vec<Kept>,
    /// How many layers went.
    pub layers: usize,
    /// Bytes on disk that this freed: of layers that went and of downloads that nobody went on with.
    pub bytes: u64,
}

impl Store {
    /// Removes every image that is neither in use nor held by a call under way, the layers that no other image has,
    /// and downloads that were broken off. With `dry_run` it only says so. Blocking.
    ///
    /// `in_use` is asked while no lease can begin; `remove` removes a folder whose files may not be this user's.
    ///
    /// # Errors
    /// That of `in_use`, before anything was removed; [`Error::Store`].
    pub fn prune<E: From<Error>>(
        &self,
        dry_run: bool,
        in_use: impl FnOnce() -> std::result::Result<InUse, E>,
        remove: impl Fn(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<Pruned, E> {
        let session = self.session()?;
        let gate = self.gate(FlockOperation::LockExclusive)?;
        // In this order: who holds a lease writes down what it uses before it lets go of it.
        let leased = self.leased()?;
        let used = in_use()?;
        let (kept, gone): (Vec<Kept>, Vec<Kept>) = self.images()?.into_iter().partition(|image| {
            used.digests.contains(&image.digest) || image.documents.iter().any(|name| leased.contains(name))
        });
        let is_kept = |layer: &String| {
            used.layers.contains(layer)
                || leased.contains(layer)
                || kept.iter().any(|image| image.layers.contains(layer))
        };
        let layers: Vec<String> = self.layer_names()?.into_iter().filter(|layer| !is_kept(layer)).collect();
        let mut bytes: u64 = layers.iter().map(|layer| self.layer_bytes(layer)).sum();
        if !dry_run {
            for image in &gone {
                self.forget(&image.digest)?;
            }
            self.remove_blobs(|name| {
                leased.contains(name) || kept.iter().any(|image| image.documents.iter().any(|own| own == name))
            })?;
            for layer in &layers {
                self.take_away(layer, &session.dir)?;
            }
        }
        bytes += self.abandoned(dry_run)?;
        drop(gate);
        for layer in layers.iter().filter(|_| !dry_run) {
            remove(&session.dir.join(layer))?;
        }
        Ok(Pruned { images: gone, layers: layers.len(), bytes })
    }

    /// Moves a layer and what is noted about it out of the way; the layer first: without it the notes mean nothing.
    fn take_away(&self, layer: &str, aside: &Path) -> Result<()> {
        let dir = self.layers_dir().join(layer);
        fs::rename(&dir, aside.join(layer)).map_err(|why| Error::store("remove", &dir, why))?;
        for note in ["owners", "owned", "size"] {
            let _ = fs::remove_file(dir.with_extension(note));
        }
        Ok(())
    }

    fn remove_blobs(&self, is_kept: impl Fn(&str) -> bool) -> Result<()> {
        let dir = self.dir().join("blobs/sha256");
        let failed = |why| Error::store("read", &dir, why);
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_str().is_some_and(&is_kept) {
                fs::remove_file(entry.path()).map_err(|why| Error::store("remove", &entry.path(), why))?;
            }
        }
        Ok(())
    }

    /// Downloads that no process is at: their bytes.
    fn abandoned(&self, dry_run: bool) -> Result<u64> {
        let dir = self.partial_dir();
        let mut bytes = 0;
        for entry in fs::read_dir(&dir).map_err(|why| Error::store("read", &dir, why))?.flatten() {
            let path = entry.path();
            let Ok(file) = File::options().read(true).write(true).open(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                bytes += bytes_below(&path);
                if !dry_run {
                    fs::remove_file(&path).map_err(|why| Error::store("remove", &path, why))?;
                }
            }
        }
        Ok(bytes)
    }
}
