//! Large blocks of zeroed f32 that the system hands out page by page, when first touched.
//!
//! Unlike `vec![0.0; n]` they report a refusal instead of aborting, and start on a cache line. Long ones come from the system itself, on
//! pages of 2 MiB where it has some: reading from those spends less on looking up pages.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::TensorError;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Values of a cache line.
const LINE_VALUES: usize = LINE / size_of::<f32>();
/// The alignment up to which allocators hand out fresh zero pages without writing to them.
const ALLOCATOR_ALIGNMENT: usize = 16;
/// Bytes from which a block gets a mapping of its own.
#[cfg(target_os = "linux")]
const MAPPED: usize = 1 << 20;

/// Zeroed values, aligned to a cache line.
pub struct Zeroed {
    /// Keeps the values alive; blocks that were made together share it.
    #[allow(dead_code, reason = "keeps the memory alive")]
    memory: Arc<Memory>,
    start: NonNull<f32>,
    length: usize,
}

// SAFETY: its values belong to it alone, like those of a `Box<[f32]>`.
unsafe impl Send for Zeroed {}
// SAFETY: as above.
unsafe impl Sync for Zeroed {}

impl Zeroed {
    /// `length` zeros.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the system has no room for them.
    pub fn new(what: &'static str, length: usize) -> Result<Zeroed, TensorError> {
        let memory = Arc::new(Memory::new(what, length, true)?);
        let start = memory.start.cast();
        Ok(Zeroed { memory, start, length })
    }

    /// Blocks of these lengths in one stretch of memory, which is freed with the last of them. They get small pages: a step goes over
    /// them once, from one end to the other, and large pages that the system has to make first cost more than that gains.
    ///
    /// # Errors
    /// As for [`Zeroed::new`].
    pub fn together(what: &'static str, lengths: &[usize]) -> Result<Vec<Zeroed>, TensorError> {
        let padded = |length: usize| length.checked_next_multiple_of(LINE_VALUES);
        let all = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(padded(*length)?));
        let elements = all.ok_or(TensorError::OutOfMemory { what, elements: usize::MAX })?;
        let memory = Arc::new(Memory::new(what, elements, false)?);
        let mut offset = 0;
        let blocks = lengths.iter().map(|length| {
            // SAFETY: the padded lengths add up to the memory's.
            let start = unsafe { memory.start.cast::<f32>().add(offset) };
            offset += length.next_multiple_of(LINE_VALUES);
            Zeroed { memory: Arc::clone(&memory), start, length: *length }
        });
        Ok(blocks.collect())
    }
}

/// Zeroed memory from the allocator or the system.
struct Memory {
    start: NonNull<u8>,
    origin: Origin,
}

enum Origin {
    Allocator {
        allocation: NonNull<u8>,
        layout: Layout,
    },
    #[cfg(target_os = "linux")]
    System {
        bytes: usize,
    },
}

// SAFETY: it only owns the memory; the blocks in it guard its values.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(what: &'static str, length: usize, large_pages: bool) -> Result<Memory, TensorError> {
        let refused = || TensorError::OutOfMemory { what, elements: length };
        let bytes = length
            .checked_mul(size_of::<f32>())
            .and_then(|bytes| bytes.checked_add(LINE))
            .ok_or_else(refused)?;
        let layout = Layout::from_size_align(bytes, ALLOCATOR_ALIGNMENT).map_err(|_| refused())?;
        #[cfg(not(target_os = "linux"))]
        let _ = large_pages;
        #[cfg(target_os = "linux")]
        if bytes >= MAPPED {
            return map(bytes, large_pages).ok_or_else(refused);
        }
        // SAFETY: the layout has at least one line's bytes.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        let offset = allocation.as_ptr().align_offset(LINE);
        // SAFETY: the offset is below a line, and the allocation is one line longer than the values.
        let start = unsafe { allocation.add(offset) };
        Ok(Memory { start, origin: Origin::Allocator { allocation, layout } })
    }
}

