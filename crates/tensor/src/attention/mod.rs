//! Causal grouped-query attention over the pages of the KV cache, with online softmax (Milakov & Gimelshein 2018;
//! Dao et al. 2022, "FlashAttention"), for prefill, decode and any mixture of both in one batch.
//!
//! What a query's output is made of, whatever else is in the batch:
//! * pages of 32 positions in ascending order; a score is one chain of fused multiply-adds over `head_dim`;
//! * within a page, weights e^(score − greatest so far); the sum of weights has sixteen lanes; what was summed before
//!   is multiplied by e^(old greatest − new greatest); values are added by one chain per output, keys ascending;
//! * every [`SPLIT_PAGES`] pages (counted from position 0) a new partial result begins, and partial results are merged in
//!   ascending order. So a long context can be shared by several threads without changing a bit.
//!
//! Masked keys are left out of the chains, never multiplied by zero. With keys and values in 8 bits the products within a
//! page are exact products of bytes instead (see `eight_bits`), in which a masked key weighs exactly zero. Score, weight and merge have a plain reference
//! (`reference`) that every instruction set equals bit for bit.

mod backward;
mod block;
mod eight_bits;
mod floats;
mod kernel;
mod packed;
mod plan;
mod reference;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::kv::{KvCache, PAGE_TOKENS};
use crate::lanes::dispatch;
use crate::team::{DisjointMut, is_background};
use crate::{SimdLevel, ThreadTeam};
pub(crate) use backward::{
    AttentionGradientCall, AttentionGradientOutputs, AttentionGradientScratch, attention_gradient,
};
use block::{Block, BlockKernel, MergeKernel, Scratch};
pub(crate) use packed::PackedDocuments;
pub(crate) use plan::AttentionPlan;
use plan::{Item, Work};

/// Pages (of 32 positions) per partial result.
pub(crate) const SPLIT_PAGES: usize = 8;

/// The heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head: a multiple of 8.
    pub head_dim: usize,
    /// Multiplies scores, usually 1/√head_dim.
    pub scale: f32,
}

/// Memory that attention reuses from call to call.
#[derive(Debug, Default)]
pub(crate) struct AttentionScratch {
    workers: Vec<Mutex<Scratch>>,
    partials: Vec<f32>,
}

impl AttentionScratch {
    /// Values that attention needs at most.
    pub(crate) fn elements(shape: &AttentionShape, threads: usize, context_length: usize) -> usize {
        let per_worker = Scratch::elements(plan::most_block_rows(shape), shape.head_dim);
        let splits = context_length.div_ceil(SPLIT_PAGES * PAGE_TOKENS);
        let partials =
            plan::most_split_rows(threads).saturating_mul(splits).saturating_mul(shape.head_dim + 2);
        per_worker.saturating_mul(threads).saturating_add(partials)
    }

    /// Bytes that have been taken so far.
    pub(crate) fn bytes(&self) -> usize {
        let worker = |worker: &Mutex<Scratch>| worker.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        self.workers.iter().map(worker).sum::<usize>() + size_of_val(self.partials.as_slice())
    }
}

/// What one call of [`attend`] works on.
pub(crate) struct AttentionCall<'a> {
    pub(crate) plan: &'a AttentionPlan,
    pub(crate) cache: &'a KvCache,
    pub(crate) layer: usize,
    /// Number of most recent positions seen, or `None` for all.
    pub(crate) window: Option<usize>,
    /// `[rows, heads · head_dim]`.
    pub(crate) queries: &'a [f32],
}

/// Where the results of [`attend`] go.
pub(crate) struct AttentionOutputs<'a> {
    /// `[rows, heads · head_dim]`.
    pub(crate) rows: &'a mut [f32],
    /// The logarithm of the sum of e^score over what a row and head sees, `[rows, heads]`: with it a backward pass computes
    /// the weights again, as e^(score − log sum).
    pub(crate) log_sums: Option<&'a mut [f32]>,
}

/// [`AttentionOutputs`], shared by the threads.
struct SharedOutputs<'a> {
    rows: DisjointMut<'a, f32>,
    log_sums: Option<DisjointMut<'a, f32>>,
}

