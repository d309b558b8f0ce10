//! [`TileLanes`] on AArch64: four 128-bit registers for the 16 lanes, with each of the ways to multiply bytes.
//!
//! Where the processor multiplies small matrices of bytes (`usmmla`), four rows and eight columns go through it together:
//! its results belong to two outputs and two rows, and are put into rows at the end of a block.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the conditions are those of the trait's methods")]

use super::neon_bytes::{ByteProducts, MatrixProducts, SignedDots, Widening};
use super::neon_bytes::{largest_of_sixteen, sixteen_rounded_bytes};
use super::{Blocking, TileKernel, TileLanes};
use crate::rounding::{ROUND, SIGNED_LEVELS, scale_of};
use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

/// NEON with the byte products `B`.
pub(super) struct NeonWith<B>(PhantomData<B>);

/// NEON alone.
pub(super) type Neon = NeonWith<Widening>;
/// With dot products of signed bytes.
pub(super) type DotProd = NeonWith<SignedDots>;
/// With matrix products of bytes.
pub(super) type I8mm = NeonWith<MatrixProducts>;

/// How a kind of byte products is entered.
pub(super) trait Entered: ByteProducts {
    /// See [`TileLanes::enter`].
    unsafe fn enter<K: TileKernel>(kernel: K);
}

macro_rules! entered {
    ($products:ty, $features:literal) => {
        impl Entered for $products {
            #[inline(always)]
            unsafe fn enter<K: TileKernel>(kernel: K) {
                #[target_feature(enable = $features)]
                #[inline(never)]
                unsafe fn enter<K: TileKernel>(kernel: K) {
                    unsafe { kernel.run::<NeonWith<$products>>() }
                }
                unsafe { enter(kernel) }
            }
        }
    };
}

entered!(Widening, "neon");
entered!(SignedDots, "neon,dotprod");
entered!(MatrixProducts, "neon,dotprod,i8mm");

/// Lanes 0–3, 4–7, 8–11 and 12–15.
type Quarters<V> = [V; 4];

/// Applies an intrinsic to each quarter.
macro_rules! quarters {
    ($function:path, $($operand:expr),+) => {
        [
            $function($($operand[0]),+),
            $function($($operand[1]),+),
            $function($($operand[2]),+),
            $function($($operand[3]),+),
        ]
    };
}

#[inline(always)]
unsafe fn from_u16(bits: uint16x8_t, and: uint16x8_t) -> Quarters<uint32x4_t> {
    unsafe {
        [
            vmovl_u16(vget_low_u16(bits)),
            vmovl_high_u16(bits),
            vmovl_u16(vget_low_u16(and)),
            vmovl_high_u16(and),
        ]
    }
}

impl<B: Entered> TileLanes for NeonWith<B> {
    type Words = Quarters<uint8x16_t>;
    type Ints = Quarters<int32x4_t>;
    type Floats = Quarters<float32x4_t>;
    const BLOCKING: Blocking = Blocking::SixteenHalf;
    const FOUR_ROWS_TOGETHER: bool = B::SQUARES;

