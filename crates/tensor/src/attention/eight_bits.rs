//! Attention to keys and values in 8 bits, by exact products of bytes.
//!
//! Per query and page: the scaled query is rotated as the keys are (see [`crate::rotation`]) and rounded to signed bytes
//! with a scale for each 32 dimensions, and
//! `score = fma(f32(Σ q·k), d_q·d_k, score)` block after block. A weight times its value's scale is rounded to an unsigned
//! byte, with one scale for the page (its greatest / 255), and `output = fma(f32(Σ w·v), d_w, output · correction)`. Hidden
//! keys have weight zero, so what their slots hold does not matter.

#![allow(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use super::AttentionCall;
use super::block::{Block, Scratch};
use super::kernel::{KEY_VECTORS, Pages, Visible, Weights, for_each_tile};
use crate::kv::{EightBitBlock, GROUPS, KEY_BLOCK, PAGE_TOKENS, PageId};
use crate::lanes::{LANES, Lanes};
use crate::rotation;
use crate::rounding;

/// What is added to keys to make them unsigned.
const KEY_OFFSET: i32 = 128;
/// The greatest unsigned byte.
pub(super) const UNSIGNED_LEVELS: f32 = 255.0;

/// Pages in 8 bits.
pub(super) struct EightBitPages;

/// Rounded queries of a block of rows.
#[derive(Debug, Default)]
pub(super) struct RoundedQueries {
    /// Four bytes each: per tile of rows `[head_dim / 32][8][rows of the tile]`.
    words: Vec<i32>,
    /// Per tile `[head_dim / 32][rows of the tile]`.
    scales: Vec<f32>,
    /// −128·Σq, which undoes the offset of the keys; ordered like the scales.
    offsets: Vec<i32>,
}

impl RoundedQueries {
    /// Values for `rows` rows.
    pub(super) fn elements(rows: usize, head_dim: usize) -> usize {
        rows.saturating_mul(head_dim / 4 + 2 * (head_dim / KEY_BLOCK))
    }

    /// Bytes that have been taken so far.
    pub(super) fn bytes(&self) -> usize {
        (self.words.len() + self.scales.len() + self.offsets.len()) * size_of::<f32>()
    }

    /// Makes room for `rows` rows.
    pub(super) fn reserve(&mut self, rows: usize, head_dim: usize) {
        let blocks = rows * (head_dim / KEY_BLOCK);
        if self.scales.len() < blocks {
            self.words.resize(blocks * GROUPS, 0);
            self.scales.resize(blocks, 0.0);
            self.offsets.resize(blocks, 0);
        }
    }
}

impl Pages for EightBitPages {
    type Block<'a> = EightBitBlock<'a>;

