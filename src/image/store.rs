//! The content-addressed store: what has been fetched, verified and unpacked, shared by every process that opens it.
//!
//! ```text
//! <store>/                          mode 0700 when made here: layers may hold setuid programs
//!   blobs/sha256/<hex>              manifests and configurations, under their digests
//!   layers/<hex>/                   an unpacked layer, under its chain id; a directory that overlayfs can stack
//!   layers/<hex>.size               its bytes on disk
//!   layers/<hex>.owners             who owns what in it, where files could not be given away (see `unpack::owners`)
//!   refs/<hex>.json                 {reference, platform, digest, document?}: what a reference meant when it was last
//!                                   complete, and the blob it begins with, where that is not `digest`
//!   partial/<hex>                   what has arrived of a compressed layer, locked (flock) by who downloads it
//!   tmp/<session>/                  what is half made
//!   tmp/<session>.lock              locked (flock) as long as the process that makes it lives
//! ```
//!
//! Layers are kept by **chain id**, not by diff id: where a layer puts `bin/sh` and a lower layer has made `bin` a
//! symbolic link to `usr/bin`, the file belongs in `usr/bin` (that is what applying the layer to the tree below it
//! means), so what a layer unpacks to depends on what is below. Equal stacks are still shared, and the chain id of a
//! lowest layer is its diff id. containerd keeps its snapshots the same way.
//!
//! Everything is made in `tmp` and renamed into place, so what has a name is whole. Compressed layers are deleted
//! once unpacked. A killed process leaves its session in `tmp`; the next [`Store::open`] that can take the session's
//! lock removes it. Two processes that make the same layer both succeed: the second finds the name taken by an
//! equal directory and drops its own. What a call uses is kept from a prune by a lease (see `lease`).

use super::digest::Digest;
use super::error::{Error, Result};
use super::manifest::ConfigDocument;
use super::platform::Platform;
use super::unpack::Limits;
use super::usage::bytes_below;
use rustix::fs::{FlockOperation, flock, fstat};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// A store of images. Cheap to clone; several may be open on one folder, in one process or in many.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    layers: PathBuf,
    options: StoreOptions,
    downloads: Semaphore,
    /// Digests of the images whose layers somebody else keeps, where that is not the store.
    elsewhere: Option<Mutex<HashSet<String>>>,
}

/// Layers that are downloaded at once, unless [`StoreOptions::downloads`] says otherwise.
pub const DOWNLOADS: usize = 4;

/// How a store is used.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What a layer may unpack to.
    pub limits: Limits,
    /// Layers that are downloaded at once, over all images that are fetched through one handle and its clones.
    pub downloads: usize,
    /// The most bytes that the store may have on disk; what would make it larger is not fetched. `None`: all there are.
    pub max_bytes: Option<u64>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { limits: Limits::default(), downloads: DOWNLOADS, max_bytes: None }
    }
}

/// What a reference meant on a platform when all of its layers were last here.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RefRecord {
    pub(super) reference: String,
    platform: String,
    pub(super) digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<Digest>,
}

/// What an image is known by, and the blob that it is found again by: its manifest, or the configuration of one that
/// has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) digest: Digest,
    pub(super) document: Digest,
}

impl Store {
    /// Opens the store in `dir`, making it where it is not there yet, and clears away what killed processes left.
    ///
    /// # Errors
    /// [`Error::StoreNotWritable`], [`Error::StoreFull`] or [`Error::Store`] when the folders cannot be made. A store
    /// that exists on a read-only file system opens: what is cached in it can be used.
    pub fn open(dir: &Path) -> Result<Store> {
        Store::open_with(dir, StoreOptions::default())
    }

