//! The kernel: packed panels × two tiles, as many sums at once as the registers hold.

#![allow(clippy::needless_range_loop, reason = "loops over tiles and rows index several arrays alike")]

use super::PANEL_ROWS;
use crate::linear::lanes::{Blocking, TileKernel, TileLanes};
use crate::matrix::TILE_ROWS;

/// Where sums go.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The first row's first lane.
    pub(crate) start: *mut f32,
    /// Elements from one row to the next.
    pub(crate) row_step: usize,
    /// Elements from one tile's first lane to the next tile's.
    pub(crate) tile_step: usize,
    /// Lanes that exist from `start` on (at least 16 for every tile but the last).
    pub(crate) lanes: usize,
}

impl Target {
    /// The sums from `row` and `tile` on.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, tile: usize) -> Target {
        let start = self.start.wrapping_add(row * self.row_step + tile * self.tile_step);
        Target { start, lanes: self.lanes - tile * TILE_ROWS, ..*self }
    }

    /// # Safety
    /// The row and the tile exist.
    #[inline(always)]
    unsafe fn load<S: TileLanes>(&self, row: usize, tile: usize) -> S::Floats {
        // SAFETY: only lanes that exist are read.
        unsafe {
            let from = self.start.add(row * self.row_step + tile * self.tile_step);
            let lanes = self.lanes - tile * TILE_ROWS;
            if lanes >= TILE_ROWS {
                return S::load(from);
            }
            let mut padded = [0.0_f32; TILE_ROWS];
            padded.as_mut_ptr().copy_from_nonoverlapping(from, lanes);
            S::load(padded.as_ptr())
        }
    }

    /// # Safety
    /// The row and the tile exist and belong to the caller.
    #[inline(always)]
    unsafe fn store<S: TileLanes>(&self, sums: S::Floats, row: usize, tile: usize) {
        // SAFETY: only lanes that exist are written.
        unsafe {
            let to = self.start.add(row * self.row_step + tile * self.tile_step);
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

/// All panels of a part × one or two tiles.
///
/// # Safety
/// `panels` holds `rows` rows of `depth` k in whole panels, `right` `tiles` tiles of `depth` contiguous k; the outputs exist and
/// belong to the caller.
pub(super) struct Block {
    pub(super) panels: *const f32,
    pub(super) rows: usize,
    pub(super) right: *const f32,
    pub(super) tile_step: usize,
    /// 1 or 2.
    pub(super) tiles: usize,
    pub(super) depth: usize,
    pub(super) target: Target,
    pub(super) resume: bool,
}

impl TileKernel for Block {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        let mut row = 0;
        while row < self.rows {
            let left = self.rows - row;
            // SAFETY: the rows are in a panel, and the conditions are the same.
            unsafe {
                match (S::BLOCKING, self.tiles) {
                    (Blocking::ThirtyTwoFull, 2) if left > 8 => self.sums::<S, 2, 12>(row, 0),
                    (Blocking::ThirtyTwoFull, 2) if left > 4 => self.sums::<S, 2, 8>(row, 0),
                    (Blocking::ThirtyTwoFull, 2) => self.sums::<S, 2, 4>(row, 0),
                    (Blocking::ThirtyTwoFull, _) => self.sums::<S, 1, 12>(row, 0),
                    (Blocking::SixteenHalf, _) => {
                        for tile in 0..self.tiles {
                            self.sums::<S, 1, 6>(row, tile);
                            if left > 6 {
                                self.sums::<S, 1, 6>(row + 6, tile);
                            }
                        }
                    }
                    (Blocking::None, _) => {
                        for tile in 0..self.tiles {
                            for part in (0..left.min(PANEL_ROWS)).step_by(4) {
                                self.sums::<S, 1, 4>(row + part, tile);
                            }
                        }
                    }
                }
            }
            row += PANEL_ROWS;
        }
    }
}

impl Block {
    /// T tiles from `tile` on × M rows from `row` on; rows that do not exist are computed and not stored.
    ///
    /// # Safety
    /// As for [`Block`]; the M rows are in one panel.
    #[inline(always)]
    unsafe fn sums<S: TileLanes, const T: usize, const M: usize>(&self, row: usize, tile: usize) {
        let rows = self.rows - row;
        let target = self.target.at(row, tile);
        // SAFETY: all addresses are within the panel, the tiles and the outputs that the kernel's conditions name.
        unsafe {
            let mut left = self.panels.add(row / PANEL_ROWS * PANEL_ROWS * self.depth + row % PANEL_ROWS);
            let mut right = self.right.add(tile * self.tile_step);
            let mut sums = [[S::zero(); M]; T];
            for row in 0..M {
                for tile in 0..T {
                    if self.resume && row < rows {
                        sums[tile][row] = target.load::<S>(row, tile);
                    }
                }
            }
            for _ in 0..self.depth {
                let mut weights = [S::load(right); T];
                for tile in 1..T {
                    weights[tile] = S::load(right.add(tile * self.tile_step));
                }
                for row in 0..M {
                    let value = S::broadcast(left.add(row));
                    for tile in 0..T {
                        sums[tile][row] = S::multiply_add(weights[tile], value, sums[tile][row]);
                    }
                }
                left = left.add(PANEL_ROWS);
                right = right.add(TILE_ROWS);
            }
            for row in 0..M {
                for tile in 0..T {
                    if row < rows {
                        target.store::<S>(sums[tile][row], row, tile);
                    }
                }
            }
        }
    }
}
