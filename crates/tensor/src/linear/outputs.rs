//! Where a kernel's sums come from and go to: whole tiles by vector, the last rows of a matrix lane by lane.

use super::lanes::TileLanes;
use crate::matrix::TILE_ROWS;

/// Where the sums of up to T tiles × M rows go.
#[derive(Clone, Copy)]
pub(super) struct Outputs {
    /// Output of the first row and the first tile's first lane.
    pub(super) start: *mut f32,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Rows that exist.
    pub(super) rows: usize,
    /// Outputs that exist from `start` on in a row (at least 16 for every tile but the last).
    pub(super) lanes: usize,
    /// Whether the sums go on from what is there, or start from zero.
    pub(super) resume: bool,
}

impl Outputs {
    /// The same without the first `rows` rows.
    #[inline(always)]
    pub(super) fn skip(&self, rows: usize) -> Outputs {
        Outputs { start: self.start.wrapping_add(rows * self.stride), rows: self.rows - rows, ..*self }
    }

    /// The sums that tile `tile` of row `row` starts from.
    ///
    /// # Safety
    /// The outputs exist and belong to the caller.
    #[inline(always)]
    pub(super) unsafe fn load<S: TileLanes>(&self, row: usize, tile: usize) -> S::Floats {
        // SAFETY: only lanes and rows that exist are read.
        unsafe {
            if !self.resume || row >= self.rows {
                return S::zero();
            }
            let from = self.start.add(row * self.stride + tile * TILE_ROWS);
            let lanes = self.lanes - tile * TILE_ROWS;
            if lanes >= TILE_ROWS {
                return S::load(from);
            }
            let mut padded = [0.0_f32; TILE_ROWS];
            padded.as_mut_ptr().copy_from_nonoverlapping(from, lanes);
            S::load(padded.as_ptr())
        }
    }

    /// Stores the sums of tile `tile` of row `row`.
    ///
    /// # Safety
    /// The outputs exist and belong to the caller.
    #[inline(always)]
    pub(super) unsafe fn store<S: TileLanes>(&self, sums: S::Floats, row: usize, tile: usize) {
        if row >= self.rows {
            return;
        }
        // SAFETY: only lanes and rows that exist are written.
        unsafe {
            let to = self.start.add(row * self.stride + tile * TILE_ROWS);
            let lanes = self.lanes - tile * TILE_ROWS;
            if lanes >= TILE_ROWS {
                return S::store(sums, to);
            }
            let mut padded = [0.0_f32; TILE_ROWS];
            S::store(sums, padded.as_mut_ptr());
            to.copy_from_nonoverlapping(padded.as_ptr(), lanes);
        }
    }
}
