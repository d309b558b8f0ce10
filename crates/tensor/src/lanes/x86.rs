//! The lanes of x86-64: one 512-bit register, or two of 256 bits.
//!
//! The intrinsics are sound because a token ([`Avx512`], [`Avx2`]) exists only inside [`dispatch`], after the check
//! that the processor has the instructions.

use std::arch::x86_64::*;

use super::{LANES, LaneKernel, Lanes};
use crate::SimdLevel;
use crate::linear::lanes::{eight_largest, exact_dot, sixteen_rounded_bytes};
use crate::rounding::{MAGNITUDE, ROUND};

/// Proof that the processor has AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// See [`super::dispatch`].
pub(super) fn dispatch<K: LaneKernel>(simd: SimdLevel, kernel: K) -> K::Output {
    match simd {
        // SAFETY: the guard has checked that the processor has these instructions.
        SimdLevel::Avx512Vnni | SimdLevel::Amx if simd.is_supported() => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        SimdLevel::Avx2 | SimdLevel::AvxVnni if SimdLevel::Avx2.is_supported() => unsafe { run_avx2(kernel) },
        _ => kernel.reference(),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
fn run_avx512<K: LaneKernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: LaneKernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Runs intrinsics whose instructions the token proves present.
macro_rules! proven {
    ($body:expr) => {
        // SAFETY: the token exists only where the processor has the instructions (see the module), and every pointer
        // comes from a reference to as many values as are read or written.
        unsafe { $body }
    };
}

/// The mask of the first `count` lanes.
#[inline(always)]
fn head_mask(count: usize) -> __mmask16 {
    debug_assert!(count <= LANES);
    ((1u32 << count) - 1) as __mmask16
}

/// Both instruction sets contain SSE, of which the instruction is.
#[inline(always)]
fn fetch_lines(values: &[f32]) {
    for line in values.chunks(LANES) {
        // SAFETY: a prefetch reads nothing, and every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
}

impl Lanes for Avx512 {
    type Vector = __m512;
    type Ints = __m512i;

    const SCORE_ROWS: usize = 12;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        proven!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn fetch_ahead(self, values: &[f32]) {
        fetch_lines(values);
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> __m512 {
        proven!(_mm512_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn load_head(self, values: &[f32]) -> __m512 {
        let mask = head_mask(values.len().min(LANES));
        proven!(_mm512_maskz_loadu_ps(mask, values.as_ptr()))
    }

    #[inline(always)]
    fn store(self, vector: __m512, out: &mut [f32; LANES]) {
        proven!(_mm512_storeu_ps(out.as_mut_ptr(), vector))
    }

    #[inline(always)]
    fn store_head(self, vector: __m512, out: &mut [f32]) {
        let mask = head_mask(out.len().min(LANES));
        proven!(_mm512_mask_storeu_ps(out.as_mut_ptr(), mask, vector))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }

    // The instruction returns its second operand when either is NaN.
    #[inline(always)]
    fn at_most(self, bound: __m512, value: __m512) -> __m512 {
        proven!(_mm512_min_ps(bound, value))
    }

    #[inline(always)]
    fn at_least(self, bound: __m512, value: __m512) -> __m512 {
        proven!(_mm512_max_ps(bound, value))
    }

    #[inline(always)]
    fn round(self, value: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value))
    }

    #[inline(always)]
    fn times_power_of_two(self, value: __m512, exponent: __m512) -> __m512 {
        proven!(_mm512_scalef_ps(value, exponent))
    }

    #[inline(always)]
    fn zero_where_less(self, value: __m512, test: __m512, bound: __m512) -> __m512 {
        proven!({
            let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(test, bound);
            _mm512_maskz_mov_ps(keep, value)
        })
    }

    #[inline(always)]
    fn only_lanes(self, value: __m512, from: usize, to: usize) -> __m512 {
        let keep = head_mask(to) & !head_mask(from);
        proven!(_mm512_mask_mov_ps(_mm512_set1_ps(f32::NEG_INFINITY), keep, value))
    }

    #[inline(always)]
    fn butterfly<const DISTANCE: usize>(self, value: __m512) -> __m512 {
        proven!({
            let (partner, upper) = match DISTANCE {
                1 => (_mm512_permute_ps::<0b10_11_00_01>(value), 0xAAAA),
                2 => (_mm512_permute_ps::<0b01_00_11_10>(value), 0xCCCC),
                4 => (_mm512_shuffle_f32x4::<0b10_11_00_01>(value, value), 0xF0F0),
                _ => (_mm512_shuffle_f32x4::<0b01_00_11_10>(value, value), 0xFF00),
            };
            _mm512_mask_sub_ps(_mm512_add_ps(partner, value), upper, partner, value)
        })
    }

    #[inline(always)]
    fn swap_pairs(self, value: __m512) -> __m512 {
        proven!(_mm512_permute_ps::<0b10_11_00_01>(value))
    }

    #[inline(always)]
    fn sum(self, value: __m512) -> f32 {
        proven!({
            let upper = _mm512_extractf32x8_ps::<1>(value);
            sum_eight(_mm256_add_ps(_mm512_castps512_ps256(value), upper))
        })
    }

    #[inline(always)]
    fn greatest(self, value: __m512) -> f32 {
        proven!({
            let upper = _mm512_extractf32x8_ps::<1>(value);
            greatest_of_eight(_mm256_max_ps(_mm512_castps512_ps256(value), upper))
        })
    }

    #[inline(always)]
    fn largest(self, a: __m512, b: __m512) -> u32 {
        proven!({
            let mask = _mm512_set1_epi32(MAGNITUDE.cast_signed());
            let a = _mm512_and_si512(_mm512_castps_si512(a), mask);
            let b = _mm512_and_si512(_mm512_castps_si512(b), mask);
            _mm512_reduce_max_epu32(_mm512_max_epu32(a, b))
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        proven!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> __m512i {
        proven!(_mm512_loadu_si512(bytes.as_ptr().cast()))
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        proven!(_mm512_dpbusd_epi32(sum, unsigned, signed))
    }

    #[inline(always)]
    fn to_floats(self, ints: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(ints))
    }

    #[inline(always)]
    fn store_rounded(self, value: __m512, inverse: f32, out: &mut [u8; LANES]) {
        proven!({
            let scaled = _mm512_mul_ps(value, _mm512_set1_ps(inverse));
            let rounded = _mm512_add_ps(scaled, _mm512_set1_ps(ROUND));
            let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(rounded));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        })
    }
}

impl Lanes for Avx2 {
    type Vector = [__m256; 2];
    type Ints = [__m256i; 2];

    const SCORE_ROWS: usize = 3;

    #[inline(always)]
    fn splat(self, value: f32) -> [__m256; 2] {
        proven!([_mm256_set1_ps(value); 2])
    }

    #[inline(always)]
    fn fetch_ahead(self, values: &[f32]) {
        fetch_lines(values);
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> [__m256; 2] {
        proven!([_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))])
    }

    #[inline(always)]
    fn load_head(self, values: &[f32]) -> [__m256; 2] {
        let mut padded = [0.0; LANES];
        let count = values.len().min(LANES);
        padded[..count].copy_from_slice(&values[..count]);
        self.load(&padded)
    }

    #[inline(always)]
    fn store(self, vector: [__m256; 2], out: &mut [f32; LANES]) {
        proven!({
            _mm256_storeu_ps(out.as_mut_ptr(), vector[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), vector[1]);
        })
    }

    #[inline(always)]
    fn store_head(self, vector: [__m256; 2], out: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(vector, &mut lanes);
        let count = out.len().min(LANES);
        out[..count].copy_from_slice(&lanes[..count]);
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }

    #[inline(always)]
    fn at_most(self, bound: [__m256; 2], value: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_min_ps(bound[0], value[0]), _mm256_min_ps(bound[1], value[1])])
    }

    #[inline(always)]
    fn at_least(self, bound: [__m256; 2], value: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_max_ps(bound[0], value[0]), _mm256_max_ps(bound[1], value[1])])
    }

    #[inline(always)]
    fn round(self, value: [__m256; 2]) -> [__m256; 2] {
        proven!([
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value[0]),
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value[1]),
        ])
    }

    #[inline(always)]
    fn times_power_of_two(self, value: [__m256; 2], exponent: [__m256; 2]) -> [__m256; 2] {
        proven!([
            _mm256_mul_ps(value[0], power_of_two(exponent[0])),
            _mm256_mul_ps(value[1], power_of_two(exponent[1])),
        ])
    }

    #[inline(always)]
    fn zero_where_less(self, value: [__m256; 2], test: [__m256; 2], bound: [__m256; 2]) -> [__m256; 2] {
        proven!([
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(test[0], bound[0]), value[0]),
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(test[1], bound[1]), value[1]),
        ])
    }

    #[inline(always)]
    fn only_lanes(self, value: [__m256; 2], from: usize, to: usize) -> [__m256; 2] {
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
    fn butterfly<const DISTANCE: usize>(self, value: [__m256; 2]) -> [__m256; 2] {
        if DISTANCE == 8 {
            return proven!([_mm256_add_ps(value[0], value[1]), _mm256_sub_ps(value[0], value[1])]);
        }
        proven!([butterfly_of_eight::<DISTANCE>(value[0]), butterfly_of_eight::<DISTANCE>(value[1])])
    }

    #[inline(always)]
    fn swap_pairs(self, value: [__m256; 2]) -> [__m256; 2] {
        proven!([_mm256_permute_ps::<0b10_11_00_01>(value[0]), _mm256_permute_ps::<0b10_11_00_01>(value[1]),])
    }

    #[inline(always)]
    fn sum(self, value: [__m256; 2]) -> f32 {
        proven!(sum_eight(_mm256_add_ps(value[0], value[1])))
    }

    #[inline(always)]
    fn greatest(self, value: [__m256; 2]) -> f32 {
        proven!(greatest_of_eight(_mm256_max_ps(value[0], value[1])))
    }

    #[inline(always)]
    fn largest(self, a: [__m256; 2], b: [__m256; 2]) -> u32 {
        proven!({
            let mut largest = _mm256_setzero_si256();
            for eight in [a[0], a[1], b[0], b[1]] {
                let magnitudes = _mm256_and_ps(eight, _mm256_set1_ps(f32::from_bits(MAGNITUDE)));
                largest = _mm256_max_epu32(largest, _mm256_castps_si256(magnitudes));
            }
            eight_largest(largest)
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> [__m256i; 2] {
        proven!([_mm256_set1_epi32(value); 2])
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> [__m256i; 2] {
        proven!({
            let first = bytes.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(first), _mm256_loadu_si256(first.add(1))]
        })
    }

    #[inline(always)]
    fn dot(self, sum: [__m256i; 2], unsigned: [__m256i; 2], signed: [__m256i; 2]) -> [__m256i; 2] {
        proven!([exact_dot(sum[0], unsigned[0], signed[0]), exact_dot(sum[1], unsigned[1], signed[1])])
    }

    #[inline(always)]
    fn to_floats(self, ints: [__m256i; 2]) -> [__m256; 2] {
        proven!([_mm256_cvtepi32_ps(ints[0]), _mm256_cvtepi32_ps(ints[1])])
    }

    #[inline(always)]
    fn store_rounded(self, value: [__m256; 2], inverse: f32, out: &mut [u8; LANES]) {
        proven!({
            let bytes = sixteen_rounded_bytes(value[0], value[1], inverse);
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        })
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn butterfly_of_eight<const DISTANCE: usize>(value: __m256) -> __m256 {
    let partner = match DISTANCE {
        1 => _mm256_permute_ps::<0b10_11_00_01>(value),
        2 => _mm256_permute_ps::<0b01_00_11_10>(value),
        _ => _mm256_permute2f128_ps::<1>(value, value),
    };
    let (sum, difference) = (_mm256_add_ps(partner, value), _mm256_sub_ps(partner, value));
    match DISTANCE {
        1 => _mm256_blend_ps::<0b1010_1010>(sum, difference),
        2 => _mm256_blend_ps::<0b1100_1100>(sum, difference),
        _ => _mm256_blend_ps::<0b1111_0000>(sum, difference),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_eight(value: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps::<1>(value));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn greatest_of_eight(value: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps::<1>(value));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// 2^exponent for whole exponents from −126 to 127.
#[inline]
#[target_feature(enable = "avx2")]
fn power_of_two(exponent: __m256) -> __m256 {
    let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
}
