//! The weights of a transformer as the forward pass uses them, for whatever executor computes with them.
//!
//! Matrices and vectors are made from a file by a [`WeightLoader`], and counted by [`Weights::parameters`]. File formats
//! are not known here: a [`crate::TensorSource`] hands the weights out one by one.

mod load;
mod parameters;
mod reference;

use zhenjin_tensor::{Expert, ExpertChoice, LowRankAddition, Matrix, Projection, Vector};

pub(crate) use load::WeightMaker;
pub use load::{ExpandingLoader, LoadOptions, PackingLoader, WeightLoader};
pub use parameters::{ParameterTable, Weight};
pub use reference::{ReferenceLoader, ReferenceTapeLoader};

/// All weights of a model, for an executor whose matrices are `M` and whose vectors are `V`.
#[derive(Debug)]
pub struct Weights<M = Matrix, V = Vector> {
    /// Token embedding, `[vocabulary_size, hidden_size]`.
    pub embedding: M,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights<M, V>>,
    /// Norm before the head.
    pub final_norm: V,
    /// The head, or `None` when it is the embedding.
    pub separate_head: Option<M>,
}

impl<M, V> Weights<M, V> {
    /// The matrix that turns the last hidden state into logits.
    pub fn head(&self) -> &M {
        self.separate_head.as_ref().unwrap_or(&self.embedding)
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub struct LayerWeights<M = Matrix, V = Vector> {
    /// Norm before attention, if there is one there.
    pub attention_norm: Option<V>,
    /// Query projection.
    pub query: Linear<M, V>,
    /// Key projection.
    pub key: Linear<M, V>,
    /// Value projection.
    pub value: Linear<M, V>,
    /// Norm of each query head, or of all as one.
    pub query_norm: Option<V>,
    /// Norm of each key head, or of all as one.
    pub key_norm: Option<V>,
    /// Output projection of attention.
    pub output: Linear<M, V>,
    /// Norm of what attention adds, if there is one.
    pub attention_output_norm: Option<V>,
    /// Norm before the feed-forward network, if there is one there.
    pub feed_forward_norm: Option<V>,
    /// What is computed between the norms, or between one and the residual stream.
    pub feed_forward: FeedForward<M, V>,
    /// Norm of what the feed-forward network adds, if there is one.
    pub feed_forward_output_norm: Option<V>,
}

/// The feed-forward network of a layer.
#[derive(Debug)]
pub enum FeedForward<M = Matrix, V = Vector> {
    /// A single one.
    Dense {
        /// Gate projection.
        gate: Linear<M, V>,
        /// Up projection.
        up: Linear<M, V>,
        /// Down projection.
        down: Linear<M, V>,
    },
    /// A mixture of experts.
    Experts(Experts<M>),
}

/// A mixture of experts.
#[derive(Debug)]
pub struct Experts<M = Matrix> {
    /// Scores of the experts, `[experts, hidden_size]`.
    pub router: M,
    /// The experts by their numbers.
    pub experts: Vec<Expert<M>>,
    /// How rows choose among them.
    pub choice: ExpertChoice,
}

/// A projection with or without bias.
#[derive(Debug)]
pub struct Linear<M = Matrix, V = Vector> {
    /// `[outputs, inputs]`.
    pub matrix: M,
    /// `[outputs]`.
    pub bias: Option<V>,
}

impl<M, V> Linear<M, V> {
    /// As an operand of [`zhenjin_tensor::Executor::linear`], with low-rank additions to some rows.
    pub fn projection<'a>(&'a self, additions: &'a [LowRankAddition<'a, M>]) -> Projection<'a, M, V> {
        Projection { matrix: &self.matrix, bias: self.bias.as_ref(), additions }
    }
}

impl Weights {
    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        let bytes = |weight: Weight<&Matrix, &Vector>| match weight {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Vector(vector) => size_of_val(&vector[..]),
        };
        self.parameters().map(|(_, weight)| bytes(weight)).sum()
    }
}
