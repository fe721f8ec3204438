//! Giving memory back.

unsafe extern "C" {
    /// The program's first byte in memory, and the end of its code: both set by the linker.
    static __executable_start: u8;
    static etext: u8;
}

/// Gives back what this process needed and needs no more: free heap, and the pages of its own code, which the kernel
/// maps again from the page cache one by one as they are used.
pub fn release() {
    const PAGE: usize = 4096;
    // SAFETY: only the addresses of the linker's symbols are used, and code is never written to, so that dropping its
    // pages loses nothing.
    unsafe {
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
        let begin = (&raw const __executable_start).addr().next_multiple_of(PAGE);
        let end = (&raw const etext).addr() & !(PAGE - 1);
        if begin < end {
            libc::madvise(std::ptr::without_provenance_mut(begin), end - begin, libc::MADV_DONTNEED);
        }
    }
}
