//! How work and memory are divided between threads: contiguous ranges, and slices that several threads write at once.

use std::marker::PhantomData;
use std::ops::Range;

/// The contiguous part of `0..count` that belongs to `worker` of `threads`; sizes differ by at most one.
pub fn share(count: usize, threads: usize, worker: usize) -> Range<usize> {
    let (size, rest) = (count / threads, count % threads);
    let start = worker * size + worker.min(rest);
    start..start + size + usize::from(worker < rest)
}

/// A slice that several threads may write at once, each its own parts.
pub struct DisjointMut<'a, T> {
    start: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `slice`, whose callers promise disjoint parts; elements move between threads.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}
// SAFETY: as for a `&mut [T]`.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Takes over `data` for the lifetime of the borrow.
    pub fn new(data: &'a mut [T]) -> DisjointMut<'a, T> {
        DisjointMut { start: data.as_mut_ptr(), length: data.len(), borrow: PhantomData }
    }

    /// The start of the data, for kernels that write strided parts.
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the result lives, no other slice that overlaps `range` may be used.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    #[allow(clippy::mut_from_ref, reason = "callers promise disjoint parts")]
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} of {}", self.length);
        // SAFETY: in bounds by the assertion; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for count in 0..40 {
            for threads in 1..9 {
                let mut next = 0;
                for worker in 0..threads {
                    let range = share(count, threads, worker);
                    assert_eq!(range.start, next);
                    next = range.end;
                }
                assert_eq!(next, count);
            }
        }
    }
}
