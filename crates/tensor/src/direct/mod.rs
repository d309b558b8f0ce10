//! The executor that serves: computes every operation at once, on the CPU, without recording anything.
//!
//! Large operations are split over the thread team by rows; small ones run on the caller, because waking the team would
//! take longer. Neither changes a bit of the result. It does not know models: shapes come with the operands.

mod encoding;
mod low_rank;
mod mixture;
mod parts;
mod routes;
mod scoring;
mod workspace;

use std::sync::Arc;

use crate::attention::{
    AttentionCall, AttentionOutputs, AttentionPlan, AttentionScratch, AttentionShape, PackedDocuments, attend,
};
use crate::error::{expect, expect_whole};
use crate::kv::{KvCache, SequenceRows};
use crate::lanes::{LaneKernel, dispatch};
use crate::linear::QuantisedRows;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::{RotaryFrequencies, RotaryTables};
use crate::team::DisjointMut;
use crate::{
    DocumentRows, Executor, Expert, ExpertChoice, GateActivation, Matrix, Projection, SimdLevel, TensorError,
    ThreadTeam, Vector,
};
pub(crate) use mixture::projection;
pub(crate) use routes::Routes;
use scoring::RowState;
pub use scoring::{RowScore, ScoreTarget};
pub use workspace::Activations;
pub(crate) use workspace::Workspace;

/// Elements below which an operation is done by the caller alone.
const ELEMENTS_WORTH_A_TEAM: usize = 16 * 1024;

/// What the operations of a step are bounded by.
#[derive(Clone, Copy, Debug)]
pub struct WorkspaceLimits {
    /// The heads.
    pub shape: AttentionShape,
    /// Threads of the team.
    pub threads: usize,
    /// Rows of a step.
    pub max_rows: usize,
    /// Greatest width of a tensor, the last product's aside.
    pub widest: usize,
    /// Positions of a sequence.
    pub context_length: usize,
    /// Values of the last product's output.
    pub outputs: usize,
}

/// Computes operations at once; owns the KV cache and the memory for activations.
#[derive(Debug)]
pub struct DirectExecutor {
    pub(crate) simd: SimdLevel,
    pub(crate) team: Arc<ThreadTeam>,
    cache: KvCache,
    plan: AttentionPlan,
    /// The documents of the batch, where the batch is packed.
    packed: PackedDocuments,
    is_packed: bool,
    angles: RotaryTables,
    pub(crate) quantised: QuantisedRows,
    pub(crate) workspace: Workspace,
    attention: AttentionScratch,
    scoring: Vec<RowState>,
    /// What scores divide logits by.
    pub(crate) temperature: f32,
    routes: Routes,
}

