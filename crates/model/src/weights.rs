//! The weights of a transformer as the forward pass uses them, and how they are built from any source.
//!
//! It does not know file formats; a [`TensorSource`] hands the weights out one by one.

use std::sync::Arc;

use zhenjin_tensor::{Matrix, MatrixMemory, SimdLevel, TensorError, ThreadTeam, dequantise};

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::tensor_source::{LayerWeightName, TensorSource, TensorView, WeightName};

/// How weights are loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The instruction set for which matrices are packed.
    pub simd: SimdLevel,
    /// The threads that pack them.
    pub team: Arc<ThreadTeam>,
}

/// All weights of a model, for an executor whose matrices are `M` and whose vectors are `V`.
#[derive(Debug)]
pub struct Weights<M = Matrix, V = Vec<f32>> {
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
pub struct LayerWeights<M = Matrix, V = Vec<f32>> {
    /// Norm before attention.
    pub attention_norm: V,
    /// Query projection.
    pub query: Linear<M, V>,
    /// Key projection.
    pub key: Linear<M, V>,
    /// Value projection.
    pub value: Linear<M, V>,
    /// Norm of each query head.
    pub query_norm: Option<V>,
    /// Norm of each key head.
    pub key_norm: Option<V>,
    /// Output projection of attention.
    pub output: Linear<M, V>,
    /// Norm before the feed-forward network.
    pub feed_forward_norm: V,
    /// Gate projection.
    pub gate: Linear<M, V>,
    /// Up projection.
    pub up: Linear<M, V>,
    /// Down projection.
    pub down: Linear<M, V>,
}

/// A projection with or without bias.
#[derive(Debug)]
pub struct Linear<M = Matrix, V = Vec<f32>> {
    /// `[outputs, inputs]`.
    pub matrix: M,
    /// `[outputs]`.
    pub bias: Option<V>,
}

impl Weights {
    /// Reads every weight that `config` implies from `source`, one after the other, packing matrices for the kernels.
    /// Each weight is released as soon as it is read, so that no more than one is in memory twice.
    ///
    /// # Errors
    /// What `source` reports, [`ModelError::TensorShape`] when a weight has another shape than `config` implies, and
    /// [`ModelError::Weight`] when it cannot be packed.
    pub fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        options: &LoadOptions,
    ) -> Result<Weights, ModelError> {
        let loader = Loader { config, source, options, memory: MatrixMemory::new() };
        Ok(Weights {
            embedding: loader.matrix(WeightName::Embedding)?,
            layers: (0..config.layers).map(|index| loader.layer(index)).collect::<Result<_, _>>()?,
            final_norm: loader.vector(WeightName::FinalNorm)?,
            separate_head: match config.tied_embeddings {
                true => None,
                false => Some(loader.matrix(WeightName::Head)?),
            },
        })
    }

    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        let vector = |vector: &Vec<f32>| size_of_val(vector.as_slice());
        let linear = |linear: &Linear| linear.matrix.bytes() + linear.bias.as_ref().map_or(0, vector);
        let layer = |layer: &LayerWeights| {
            let projections =
                [&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down];
            let norms = [&layer.attention_norm, &layer.feed_forward_norm];
            let head_norms = [&layer.query_norm, &layer.key_norm];
            projections.into_iter().map(linear).sum::<usize>()
                + norms.into_iter().map(vector).sum::<usize>()
                + head_norms.into_iter().flatten().map(vector).sum::<usize>()
        };
        self.embedding.bytes()
            + self.layers.iter().map(layer).sum::<usize>()
            + vector(&self.final_norm)
            + self.separate_head.as_ref().map_or(0, Matrix::bytes)
    }
}

struct Loader<'a> {
    config: &'a ModelConfig,
    source: &'a dyn TensorSource,
    options: &'a LoadOptions,
    memory: MatrixMemory,
}

impl Loader<'_> {
    fn layer(&self, index: usize) -> Result<LayerWeights, ModelError> {
        use LayerWeightName as W;
        let config = self.config;
        let vector = |name| self.vector(WeightName::Layer(index, name));
        let vector_if = |present: bool, name| present.then(|| vector(name)).transpose();
        let linear = |matrix, bias, has_bias| -> Result<Linear, ModelError> {
            Ok(Linear {
                matrix: self.matrix(WeightName::Layer(index, matrix))?,
                bias: vector_if(has_bias, bias)?,
            })
        };
        Ok(LayerWeights {
            attention_norm: vector(W::AttentionNorm)?,
            query: linear(W::Query, W::QueryBias, config.attention_bias)?,
            key: linear(W::Key, W::KeyBias, config.attention_bias)?,
            value: linear(W::Value, W::ValueBias, config.attention_bias)?,
            query_norm: vector_if(config.qk_norm, W::QueryNorm)?,
            key_norm: vector_if(config.qk_norm, W::KeyNorm)?,
            output: linear(W::Output, W::OutputBias, config.attention_output_bias)?,
            feed_forward_norm: vector(W::FeedForwardNorm)?,
            gate: linear(W::Gate, W::GateBias, config.feed_forward_bias)?,
            up: linear(W::Up, W::UpBias, config.feed_forward_bias)?,
            down: linear(W::Down, W::DownBias, config.feed_forward_bias)?,
        })
    }

    fn view(&self, name: WeightName) -> Result<TensorView<'_>, ModelError> {
        let view = self.source.tensor(name)?;
        let expected = self.config.shape(name);
        if view.shape == expected {
            return Ok(view);
        }
        let file = self.source.origin();
        Err(ModelError::TensorShape { file, tensor: view.name, expected, found: view.shape })
    }

    fn matrix(&self, name: WeightName) -> Result<Matrix, ModelError> {
        let view = self.view(name)?;
        let (rows, columns) = (view.shape[0], view.shape[1]);
        let LoadOptions { simd, team } = self.options;
        let matrix = Matrix::pack_into(&self.memory, view.dtype, rows, columns, view.bytes, *simd, team);
        let matrix = matrix.map_err(|error| self.refused(&view, error))?;
        self.source.release(name);
        Ok(matrix)
    }

    fn vector(&self, name: WeightName) -> Result<Vec<f32>, ModelError> {
        let view = self.view(name)?;
        let mut vector = vec![0.0; view.shape[0]];
        dequantise(view.dtype, view.bytes, &mut vector).map_err(|error| self.refused(&view, error))?;
        self.source.release(name);
        Ok(vector)
    }

    fn refused(&self, view: &TensorView<'_>, error: TensorError) -> ModelError {
        ModelError::Weight { file: self.source.origin(), tensor: view.name.clone(), error }
    }
}
