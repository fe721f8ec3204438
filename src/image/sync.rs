//! What was unpacked is written to the disk beside the unpacking of what comes next.
//!
//! A rename may reach the disk before the data of the files below it, and a layer of empty files would be taken for whole
//! after a power cut. So the file system is synced (syncfs(2)) between a layer's last file and its name. One sync serves
//! every layer whose last file was there when it began: those that become whole meanwhile wait for the next one together.

use super::error::{Error, Result};
use super::pull::blocking;
use rustix::fs::syncfs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The syncs of one file system.
pub(super) struct Syncs {
    /// Open from the beginning: errors of writing are told to who had the file system open when they occurred.
    dir: Arc<File>,
    path: PathBuf,
    asked: AtomicU64,
    /// How many of those that asked have been served; held while a sync runs.
    served: tokio::sync::Mutex<u64>,
}

impl Syncs {
    /// Of the file system that the folder `path` is on.
    pub(super) fn of(path: &Path) -> Result<Syncs> {
        let dir = File::open(path).map_err(|why| Error::store("open", path, why))?;
        Ok(Syncs {
            dir: Arc::new(dir),
            path: path.to_owned(),
            asked: AtomicU64::new(0),
            served: tokio::sync::Mutex::new(0),
        })
    }

    /// Returns once everything that was written before the call is on the disk.
    pub(super) async fn sync(&self) -> Result<()> {
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if *served >= own {
            return Ok(());
        }
        let all = self.asked.load(Ordering::SeqCst);
        let (dir, path) = (self.dir.clone(), self.path.clone());
        blocking(move || syncfs(&*dir).map_err(|why| Error::store("sync", &path, why.into()))).await?;
        *served = all;
        Ok(())
    }
}
