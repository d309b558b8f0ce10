//! Attention in plain Rust, one query at a time: the definition that the fast path equals bit for bit.

use std::ops::Range;

use super::block::{Block, Scratch};
use super::{AttentionCall, SPLIT_PAGES};
use crate::kv::PAGE_TOKENS;
use crate::lanes::{LANES, sum_lanes};
use crate::ops::exponential_of_one;

/// See [`super::block::BlockKernel`].
pub(super) fn attend_block(
    call: &AttentionCall<'_>,
    block: &Block<'_>,
    pages: Range<usize>,
    scratch: &mut Scratch,
) {
    for row in 0..block.rows() {
        let start = block.query_start(row);
        let query: Vec<f32> =
            call.queries[start..start + block.head_dim].iter().map(|value| value * block.scale).collect();
        let mut number = pages.start;
        while number < pages.end {
            let split_end = (number + 1).next_multiple_of(SPLIT_PAGES).min(pages.end);
            let split = attend_split(call, block, row, &query, number..split_end);
            merge_row(scratch, row, split.greatest, sum_lanes(split.sums), &split.outputs);
            number = split_end;
        }
    }
}

struct SplitResult {
    greatest: f32,
    sums: [f32; LANES],
    outputs: Vec<f32>,
}

fn attend_split(
    call: &AttentionCall<'_>,
    block: &Block<'_>,
    row: usize,
    query: &[f32],
    pages: Range<usize>,
) -> SplitResult {
    let mut result =
        SplitResult { greatest: f32::NEG_INFINITY, sums: [0.0; LANES], outputs: vec![0.0; query.len()] };
    for number in pages {
        let visible = block.visible_keys(row, number);
        if visible.is_empty() {
            continue;
        }
        let (keys, values) = call.cache.block(call.layer, block.pages[number], block.kv_head);
        let mut scores = [f32::NEG_INFINITY; PAGE_TOKENS];
        for key in visible.clone() {
            let chain = query.iter().enumerate();
            scores[key] = chain
                .fold(0.0, |sum, (dimension, query)| query.mul_add(keys[dimension * PAGE_TOKENS + key], sum));
        }
        let new = scores
            .iter()
            .fold(result.greatest, |greatest, score| if *score > greatest { *score } else { greatest });
        let change = if new == result.greatest { 0.0 } else { result.greatest - new };
        let correction = exponential_of_one(change);
        result.greatest = new;
        let weights = scores.map(|score| exponential_of_one(score - new));
        for (lane, sum) in result.sums.iter_mut().enumerate() {
            *sum = sum.mul_add(correction, weights[lane] + weights[lane + LANES]);
        }
        for (dimension, output) in result.outputs.iter_mut().enumerate() {
            *output = visible.clone().fold(*output * correction, |sum, key| {
                weights[key].mul_add(values[key * query.len() + dimension], sum)
            });
        }
    }
    result
}

/// Merges one row's partial result into its totals. Nothing seen (sum 0) changes nothing; the first is taken as it is.
pub(super) fn merge_row(scratch: &mut Scratch, row: usize, greatest: f32, sum: f32, outputs: &[f32]) {
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
    let (of_total, of_new) = (exponential_of_one(*total_greatest - new), exponential_of_one(greatest - new));
    *total_greatest = new;
    *total_sum = total_sum.mul_add(of_total, sum * of_new);
    for (total, output) in totals.iter_mut().zip(outputs) {
        *total = total.mul_add(of_total, output * of_new);
    }
}
