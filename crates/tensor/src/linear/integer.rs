//! The integer kernels: quantised weights × activations in 8 bits.
//!
//! For each output, block after block: `i = Σ q_w·q_a` over the block's 32 columns (exact; for centred types
//! minus 2^(bits − 1)·Σ q_a), then `sum = fma(f32(i), d_w·d_a, sum)`, then for types with minimums
//! `sum = fma(±m_w, d_a·Σ q_a, sum)`. Where a half block has its own scale, the two halves come one after the
//! other. A lane is an output, so the sequence is the same for any number of rows, tiles and threads.

#![allow(clippy::needless_range_loop, reason = "loops over tiles and rows index several arrays alike")]

use super::activations::{FIRST_HALF_SUMS, GROUP_BYTES, PANEL_ROWS, RECORD, SCALED_SUMS, SCALES, SUMS};
use super::formats::{Expanded, Format, Minimums};
use super::lanes::{Blocking, TileKernel, TileLanes};
use super::outputs::Outputs;
use crate::matrix::VECTOR;
use std::marker::PhantomData;

/// How far ahead of its use a block is asked for.
const BLOCKS_AHEAD: usize = 6;

/// Where a product of some tiles and rows reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// First block of the first tile.
    pub(super) quants: *const u8,
    /// Its first scale record.
    pub(super) scales: *const u8,
    /// Bytes from one tile to the next.
    pub(super) tile_step: usize,
    /// Blocks to multiply.
    pub(super) blocks: usize,
    /// Record of the first block in the panel of activations that holds the rows.
    pub(super) panel: *const u8,
    /// Where the sums go.
    pub(super) outputs: Outputs,
}

/// `tiles` tiles × up to `rows` rows, in the register blocking of the instruction set.
///
/// # Safety
/// The operands' tiles, blocks, panel and outputs exist, and the outputs belong to the caller.
/// `(tiles, rows)` is a pair that [`step`] returns.
pub(super) struct AnyProduct<F> {
    pub(super) tiles: usize,
    pub(super) rows: usize,
    pub(super) operands: Operands,
    pub(super) format: PhantomData<F>,
}

impl<F: Format> TileKernel for AnyProduct<F> {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        // SAFETY: the conditions are the same.
        unsafe {
            match (self.tiles, self.rows, S::BLOCKING) {
                (4, 1, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 4, 1>(self.operands, PhantomData)),
                (4, 2, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 4, 2>(self.operands, PhantomData)),
                (3, 4, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 3, 4>(self.operands, PhantomData)),
                (2, 1, _) => S::enter(Product::<F, 2, 1>(self.operands, PhantomData)),
                (2, 2, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 2, 2>(self.operands, PhantomData)),
                (2, 4, Blocking::ThirtyTwoFull) => S::enter(Product::<F, 2, 4>(self.operands, PhantomData)),
                (1, 1, _) => S::enter(Product::<F, 1, 1>(self.operands, PhantomData)),
                (1, 2, _) => S::enter(Product::<F, 1, 2>(self.operands, PhantomData)),
                (1, 4, _) => S::enter(Product::<F, 1, 4>(self.operands, PhantomData)),
                (tiles, rows, _) => unreachable!("no kernel for {tiles} tiles and {rows} rows"),
            }
        }
    }
}

/// How many of `tiles` tiles and `rows` rows the next kernel call takes: the largest blocking that fits. Up to
/// four rows are taken at once; a kernel for four also serves three.
pub(super) fn step(blocking: Blocking, tiles: usize, rows: usize) -> (usize, usize) {
    let rows = if rows > 2 { 4 } else { rows };
    let most = match (blocking, rows) {
        (Blocking::ThirtyTwoFull, 4) => 3,
        (Blocking::ThirtyTwoFull, _) => 4,
        (Blocking::SixteenHalf, 1) => 2,
        _ => 1,
    };
    // Kernels exist for 4, 3 (four rows only), 2 and 1 tiles.
    let tiles = match tiles.min(most) {
        3 if rows < 4 => 2,
        tiles => tiles,
    };
    (tiles, rows)
}

/// T tiles × M rows.
///
/// # Safety
/// The operands' tiles, blocks, panel and outputs exist, and the outputs belong to the caller.
struct Product<F, const T: usize, const M: usize>(Operands, PhantomData<F>);

