//! The same products on AMX, whose tile registers multiply numbers in bf16 and add them in f32: every number is split into three
//! of them (see [`split`]), and the six products of parts that matter in f32 are added, which is as exact as f32 and several times
//! as fast (the splitting is that of Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
//! Higher-Precision Computations", 2019).
//!
//! Each output is one chain over blocks of 32 k: for each block, six steps `sum = sum + (e + o)`, where `e` and `o` are the chains of
//! fused multiply-adds over the block's even and odd k of two parts. Missing k are zeros, which change nothing, so that the
//! chain depends on k alone: the number of rows, the blocking and the threads change no bit. Subnormal numbers are zeros.

mod split;
mod tiles;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Division, PanelProduct, Right, Scratch, Target};
use crate::ThreadTeam;
use crate::matrix::TILE_ROWS;
use split::{BLOCK, RightTiles, pack_left, pack_right};
use tiles::{BLOCK_BYTES, Factors, RIGHT_BLOCKS, RIGHT_STEP, ROWS, Registers, Sums};

/// Strips of 16 rows that go through all tiles together.
const STRIPS_TOGETHER: usize = 16;
/// Blocks of k of all strips together: 192 KiB of the second-level cache.
const BLOCKS_OF_STRIPS: usize = 64;
/// k of two tiles that are split together: 24 KiB of the first-level cache.
const STRETCH: usize = RIGHT_BLOCKS * BLOCK;

/// Computes the product.
///
/// # Safety
/// As for [`PanelProduct::run`]; the level is [`crate::SimdLevel::Amx`].
pub(super) unsafe fn run(product: &PanelProduct<'_>, team: &ThreadTeam) {
    let strips = product.rows.div_ceil(ROWS);
    let pairs = product.rights.iter().flatten().map(Right::pairs).sum();
    let division = Division::new(strips, pairs, team.width(), STRIPS_TOGETHER);
    team.run(division.parts(), &|_, part| {
        let (strips, pairs) = division.part(part);
        // SAFETY: passed on from the caller; every part has its own outputs.
        unsafe { self::part(product, strips, pairs) }
    });
}

/// # Safety
/// As for [`run`].
unsafe fn part(product: &PanelProduct<'_>, strips: Range<usize>, pairs: Range<usize>) {
    if strips.is_empty() || pairs.is_empty() {
        return;
    }
    let mut memory = Scratch::<{ BLOCKS_OF_STRIPS * BLOCK_BYTES / size_of::<f32>() }>(MaybeUninit::uninit());
    let packed = memory.0.as_mut_ptr().cast::<u8>();
    let rows = strips.start * ROWS..product.rows.min(strips.end * ROWS);
    let together = BLOCKS_OF_STRIPS / strips.len() * BLOCK;
    let mut start = 0;
    // Without any k the outputs still have to become zero.
    while start < product.depth || start == 0 {
        let depth = start..product.depth.min(start + together);
        let strip_step = depth.len().div_ceil(BLOCK) * BLOCK_BYTES;
        // SAFETY: the scratch holds the most strips and k that a part has together; the rest is passed on from the caller.
        unsafe {
            pack_left(product.left.from(rows.start, start), rows.len(), depth.len(), packed, strip_step);
            let registers = Registers::configure(rows.len().min(ROWS));
            let stretch = Stretch { product, packed, strip_step, rows: rows.clone(), depth, registers };
            stretch.run(pairs.clone());
        }
        start += together;
    }
}

/// Rows that are split for some k.
struct Stretch<'a> {
    product: &'a PanelProduct<'a>,
    packed: *const u8,
    /// Bytes from one strip to the next.
    strip_step: usize,
    rows: Range<usize>,
    depth: Range<usize>,
    registers: Registers,
}

/// Sums of strips or tiles that are not whole: `[tile][row of two strips][lane]`.
type PaddedSums = [[[f32; TILE_ROWS]; 2 * ROWS]; 2];

/// Some strips × one or two tiles over some k.
struct Block<'a> {
    factors: Factors,
    /// The sums of the first strip and tile.
    target: &'a Target,
    tiles: usize,
    /// Rows that exist, of all strips.
    rows: usize,
    /// Whether the registers have as many rows.
    is_whole: bool,
    resume: bool,
}