    /// As [`Store::open`], with options.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Store> {
        Store::open_for(dir, options, None)
    }

    /// Opens a store that keeps documents alone: layers go to an engine (see [`Store::export`]), which has those of the
    /// images with the digests `held`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_beside(dir: &Path, options: StoreOptions, held: HashSet<String>) -> Result<Store> {
        Store::open_for(dir, options, Some(Mutex::new(held)))
    }

    fn open_for(dir: &Path, options: StoreOptions, elsewhere: Option<Mutex<HashSet<String>>>) -> Result<Store> {
        // Layer directories are handed out as paths, and the caller may change its working directory.
        let dir = std::path::absolute(dir).map_err(|why| Error::store("find", dir, why))?;
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|why| Error::store("make", parent, why))?;
        }
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(Error::store("make", &dir, why)),
            _ => {}
        }
        for name in ["blobs/sha256", "layers", "leases", "partial", "refs", "tmp"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(|why| Error::store("make", &path, why))?;
        }
        let downloads = Semaphore::new(options.downloads.max(1));
        let store = Store { inner: Arc::new(Inner { layers: dir.join("layers"), dir, options, downloads, elsewhere }) };
        store.sweep();
        Ok(store)
    }

    /// The folder that holds all layer directories, so that overlayfs can be given short, relative names.
    pub fn layers_dir(&self) -> &Path {
        &self.inner.layers
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.inner.options.limits
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.inner.options.max_bytes
    }

    /// Who may download now.
    pub(super) fn downloads(&self) -> &Semaphore {
        &self.inner.downloads
    }

    /// Where blobs are that have not arrived whole.
    pub(super) fn partial_dir(&self) -> PathBuf {
        self.inner.dir.join("partial")
    }

    pub(super) fn layer_dir(&self, chain_id: &Digest) -> PathBuf {
        self.inner.layers.join(chain_id.hex())
    }

    pub(super) fn owners_file(&self, chain_id: &Digest) -> PathBuf {
        self.inner.layers.join(format!("{}.owners", chain_id.hex()))
    }

    pub(super) fn has_layer(&self, chain_id: &Digest) -> bool {
        fs::symlink_metadata(self.layer_dir(chain_id)).is_ok_and(|meta| meta.is_dir())
    }

    /// Whether all layers of an image are where they are kept.
    pub(super) fn is_complete(&self, known: &Known, config: &ConfigDocument) -> bool {
        match &self.inner.elsewhere {
            None => Digest::chain(config.diff_ids()).iter().all(|chain_id| self.has_layer(chain_id)),
            Some(held) => held.lock().unwrap_or_else(PoisonError::into_inner).contains(&known.digest.to_string()),
        }
    }

    /// Notes that somebody else has all layers of an image now, or not any more.
    pub(super) fn note_held(&self, digest: &str, is_held: bool) {
        let Some(held) = &self.inner.elsewhere else { return };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if is_held {
            held.insert(digest.to_owned());
        } else {
            held.remove(digest);
        }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.dir.join("blobs/sha256").join(digest.hex())
    }

    /// A manifest or configuration, or `None` where it is not here, or no longer what its name says.
    pub(super) fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.blob_path(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Keeps a manifest or configuration whose digest has been checked.
    pub(super) fn put_blob(&self, session: &Session, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.blob(digest).is_some() {
            return Ok(());
        }
        self.put(session, &self.blob_path(digest), bytes)
    }

    fn ref_path(&self, reference: &str, platform: &Platform) -> PathBuf {
        let name = Digest::of(format!("{reference}\n{platform}").as_bytes());
        self.inner.dir.join("refs").join(format!("{}.json", name.hex()))
    }

    /// What `reference` meant when it was last complete.
    pub(super) fn known(&self, reference: &str, platform: &Platform) -> Option<Known> {
        let bytes = fs::read(self.ref_path(reference, platform)).ok()?;
        let RefRecord { reference: is, platform: on, digest, document } = serde_json::from_slice(&bytes).ok()?;
        let known = Known { document: document.unwrap_or_else(|| digest.clone()), digest };
        (is == reference && on == platform.to_string()).then_some(known)
    }

    /// Remembers what `reference` means; to be called once everything of it is here.
    pub(super) fn remember(
        &self,
        session: &Session,
        reference: &str,
        platform: &Platform,
        known: &Known,
    ) -> Result<()> {
        let record = RefRecord {
            reference: reference.to_owned(),
            platform: platform.to_string(),
            digest: known.digest.clone(),
            document: (known.document != known.digest).then(|| known.document.clone()),
        };
        let path = self.ref_path(reference, platform);
        let bytes = serde_json::to_vec(&record).map_err(|why| Error::store("write", &path, why.into()))?;
        self.put(session, &path, &bytes)
    }

    /// All that is remembered; what cannot be read is nothing.
    pub(super) fn records(&self) -> Result<Vec<RefRecord>> {
        Ok(self.record_files()?.into_iter().map(|(_, record)| record).collect())
    }

    /// Forgets an image, and what is kept to find it again.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn forget_image(&self, digest: &str) -> Result<()> {
        for (_, record) in self.record_files()?.into_iter().filter(|(_, record)| record.digest.to_string() == digest) {
            let _ = fs::remove_file(self.blob_path(record.document.as_ref().unwrap_or(&record.digest)));
        }
        self.forget(digest)
    }

    /// Forgets every reference to what is known by `digest`.
    pub(super) fn forget(&self, digest: &str) -> Result<()> {
        for (path, record) in self.record_files()? {
            if record.digest.to_string() == digest {
                fs::remove_file(&path).map_err(|why| Error::store("remove", &path, why))?;
            }
        }
        Ok(())
    }

    fn record_files(&self) -> Result<Vec<(PathBuf, RefRecord)>> {
        let dir = self.inner.dir.join("refs");
        let entries = fs::read_dir(&dir).map_err(|why| Error::store("read", &dir, why))?;
        let read = |path: PathBuf| Some((path.clone(), serde_json::from_slice(&fs::read(path).ok()?).ok()?));
        Ok(entries.flatten().filter_map(|entry| read(entry.path())).collect())
    }

    /// Writes a small file so that it is there whole or not at all, even through a power cut.
    fn put(&self, session: &Session, path: &Path, bytes: &[u8]) -> Result<()> {
        let failed = |why| Error::store("write", path, why).needing(bytes.len() as u64);
        let mut file = tempfile::NamedTempFile::new_in(&session.dir).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(path).map_err(|why| failed(why.error))?;
        Ok(())
    }

    /// Gives a layer that was unpacked in a session, and has reached the disk (see `sync`), its name. The name is on the
    /// disk after [`Store::sync_names`].
    pub(super) fn publish_layer(&self, tree: &Path, owners: Option<&Path>, chain_id: &Digest) -> Result<()> {
        let target = self.layer_dir(chain_id);
        let size = target.with_extension("size");
        fs::write(&size, bytes_below(tree).to_string()).map_err(|why| Error::store("write", &size, why))?;
        // The list goes first: a layer that has its name has its list.
        if let Some(owners) = owners {
            fs::rename(owners, self.owners_file(chain_id)).map_err(|why| Error::store("write", &target, why))?;
        }
        match fs::rename(tree, &target) {
            // Another process was faster; equal names mean equal contents.
            Err(why) if matches!(why.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
            renamed => renamed.map_err(|why| Error::store("write", &target, why)),
        }
    }

    /// Has the names of layers on the disk.
    pub(super) fn sync_names(&self) -> Result<()> {
        let synced = File::open(&self.inner.layers).and_then(|dir| dir.sync_all());
        synced.map_err(|why| Error::store("sync", &self.inner.layers, why))
    }

    /// A place of this call's own for what is half made.
    pub(super) fn session(&self) -> Result<Session> {
        let tmp = self.inner.dir.join("tmp");
        let failed = |why| Error::store("write", &tmp, why);
        loop {
            let lock = tempfile::Builder::new().prefix("s").suffix(".lock").tempfile_in(&tmp).map_err(failed)?;
            let (file, path) = lock.keep().map_err(|why| failed(why.error))?;
            flock(&file, FlockOperation::LockExclusive).map_err(|why| failed(why.into()))?;
            // Between the two calls a sweep may have taken the new, still unlocked file for a dead one's.
            if fstat(&file).map_err(|why| failed(why.into()))?.st_nlink == 0 {
                continue;
            }
            let dir = path.with_extension("");
            let session = Session { dir: dir.clone(), lock_path: path, _lock: file };
            DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
            return Ok(session);
        }
    }

    /// Removes the sessions of processes that are gone. What cannot be removed stays for the next one.
    fn sweep(&self) {
        // So do leases; under the gate alone, for which nobody waits here.
        if fs::read_dir(self.inner.dir.join("leases")).is_ok_and(|mut there| there.next().is_some())
            && let Ok(Some(_gate)) = self.gate_now()
        {
            let _ = self.leased();
        }
        let Ok(entries) = fs::read_dir(self.inner.dir.join("tmp")) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let (dir, lock_path) = match path.extension() {
                Some(_) => (path.with_extension(""), path),
                None => (path.clone(), path.with_extension("lock")),
            };
            // A session's lock is there before its folder and goes after it: a folder without one belongs to nobody.
            match File::options().read(true).write(true).open(&lock_path) {
                Ok(lock) => {
                    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                        remove_tree(&dir);
                        let _ = fs::remove_file(&lock_path);
                    }
                }
                Err(why) if why.kind() == io::ErrorKind::NotFound => remove_tree(&dir),
                Err(_) => {}
            }
        }
    }
}

/// A folder in `tmp` and the lock that keeps it; both go when the last holder lets go of it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dir: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Drop for Session {
    fn drop(&mut self) {
        remove_tree(&self.dir);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes what is left of a session. Its directories may lack the permissions that removing needs; nobody else
/// writes there, so they can be given without a race.
pub(super) fn remove_tree(dir: &Path) {
    fn open_up(dir: &Path) {
        let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open_up(&entry.path());
            }
        }
    }
    if fs::remove_dir_all(dir).is_err_and(|why| why.kind() == io::ErrorKind::PermissionDenied) {
        open_up(dir);
        let _ = fs::remove_dir_all(dir);
    }
}
