//! [`TileLanes`] on 256-bit registers, two of them for the 16 lanes, with or without AVX-VNNI.
//!
//! Without VNNI the byte products go through `vpmaddubsw`, which saturates pairs at 16 bits: 2·w·127 fits as
//! long as w ≤ 128. Weights of up to 7 bits are therefore exact as they are; wider ones are split into their
//! low 7 bits and their top bit (0 or 128), each exact, and the two sums are added in 32 bits.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the conditions are those of the trait's methods")]

use super::{Blocking, TileKernel, TileLanes};
use std::arch::x86_64::*;

/// AVX2, FMA and F16C.
pub(super) type Avx2 = Avx256<false>;
/// [`Avx2`] with AVX-VNNI.
pub(super) type AvxVnni = Avx256<true>;

/// 256-bit registers; `VNNI` says whether `vpdpbusd` is there.
pub(super) struct Avx256<const VNNI: bool>;

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
unsafe fn enter_avx2<K: TileKernel>(kernel: K) {
    unsafe { kernel.run::<Avx2>() }
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline(never)]
unsafe fn enter_avx_vnni<K: TileKernel>(kernel: K) {
    unsafe { kernel.run::<AvxVnni>() }
}

/// TileLanes 0–7 and 8–15.
type Halves<V> = [V; 2];

#[inline(always)]
unsafe fn dot_below_129(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
    unsafe {
        let pairs = _mm256_maddubs_epi16(weights, activations);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

impl<const VNNI: bool> TileLanes for Avx256<VNNI> {
    type Words = Halves<__m256i>;
    type Ints = Halves<__m256i>;
    type Floats = Halves<__m256>;
    const BLOCKING: Blocking = Blocking::SixteenHalf;

    #[inline(always)]
    unsafe fn enter<K: TileKernel>(kernel: K) {
        unsafe { if VNNI { enter_avx_vnni(kernel) } else { enter_avx2(kernel) } }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> Self::Words {
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn store_words(words: Self::Words, to: *mut u8) {
        unsafe {
            _mm256_storeu_si256(to.cast(), words[0]);
            _mm256_storeu_si256(to.add(32).cast(), words[1]);
        }
    }

    #[inline(always)]
    unsafe fn bits(words: Self::Words, right: i32, mask: u8) -> Self::Words {
        let one = |words| unsafe {
            let shifted = if right >= 0 {
                _mm256_srl_epi32(words, _mm_cvtsi32_si128(right))
            } else {
                _mm256_sll_epi32(words, _mm_cvtsi32_si128(-right))
            };
            _mm256_and_si256(shifted, _mm256_set1_epi8(mask.cast_signed()))
        };
        [one(words[0]), one(words[1])]
    }

    #[inline(always)]
    unsafe fn or(a: Self::Words, b: Self::Words) -> Self::Words {
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Self::Ints {
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn broadcast_int(from: *const i32) -> Self::Ints {
        unsafe { [_mm256_set1_epi32(from.read_unaligned()); 2] }
    }

    #[inline(always)]
    unsafe fn shift_left(ints: Self::Ints, bits: u32) -> Self::Ints {
        unsafe {
            let bits = _mm_cvtsi32_si128(bits.cast_signed());
            [_mm256_sll_epi32(ints[0], bits), _mm256_sll_epi32(ints[1], bits)]
        }
    }

    #[inline(always)]
    unsafe fn subtract(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Words, activations: Self::Ints, wide: bool) -> Self::Ints {
        let one = |sum, weights, activations| unsafe {
            if VNNI {
                return _mm256_dpbusd_avx_epi32(sum, weights, activations);
            }
            if !wide {
                return dot_below_129(sum, weights, activations);
            }
            let top = _mm256_set1_epi8(i8::MIN);
            let sum = dot_below_129(sum, _mm256_andnot_si256(top, weights), activations);
            dot_below_129(sum, _mm256_and_si256(top, weights), activations)
        };
        [one(sum[0], weights[0], activations[0]), one(sum[1], weights[1], activations[1])]
    }

    #[inline(always)]
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats {
        unsafe { [_mm256_cvtepi32_ps(ints[0]), _mm256_cvtepi32_ps(ints[1])] }
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Floats {
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self::Floats {
        unsafe { [_mm256_set1_ps(from.read_unaligned()); 2] }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Floats {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, floats[0]);
            _mm256_storeu_ps(to.add(8), floats[1]);
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        let one = |from: *const u8| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) };
        unsafe { [one(from), one(from.add(16))] }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        let one = |from: *const u8| unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        unsafe { [one(from), one(from.add(16))] }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self::Floats {
        let one = |from: *const u8| unsafe {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))
        };
        unsafe { [one(from), one(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::Floats {
        let one = |from: *const u8| unsafe {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
        };
        unsafe { [one(from), one(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    unsafe fn negative_multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_fnmadd_ps(a[0], b[0], c[0]), _mm256_fnmadd_ps(a[1], b[1], c[1])] }
    }
}