impl Stretch<'_> {
    /// Multiplies with all pairs of tiles.
    ///
    /// # Safety
    /// As for [`run`].
    unsafe fn run(&self, pairs: Range<usize>) {
        let mut split = Scratch::<{ 2 * RIGHT_STEP / size_of::<f32>() }>(MaybeUninit::uninit());
        let split = split.0.as_mut_ptr().cast::<u8>();
        let mut padded = [[[0.0; TILE_ROWS]; 2 * ROWS]; 2];
        let mut first = 0;
        for right in self.product.rights.iter().flatten() {
            let end = first + right.pairs();
            for pair in pairs.start.max(first)..pairs.end.min(end) {
                // SAFETY: the scratch holds two tiles of the most k that are split together; the rest is passed on.
                unsafe { self.pair(right, 2 * (pair - first), split, &mut padded) }
            }
            first = end;
        }
    }

    /// Multiplies with one or two tiles from `tile` on.
    ///
    /// # Safety
    /// As for [`run`]; `split` is writable for two tiles of [`RIGHT_BLOCKS`] blocks.
    unsafe fn pair(&self, right: &Right, tile: usize, split: *mut u8, padded: &mut PaddedSums) {
        let target = right.target.at(self.rows.start, tile);
        let tiles = target.lanes.div_ceil(TILE_ROWS).min(2);
        let &Right { start, tile_step, depth_step, .. } = right;
        // Contiguous tiles are whole.
        let lanes = if depth_step == TILE_ROWS { 2 * TILE_ROWS } else { right.lanes - tile * TILE_ROWS };
        let from = RightTiles { start: start.wrapping_add(tile * tile_step), tile_step, depth_step, lanes };
        let (mut k, mut block) = (self.depth.start, 0);
        while k < self.depth.end || k == 0 {
            let depth = (self.depth.end - k).min(STRETCH);
            let factors = Factors {
                left: [self.packed.wrapping_add(block * BLOCK_BYTES); 2],
                right: split,
                blocks: depth.div_ceil(BLOCK),
            };
            let resume = self.product.resume || k > 0;
            // SAFETY: the tiles and k exist; the rest is passed on from the caller.
            unsafe {
                pack_right(from.at(k), tiles, depth, split, RIGHT_STEP);
                let rows = self.rows.len();
                self.strips(Block { factors, target: &target, tiles, rows, is_whole: true, resume }, padded);
            }
            k += STRETCH;
            block += RIGHT_BLOCKS;
        }
    }

    /// Multiplies all strips, two at a time.
    ///
    /// # Safety
    /// As for [`run`]; the factors hold all strips.
    unsafe fn strips(&self, all: Block<'_>, padded: &mut PaddedSums) {
        let is_short = self.rows.len() < ROWS;
        let mut row = 0;
        while row < all.rows {
            let left = all.rows - row;
            let rows = if left >= 2 * ROWS { 2 * ROWS } else { left.min(ROWS) };
            let strip = all.factors.left[0].wrapping_add(row / ROWS * self.strip_step);
            let block = Block {
                factors: Factors { left: [strip, strip.wrapping_add(self.strip_step)], ..all.factors },
                target: &all.target.at(row, 0),
                rows,
                is_whole: is_short || rows.is_multiple_of(ROWS),
                ..all
            };
            // SAFETY: passed on from the caller.
            unsafe { self.block(&block, padded) }
            row += rows;
        }
    }

    /// One or two strips × one or two tiles. Sums of strips or tiles that are not whole are computed in memory of their own, and
    /// those that exist are copied.
    ///
    /// # Safety
    /// As for [`run`]; the factors hold the block.
    unsafe fn block(&self, block: &Block<'_>, padded: &mut PaddedSums) {
        let &Block { factors, target, tiles, rows, is_whole, resume } = block;
        let mut sums = Sums { start: [[std::ptr::null_mut(); 2]; 2], row_bytes: [0; 2] };
        let lanes_of =
            |tile: usize| if tile < tiles { (target.lanes - tile * TILE_ROWS).min(TILE_ROWS) } else { 0 };
        for (tile, padded) in padded.iter_mut().enumerate() {
            let lanes = lanes_of(tile);
            let at = target.start.wrapping_add(tile * target.tile_step);
            let (start, step) = if is_whole && lanes == TILE_ROWS {
                (at, target.row_step)
            } else {
                if resume {
                    for (row, padded) in padded[..rows].iter_mut().enumerate() {
                        // SAFETY: the row and the lanes exist.
                        unsafe {
                            padded.as_mut_ptr().copy_from_nonoverlapping(at.add(row * target.row_step), lanes)
                        };
                    }
                }
                (padded.as_mut_ptr().cast(), TILE_ROWS)
            };
            for strip in 0..2 {
                sums.start[strip][tile] = start.wrapping_add(strip * ROWS * step);
            }
            sums.row_bytes[tile] = step * size_of::<f32>();
        }
        // SAFETY: the factors hold the block, and the sums are the outputs' or the padded ones.
        unsafe {
            if rows > ROWS {
                self.registers.multiply_two(factors, &sums, resume);
            } else {
                self.registers.multiply_one(factors, &sums, resume);
            }
        }
        for (tile, padded) in padded.iter().enumerate() {
            let lanes = lanes_of(tile);
            if is_whole && lanes == TILE_ROWS {
                continue;
            }
            let at = target.start.wrapping_add(tile * target.tile_step);
            for (row, padded) in padded[..rows].iter().enumerate() {
                // SAFETY: the row and the lanes exist.
                unsafe { at.add(row * target.row_step).copy_from_nonoverlapping(padded.as_ptr(), lanes) };
            }
        }
    }
}
