//! The derivatives of attention over packed documents. Weights are not kept by the forward pass: they are computed again, tile by
//! tile, from queries, keys and the logarithms of their sums (Dao et al. 2022, "FlashAttention", algorithm 4).
//!
//! With scores s = scale · q·k, weights p = e^(s − log sum), the derivative g of the loss by an output o, and d = Σ g · o:
//! * by a value, `Σ p · g` over the query rows that see it;
//! * by a score, `t = p · (g·v − d)`;
//! * by a key, `Σ t · scale · q` over the query rows that see it, and by a query, `scale · Σ t · k` over the keys that it sees.
//!
//! One thread computes all of a key/value head of a document. Sums over query rows go by position, then head; sums over keys by
//! position: each is one chain of fused multiply-adds. What is masked adds exactly zero.

mod kernel;
mod reference;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use super::AttentionShape;
use crate::lanes::{LaneKernel, Lanes, dispatch};
use crate::team::DisjointMut;
use crate::{SimdLevel, ThreadTeam};
use kernel::Scratch;

/// What the derivatives are computed from. Rows are those of the packed batch.
pub(crate) struct AttentionGradientCall<'a> {
    pub(crate) shape: AttentionShape,
    /// Number of most recent positions seen, or `None` for all.
    pub(crate) window: Option<usize>,
    /// Rows of each document.
    pub(crate) lengths: &'a [usize],
    /// `[rows, heads · head_dim]`.
    pub(crate) queries: &'a [f32],
    /// `[rows, kv_heads · head_dim]`.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    /// The forward pass's result, `[rows, heads · head_dim]`.
    pub(crate) outputs: &'a [f32],
    /// Its logarithms of sums of e^score, `[rows, heads]`.
    pub(crate) log_sums: &'a [f32],
    /// g, `[rows, heads · head_dim]`.
    pub(crate) gradient: &'a [f32],
}

/// Where the derivatives go; overwritten.
pub(crate) struct AttentionGradientOutputs<'a> {
    pub(crate) queries: &'a mut [f32],
    pub(crate) keys: &'a mut [f32],
    pub(crate) values: &'a mut [f32],
}

/// [`AttentionGradientOutputs`], shared by the threads.
struct SharedOutputs<'a> {
    queries: DisjointMut<'a, f32>,
    keys: DisjointMut<'a, f32>,
    values: DisjointMut<'a, f32>,
}

/// Memory that is used again from call to call.
#[derive(Debug, Default)]
pub(crate) struct AttentionGradientScratch {
    workers: Vec<Mutex<Scratch>>,
}

impl AttentionGradientScratch {
    /// Bytes that have been taken so far.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |worker: &Mutex<Scratch>| worker.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        self.workers.iter().map(bytes).sum()
    }
}

/// A key/value head of a document.
#[derive(Clone, Copy, Debug)]
struct Unit {
    first_row: usize,
    /// Positions of the document.
    positions: usize,
    kv_head: usize,
}

/// The derivatives of a unit.
struct UnitKernel<'a> {
    call: &'a AttentionGradientCall<'a>,
    unit: Unit,
    scratch: &'a mut Scratch,
    outputs: &'a SharedOutputs<'a>,
}

impl LaneKernel for UnitKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        kernel::unit_gradient(lanes, self.call, self.unit, self.scratch, self.outputs);
    }

    fn reference(self) {
        reference::unit_gradient(self.call, self.unit, self.outputs);
    }
}

impl AttentionGradientCall<'_> {
    /// Query heads per key/value head.
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Where the query of row `row` of a unit (by position, then head) starts.
    fn query_start(&self, unit: Unit, row: usize) -> usize {
        self.head_index(unit, row) * self.shape.head_dim
    }

    /// The place of row `row` of a unit among the rows' heads.
    fn head_index(&self, unit: Unit, row: usize) -> usize {
        let group = self.group();
        (unit.first_row + row / group) * self.shape.heads + unit.kv_head * group + row % group
    }

    /// Where the key of a position of a unit starts.
    fn key_start(&self, unit: Unit, position: usize) -> usize {
        ((unit.first_row + position) * self.shape.kv_heads + unit.kv_head) * self.shape.head_dim
    }

    /// The first position that the query at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// The derivatives of the loss by queries, keys and values. All lengths are those of the shapes.
pub(crate) fn attention_gradient(
    call: &AttentionGradientCall<'_>,
    outputs: AttentionGradientOutputs<'_>,
    scratch: &mut AttentionGradientScratch,
    simd: SimdLevel,
    team: &ThreadTeam,
) {
    let mut units = Vec::with_capacity(call.lengths.len() * call.shape.kv_heads);
    let mut first_row = 0;
    for positions in call.lengths {
        units.extend((0..call.shape.kv_heads).map(|kv_head| Unit {
            first_row,
            positions: *positions,
            kv_head,
        }));
        first_row += positions;
    }
    // The longest first: what is left for the end is short.
    units.sort_by_key(|unit| std::cmp::Reverse(unit.positions));
    scratch.workers.resize_with(team.threads().max(scratch.workers.len()), Mutex::default);
    let outputs = SharedOutputs {
        queries: DisjointMut::new(outputs.queries),
        keys: DisjointMut::new(outputs.keys),
        values: DisjointMut::new(outputs.values),
    };
    let workers = &scratch.workers;
    team.run(units.len(), &|worker, index| {
        let mut scratch = workers[worker].lock().unwrap_or_else(PoisonError::into_inner);
        dispatch(simd, UnitKernel { call, unit: units[index], scratch: &mut scratch, outputs: &outputs });
    });
}