impl DirectExecutor {
    /// An executor for attention of one shape over `cache`.
    ///
    /// # Errors
    /// [`TensorError::UnsupportedSimd`] when the processor lacks `simd`, [`TensorError::HeadShape`] when the heads of
    /// `shape` cannot be computed or are not those of the cache.
    pub fn new(
        cache: KvCache,
        shape: AttentionShape,
        simd: SimdLevel,
        team: Arc<ThreadTeam>,
    ) -> Result<DirectExecutor, TensorError> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = shape;
        if cache.shape().kv_heads != kv_heads || cache.shape().head_dim != head_dim {
            return Err(TensorError::HeadShape { heads, kv_heads, head_dim });
        }
        Ok(DirectExecutor {
            simd: simd.require()?,
            plan: AttentionPlan::new(shape, cache.pages())?,
            packed: PackedDocuments::new(shape)?,
            is_packed: false,
            angles: RotaryTables::default(),
            quantised: QuantisedRows::new(),
            workspace: Workspace::default(),
            attention: AttentionScratch::default(),
            scoring: Vec::new(),
            temperature: 1.0,
            routes: Routes::default(),
            team,
            cache,
        })
    }

    /// See [`KvCache::set_key_centres`].
    ///
    /// # Errors
    /// As that.
    pub fn set_key_centres(&mut self, centres: Vec<f32>) -> Result<(), TensorError> {
        self.cache.set_key_centres(centres)
    }

    /// The threads that it computes on.
    pub fn team(&self) -> &Arc<ThreadTeam> {
        &self.team
    }

    /// The KV cache.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Bytes for activations and scratch that operations within `limits` take at most.
    pub fn workspace_bytes(limits: &WorkspaceLimits) -> usize {
        /// Tensors of a layer that are alive at once: the residual stream, the norm's output, three projections and what
        /// an operation makes of them.
        const TENSORS: usize = 6;
        /// Rotary tables of a model at most: one for layers with a window, one for the others.
        const TABLES: usize = 2;
        let &WorkspaceLimits { shape, threads, max_rows, widest, context_length, outputs } = limits;
        let tensor = max_rows.saturating_mul(widest);
        let angles = max_rows.saturating_mul(TABLES * 2 * shape.head_dim);
        let values = tensor
            .saturating_mul(TENSORS)
            .saturating_add(outputs)
            .saturating_add(angles)
            .saturating_add(AttentionScratch::elements(&shape, threads, context_length));
        values.saturating_mul(size_of::<f32>()).saturating_add(QuantisedRows::bytes_for(max_rows, widest))
    }

    /// Says how large tensors will be: up to `max_rows` rows of up to `widest` values, and `outputs` values of the last
    /// product. Larger ones are computed as well, in memory that is taken for each.
    pub fn prepare(&mut self, max_rows: usize, widest: usize, outputs: usize) {
        self.workspace.prepare(max_rows.saturating_mul(widest), outputs);
    }

    /// Bytes for activations and scratch that have been taken so far, without tensors that are in the caller's hands.
    pub fn workspace_bytes_taken(&self) -> usize {
        let scratch = self.attention.bytes() + self.angles.bytes() + self.quantised.bytes();
        self.workspace.bytes() + scratch + self.packed.bytes()
    }

    /// Activations of rows of `width` values each, for executors that compute with the operations of this one.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `values` is not whole rows, [`TensorError::OutOfMemory`].
    pub fn tensor(&mut self, values: &[f32], width: usize) -> Result<Activations, TensorError> {
        expect_whole("activations: rows", values.len(), width)?;
        let mut out = self.workspace.take(values.len() / width, width)?;
        out.values_mut().copy_from_slice(values);
        Ok(out)
    }

    /// The same activations in memory of their own, for an operation that uses up its input.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    pub fn copy(&mut self, tensor: &Activations) -> Result<Activations, TensorError> {
        let mut out = self.workspace.take(tensor.rows(), tensor.width())?;
        out.values_mut().copy_from_slice(tensor.values());
        Ok(out)
    }

    /// [`Executor::attention`], and with it what a backward pass needs: for every row and head the logarithm of the sum of
    /// e^score over what it sees, `[rows, heads]`. The inputs stay the caller's.
    ///
    /// # Errors
    /// As for [`Executor::attention`].
    pub fn attention_and_log_sums(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: &Activations,
        keys: &Activations,
        values: &Activations,
    ) -> Result<(Activations, Activations), TensorError> {
        let plan = if self.is_packed { &self.packed.plan } else { &self.plan };
        let mut log_sums = self.workspace.take(plan.rows(), shape.heads)?;
        let out = self.attend(layer, shape, window, [queries, keys, values], Some(log_sums.values_mut()))?;
        Ok((out, log_sums))
    }

    fn attend(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        [queries, keys, values]: [&Activations; 3],
        log_sums: Option<&mut [f32]>,
    ) -> Result<Activations, TensorError> {
        // Of packed documents, one layer's keys and values are kept at a time.
        let (plan, cache, layer) = match self.is_packed {
            true => (&self.packed.plan, &mut self.packed.cache, 0),
            false => (&self.plan, &mut self.cache, layer),
        };
        if plan.shape() != shape {
            let AttentionShape { heads, kv_heads, head_dim, .. } = shape;
            return Err(TensorError::HeadShape { heads, kv_heads, head_dim });
        }
        if layer >= cache.shape().layers {
            return Err(TensorError::RowOutOfRange { row: layer, rows: cache.shape().layers });
        }
        let rows = plan.rows();
        expect("attention: queries", rows * shape.heads * shape.head_dim, queries.values().len())?;
        expect("attention: keys", rows * shape.kv_heads * shape.head_dim, keys.values().len())?;
        expect("attention: values", rows * shape.kv_heads * shape.head_dim, values.values().len())?;
        for writes in std::iter::once(plan.writes()).chain(plan.copies().iter().map(Vec::as_slice)) {
            cache.write(layer, writes, keys.values(), values.values(), self.simd, &self.team);
        }
        let mut out = self.workspace.take(rows, shape.heads * shape.head_dim)?;
        let call = AttentionCall { plan, cache, layer, window, queries: queries.values() };
        let outputs = AttentionOutputs { rows: out.values_mut(), log_sums };
        attend(&call, outputs, &mut self.attention, self.simd, &self.team);
        Ok(out)
    }

    /// [`Executor::begin_packed`] of documents that may share their first rows. Every row has the bits that it has in a batch of its document
    /// alone.
    ///
    /// # Errors
    /// As for that.
    pub fn begin_documents(
        &mut self,
        documents: &DocumentRows,
        rotary: &[RotaryFrequencies],
    ) -> Result<(), TensorError> {
        self.check_rotary(rotary)?;
        self.is_packed = true;
        self.packed.set(documents, false, self.team.threads())?;
        self.angles.set(rotary, || documents.positions());
        Ok(())
    }

    fn check_rotary(&self, rotary: &[RotaryFrequencies]) -> Result<(), TensorError> {
        let expected = self.plan.shape().head_dim;
        match rotary.iter().map(|table| 2 * table.radians.len()).find(|actual| *actual > expected) {
            Some(actual) => {
                Err(TensorError::Length { what: "rotary dimensions of a head", expected, actual })
            }
            None => Ok(()),
        }
    }

    /// Runs `kernel(rows, values of those rows)` on parts of `tensor`.
    pub(crate) fn for_rows(
        &self,
        tensor: &mut Activations,
        kernel: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
    ) {
        let (rows, width) = (tensor.rows(), tensor.width());
        if tensor.values().len() < ELEMENTS_WORTH_A_TEAM {
            return kernel(0..rows, tensor.values_mut());
        }
        let values = DisjointMut::new(tensor.values_mut());
        self.team.for_ranges(rows, |rows| {
            // SAFETY: the ranges are disjoint.
            kernel(rows.clone(), unsafe { values.slice(rows.start * width..rows.end * width) });
        });
    }

    pub(crate) fn run<K: LaneKernel>(&self, kernel: K) -> K::Output {
        dispatch(self.simd, kernel)
    }
}

