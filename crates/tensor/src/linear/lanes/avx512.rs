//! [`TileLanes`] on AVX-512 with VNNI: one register holds all 16 lanes, `vpdpbusd` multiplies four byte pairs per
//! lane and adds them to the i32 without saturation.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the conditions are those of the trait's methods")]

use super::avx2::{sum_of_bytes, transpose_floats};
use super::{Blocking, TileKernel, TileLanes};
use crate::rounding::{MAGNITUDE, ROUND, SIGNED_LEVELS, scale_of};
use std::arch::x86_64::*;

/// AVX-512 F, BW, VL, DQ and VNNI.
pub(in crate::linear) struct Avx512;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
unsafe fn enter<K: TileKernel>(kernel: K) {
    unsafe { kernel.run::<Avx512>() }
}

/// Sixteen activations, scaled and rounded, as bytes.
#[inline(always)]
unsafe fn sixteen_bytes(activations: __m512, inverse: f32) -> __m128i {
    unsafe {
        let scaled = _mm512_mul_ps(activations, _mm512_set1_ps(inverse));
        let rounded = _mm512_add_ps(scaled, _mm512_set1_ps(ROUND));
        _mm512_cvtepi32_epi8(_mm512_castps_si512(rounded))
    }
}

/// The magnitudes' bits of a block, reduced to the largest of each of four sets of eight.
#[inline(always)]
unsafe fn four_largest(block: &[f32; 32]) -> __m128i {
    unsafe {
        let mask = _mm512_set1_epi32(MAGNITUDE.cast_signed());
        let first = _mm512_and_si512(_mm512_loadu_si512(block.as_ptr().cast()), mask);
        let second = _mm512_and_si512(_mm512_loadu_si512(block.as_ptr().add(16).cast()), mask);
        let sixteen = _mm512_max_epu32(first, second);
        let eight =
            _mm256_max_epu32(_mm512_castsi512_si256(sixteen), _mm512_extracti64x4_epi64::<1>(sixteen));
        _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight))
    }
}

/// The largest of each row's four, side by side.
#[inline(always)]
unsafe fn transpose_max(rows: [__m128i; 4]) -> __m128i {
    unsafe {
        let [a, b, c, d] = transpose(rows);
        _mm_max_epu32(_mm_max_epu32(a, b), _mm_max_epu32(c, d))
    }
}

/// Columns of four rows of four.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    unsafe {
        let (ab_low, ab_high) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
        [
            _mm_unpacklo_epi64(ab_low, cd_low),
            _mm_unpackhi_epi64(ab_low, cd_low),
            _mm_unpacklo_epi64(ab_high, cd_high),
            _mm_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// [`crate::rounding::scale_of`] for four rows: scales, and what to multiply with before rounding.
#[inline(always)]
unsafe fn scales_of(largest: __m128i) -> ([f32; 4], [f32; 4]) {
    unsafe {
        let scale = _mm_div_ps(_mm_castsi128_ps(largest), _mm_set1_ps(SIGNED_LEVELS));
        let inverse = _mm_div_ps(_mm_set1_ps(1.0), scale);
        let finite = _mm_cmp_ps_mask::<_CMP_LT_OQ>(inverse, _mm_set1_ps(f32::INFINITY));
        let kept = finite | _mm_cmp_ps_mask::<_CMP_UNORD_Q>(scale, scale);
        let (mut scales, mut inverses) = ([0.0; 4], [0.0; 4]);
        _mm_storeu_ps(scales.as_mut_ptr(), _mm_maskz_mov_ps(kept, scale));
        _mm_storeu_ps(inverses.as_mut_ptr(), _mm_maskz_mov_ps(finite, inverse));
        (scales, inverses)
    }
}

impl TileLanes for Avx512 {
    type Words = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    const BLOCKING: Blocking = Blocking::ThirtyTwoFull;

    #[inline(always)]
    unsafe fn enter<K: TileKernel>(kernel: K) {
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_for_later(address: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_words(words: __m512i, to: *mut u8) {
        unsafe { _mm512_storeu_si512(to.cast(), words) }
    }

    #[inline(always)]
    unsafe fn bits(words: __m512i, right: i32, mask: u8) -> __m512i {
        unsafe {
            let shifted = if right >= 0 {
                _mm512_srl_epi32(words, _mm_cvtsi32_si128(right))
            } else {
                _mm512_sll_epi32(words, _mm_cvtsi32_si128(-right))
            };
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: &[u8; 16], bytes: __m512i) -> __m512i {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, bytes)
        }
    }

    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn broadcast_int(from: *const i32) -> __m512i {
        unsafe { _mm512_set1_epi32(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn shift_left(ints: __m512i, bits: u32) -> __m512i {
        unsafe { _mm512_sll_epi32(ints, _mm_cvtsi32_si128(bits.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn subtract(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, weights: __m512i, activations: __m512i, _wide: bool) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, weights, activations) }
    }

    #[inline(always)]
    unsafe fn to_floats(ints: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(ints) }
    }

    #[inline(always)]
    unsafe fn quantise(block: &[f32; 32], bytes: &mut [u32; 8]) -> (f32, [i32; 2]) {
        unsafe {
            let (first, second) = (_mm512_loadu_ps(block.as_ptr()), _mm512_loadu_ps(block.as_ptr().add(16)));
            let mask = _mm512_set1_epi32(MAGNITUDE as i32);
            let largest = _mm512_max_epu32(
                _mm512_and_si512(_mm512_castps_si512(first), mask),
                _mm512_and_si512(_mm512_castps_si512(second), mask),
            );
            let (scale, inverse) = scale_of(_mm512_reduce_max_epu32(largest), SIGNED_LEVELS);
            let (first, second) = (sixteen_bytes(first, inverse), sixteen_bytes(second, inverse));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), first);
            _mm_storeu_si128(bytes.as_mut_ptr().add(4).cast(), second);
            (scale, [sum_of_bytes(first), sum_of_bytes(second)])
        }
    }

    #[inline(always)]
    unsafe fn quantise_four(blocks: [&[f32; 32]; 4], words: &mut [[u32; 4]; 8]) -> ([f32; 4], [[i32; 4]; 2]) {
        unsafe {
            let mut largest = [_mm_setzero_si128(); 4];
            for row in 0..4 {
                largest[row] = four_largest(blocks[row]);
            }
            let (scales, inverses) = scales_of(transpose_max(largest));
            let mut sums = [[0; 4]; 2];
            for half in 0..2 {
                let mut rows = [_mm_setzero_si128(); 4];
                for row in 0..4 {
                    let sixteen = _mm512_loadu_ps(blocks[row].as_ptr().add(16 * half));
                    rows[row] = sixteen_bytes(sixteen, inverses[row]);
                }
                let mut sum = _mm_setzero_si128();
                for (group, four_rows) in transpose(rows).into_iter().enumerate() {
                    _mm_storeu_si128(words[4 * half + group].as_mut_ptr().cast(), four_rows);
                    sum = _mm_dpbusd_epi32(sum, _mm_set1_epi8(1), four_rows);
                }
                _mm_storeu_si128(sums[half].as_mut_ptr().cast(), sum);
            }
            (scales, sums)
        }
    }

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(floats: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, floats) }
    }

    #[inline(always)]
    unsafe fn transpose_four(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        unsafe { transpose_floats(from, from_step, to, to_step) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn negative_multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
}
