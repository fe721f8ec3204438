//! The C library's heap, but for large blocks: those have mappings of their own, and go back to the kernel as they are freed.
//!
//! glibc does so too, from 128 KiB on, until the first of them is freed: that one's size is the limit from then on
//! (mallopt(3), `M_MMAP_THRESHOLD`), and what is below it comes to lie in a heap of whichever thread asks. While an image is
//! pulled a dozen threads do, and each of their heaps keeps the most that it ever held. To set the limit for good would be
//! to set it for the whole process, most of which is somebody else's.
//!
//! The last few mappings that were freed are kept for who wants one of the same size: an HTTP client asks for its buffer of
//! 408 KiB again and again, and the kernel would have to clear a hundred pages each time.

use super::memory::{PAGE, map};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

/// Blocks from this size on, in bytes, have mappings of their own.
pub const LARGE: usize = 128 << 10;

/// Larger ones than this, in bytes, are not kept.
const KEPT_MAX: usize = 512 << 10;

/// Mappings that were freed last. Each begins with how many bytes it has.
static KEPT: [AtomicPtr<u8>; 4] = [const { AtomicPtr::new(ptr::null_mut()) }; 4];
/// Which of them goes next.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// The allocator.
pub struct Blocks;

fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= PAGE
}

/// What a block's mapping takes.
fn pages(size: usize) -> usize {
    size.next_multiple_of(PAGE)
}

/// A mapping of so many bytes that is kept, if one is.
fn kept(size: usize) -> Option<NonNull<u8>> {
    KEPT.iter().find_map(|place| {
        let block = NonNull::new(place.swap(ptr::null_mut(), AcqRel))?;
        // SAFETY: who took it from its place has it alone.
        if unsafe { block.cast::<usize>().read() } == size {
            return Some(block);
        }
        keep(place, block.as_ptr());
        None
    })
}

/// Keeps a mapping, in the place of the one that was kept there.
fn keep(place: &AtomicPtr<u8>, block: *mut u8) {
    let former = place.swap(block, AcqRel);
    if !former.is_null() {
        // SAFETY: who took it from its place has it alone.
        unsafe { libc::munmap(former.cast(), former.cast::<usize>().read()) };
    }
}

// SAFETY: which of both a block is from is told by its layout, which the caller gives back with it.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            let size = pages(layout.size());
            return kept(size).or_else(|| map(size).ok()).map_or(ptr::null_mut(), NonNull::as_ptr);
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            // A new mapping is zeroes.
            return map(pages(layout.size())).map_or(ptr::null_mut(), NonNull::as_ptr);
        }
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(&layout) {
            let size = pages(layout.size());
            if size > KEPT_MAX {
                // SAFETY: a mapping that is the block's alone.
                unsafe { libc::munmap(block.cast(), size) };
                return;
            }
            // SAFETY: nobody uses it any more, and it begins at a page.
            unsafe { block.cast::<usize>().write(size) };
            keep(&KEPT[TURN.fetch_add(1, Relaxed) % KEPT.len()], block);
        } else {
            unsafe { System.dealloc(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's size is one that a layout may have.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(&layout), is_large(&wanted)) {
            (false, false) => unsafe { System.realloc(block, layout, size) },
            (true, true) => {
                let (old, new) = (pages(layout.size()), pages(size));
                // SAFETY: a mapping that is the block's alone.
                let moved = unsafe { libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE) };
                if moved == libc::MAP_FAILED { ptr::null_mut() } else { moved.cast() }
            }
            _ => {
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    // SAFETY: both have at least so many bytes, and are not the same.
                    unsafe {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    /// A block that is filled with one byte.
    struct Filled {
        block: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl Filled {
        fn new(size: usize, align: usize, byte: u8) -> Filled {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            let block = unsafe { Blocks.alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align));
            unsafe { block.write_bytes(byte, size) };
            Filled { block, layout, byte }
        }

        fn resize(&mut self, size: usize) {
            self.block = unsafe { Blocks.realloc(self.block, self.layout, size) };
            assert!(!self.block.is_null() && self.block.addr().is_multiple_of(self.layout.align()));
            let kept = self.layout.size().min(size);
            self.layout = Layout::from_size_align(size, self.layout.align()).expect("a layout");
            self.check(kept);
            unsafe { self.block.write_bytes(self.byte, size) };
        }

        fn check(&self, size: usize) {
            let bytes = unsafe { slice::from_raw_parts(self.block, size) };
            assert!(bytes.iter().all(|byte| *byte == self.byte));
        }
    }

    impl Drop for Filled {
        fn drop(&mut self) {
            self.check(self.layout.size());
            unsafe { Blocks.dealloc(self.block, self.layout) };
        }
    }

    fn churn(mut random: u64) {
        const SIZES: [usize; 9] = [1, 100, PAGE, LARGE - 1, LARGE, LARGE + 1, 2 * LARGE, 3 * LARGE + 7, 20 * LARGE];
        const ALIGNS: [usize; 4] = [1, 16, PAGE, 2 * PAGE];
        let mut below = |limit: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % limit
        };
        let mut blocks: Vec<Filled> = Vec::new();
        for turn in 0..4000 {
            let at = below(40);
            match blocks.get_mut(at) {
                None => blocks.push(Filled::new(SIZES[below(SIZES.len())], ALIGNS[below(ALIGNS.len())], turn as u8)),
                Some(block) if below(2) == 0 => block.resize(SIZES[below(SIZES.len())]),
                Some(_) => drop(blocks.swap_remove(at)),
            }
        }
    }

    #[test]
    fn blocks_keep_their_bytes_and_leave_others_alone_whatever_size_they_come_to_have() {
        std::thread::scope(|scope| (1..=4).for_each(|seed| drop(scope.spawn(move || churn(seed)))));
    }

    #[test]
    fn zeroed_blocks_are() {
        for size in [LARGE - 1, LARGE, 10 * LARGE + 1] {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            for _ in 0..3 {
                let block = unsafe { Blocks.alloc_zeroed(layout) };
                assert!(unsafe { slice::from_raw_parts(block, size) }.iter().all(|byte| *byte == 0));
                unsafe { block.write_bytes(0xff, size) };
                unsafe { Blocks.dealloc(block, layout) };
            }
        }
    }
}