/// Fresh pages for at least `bytes`, which begin where a page of 2 MiB can. The system is free to refuse large pages, which is slower,
/// never wrong.
#[cfg(target_os = "linux")]
fn map(bytes: usize, large_pages: bool) -> Option<Memory> {
    // The largest page that Linux counts in (on some AArch64 systems); pages that nothing touches take no memory.
    const PAGE: usize = 64 << 10;
    const HUGE_PAGE: usize = 2 << 20;
    let bytes = bytes.checked_next_multiple_of(PAGE)?;
    let reserved = bytes.checked_add(HUGE_PAGE)?;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, which overlaps no other memory.
    let reservation = unsafe { libc::mmap(std::ptr::null_mut(), reserved, access, kind, -1, 0) };
    if reservation == libc::MAP_FAILED {
        return None;
    }
    let reservation: *mut u8 = reservation.cast();
    let before = reservation.align_offset(HUGE_PAGE);
    let behind = HUGE_PAGE - before;
    // SAFETY: what is unmapped lies in the reservation before and behind the `bytes` that stay, in whole pages; advice does not change
    // what pages hold.
    unsafe {
        if before > 0 {
            libc::munmap(reservation.cast(), before);
        }
        let start = reservation.add(before);
        if behind > 0 {
            libc::munmap(start.add(bytes).cast(), behind);
        }
        if large_pages {
            libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
        }
        Some(Memory { start: NonNull::new(start)?, origin: Origin::System { bytes } })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.origin {
            // SAFETY: allocated in `new` with this layout.
            Origin::Allocator { allocation, layout } => unsafe { dealloc(allocation.as_ptr(), layout) },
            #[cfg(target_os = "linux")]
            // SAFETY: mapped in `map`, and no block of it is left.
            Origin::System { bytes } => unsafe {
                libc::munmap(self.start.as_ptr().cast(), bytes);
            },
        }
    }
}

impl Zeroed {
    /// The same memory as bytes to write.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        as_bytes_mut(self)
    }
}

/// The bytes of `values`.
pub(crate) fn as_bytes(values: &[f32]) -> &[u8] {
    // SAFETY: every byte of an f32 is initialised, and the borrow goes on.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of `values`, to be written: every pattern of bytes is an f32.
pub(crate) fn as_bytes_mut(values: &mut [f32]) -> &mut [u8] {
    // SAFETY: as above, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

impl Deref for Zeroed {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `length` initialised values belong to this object.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Zeroed {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl std::fmt::Debug for Zeroed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Zeroed").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_zero_aligned_and_writable() {
        let mut zeroed = Zeroed::new("test", 1000).unwrap();
        assert!(zeroed.as_ptr().cast::<u8>().align_offset(LINE) == 0);
        assert!(zeroed.iter().all(|value| *value == 0.0));
        zeroed.fill(1.0);
        assert_eq!(zeroed.iter().sum::<f32>(), 1000.0);
        assert!(Zeroed::new("test", 0).unwrap().is_empty());
    }

    #[test]
    fn long_blocks_are_zero_aligned_and_writable() {
        let length = (5 << 20) + 3;
        for _ in 0..2 {
            // The second one may get the pages that the first one wrote to.
            let mut zeroed = Zeroed::new("test", length).unwrap();
            assert!(zeroed.as_ptr().cast::<u8>().align_offset(LINE) == 0);
            assert!(zeroed.iter().all(|value| *value == 0.0));
            zeroed.fill(1.0);
            assert_eq!(zeroed.len(), length);
            assert_eq!(zeroed[length - 1], 1.0);
        }
    }

    #[test]
    fn blocks_that_share_memory_do_not_overlap() {
        for scale in [1, 100_000] {
            let lengths = [3, 0, 17, 16, 5].map(|length| length * scale);
            let mut blocks = Zeroed::together("test", &lengths).unwrap();
            for (index, (block, length)) in blocks.iter_mut().zip(lengths).enumerate() {
                assert_eq!(block.len(), length);
                assert!(block.as_ptr().cast::<u8>().align_offset(LINE) == 0);
                assert!(block.iter().all(|value| *value == 0.0));
                block.fill(index as f32 + 1.0);
            }
            let last = blocks.pop().unwrap();
            drop(blocks);
            assert!(last.iter().all(|value| *value == 5.0));
        }
        assert!(Zeroed::together("test", &[usize::MAX, usize::MAX]).is_err());
    }

    #[test]
    fn more_than_the_address_space_is_an_error() {
        for length in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 4 - 100] {
            assert!(matches!(Zeroed::new("test", length), Err(TensorError::OutOfMemory { .. })));
        }
    }
}
