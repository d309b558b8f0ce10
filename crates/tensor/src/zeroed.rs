//! A large block of zeroed f32 that the system hands out page by page, when first touched.
//!
//! Unlike `vec![0.0; n]` it reports a refusal instead of aborting, and it starts on a cache line.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::TensorError;

/// Bytes of a cache line.
const LINE: usize = 64;
/// The alignment up to which allocators hand out fresh zero pages without writing to them.
const ALLOCATOR_ALIGNMENT: usize = 16;

/// Zeroed values, aligned to a cache line.
pub(crate) struct Zeroed {
    allocation: NonNull<u8>,
    layout: Layout,
    start: NonNull<f32>,
    length: usize,
}

// SAFETY: it owns its memory, like a `Box<[f32]>`.
unsafe impl Send for Zeroed {}
// SAFETY: as above.
unsafe impl Sync for Zeroed {}

impl Zeroed {
    /// `length` zeros.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the system has no room for them.
    pub(crate) fn new(what: &'static str, length: usize) -> Result<Zeroed, TensorError> {
        let refused = || TensorError::OutOfMemory { what, elements: length };
        let bytes = length
            .checked_mul(size_of::<f32>())
            .and_then(|bytes| bytes.checked_add(LINE))
            .ok_or_else(refused)?;
        let layout = Layout::from_size_align(bytes, ALLOCATOR_ALIGNMENT).map_err(|_| refused())?;
        // SAFETY: the layout has at least one line's bytes.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        huge_pages(allocation, bytes);
        let offset = allocation.as_ptr().align_offset(LINE);
        // SAFETY: the offset is below a line, and the allocation is one line longer than the values.
        let start = unsafe { allocation.add(offset) }.cast::<f32>();
        Ok(Zeroed { allocation, layout, start, length })
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

/// Asks for pages of 2 MiB where the block is long enough for them: reading weights from memory spends a fifth of its
/// time on looking up pages of 4 KiB. The system is free to refuse, which is slower, never wrong.
#[cfg(target_os = "linux")]
fn huge_pages(allocation: NonNull<u8>, bytes: usize) {
    const PAGE: usize = 4096;
    const WORTH_IT: usize = 4 << 20;
    if bytes >= WORTH_IT {
        let before = allocation.as_ptr().align_offset(PAGE);
        let whole = (bytes - before) / PAGE * PAGE;
        // SAFETY: these whole pages belong to the block; the advice does not change what they hold.
        unsafe { libc::madvise(allocation.as_ptr().add(before).cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn huge_pages(_allocation: NonNull<u8>, _bytes: usize) {}

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

impl Drop for Zeroed {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
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
    fn more_than_the_address_space_is_an_error() {
        for length in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 4 - 100] {
            assert!(matches!(Zeroed::new("test", length), Err(TensorError::OutOfMemory { .. })));
        }
    }
}
