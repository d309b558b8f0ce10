//! The fast path of attention: tiles of query rows against a page of 32 keys, in registers.
//!
//! A tile computes `rows × 32` scores (keys are lanes), then adds `rows × columns` of the values (dimensions are lanes).
//! The number of rows in a tile changes speed only: every score and output is a chain of its own. How keys and values are
//! kept is known to the implementations of [`Pages`] alone.

#![allow(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use std::ops::Range;

use super::block::{Block, Scratch};
use super::{AttentionCall, SPLIT_PAGES};
use crate::kv::{PAGE_TOKENS, PageId};
use crate::lanes::{LANES, Lanes};
use crate::ops::exponential;

/// Rows of the largest tile at any level.
pub(super) const FULL_TILE_ROWS: usize = 12;
/// Vectors of keys in a page.
pub(super) const KEY_VECTORS: usize = PAGE_TOKENS / LANES;

/// A way to keep keys and values, and how scores and weighted sums are computed from it.
pub(super) trait Pages {
    /// The keys and values of one page, layer and head.
    type Block<'a>: Copy;

    fn block<'a>(call: &AttentionCall<'a>, page: PageId, kv_head: usize) -> Self::Block<'a>;

    /// Scales the queries of a block of rows and lays them out as [`Pages::scores`] reads them. Padding rows are zero.
    fn load_queries<L: Lanes>(lanes: L, queries: &[f32], block: &Block<'_>, scratch: &mut Scratch);

    /// Scores of the `R` queries from row `first` on with 32 keys.
    fn scores<L: Lanes, const R: usize>(
        lanes: L,
        page: Self::Block<'_>,
        scratch: &Scratch,
        first: usize,
        head_dim: usize,
        out: &mut Weights<R>,
    );

    /// `outputs = outputs · correction + Σ weight · value` over the visible keys, for all dimensions.
    fn add_values<L: Lanes, const R: usize>(
        lanes: L,
        page: Self::Block<'_>,
        visible: Visible<R>,
        weights: &Weights<R>,
        corrections: &[f32; R],
        outputs: &mut [f32],
    );
}

/// Scores, then weights, of `R` queries with the keys of a page.
pub(super) type Weights<const R: usize> = [[[f32; LANES]; KEY_VECTORS]; R];

/// See [`super::block::BlockKernel`].
#[inline(always)]
pub(super) fn attend_block<L: Lanes, P: Pages>(
    lanes: L,
    call: &AttentionCall<'_>,
    block: &Block<'_>,
    pages: Range<usize>,
    scratch: &mut Scratch,
) {
    fetch_page(lanes, call, block, pages.start);
    P::load_queries(lanes, call.queries, block, scratch);
    let mut number = pages.start;
    while number < pages.end {
        let split_end = (number + 1).next_multiple_of(SPLIT_PAGES).min(pages.end);
        scratch.start_split(block);
        for number in number..split_end {
            if number + 1 < pages.end {
                fetch_page(lanes, call, block, number + 1);
            }
            let page = P::block(call, block.pages[number], block.kv_head);
            for_each_tile(
                lanes,
                block.rows(),
                #[inline(always)]
                |first, rows| attend_tile::<L, P>(lanes, block, number, page, first, rows, scratch),
            );
        }
        merge_split(lanes, block, scratch);
        number = split_end;
    }
}

#[inline(always)]
fn fetch_page<L: Lanes>(lanes: L, call: &AttentionCall<'_>, block: &Block<'_>, number: usize) {
    if let Some(page) = block.pages.get(number) {
        lanes.fetch_ahead(call.cache.whole_block(call.layer, *page, block.kv_head));
    }
}

/// Calls `tile(first row, rows rounded up to a size that has a kernel)` for all rows.
#[inline(always)]
pub(super) fn for_each_tile<L: Lanes>(_: L, rows: usize, mut tile: impl FnMut(usize, usize)) {
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

#[inline(always)]
fn attend_tile<L: Lanes, P: Pages>(
    lanes: L,
    block: &Block<'_>,
    number: usize,
    page: P::Block<'_>,
    first: usize,
    rows: usize,
    scratch: &mut Scratch,
) {
    match rows {
        1 => attend_rows::<L, P, 1>(lanes, block, number, page, first, scratch),
        2 => attend_rows::<L, P, 2>(lanes, block, number, page, first, scratch),
        3 => attend_rows::<L, P, 3>(lanes, block, number, page, first, scratch),
        4 if L::SCORE_ROWS >= 4 => attend_rows::<L, P, 4>(lanes, block, number, page, first, scratch),
        6 if L::SCORE_ROWS >= 6 => attend_rows::<L, P, 6>(lanes, block, number, page, first, scratch),
        8 if L::SCORE_ROWS >= 8 => attend_rows::<L, P, 8>(lanes, block, number, page, first, scratch),
        _ if L::SCORE_ROWS >= 12 => {
            attend_rows::<L, P, FULL_TILE_ROWS>(lanes, block, number, page, first, scratch);
        }
        _ => unreachable!("tiles have the sizes of for_each_tile"),
    }
}

/// Which keys of the page the rows of a tile see.
pub(super) enum Visible<const R: usize> {
    All,
    /// Of each row, from the first to behind the last.
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
fn attend_rows<L: Lanes, P: Pages, const R: usize>(
    lanes: L,
    block: &Block<'_>,
    number: usize,
    page: P::Block<'_>,
    first: usize,
    scratch: &mut Scratch,
) {
    let Some(visible) = visible::<R>(block, number, first) else {
        return;
    };
    let head_dim = block.head_dim;
    let mut weights = [[[0.0f32; LANES]; KEY_VECTORS]; R];
    P::scores(lanes, page, scratch, first, head_dim, &mut weights);
    if let Visible::Parts(parts) = &visible {
        for (scores, (from, to)) in weights.iter_mut().zip(parts) {
            hide_keys_outside(lanes, scores, *from, *to);
        }
    }
    let greatest = &mut scratch.greatest[first..first + R];
    let sums = &mut scratch.sums[first..first + R];
    let corrections = weigh::<L, R>(lanes, &mut weights, greatest, sums);
    let outputs = &mut scratch.outputs[first * head_dim..(first + R) * head_dim];
    P::add_values(lanes, page, visible, &weights, &corrections, outputs);
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
