//! From a source of weights to an executor's matrices and vectors.

use std::sync::Arc;

use zhenjin_tensor::{
    Matrix, MatrixMemory, ParameterId, SimdLevel, TensorError, ThreadTeam, Vector, dequantise,
};

use super::{LayerWeights, Linear, Weights};
use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::tensor_source::{LayerWeightName, TensorSource, TensorView, WeightName};

/// Makes the matrices and vectors of one executor. The views have the shapes that the configuration implies.
pub trait WeightLoader {
    /// A matrix `[outputs, inputs]`.
    type Matrix;
    /// A norm's scale or a bias.
    type Vector;

    /// The matrix in `view`, as parameter `id` of the model.
    ///
    /// # Errors
    /// Why it cannot be made; [`Weights::load_with`] adds the file and the tensor's name.
    fn matrix(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Self::Matrix, TensorError>;

    /// The vector in `view`, as parameter `id` of the model.
    ///
    /// # Errors
    /// As for [`WeightLoader::matrix`].
    fn vector(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Self::Vector, TensorError>;
}

/// How weights are packed.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The instruction set for which matrices are packed.
    pub simd: SimdLevel,
    /// The threads that pack them.
    pub team: Arc<ThreadTeam>,
}

/// Packs matrices for the kernels of [`zhenjin_tensor::DirectExecutor`].
#[derive(Debug)]
pub struct PackingLoader {
    options: LoadOptions,
    memory: MatrixMemory,
}

impl PackingLoader {
    /// A loader that has taken no memory yet.
    pub fn new(options: LoadOptions) -> PackingLoader {
        PackingLoader { options, memory: MatrixMemory::new() }
    }
}

impl WeightLoader for PackingLoader {
    type Matrix = Matrix;
    type Vector = Vector;

    fn matrix(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Matrix, TensorError> {
        let (rows, columns) = (view.shape[0], view.shape[1]);
        let LoadOptions { simd, team } = &self.options;
        let matrix = Matrix::pack_into(&self.memory, view.dtype, rows, columns, view.bytes, *simd, team)?;
        Ok(matrix.with_parameter(id))
    }

    fn vector(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Vector, TensorError> {
        let mut values = vec![0.0; view.shape[0]];
        dequantise(view.dtype, view.bytes, &mut values)?;
        Ok(Vector::from(values).with_parameter(id))
    }
}

impl Weights {
    /// Reads every weight that `config` implies from `source`, packed for the kernels.
    ///
    /// # Errors
    /// As for [`Weights::load_with`].
    pub fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        options: &LoadOptions,
    ) -> Result<Weights, ModelError> {
        Weights::load_with(config, source, &mut PackingLoader::new(options.clone()))
    }
}

impl<M, V> Weights<M, V> {
    /// Reads every weight that `config` implies from `source`, one after the other, in the form that `loader` gives them.
    /// Each weight is released as soon as it is read, so that no more than one is in memory twice.
    ///
    /// # Errors
    /// What `source` reports, [`ModelError::TensorShape`] when a weight has another shape than `config` implies, and
    /// [`ModelError::Weight`] when the loader cannot make it.
    pub fn load_with<L>(
        config: &ModelConfig,
        source: &dyn TensorSource,
        loader: &mut L,
    ) -> Result<Weights<M, V>, ModelError>
    where
        L: WeightLoader<Matrix = M, Vector = V>,
    {
        let mut reading = Reading { config, source, loader, next: 0 };
        Ok(Weights {
            embedding: reading.matrix(WeightName::Embedding)?,
            layers: (0..config.layers).map(|index| reading.layer(index)).collect::<Result<_, _>>()?,
            final_norm: reading.vector(WeightName::FinalNorm)?,
            separate_head: match config.tied_embeddings {
                true => None,
                false => Some(reading.matrix(WeightName::Head)?),
            },
        })
    }
}

/// Weights being read. Fields of structures are evaluated in the order in which they are written, so that parameters are
/// numbered in the order of [`ModelConfig::weights`].
struct Reading<'a, L> {
    config: &'a ModelConfig,
    source: &'a dyn TensorSource,
    loader: &'a mut L,
    next: u32,
}

impl<L: WeightLoader> Reading<'_, L> {
    fn layer(&mut self, index: usize) -> Result<LayerWeights<L::Matrix, L::Vector>, ModelError> {
        use LayerWeightName as W;
        let config = self.config;
        let name = |name| WeightName::Layer(index, name);
        Ok(LayerWeights {
            attention_norm: self.vector(name(W::AttentionNorm))?,
            query: self.linear(name(W::Query), name(W::QueryBias), config.attention_bias)?,
            key: self.linear(name(W::Key), name(W::KeyBias), config.attention_bias)?,
            value: self.linear(name(W::Value), name(W::ValueBias), config.attention_bias)?,
            query_norm: self.vector_if(config.qk_norm, name(W::QueryNorm))?,
            key_norm: self.vector_if(config.qk_norm, name(W::KeyNorm))?,
            output: self.linear(name(W::Output), name(W::OutputBias), config.attention_output_bias)?,
            feed_forward_norm: self.vector(name(W::FeedForwardNorm))?,
            gate: self.linear(name(W::Gate), name(W::GateBias), config.feed_forward_bias)?,
            up: self.linear(name(W::Up), name(W::UpBias), config.feed_forward_bias)?,
            down: self.linear(name(W::Down), name(W::DownBias), config.feed_forward_bias)?,
        })
    }

    fn linear(
        &mut self,
        matrix: WeightName,
        bias: WeightName,
        has_bias: bool,
    ) -> Result<Linear<L::Matrix, L::Vector>, ModelError> {
        Ok(Linear { matrix: self.matrix(matrix)?, bias: self.vector_if(has_bias, bias)? })
    }

    fn matrix(&mut self, name: WeightName) -> Result<L::Matrix, ModelError> {
        self.read(name, L::matrix)
    }

    fn vector(&mut self, name: WeightName) -> Result<L::Vector, ModelError> {
        self.read(name, L::vector)
    }

    fn vector_if(&mut self, present: bool, name: WeightName) -> Result<Option<L::Vector>, ModelError> {
        present.then(|| self.vector(name)).transpose()
    }

    fn read<T>(
        &mut self,
        name: WeightName,
        make: impl FnOnce(&mut L, ParameterId, &TensorView<'_>) -> Result<T, TensorError>,
    ) -> Result<T, ModelError> {
        let view = self.source.tensor(name)?;
        let expected = self.config.shape(name);
        let file = || self.source.origin();
        if view.shape != expected {
            return Err(ModelError::TensorShape {
                file: file(),
                tensor: view.name,
                expected,
                found: view.shape,
            });
        }
        let weight = make(self.loader, ParameterId(self.next), &view).map_err(|error| {
            let tensor = view.name.clone();
            ModelError::Weight { file: file(), tensor, error }
        })?;
        self.next += 1;
        self.source.release(name);
        Ok(weight)
    }
}
