//! Waiting for one of several descriptors, or for a time.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A set of descriptors to wait on. Rebuilt for each wait; its memory is kept.
#[derive(Default)]
pub struct PollSet {
    entries: Vec<libc::pollfd>,
}

impl PollSet {
    /// Forgets all descriptors.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Waits for `fd` to be readable or to have ended; gives the key to ask with.
    pub fn add(&mut self, fd: &impl AsRawFd) -> usize {
        self.entries.push(libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        self.entries.len() - 1
    }

    /// Waits until a descriptor has something or the time is over (`None`: for ever).
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout
            .map(|t| libc::timespec { tv_sec: t.as_secs() as _, tv_nsec: libc::c_long::from(t.subsec_nanos() as i32) });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = self.entries.len() as libc::nfds_t;
        let result = unsafe { libc::ppoll(self.entries.as_mut_ptr(), count, timeout, std::ptr::null()) };
        match super::check(result) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the descriptor behind this key has something to read, has ended or is broken.
    pub fn ready(&self, key: usize) -> bool {
        self.entries[key].revents != 0
    }
}

/// Whether `fd` has something to read (or has ended) right now.
pub fn is_ready(fd: &impl AsRawFd) -> bool {
    let mut set = PollSet::default();
    let key = set.add(fd);
    set.wait(Some(Duration::ZERO)).is_ok() && set.ready(key)
}