/// Attention of every planned row. Keys and values of the rows are in the cache.
pub(crate) fn attend(
    call: &AttentionCall<'_>,
    outputs: AttentionOutputs<'_>,
    scratch: &mut AttentionScratch,
    simd: SimdLevel,
    team: &ThreadTeam,
) {
    let plan = call.plan;
    scratch.workers.resize_with(team.threads().max(scratch.workers.len()), Mutex::default);
    for worker in &mut scratch.workers {
        let worker = worker.get_mut().unwrap_or_else(PoisonError::into_inner);
        worker.reserve(plan.block_rows(), plan.shape().head_dim, call.cache.shape().dtype);
    }
    if scratch.partials.len() < plan.partial_elements() {
        scratch.partials.resize(plan.partial_elements(), 0.0);
    }
    let partials = DisjointMut::new(&mut scratch.partials);
    let outputs = SharedOutputs {
        rows: DisjointMut::new(outputs.rows),
        log_sums: outputs.log_sums.map(DisjointMut::new),
    };
    let workers = &scratch.workers;
    let next = AtomicUsize::new(0);
    let work = |worker: usize, most: usize| {
        let mut scratch = workers[worker].lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..most {
            let Some(item) = plan.items().get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            run_item(call, item, &mut scratch, &outputs, &partials, simd);
        }
    };
    if !plan.is_worth_a_team() {
        return work(0, usize::MAX);
    }
    let (parts, most) = division(plan.items().len(), team.width());
    team.run(parts, &|worker, _| work(worker, most));
}

/// Into how many parts a run is divided, and how many of its `items` a part takes at most: a part is to take items as long as there are any. In
/// the background it takes one, as workers go to others who compute, and the caller pauses for them, between parts only.
fn division(items: usize, width: usize) -> (usize, usize) {
    if is_background() { (items, 1) } else { (width, usize::MAX) }
}

fn run_item(
    call: &AttentionCall<'_>,
    item: &Item,
    scratch: &mut Scratch,
    outputs: &SharedOutputs<'_>,
    partials: &DisjointMut<'_, f32>,
    simd: SimdLevel,
) {
    let plan = call.plan;
    let block = plan.block(call, item);
    scratch.start_block(&block);
    match item.work {
        Work::Whole => {
            dispatch(simd, BlockKernel { call, block: &block, pages: block.visible_pages(), scratch });
        }
        Work::Split { pages_from, join, index } => {
            let visible = block.visible_pages();
            let pages = visible.start.max(pages_from)..visible.end.min(pages_from + SPLIT_PAGES);
            dispatch(simd, BlockKernel { call, block: &block, pages, scratch });
            let join = plan.join(join);
            let size = scratch.partial_elements(&block);
            let slot =
                |index: usize| join.first_partial + index * size..join.first_partial + (index + 1) * size;
            // SAFETY: every split of every join has a slot of its own.
            scratch.save_partial(&block, unsafe { partials.slice(slot(index)) });
            if !join.is_last_to_finish() {
                return;
            }
            scratch.start_block(&block);
            for index in 0..join.splits {
                // SAFETY: all splits of this join have been saved, and only the last to finish comes here.
                let partial = unsafe { partials.slice(slot(index)) };
                dispatch(simd, MergeKernel { block: &block, partial, scratch });
            }
        }
    }
    write_out(&block, scratch, outputs);
}

/// Divides by the sums of weights and puts the rows where the batch wants them.
fn write_out(block: &Block<'_>, scratch: &Scratch, outputs: &SharedOutputs<'_>) {
    let head_dim = block.head_dim;
    for row in 0..block.rows() {
        let start = block.query_start(row);
        // SAFETY: blocks have disjoint rows or disjoint heads, and every block is written by one item.
        let out = unsafe { outputs.rows.slice(start..start + head_dim) };
        let inverse = 1.0 / scratch.total_sums[row];
        for (out, value) in out.iter_mut().zip(&scratch.total_outputs[row * head_dim..(row + 1) * head_dim]) {
            *out = value * inverse;
        }
        if let Some(log_sums) = &outputs.log_sums {
            // A row's heads are consecutive, as their outputs are.
            let index = start / head_dim;
            // SAFETY: as for the rows.
            let log_sum = unsafe { log_sums.slice(index..index + 1) };
            log_sum[0] = scratch.total_greatest[row] + scratch.total_sums[row].ln();
        }
    }
}
