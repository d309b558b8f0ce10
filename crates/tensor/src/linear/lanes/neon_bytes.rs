//! Dot products of bytes on AArch64, of which processors have three kinds: by widening multiplications, which all have;
//! by `sdot`, which multiplies signed bytes; and by `usdot` and `usmmla`, which multiply unsigned with signed ones.
//!
//! Instructions for which the stable compiler has no intrinsic are written in assembly. Each function that needs more than
//! NEON carries the feature, so that it is inlined only into code compiled with it.

use std::arch::aarch64::*;
use std::arch::asm;

/// How bytes are multiplied. All kinds give the same numbers.
///
/// # Safety
/// The processor must have the instructions.
pub(crate) trait ByteProducts: Copy + 'static {
    /// Whether [`ByteProducts::square`] is there.
    const SQUARES: bool = false;

    /// Adds to each i32 the exact dot product of its four unsigned with its four signed bytes. `wide` says that unsigned ones may
    /// exceed 127.
    unsafe fn dot(sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t, wide: bool) -> int32x4_t;

    /// Adds the exact dot products of two rows of eight unsigned bytes with two of eight signed bytes: element `2i + j` is that
    /// of unsigned row i with signed row j.
    unsafe fn square(_sum: int32x4_t, _unsigned: uint8x16_t, _signed: int8x16_t) -> int32x4_t {
        unreachable!("only asked for where SQUARES says so")
    }
}

/// NEON as every AArch64 processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

/// With the dot products of signed bytes (`asimddp`).
#[derive(Clone, Copy)]
pub(crate) struct SignedDots;

/// With the matrix products of bytes (`i8mm`).
#[derive(Clone, Copy)]
pub(crate) struct MatrixProducts;

/// Adds the dot products of bytes up to 127 with signed ones: two products have 16 bits, 2 · 127 · 128 = 32,512.
#[inline]
#[target_feature(enable = "neon")]
fn dot_below_128(sum: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    let low = vmull_s8(vget_low_s8(weights), vget_low_s8(activations));
    let high = vmull_high_s8(weights, activations);
    vpadalq_s16(sum, vpaddq_s16(low, high))
}

impl ByteProducts for Widening {
    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t, wide: bool) -> int32x4_t {
        // SAFETY: every AArch64 processor that Rust compiles for has NEON.
        unsafe {
            if !wide {
                return dot_below_128(sum, vreinterpretq_s8_u8(unsigned), signed);
            }
            // The top bit of each byte by itself: 128 times the sum of the signed bytes where it is set.
            let low = vandq_u8(unsigned, vdupq_n_u8(0x7F));
            let top = vshrq_n_s8::<7>(vreinterpretq_s8_u8(unsigned));
            let tops = vpaddlq_s16(vpaddlq_s8(vandq_s8(top, signed)));
            let sum = vaddq_s32(sum, vshlq_n_s32::<7>(tops));
            dot_below_128(sum, vreinterpretq_s8_u8(low), signed)
        }
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn signed_dot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes the three registers only; the feature is the function's.
    unsafe {
        asm!("sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl ByteProducts for SignedDots {
    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t, wide: bool) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe {
            if !wide {
                return signed_dot(sum, vreinterpretq_s8_u8(unsigned), signed);
            }
            // 128 is taken off every unsigned byte, and 128 times the sum of the signed ones added. Kernels multiply one
            // register of activations with many of weights: that sum is then computed once.
            let offset = signed_dot(vdupq_n_s32(0), vdupq_n_s8(i8::MIN), signed);
            let shifted = vreinterpretq_s8_u8(veorq_u8(unsigned, vdupq_n_u8(0x80)));
            signed_dot(vsubq_s32(sum, offset), shifted, signed)
        }
    }
}

#[inline]
#[target_feature(enable = "neon,i8mm")]
fn mixed_dot(mut sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t) -> int32x4_t {
    // SAFETY: as for `signed_dot`.
    unsafe {
        asm!("usdot {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) unsigned, b = in(vreg) signed,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

#[inline]
#[target_feature(enable = "neon,i8mm")]
fn mixed_square(mut sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t) -> int32x4_t {
    // SAFETY: as for `signed_dot`.
    unsafe {
        asm!("usmmla {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) unsigned, b = in(vreg) signed,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl ByteProducts for MatrixProducts {
    const SQUARES: bool = true;

    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t, _wide: bool) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { mixed_dot(sum, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn square(sum: int32x4_t, unsigned: uint8x16_t, signed: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { mixed_square(sum, unsigned, signed) }
    }
}

/// Four times four f32 as sixteen bytes: the low byte of the bits of `value · inverse + ROUND`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn sixteen_rounded_bytes(values: [float32x4_t; 4], inverse: f32, round: f32) -> uint8x16_t {
    let (inverse, round) = (vdupq_n_f32(inverse), vdupq_n_f32(round));
    // A product and a sum, each rounded, as the definition says.
    let [a, b, c, d] = values;
    let a = vreinterpretq_u16_f32(vaddq_f32(vmulq_f32(a, inverse), round));
    let b = vreinterpretq_u16_f32(vaddq_f32(vmulq_f32(b, inverse), round));
    let c = vreinterpretq_u16_f32(vaddq_f32(vmulq_f32(c, inverse), round));
    let d = vreinterpretq_u16_f32(vaddq_f32(vmulq_f32(d, inverse), round));
    let low = vreinterpretq_u8_u16(vuzp1q_u16(a, b));
    let high = vreinterpretq_u8_u16(vuzp1q_u16(c, d));
    vuzp1q_u8(low, high)
}

/// The greatest magnitude of sixteen f32, as bits.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn largest_of_sixteen(values: [float32x4_t; 4]) -> uint32x4_t {
    let mask = vdupq_n_u32(crate::rounding::MAGNITUDE);
    let [a, b, c, d] = values;
    let first =
        vmaxq_u32(vandq_u32(vreinterpretq_u32_f32(a), mask), vandq_u32(vreinterpretq_u32_f32(b), mask));
    let second =
        vmaxq_u32(vandq_u32(vreinterpretq_u32_f32(c), mask), vandq_u32(vreinterpretq_u32_f32(d), mask));
    vmaxq_u32(first, second)
}
