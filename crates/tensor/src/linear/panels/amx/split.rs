//! Numbers in f32 as sums of three numbers in bf16, in the order in which the tile registers are loaded.
//!
//! `high` is the number rounded to 8 bits (half away from zero), `middle` what is missing to the number, rounded likewise, and
//! `low` the rest, which has at most 8 bits: the three add up to the number, unless it is so small that a part is subnormal, which
//! the processor takes for zero. Infinities and NaNs make sums that are not finite.

#![allow(clippy::undocumented_unsafe_blocks, reason = "each function states its conditions")]
#![allow(clippy::needless_range_loop, reason = "loops over parts and pairs index several arrays alike")]

use std::arch::x86_64::*;

use super::super::pack::Left;
use super::tiles::{BLOCK_BYTES, ROWS, TILE_BYTES};
use crate::linear::lanes::transpose_floats;

/// Numbers of k in a block: a row of a tile register holds as many in bf16.
pub(super) const BLOCK: usize = 32;
/// How many elements ahead of their use contiguous tiles are fetched into the second-level cache.
const AHEAD: usize = 384;

/// The bits of a bf16 in an f32, as a mask.
const KEPT: i32 = 0xFFFF_0000_u32.cast_signed();

/// The parts of 16 numbers, each a bf16 in the upper half of its lane. The lower half of the last part is not zero.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn parts(values: __m512) -> [__m512i; 3] {
    let rounded = |values: __m512| {
        let bits = _mm512_add_epi32(_mm512_castps_si512(values), _mm512_set1_epi32(0x8000));
        _mm512_and_si512(bits, _mm512_set1_epi32(KEPT))
    };
    let high = rounded(values);
    let rest = _mm512_sub_ps(values, _mm512_castsi512_ps(high));
    let middle = rounded(rest);
    let low = _mm512_sub_ps(rest, _mm512_castsi512_ps(middle));
    [high, middle, _mm512_castps_si512(low)]
}

/// The upper halves of the lanes of `first` and `second`, which come first and second in each lane.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn pairs(first: __m512i, second: __m512i) -> __m512i {
    // Truth table of (first | (second & kept)).
    _mm512_ternarylogic_epi32::<0xF8>(_mm512_srli_epi32::<16>(first), second, _mm512_set1_epi32(KEPT))
}

/// Where the right factor's tiles lie.
#[derive(Clone, Copy)]
pub(super) struct RightTiles {
    /// Lane 0 of the first k of the first tile.
    pub(super) start: *const f32,
    /// Elements from one tile to the next.
    pub(super) tile_step: usize,
    /// Elements from one k to the next.
    pub(super) depth_step: usize,
    /// Lanes that can be read from `start` on.
    pub(super) lanes: usize,
}

impl RightTiles {
    /// The same from `k` on.
    pub(super) fn at(self, k: usize) -> RightTiles {
        RightTiles { start: self.start.wrapping_add(k * self.depth_step), ..self }
    }
}

/// Splits `depth` k of one or two tiles into `out`, `out_step` bytes from one tile to the next: `[block][part][16 pairs of k][16 lanes][2]`.
/// What is missing to whole blocks and tiles is zeros.
///
/// # Safety
/// The processor has AVX-512 F and BW, the lanes and k exist, and `out` is writable for whole blocks of that many tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
pub(super) unsafe fn pack_right(
    right: RightTiles,
    tiles: usize,
    depth: usize,
    out: *mut u8,
    out_step: usize,
) {
    for tile in 0..tiles {
        let lanes = (right.lanes - tile * ROWS).min(ROWS);
        let mask = ((1_u32 << lanes) - 1) as __mmask16;
        unsafe {
            let from = right.start.add(tile * right.tile_step);
            let out = out.add(tile * out_step);
            for pair in 0..depth.next_multiple_of(BLOCK) / 2 {
                let (block, row) = (pair / (BLOCK / 2), pair % (BLOCK / 2));
                let to = out.add(block * BLOCK_BYTES + row * size_of::<__m512i>());
                let mut both = [[_mm512_setzero_si512(); 3]; 2];
                for (parity, split) in both.iter_mut().enumerate() {
                    if 2 * pair + parity < depth {
                        let from = from.add((2 * pair + parity) * right.depth_step);
                        _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(AHEAD).cast());
                        *split = parts(_mm512_maskz_loadu_ps(mask, from));
                    }
                }
                for part in 0..3 {
                    _mm512_store_si512(to.add(part * TILE_BYTES).cast(), pairs(both[0][part], both[1][part]));
                }
            }
        }
    }
}

