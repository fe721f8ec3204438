//! Locks that say who is alive.
//!
//! They are fcntl(2) record locks, because those are neither inherited by a fork (an init must not seem to be its
//! supervisor) nor lost by an exec, and because the kernel names the holder. Their known trap, that closing any other
//! descriptor of the same file drops them, is kept away by opening each lock file once only in the process that holds it.

use crate::sys::process::{self, Pid};
use crate::sys::{self, Context};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A lock that is held until this is dropped or the process ends.
pub struct Lock(File);

impl Lock {
    /// One that this process holds already, by the file that it was taken with.
    pub fn adopted(file: OwnedFd) -> Lock {
        Lock(file.into())
    }
}

impl AsRawFd for Lock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Takes the lock, or gives `None` where another process has it.
pub fn take(path: &Path) -> io::Result<Option<Lock>> {
    let open = || File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open().context(|| format!("open {}", path.display()))?;
    let lock = whole_file(libc::F_WRLCK);
    match sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }) {
        Ok(_) => Ok(Some(Lock(file))),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(None),
        Err(error) => Err(error).context(|| format!("lock {}", path.display())),
    }
}

/// The process that holds the lock. Never ask for a lock of one's own.
pub fn holder(path: &Path) -> Option<Pid> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    let mut lock = whole_file(libc::F_WRLCK);
    sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) }).ok()?;
    (lock.l_type != libc::F_UNLCK as libc::c_short && lock.l_pid > 0).then_some(lock.l_pid)
}

/// The holder with a handle that is sure to be its own: the pid is asked for again once the handle is open.
pub fn holder_handle(path: &Path) -> Option<(Pid, OwnedFd)> {
    loop {
        let pid = holder(path)?;
        let Ok(handle) = process::pidfd_open(pid) else { continue };
        if holder(path) == Some(pid) {
            return Some((pid, handle));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Fork, exit_now, fork, kill, wait};
    use crate::sys::socket;

    #[test]
    fn the_holder_is_known_by_its_pid_until_it_ends() {
        let path = std::env::temp_dir().join(format!("alien-lock-{}", std::process::id()));
        assert_eq!(holder(&path), None);
        let (ready, tell) = socket::message_pair().unwrap();
        let Fork::Parent(child) = fork().unwrap() else {
            let _lock = take(&path);
            let _ = socket::send(&tell, b"x");
            unsafe { libc::pause() };
            exit_now(0)
        };
        socket::receive_wait(&ready, &mut [0; 1]);
        assert_eq!(holder(&path), Some(child));
        assert!(take(&path).unwrap().is_none());
        let (pid, handle) = holder_handle(&path).unwrap();
        assert_eq!(pid, child);
        assert!(!crate::sys::poll::is_ready(&handle));
        kill(child, libc::SIGKILL).unwrap();
        wait(child).unwrap();
        assert!(crate::sys::poll::is_ready(&handle));
        assert!(take(&path).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
    }
}
