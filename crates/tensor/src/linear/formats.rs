//! How the integer kernel reads a block of weights: one small type for each way to store quants and one for each
//! way to store scales; a quantised type is a pair of them. Offsets are those of `matrix/layout.rs`. Knows
//! neither activations nor threads.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each method states its condition: pointers into a tile"
)]

use super::lanes::TileLanes;
use crate::dequantise::{FOUR_BIT_FLOATS, NON_LINEAR};
use crate::matrix::*;
use std::marker::PhantomData;

/// The quants of a block of 32 columns × 16 rows, as unsigned bytes.
pub(super) trait Quants: 'static {
    /// Bits of a quant.
    const BITS: u32;
    /// Bytes of a block.
    const BYTES: usize;
    /// See [`Format::ROWS_WORTH_EXPANDING`].
    const ROWS_WORTH_EXPANDING: usize;
    /// See [`Format::ROWS_WORTH_EXPANDING_WITH_AMX`].
    const ROWS_WORTH_EXPANDING_WITH_AMX: usize = Self::ROWS_WORTH_EXPANDING;
    /// The four columns of `group` (0–7), four bytes for each row. `block` points to a block.
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words;
}

/// The scales of a block. `records` points to the first scale record of a tile.
pub(super) trait Scales: 'static {
    /// Parts of a block that have a scale of their own: 1, or 2 halves of 16 columns.
    const PARTS: usize;
    /// Whether there are minimums, and with which sign they enter; types without any are centred.
    const MINIMUMS: Minimums;
    /// Bytes of a block's scales; an average where several blocks share a record.
    const BYTES: usize;
    /// The 16 scales of part `part` of block `block`.
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, part: usize) -> S::Floats;
    /// The 16 minimums of block `block`; not called when there are none.
    unsafe fn minimums<S: TileLanes>(records: *const u8, block: usize) -> S::Floats;
}

/// How minimums enter a weight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Minimums {
    /// `d·(q − 2^(bits − 1))`.
    None,
    /// `d·q + m`.
    Added,
    /// `d·q − m`.
    Subtracted,
}

/// All that the integer kernel knows of a block format.
pub(super) trait Format: 'static {
    /// See [`Scales::PARTS`].
    const PARTS: usize;
    /// See [`Scales::MINIMUMS`].
    const MINIMUMS: Minimums;
    /// Base-2 logarithm of what is subtracted from the quants of a centred format.
    const CENTRE_BITS: u32;
    /// Whether quants exceed 127.
    const WIDE: bool;
    /// Bytes from the quants of one block to those of the next.
    const QUANTS_STEP: usize;
    /// Bytes from the scales of one block to those of the next; an average where several blocks share a record.
    const SCALES_STEP: usize;
    /// Whether blocks come from memory rather than from a cache.
    const FROM_MEMORY: bool;
    /// From this many rows on, tiles are expanded once instead of being unpacked for every four rows. Measured:
    /// 4-bit quants are unpacked by units that the products leave idle, so expanding them never pays.
    const ROWS_WORTH_EXPANDING: usize;
    /// The same on processors with AMX, which unpack with the units that compute the products.
    const ROWS_WORTH_EXPANDING_WITH_AMX: usize;
    /// See [`Quants::group`].
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words;
    /// See [`Scales::scales`].
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, part: usize) -> S::Floats;
    /// See [`Scales::minimums`].
    unsafe fn minimums<S: TileLanes>(records: *const u8, block: usize) -> S::Floats;
}

/// A packed quantised type.
pub(super) struct Packed<Q, C>(PhantomData<(Q, C)>);

