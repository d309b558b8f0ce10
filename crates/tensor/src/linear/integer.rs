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

/// How many bytes of a tile ahead of their use quants are fetched into the second-level cache. The first level can wait
/// for too few lines at once to keep memory busy by itself.
pub(super) const FAR_AHEAD: usize = 3072;
/// The same for the first level.
pub(super) const NEAR_AHEAD: usize = 768;

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
    /// Record of the first block in the first panel of activations that holds the rows.
    pub(super) panel: *const u8,
    /// Panels to multiply, one after the other; more than one only in kernels of [`PANEL_ROWS`] rows.
    pub(super) panels: usize,
    /// Bytes from one panel to the next.
    pub(super) panel_step: usize,
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
        const { assert!(M <= PANEL_ROWS) }
        let Operands { panel, panels, panel_step, .. } = self.0;
        for index in 0..panels {
            // SAFETY: the panels and their outputs exist by the kernel's conditions.
            unsafe {
                let panel = Panel::<M>(panel.wrapping_add(index * panel_step));
                self.multiply::<S>(panel, &self.0.outputs.skip(index * PANEL_ROWS), self.ahead(index));
            }
        }
    }
}

/// The first record of M rows of activations.
#[derive(Clone, Copy)]
struct Panel<const M: usize>(*const u8);

impl<const M: usize> Panel<M> {
    /// Address of a row's number at `offset` of the record of `block`.
    #[inline(always)]
    fn number(self, row: usize, block: usize, offset: usize) -> *const u8 {
        self.0.wrapping_add(block * RECORD + offset + 4 * row)
    }
}

/// What is asked for while a panel is multiplied. The processor's own prefetchers do not keep up with several
/// streams of a few kilobytes each, and stand still while the tiles are used again for the next panel.
#[derive(Clone, Copy)]
enum Ahead {
    Nothing,
    /// The tiles in use (or, behind their last block, the following ones) some blocks ahead.
    InUse,
    /// Lines of the following tiles.
    Following {
        first: *const u8,
        lines_per_block: usize,
    },
}

impl<F: Format, const T: usize, const M: usize> Product<F, T, M> {
    /// The first panel finds its tiles in memory, the others share in fetching the tiles that come next.
    #[inline(always)]
    fn ahead(&self, panel: usize) -> Ahead {
        let Operands { quants, tile_step, blocks, panels, .. } = self.0;
        match panel {
            _ if !F::FROM_MEMORY => Ahead::Nothing,
            0 => Ahead::InUse,
            _ => {
                let lines = (T * tile_step / VECTOR).div_ceil(panels - 1);
                let first = quants.wrapping_add(T * tile_step + (panel - 1) * lines * VECTOR);
                Ahead::Following { first, lines_per_block: lines.div_ceil(blocks) }
            }
        }
    }