    #[inline(always)]
    unsafe fn enter<K: TileKernel>(kernel: K) {
        unsafe { B::enter(kernel) }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn prefetch_for_later(address: *const u8) {
        unsafe { asm!("prfm pldl2keep, [{0}]", in(reg) address, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> Self::Words {
        unsafe { [vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))] }
    }

    #[inline(always)]
    unsafe fn store_words(words: Self::Words, to: *mut u8) {
        unsafe {
            vst1q_u8(to, words[0]);
            vst1q_u8(to.add(16), words[1]);
            vst1q_u8(to.add(32), words[2]);
            vst1q_u8(to.add(48), words[3]);
        }
    }

    #[inline(always)]
    unsafe fn bits(words: Self::Words, right: i32, mask: u8) -> Self::Words {
        unsafe {
            // Within bytes; negative counts shift right.
            let count = vdupq_n_s8(-right as i8);
            let (counts, masks) = ([count; 4], [vdupq_n_u8(mask); 4]);
            let shifted = quarters!(vshlq_u8, words, counts);
            quarters!(vandq_u8, shifted, masks)
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: &[u8; 16], bytes: Self::Words) -> Self::Words {
        unsafe {
            let tables = [vld1q_u8(table.as_ptr()); 4];
            quarters!(vqtbl1q_u8, tables, bytes)
        }
    }

    #[inline(always)]
    unsafe fn or(a: Self::Words, b: Self::Words) -> Self::Words {
        unsafe { quarters!(vorrq_u8, a, b) }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Self::Ints {
        unsafe { [vdupq_n_s32(0); 4] }
    }

    #[inline(always)]
    unsafe fn broadcast_int(from: *const i32) -> Self::Ints {
        unsafe { [vdupq_n_s32(from.read_unaligned()); 4] }
    }

    #[inline(always)]
    unsafe fn shift_left(ints: Self::Ints, bits: u32) -> Self::Ints {
        unsafe {
            let counts = [vdupq_n_s32(bits.cast_signed()); 4];
            quarters!(vshlq_s32, ints, counts)
        }
    }

    #[inline(always)]
    unsafe fn subtract(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { quarters!(vsubq_s32, a, b) }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Words, activations: Self::Ints, wide: bool) -> Self::Ints {
        unsafe {
            let activations = quarters!(vreinterpretq_s8_s32, activations);
            let wide = [wide; 4];
            quarters!(B::dot, sum, weights, activations, wide)
        }
    }

    #[inline(always)]
    unsafe fn dot_four_rows(
        sums: &mut [Self::Ints; 4],
        weights: [Self::Words; 2],
        activations: [*const u8; 2],
        _wide: bool,
    ) {
        unsafe {
            let first = vreinterpretq_s32_u8(vld1q_u8(activations[0]));
            let second = vreinterpretq_s32_u8(vld1q_u8(activations[1]));
            let rows_0_1 = vreinterpretq_s8_s32(vzip1q_s32(first, second));
            let rows_2_3 = vreinterpretq_s8_s32(vzip2q_s32(first, second));
            for quarter in 0..4 {
                let first = vreinterpretq_s32_u8(weights[0][quarter]);
                let second = vreinterpretq_s32_u8(weights[1][quarter]);
                let outputs_0_1 = vreinterpretq_u8_s32(vzip1q_s32(first, second));
                let outputs_2_3 = vreinterpretq_u8_s32(vzip2q_s32(first, second));
                sums[0][quarter] = B::square(sums[0][quarter], outputs_0_1, rows_0_1);
                sums[1][quarter] = B::square(sums[1][quarter], outputs_2_3, rows_0_1);
                sums[2][quarter] = B::square(sums[2][quarter], outputs_0_1, rows_2_3);
                sums[3][quarter] = B::square(sums[3][quarter], outputs_2_3, rows_2_3);
            }
        }
    }

    #[inline(always)]
    unsafe fn in_rows(sums: [Self::Ints; 4]) -> [Self::Ints; 4] {
        unsafe {
            [
                quarters!(vuzp1q_s32, sums[0], sums[1]),
                quarters!(vuzp2q_s32, sums[0], sums[1]),
                quarters!(vuzp1q_s32, sums[2], sums[3]),
                quarters!(vuzp2q_s32, sums[2], sums[3]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats {
        unsafe { quarters!(vcvtq_f32_s32, ints) }
    }

    #[inline(always)]
    unsafe fn quantise(block: &[f32; 32], bytes: &mut [u32; 8]) -> (f32, [i32; 2]) {
        unsafe {
            let (first, second) = (Self::load(block.as_ptr()), Self::load(block.as_ptr().add(16)));
            let largest = vmaxvq_u32(vmaxq_u32(largest_of_sixteen(first), largest_of_sixteen(second)));
            let (scale, inverse) = scale_of(largest, SIGNED_LEVELS);
            let first = sixteen_rounded_bytes(first, inverse, ROUND);
            let second = sixteen_rounded_bytes(second, inverse, ROUND);
            vst1q_u8(bytes.as_mut_ptr().cast(), first);
            vst1q_u8(bytes.as_mut_ptr().add(4).cast(), second);
            let sums = [vaddlvq_s8(vreinterpretq_s8_u8(first)), vaddlvq_s8(vreinterpretq_s8_u8(second))];
            (scale, [i32::from(sums[0]), i32::from(sums[1])])
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Floats {
        unsafe { [vdupq_n_f32(0.0); 4] }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self::Floats {
        unsafe { [vdupq_n_f32(from.read_unaligned()); 4] }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Floats {
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))] }
    }

    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe {
            vst1q_f32(to, floats[0]);
            vst1q_f32(to.add(4), floats[1]);
            vst1q_f32(to.add(8), floats[2]);
            vst1q_f32(to.add(12), floats[3]);
        }
    }

    #[inline(always)]
    unsafe fn transpose_four(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        unsafe {
            let (a, b) = (vld1q_f32(from), vld1q_f32(from.add(from_step)));
            let (c, d) = (vld1q_f32(from.add(2 * from_step)), vld1q_f32(from.add(3 * from_step)));
            let ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
            let ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
            let cd_even = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
            let cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
            vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(ab_even, cd_even)));
            vst1q_f32(to.add(to_step), vreinterpretq_f32_f64(vzip1q_f64(ab_odd, cd_odd)));
            vst1q_f32(to.add(2 * to_step), vreinterpretq_f32_f64(vzip2q_f64(ab_even, cd_even)));
            vst1q_f32(to.add(3 * to_step), vreinterpretq_f32_f64(vzip2q_f64(ab_odd, cd_odd)));
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        unsafe {
            let (first, second) = (vld1q_u8(from), vld1q_u8(from.add(16)));
            let (first, second) = (vreinterpretq_u16_u8(first), vreinterpretq_u16_u8(second));
            [
                vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(first))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(first))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(second))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(second))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        unsafe {
            let (first, second) = (vld1q_u8(from), vld1q_u8(from.add(16)));
            let wide = from_u16(vreinterpretq_u16_u8(first), vreinterpretq_u16_u8(second));
            let upper = quarters!(vshlq_n_u32::<16>, wide);
            quarters!(vreinterpretq_f32_u32, upper)
        }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self::Floats {
        unsafe {
            let bytes = vld1q_u8(from);
            let ints = from_u16(vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            quarters!(vcvtq_f32_u32, ints)
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::Floats {
        unsafe {
            let bytes = vreinterpretq_s8_u8(vld1q_u8(from));
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            let ints = [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ];
            quarters!(vcvtq_f32_s32, ints)
        }
    }

    #[inline(always)]
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { quarters!(vmulq_f32, a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { quarters!(vfmaq_f32, c, a, b) }
    }

    #[inline(always)]
    unsafe fn negative_multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { quarters!(vfmsq_f32, c, a, b) }
    }
}
