//! The list of operations that a transformer is made of. The model's forward pass is written once, generic over who
//! executes them: [`crate::DirectExecutor`] for serving, a recording tape for training, another device.
//!
//! A `Tensor` is `[rows, width]` of f32, row-major; every row belongs to one position of one sequence. Operations take
//! their inputs by value where the input is not needed again, so that an executor can reuse its memory. No operation
//! may let one row's result depend on which other rows are there.

use std::ops::Range;

use crate::TensorError;
use crate::attention::AttentionShape;
use crate::kv::SequenceRows;
use crate::ops::rope::RotaryFrequencies;

/// What [`Executor::linear`] multiplies with and adds.
#[derive(Debug)]
pub struct Projection<'a, M, V> {
    /// `[outputs, inputs]`.
    pub matrix: &'a M,
    /// `[outputs]`.
    pub bias: Option<&'a V>,
    /// Low-rank additions to some rows; a row occurs in one of them at most.
    pub additions: &'a [LowRankAddition<'a, M>],
}

/// An addition to the outputs of some rows: `scale · (input · Aᵀ) · Bᵀ` (Hu et al. 2021, "LoRA"), and a change of the outputs before it.
#[derive(Debug)]
pub struct LowRankAddition<'a, M> {
    /// The rows, by their places in the input.
    pub rows: Range<usize>,
    /// A, `[rank, inputs]`.
    pub down: &'a M,
    /// B, `[outputs, rank]`.
    pub up: &'a M,
    /// What the `rank` values between the two products are multiplied with.
    pub scale: f32,
    /// What becomes of the rows' outputs before the product is added.
    pub outputs: OutputChange<'a>,
}

/// `output · factor + shift`, for the outputs of a matrix and its bias. What is empty changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutputChange<'a> {
    /// `[outputs]`, or empty.
    pub factors: &'a [f32],
    /// `[outputs]`, or empty.
    pub shifts: &'a [f32],
}

impl OutputChange<'_> {
    /// Whether it changes nothing.
    pub fn is_none(&self) -> bool {
        self.factors.is_empty() && self.shifts.is_empty()
    }
}

/// One expert of a mixture: a feed-forward network of its own.
#[derive(Clone, Debug)]
pub struct Expert<M> {
    /// Gate projection, `[expert width, inputs]`.
    pub gate: M,
    /// Up projection, `[expert width, inputs]`.
    pub up: M,
    /// Down projection, `[inputs, expert width]`.
    pub down: M,
}

/// How a row chooses its experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertChoice {
    /// Experts of each row.
    pub active: usize,
    /// The probabilities of a row's experts are divided by their sum.
    pub normalise: bool,
}

