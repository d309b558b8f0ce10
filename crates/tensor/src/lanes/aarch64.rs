//! The lanes of AArch64: four registers of 128 bits, with each of the ways to multiply bytes.
//!
//! The intrinsics are sound because a token ([`Neon`]) exists only inside [`dispatch`], after the check that the processor has
//! the instructions.

use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

use super::{LANES, LaneKernel, Lanes};
use crate::SimdLevel;
use crate::linear::lanes::neon_bytes::{ByteProducts, MatrixProducts, SignedDots, Widening};
use crate::linear::lanes::neon_bytes::{largest_of_sixteen, sixteen_rounded_bytes};
use crate::rounding::ROUND;

/// Proof that the processor has NEON and the byte products `B`.
#[derive(Clone, Copy)]
pub(super) struct Neon<B>(PhantomData<B>);

/// See [`super::dispatch`].
pub(super) fn dispatch<K: LaneKernel>(simd: SimdLevel, kernel: K) -> K::Output {
    match simd {
        // SAFETY: the guard has checked that the processor has these instructions.
        SimdLevel::I8mm if simd.is_supported() => unsafe { run_i8mm(kernel) },
        // SAFETY: as above.
        SimdLevel::DotProd if simd.is_supported() => unsafe { run_dot_products(kernel) },
        // SAFETY: as above.
        SimdLevel::Neon if simd.is_supported() => unsafe { run_neon(kernel) },
        _ => kernel.reference(),
    }
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn run_i8mm<K: LaneKernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<MatrixProducts>(PhantomData))
}

#[target_feature(enable = "neon,dotprod")]
fn run_dot_products<K: LaneKernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<SignedDots>(PhantomData))
}

#[target_feature(enable = "neon")]
fn run_neon<K: LaneKernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<Widening>(PhantomData))
}

/// Runs intrinsics whose instructions the token proves present.
macro_rules! proven {
    ($body:expr) => {
        // SAFETY: the token exists only where the processor has the instructions (see the module), and every pointer
        // comes from a reference to as many values as are read or written.
        unsafe { $body }
    };
}

/// Applies an intrinsic to each quarter of the lanes.
macro_rules! quarters {
    ($function:path, $($operand:expr),+) => {
        proven!([
            $function($($operand[0]),+),
            $function($($operand[1]),+),
            $function($($operand[2]),+),
            $function($($operand[3]),+),
        ])
    };
}

/// `a` where `a < b`, else `b`, in which a NaN is then passed on.
#[inline]
#[target_feature(enable = "neon")]
fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

/// `a` where `a > b`, else `b`.
#[inline]
#[target_feature(enable = "neon")]
fn greater(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// `value · 2^exponent` for whole exponents from −126 to 127.
#[inline]
#[target_feature(enable = "neon")]
fn scaled(value: float32x4_t, exponent: float32x4_t) -> float32x4_t {
    let biased = vaddq_s32(vcvtq_s32_f32(exponent), vdupq_n_s32(127));
    vmulq_f32(value, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
}

#[inline]
#[target_feature(enable = "neon")]
fn kept_where_not_less(value: float32x4_t, test: float32x4_t, bound: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), vcltq_f32(test, bound)))
}

/// See [`Lanes::butterfly`], with distance 1.
#[inline]
#[target_feature(enable = "neon")]
fn butterfly_of_neighbours(value: float32x4_t) -> float32x4_t {
    let partner = vrev64q_f32(value);
    vtrn1q_f32(vaddq_f32(value, partner), vsubq_f32(value, partner))
}

/// With distance 2.
#[inline]
#[target_feature(enable = "neon")]
fn butterfly_of_halves(value: float32x4_t) -> float32x4_t {
    let partner = vextq_f32::<2>(value, value);
    let sum = vreinterpretq_f64_f32(vaddq_f32(value, partner));
    let difference = vreinterpretq_f64_f32(vsubq_f32(value, partner));
    vreinterpretq_f32_f64(vzip1q_f64(sum, difference))
}

#[inline]
#[target_feature(enable = "neon")]
fn sum_of_four(four: float32x4_t) -> f32 {
    let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    vpadds_f32(two)
}

impl<B: ByteProducts> Lanes for Neon<B> {
    type Vector = [float32x4_t; 4];
    type Ints = [int32x4_t; 4];

