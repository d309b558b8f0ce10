//! [`TileLanes`] as plain arrays: the meaning of every operation, for any processor.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the conditions are those of the trait's methods")]

use super::{Blocking, TileKernel, TileLanes};
use crate::matrix::TILE_ROWS;
use crate::rounding::{SIGNED_LEVELS, largest_of, round_to_byte, scale_of};
use half::{bf16, f16};

/// Portable code.
pub(super) struct Scalar;

impl TileLanes for Scalar {
    type Words = [u8; 4 * TILE_ROWS];
    type Ints = [i32; TILE_ROWS];
    type Floats = [f32; TILE_ROWS];
    const BLOCKING: Blocking = Blocking::None;

    #[inline(never)]
    unsafe fn enter<K: TileKernel>(kernel: K) {
        unsafe { kernel.run::<Scalar>() }
    }

    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}

    #[inline(always)]
    unsafe fn prefetch_for_later(_address: *const u8) {}

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> Self::Words {
        unsafe { from.cast::<Self::Words>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_words(words: Self::Words, to: *mut u8) {
        unsafe { to.cast::<Self::Words>().write_unaligned(words) }
    }

    #[inline(always)]
    unsafe fn bits(words: Self::Words, right: i32, mask: u8) -> Self::Words {
        words.map(|byte| (if right >= 0 { byte >> right } else { byte << -right }) & mask)
    }

    #[inline(always)]
    unsafe fn look_up(table: &[u8; 16], bytes: Self::Words) -> Self::Words {
        bytes.map(|byte| table[usize::from(byte & 0x0F)])
    }

    #[inline(always)]
    unsafe fn or(a: Self::Words, b: Self::Words) -> Self::Words {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Self::Ints {
        [0; TILE_ROWS]
    }

    #[inline(always)]
    unsafe fn broadcast_int(from: *const i32) -> Self::Ints {
        [unsafe { from.read_unaligned() }; TILE_ROWS]
    }

    #[inline(always)]
    unsafe fn shift_left(ints: Self::Ints, bits: u32) -> Self::Ints {
        ints.map(|int| int << bits)
    }

    #[inline(always)]
    unsafe fn subtract(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Words, activations: Self::Ints, _wide: bool) -> Self::Ints {
        let activations = activations[0].to_le_bytes();
        std::array::from_fn(|lane| {
            (0..4).fold(sum[lane], |sum, i| {
                sum + i32::from(weights[4 * lane + i]) * i32::from(activations[i].cast_signed())
            })
        })
    }

    #[inline(always)]
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats {
        ints.map(|int| int as f32)
    }

    #[inline(always)]
    unsafe fn quantise(block: &[f32; 32], bytes: &mut [u32; 8]) -> (f32, [i32; 2]) {
        quantise(block, bytes)
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Floats {
        [0.0; TILE_ROWS]
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self::Floats {
        [unsafe { from.read_unaligned() }; TILE_ROWS]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Floats {
        unsafe { from.cast::<Self::Floats>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe { to.cast::<Self::Floats>().write_unaligned(floats) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        let bits = unsafe { from.cast::<[u16; TILE_ROWS]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(u16::from_le(bits)).to_f32())
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        let bits = unsafe { from.cast::<[u16; TILE_ROWS]>().read_unaligned() };
        bits.map(|bits| bf16::from_bits(u16::from_le(bits)).to_f32())
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self::Floats {
        unsafe { from.cast::<[u8; TILE_ROWS]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::Floats {
        unsafe { from.cast::<[i8; TILE_ROWS]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    unsafe fn negative_multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        std::array::from_fn(|lane| (-a[lane]).mul_add(b[lane], c[lane]))
    }
}

/// See [`TileLanes::quantise`].
pub(super) fn quantise(block: &[f32; 32], bytes: &mut [u32; 8]) -> (f32, [i32; 2]) {
    let (scale, inverse) = scale_of(largest_of(block), SIGNED_LEVELS);
    let mut sums = [0; 2];
    for (group, (four, bytes)) in block.as_chunks::<4>().0.iter().zip(bytes).enumerate() {
        let quants = four.map(|x| round_to_byte(x, inverse));
        sums[group / 4] += quants.iter().map(|&quant| i32::from(quant.cast_signed())).sum::<i32>();
        *bytes = u32::from_le_bytes(quants);
    }
    (scale, sums)
}