impl<Q: Quants, C: Scales> Format for Packed<Q, C> {
    const PARTS: usize = C::PARTS;
    const MINIMUMS: Minimums = C::MINIMUMS;
    const CENTRE_BITS: u32 = Q::BITS - 1;
    const WIDE: bool = Q::BITS > 7;
    const QUANTS_STEP: usize = Q::BYTES;
    const SCALES_STEP: usize = C::BYTES;
    const FROM_MEMORY: bool = true;
    const ROWS_WORTH_EXPANDING: usize = Q::ROWS_WORTH_EXPANDING;
    const ROWS_WORTH_EXPANDING_WITH_AMX: usize = Q::ROWS_WORTH_EXPANDING_WITH_AMX;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        unsafe { Q::group::<S>(block, group) }
    }

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, part: usize) -> S::Floats {
        unsafe { C::scales::<S>(records, block, part) }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(records: *const u8, block: usize) -> S::Floats {
        unsafe { C::minimums::<S>(records, block) }
    }
}

/// Blocks of `F` after expansion: quants as bytes, scales and minimums as f32, in one record per block.
pub(super) struct Expanded<F>(PhantomData<F>);

impl<F: Format> Expanded<F> {
    const SCALES: usize = EIGHT_BITS_BYTES;
    const MINIMUMS_AT: usize = Self::SCALES + F::PARTS * VECTOR;
    /// Bytes of a record.
    pub(super) const RECORD: usize =
        Self::MINIMUMS_AT + if matches!(F::MINIMUMS, Minimums::None) { 0 } else { VECTOR };

    /// Expands block `block` of a tile of `F` into `record`.
    ///
    /// # Safety
    /// `quants` and `records` point to the quants and scales of a tile that has the block; `record` is writable
    /// for [`Expanded::RECORD`] bytes.
    #[inline(always)]
    pub(super) unsafe fn expand<S: TileLanes>(
        quants: *const u8,
        records: *const u8,
        block: usize,
        record: *mut u8,
    ) {
        unsafe {
            for group in 0..8 {
                let words = F::group::<S>(quants.add(block * F::QUANTS_STEP), group);
                S::store_words(words, record.add(group * VECTOR));
            }
            Self::expand_scales::<S>(records, block, record);
        }
    }

    /// Expands the scales and minimums of block `block` alone.
    ///
    /// # Safety
    /// As for [`Expanded::expand`].
    #[inline(always)]
    pub(super) unsafe fn expand_scales<S: TileLanes>(records: *const u8, block: usize, record: *mut u8) {
        unsafe {
            for part in 0..F::PARTS {
                let scales = F::scales::<S>(records, block, part);
                S::store(scales, record.add(Self::SCALES + part * VECTOR).cast());
            }
            if F::MINIMUMS != Minimums::None {
                S::store(F::minimums::<S>(records, block), record.add(Self::MINIMUMS_AT).cast());
            }
        }
    }
}

impl<F: Format> Format for Expanded<F> {
    const PARTS: usize = F::PARTS;
    const MINIMUMS: Minimums = F::MINIMUMS;
    const CENTRE_BITS: u32 = F::CENTRE_BITS;
    const WIDE: bool = F::WIDE;
    const QUANTS_STEP: usize = Self::RECORD;
    const SCALES_STEP: usize = Self::RECORD;
    const FROM_MEMORY: bool = false;
    const ROWS_WORTH_EXPANDING: usize = usize::MAX;
    const ROWS_WORTH_EXPANDING_WITH_AMX: usize = usize::MAX;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        unsafe { S::load_words(block.add(group * VECTOR)) }
    }

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, part: usize) -> S::Floats {
        unsafe { S::load(records.add(block * Self::RECORD + Self::SCALES + part * VECTOR).cast()) }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(records: *const u8, block: usize) -> S::Floats {
        unsafe { S::load(records.add(block * Self::RECORD + Self::MINIMUMS_AT).cast()) }
    }
}

/// 4 bits.
pub(super) struct Nibbles;
/// 4 bits and a fifth.
pub(super) struct FiveBits;
/// 4 bits and a pair.
pub(super) struct SixBits;
/// 8 bits.
pub(super) struct EightBits;
/// 4 bits that number the values of IQ4_NL's table.
pub(super) struct NonLinear;
/// 4 bits that number the values of MXFP4's table.
pub(super) struct FourBitFloats;