impl Executor for DirectExecutor {
    type Tensor = Activations;
    type Matrix = Matrix;
    type Vector = Vector;

    fn begin<'a>(
        &mut self,
        sequences: impl Iterator<Item = SequenceRows<'a>>,
        rotary: &[RotaryFrequencies],
    ) -> Result<(), TensorError> {
        self.check_rotary(rotary)?;
        self.is_packed = false;
        self.plan.set(sequences, self.team.threads())?;
        self.angles.set(rotary, || self.plan.positions());
        Ok(())
    }

    fn begin_packed(&mut self, lengths: &[usize], rotary: &[RotaryFrequencies]) -> Result<(), TensorError> {
        let documents = DocumentRows::separate(lengths);
        if documents.is_err() {
            // What is computed next is not to be taken for rows of the former batch.
            self.is_packed = true;
            self.packed.clear();
        }
        self.begin_documents(&documents?, rotary)
    }

    fn embedding(&mut self, table: &Matrix, tokens: &[u32]) -> Result<Activations, TensorError> {
        if let Some(token) = tokens.iter().find(|token| **token as usize >= table.rows()) {
            return Err(TensorError::RowOutOfRange { row: *token as usize, rows: table.rows() });
        }
        let mut out = self.workspace.take(tokens.len(), table.columns())?;
        self.for_rows(&mut out, |rows, out| {
            for (token, out) in tokens[rows].iter().zip(out.chunks_exact_mut(table.columns())) {
                table.row(*token as usize, out);
            }
        });
        Ok(out)
    }

    fn rms_norm(
        &mut self,
        input: &Activations,
        weight: &Vector,
        epsilon: f32,
    ) -> Result<Activations, TensorError> {
        expect("rms_norm: weight", input.width(), weight.len())?;
        let mut out = self.workspace.take(input.rows(), input.width())?;
        self.for_rows(&mut out, |rows, out| {
            let rows = input.rows_values(rows);
            self.run(RmsNorm { rows, weight, epsilon, out });
        });
        Ok(out)
    }

    fn head_norm(
        &mut self,
        input: Activations,
        weight: &Vector,
        epsilon: f32,
    ) -> Result<Activations, TensorError> {
        let out = self.head_norm_of(&input, weight, epsilon)?;
        self.workspace.give_back(input);
        Ok(out)
    }

    fn linear<const N: usize>(
        &mut self,
        input: Activations,
        projections: [Projection<'_, Matrix, Vector>; N],
    ) -> Result<[Activations; N], TensorError> {
        let outputs = self.linear_of(&input, &projections)?;
        self.workspace.give_back(input);
        Ok(outputs)
    }

    fn rope(
        &mut self,
        mut input: Activations,
        head_dim: usize,
        table: usize,
    ) -> Result<Activations, TensorError> {
        self.rotate(&mut input, head_dim, table)?;
        Ok(input)
    }

    fn attention(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: Activations,
        keys: Activations,
        values: Activations,
    ) -> Result<Activations, TensorError> {
        let out = self.attend(layer, shape, window, [&queries, &keys, &values], None)?;
        for tensor in [queries, keys, values] {
            self.workspace.give_back(tensor);
        }
        Ok(out)
    }

    fn gated(
        &mut self,
        activation: GateActivation,
        mut gate: Activations,
        up: Activations,
    ) -> Result<Activations, TensorError> {
        self.gate_in_place(activation, &mut gate, &up)?;
        self.workspace.give_back(up);
        Ok(gate)
    }

    fn mixture_of_experts(
        &mut self,
        input: Activations,
        router: &Matrix,
        experts: &[Expert<Matrix>],
        choice: ExpertChoice,
    ) -> Result<Activations, TensorError> {
        let out = self.mixture_of(&input, router, experts, choice)?;
        self.workspace.give_back(input);
        Ok(out)
    }

    fn add(&mut self, mut sum: Activations, addend: Activations) -> Result<Activations, TensorError> {
        self.add_to(&mut sum, &addend)?;
        self.workspace.give_back(addend);
        Ok(sum)
    }

    fn scale(&mut self, mut input: Activations, factor: f32) -> Result<Activations, TensorError> {
        self.scale_in_place(&mut input, factor);
        Ok(input)
    }

    fn copy(&mut self, input: &Activations) -> Result<Activations, TensorError> {
        DirectExecutor::copy(self, input)
    }

    fn select_rows(&mut self, input: Activations, rows: &[usize]) -> Result<Activations, TensorError> {
        let out = self.copy_rows(&input, rows)?;
        self.workspace.give_back(input);
        Ok(out)
    }

    fn discard(&mut self, tensor: Activations) {
        self.workspace.give_back(tensor);
    }
}
