//! The derivatives of attention over packed documents. Weights are not kept by the forward pass: they are computed again, tile by
//! tile, from queries, keys and the logarithms of their sums (Dao et al. 2022, "FlashAttention", algorithm 4).
//!
//! With scores s = scale · q·k, weights p = e^(s − log sum), the derivative g of the loss by an output o, and d = Σ g · o:
//! * by a value, `Σ p · g` over the query rows that see it;
//! * by a score, `t = p · (g·v − d)`;
//! * by a key, `Σ t · scale · q` over the query rows that see it, and by a query, `scale · Σ t · k` over the keys that it sees.
//!
//! One thread computes all of a key/value head of a document. Sums over query rows go by position, then head; sums over keys by
//! position: each is one chain of fused multiply-adds. What is masked adds exactly zero. A row that several documents share has the sum of
//! what each of them adds, the one whose own it is first, then in their order.

mod kernel;
mod reference;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use super::AttentionShape;
use crate::documents::Document;
use crate::lanes::{LaneKernel, Lanes, dispatch};
use crate::team::DisjointMut;
use crate::{DocumentRows, SimdLevel, ThreadTeam};
use kernel::Scratch;

/// What the derivatives are computed from. Rows are those of the packed batch.
pub(crate) struct AttentionGradientCall<'a> {
    pub(crate) shape: AttentionShape,
    /// Number of most recent positions seen, or `None` for all.
    pub(crate) window: Option<usize>,
    /// Which rows each document has.
    pub(crate) documents: &'a DocumentRows,
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
    /// What each document adds to keys and values that it shares, `[shared positions, kv_heads · head_dim]`.
    shared_keys: DisjointMut<'a, f32>,
    shared_values: DisjointMut<'a, f32>,
}

impl SharedOutputs<'_> {
    /// Where the derivatives by the key and the value of a position of a unit go.
    ///
    /// # Safety
    /// Nobody else uses the unit's places, and the caller uses one position's at a time.
    #[allow(clippy::mut_from_ref, reason = "places of different units and positions are disjoint")]
    unsafe fn of_key_and_value(
        &self,
        call: &AttentionGradientCall<'_>,
        unit: &Unit<'_>,
        position: usize,
    ) -> (&mut [f32], &mut [f32]) {
        let shared = unit.document.shared;
        let head_dim = call.shape.head_dim;
        let start = |row: usize| (row * call.shape.kv_heads + unit.kv_head) * head_dim;
        // SAFETY: own rows belong to one document, and shared positions have places for each document; heads are disjoint.
        unsafe {
            if position < shared {
                let start = start(unit.document.shared_before + position);
                let range = start..start + head_dim;
                (self.shared_keys.slice(range.clone()), self.shared_values.slice(range))
            } else {
                let start = start(unit.document.first_row + position - shared);
                let range = start..start + head_dim;
                (self.keys.slice(range.clone()), self.values.slice(range))
            }
        }
    }
}

/// Memory that is used again from call to call.
#[derive(Debug, Default)]
pub(crate) struct AttentionGradientScratch {
    workers: Vec<Mutex<Scratch>>,
    shared_keys: Vec<f32>,
    shared_values: Vec<f32>,
}

impl AttentionGradientScratch {
    /// Bytes that have been taken so far.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |worker: &Mutex<Scratch>| worker.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        let shared = size_of_val(self.shared_keys.as_slice()) + size_of_val(self.shared_values.as_slice());
        self.workers.iter().map(bytes).sum::<usize>() + shared
    }
}

/// A key/value head of a document.
#[derive(Clone, Copy, Debug)]
struct Unit<'a> {
    document: &'a Document,
    /// The rows of the document's positions.
    rows: &'a [usize],
    kv_head: usize,
}

impl Unit<'_> {
    /// Positions of the document, all of which have keys.
    fn positions(&self) -> usize {
        self.rows.len()
    }

    /// Positions with queries: those behind what the document shares.
    fn own(&self) -> usize {
        self.document.own_rows()
    }

    /// The position of own row `row`.
    fn position(&self, row: usize) -> usize {
        self.document.shared + row
    }
}

/// The derivatives of a unit.
struct UnitKernel<'a> {
    call: &'a AttentionGradientCall<'a>,
    unit: Unit<'a>,
    scratch: &'a mut Scratch,
    outputs: &'a SharedOutputs<'a>,
}

impl LaneKernel for UnitKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        kernel::unit_gradient(lanes, self.call, &self.unit, self.scratch, self.outputs);
    }

    fn reference(self) {
        reference::unit_gradient(self.call, &self.unit, self.outputs);
    }
}

impl AttentionGradientCall<'_> {
    /// Query heads per key/value head.
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Where the query of row `row` of a unit (by own position, then head) starts.
    fn query_start(&self, unit: &Unit<'_>, row: usize) -> usize {
        self.head_index(unit, row) * self.shape.head_dim
    }

    /// The place of row `row` of a unit among the rows' heads.
    fn head_index(&self, unit: &Unit<'_>, row: usize) -> usize {
        let group = self.group();
        (unit.document.first_row + row / group) * self.shape.heads + unit.kv_head * group + row % group
    }

    /// Where the key of a position of a unit starts.
    fn key_start(&self, unit: &Unit<'_>, position: usize) -> usize {
        (unit.rows[position] * self.shape.kv_heads + unit.kv_head) * self.shape.head_dim
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
    let documents = call.documents.documents();
    let mut units = Vec::with_capacity(documents.len() * call.shape.kv_heads);
    for document in documents.iter().filter(|document| document.own_rows() > 0) {
        let rows = call.documents.of(document);
        units.extend((0..call.shape.kv_heads).map(|kv_head| Unit { document, rows, kv_head }));
    }
    // The longest first: what is left for the end is short.
    units.sort_by_key(|unit| std::cmp::Reverse(unit.positions() * unit.own()));
    let AttentionGradientScratch { workers, shared_keys, shared_values } = scratch;
    workers.resize_with(team.threads().max(workers.len()), Mutex::default);
    let width = call.shape.kv_heads * call.shape.head_dim;
    let shared = call.documents.shared() * width;
    for values in [&mut *shared_keys, &mut *shared_values] {
        values.resize(shared.max(values.len()), 0.0);
    }
    {
        let outputs = SharedOutputs {
            queries: DisjointMut::new(outputs.queries),
            keys: DisjointMut::new(outputs.keys),
            values: DisjointMut::new(outputs.values),
            shared_keys: DisjointMut::new(shared_keys),
            shared_values: DisjointMut::new(shared_values),
        };
        let workers = &*workers;
        team.run(units.len(), &|worker, index| {
            let mut scratch = workers[worker].lock().unwrap_or_else(PoisonError::into_inner);
            dispatch(simd, UnitKernel { call, unit: units[index], scratch: &mut scratch, outputs: &outputs });
        });
    }
    // A document without rows of its own has no queries, and adds nothing.
    for document in documents.iter().filter(|document| document.own_rows() > 0) {
        let rows = &call.documents.of(document)[..document.shared];
        let places = document.shared_before * width..(document.shared_before + document.shared) * width;
        for (sums, addends) in [
            (&mut *outputs.keys, &shared_keys[places.clone()]),
            (&mut *outputs.values, &shared_values[places]),
        ] {
            for (row, addends) in rows.iter().zip(addends.chunks_exact(width)) {
                let sums = &mut sums[row * width..(row + 1) * width];
                sums.iter_mut().zip(addends).for_each(|(sum, addend)| *sum += addend);
            }
        }
    }
}