    #[inline(always)]
    fn block<'a>(call: &AttentionCall<'a>, page: PageId, kv_head: usize) -> EightBitBlock<'a> {
        call.cache.eight_bit_block(call.layer, page, kv_head)
    }

    #[inline(always)]
    fn load_queries<L: Lanes>(lanes: L, queries: &[f32], block: &Block<'_>, scratch: &mut Scratch) {
        let blocks = block.head_dim / KEY_BLOCK;
        let RoundedQueries { words, scales, offsets } = &mut scratch.rounded_queries;
        let rotated = &mut scratch.queries[..block.head_dim];
        for_each_tile(
            lanes,
            block.rows(),
            #[inline(always)]
            |first, rows| {
                for row in 0..rows {
                    let is_query = first + row < block.rows();
                    if is_query {
                        let start = block.query_start(first + row);
                        for (rotated, value) in rotated.iter_mut().zip(&queries[start..]) {
                            *rotated = value * block.scale;
                        }
                        rotation::rotate(lanes, rotated);
                    }
                    for index in 0..blocks {
                        let at = first * blocks + index * rows + row;
                        let (mut bytes, mut scale) = ([0; KEY_BLOCK], 0.0);
                        if is_query {
                            let dimensions = &rotated[index * KEY_BLOCK..(index + 1) * KEY_BLOCK];
                            scale = rounding::quantise(lanes, dimensions, &mut bytes);
                        }
                        let sum: i32 = bytes.iter().map(|byte| i32::from(byte.cast_signed())).sum();
                        scales[at] = scale;
                        offsets[at] = -KEY_OFFSET * sum;
                        for (group, four) in bytes.as_chunks::<4>().0.iter().enumerate() {
                            let start = (first * blocks + index * rows) * GROUPS;
                            words[start + group * rows + row] = i32::from_le_bytes(*four);
                        }
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn scores<L: Lanes, const R: usize>(
        lanes: L,
        page: EightBitBlock<'_>,
        scratch: &Scratch,
        first: usize,
        head_dim: usize,
        out: &mut Weights<R>,
    ) {
        let blocks = head_dim / KEY_BLOCK;
        let range = first * blocks..(first + R) * blocks;
        let RoundedQueries { words, scales, offsets } = &scratch.rounded_queries;
        let words = words[range.start * GROUPS..range.end * GROUPS].as_chunks::<R>().0;
        let (scales, offsets) = (scales[range.clone()].as_chunks::<R>().0, offsets[range].as_chunks::<R>().0);
        let mut sums = [[lanes.splat(0.0); KEY_VECTORS]; R];
        for block in 0..blocks {
            let keys = &page.keys[block * KEY_VECTORS * GROUPS..(block + 1) * KEY_VECTORS * GROUPS];
            let words = &words[block * GROUPS..(block + 1) * GROUPS];
            let mut dots = [[lanes.splat_int(0); KEY_VECTORS]; R];
            for row in 0..R {
                dots[row] = [lanes.splat_int(offsets[block][row]); KEY_VECTORS];
            }
            for group in 0..GROUPS {
                let (low, high) = (lanes.load_bytes(&keys[group]), lanes.load_bytes(&keys[GROUPS + group]));
                for row in 0..R {
                    let query = lanes.splat_int(words[group][row]);
                    dots[row][0] = lanes.dot(dots[row][0], low, query);
                    dots[row][1] = lanes.dot(dots[row][1], high, query);
                }
            }
            let (key_scales, _) = page.key_scales[block].as_chunks::<LANES>();
            let key_scales = [lanes.load(&key_scales[0]), lanes.load(&key_scales[1])];
            for row in 0..R {
                let scale = lanes.splat(scales[block][row]);
                for vector in 0..KEY_VECTORS {
                    let scale = lanes.mul(scale, key_scales[vector]);
                    sums[row][vector] =
                        lanes.fma(lanes.to_floats(dots[row][vector]), scale, sums[row][vector]);
                }
            }
        }
        for row in 0..R {
            for vector in 0..KEY_VECTORS {
                lanes.store(sums[row][vector], &mut out[row][vector]);
            }
        }
    }

    #[inline(always)]
    fn add_values<L: Lanes, const R: usize>(
        lanes: L,
        page: EightBitBlock<'_>,
        _visible: Visible<R>,
        weights: &Weights<R>,
        corrections: &[f32; R],
        outputs: &mut [f32],
    ) {
        let head_dim = outputs.len() / R;
        let (words, scales) = rounded_weights(lanes, page.value_scales, weights);
        for (pair, values) in page.values.chunks_exact(2 * GROUPS).enumerate() {
            let mut dots = [[lanes.splat_int(0); 2]; R];
            for group in 0..GROUPS {
                let values = [lanes.load_bytes(&values[group]), lanes.load_bytes(&values[GROUPS + group])];
                for row in 0..R {
                    let weights = lanes.splat_int(words[row][group]);
                    dots[row][0] = lanes.dot(dots[row][0], weights, values[0]);
                    dots[row][1] = lanes.dot(dots[row][1], weights, values[1]);
                }
            }
            for row in 0..R {
                let start = row * head_dim + pair * 2 * LANES;
                let (outputs, _) = outputs[start..start + 2 * LANES].as_chunks_mut::<LANES>();
                let (scale, correction) = (lanes.splat(scales[row]), lanes.splat(corrections[row]));
                for vector in 0..2 {
                    let before = lanes.mul(lanes.load(&outputs[vector]), correction);
                    let sum = lanes.fma(lanes.to_floats(dots[row][vector]), scale, before);
                    lanes.store(sum, &mut outputs[vector]);
                }
            }
        }
    }
}

/// Weights times the values' scales, as unsigned bytes (four to a word), and the scales of the rows.
#[inline(always)]
fn rounded_weights<L: Lanes, const R: usize>(
    lanes: L,
    value_scales: &[f32],
    weights: &Weights<R>,
) -> ([[i32; GROUPS]; R], [f32; R]) {
    let (value_scales, _) = value_scales[..PAGE_TOKENS].as_chunks::<LANES>();
    let value_scales = [lanes.load(&value_scales[0]), lanes.load(&value_scales[1])];
    let (mut words, mut scales) = ([[0; GROUPS]; R], [0.0; R]);
    let smallest = lanes.splat(f32::MIN_POSITIVE);
    for row in 0..R {
        let mut products = [lanes.splat(0.0); KEY_VECTORS];
        for vector in 0..KEY_VECTORS {
            let weight = lanes.load(&weights[row][vector]);
            // A weight of zero is zero whatever the scale: the slot may hold what a former owner left.
            products[vector] =
                lanes.zero_where_less(lanes.mul(weight, value_scales[vector]), weight, smallest);
        }
        let (scale, inverse) = rounding::scale_of(lanes.largest(products[0], products[1]), UNSIGNED_LEVELS);
        scales[row] = scale;
        let mut bytes = [[0; LANES]; KEY_VECTORS];
        for vector in 0..KEY_VECTORS {
            lanes.store_rounded(products[vector], inverse, &mut bytes[vector]);
        }
        for (word, four) in words[row].iter_mut().zip(bytes.as_flattened().as_chunks::<4>().0) {
            *word = i32::from_le_bytes(*four);
        }
    }
    (words, scales)
}
