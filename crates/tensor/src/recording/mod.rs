//! The executor that learns: computes with the kernels that serve, records what it computed, and goes back over the record for
//! the gradients of all parameters (reverse-mode differentiation).
//!
//! The forward pass has the bits of [`DirectExecutor`]. It works on whole documents ([`Executor::begin_packed`]). It does
//! not know models: which parameter a weight is, the weight says itself.

mod backward;
mod head;
mod mixture;
mod routers;
mod tape;
mod trace;
mod values;

use std::sync::Arc;

use crate::attention::AttentionGradientScratch;
use crate::error::expect_whole;
use crate::linear::backward::BackwardScratch;
use crate::ops::rope::{RotaryFrequencies, RotaryTables};
use crate::{
    Activations, AttentionShape, DirectExecutor, DocumentRows, Executor, Expert, ExpertChoice,
    GateActivation, Gradients, KvCache, KvDtype, KvShape, LowRankAddition, Matrix, ParameterId, Projection,
    SequenceRows, SimdLevel, TensorError, ThreadTeam, Vector,
};
pub use head::{LogitLoss, ScoreGradient, TokenScore};
pub use routers::RouterStatistics;
use routers::Routers;
use tape::{Operation, Record, RecordedAddition, RecordedAttention, RecordedProduct, Tape};
pub use tape::{Recorded, WantedGradient};
use trace::Trace;
pub use trace::{NonFinite, Pass};
pub use values::row_values;

/// Computes at once, and remembers what the backward pass needs. See the head of this file.
#[derive(Debug)]
pub struct RecordingExecutor {
    direct: DirectExecutor,
    tape: Tape,
    /// The documents of the batch.
    documents: DocumentRows,
    /// The angles that turn heads back.
    back: RotaryTables,
    attention: AttentionGradientScratch,
    products: BackwardScratch,
    /// Which parameters learn; all without it.
    learning: Option<Vec<bool>>,
    layer: Option<usize>,
    routers: Routers,
    trace: Trace,
}

