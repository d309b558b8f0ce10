//! Attention in plain Rust, one query at a time: the definition that the fast path equals bit for bit.

use std::ops::Range;

use super::block::{Block, Scratch};
use super::eight_bits::UNSIGNED_LEVELS;
use super::{AttentionCall, SPLIT_PAGES};
use crate::kv::{EightBitBlock, KEY_BLOCK, KvDtype, PAGE_TOKENS, PageId};
use crate::lanes::{LANES, sum_lanes};
use crate::ops::exponential_of_one;
use crate::rotation::rotate_reference;
use crate::rounding::{largest_of, quantise_reference, round_to_byte, scale_of};

/// See [`super::block::BlockKernel`].
pub(super) fn attend_block(
    call: &AttentionCall<'_>,
    block: &Block<'_>,
    pages: Range<usize>,
    scratch: &mut Scratch,
) {
    for row in 0..block.rows() {
        let start = block.query_start(row);
        let mut query: Vec<f32> =
            call.queries[start..start + block.head_dim].iter().map(|value| value * block.scale).collect();
        if call.cache.shape().dtype == KvDtype::Int8 {
            rotate_reference(&mut query);
        }
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
        let page = Page::of(call, block.pages[number], block.kv_head);
        let mut scores = [f32::NEG_INFINITY; PAGE_TOKENS];
        for key in visible.clone() {
            scores[key] = page.score(query, key);
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
        page.add_values(visible, &weights, correction, &mut result.outputs);
    }
    result
}

/// The keys and values of one page and head.
enum Page<'a> {
    Floats { keys: &'a [f32], values: &'a [f32] },
    EightBits(EightBitBlock<'a>),
}

impl<'a> Page<'a> {
    fn of(call: &AttentionCall<'a>, page: PageId, kv_head: usize) -> Page<'a> {
        match call.cache.shape().dtype {
            KvDtype::F32 => {
                let (keys, values) = call.cache.block(call.layer, page, kv_head);
                Page::Floats { keys, values }
            }
            KvDtype::Int8 => Page::EightBits(call.cache.eight_bit_block(call.layer, page, kv_head)),
        }
    }

    fn score(&self, query: &[f32], key: usize) -> f32 {
        match self {
            Page::Floats { keys, .. } => query
                .iter()
                .enumerate()
                .fold(0.0, |sum, (dimension, query)| query.mul_add(keys[dimension * PAGE_TOKENS + key], sum)),
            Page::EightBits(page) => {
                let blocks = query.as_chunks::<KEY_BLOCK>().0.iter().enumerate();
                blocks.fold(0.0, |sum, (block, query)| {
                    let mut bytes = [0u8; KEY_BLOCK];
                    let scale = quantise_reference(query, &mut bytes);
                    let dot: i32 = (0..KEY_BLOCK)
                        .map(|i| i32::from(bytes[i].cast_signed()) * page.key(block * KEY_BLOCK + i, key))
                        .sum();
                    (dot as f32).mul_add(scale * page.key_scales[block][key], sum)
                })
            }
        }
    }

    fn add_values(
        &self,
        visible: Range<usize>,
        weights: &[f32; PAGE_TOKENS],
        correction: f32,
        outputs: &mut [f32],
    ) {
        let head_dim = outputs.len();
        match self {
            Page::Floats { values, .. } => {
                for (dimension, output) in outputs.iter_mut().enumerate() {
                    *output = visible.clone().fold(*output * correction, |sum, key| {
                        weights[key].mul_add(values[key * head_dim + dimension], sum)
                    });
                }
            }
            Page::EightBits(page) => {
                let mut products = [0.0; PAGE_TOKENS];
                for key in 0..PAGE_TOKENS {
                    if weights[key] != 0.0 {
                        products[key] = weights[key] * page.value_scales[key];
                    }
                }
                let (scale, inverse) = scale_of(largest_of(&products), UNSIGNED_LEVELS);
                let bytes = products.map(|product| i32::from(round_to_byte(product, inverse)));
                for (dimension, output) in outputs.iter_mut().enumerate() {
                    let dot: i32 = (0..PAGE_TOKENS).map(|key| bytes[key] * page.value(dimension, key)).sum();
                    *output = (dot as f32).mul_add(scale, *output * correction);
                }
            }
        }
    }
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
