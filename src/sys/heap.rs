//! A heap that a process can leave behind, with everything in it.
//!
//! A fork has its parent's memory, a page of which is shared until one of the two writes to it, and then there twice. A
//! process that stays beside its parent so comes to own the parent's heap as it was at its birth, and the stack too, of
//! which it needs next to nothing. [`begin_anew`] has it allocate from a region of its own; once it has copied there what it
//! needs, [`leave_behind`] gives back the rest. The region is a line of blocks: nothing in it is given back but
//! the last block, until all behind a mark is forgotten at once.

use super::memory::{PAGE, forget, map};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The allocator of a program with one thread: the C library's, until [`begin_anew`].
pub struct Heap;

/// Where the region begins; 0 as long as there is none.
static START: AtomicUsize = AtomicUsize::new(0);
/// Where its next block goes.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the region; memory is taken for what is used of it.
const SIZE: usize = 1 << 20;
/// Blocks from this size on have a mapping of their own, and so have those for which the region has no more room.
const LARGE: usize = SIZE / 16;

impl Heap {
    /// Whether a block lies in the region.
    fn has(block: *mut u8) -> bool {
        (START.load(Relaxed)..START.load(Relaxed) + SIZE).contains(&block.addr())
    }

    /// Whether nothing in the region lies behind a block.
    fn is_last(block: *mut u8, layout: Layout) -> bool {
        Heap::has(block) && block.addr() + layout.size() == NEXT.load(Relaxed)
    }
}

// SAFETY: blocks of the region lie one behind the other, others are mappings of their own, and nobody calls at the same time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if START.load(Relaxed) == 0 {
            return unsafe { System.alloc(layout) };
        }
        let begin = NEXT.load(Relaxed).next_multiple_of(layout.align());
        let end = begin.saturating_add(layout.size());
        if layout.size() >= LARGE || end > START.load(Relaxed) + SIZE {
            // Pages are aligned to more than anybody asks for.
            return map(layout.size().next_multiple_of(PAGE)).map_or(ptr::null_mut(), ptr::NonNull::as_ptr);
        }
        NEXT.store(end, Relaxed);
        ptr::with_exposed_provenance_mut(begin)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if START.load(Relaxed) == 0 {
            unsafe { System.dealloc(block, layout) };
        } else if Heap::is_last(block, layout) {
            NEXT.store(block.addr(), Relaxed);
        } else if !Heap::has(block) && block.addr().is_multiple_of(PAGE) {
            // SAFETY: a mapping of its own. Blocks of the C library's heap, which begin with a header, are left alone.
            unsafe { libc::munmap(block.cast(), layout.size().next_multiple_of(PAGE)) };
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if START.load(Relaxed) == 0 {
            return unsafe { System.alloc_zeroed(layout) };
        }
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it has so many bytes; some of the region's may have been in use before.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if START.load(Relaxed) == 0 {
            return unsafe { System.realloc(block, layout, size) };
        }
        let end = block.addr() + size;
        if Heap::is_last(block, layout) && size < LARGE && end <= START.load(Relaxed) + SIZE {
            NEXT.store(end, Relaxed);
            return block;
        }
        // SAFETY: the caller's size is one that a layout may have.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both have at least so many bytes, and are not the same.
            unsafe {
                new.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        new
    }
}

/// From here on everything is allocated in a new region. What is older stays usable until [`leave_behind`].
pub fn begin_anew() -> io::Result<()> {
    let start = map(SIZE)?.as_ptr().expose_provenance();
    NEXT.store(start, Relaxed);
    START.store(start, Relaxed);
    Ok(())
}

/// Gives back the C library's heap and the stack that the program began on, but for what the C library itself needs of
/// them: what it knows of the thread, which lies at the heap's beginning, and the program's arguments.
///
/// # Safety
/// The caller has called [`begin_anew`], runs on another stack, and nothing that is older than either, nor malloc(3), is used
/// any more.
pub unsafe fn leave_behind() -> io::Result<()> {
    /// More than the C library's description of a thread takes, behind the address that it is known by.
    const THREAD: usize = PAGE;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let find = |name: &str| {
        let range = maps.lines().find(|line| line.ends_with(name))?.split(' ').next()?;
        let (begin, end) = range.split_once('-')?;
        Some((usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
    };
    if let Some((begin, end)) = find("[heap]") {
        let thread = unsafe { libc::pthread_self() } as usize;
        let begin = if (begin..end).contains(&thread) { thread + THREAD } else { begin };
        unsafe { forget(begin, end) };
    }
    if let Some((begin, _)) = find("[stack]") {
        // The kernel has put arguments and environment above these bytes (`create_elf_tables`).
        let kept = unsafe { libc::getauxval(libc::AT_RANDOM) } as usize;
        unsafe { forget(begin, kept) };
    }
    Ok(())
}

/// The end of what has been allocated so far.
pub fn mark() -> usize {
    NEXT.load(Relaxed)
}

/// Forgets all blocks behind a mark, and gives their memory back.
///
/// # Safety
/// The caller has called [`begin_anew`] before it took the mark, and uses none of them any more.
pub unsafe fn forget_since(mark: usize) {
    NEXT.store(mark, Relaxed);
    unsafe { forget(mark, START.load(Relaxed) + SIZE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block, and what every byte of it must be.
    struct Block {
        start: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl Block {
        fn new(size: usize, byte: u8) -> Block {
            let layout = Layout::from_size_align(size, 1 << (byte % 7)).unwrap();
            let start = unsafe { Heap.alloc_zeroed(layout) };
            assert!(start.addr().is_multiple_of(layout.align()));
            let block = Block { start, layout, byte: 0 };
            block.check();
            unsafe { start.write_bytes(byte, size) };
            Block { byte, ..block }
        }

        fn check(&self) {
            let bytes = unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == self.byte), "a block of {:?} has changed", self.layout);
        }

        fn resize(&mut self, size: usize) {
            let old = self.layout.size();
            self.start = unsafe { Heap.realloc(self.start, self.layout, size) };
            self.layout = Layout::from_size_align(size.min(old), self.layout.align()).unwrap();
            self.check();
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            unsafe { self.start.write_bytes(self.byte, size) };
        }
    }

    #[test]
    fn blocks_keep_what_is_theirs_in_any_order_of_use() {
        // Of the C library's heap, and still readable after it.
        let older = Block::new(100, 7);
        begin_anew().unwrap();
        older.check();
        let first = Block::new(3000, 9);
        let needed = mark();
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        for round in 0..20 {
            let mut blocks: Vec<Block> = Vec::new();
            for step in 0..2000 {
                let size = 1 + if next(50) == 0 { next(3 * LARGE) } else { next(600) };
                match next(4) {
                    0 | 1 => blocks.push(Block::new(size, (1 + step % 250) as u8)),
                    2 if !blocks.is_empty() => {
                        let last = blocks.len() - 1;
                        let index = if next(2) == 0 { last } else { next(blocks.len()) };
                        blocks[index].resize(size);
                    }
                    3 if !blocks.is_empty() => {
                        let block =
                            if next(2) == 0 { blocks.pop().unwrap() } else { blocks.swap_remove(next(blocks.len())) };
                        block.check();
                        unsafe { Heap.dealloc(block.start, block.layout) };
                    }
                    _ => {}
                }
            }
            for block in blocks {
                block.check();
                unsafe { Heap.dealloc(block.start, block.layout) };
            }
            // SAFETY: none of them is used any more.
            unsafe { forget_since(needed) };
            assert_eq!(mark(), needed, "round {round}");
            first.check();
            older.check();
        }
    }
}
