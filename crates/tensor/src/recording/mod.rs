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
use crate::ops::rope::{RotaryAngles, RotaryFrequencies, RotaryLayout};
use crate::{
    Activations, AttentionShape, DirectExecutor, Executor, Expert, ExpertChoice, KvCache, KvDtype, KvShape,
    LowRankAddition, Matrix, ParameterId, Projection, SequenceRows, SimdLevel, TensorError, ThreadTeam,
    Vector,
};
pub use head::{ScoreGradient, TokenScore};
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
    /// Rows of each document of the batch.
    lengths: Vec<usize>,
    /// The angles that turn heads back.
    back: RotaryAngles,
    attention: AttentionGradientScratch,
    products: BackwardScratch,
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
        direct.workspace.keep_all();
        Ok(RecordingExecutor {
            direct,
            tape: Tape::default(),
            lengths: Vec::new(),
            back: RotaryAngles::new(RotaryLayout::HalfSplit),
            attention: AttentionGradientScratch::default(),
            products: BackwardScratch::default(),
            layer: None,
            routers: Routers::default(),
            trace: Trace::default(),
        })
    }

    /// The executor of the forward kernels, for passes without a record. It is told of every batch that this one is told of.
    pub fn direct(&mut self) -> &mut DirectExecutor {
        &mut self.direct
    }

    /// Says which layer the coming operations belong to, for reports.
    pub fn set_layer(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// Puts a tensor on the tape whose gradient the caller wants: the tensor, and what to ask for its gradient with
    /// ([`RecordingExecutor::take_gradient`]).
    pub fn input(&mut self, values: Activations) -> (Recorded, WantedGradient) {
        let tensor = self.tape.push(values, None);
        self.tape.nodes[tensor.node].is_input = true;
        let wanted = WantedGradient { batch: tensor.batch, node: tensor.node };
        (tensor, wanted)
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

    /// Records an operation whose output has these values.
    fn record(
        &mut self,
        values: Activations,
        is_cheap: bool,
        operation: impl FnOnce(usize) -> Operation,
    ) -> Recorded {
        let out = self.tape.push(values, is_cheap.then_some(self.tape.records.len()));
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
        self.tape.records.push(Record { operation, layer: self.layer });
    }

    fn consume(&mut self, node: usize) {
        self.tape.consume(node, &mut self.direct.workspace);
    }
}

fn recorded_addition(addition: &LowRankAddition<'_, Matrix>) -> Result<RecordedAddition, TensorError> {
    const WHAT: &str = "low-rank addition";
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
        _: &RotaryFrequencies,
    ) -> Result<(), TensorError> {
        Err(TensorError::NotRecorded { what: "sequences over KV pages (begin)" })
    }

    fn begin_packed(&mut self, lengths: &[usize], rotary: &RotaryFrequencies) -> Result<(), TensorError> {
        self.tape.clear(&mut self.direct.workspace);
        let rows = |lengths: &[usize]| lengths.iter().sum::<usize>();
        if rows(lengths) != rows(&self.lengths) {
            // Buffers of the former number of rows would only lie about.
            self.direct.workspace.keep_all();
        }
        self.lengths.clear();
        self.direct.begin_packed(lengths, rotary)?;
        self.lengths.extend_from_slice(lengths);
        let radians = rotary.radians.iter().map(|radians| -radians).collect();
        let back = RotaryFrequencies { radians, ..rotary.clone() };
        self.back.set(&back, lengths.iter().flat_map(|length| 0..*length));
        self.routers.clear_statistics();
        self.layer = None;
        Ok(())
    }

    fn embedding(&mut self, table: &Matrix, tokens: &[u32]) -> Result<Recorded, TensorError> {
        let id = parameter("embedding", table.parameter())?;
        let out = self.direct.embedding(table, tokens)?;
        Ok(self.record(out, false, |out| Operation::Embedding { table: id, tokens: tokens.to_vec(), out }))
    }

    fn rms_norm(&mut self, input: &Recorded, weight: &Vector, epsilon: f32) -> Result<Recorded, TensorError> {
        let id = parameter("rms_norm", weight.parameter())?;
        let input = self.tape.node("rms_norm", input)?;
        let out = self.direct.rms_norm(self.tape.values("rms_norm", input)?, weight, epsilon)?;
        self.tape.nodes[input].reads += 1;
        Ok(self.record(out, true, |out| Operation::RmsNorm { input, weight: id, epsilon, out }))
    }

    fn head_norm(&mut self, input: Recorded, weight: &Vector, epsilon: f32) -> Result<Recorded, TensorError> {
        let id = parameter("head_norm", weight.parameter())?;
        let input = self.tape.node("head_norm", &input)?;
        let out = self.direct.head_norm_of(self.tape.values("head_norm", input)?, weight, epsilon)?;
        self.tape.nodes[input].reads += 1;
        self.consume(input);
        Ok(self.record(out, true, |out| Operation::HeadNorm { input, weight: id, epsilon, out }))
    }

    fn linear<const N: usize>(
        &mut self,
        input: Recorded,
        projections: [Projection<'_, Matrix, Vector>; N],
    ) -> Result<[Recorded; N], TensorError> {
        let input = self.tape.node("linear", &input)?;
        for projection in &projections {
            parameter("linear", projection.matrix.parameter())?;
            projection.bias.map(|bias| parameter("bias", bias.parameter())).transpose()?;
            for addition in projection.additions {
                parameter("low-rank addition", addition.down.parameter())?;
                parameter("low-rank addition", addition.up.parameter())?;
            }
        }
        let outputs = self.direct.linear_of(self.tape.values("linear", input)?, &projections)?;
        self.tape.nodes[input].reads += 1;
        self.consume(input);
        let mut products = Vec::with_capacity(N);
        let outputs = outputs.map(|output| self.tape.push(output, None));
        for (out, projection) in outputs.iter().zip(&projections) {
            products.push(RecordedProduct {
                matrix: parameter("linear", projection.matrix.parameter())?,
                bias: projection.bias.and_then(Vector::parameter),
                additions: projection.additions.iter().map(recorded_addition).collect::<Result<_, _>>()?,
                out: out.node,
            });
        }
        self.push(Operation::Linear { input, products }, &outputs.each_ref().map(|out| out.node));
        Ok(outputs)
    }

    fn rope(&mut self, input: Recorded, head_dim: usize) -> Result<Recorded, TensorError> {
        let input = self.tape.node("rope", &input)?;
        let is_cheap = self.tape.nodes[input].recipe.is_some();
        let mut values = match self.tape.take_unread(input) {
            Some(values) => values,
            None => self.direct.copy(self.tape.values("rope", input)?)?,
        };
        self.direct.rotate(&mut values, head_dim)?;
        self.consume(input);
        Ok(self.record(values, is_cheap, |out| Operation::Rope { input, head_dim, out }))
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
        for node in [queries, keys, values] {
            self.tape.nodes[node].reads += 1;
            self.consume(node);
        }
        let out = self.record(out, false, |out| {
            let attention = RecordedAttention { shape, window, queries, keys, values, out, log_sums };
            Operation::Attention(Box::new(attention))
        });
        self.tape.nodes[out.node].reads += 1;
        Ok(out)
    }

    fn swiglu(&mut self, gate: Recorded, up: Recorded) -> Result<Recorded, TensorError> {
        const WHAT: &str = "swiglu";
        let (gate, up) = (self.tape.node(WHAT, &gate)?, self.tape.node(WHAT, &up)?);
        let out = self.direct.swiglu_of(self.tape.values(WHAT, gate)?, self.tape.values(WHAT, up)?)?;
        for node in [gate, up] {
            self.tape.nodes[node].reads += 1;
            self.consume(node);
        }
        Ok(self.record(out, true, |out| Operation::SwiGlu { gate, up, out }))
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
        Ok(self.record(values, false, |out| Operation::Add { sum, addend, out }))
    }

    fn select_rows(&mut self, input: Recorded, rows: &[usize]) -> Result<Recorded, TensorError> {
        let node = self.tape.node("select_rows", &input)?;
        if rows.len() == input.rows() && rows.iter().enumerate().all(|(index, row)| index == *row) {
            return Ok(input);
        }
        let out = self.direct.copy_rows(self.tape.values("select_rows", node)?, rows)?;
        self.consume(node);
        let (rows, input_rows) = (rows.to_vec(), input.rows());
        Ok(self.record(out, false, |out| Operation::SelectRows { input: node, rows, input_rows, out }))
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
