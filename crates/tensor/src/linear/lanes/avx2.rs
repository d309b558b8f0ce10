//! [`TileLanes`] on 256-bit registers, two of them for the 16 lanes, with or without AVX-VNNI.
//!
//! Without VNNI the byte products go through `vpmaddubsw`, which saturates pairs at 16 bits: 2·w·127 fits as
//! long as w ≤ 128. Weights of up to 7 bits are therefore exact as they are; wider ones are split into their
//! low 7 bits and their top bit (0 or 128), each exact, and the two sums are added in 32 bits.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the conditions are those of the trait's methods")]

use super::{Blocking, TileKernel, TileLanes};
use crate::rounding::{MAGNITUDE, ROUND, SIGNED_LEVELS, scale_of};
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

/// Adds the dot products of unsigned with signed bytes, exact for all of them.
#[inline(always)]
pub(crate) unsafe fn exact_dot(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    unsafe {
        let top = _mm256_set1_epi8(i8::MIN);
        let sum = dot_below_129(sum, _mm256_andnot_si256(top, unsigned), signed);
        dot_below_129(sum, _mm256_and_si256(top, unsigned), signed)
    }
}

#[inline(always)]
unsafe fn dot<const VNNI: bool>(sum: __m256i, weights: __m256i, activations: __m256i, wide: bool) -> __m256i {
    unsafe {
        if VNNI {
            return _mm256_dpbusd_avx_epi32(sum, weights, activations);
        }
        if !wide {
            return dot_below_129(sum, weights, activations);
        }
        exact_dot(sum, weights, activations)
    }
}

#[inline(always)]
unsafe fn bits(words: __m256i, right: i32, mask: u8) -> __m256i {
    unsafe {
        let shifted = if right >= 0 {
            _mm256_srl_epi32(words, _mm_cvtsi32_si128(right))
        } else {
            _mm256_sll_epi32(words, _mm_cvtsi32_si128(-right))
        };
        _mm256_and_si256(shifted, _mm256_set1_epi8(mask.cast_signed()))
    }
}

/// Sixteen activations, scaled and rounded, as bytes.
#[inline(always)]
pub(crate) unsafe fn sixteen_rounded_bytes(first: __m256, second: __m256, inverse: f32) -> __m128i {
    unsafe {
        let (inverse, round) = (_mm256_set1_ps(inverse), _mm256_set1_ps(ROUND));
        let first = _mm256_add_ps(_mm256_mul_ps(first, inverse), round);
        let second = _mm256_add_ps(_mm256_mul_ps(second, inverse), round);
        // Only the low byte of each sum is of interest, and packing must not saturate.
        let low = _mm256_set1_epi32(0xFF);
        let first = _mm256_and_si256(_mm256_castps_si256(first), low);
        let second = _mm256_and_si256(_mm256_castps_si256(second), low);
        // Packing works within 128 bits, so the middle quarters come out exchanged.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(first, second));
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
    }
}

/// The sum of 16 signed bytes.
#[inline(always)]
pub(super) unsafe fn sum_of_bytes(bytes: __m128i) -> i32 {
    unsafe {
        // Made unsigned by adding 128, which is taken off again from the sum of the two halves.
        let unsigned = _mm_xor_si128(bytes, _mm_set1_epi8(i8::MIN));
        let halves = _mm_sad_epu8(unsigned, _mm_setzero_si128());
        _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_unpackhi_epi64(halves, halves))) - 16 * 128
    }
}

/// Columns of four rows of four as rows.
#[inline(always)]
pub(crate) unsafe fn transpose_floats(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
    unsafe {
        let (a, b) = (_mm_loadu_ps(from), _mm_loadu_ps(from.add(from_step)));
        let (c, d) = (_mm_loadu_ps(from.add(2 * from_step)), _mm_loadu_ps(from.add(3 * from_step)));
        let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        _mm_storeu_ps(to, _mm_movelh_ps(ab_low, cd_low));
        _mm_storeu_ps(to.add(to_step), _mm_movehl_ps(cd_low, ab_low));
        _mm_storeu_ps(to.add(2 * to_step), _mm_movelh_ps(ab_high, cd_high));
        _mm_storeu_ps(to.add(3 * to_step), _mm_movehl_ps(cd_high, ab_high));
    }
}

/// The largest of eight unsigned numbers.
#[inline(always)]
pub(crate) unsafe fn eight_largest(numbers: __m256i) -> u32 {
    unsafe {
        let four = _mm_max_epu32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers));
        let two = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<1>(two));
        _mm_cvtsi128_si32(one).cast_unsigned()
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
    unsafe fn prefetch(address: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_for_later(address: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
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
        unsafe { [bits(words[0], right, mask), bits(words[1], right, mask)] }
    }

    #[inline(always)]
    unsafe fn look_up(table: &[u8; 16], bytes: Self::Words) -> Self::Words {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [_mm256_shuffle_epi8(table, bytes[0]), _mm256_shuffle_epi8(table, bytes[1])]
        }
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
        unsafe {
            [
                dot::<VNNI>(sum[0], weights[0], activations[0], wide),
                dot::<VNNI>(sum[1], weights[1], activations[1], wide),
            ]
        }
    }

    #[inline(always)]
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats {
        unsafe { [_mm256_cvtepi32_ps(ints[0]), _mm256_cvtepi32_ps(ints[1])] }
    }

    #[inline(always)]
    unsafe fn quantise(block: &[f32; 32], bytes: &mut [u32; 8]) -> (f32, [i32; 2]) {
        unsafe {
            let mut x = [_mm256_setzero_ps(); 4];
            let mut largest = _mm256_setzero_si256();
            for (x, eight) in x.iter_mut().zip(block.as_chunks::<8>().0) {
                *x = _mm256_loadu_ps(eight.as_ptr());
                let magnitude =
                    _mm256_and_si256(_mm256_castps_si256(*x), _mm256_set1_epi32(MAGNITUDE as i32));
                largest = _mm256_max_epu32(largest, magnitude);
            }
            let (scale, inverse) = scale_of(eight_largest(largest), SIGNED_LEVELS);
            let first = sixteen_rounded_bytes(x[0], x[1], inverse);
            let second = sixteen_rounded_bytes(x[2], x[3], inverse);
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), first);
            _mm_storeu_si128(bytes.as_mut_ptr().add(4).cast(), second);
            (scale, [sum_of_bytes(first), sum_of_bytes(second)])
        }
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
    unsafe fn transpose_four(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        unsafe { transpose_floats(from, from_step, to, to_step) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        unsafe {
            let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast()));
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(16).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self::Floats {
        unsafe {
            let low = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
            let high = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(8).cast()));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::Floats {
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast()));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
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