/// A table as unsigned bytes, around `centre`.
const fn around(centre: i16, table: [i8; 16]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < 16 {
        bytes[i] = (table[i] as i16 + centre) as u8;
        i += 1;
    }
    bytes
}

impl Quants for Nibbles {
    const BITS: u32 = 4;
    const BYTES: usize = NIBBLES_BYTES;
    const ROWS_WORTH_EXPANDING: usize = usize::MAX;
    const ROWS_WORTH_EXPANDING_WITH_AMX: usize = 48;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        unsafe {
            let both = S::load_words(block.add(group % 4 * VECTOR));
            S::bits(both, if group < 4 { 0 } else { 4 }, 0x0F)
        }
    }
}

impl Quants for FiveBits {
    const BITS: u32 = 5;
    const BYTES: usize = FIVE_BITS_BYTES;
    const ROWS_WORTH_EXPANDING: usize = 48;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        unsafe {
            let fifths = S::load_words(block.add(NIBBLES_BYTES));
            let fifth = S::bits(fifths, group as i32 - 4, 0x10);
            S::or(Nibbles::group::<S>(block, group), fifth)
        }
    }
}

impl Quants for SixBits {
    const BITS: u32 = 6;
    const BYTES: usize = SIX_BITS_BYTES;
    const ROWS_WORTH_EXPANDING: usize = 32;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        unsafe {
            let pairs = S::load_words(block.add(NIBBLES_BYTES + group / 4 * VECTOR));
            let pair = S::bits(pairs, 2 * (group % 4) as i32 - 4, 0x30);
            S::or(Nibbles::group::<S>(block, group), pair)
        }
    }
}

impl Quants for EightBits {
    const BITS: u32 = 8;
    const BYTES: usize = EIGHT_BITS_BYTES;
    const ROWS_WORTH_EXPANDING: usize = usize::MAX;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        unsafe { S::load_words(block.add(group * VECTOR)) }
    }
}

impl Quants for NonLinear {
    const BITS: u32 = 8;
    const BYTES: usize = NIBBLES_BYTES;
    const ROWS_WORTH_EXPANDING: usize = 48;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        const TABLE: [u8; 16] = around(128, NON_LINEAR);
        unsafe { S::look_up(&TABLE, Nibbles::group::<S>(block, group)) }
    }
}

impl Quants for FourBitFloats {
    const BITS: u32 = 5;
    const BYTES: usize = NIBBLES_BYTES;
    const ROWS_WORTH_EXPANDING: usize = 48;

    #[inline(always)]
    unsafe fn group<S: TileLanes>(block: *const u8, group: usize) -> S::Words {
        const TABLE: [u8; 16] = around(16, FOUR_BIT_FLOATS);
        unsafe { S::look_up(&TABLE, Nibbles::group::<S>(block, group)) }
    }
}

/// An f16 scale per block.
pub(super) struct Centred;
/// An f16 scale and an f16 minimum per block.
pub(super) struct WithMinimum;
/// A small scale and a small minimum per block, times f16 numbers per eight blocks.
pub(super) struct SuperScaled;
/// A small signed scale per half block, times an f16 number per eight blocks.
pub(super) struct Sixteenths;
/// A small signed scale per block, times an f16 number per eight blocks.
pub(super) struct SignedScaled;
/// An f32 scale per block.
pub(super) struct FloatScaled;

/// Offset of the f16 scales of scales in a record of eight blocks.
const SUPERS: usize = SUPER_BLOCKS * 2 * TILE_ROWS;

impl Scales for Centred {
    const PARTS: usize = 1;
    const MINIMUMS: Minimums = Minimums::None;
    const BYTES: usize = SCALE_RECORD;

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, _part: usize) -> S::Floats {
        unsafe { S::load_f16(records.add(block * SCALE_RECORD)) }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(_records: *const u8, _block: usize) -> S::Floats {
        unsafe { S::zero() }
    }
}

