//! Memory between two pages that must not be touched: a read or write outside of it ends the test process. Under
//! Miri, which checks every access itself, it is plain memory.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Which of the two pages the content touches.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Side {
    /// Reading before the content is a fault.
    Before,
    /// Reading behind the content is a fault.
    After,
}

impl Side {
    /// Both.
    pub(crate) const BOTH: [Side; 2] = [Side::Before, Side::After];
}

/// A copy of a slice of plain numbers.
pub(crate) struct Guarded<T: Copy> {
    memory: Memory,
    /// Bytes from the start of the memory to the content.
    offset: usize,
    length: usize,
    numbers: PhantomData<T>,
}

/// Bytes between two guard pages.
#[cfg(all(unix, not(miri)))]
struct Memory {
    mapping: *mut u8,
    bytes: usize,
}

#[cfg(all(unix, not(miri)))]
impl Memory {
    /// A multiple of the page of every system.
    const PAGE: usize = 64 << 10;

    fn new(bytes: usize) -> Memory {
        let inner = bytes.next_multiple_of(Self::PAGE);
        let all = inner + 2 * Self::PAGE;
        // SAFETY: a new private mapping, checked below.
        let mapping = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(mapping, libc::MAP_FAILED);
        // SAFETY: within the mapping.
        let inside = unsafe { mapping.cast::<u8>().add(Self::PAGE) };
        if inner > 0 {
            // SAFETY: whole pages of the mapping.
            let status = unsafe { libc::mprotect(inside.cast(), inner, libc::PROT_READ | libc::PROT_WRITE) };
            assert_eq!(status, 0);
        }
        Memory { mapping: mapping.cast(), bytes: all }
    }

    fn bytes(&self) -> usize {
        self.bytes - 2 * Self::PAGE
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: within the mapping, which begins with the first guard page.
        unsafe { self.mapping.add(Self::PAGE) }
    }
}

#[cfg(all(unix, not(miri)))]
impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.mapping.cast(), self.bytes) };
    }
}

/// Allocated to the exact size, in words of 8 bytes for the alignment of every number.
#[cfg(not(all(unix, not(miri))))]
struct Memory {
    words: std::cell::UnsafeCell<Vec<u64>>,
}

#[cfg(not(all(unix, not(miri))))]
impl Memory {
    fn new(bytes: usize) -> Memory {
        Memory { words: std::cell::UnsafeCell::new(vec![0; bytes.div_ceil(8)]) }
    }

    fn bytes(&self) -> usize {
        // SAFETY: nothing else borrows the vector while its length is read.
        unsafe { (*self.words.get()).len() * 8 }
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: nothing else borrows the vector while its address is taken.
        unsafe { (*self.words.get()).as_mut_ptr().cast() }
    }
}

impl<T: Copy> Guarded<T> {
    pub(crate) fn new(content: &[T], side: Side) -> Guarded<T> {
        let bytes = size_of_val(content);
        let memory = Memory::new(bytes);
        let offset = if side == Side::Before { 0 } else { memory.bytes() - bytes };
        let mut guarded = Guarded { memory, offset, length: content.len(), numbers: PhantomData };
        guarded.copy_from_slice(content);
        guarded
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` made room for `length` numbers, which any bytes are; the start of the memory is aligned, and
        // so is its end, from which the numbers are counted back.
        unsafe { std::slice::from_raw_parts(self.memory.start().add(self.offset).cast(), self.length) }
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().add(self.offset).cast(), self.length) }
    }
}
