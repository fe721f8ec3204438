//! Copying and removing whole trees: layers where overlayfs is not to be had, a volume's first contents, and what a
//! removed daemon leaves.

use crate::sys::{self, Context, mount};
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Copies the tree at `from` over the one at `to`, with modes, times and owners, and applies overlayfs' own marks:
/// a character device 0/0 removes a name, `user.overlay.opaque` empties a folder.
pub fn layer(from: &Path, to: &Path) -> io::Result<()> {
    Copy { links: HashMap::new() }.dir(from, to).context(|| format!("copy {} to {}", from.display(), to.display()))
}

struct Copy {
    /// Files with several names, by (device, inode): the first copy made.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::symlink_metadata(to) {
            Ok(there) if there.is_dir() => {
                if is_opaque(from) {
                    contents(to)?;
                }
            }
            Ok(_) => {
                fs::remove_file(to)?;
                fs::create_dir(to)?;
            }
            Err(_) => fs::create_dir(to)?,
        }
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            self.entry(&entry.path(), &to.join(entry.file_name()))?;
        }
        like(to, &fs::symlink_metadata(from)?)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(from)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.dir(from, to);
        }
        match fs::symlink_metadata(to) {
            Ok(there) if there.is_dir() => tree(to)?,
            Ok(_) => fs::remove_file(to)?,
            Err(_) => {}
        }
        if kind.is_char_device() {
            return Ok(());
        }
        let key = (metadata.dev(), metadata.ino());
        if let Some(first) = self.links.get(&key) {
            return fs::hard_link(first, to);
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        } else if kind.is_fifo() {
            let path = sys::c_path(to)?;
            sys::check(unsafe { libc::mkfifo(path.as_ptr(), metadata.mode() & 0o7777) })?;
        } else {
            fs::copy(from, to)?;
        }
        if metadata.nlink() > 1 {
            self.links.insert(key, to.to_owned());
        }
        like(to, &metadata)
    }
}

/// Gives `to` the owner, mode and times of the original.
pub fn like(to: &Path, original: &Metadata) -> io::Result<()> {
    // An id that is not mapped here stays what it is.
    let _ = std::os::unix::fs::lchown(to, Some(original.uid()), Some(original.gid()));
    if !original.file_type().is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(original.mode() & 0o7777))?;
    }
    let times = [
        libc::timespec { tv_sec: original.atime(), tv_nsec: original.atime_nsec() },
        libc::timespec { tv_sec: original.mtime(), tv_nsec: original.mtime_nsec() },
    ];
    let path = sys::c_path(to)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    sys::check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), flags) }).map(drop)
}

fn is_opaque(dir: &Path) -> bool {
    let Ok(path) = sys::c_path(dir) else { return false };
    let mut value = [0u8; 8];
    let name = c"user.overlay.opaque";
    let size = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    size == 1 && value[0] == b'y'
}

/// Removes the tree at `path`, never crossing into another file system: a mount below it is an error, not a loss.
/// It is not an error that `path` is not there.
pub fn tree(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    contents(path)?;
    fs::remove_dir(path).context(|| format!("remove {}", path.display()))
}

/// Removes what is in the folder at `path`.
fn contents(path: &Path) -> io::Result<()> {
    let dir = sys::path::open_dir(path)?;
    let metadata = fs::metadata(mount::fd_path(&dir))?;
    // overlayfs leaves a folder of mode 0 in its work folder, and images have read-only ones.
    if metadata.mode() & 0o700 != 0o700 {
        fs::set_permissions(mount::fd_path(&dir), fs::Permissions::from_mode(0o700))?;
    }
    remove_entries(&dir, metadata.dev()).context(|| format!("remove {}", path.display()))
}

fn remove_entries(dir: &OwnedFd, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(mount::fd_path(dir))? {
        let name = sys::c_string(entry?.file_name().as_bytes())?;
        let unlink = |flags| sys::check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) });
        match unlink(0) {
            Ok(_) => continue,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {}
            Err(error) => return Err(error),
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let fd = sys::check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        let below = unsafe { OwnedFd::from_raw_fd(fd) };
        let metadata = fs::metadata(mount::fd_path(&below))?;
        if metadata.dev() != device {
            let path = mount::real_path(&below)?;
            return Err(io::Error::other(format!("{} is a mount point; nothing below it is removed", path.display())));
        }
        if metadata.mode() & 0o700 != 0o700 {
            fs::set_permissions(mount::fd_path(&below), fs::Permissions::from_mode(0o700))?;
        }
        remove_entries(&below, device)?;
        unlink(libc::AT_REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_copied_layer_hides_what_it_whites_out() {
        let base = std::env::temp_dir().join(format!("alien-copy-{}", std::process::id()));
        let (lower, upper, out) = (base.join("l"), base.join("u"), base.join("o"));
        for dir in [lower.join("d"), lower.join("gone"), upper.join("d"), out.clone()] {
            fs::create_dir_all(dir).unwrap();
        }
        for file in [lower.join("d/old"), lower.join("gone/x"), lower.join("keep"), upper.join("d/new")] {
            fs::write(file, "x").unwrap();
        }
        fs::hard_link(lower.join("keep"), lower.join("same")).unwrap();
        let whiteout = sys::c_path(upper.join("gone")).unwrap();
        sys::check(unsafe { libc::mknod(whiteout.as_ptr(), libc::S_IFCHR, 0) }).unwrap();
        let opaque = sys::c_path(upper.join("d")).unwrap();
        let name = c"user.overlay.opaque";
        let set = unsafe { libc::lsetxattr(opaque.as_ptr(), name.as_ptr(), c"y".as_ptr().cast(), 1, 0) };
        sys::check(set).unwrap();

        layer(&lower, &out).unwrap();
        layer(&upper, &out).unwrap();
        assert_eq!(names(&out), ["d", "keep", "same"]);
        assert_eq!(names(&out.join("d")), ["new"]);
        assert_eq!(fs::metadata(out.join("keep")).unwrap().ino(), fs::metadata(out.join("same")).unwrap().ino());

        fs::create_dir_all(base.join("sealed/below")).unwrap();
        fs::set_permissions(base.join("sealed/below"), fs::Permissions::from_mode(0o000)).unwrap();
        tree(&base).unwrap();
        assert!(!base.exists());
    }
}
