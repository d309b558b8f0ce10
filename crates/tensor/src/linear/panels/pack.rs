//! Copies of the factors in the order in which the kernel reads them.

use super::PANEL_ROWS;
use crate::linear::lanes::{TileKernel, TileLanes};
use crate::matrix::TILE_ROWS;

/// Where the left factor lies. Either step is 1.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// Row 0, k = 0.
    pub(crate) start: *const f32,
    /// Elements from one row to the next.
    pub(crate) row_step: usize,
    /// Elements from one k to the next.
    pub(crate) depth_step: usize,
}

impl Left {
    pub(super) fn from(&self, row: usize, depth: usize) -> Left {
        Left { start: self.start.wrapping_add(row * self.row_step + depth * self.depth_step), ..*self }
    }
}

/// Copies rows into panels `[panel][k][PANEL_ROWS]`; rows that the last panel lacks are zeros.
///
/// # Safety
/// The rows and k exist, and `out` is writable for whole panels.
pub(super) struct PackLeft {
    pub(super) left: Left,
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) out: *mut f32,
}

impl TileKernel for PackLeft {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        let panels = self.rows.div_ceil(PANEL_ROWS);
        if !self.rows.is_multiple_of(PANEL_ROWS) {
            let panel = (panels - 1) * PANEL_ROWS * self.depth;
            // SAFETY: the last panel is within `out`.
            unsafe { self.out.add(panel).write_bytes(0, PANEL_ROWS * self.depth) };
        }
        // SAFETY: the rows exist, and the panels are within `out`.
        unsafe {
            if self.left.row_step == 1 {
                return self.lines(panels);
            }
            for panel in 0..panels {
                let row = panel * PANEL_ROWS;
                let from = self.left.start.add(row * self.left.row_step);
                let rows = (self.rows - row).min(PANEL_ROWS);
                self.transposed::<S>(from, rows, self.out.add(row * self.depth));
            }
        }
    }
}

impl PackLeft {
    /// Rows lie side by side: copies all panels' rows for one k after the other.
    #[inline(always)]
    unsafe fn lines(&self, panels: usize) {
        let last = self.rows - (panels - 1) * PANEL_ROWS;
        for k in 0..self.depth {
            // SAFETY: passed on from the caller.
            unsafe {
                let from = self.left.start.add(k * self.left.depth_step);
                let out = self.out.add(k * PANEL_ROWS);
                for panel in 0..panels - 1 {
                    let row = panel * PANEL_ROWS;
                    out.add(row * self.depth).copy_from_nonoverlapping(from.add(row), PANEL_ROWS);
                }
                let row = (panels - 1) * PANEL_ROWS;
                out.add(row * self.depth).copy_from_nonoverlapping(from.add(row), last);
            }
        }
    }

    /// A row's k lie side by side.
    #[inline(always)]
    unsafe fn transposed<S: TileLanes>(&self, from: *const f32, rows: usize, out: *mut f32) {
        let step = self.left.row_step;
        let whole = self.depth / 4 * 4;
        let mut row = 0;
        while row < rows {
            let four = row + 4 <= rows;
            // SAFETY: the rows and k exist.
            unsafe {
                let from = from.add(row * step);
                let mut k = 0;
                while four && k < whole {
                    S::transpose_four(from.add(k), step, out.add(k * PANEL_ROWS + row), PANEL_ROWS);
                    k += 4;
                }
                let rows = (rows - row).min(4);
                while k < self.depth {
                    for lane in 0..rows {
                        *out.add(k * PANEL_ROWS + row + lane) = *from.add(lane * step + k);
                    }
                    k += 1;
                }
            }
            row += 4;
        }
    }
}

/// Copies up to two tiles into `[tile][k][16]`; lanes that the last tile lacks are zeros.
///
/// # Safety
/// The lanes and k exist, and `out` is writable for whole tiles.
pub(super) struct PackRight {
    pub(super) from: *const f32,
    pub(super) tile_step: usize,
    pub(super) depth_step: usize,
    /// Lanes that exist from `from` on.
    pub(super) lanes: usize,
    pub(super) depth: usize,
    pub(super) out: *mut f32,
}

impl TileKernel for PackRight {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        let tiles = self.lanes.div_ceil(TILE_ROWS).min(super::TILES_TOGETHER);
        for tile in 0..tiles {
            let lanes = self.lanes - tile * TILE_ROWS;
            // SAFETY: only lanes that exist are read; the tiles are within `out`.
            unsafe {
                let from = self.from.add(tile * self.tile_step);
                let out = self.out.add(tile * self.depth * TILE_ROWS);
                for k in 0..self.depth {
                    let (from, out) = (from.add(k * self.depth_step), out.add(k * TILE_ROWS));
                    if lanes >= TILE_ROWS {
                        S::store(S::load(from), out);
                    } else {
                        S::store(S::zero(), out);
                        out.copy_from_nonoverlapping(from, lanes);
                    }
                }
            }
        }
    }
}

/// Turns packed tiles of 16 outputs, `[tile][input][16]`, into a tile of 16 inputs, `[output][16]`; inputs that do not exist are zeros.
///
/// # Safety
/// `from` points to the first of the inputs in the first tile, `tiles` tiles are `tile_step` elements apart, and `out` is
/// writable for `tiles · 16 · 16` elements.
pub(crate) struct TransposeTile {
    pub(crate) from: *const f32,
    pub(crate) tile_step: usize,
    pub(crate) tiles: usize,
    /// 1 to 16.
    pub(crate) inputs: usize,
    pub(crate) out: *mut f32,
}

impl TileKernel for TransposeTile {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        for tile in 0..self.tiles {
            // SAFETY: only inputs that exist are read; the rest is the kernel's condition.
            unsafe {
                let from = self.from.add(tile * self.tile_step);
                let out = self.out.add(tile * TILE_ROWS * TILE_ROWS);
                let whole = self.inputs / 4 * 4;
                if self.inputs < TILE_ROWS {
                    out.write_bytes(0, TILE_ROWS * TILE_ROWS);
                }
                let mut input = 0;
                while input < whole {
                    let mut output = 0;
                    while output < TILE_ROWS {
                        let from = from.add(input * TILE_ROWS + output);
                        S::transpose_four(from, TILE_ROWS, out.add(output * TILE_ROWS + input), TILE_ROWS);
                        output += 4;
                    }
                    input += 4;
                }
                while input < self.inputs {
                    for output in 0..TILE_ROWS {
                        *out.add(output * TILE_ROWS + input) = *from.add(input * TILE_ROWS + output);
                    }
                    input += 1;
                }
            }
        }
    }
}
