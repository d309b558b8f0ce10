//! The kernel: packed panels × two tiles, as many sums at once as the registers hold.

#![allow(clippy::needless_range_loop, reason = "loops over tiles and rows index several arrays alike")]

use std::ops::Range;

use super::{PANEL_ROWS, TILES_TOGETHER};
use crate::linear::lanes::{Blocking, TileKernel, TileLanes};
use crate::matrix::TILE_ROWS;
use crate::team::share;

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
}

/// Memory that is read next, to be fetched meanwhile: line `t · tile_step + k · depth_step` for two tiles and every k.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) start: *const f32,
    pub(super) tile_step: usize,
    pub(super) depth_step: usize,
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
    /// The next tiles, which come from far away.
    pub(super) ahead: Ahead,
}

impl TileKernel for Block {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        let panels = self.rows.div_ceil(PANEL_ROWS);
        let mut row = 0;
        while row < self.rows {
            let left = self.rows - row;
            self.fetch_ahead::<S>(share(self.depth, panels, row / PANEL_ROWS), row);
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
    /// Fetches a part of the next tiles, and the sums of the next panel.
    #[inline(always)]
    fn fetch_ahead<S: TileLanes>(&self, depth: Range<usize>, row: usize) {
        let Ahead { start, tile_step, depth_step } = self.ahead;
        // SAFETY: a prefetch reads nothing.
        unsafe {
            for k in depth {
                for tile in 0..TILES_TOGETHER {
                    let line = start.wrapping_add(k * depth_step + tile * tile_step);
                    S::prefetch_for_later(line.cast());
                }
            }
            let next = if row + PANEL_ROWS < self.rows {
                self.target.start.wrapping_add((row + PANEL_ROWS) * self.target.row_step)
            } else {
                self.target.start.wrapping_add(TILES_TOGETHER * self.target.tile_step)
            };
            for row in 0..PANEL_ROWS {
                for tile in 0..TILES_TOGETHER {
                    let sums = next.wrapping_add(row * self.target.row_step + tile * self.target.tile_step);
                    S::prefetch(sums.cast_const().cast());
                }
            }
        }
    }

    /// T tiles from `tile` on × M rows from `row` on. Where some of these rows or lanes do not exist, all are computed in memory
    /// of the kernel's own, and those that exist are copied.
    ///
    /// # Safety
    /// As for [`Block`]; the M rows are in one panel.
    #[inline(always)]
    unsafe fn sums<S: TileLanes, const T: usize, const M: usize>(&self, row: usize, tile: usize) {
        let target = self.target.at(row, tile);
        let rows = (self.rows - row).min(M);
        let lanes = target.lanes.min(T * TILE_ROWS);
        if rows == M && lanes == T * TILE_ROWS {
            // SAFETY: passed on from the caller.
            return unsafe { self.whole::<S, T, M>(row, tile, &target) };
        }
        // Zeroed here only: it takes some per cent of the time of a whole block.
        let mut padded = [0.0_f32; TILES_TOGETHER * PANEL_ROWS * TILE_ROWS];
        let row_step = T * TILE_ROWS;
        let out = Target { start: padded.as_mut_ptr(), row_step, tile_step: TILE_ROWS, lanes: row_step };
        // SAFETY: the padded memory holds M rows of T tiles; the rest is passed on from the caller.
        unsafe {
            if self.resume {
                copy(&target, &out, rows, lanes);
            }
            self.whole::<S, T, M>(row, tile, &out);
            copy(&out, &target, rows, lanes);
        }
    }

    /// The same where all exist.
    ///
    /// # Safety
    /// As for [`Block::sums`]; `target` has M rows of T whole tiles.
    #[inline(always)]
    unsafe fn whole<S: TileLanes, const T: usize, const M: usize>(
        &self,
        row: usize,
        tile: usize,
        target: &Target,
    ) {
        // SAFETY: all addresses are within the panel, the tiles and the outputs that the kernel's conditions name.
        unsafe {
            let mut left = self.panels.add(row / PANEL_ROWS * PANEL_ROWS * self.depth + row % PANEL_ROWS);
            let mut right = self.right.add(tile * self.tile_step);
            let mut sums = [[S::zero(); M]; T];
            if self.resume {
                for row in 0..M {
                    for tile in 0..T {
                        let from = target.start.add(row * target.row_step + tile * target.tile_step);
                        sums[tile][row] = S::load(from);
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
                    let to = target.start.add(row * target.row_step + tile * target.tile_step);
                    S::store(sums[tile][row], to);
                }
            }
        }
    }
}

/// Copies `lanes` lanes of `rows` rows.
///
/// # Safety
/// They exist on both sides, which do not overlap.
#[inline(always)]
unsafe fn copy(from: &Target, to: &Target, rows: usize, lanes: usize) {
    for row in 0..rows {
        for lane in 0..lanes {
            let (tile, lane) = (lane / TILE_ROWS, lane % TILE_ROWS);
            // SAFETY: passed on from the caller.
            unsafe {
                let from = from.start.add(row * from.row_step + tile * from.tile_step + lane);
                *to.start.add(row * to.row_step + tile * to.tile_step + lane) = *from;
            }
        }
    }
}