    const SCORE_ROWS: usize = 3;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        proven!([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    fn fetch_ahead(self, values: &[f32]) {
        for line in values.chunks(LANES) {
            // SAFETY: a prefetch reads nothing.
            unsafe {
                asm!("prfm pldl2keep, [{0}]", in(reg) line.as_ptr(), options(nomem, nostack, preserves_flags));
            }
        }
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::Vector {
        let from = values.as_ptr();
        proven!([vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))])
    }

    #[inline(always)]
    fn load_head(self, values: &[f32]) -> Self::Vector {
        let mut padded = [0.0; LANES];
        let count = values.len().min(LANES);
        padded[..count].copy_from_slice(&values[..count]);
        self.load(&padded)
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, out: &mut [f32; LANES]) {
        let to = out.as_mut_ptr();
        proven!({
            vst1q_f32(to, vector[0]);
            vst1q_f32(to.add(4), vector[1]);
            vst1q_f32(to.add(8), vector[2]);
            vst1q_f32(to.add(12), vector[3]);
        })
    }

    #[inline(always)]
    fn store_head(self, vector: Self::Vector, out: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(vector, &mut lanes);
        let count = out.len().min(LANES);
        out[..count].copy_from_slice(&lanes[..count]);
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        quarters!(vaddq_f32, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        quarters!(vmulq_f32, a, b)
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        quarters!(vdivq_f32, a, b)
    }

    #[inline(always)]
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        quarters!(vfmaq_f32, c, a, b)
    }

    #[inline(always)]
    fn at_most(self, bound: Self::Vector, value: Self::Vector) -> Self::Vector {
        quarters!(smaller, bound, value)
    }

    #[inline(always)]
    fn at_least(self, bound: Self::Vector, value: Self::Vector) -> Self::Vector {
        quarters!(greater, bound, value)
    }

    #[inline(always)]
    fn round(self, value: Self::Vector) -> Self::Vector {
        quarters!(vrndnq_f32, value)
    }

    #[inline(always)]
    fn times_power_of_two(self, value: Self::Vector, exponent: Self::Vector) -> Self::Vector {
        quarters!(scaled, value, exponent)
    }

    #[inline(always)]
    fn zero_where_less(self, value: Self::Vector, test: Self::Vector, bound: Self::Vector) -> Self::Vector {
        quarters!(kept_where_not_less, value, test, bound)
    }

    #[inline(always)]
    fn only_lanes(self, value: Self::Vector, from: usize, to: usize) -> Self::Vector {
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        for (lane, score) in lanes.iter_mut().enumerate() {
            if lane < from || lane >= to {
                *score = f32::NEG_INFINITY;
            }
        }
        self.load(&lanes)
    }

    #[inline(always)]
    fn butterfly<const DISTANCE: usize>(self, value: Self::Vector) -> Self::Vector {
        let [a, b, c, d] = value;
        match DISTANCE {
            1 => quarters!(butterfly_of_neighbours, value),
            2 => quarters!(butterfly_of_halves, value),
            4 => proven!([vaddq_f32(a, b), vsubq_f32(a, b), vaddq_f32(c, d), vsubq_f32(c, d)]),
            _ => proven!([vaddq_f32(a, c), vaddq_f32(b, d), vsubq_f32(a, c), vsubq_f32(b, d)]),
        }
    }

    #[inline(always)]
    fn swap_pairs(self, value: Self::Vector) -> Self::Vector {
        quarters!(vrev64q_f32, value)
    }

    #[inline(always)]
    fn sum(self, value: Self::Vector) -> f32 {
        let [a, b, c, d] = value;
        proven!(sum_of_four(vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d))))
    }

    #[inline(always)]
    fn greatest(self, value: Self::Vector) -> f32 {
        let [a, b, c, d] = value;
        proven!(vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, c), vmaxq_f32(b, d))))
    }

    #[inline(always)]
    fn largest(self, a: Self::Vector, b: Self::Vector) -> u32 {
        proven!(vmaxvq_u32(vmaxq_u32(largest_of_sixteen(a), largest_of_sixteen(b))))
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::Ints {
        proven!([vdupq_n_s32(value); 4])
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::Ints {
        let from = bytes.as_ptr();
        let quarters =
            proven!([vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))]);
        quarters!(vreinterpretq_s32_u8, quarters)
    }

    #[inline(always)]
    fn dot(self, sum: Self::Ints, unsigned: Self::Ints, signed: Self::Ints) -> Self::Ints {
        let unsigned = quarters!(vreinterpretq_u8_s32, unsigned);
        let signed = quarters!(vreinterpretq_s8_s32, signed);
        let wide = [true; 4];
        quarters!(B::dot, sum, unsigned, signed, wide)
    }

    #[inline(always)]
    fn to_floats(self, ints: Self::Ints) -> Self::Vector {
        quarters!(vcvtq_f32_s32, ints)
    }

    #[inline(always)]
    fn store_rounded(self, value: Self::Vector, inverse: f32, out: &mut [u8; LANES]) {
        proven!(vst1q_u8(out.as_mut_ptr(), sixteen_rounded_bytes(value, inverse, ROUND)))
    }
}
