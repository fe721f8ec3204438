//! Paths inside a root that is not ours to trust: every look-up stays inside, whatever links say.

use super::{c_string, check, check_long};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Opens a folder by its path, as a handle for the calls below.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let path = super::c_path(path)?;
    let fd = check(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens `path` as it would be opened by a process whose root is `root` (openat2(2), `RESOLVE_IN_ROOT`).
pub fn open_in_root(root: &OwnedFd, path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let size = size_of::<libc::open_how>();
    let fd =
        check_long(unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens the folder `path` inside `root`, making (mode 0755) what is missing of it.
pub fn make_dir_in_root(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut so_far = std::path::PathBuf::from("/");
    let mut dir = open_in_root(root, &so_far, libc::O_PATH | libc::O_DIRECTORY)?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        so_far.push(name);
        dir = match open_in_root(root, &so_far, libc::O_PATH | libc::O_DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = c_string(name.as_bytes())?;
                check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755) })?;
                open_in_root(root, &so_far, libc::O_PATH | libc::O_DIRECTORY)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Opens the file `path` inside `root` as a mount point, making an empty one (and its folders) where there is none.
pub fn make_file_in_root(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    match open_in_root(root, path, libc::O_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().unwrap_or(OsStr::new(""));
            let dir = make_dir_in_root(root, path.parent().unwrap_or(Path::new("/")))?;
            let name = c_string(name.as_bytes())?;
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let fd = match check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, 0o644) }) {
                // A link that leads nowhere stands there (as systemd images have for resolv.conf): replace it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) })?;
                    check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, 0o644) })?
                }
                other => other?,
            };
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        other => other,
    }
}
