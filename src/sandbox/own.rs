//! Giving a layer's files their owners, where only a user namespace may.
//!
//! An ordinary user unpacks an image as its own files; with subordinate ids the files can then belong to the ids that
//! the image names. The list holds one entry per file that is not root's: `<uid> <gid> <path>` and a NUL byte, the path
//! relative to the layer.

use super::ids::{self, Ids};
use crate::sys::{self, Context};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Applies the list at `list` to the layer in `dir`.
///
/// Ids that this account has not been given are left as they are: the file then belongs to the sandbox's root.
pub fn apply(list: &Path, dir: &Path, ids: &Ids) -> io::Result<()> {
    let entries = fs::read(list).context(|| format!("read {}", list.display()))?;
    ids::as_root_of(ids, || {
        let root = sys::path::open_dir(dir).context(|| format!("open {}", dir.display()))?;
        for entry in entries.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
            let mut fields = entry.splitn(3, |byte| *byte == b' ');
            let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u32>().ok();
            let (Some(uid), Some(gid)) = (number(), number()) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: not a list of owners", list.display()),
                ));
            };
            let path = sys::c_string(fields.next().unwrap_or_default())?;
            if ids.has_user(uid) && ids.has_group(gid) {
                // The layer was made by us and nothing else writes to it: no link in it can have come between.
                let flags = libc::AT_SYMLINK_NOFOLLOW;
                sys::check(unsafe { libc::fchownat(root.as_raw_fd(), path.as_ptr(), uid, gid, flags) })
                    .context(|| format!("give {} to {uid}:{gid}", path.to_string_lossy()))?;
            }
        }
        Ok(())
    })
}
