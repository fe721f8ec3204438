//! Mounts.

use super::{c_path, c_string, check, check_long};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A short path by which the kernel reaches an open file, whatever characters its real path has.
pub fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Where an open file really is.
pub fn real_path(fd: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(fd_path(fd))
}

/// Mounts a file system of `kind`.
pub fn mount(kind: &str, target: &Path, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let (kind, target, data) = (c_string(kind)?, c_path(target)?, c_string(data)?);
    raw(&kind, &target, &kind, flags, &data)
}

/// Makes the tree at `source` also appear at `target`, with what is mounted below it.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let (source, target) = (c_path(source)?, c_path(target)?);
    raw(&source, &target, c"", libc::MS_BIND | libc::MS_REC, c"")
}

/// Cuts every mount of this namespace off from changes elsewhere.
pub fn make_private() -> io::Result<()> {
    raw(c"", c"/", c"", libc::MS_PRIVATE | libc::MS_REC, c"")
}

fn raw(source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong, data: &CStr) -> io::Result<()> {
    let data = data.as_ptr().cast();
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data) }).map(drop)
}

/// Sets attributes (`MOUNT_ATTR_*`) on the mount at `target`, and with `recursive` on all below it (Linux 5.12).
pub fn set_attributes(target: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    let target = c_path(target)?;
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = attributes;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<libc::mount_attr>();
    check_long(unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, target.as_ptr(), flags, &raw mut attr, size)
    })
    .map(drop)
}

/// Takes the mount at `target` away; who still uses it keeps it until they end.
pub fn detach(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// Makes `root` this namespace's root and lets go of the old one.
pub fn pivot_to(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // pivot_root(2): with both arguments `.`, the old root is stacked on the new one, and detaching `.` removes it.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    std::env::set_current_dir("/")
}
