//! The float kernels: f32, f16 and bf16 weights × f32 activations. For each output one chain
//! `sum = fma(w[k], a[k], sum)` over ascending k; a lane is an output, so the sequence is the same for any
//! number of rows, tiles and threads.

#![allow(clippy::needless_range_loop, reason = "loops over tiles and rows index several arrays alike")]

use super::lanes::{Blocking, TileKernel, TileLanes};
use super::outputs::Outputs;
use crate::matrix::{TILE_ROWS, VECTOR};
use std::marker::PhantomData;

/// How many bytes of a tile ahead of their use weights are fetched into the second-level cache.
const AHEAD: usize = 3072;

/// A float type of weights.
pub(super) trait FloatFormat: 'static {
    /// Bytes of an element.
    const BYTES: usize;
    /// The 16 elements at `column`.
    ///
    /// # Safety
    /// 16 elements can be read there.
    unsafe fn load<S: TileLanes>(column: *const u8) -> S::Floats;
}

/// f32.
pub(super) struct F32;
/// f16.
pub(super) struct F16;
/// bf16.
pub(super) struct Bf16;

impl FloatFormat for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: TileLanes>(column: *const u8) -> S::Floats {
        // SAFETY: passed on from the caller.
        unsafe { S::load(column.cast()) }
    }
}

impl FloatFormat for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: TileLanes>(column: *const u8) -> S::Floats {
        // SAFETY: passed on from the caller.
        unsafe { S::load_f16(column) }
    }
}

impl FloatFormat for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: TileLanes>(column: *const u8) -> S::Floats {
        // SAFETY: passed on from the caller.
        unsafe { S::load_bf16(column) }
    }
}

/// Where a product of some tiles and rows reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// First column of the first tile.
    pub(super) weights: *const u8,
    /// Bytes from one tile to the next.
    pub(super) tile_step: usize,
    /// Columns to multiply.
    pub(super) columns: usize,
    /// The same first column of the first row of activations.
    pub(super) input: *const f32,
    /// Elements from one row to the next.
    pub(super) input_stride: usize,
    /// Where the sums go; at least one row.
    pub(super) outputs: Outputs,
    /// What is fetched ahead of its use meanwhile.
    pub(super) fetch: Fetch,
}

/// Which weights a product fetches into the second-level cache.
#[derive(Clone, Copy)]
pub(super) enum Fetch {
    /// None: its own come from the cache.
    Nothing,
    /// Its own, [`AHEAD`] of their use, and then the beginning of as many tiles that follow.
    Own,
    /// Of as many tiles that follow the part that `rows` are of `all` rows.
    Following { rows: (usize, usize), all: usize },
}

/// `tiles` tiles × up to `rows` rows, in the register blocking of the instruction set.
///
/// # Safety
/// The operands' tiles, columns, rows (`outputs.rows` of them) and outputs exist, and the outputs belong to the
/// caller. `(tiles, rows)` is a pair that [`step`] returns.
pub(super) struct AnyProduct<F> {
    pub(super) tiles: usize,
    pub(super) rows: usize,
    pub(super) operands: Operands,
    pub(super) format: PhantomData<F>,
}

impl<F: FloatFormat> TileKernel for AnyProduct<F> {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        // SAFETY: the conditions are the same.
        unsafe {
            match (self.tiles, self.rows, S::BLOCKING) {
                (4, 1, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 4, 1>(self.operands, PhantomData)),
                (2, 1, _) => S::enter(Product::<F, 2, 1>(self.operands, PhantomData)),
                (1, 1, _) => S::enter(Product::<F, 1, 1>(self.operands, PhantomData)),
                (4, 4, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 4, 4>(self.operands, PhantomData)),
                (2, 8, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 2, 8>(self.operands, PhantomData)),
                (1, 8, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 1, 8>(self.operands, PhantomData)),
                (1, 4, _) => S::enter(Product::<F, 1, 4>(self.operands, PhantomData)),
                (tiles, rows, _) => unreachable!("no kernel for {tiles} tiles and {rows} rows"),
            }
        }
    }
}

/// How many of `tiles` tiles and `rows` rows the next kernel call takes: the largest blocking that fits.
pub(super) fn step(blocking: Blocking, tiles: usize, rows: usize) -> (usize, usize) {
    match (blocking, rows, tiles) {
        (Blocking::ThirtyTwoFull, 1, 4..) => (4, 1),
        (Blocking::ThirtyTwoFull | Blocking::SixteenHalf, 1, 2..) => (2, 1),
        (_, 1, _) => (1, 1),
        (Blocking::ThirtyTwoFull, 2..=4, 4..) => (4, 4),
        (Blocking::ThirtyTwoFull, 5.., 2..) => (2, 8),
        (Blocking::ThirtyTwoFull, 5.., _) => (1, 8),
        _ => (1, 4),
    }
}