impl Scales for WithMinimum {
    const PARTS: usize = 1;
    const MINIMUMS: Minimums = Minimums::Added;
    const BYTES: usize = MINIMUM_RECORD;

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, _part: usize) -> S::Floats {
        unsafe { S::load_f16(records.add(block * MINIMUM_RECORD)) }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(records: *const u8, block: usize) -> S::Floats {
        unsafe { S::load_f16(records.add(block * MINIMUM_RECORD + SCALE_RECORD)) }
    }
}

impl Scales for SuperScaled {
    const PARTS: usize = 1;
    const MINIMUMS: Minimums = Minimums::Subtracted;
    const BYTES: usize = SUPER_RECORD / SUPER_BLOCKS;

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, _part: usize) -> S::Floats {
        unsafe {
            let record = records.add(block / SUPER_BLOCKS * SUPER_RECORD);
            let small = S::load_u8(record.add(block % SUPER_BLOCKS * 2 * TILE_ROWS));
            S::multiply(S::load_f16(record.add(SUPERS)), small)
        }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(records: *const u8, block: usize) -> S::Floats {
        unsafe {
            let record = records.add(block / SUPER_BLOCKS * SUPER_RECORD);
            let small = S::load_u8(record.add(block % SUPER_BLOCKS * 2 * TILE_ROWS + TILE_ROWS));
            S::multiply(S::load_f16(record.add(SUPERS + SCALE_RECORD)), small)
        }
    }
}

impl Scales for Sixteenths {
    const PARTS: usize = 2;
    const MINIMUMS: Minimums = Minimums::None;
    const BYTES: usize = SIXTEENTHS_RECORD / SUPER_BLOCKS;

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, part: usize) -> S::Floats {
        unsafe {
            let record = records.add(block / SUPER_BLOCKS * SIXTEENTHS_RECORD);
            let small = S::load_i8(record.add((block % SUPER_BLOCKS * 2 + part) * TILE_ROWS));
            S::multiply(S::load_f16(record.add(SUPERS)), small)
        }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(_records: *const u8, _block: usize) -> S::Floats {
        unsafe { S::zero() }
    }
}

impl Scales for SignedScaled {
    const PARTS: usize = 1;
    const MINIMUMS: Minimums = Minimums::None;
    const BYTES: usize = SIGNED_RECORD / SUPER_BLOCKS;

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, _part: usize) -> S::Floats {
        unsafe {
            let record = records.add(block / SUPER_BLOCKS * SIGNED_RECORD);
            let small = S::load_i8(record.add(block % SUPER_BLOCKS * TILE_ROWS));
            S::multiply(S::load_f16(record.add(SUPER_BLOCKS * TILE_ROWS)), small)
        }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(_records: *const u8, _block: usize) -> S::Floats {
        unsafe { S::zero() }
    }
}

impl Scales for FloatScaled {
    const PARTS: usize = 1;
    const MINIMUMS: Minimums = Minimums::None;
    const BYTES: usize = FLOAT_RECORD;

    #[inline(always)]
    unsafe fn scales<S: TileLanes>(records: *const u8, block: usize, _part: usize) -> S::Floats {
        unsafe { S::load(records.add(block * FLOAT_RECORD).cast()) }
    }

    #[inline(always)]
    unsafe fn minimums<S: TileLanes>(_records: *const u8, _block: usize) -> S::Floats {
        unsafe { S::zero() }
    }
}

pub(super) type Q4_0 = Packed<Nibbles, Centred>;
pub(super) type Q4_1 = Packed<Nibbles, WithMinimum>;
pub(super) type Q5_0 = Packed<FiveBits, Centred>;
pub(super) type Q5_1 = Packed<FiveBits, WithMinimum>;
pub(super) type Q8_0 = Packed<EightBits, Centred>;
pub(super) type Q4K = Packed<Nibbles, SuperScaled>;
pub(super) type Q5K = Packed<FiveBits, SuperScaled>;
pub(super) type Q6K = Packed<SixBits, Sixteenths>;
pub(super) type Iq4Nl = Packed<NonLinear, Centred>;
pub(super) type Iq4Xs = Packed<NonLinear, SignedScaled>;
pub(super) type Mxfp4 = Packed<FourBitFloats, FloatScaled>;