impl RecordingExecutor {
    /// An executor for attention of one shape, with an empty tape.
    ///
    /// # Errors
    /// As for [`DirectExecutor::new`].
    pub fn new(
        shape: AttentionShape,
        simd: SimdLevel,
        team: Arc<ThreadTeam>,
    ) -> Result<RecordingExecutor, TensorError> {
        let AttentionShape { kv_heads, head_dim, .. } = shape;
        let kv_shape = KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim };
        let mut direct = DirectExecutor::new(KvCache::new(kv_shape, 0)?, shape, simd, team)?;
        direct.workspace.keep_batches();
        Ok(RecordingExecutor {
            direct,
            tape: Tape::default(),
            documents: DocumentRows::default(),
            back: RotaryTables::default(),
            attention: AttentionGradientScratch::default(),
            products: BackwardScratch::default(),
            learning: None,
            layer: None,
            routers: Routers::default(),
            trace: Trace::default(),
        })
    }

    /// The executor of the forward kernels, for passes without a record. It is told of every batch that this one is told of.
    pub fn direct(&mut self) -> &mut DirectExecutor {
        &mut self.direct
    }

    /// Says that only the parameters learn for which `gradients` has room, until the next call; without a call all do. What is recorded from
    /// then on keeps and computes only what their gradients need: nothing below the first of them goes on the tape.
    pub fn set_learning(&mut self, gradients: &Gradients) {
        let learning: Vec<bool> =
            (0..gradients.len() as u32).map(|id| gradients.learns(ParameterId(id))).collect();
        self.learning = (!learning.iter().all(|learns| *learns)).then_some(learning);
    }

    /// Whether a parameter learns. One that [`RecordingExecutor::set_learning`] was not told of does, so that the backward pass reports it.
    fn learns(&self, id: ParameterId) -> bool {
        self.learning.as_ref().is_none_or(|learning| learning.get(id.0 as usize).copied().unwrap_or(true))
    }

    /// [`Executor::begin_packed`] of documents that may share their first rows: a shared row is computed once, and its gradient is the sum of what
    /// each document adds, in their order.
    ///
    /// # Errors
    /// As for that.
    pub fn begin_documents(
        &mut self,
        documents: &DocumentRows,
        rotary: &[RotaryFrequencies],
    ) -> Result<(), TensorError> {
        self.tape.clear(&mut self.direct.workspace);
        self.documents = DocumentRows::default();
        self.direct.begin_documents(documents, rotary)?;
        self.documents.clone_from(documents);
        self.direct.workspace.begin_batch(documents.rows());
        let back: Vec<RotaryFrequencies> = rotary.iter().map(RotaryFrequencies::reversed).collect();
        self.back.set(&back, || documents.positions());
        self.routers.clear_statistics();
        self.layer = None;
        Ok(())
    }

    /// Says which layer the coming operations belong to, for reports.
    pub fn set_layer(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// Puts a tensor on the tape whose gradient the caller wants: the tensor, and what to ask for its gradient with
    /// ([`RecordingExecutor::take_gradient`]).
    pub fn input(&mut self, values: Activations) -> (Recorded, WantedGradient) {
        let tensor = self.constant(values);
        let node = &mut self.tape.nodes[tensor.node];
        (node.is_input, node.needs_gradient) = (true, true);
        let wanted = WantedGradient { batch: tensor.batch, node: tensor.node };
        (tensor, wanted)
    }

    /// Puts a tensor on the tape whose gradient nobody wants.
    pub fn constant(&mut self, values: Activations) -> Recorded {
        self.tape.push(values, None)
    }

    /// Whether a tensor depends on anything that learns, or on a tensor of [`RecordingExecutor::input`].
    ///
    /// # Errors
    /// [`TensorError::NotOnTape`].
    pub fn needs_gradient(&self, tensor: &Recorded) -> Result<bool, TensorError> {
        Ok(self.tape.nodes[self.tape.node("needs a gradient", tensor)?].needs_gradient)
    }

    /// The values of a tensor that no later operation has used up.
    ///
    /// # Errors
    /// [`TensorError::NotOnTape`].
    pub fn values(&self, tensor: &Recorded) -> Result<&Activations, TensorError> {
        self.tape.values("values", self.tape.node("values", tensor)?)
    }

    /// Sets the derivative of the loss by a tensor that no later operation has used up, which ends the forward pass.
    ///
    /// # Errors
    /// [`TensorError::NotOnTape`]; [`TensorError::Length`] when the shapes differ.
    pub fn set_gradient(&mut self, tensor: Recorded, gradient: Activations) -> Result<(), TensorError> {
        const WHAT: &str = "set a gradient";
        let node = self.tape.node(WHAT, &tensor)?;
        crate::error::expect(WHAT, tensor.rows() * tensor.width(), gradient.values().len())?;
        self.tape.consume(node, &mut self.direct.workspace);
        self.add_gradient(node, Arc::new(gradient))
    }

    /// The derivative of the loss by a tensor of [`RecordingExecutor::input`] after the backward pass; `None` when the loss does
    /// not depend on it.
    ///
    /// # Errors
    /// [`TensorError::NotOnTape`] when the batch has changed.
    pub fn take_gradient(&mut self, input: WantedGradient) -> Result<Option<Activations>, TensorError> {
        const WHAT: &str = "gradient of an input";
        if input.batch != self.tape.batch {
            return Err(TensorError::NotOnTape { what: WHAT });
        }
        let gradient = self.tape.nodes[input.node].gradient.take();
        gradient.map(|gradient| self.owned(gradient)).transpose()
    }

    /// Forgets what was recorded; the batch stays.
    pub fn clear_tape(&mut self) {
        self.tape.clear(&mut self.direct.workspace);
    }

    /// Bytes for activations, gradients of activations and scratch that have been taken so far, without those on the tape.
    pub fn workspace_bytes_taken(&self) -> usize {
        let scratch = self.attention.bytes() + self.products.bytes() + self.back.bytes();
        self.direct.workspace_bytes_taken() + scratch
    }

    /// A gradient in memory of its own.
    fn owned(&mut self, gradient: Arc<Activations>) -> Result<Activations, TensorError> {
        match Arc::try_unwrap(gradient) {
            Ok(gradient) => Ok(gradient),
            Err(shared) => self.direct.copy(&shared),
        }
    }

    fn add_gradient(&mut self, node: usize, gradient: Arc<Activations>) -> Result<(), TensorError> {
        if !self.tape.nodes[node].needs_gradient {
            tape::give_back(&mut self.direct.workspace, gradient);
            return Ok(());
        }
        let Some(sum) = self.tape.nodes[node].gradient.take() else {
            self.tape.nodes[node].gradient = Some(gradient);
            return Ok(());
        };
        let mut sum = self.owned(sum)?;
        self.direct.add_to(&mut sum, &gradient)?;
        tape::give_back(&mut self.direct.workspace, gradient);
        self.tape.nodes[node].gradient = Some(Arc::new(sum));
        Ok(())
    }

    /// Records an operation on `inputs` whose output has these values; one that nothing learns through leaves its output only.
    fn record(
        &mut self,
        values: Activations,
        needs_gradient: bool,
        is_cheap: bool,
        operation: impl FnOnce(usize) -> Operation,
    ) -> Recorded {
        let out = self.tape.push(values, (needs_gradient && is_cheap).then_some(self.tape.records.len()));
        self.tape.nodes[out.node].needs_gradient = needs_gradient;
        let operation = operation(out.node);
        self.push(operation, &[out.node]);
        out
    }

    fn push(&mut self, operation: Operation, outputs: &[usize]) {
        for out in outputs {
            if let Some(values) = &self.tape.nodes[*out].values {
                self.trace.check(Pass::Forward, operation.name(), self.layer, values);
            }
        }
        if outputs.iter().any(|out| self.tape.nodes[*out].needs_gradient) {
            self.tape.records.push(Record { operation, layer: self.layer });
        }
    }

    /// Whether any of these tensors needs a gradient.
    fn need_gradients(&self, nodes: &[usize]) -> bool {
        nodes.iter().any(|node| self.tape.nodes[*node].needs_gradient)
    }

    /// Says that the backward pass of an operation reads these tensors' values, if it has one.
    fn reads(&mut self, needs_gradient: bool, nodes: &[usize]) {
        if needs_gradient {
            nodes.iter().for_each(|node| self.tape.nodes[*node].reads += 1);
        }
    }

    /// The values of a node for an operation that works in place and is the last of the forward pass to read them: in memory of their own
    /// where something else reads the node.
    fn taken(&mut self, what: &'static str, node: usize) -> Result<Activations, TensorError> {
        match self.tape.take_unread(node) {
            Some(values) => Ok(values),
            None => self.direct.copy(self.tape.values(what, node)?),
        }
    }

    fn consume(&mut self, node: usize) {
        self.tape.consume(node, &mut self.direct.workspace);
    }
}