impl<F: Format, const T: usize, const M: usize> TileKernel for Product<F, T, M> {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        // SAFETY: all addresses are within the tiles, panels and outputs that the kernel's conditions name.
        unsafe {
            let mut sums = [[S::zero(); M]; T];
            for tile in 0..T {
                for row in 0..M {
                    sums[tile][row] = self.0.outputs.load::<S>(row, tile);
                }
            }
            for block in 0..self.0.blocks {
                if F::FROM_MEMORY {
                    self.prefetch::<S>(block);
                }
                for part in 0..F::PARTS {
                    let dots = self.dots::<S>(block, part);
                    for tile in 0..T {
                        let scales = F::scales::<S>(self.0.scales.add(tile * self.0.tile_step), block, part);
                        for row in 0..M {
                            let scale =
                                S::multiply(scales, S::broadcast(self.number(row, block, SCALES).cast()));
                            sums[tile][row] =
                                S::multiply_add(S::to_floats(dots[tile][row]), scale, sums[tile][row]);
                        }
                    }
                }
                if F::MINIMUMS != Minimums::None {
                    for tile in 0..T {
                        let minimums = F::minimums::<S>(self.0.scales.add(tile * self.0.tile_step), block);
                        for row in 0..M {
                            let sum = S::broadcast(self.number(row, block, SCALED_SUMS).cast());
                            let accumulate = if F::MINIMUMS == Minimums::Added {
                                S::multiply_add
                            } else {
                                S::negative_multiply_add
                            };
                            sums[tile][row] = accumulate(minimums, sum, sums[tile][row]);
                        }
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

impl<F: Format, const T: usize, const M: usize> Product<F, T, M> {
    /// Address of a row's number at `offset` of the record of `block`.
    #[inline(always)]
    unsafe fn number(&self, row: usize, block: usize, offset: usize) -> *const u8 {
        const { assert!(M <= PANEL_ROWS) }
        // SAFETY: within the panel by the kernel's conditions.
        unsafe { self.0.panel.add(block * RECORD + offset + 4 * row) }
    }

    /// Asks for the quants that the kernel, or its next call on the following tiles, needs some blocks later. The
    /// processor's own prefetchers do not keep up with several streams of a few kilobytes each.
    #[inline(always)]
    unsafe fn prefetch<S: TileLanes>(&self, block: usize) {
        let (mut block, mut first) = (block + BLOCKS_AHEAD, self.0.quants);
        if block >= self.0.blocks {
            block -= self.0.blocks;
            first = first.wrapping_add(T * self.0.tile_step);
        }
        for tile in 0..T {
            for line in 0..F::QUANTS_STEP / VECTOR {
                let offset = tile * self.0.tile_step + block * F::QUANTS_STEP + line * VECTOR;
                // SAFETY: a prefetch reads nothing.
                unsafe { S::prefetch(first.wrapping_add(offset)) }
            }
        }
    }

    /// The exact integer sums of one part of a block.
    #[inline(always)]
    unsafe fn dots<S: TileLanes>(&self, block: usize, part: usize) -> [[S::Ints; M]; T] {
        let groups = 8 / F::PARTS;
        // SAFETY: all addresses are within the tiles and panels that the kernel's conditions name.
        unsafe {
            let mut dots = [[S::zero_ints(); M]; T];
            if F::MINIMUMS == Minimums::None {
                for row in 0..M {
                    let mut sum = S::broadcast_int(self.number(row, block, SUMS).cast());
                    if F::PARTS == 2 {
                        let first = S::broadcast_int(self.number(row, block, FIRST_HALF_SUMS).cast());
                        sum = if part == 0 { first } else { S::subtract(sum, first) };
                    }
                    let offset = S::subtract(S::zero_ints(), S::shift_left(sum, F::CENTRE_BITS));
                    for tile in 0..T {
                        dots[tile][row] = offset;
                    }
                }
            }
            for group in part * groups..(part + 1) * groups {
                let quants = self.0.quants.add(block * F::QUANTS_STEP);
                let mut weights = [F::group::<S>(quants, group); T];
                for tile in 1..T {
                    weights[tile] = F::group::<S>(quants.add(tile * self.0.tile_step), group);
                }
                for row in 0..M {
                    let four = S::broadcast_int(self.number(row, block, group * GROUP_BYTES).cast());
                    for tile in 0..T {
                        dots[tile][row] = S::dot(dots[tile][row], weights[tile], four, F::WIDE);
                    }
                }
            }
            dots
        }
    }
}

/// Expands blocks of `tiles` tiles into records of [`Expanded<F>`], tile after tile.
///
/// # Safety
/// `quants` and `scales` point to the quants and scale records of the first tile; tiles are `tile_step` bytes
/// apart and have the blocks; `records` is writable for all of them.
pub(super) struct Expand<F> {
    pub(super) quants: *const u8,
    pub(super) scales: *const u8,
    pub(super) tile_step: usize,
    pub(super) tiles: usize,
    pub(super) blocks: std::ops::Range<usize>,
    pub(super) records: *mut u8,
    pub(super) format: PhantomData<F>,
}

impl<F: Format> TileKernel for Expand<F> {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        for tile in 0..self.tiles {
            for (i, block) in self.blocks.clone().enumerate() {
                // SAFETY: within the tiles and records that the kernel's conditions name.
                unsafe {
                    let record = self.records.add((tile * self.blocks.len() + i) * Expanded::<F>::RECORD);
                    let step = tile * self.tile_step;
                    Expanded::<F>::expand::<S>(self.quants.add(step), self.scales.add(step), block, record);
                }
            }
        }
    }
}
