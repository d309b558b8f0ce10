//! Attention to keys and values in f32.

#![allow(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use std::ops::Range;

use super::AttentionCall;
use super::block::{Block, Scratch};
use super::kernel::{KEY_VECTORS, Pages, Visible, Weights, for_each_tile};
use crate::kv::{PAGE_TOKENS, PageId};
use crate::lanes::{LANES, Lanes};

/// Pages in f32.
pub(super) struct FloatPages;

impl Pages for FloatPages {
    /// Keys `[head_dim][32]` and values `[32][head_dim]`.
    type Block<'a> = (&'a [f32], &'a [f32]);

    #[inline(always)]
    fn block<'a>(call: &AttentionCall<'a>, page: PageId, kv_head: usize) -> Self::Block<'a> {
        call.cache.block(call.layer, page, kv_head)
    }

    /// `[head_dim][rows]` per tile.
    #[inline(always)]
    fn load_queries<L: Lanes>(lanes: L, queries: &[f32], block: &Block<'_>, scratch: &mut Scratch) {
        let head_dim = block.head_dim;
        let out = &mut scratch.queries;
        for_each_tile(
            lanes,
            block.rows(),
            #[inline(always)]
            |first, rows| {
                let tile = &mut out[first * head_dim..(first + rows) * head_dim];
                for row in 0..rows {
                    let column = tile[row..].iter_mut().step_by(rows);
                    if first + row < block.rows() {
                        let start = block.query_start(first + row);
                        let query = &queries[start..start + head_dim];
                        column.zip(query).for_each(|(out, value)| *out = value * block.scale);
                    } else {
                        column.for_each(|out| *out = 0.0);
                    }
                }
            },
        );
    }

    /// One chain of fused multiply-adds over `head_dim` each.
    #[inline(always)]
    fn scores<L: Lanes, const R: usize>(
        lanes: L,
        (keys, _): Self::Block<'_>,
        scratch: &Scratch,
        first: usize,
        head_dim: usize,
        out: &mut Weights<R>,
    ) {
        let queries = &scratch.queries[first * head_dim..(first + R) * head_dim];
        let mut sums = [[lanes.splat(0.0); KEY_VECTORS]; R];
        let (keys, queries) = (keys.as_chunks::<PAGE_TOKENS>().0, queries.as_chunks::<R>().0);
        for (keys, queries) in keys.iter().zip(queries) {
            let (keys, _) = keys.as_chunks::<LANES>();
            let (low, high) = (lanes.load(&keys[0]), lanes.load(&keys[1]));
            for row in 0..R {
                let query = lanes.splat(queries[row]);
                sums[row][0] = lanes.fma(query, low, sums[row][0]);
                sums[row][1] = lanes.fma(query, high, sums[row][1]);
            }
        }
        for row in 0..R {
            lanes.store(sums[row][0], &mut out[row][0]);
            lanes.store(sums[row][1], &mut out[row][1]);
        }
    }

    /// One chain per output, keys ascending.
    #[inline(always)]
    fn add_values<L: Lanes, const R: usize>(
        lanes: L,
        (_, values): Self::Block<'_>,
        visible: Visible<R>,
        weights: &Weights<R>,
        corrections: &[f32; R],
        outputs: &mut [f32],
    ) {
        let parts = match visible {
            Visible::All => {
                return add_values::<L, R>(lanes, values, weights, corrections, 0..PAGE_TOKENS, outputs);
            }
            Visible::Parts(parts) => parts,
        };
        let head_dim = outputs.len() / R;
        for (row, (from, to)) in parts.into_iter().enumerate() {
            let (weights, correction) = (&[weights[row]], &[corrections[row]]);
            let output = &mut outputs[row * head_dim..(row + 1) * head_dim];
            add_values::<L, 1>(lanes, values, weights, correction, from..to, output);
        }
    }
}

/// `outputs = outputs · correction + Σ weight · value` over `keys`, ascending, for all columns of `head_dim`.
#[inline(always)]
fn add_values<L: Lanes, const R: usize>(
    lanes: L,
    values: &[f32],
    weights: &Weights<R>,
    corrections: &[f32; R],
    keys: Range<usize>,
    outputs: &mut [f32],
) {
    let head_dim = outputs.len() / R;
    let tile =
        ValueTile { lanes, values: &values[..PAGE_TOKENS * head_dim], weights, corrections, keys, head_dim };
    let mut column = 0;
    // Few rows take more columns at once: as many independent chains as hide the latency of one.
    if R <= 4 && L::SCORE_ROWS >= 12 {
        while head_dim - column >= 4 * LANES {
            tile.add_columns::<4>(column, outputs);
            column += 4 * LANES;
        }
    }
    while head_dim - column >= 2 * LANES {
        tile.add_columns::<2>(column, outputs);
        column += 2 * LANES;
    }
    while head_dim - column >= LANES {
        tile.add_columns::<1>(column, outputs);
        column += LANES;
    }
    if column < head_dim {
        tile.add_last_columns(column, outputs);
    }
}

/// The operands of [`add_values`].
struct ValueTile<'a, L, const R: usize> {
    lanes: L,
    values: &'a [f32],
    weights: &'a Weights<R>,
    corrections: &'a [f32; R],
    keys: Range<usize>,
    head_dim: usize,
}

impl<L: Lanes, const R: usize> ValueTile<'_, L, R> {
    /// `C` vectors of columns from `column` on.
    #[inline(always)]
    fn add_columns<const C: usize>(&self, column: usize, outputs: &mut [f32]) {
        let (lanes, head_dim) = (self.lanes, self.head_dim);
        let mut sums = [[lanes.splat(0.0); C]; R];
        for row in 0..R {
            let correction = lanes.splat(self.corrections[row]);
            let start = row * head_dim + column;
            let (chunks, _) = outputs[start..start + C * LANES].as_chunks::<LANES>();
            for vector in 0..C {
                sums[row][vector] = lanes.mul(lanes.load(&chunks[vector]), correction);
            }
        }
        for key in self.keys.clone() {
            let start = key * head_dim + column;
            let (chunks, _) = self.values[start..start + C * LANES].as_chunks::<LANES>();
            let values: [L::Vector; C] = std::array::from_fn(
                #[inline(always)]
                |vector| lanes.load(&chunks[vector]),
            );
            for row in 0..R {
                let weight = lanes.splat(self.weights[row][key / LANES % KEY_VECTORS][key % LANES]);
                for vector in 0..C {
                    sums[row][vector] = lanes.fma(weight, values[vector], sums[row][vector]);
                }
            }
        }
        for row in 0..R {
            let start = row * head_dim + column;
            let (chunks, _) = outputs[start..start + C * LANES].as_chunks_mut::<LANES>();
            for vector in 0..C {
                lanes.store(sums[row][vector], &mut chunks[vector]);
            }
        }
    }

    /// The columns behind the last whole vector.
    #[inline(always)]
    fn add_last_columns(&self, column: usize, outputs: &mut [f32]) {
        let (lanes, head_dim) = (self.lanes, self.head_dim);
        for row in 0..R {
            let output = &mut outputs[row * head_dim + column..(row + 1) * head_dim];
            let mut sum = lanes.mul(lanes.load_head(output), lanes.splat(self.corrections[row]));
            for key in self.keys.clone() {
                let values = lanes.load_head(&self.values[key * head_dim + column..(key + 1) * head_dim]);
                let weight = lanes.splat(self.weights[row][key / LANES % KEY_VECTORS][key % LANES]);
                sum = lanes.fma(weight, values, sum);
            }
            lanes.store_head(sum, output);
        }
    }
}