    /// # Safety
    /// As for the kernel; the panel and its outputs exist.
    #[inline(always)]
    unsafe fn multiply<S: TileLanes>(&self, panel: Panel<M>, outputs: &Outputs, ahead: Ahead) {
        // SAFETY: all addresses are within the tiles, panels and outputs that the kernel's conditions name.
        unsafe {
            let mut sums = [[S::zero(); M]; T];
            for tile in 0..T {
                for row in 0..M {
                    sums[tile][row] = outputs.load::<S>(row, tile);
                }
            }
            for block in 0..self.0.blocks {
                match ahead {
                    Ahead::Nothing => {}
                    Ahead::InUse => self.prefetch_in_use::<S>(block),
                    Ahead::Following { first, lines_per_block } => {
                        for line in block * lines_per_block..(block + 1) * lines_per_block {
                            S::prefetch_for_later(first.wrapping_add(line * VECTOR));
                        }
                    }
                }
                for part in 0..F::PARTS {
                    let dots = self.dots::<S>(panel, block, part);
                    for tile in 0..T {
                        let scales = F::scales::<S>(self.0.scales.add(tile * self.0.tile_step), block, part);
                        for row in 0..M {
                            let scale = S::broadcast(panel.number(row, block, SCALES).cast());
                            let scale = S::multiply(scales, scale);
                            sums[tile][row] =
                                S::multiply_add(S::to_floats(dots[tile][row]), scale, sums[tile][row]);
                        }
                    }
                }
                if F::MINIMUMS != Minimums::None {
                    self.add_minimums::<S>(panel, block, &mut sums);
                }
            }
            for tile in 0..T {
                for row in 0..M {
                    outputs.store::<S>(sums[tile][row], row, tile);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_minimums<S: TileLanes>(
        &self,
        panel: Panel<M>,
        block: usize,
        sums: &mut [[S::Floats; M]; T],
    ) {
        // SAFETY: all addresses are within the tiles and panels that the kernel's conditions name.
        unsafe {
            for tile in 0..T {
                let minimums = F::minimums::<S>(self.0.scales.add(tile * self.0.tile_step), block);
                for row in 0..M {
                    let sum = S::broadcast(panel.number(row, block, SCALED_SUMS).cast());
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

    #[inline(always)]
    unsafe fn prefetch_in_use<S: TileLanes>(&self, block: usize) {
        let (far, near) = (FAR_AHEAD / F::QUANTS_STEP, NEAR_AHEAD / F::QUANTS_STEP);
        let (far_block, far_tiles) = self.block_ahead(block + far);
        let (near_block, near_tiles) = self.block_ahead(block + near);
        for tile in 0..T {
            let tile = tile * self.0.tile_step;
            // SAFETY: a prefetch reads nothing.
            unsafe {
                for line in 0..F::QUANTS_STEP / VECTOR {
                    let quants = |tiles: usize, block: usize| {
                        self.0.quants.wrapping_add(tiles + tile + block * F::QUANTS_STEP + line * VECTOR)
                    };
                    S::prefetch_for_later(quants(far_tiles, far_block));
                    S::prefetch(quants(near_tiles, near_block));
                }
                let scales = far_tiles + tile + far_block * F::SCALES_STEP;
                S::prefetch_for_later(self.0.scales.wrapping_add(scales));
            }
        }
    }

    /// The block that comes `block` blocks behind the first one, in these tiles or the following ones; and how many bytes
    /// behind these tiles its tiles begin.
    #[inline(always)]
    fn block_ahead(&self, block: usize) -> (usize, usize) {
        if block < self.0.blocks { (block, 0) } else { (block - self.0.blocks, T * self.0.tile_step) }
    }

    /// The exact integer sums of one part of a block.
    #[inline(always)]
    unsafe fn dots<S: TileLanes>(&self, panel: Panel<M>, block: usize, part: usize) -> [[S::Ints; M]; T] {
        let groups = 8 / F::PARTS;
        // SAFETY: all addresses are within the tiles and panels that the kernel's conditions name.
        unsafe {
            let mut dots = [[S::zero_ints(); M]; T];
            if S::FOUR_ROWS_TOGETHER && M == 4 {
                self.dot_four_rows::<S>(panel, block, part, &mut dots);
            }
            if F::MINIMUMS == Minimums::None {
                for row in 0..M {
                    let mut sum = S::broadcast_int(panel.number(row, block, SUMS).cast());
                    if F::PARTS == 2 {
                        let first = S::broadcast_int(panel.number(row, block, FIRST_HALF_SUMS).cast());
                        sum = if part == 0 { first } else { S::subtract(sum, first) };
                    }
                    let offset = S::shift_left(sum, F::CENTRE_BITS);
                    for tile in 0..T {
                        dots[tile][row] = S::subtract(dots[tile][row], offset);
                    }
                }
            }
            if S::FOUR_ROWS_TOGETHER && M == 4 {
                return dots;
            }
            for group in part * groups..(part + 1) * groups {
                let quants = self.0.quants.add(block * F::QUANTS_STEP);
                let mut weights = [F::group::<S>(quants, group); T];
                for tile in 1..T {
                    weights[tile] = F::group::<S>(quants.add(tile * self.0.tile_step), group);
                }
                for row in 0..M {
                    let four = S::broadcast_int(panel.number(row, block, group * GROUP_BYTES).cast());
                    for tile in 0..T {
                        dots[tile][row] = S::dot(dots[tile][row], weights[tile], four, F::WIDE);
                    }
                }
            }
            dots
        }
    }

    /// The same sums, with the centre not yet subtracted, of kernels of four rows; others do nothing.
    #[inline(always)]
    unsafe fn dot_four_rows<S: TileLanes>(
        &self,
        panel: Panel<M>,
        block: usize,
        part: usize,
        dots: &mut [[S::Ints; M]; T],
    ) {
        let groups = 8 / F::PARTS;
        for tile in 0..T {
            let Some(sums) = dots[tile].as_chunks_mut::<4>().0.first_mut() else { return };
            for group in (part * groups..(part + 1) * groups).step_by(2) {
                // SAFETY: all addresses are within the tiles and panels that the kernel's conditions name.
                unsafe {
                    let quants = self.0.quants.add(tile * self.0.tile_step + block * F::QUANTS_STEP);
                    let weights = [F::group::<S>(quants, group), F::group::<S>(quants, group + 1)];
                    let first = panel.number(0, block, group * GROUP_BYTES);
                    S::dot_four_rows(sums, weights, [first, first.add(GROUP_BYTES)], F::WIDE);
                }
            }
            // SAFETY: the instruction set is there by the kernel's condition.
            *sums = unsafe { S::in_rows(*sums) };
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