/// What becomes of a gate before it is multiplied with the values beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateActivation {
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`.
    GeluTanh,
}

/// The operations, in the order in which a forward pass meets them.
pub trait Executor {
    /// Activations `[rows, width]`.
    type Tensor;
    /// A weight matrix `[outputs, inputs]`.
    type Matrix;
    /// A weight vector: a norm's scale or a bias.
    type Vector;

    /// Says to which sequences and positions the rows of the coming operations belong, and by which tables heads are turned ([`Executor::rope`];
    /// all of one head width and layout), until the next call.
    fn begin<'a>(
        &mut self,
        sequences: impl Iterator<Item = SequenceRows<'a>>,
        rotary: &[RotaryFrequencies],
    ) -> Result<(), TensorError>;

    /// Says that the rows of the coming operations are whole documents, one after the other, of `lengths` rows each. Attention
    /// begins anew with each of them, reads only the keys and values that it is given, and remembers none. The results
    /// are those of the same documents as sequences of [`Executor::begin`], bit for bit where keys and values are f32.
    fn begin_packed(&mut self, lengths: &[usize], rotary: &[RotaryFrequencies]) -> Result<(), TensorError>;

    /// Rows `tokens` of `table`: `[tokens.len(), columns]`.
    fn embedding(&mut self, table: &Self::Matrix, tokens: &[u32]) -> Result<Self::Tensor, TensorError>;

    /// RMSNorm over each row: `x / √(mean(x²) + ε) · weight`.
    fn rms_norm(
        &mut self,
        input: &Self::Tensor,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Tensor, TensorError>;

    /// RMSNorm over each head of each row separately; the head's width is that of `weight`, which may be that of the row.
    fn head_norm(
        &mut self,
        input: Self::Tensor,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Tensor, TensorError>;

    /// `input · matrixᵀ + bias` for `N` projections that read the same input: `[rows, outputs]` each; then the low-rank
    /// additions to the rows that have one. Other rows get the same bits as without any additions.
    fn linear<const N: usize>(
        &mut self,
        input: Self::Tensor,
        projections: [Projection<'_, Self::Matrix, Self::Vector>; N],
    ) -> Result<[Self::Tensor; N], TensorError>;

    /// Turns every head (of `head_dim` values) of every row to its position (rotary position embedding), by rotary table `table` of those
    /// that the batch began with.
    fn rope(
        &mut self,
        input: Self::Tensor,
        head_dim: usize,
        table: usize,
    ) -> Result<Self::Tensor, TensorError>;

    /// Causal grouped-query attention of `layer`: remembers `keys` and `values` `[rows, kv_heads · head_dim]` at their
    /// positions, then lets `queries` `[rows, heads · head_dim]` see their sequence up to and with their own position, or
    /// the `window` most recent of those. `[rows, heads · head_dim]`.
    fn attention(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: Self::Tensor,
        keys: Self::Tensor,
        values: Self::Tensor,
    ) -> Result<Self::Tensor, TensorError>;

    /// `activation(gate) · up`, element by element.
    fn gated(
        &mut self,
        activation: GateActivation,
        gate: Self::Tensor,
        up: Self::Tensor,
    ) -> Result<Self::Tensor, TensorError>;

    /// A mixture of experts: p = softmax(router · x); of each row's p the `active` greatest count (of equal ones those of
    /// lower numbers), divided by their sum where `normalise` says so; the row's output is Σ p_e · down_e · (silu(gate_e · x)
    /// · up_e · x) over these experts in ascending order. No row is dropped: `[rows, inputs]`.
    fn mixture_of_experts(
        &mut self,
        input: Self::Tensor,
        router: &Self::Matrix,
        experts: &[Expert<Self::Matrix>],
        choice: ExpertChoice,
    ) -> Result<Self::Tensor, TensorError>;

    /// `sum + addend`, element by element (the residual connection).
    fn add(&mut self, sum: Self::Tensor, addend: Self::Tensor) -> Result<Self::Tensor, TensorError>;

    /// `input · factor`, element by element.
    fn scale(&mut self, input: Self::Tensor, factor: f32) -> Result<Self::Tensor, TensorError>;

    /// The same values once more, for an operation that uses up its input while another one still needs it.
    fn copy(&mut self, input: &Self::Tensor) -> Result<Self::Tensor, TensorError>;

    /// The rows whose numbers are given, in that order.
    fn select_rows(&mut self, input: Self::Tensor, rows: &[usize]) -> Result<Self::Tensor, TensorError>;

    /// Takes back the memory of a tensor that is not needed any more.
    fn discard(&mut self, tensor: Self::Tensor);
}

/// What encoders need beside the operations of [`Executor`]. They read whole documents and remember nothing.
pub trait EncoderExecutor: Executor {
    /// Says that the rows of the coming operations are whole documents, one after the other, of `lengths` rows each, until the next call
    /// of this or of the other beginnings. [`EncoderExecutor::attention_to_all`] needs it; rotation does not know their positions.
    fn begin_encoding(&mut self, lengths: &[usize]) -> Result<(), TensorError>;

    /// LayerNorm over each row: `(x − mean(x)) / √(mean((x − mean(x))²) + ε) · weight + bias`.
    fn layer_norm(
        &mut self,
        input: &Self::Tensor,
        weight: &Self::Vector,
        bias: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Tensor, TensorError>;

    /// [`Executor::linear`] of an input that stays the caller's.
    fn project<const N: usize>(
        &mut self,
        input: &Self::Tensor,
        projections: [Projection<'_, Self::Matrix, Self::Vector>; N],
    ) -> Result<[Self::Tensor; N], TensorError>;

    /// `x · Φ(x)`, element by element, with the normal distribution function Φ.
    fn gelu(&mut self, input: Self::Tensor) -> Result<Self::Tensor, TensorError>;

    /// Grouped-query attention in which every row sees all rows of its document, `[rows, heads · head_dim]`; sizes as for
    /// [`Executor::attention`].
    fn attention_to_all(
        &mut self,
        shape: AttentionShape,
        queries: Self::Tensor,
        keys: Self::Tensor,
        values: Self::Tensor,
    ) -> Result<Self::Tensor, TensorError>;
}
