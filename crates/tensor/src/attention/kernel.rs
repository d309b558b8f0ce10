//! The fast path of attention: tiles of query rows against a page of 32 keys, in registers.
//!
//! A tile computes `rows × 32` scores (keys are lanes), then adds `rows × columns` of the values (dimensions are lanes).
//! The number of rows in a tile changes speed only: every score and output is a chain of its own.

#![allow(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use std::ops::Range;

use super::block::{Block, Scratch};
use super::{AttentionCall, SPLIT_PAGES};
use crate::kv::PAGE_TOKENS;
use crate::lanes::{LANES, Lanes};
use crate::ops::exponential;

/// Rows of the largest tile at any level.
pub(super) const FULL_TILE_ROWS: usize = 12;
/// Vectors of keys in a page.
const KEY_VECTORS: usize = PAGE_TOKENS / LANES;

/// One page of keys and values of one head.
struct Page<'a> {
    number: usize,
    /// `[head_dim][32]`.
    keys: &'a [f32],
    /// `[32][head_dim]`.
    values: &'a [f32],
}

/// See [`super::block::BlockKernel`].
#[inline(always)]
pub(super) fn attend_block<L: Lanes>(
    lanes: L,
    call: &AttentionCall<'_>,
    block: &Block<'_>,
    pages: Range<usize>,
    scratch: &mut Scratch,
) {
    load_queries(lanes, call.queries, block, &mut scratch.queries);
    let mut number = pages.start;
    while number < pages.end {
        let split_end = (number + 1).next_multiple_of(SPLIT_PAGES).min(pages.end);
        scratch.start_split(block);
        for number in number..split_end {
            let (keys, values) = call.cache.block(call.layer, block.pages[number], block.kv_head);
            let page = Page { number, keys, values };
            for_each_tile(
                lanes,
                block.rows(),
                #[inline(always)]
                |first, rows| attend_tile(lanes, block, &page, first, rows, scratch),
            );
        }
        merge_split(lanes, block, scratch);
        number = split_end;
    }
}

/// Calls `tile(first row, rows rounded up to a size that has a kernel)` for all rows.
#[inline(always)]
fn for_each_tile<L: Lanes>(_: L, rows: usize, mut tile: impl FnMut(usize, usize)) {
    let mut first = 0;
    while first < rows {
        let size = match (rows - first).min(L::SCORE_ROWS) {
            5 => 6,
            7 => 8,
            9..=11 => FULL_TILE_ROWS,
            size => size,
        };
        tile(first, size);
        first += size;
    }
}

