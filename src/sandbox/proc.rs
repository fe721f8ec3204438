//! `/proc` of a pid namespace, with what would leak or reach the host covered.

use crate::sys::{self, Context, mount};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// Covered by an empty file or folder, as engines do (OCI runtime specification, `maskedPaths`).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// Not to be written (`readonlyPaths`). It matters as root: ids are mapped to themselves then, and files of
/// `/proc/sys` ask for the user id, not for a capability.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Puts a `/proc` of this process's pid namespace in place of the one that is there.
///
/// The kernel lets a user namespace mount `/proc` only while another, fully visible one is in the same mount
/// namespace. So the new one is made first, detached, and the old one taken away only then.
pub fn renew() -> io::Result<()> {
    let fresh = new_proc().context(|| "mount /proc".to_owned())?;
    mount::detach(Path::new("/proc")).context(|| "unmount the former /proc".to_owned())?;
    move_to(&fresh, c"/proc").context(|| "place the new /proc".to_owned())?;
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    for path in READ_ONLY.iter().map(Path::new).filter(|path| path.exists()) {
        mount::bind(path, path)
            .and_then(|()| mount::set_attributes(path, attributes, true))
            .context(|| format!("make {} read-only", path.display()))?;
    }
    MASKED.iter().try_for_each(|path| mask(Path::new(path)))
}

/// Covers a file with `/dev/null`, a folder with an empty read-only one; nothing where there is nothing.
pub fn mask(path: &Path) -> io::Result<()> {
    let covered = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => mount::mount("tmpfs", path, libc::MS_RDONLY, "size=0k"),
        Ok(_) => mount::bind(Path::new("/dev/null"), path),
        Err(_) => Ok(()),
    };
    covered.context(|| format!("cover {}", path.display()))
}

fn new_proc() -> io::Result<OwnedFd> {
    // SAFETY: each call gets valid, terminated strings, and each descriptor is new and ours.
    unsafe {
        let context = sys::check_long(libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), 1 /* FSOPEN_CLOEXEC */))?;
        let context = OwnedFd::from_raw_fd(context as i32);
        let context_fd = std::os::fd::AsRawFd::as_raw_fd(&context);
        const FSCONFIG_CMD_CREATE: libc::c_int = 6;
        let nothing = std::ptr::null::<libc::c_char>();
        sys::check_long(libc::syscall(libc::SYS_fsconfig, context_fd, FSCONFIG_CMD_CREATE, nothing, nothing, 0))?;
        let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let fd = libc::syscall(libc::SYS_fsmount, context_fd, 1 /* FSMOUNT_CLOEXEC */, attributes);
        Ok(OwnedFd::from_raw_fd(sys::check_long(fd)? as i32))
    }
}

fn move_to(fresh: &OwnedFd, target: &std::ffi::CStr) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let from = std::os::fd::AsRawFd::as_raw_fd(fresh);
    // SAFETY: both paths are terminated strings.
    sys::check_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}