fn recorded_addition(addition: &LowRankAddition<'_, Matrix>) -> Result<RecordedAddition, TensorError> {
    const WHAT: &str = "low-rank addition";
    // Adapters that are trained have none.
    if !addition.outputs.is_none() {
        return Err(TensorError::NotAParameter { what: "low-rank addition: change of outputs" });
    }
    Ok(RecordedAddition {
        rows: addition.rows.clone(),
        down: parameter(WHAT, addition.down.parameter())?,
        up: parameter(WHAT, addition.up.parameter())?,
        scale: addition.scale,
    })
}

/// The number of a weight among the parameters.
fn parameter(what: &'static str, id: Option<ParameterId>) -> Result<ParameterId, TensorError> {
    id.ok_or(TensorError::NotAParameter { what })
}

impl Executor for RecordingExecutor {
    type Tensor = Recorded;
    type Matrix = Matrix;
    type Vector = Vector;

    /// Refused: gradients go through whole documents, not through keys and values of earlier steps.
    fn begin<'a>(
        &mut self,
        _: impl Iterator<Item = SequenceRows<'a>>,
        _: &[RotaryFrequencies],
    ) -> Result<(), TensorError> {
        Err(TensorError::NotRecorded { what: "sequences over KV pages (begin)" })
    }

    fn begin_packed(&mut self, lengths: &[usize], rotary: &[RotaryFrequencies]) -> Result<(), TensorError> {
        self.begin_documents(&DocumentRows::separate(lengths)?, rotary)
    }

    fn embedding(&mut self, table: &Matrix, tokens: &[u32]) -> Result<Recorded, TensorError> {
        let id = parameter("embedding", table.parameter())?;
        let learns = self.learns(id);
        if learns {
            table.f32_packed()?;
        }
        let out = self.direct.embedding(table, tokens)?;
        Ok(self.record(out, learns, false, |out| Operation::Embedding {
            table: id,
            tokens: tokens.to_vec(),
            out,
        }))
    }

    fn rms_norm(&mut self, input: &Recorded, weight: &Vector, epsilon: f32) -> Result<Recorded, TensorError> {
        let id = parameter("rms_norm", weight.parameter())?;
        let input = self.tape.node("rms_norm", input)?;
        let out = self.direct.rms_norm(self.tape.values("rms_norm", input)?, weight, epsilon)?;
        let needs = self.learns(id) || self.need_gradients(&[input]);
        self.reads(needs, &[input]);
        Ok(self.record(out, needs, true, |out| Operation::RmsNorm { input, weight: id, epsilon, out }))
    }

    fn head_norm(&mut self, input: Recorded, weight: &Vector, epsilon: f32) -> Result<Recorded, TensorError> {
        let id = parameter("head_norm", weight.parameter())?;
        let input = self.tape.node("head_norm", &input)?;
        let out = self.direct.head_norm_of(self.tape.values("head_norm", input)?, weight, epsilon)?;
        let needs = self.learns(id) || self.need_gradients(&[input]);
        self.reads(needs, &[input]);
        self.consume(input);
        Ok(self.record(out, needs, true, |out| Operation::HeadNorm { input, weight: id, epsilon, out }))
    }

    fn linear<const N: usize>(
        &mut self,
        input: Recorded,
        projections: [Projection<'_, Matrix, Vector>; N],
    ) -> Result<[Recorded; N], TensorError> {
        let input = self.tape.node("linear", &input)?;
        let mut products = Vec::with_capacity(N);
        for projection in &projections {
            let Projection { matrix, bias, additions } = projection;
            let product = RecordedProduct {
                matrix: parameter("linear", matrix.parameter())?,
                bias: bias.map(|bias| parameter("bias", bias.parameter())).transpose()?,
                additions: additions.iter().map(recorded_addition).collect::<Result<_, _>>()?,
                out: 0,
            };
            if self.learns(product.matrix) {
                matrix.f32_packed()?;
            }
            for addition in *additions {
                addition.down.f32_packed()?;
                addition.up.f32_packed()?;
            }
            products.push(product);
        }
        let outputs = self.direct.linear_of(self.tape.values("linear", input)?, &projections)?;
        let through = self.need_gradients(&[input]);
        let learns_of_addition =
            |addition: &RecordedAddition| self.learns(addition.down) || self.learns(addition.up);
        // The gradients of a matrix and of a low-rank addition read the input; that of the input, and a bias's, do not.
        let reads_of_product = |product: &RecordedProduct| {
            self.learns(product.matrix) || product.additions.iter().any(learns_of_addition)
        };
        let reads: Vec<bool> = products.iter().map(reads_of_product).collect();
        let needs: Vec<bool> = products
            .iter()
            .zip(&reads)
            .map(|(product, reads)| *reads || through || product.bias.is_some_and(|bias| self.learns(bias)))
            .collect();
        let reads_input = reads.contains(&true);
        self.reads(reads_input, &[input]);
        self.consume(input);
        let outputs = outputs.map(|output| self.tape.push(output, None));
        for ((out, product), needs) in outputs.iter().zip(&mut products).zip(needs) {
            product.out = out.node;
            self.tape.nodes[out.node].needs_gradient = needs;
        }
        let operation = Operation::Linear { input, products, reads_input };
        self.push(operation, &outputs.each_ref().map(|out| out.node));
        Ok(outputs)
    }

    fn rope(&mut self, input: Recorded, head_dim: usize, table: usize) -> Result<Recorded, TensorError> {
        let input = self.tape.node("rope", &input)?;
        let is_cheap = self.tape.nodes[input].recipe.is_some();
        let mut values = self.taken("rope", input)?;
        self.direct.rotate(&mut values, head_dim, table)?;
        self.consume(input);
        let needs = self.need_gradients(&[input]);
        Ok(self.record(values, needs, is_cheap, |out| Operation::Rope { input, head_dim, table, out }))
    }

    fn attention(
        &mut self,
        _: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: Recorded,
        keys: Recorded,
        values: Recorded,
    ) -> Result<Recorded, TensorError> {
        const WHAT: &str = "attention";
        let nodes = [&queries, &keys, &values].map(|tensor| self.tape.node(WHAT, tensor));
        let [queries, keys, values] = [nodes[0].clone()?, nodes[1].clone()?, nodes[2].clone()?];
        let of = |node| self.tape.values(WHAT, node);
        let (q, k, v) = (of(queries)?, of(keys)?, of(values)?);
        let (out, log_sums) = self.direct.attention_and_log_sums(0, shape, window, q, k, v)?;
        let needs = self.need_gradients(&[queries, keys, values]);
        self.reads(needs, &[queries, keys, values]);
        [queries, keys, values].into_iter().for_each(|node| self.consume(node));
        let out = self.tape.push(out, None);
        self.tape.nodes[out.node].needs_gradient = needs;
        self.reads(needs, &[out.node]);
        let log_sums = match needs {
            true => log_sums,
            false => {
                self.direct.workspace.give_back(log_sums);
                Activations::default()
            }
        };
        let attention = RecordedAttention { shape, window, queries, keys, values, out: out.node, log_sums };
        self.push(Operation::Attention(Box::new(attention)), &[out.node]);
        Ok(out)
    }

    fn gated(
        &mut self,
        activation: GateActivation,
        gate: Recorded,
        up: Recorded,
    ) -> Result<Recorded, TensorError> {
        const WHAT: &str = "gated";
        let (gate, up) = (self.tape.node(WHAT, &gate)?, self.tape.node(WHAT, &up)?);
        let of = |node| self.tape.values(WHAT, node);
        let (of_gate, of_up) = (of(gate)?, of(up)?);
        let out = self.direct.gated_of(activation, of_gate, of_up)?;
        let needs = self.need_gradients(&[gate, up]);
        self.reads(needs, &[gate, up]);
        [gate, up].into_iter().for_each(|node| self.consume(node));
        Ok(self.record(out, needs, true, |out| Operation::Gated { activation, gate, up, out }))
    }

    fn mixture_of_experts(
        &mut self,
        input: Recorded,
        router: &Matrix,
        experts: &[Expert<Matrix>],
        choice: ExpertChoice,
    ) -> Result<Recorded, TensorError> {
        self.record_mixture(&input, router, experts, choice)
    }

    fn add(&mut self, sum: Recorded, addend: Recorded) -> Result<Recorded, TensorError> {
        let (sum, addend) = (self.tape.node("add", &sum)?, self.tape.node("add", &addend)?);
        // Either's memory can take the result: a + b and b + a have the same bits.
        let (mut values, other) = match (self.tape.take_unread(addend), self.tape.take_unread(sum)) {
            (Some(values), unread) => {
                self.tape.nodes[sum].values = unread.or(self.tape.nodes[sum].values.take());
                (values, sum)
            }
            (None, Some(values)) => (values, addend),
            (None, None) => (self.direct.copy(self.tape.values("add", sum)?)?, addend),
        };
        self.direct.add_to(&mut values, self.tape.values("add", other)?)?;
        self.consume(sum);
        self.consume(addend);
        let needs = self.need_gradients(&[sum, addend]);
        Ok(self.record(values, needs, false, |out| Operation::Add { sum, addend, out }))
    }

    fn scale(&mut self, input: Recorded, factor: f32) -> Result<Recorded, TensorError> {
        let input = self.tape.node("scale", &input)?;
        // As cheap to compute again as its input is.
        let is_cheap = self.tape.nodes[input].recipe.is_some();
        let mut values = self.taken("scale", input)?;
        self.direct.scale_in_place(&mut values, factor);
        self.consume(input);
        let needs = self.need_gradients(&[input]);
        Ok(self.record(values, needs, is_cheap, |out| Operation::Scale { input, factor, out }))
    }

    fn copy(&mut self, input: &Recorded) -> Result<Recorded, TensorError> {
        let input = self.tape.node("copy", input)?;
        let values = self.direct.copy(self.tape.values("copy", input)?)?;
        let needs = self.need_gradients(&[input]);
        Ok(self.record(values, needs, false, |out| Operation::Copy { input, out }))
    }

    fn select_rows(&mut self, input: Recorded, rows: &[usize]) -> Result<Recorded, TensorError> {
        let node = self.tape.node("select_rows", &input)?;
        if rows.len() == input.rows() && rows.iter().enumerate().all(|(index, row)| index == *row) {
            return Ok(input);
        }
        let out = self.direct.copy_rows(self.tape.values("select_rows", node)?, rows)?;
        self.consume(node);
        let (rows, input_rows) = (rows.to_vec(), input.rows());
        let needs = self.need_gradients(&[node]);
        Ok(self.record(out, needs, false, |out| Operation::SelectRows { input: node, rows, input_rows, out }))
    }

    fn discard(&mut self, tensor: Recorded) {
        if tensor.batch == self.tape.batch {
            self.consume(tensor.node);
        }
    }
}

/// That rows are made of whole heads.
fn expect_heads(width: usize, head: usize) -> Result<(), TensorError> {
    expect_whole("heads of a row", width, head)
}