/// Scales the queries and lays them out as `[head_dim][rows]` per tile. Padding rows become zero.
#[inline(always)]
fn load_queries<L: Lanes>(lanes: L, queries: &[f32], block: &Block<'_>, out: &mut [f32]) {
    let head_dim = block.head_dim;
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

#[inline(always)]
fn attend_tile<L: Lanes>(
    lanes: L,
    block: &Block<'_>,
    page: &Page<'_>,
    first: usize,
    rows: usize,
    scratch: &mut Scratch,
) {
    match rows {
        1 => attend_rows::<L, 1>(lanes, block, page, first, scratch),
        2 => attend_rows::<L, 2>(lanes, block, page, first, scratch),
        3 => attend_rows::<L, 3>(lanes, block, page, first, scratch),
        4 if L::SCORE_ROWS >= 4 => attend_rows::<L, 4>(lanes, block, page, first, scratch),
        6 if L::SCORE_ROWS >= 6 => attend_rows::<L, 6>(lanes, block, page, first, scratch),
        8 if L::SCORE_ROWS >= 8 => attend_rows::<L, 8>(lanes, block, page, first, scratch),
        _ if L::SCORE_ROWS >= 12 => attend_rows::<L, FULL_TILE_ROWS>(lanes, block, page, first, scratch),
        _ => unreachable!("tiles have the sizes of for_each_tile"),
    }
}

/// Which keys of the page the rows of a tile see.
enum Visible<const R: usize> {
    All,
    Parts([(usize, usize); R]),
}

#[inline(always)]
fn visible<const R: usize>(block: &Block<'_>, page: usize, first: usize) -> Option<Visible<R>> {
    let last = (first + R).min(block.rows()) - 1;
    let (of_first, of_last) = (block.visible_keys(first, page), block.visible_keys(last, page));
    // Both ends of what is seen move forward from row to row.
    if of_first.end == PAGE_TOKENS && of_last.start == 0 && !of_first.is_empty() {
        return Some(Visible::All);
    }
    let parts: [(usize, usize); R] = std::array::from_fn(|row| {
        let keys = block.visible_keys(first + row, page);
        (keys.start, keys.end)
    });
    parts.iter().any(|(from, to)| from < to).then_some(Visible::Parts(parts))
}

#[inline(always)]
fn attend_rows<L: Lanes, const R: usize>(
    lanes: L,
    block: &Block<'_>,
    page: &Page<'_>,
    first: usize,
    scratch: &mut Scratch,
) {
    let Some(visible) = visible::<R>(block, page.number, first) else {
        return;
    };
    let head_dim = block.head_dim;
    let queries = &scratch.queries[first * head_dim..(first + R) * head_dim];
    let mut weights = [[[0.0f32; LANES]; KEY_VECTORS]; R];
    scores::<L, R>(lanes, page.keys, queries, &mut weights);
    if let Visible::Parts(parts) = &visible {
        for (scores, (from, to)) in weights.iter_mut().zip(parts) {
            hide_keys_outside(lanes, scores, *from, *to);
        }
    }
    let greatest = &mut scratch.greatest[first..first + R];
    let sums = &mut scratch.sums[first..first + R];
    let corrections = weigh::<L, R>(lanes, &mut weights, greatest, sums);
    let outputs = &mut scratch.outputs[first * head_dim..(first + R) * head_dim];
    match visible {
        Visible::All => {
            add_values::<L, R>(lanes, page.values, &weights, &corrections, 0..PAGE_TOKENS, outputs)
        }
        Visible::Parts(parts) => {
            for (row, (from, to)) in parts.into_iter().enumerate() {
                let (weights, correction) = (&[weights[row]], &[corrections[row]]);
                let output = &mut outputs[row * head_dim..(row + 1) * head_dim];
                add_values::<L, 1>(lanes, page.values, weights, correction, from..to, output);
            }
        }
    }
}

/// Scores of `R` queries with 32 keys: one chain of fused multiply-adds over `head_dim` each.
#[inline(always)]
fn scores<L: Lanes, const R: usize>(
    lanes: L,
    keys: &[f32],
    queries: &[f32],
    out: &mut [[[f32; LANES]; KEY_VECTORS]; R],
) {
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

/// Makes the scores of keys outside `from..to` −∞.
#[inline(always)]
fn hide_keys_outside<L: Lanes>(lanes: L, scores: &mut [[f32; LANES]; KEY_VECTORS], from: usize, to: usize) {
    for (vector, scores) in scores.iter_mut().enumerate() {
        let within = |key: usize| key.saturating_sub(vector * LANES).min(LANES);
        let (from, to) = (within(from), within(to));
        let kept = lanes.only_lanes(lanes.load(scores), from, to.max(from));
        lanes.store(kept, scores);
    }
}

/// Turns scores into weights e^(score − greatest), adds the weights to the sums, and returns the factors e^(old − new
/// greatest) by which former results are to be multiplied. A row that sees nothing gets zero weights and factor 1.
#[inline(always)]
fn weigh<L: Lanes, const R: usize>(
    lanes: L,
    weights: &mut [[[f32; LANES]; KEY_VECTORS]; R],
    greatest: &mut [f32],
    sums: &mut [[f32; LANES]],
) -> [f32; R] {
    let mut changes = [0.0f32; LANES];
    for row in 0..R {
        let [low, high] = [lanes.load(&weights[row][0]), lanes.load(&weights[row][1])];
        let new = lanes.greatest(lanes.at_least(low, high));
        let old = greatest[row];
        let new = if new > old { new } else { old };
        // Equal infinities have no difference; nothing has changed then.
        changes[row] = if new == old { 0.0 } else { old - new };
        greatest[row] = new;
    }
    let mut corrections = [0.0f32; LANES];
    lanes.store(exponential(lanes, lanes.load(&changes)), &mut corrections);
    for row in 0..R {
        // A row that has seen nothing yet keeps −∞ scores, whose weights are 0 with any finite number taken off.
        let subtracted = if greatest[row] == f32::NEG_INFINITY { 0.0 } else { -greatest[row] };
        let subtracted = lanes.splat(subtracted);
        let low = exponential(lanes, lanes.add(lanes.load(&weights[row][0]), subtracted));
        let high = exponential(lanes, lanes.add(lanes.load(&weights[row][1]), subtracted));
        lanes.store(low, &mut weights[row][0]);
        lanes.store(high, &mut weights[row][1]);
        let correction = lanes.splat(corrections[row]);
        let sum = lanes.fma(lanes.load(&sums[row]), correction, lanes.add(low, high));
        lanes.store(sum, &mut sums[row]);
    }
    std::array::from_fn(|row| corrections[row])
}

/// `outputs = outputs · correction + Σ weight · value` over `keys`, ascending, for all columns of `head_dim`.
#[inline(always)]
fn add_values<L: Lanes, const R: usize>(
    lanes: L,
    values: &[f32],
    weights: &[[[f32; LANES]; KEY_VECTORS]; R],
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
    weights: &'a [[[f32; LANES]; KEY_VECTORS]; R],
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

/// Merges the results of the split that has just ended into the totals.
#[inline(always)]
fn merge_split<L: Lanes>(lanes: L, block: &Block<'_>, scratch: &mut Scratch) {
    let head_dim = block.head_dim;
    let outputs = std::mem::take(&mut scratch.outputs);
    for row in 0..block.rows() {
        let sum = lanes.sum(lanes.load(&scratch.sums[row]));
        let greatest = scratch.greatest[row];
        merge_row(lanes, scratch, row, greatest, sum, &outputs[row * head_dim..(row + 1) * head_dim]);
    }
    scratch.outputs = outputs;
}

/// Merges one row's partial result into its totals. Nothing seen (sum 0) changes nothing; the first is taken as it is.
#[inline(always)]
pub(super) fn merge_row<L: Lanes>(
    lanes: L,
    scratch: &mut Scratch,
    row: usize,
    greatest: f32,
    sum: f32,
    outputs: &[f32],
) {
    if sum == 0.0 {
        return;
    }
    let totals = &mut scratch.total_outputs[row * outputs.len()..(row + 1) * outputs.len()];
    let (total_greatest, total_sum) = (&mut scratch.total_greatest[row], &mut scratch.total_sums[row]);
    if *total_sum == 0.0 {
        totals.copy_from_slice(outputs);
        (*total_greatest, *total_sum) = (greatest, sum);
        return;
    }
    let new = if greatest > *total_greatest { greatest } else { *total_greatest };
    let mut factors = [0.0f32; LANES];
    (factors[0], factors[1]) = (*total_greatest - new, greatest - new);
    let exponents = lanes.load(&factors);
    lanes.store(exponential(lanes, exponents), &mut factors);
    *total_greatest = new;
    *total_sum = total_sum.mul_add(factors[0], sum * factors[1]);
    let (of_total, of_new) = (lanes.splat(factors[0]), lanes.splat(factors[1]));
    let (totals, totals_tail) = totals.as_chunks_mut::<LANES>();
    let (outputs, outputs_tail) = outputs.as_chunks::<LANES>();
    for (total, output) in totals.iter_mut().zip(outputs) {
        let added = lanes.mul(lanes.load(output), of_new);
        lanes.store(lanes.fma(lanes.load(total), of_total, added), total);
    }
    if !totals_tail.is_empty() {
        let added = lanes.mul(lanes.load_head(outputs_tail), of_new);
        lanes.store_head(lanes.fma(lanes.load_head(totals_tail), of_total, added), totals_tail);
    }
}
