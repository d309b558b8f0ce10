//! The integer kernel on AMX, for many rows: a tile register product gives the exact integer sums of a part of a block for 16 rows × 16
//! outputs at once, and what follows is the sequence of operations that `integer.rs` states, so that the bits are those of every
//! other level.
//!
//! Rows are in strips of 16 (see `activations.rs`). A tile is expanded some blocks at a time, quants as signed bytes around the centre of
//! centred types, and multiplied with every strip while it is in the first-level cache.

#![allow(clippy::needless_range_loop, reason = "loops over rows index several arrays alike")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::activations::{STRIP_RECORD, STRIP_ROWS, STRIP_SCALED_SUMS, STRIP_SCALES};
use super::formats::{Expanded, Format, Minimums};
use super::lanes::{Avx512, TileLanes};
use super::outputs::Outputs;
use super::tile_registers::{RegisterShape, TileRegisters};
use crate::matrix::{EIGHT_BITS_BYTES, TILE_ROWS, VECTOR};

/// Blocks that are expanded together: with two parts and minimums 22 KiB of the first-level cache.
const BLOCKS_TOGETHER: usize = 32;
/// Most bytes of an expanded block: quants, two scales, minimums.
const MOST_RECORD: usize = EIGHT_BITS_BYTES + 3 * VECTOR;
/// Parts whose integer sums are under way while those of an earlier one are used: a product takes a hundred cycles, and what is
/// done with its sums thirty.
const LEAD: usize = 2;
/// Columns of a block.
const BLOCK: usize = 32;

/// One tile × some rows.
#[derive(Clone, Copy)]
pub(super) struct TileProduct<F> {
    /// First block of the tile.
    pub(super) quants: *const u8,
    /// Its first scale record.
    pub(super) scales: *const u8,
    /// Bytes to the next tile, which is fetched meanwhile.
    pub(super) tile_step: usize,
    /// Blocks of the tile.
    pub(super) blocks: usize,
    /// First record of the strip of the first row.
    pub(super) strips: *const u8,
    /// Bytes from one strip to the next.
    pub(super) strip_step: usize,
    /// Where the sums go; its rows begin with those of the first strip.
    pub(super) outputs: Outputs,
    pub(super) format: PhantomData<F>,
}

