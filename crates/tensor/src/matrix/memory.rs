//! Memory for the matrices of a model: a few long stretches instead of one allocation for each matrix, so that
//! they fit on huge pages. Knows nothing of what is stored.

use crate::TensorError;
use crate::zeroed::Zeroed;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a stretch. Only what is written to is ever resident.
const STRETCH_BYTES: usize = 32 << 20;
/// Parts start on a cache line.
const LINE: usize = 64;

/// Memory that [`Matrix::pack_into`](crate::Matrix::pack_into) takes from. A stretch is freed when
/// the last of its matrices is dropped.
#[derive(Debug, Default)]
pub struct MatrixMemory {
    open: Mutex<Option<OpenStretch>>,
}

#[derive(Debug)]
struct OpenStretch {
    stretch: Arc<Stretch>,
    used: usize,
}

/// Zeroed memory whose parts belong to different matrices.
#[derive(Debug)]
struct Stretch {
    /// Taken from `memory` once; all access goes through it, part by part.
    start: *mut u8,
    bytes: usize,
    #[allow(dead_code, reason = "keeps the memory alive")]
    memory: Zeroed,
}

// SAFETY: every byte belongs to at most one `Part`, which guards it like a `Box<[u8]>`.
unsafe impl Send for Stretch {}
// SAFETY: as above.
unsafe impl Sync for Stretch {}

/// Bytes of a stretch that belong to one matrix.
#[derive(Debug)]
pub(super) struct Part {
    stretch: Arc<Stretch>,
    offset: usize,
    bytes: usize,
}

impl MatrixMemory {
    /// No memory yet.
    pub fn new() -> MatrixMemory {
        MatrixMemory::default()
    }

    /// `bytes` zeroed bytes on a cache line; from a stretch shared with others unless they are many.
    pub(super) fn part(&self, what: &'static str, bytes: usize) -> Result<Part, TensorError> {
        if bytes > STRETCH_BYTES / 2 {
            return Ok(Part { stretch: Arc::new(Stretch::new(what, bytes)?), offset: 0, bytes });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|open| bytes > open.stretch.bytes - open.used) {
            *open = None;
        }
        let open = match open.as_mut() {
            Some(open) => open,
            None => {
                open.insert(OpenStretch { stretch: Arc::new(Stretch::new(what, STRETCH_BYTES)?), used: 0 })
            }
        };
        let part = Part { stretch: Arc::clone(&open.stretch), offset: open.used, bytes };
        open.used = (open.used + bytes).next_multiple_of(LINE).min(open.stretch.bytes);
        Ok(part)
    }
}

impl Stretch {
    fn new(what: &'static str, bytes: usize) -> Result<Stretch, TensorError> {
        let mut memory = Zeroed::new(what, bytes.div_ceil(size_of::<f32>()))?;
        let bytes_of_memory = memory.as_bytes_mut();
        Ok(Stretch { start: bytes_of_memory.as_mut_ptr(), bytes: bytes_of_memory.len(), memory })
    }
}

impl Part {
    /// `bytes` zeroed bytes of their own.
    pub(super) fn alone(what: &'static str, bytes: usize) -> Result<Part, TensorError> {
        Ok(Part { stretch: Arc::new(Stretch::new(what, bytes)?), offset: 0, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: these bytes are initialised, lie within the stretch and belong to this part alone.
        unsafe { std::slice::from_raw_parts(self.stretch.start.add(self.offset), self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.stretch.start.add(self.offset), self.bytes) }
    }

    /// The same memory as values; bytes behind the last whole one are left out.
    pub(super) fn floats(&self) -> &[f32] {
        // SAFETY: as in `bytes`; parts start on a cache line, and every pattern of bytes is an f32.
        unsafe {
            let start = self.stretch.start.add(self.offset).cast::<f32>();
            std::slice::from_raw_parts(start, self.bytes / size_of::<f32>())
        }
    }

    /// As [`Part::floats`], to be changed.
    pub(super) fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `floats`, and borrowed exclusively.
        unsafe {
            let start = self.stretch.start.add(self.offset).cast::<f32>();
            std::slice::from_raw_parts_mut(start, self.bytes / size_of::<f32>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_outlive_their_memory() {
        let memory = MatrixMemory::new();
        let sizes = [100, 0, 64, STRETCH_BYTES / 2, STRETCH_BYTES / 2 - 300, 5, STRETCH_BYTES, 7];
        let mut parts: Vec<Part> = sizes.iter().map(|&size| memory.part("test", size).unwrap()).collect();
        drop(memory);
        for (i, part) in parts.iter_mut().enumerate() {
            assert!(part.bytes().as_ptr().align_offset(LINE) == 0);
            assert!(part.bytes().iter().all(|&byte| byte == 0));
            part.bytes_mut().fill(i as u8 + 1);
        }
        for (i, part) in parts.iter().enumerate() {
            assert_eq!(part.bytes().len(), sizes[i]);
            assert!(part.bytes().iter().all(|&byte| byte == i as u8 + 1));
        }
    }
}