/// Splits `rows` rows of `depth` k into strips of 16 rows, `out_step` bytes from one strip to the next:
/// `[block][part][16 rows][32 k]`. What is missing to whole blocks and strips is zeros.
///
/// # Safety
/// The processor has AVX-512 F and BW, the rows and k exist, and `out` is writable for whole blocks of whole strips.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
pub(super) unsafe fn pack_left(left: Left, rows: usize, depth: usize, out: *mut u8, out_step: usize) {
    for strip in 0..rows.div_ceil(ROWS) {
        let first = strip * ROWS;
        let strip_rows = (rows - first).min(ROWS);
        unsafe {
            let out = out.add(strip * out_step);
            if left.depth_step == 1 {
                pack_rows(left.from(first, 0), strip_rows, depth, out);
            } else {
                pack_columns(left.from(first, 0), strip_rows, depth, out);
            }
        }
    }
}

/// A strip of rows whose k lie side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
unsafe fn pack_rows(left: Left, rows: usize, depth: usize, out: *mut u8) {
    // The upper halves of 32 lanes: odd words of two registers.
    let mut odd = [0_i16; 32];
    for (index, word) in odd.iter_mut().enumerate() {
        *word = 2 * index as i16 + 1;
    }
    unsafe {
        let odd = _mm512_loadu_si512(odd.as_ptr().cast());
        for row in 0..ROWS {
            let from = left.start.wrapping_add(row * left.row_step);
            for block in 0..depth.div_ceil(BLOCK) {
                let to = out.add(block * BLOCK_BYTES + row * size_of::<__m512i>());
                let exist = if row < rows { (depth - block * BLOCK).min(BLOCK) } else { 0 };
                let mask = ((1_u64 << exist) - 1) as u32;
                let from = from.wrapping_add(block * BLOCK);
                let first = parts(_mm512_maskz_loadu_ps(mask as __mmask16, from));
                let second = parts(_mm512_maskz_loadu_ps((mask >> 16) as __mmask16, from.wrapping_add(16)));
                for part in 0..3 {
                    let words = _mm512_permutex2var_epi16(first[part], odd, second[part]);
                    _mm512_store_si512(to.add(part * TILE_BYTES).cast(), words);
                }
            }
        }
    }
}

/// A strip of rows that lie side by side: pairs of k as they are in the right factor, then turned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
unsafe fn pack_columns(left: Left, rows: usize, depth: usize, out: *mut u8) {
    let mask = ((1_u32 << rows) - 1) as __mmask16;
    let zeros = [_mm512_setzero_si512(); 3];
    let mut turned = [[_mm512_setzero_si512(); BLOCK / 2]; 3];
    for block in 0..depth.div_ceil(BLOCK) {
        for pair in 0..BLOCK / 2 {
            let load = |k: usize| {
                if k < depth {
                    // SAFETY: the k exists, and rows that do not are masked.
                    parts(unsafe { _mm512_maskz_loadu_ps(mask, left.start.add(k * left.depth_step)) })
                } else {
                    zeros
                }
            };
            let k = block * BLOCK + 2 * pair;
            let (first, second) = (load(k), load(k + 1));
            for part in 0..3 {
                turned[part][pair] = pairs(first[part], second[part]);
            }
        }
        for (part, turned) in turned.iter().enumerate() {
            let from = turned.as_ptr().cast::<f32>();
            unsafe {
                let to = out.add(block * BLOCK_BYTES + part * TILE_BYTES).cast::<f32>();
                for pair in (0..ROWS).step_by(4) {
                    for row in (0..ROWS).step_by(4) {
                        transpose_floats(from.add(pair * 16 + row), 16, to.add(row * 16 + pair), 16);
                    }
                }
            }
        }
    }
}
