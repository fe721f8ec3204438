//! Memory by the page, and giving it back.

use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

unsafe extern "C" {
    /// The program's first byte in memory, and the end of its code: both set by the linker.
    static __executable_start: u8;
    static etext: u8;
}

pub(super) const PAGE: usize = 4096;

/// Gives back what this process needed and needs no more: free heap, and the pages of its own code.
pub fn release() {
    // SAFETY: only what is free is given back.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
    release_code();
}

/// Gives back the pages of this process's own code, which the kernel maps again from the page cache one by one as they are used.
pub fn release_code() {
    // SAFETY: only the addresses of the linker's symbols are used, and code is never written to, so that dropping its
    // pages loses nothing.
    unsafe { forget((&raw const __executable_start).addr(), (&raw const etext).addr()) };
}

/// All that [`release`] does, for a process of one thread, whose stack keeps what deeper calls have left behind, too.
pub fn release_all() {
    /// How deep a call may have been.
    const DEEPEST: usize = 256 * 1024;
    release();
    let here = 0u8;
    // SAFETY: nothing is below the end of the only stack. That may be nearer than the deepest call: the kernel passes over
    // what is not mapped.
    unsafe { release_stack((&raw const here).addr() - DEEPEST) };
}

/// Gives back what deeper calls have left of this process's stack.
///
/// # Safety
/// There is nothing but this stack between `lowest` and where it is now.
pub unsafe fn release_stack(lowest: usize) {
    /// How much is left alone: what is called from here needs some.
    const NEAR: usize = 1024;
    let here = 0u8;
    unsafe { forget(lowest, (&raw const here).addr() - NEAR) };
}

/// Drops the whole pages from `begin` to `end`.
pub(super) unsafe fn forget(begin: usize, end: usize) {
    let (begin, end) = (begin.next_multiple_of(PAGE), end & !(PAGE - 1));
    if begin < end {
        unsafe { libc::madvise(std::ptr::without_provenance_mut(begin), end - begin, libc::MADV_DONTNEED) };
    }
}

/// Pages of memory that belong to their value alone.
pub(super) fn map(size: usize) -> io::Result<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// A stack for a process that is to begin on another one than ours.
pub struct Stack {
    start: NonNull<u8>,
    size: usize,
}

impl Stack {
    /// One of so many bytes, a multiple of a page. Only what is used of it takes memory.
    pub fn new(size: usize) -> io::Result<Stack> {
        Ok(Stack { start: map(size)?, size })
    }

    /// The address of its last byte to be used.
    pub fn lowest(&self) -> usize {
        self.start.as_ptr().addr()
    }

    /// Where it begins: it grows downwards.
    pub fn top(&mut self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.start.add(self.size).as_ptr().cast() }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and who was given its top has memory of its own by now.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Bytes in pages of their own: as many are taken as have been written to, and they can be given back at once, which a heap
/// that anything else lives in cannot promise.
pub struct Pages {
    start: NonNull<u8>,
    capacity: usize,
    length: usize,
}

// SAFETY: the pages belong to this value alone.
unsafe impl Send for Pages {}

impl Pages {
    /// Room for so many bytes; no memory yet.
    pub fn new(capacity: usize) -> io::Result<Pages> {
        Ok(Pages { start: map(capacity)?, capacity, length: 0 })
    }

    /// How many more bytes fit.
    pub fn room(&self) -> usize {
        self.capacity - self.length
    }

    /// Adds bytes; there must be room.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "more than there is room for");
        // SAFETY: they fit, and nobody else has a view of what is behind the length.
        unsafe { self.start.add(self.length).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        self.length += bytes.len();
    }

    /// Adds what one read(2) gives, as far as there is room; says how many bytes that are.
    pub fn read(&mut self, from: &impl AsRawFd) -> io::Result<usize> {
        // SAFETY: what is behind the length is ours, as far as there is room.
        let read = unsafe { libc::read(from.as_raw_fd(), self.start.add(self.length).as_ptr().cast(), self.room()) };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        self.length += read;
        Ok(read)
    }

    /// Forgets the first bytes; there must be so many.
    pub fn forget(&mut self, count: usize) {
        assert!(count <= self.length, "more than there are");
        // SAFETY: both lie within what has been written; they may overlap.
        unsafe { self.start.copy_from(self.start.add(count), self.length - count) };
        self.length -= count;
    }

    /// Forgets the bytes, and keeps their memory.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Forgets the bytes, and gives their memory back.
    pub fn release(&mut self) {
        self.length = 0;
        // SAFETY: the mapping is ours, and holds nothing any more.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.capacity, libc::MADV_DONTNEED) };
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many have been written.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can have a view of it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.capacity) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn pages_hold_what_was_put_in_until_they_are_cleared() {
        let (read, write) = crate::sys::socket::pipe().unwrap();
        File::from(write).write_all(b"cdefgh").unwrap();
        let mut pages = Pages::new(5).unwrap();
        pages.push(b"ab");
        assert_eq!(pages.read(&read).unwrap(), 3);
        assert_eq!((&pages[..], pages.room()), (&b"abcde"[..], 0));
        pages.release();
        assert_eq!((pages.len(), pages.room()), (0, 5));
        assert_eq!(pages.read(&read).unwrap(), 3);
        assert_eq!(&pages[..], b"fgh");
        pages.forget(2);
        assert_eq!((&pages[..], pages.room()), (&b"h"[..], 4));
        pages.clear();
        assert_eq!(pages.read(&read).unwrap(), 0, "the pipe has ended");
    }
}