/// T tiles × M rows.
///
/// # Safety
/// The operands' tiles, columns, rows and outputs exist, and the outputs belong to the caller.
struct Product<F, const T: usize, const M: usize>(Operands, PhantomData<F>);

impl<F: FloatFormat, const T: usize, const M: usize> TileKernel for Product<F, T, M> {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        // SAFETY: all addresses are within the tiles, rows and outputs that the kernel's conditions name; rows
        // that do not exist are replaced by the last one, and their sums are not stored.
        unsafe {
            let input: [*const f32; M] = std::array::from_fn(|row| {
                self.0.input.add(row.min(self.0.outputs.rows - 1) * self.0.input_stride)
            });
            let mut sums = [[S::zero(); M]; T];
            for tile in 0..T {
                for row in 0..M {
                    sums[tile][row] = self.0.outputs.load::<S>(row, tile);
                }
            }
            match self.0.fetch {
                Fetch::Nothing => {
                    for k in 0..self.0.columns {
                        self.column::<S>(k, &input, &mut sums);
                    }
                }
                Fetch::Own => {
                    for k in 0..self.0.columns {
                        let offset = k * F::BYTES * TILE_ROWS;
                        if offset.is_multiple_of(VECTOR) {
                            self.prefetch_from_here::<S>(offset + AHEAD);
                        }
                        self.column::<S>(k, &input, &mut sums);
                    }
                }
                Fetch::Following { rows: (first, end), all } => {
                    let lines = self.0.columns * F::BYTES * TILE_ROWS / VECTOR;
                    let lines = lines * first / all..lines * end / all;
                    let columns_per_line = self.0.columns / lines.len().max(1);
                    let mut k = 0;
                    for line in lines {
                        self.prefetch::<S>(T, line * VECTOR);
                        for _ in 0..columns_per_line {
                            self.column::<S>(k, &input, &mut sums);
                            k += 1;
                        }
                    }
                    for k in k..self.0.columns {
                        self.column::<S>(k, &input, &mut sums);
                    }
                }
            }
            for tile in 0..T {
                for row in 0..M {
                    self.0.outputs.store::<S>(sums[tile][row], row, tile);
                }
            }
        }
    }
}

impl<F: FloatFormat, const T: usize, const M: usize> Product<F, T, M> {
    /// Adds the products of a column.
    #[inline(always)]
    unsafe fn column<S: TileLanes>(&self, k: usize, input: &[*const f32; M], sums: &mut [[S::Floats; M]; T]) {
        // SAFETY: the column exists in all tiles and rows.
        unsafe {
            let column = self.0.weights.add(k * F::BYTES * TILE_ROWS);
            let mut weights = [F::load::<S>(column); T];
            for tile in 1..T {
                weights[tile] = F::load::<S>(column.add(tile * self.0.tile_step));
            }
            for row in 0..M {
                let activation = S::broadcast(input[row].add(k));
                for tile in 0..T {
                    sums[tile][row] = S::multiply_add(weights[tile], activation, sums[tile][row]);
                }
            }
        }
    }

    /// Fetches the line at `offset` of these tiles, or of the following ones where that is behind the last column.
    #[inline(always)]
    unsafe fn prefetch_from_here<S: TileLanes>(&self, offset: usize) {
        let bytes = self.0.columns * F::BYTES * TILE_ROWS;
        // SAFETY: a prefetch reads nothing.
        unsafe {
            if offset < bytes { self.prefetch::<S>(0, offset) } else { self.prefetch::<S>(T, offset - bytes) }
        }
    }

    /// Fetches the line at `offset` of the T tiles from `first` on.
    #[inline(always)]
    unsafe fn prefetch<S: TileLanes>(&self, first: usize, offset: usize) {
        for tile in first..first + T {
            let line = self.0.weights.wrapping_add(offset + tile * self.0.tile_step);
            // SAFETY: a prefetch reads nothing.
            unsafe { S::prefetch_for_later(line) }
        }
    }
}

/// Expands `columns` columns of `tiles` tiles to f32, tile after tile.
///
/// # Safety
/// `weights` points to the first of these columns in the first tile, tiles are `tile_step` bytes apart; `out` is
/// writable for `tiles · columns · 16` elements.
pub(super) struct Expand<F> {
    pub(super) weights: *const u8,
    pub(super) tile_step: usize,
    pub(super) tiles: usize,
    pub(super) columns: usize,
    pub(super) out: *mut f32,
    pub(super) format: PhantomData<F>,
}

impl<F: FloatFormat> TileKernel for Expand<F> {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        for tile in 0..self.tiles {
            for k in 0..self.columns {
                // SAFETY: within the tiles and the output that the kernel's conditions name.
                unsafe {
                    let weights = self.weights.add(tile * self.tile_step + k * F::BYTES * TILE_ROWS);
                    let out = self.out.add((tile * self.columns + k) * TILE_ROWS);
                    S::store(F::load::<S>(weights), out);
                }
            }
        }
    }
}