/// The registers of this kernel: 0 to 3 for sums, 4 and 5 for rows, 6 and 7 for weights.
pub(super) struct Registers(#[allow(dead_code, reason = "configured as long as it lives")] TileRegisters);

impl Registers {
    /// For parts of `columns` columns.
    ///
    /// # Safety
    /// As for [`TileRegisters::configure`].
    pub(super) unsafe fn configure(columns: usize) -> Registers {
        let sums = RegisterShape { rows: STRIP_ROWS, row_bytes: VECTOR };
        let rows = RegisterShape { rows: STRIP_ROWS, row_bytes: columns };
        let weights = RegisterShape { rows: columns / 4, row_bytes: VECTOR };
        // SAFETY: passed on from the caller.
        Registers(unsafe { TileRegisters::configure([sums, sums, sums, sums, rows, rows, weights, weights]) })
    }
}

/// Sums of a part of a block, from registers for rows and for weights, through a register into memory.
macro_rules! part {
    ($sum:literal, $row:literal, $weight:literal, $rows:expr, $weights:expr, $sums:expr) => {
        asm!(
            concat!("tilezero ", $sum),
            concat!("tileloadd ", $row, ", [{rows} + {row_step}*1]"),
            concat!("tileloadd ", $weight, ", [{weights} + {vector}*1]"),
            concat!("tdpbssd ", $sum, ", ", $row, ", ", $weight),
            concat!("tilestored [{sums} + {vector}*1], ", $sum),
            rows = in(reg) $rows,
            row_step = in(reg) BLOCK,
            weights = in(reg) $weights,
            vector = in(reg) VECTOR,
            sums = in(reg) $sums,
            options(nostack, preserves_flags),
        )
    };
}

#[repr(align(64))]
struct Records(MaybeUninit<[u8; BLOCKS_TOGETHER * MOST_RECORD]>);

/// Integer sums of a strip, `[row][lane]`, of some parts that follow each other.
#[repr(align(64))]
struct Dots(MaybeUninit<[[[i32; TILE_ROWS]; STRIP_ROWS]; 2 * LEAD]>);

impl Dots {
    /// Row 0 of part `number`.
    #[inline(always)]
    fn of(&mut self, number: usize) -> *mut [i32; TILE_ROWS] {
        self.0.as_mut_ptr().cast::<[i32; TILE_ROWS]>().wrapping_add(number % (2 * LEAD) * STRIP_ROWS)
    }
}

impl<F: Format> TileProduct<F> {
    /// Columns of a part of a block.
    pub(super) const PART_COLUMNS: usize = BLOCK / F::PARTS;
    /// Bytes of an expanded block.
    const RECORD: usize = Expanded::<F>::RECORD;

    /// Computes the product.
    ///
    /// # Safety
    /// The level is [`crate::SimdLevel::Amx`]; the tile, strips and outputs exist, and the outputs belong to the caller. The registers
    /// are configured for [`Self::PART_COLUMNS`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn run(&self, registers: &Registers) {
        let mut records = Records(MaybeUninit::uninit());
        let records = records.0.as_mut_ptr().cast::<u8>();
        for start in (0..self.blocks).step_by(BLOCKS_TOGETHER) {
            let blocks = start..self.blocks.min(start + BLOCKS_TOGETHER);
            // SAFETY: passed on from the caller; the records hold the most blocks that are expanded together.
            unsafe {
                self.expand(blocks.clone(), records);
                let mut row = 0;
                while row < self.outputs.rows {
                    let strip = self.strips.add(row / STRIP_ROWS * self.strip_step + start * STRIP_RECORD);
                    let outputs =
                        Outputs { resume: self.outputs.resume || start > 0, ..self.outputs.skip(row) };
                    let ahead = row == 0;
                    match outputs.rows {
                        0..=4 => self.strip::<4>(registers, records, strip, blocks.clone(), &outputs, ahead),
                        5..=8 => self.strip::<8>(registers, records, strip, blocks.clone(), &outputs, ahead),
                        9..=12 => {
                            self.strip::<12>(registers, records, strip, blocks.clone(), &outputs, ahead)
                        }
                        _ => self.strip::<16>(registers, records, strip, blocks.clone(), &outputs, ahead),
                    }
                    row += STRIP_ROWS;
                }
            }
        }
    }

    /// Expands blocks: quants as signed bytes, scales and minimums as f32.
    #[inline(always)]
    unsafe fn expand(&self, blocks: Range<usize>, records: *mut u8) {
        let centre = if F::MINIMUMS == Minimums::None { 1_i32 << F::CENTRE_BITS } else { 0 };
        for (index, block) in blocks.enumerate() {
            // SAFETY: within the tile and the records.
            unsafe {
                let record = records.add(index * Self::RECORD);
                let centre = _mm512_set1_epi8(centre as u8 as i8);
                for group in 0..8 {
                    let words = F::group::<Avx512>(self.quants.add(block * F::QUANTS_STEP), group);
                    _mm512_store_si512(record.add(group * VECTOR).cast(), _mm512_sub_epi8(words, centre));
                }
                Expanded::<F>::expand_scales::<Avx512>(self.scales, block, record);
            }
        }
    }

    /// Multiplies expanded blocks with M rows of a strip.
    #[inline(always)]
    unsafe fn strip<const M: usize>(
        &self,
        registers: &Registers,
        records: *const u8,
        strip: *const u8,
        blocks: Range<usize>,
        outputs: &Outputs,
        ahead: bool,
    ) {
        let mut dots = Dots(MaybeUninit::uninit());
        let parts = blocks.len() * F::PARTS;
        // SAFETY: within the records, the strip and the outputs.
        unsafe {
            let mut sums = [Avx512::zero(); M];
            for row in 0..M {
                sums[row] = outputs.load::<Avx512>(row, 0);
            }
            for number in 0..parts.min(LEAD) {
                Self::dots(registers, records, strip, number, &mut dots);
            }
            for index in 0..blocks.len() {
                let row_record = strip.add(index * STRIP_RECORD);
                if ahead {
                    self.fetch_ahead(blocks.start + index);
                }
                for part in 0..F::PARTS {
                    let number = index * F::PARTS + part;
                    if number + LEAD < parts {
                        Self::dots(registers, records, strip, number + LEAD, &mut dots);
                    }
                    let scales = Expanded::<F>::scales::<Avx512>(records, index, part);
                    for row in 0..M {
                        let dot = _mm512_load_si512(dots.of(number).add(row).cast());
                        let scale = Avx512::broadcast(row_record.add(STRIP_SCALES + 4 * row).cast());
                        let scale = Avx512::multiply(scales, scale);
                        sums[row] = Avx512::multiply_add(Avx512::to_floats(dot), scale, sums[row]);
                    }
                }
                if F::MINIMUMS != Minimums::None {
                    let minimums = Expanded::<F>::minimums::<Avx512>(records, index);
                    for row in 0..M {
                        let sum = Avx512::broadcast(row_record.add(STRIP_SCALED_SUMS + 4 * row).cast());
                        sums[row] = if F::MINIMUMS == Minimums::Added {
                            Avx512::multiply_add(minimums, sum, sums[row])
                        } else {
                            Avx512::negative_multiply_add(minimums, sum, sums[row])
                        };
                    }
                }
            }
            for row in 0..M {
                outputs.store::<Avx512>(sums[row], row, 0);
            }
        }
    }

    /// The integer sums of part `number`, counted over the expanded blocks, of 16 rows.
    #[inline(always)]
    unsafe fn dots(_: &Registers, records: *const u8, strip: *const u8, number: usize, dots: &mut Dots) {
        let (block, part) = (number / F::PARTS, number % F::PARTS);
        // SAFETY: within the records and the strip; the registers are configured for a part.
        unsafe {
            let weights = records.add(block * Self::RECORD + part * Self::PART_COLUMNS / 4 * VECTOR);
            let rows = strip.add(block * STRIP_RECORD + part * Self::PART_COLUMNS);
            let sums = dots.of(number);
            match number % 4 {
                0 => part!("tmm0", "tmm4", "tmm6", rows, weights, sums),
                1 => part!("tmm1", "tmm5", "tmm7", rows, weights, sums),
                2 => part!("tmm2", "tmm4", "tmm6", rows, weights, sums),
                _ => part!("tmm3", "tmm5", "tmm7", rows, weights, sums),
            }
        }
    }

    /// Fetches block `block` of the next tile into the second-level cache.
    #[inline(always)]
    unsafe fn fetch_ahead(&self, block: usize) {
        let quants = self.quants.wrapping_add(self.tile_step + block * F::QUANTS_STEP);
        // SAFETY: a prefetch reads nothing.
        unsafe {
            for line in 0..F::QUANTS_STEP / VECTOR {
                Avx512::prefetch_for_later(quants.wrapping_add(line * VECTOR));
            }
            Avx512::prefetch_for_later(self.scales.wrapping_add(self.tile_step + block * F::SCALES_STEP));
        }
    }
}
