//! From a source of weights to an executor's matrices and vectors.

use std::sync::Arc;

use zhenjin_tensor::{
    Dtype, Expert, ExpertChoice, Matrix, MatrixMemory, ParameterId, SimdLevel, TensorError, ThreadTeam,
    Vector, dequantise,
};

use super::{Experts, FeedForward, LayerWeights, Linear, Weights};
use crate::config::{ModelConfig, QueryKeyNorm};
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

/// Packs matrices of every type in f32, so that they can be changed in place.
#[derive(Debug)]
pub struct ExpandingLoader {
    options: LoadOptions,
    memory: MatrixMemory,
}

impl ExpandingLoader {
    /// A loader that has taken no memory yet.
    pub fn new(options: LoadOptions) -> ExpandingLoader {
        ExpandingLoader { options, memory: MatrixMemory::new() }
    }
}

impl WeightLoader for ExpandingLoader {
    type Matrix = Matrix;
    type Vector = Vector;

    fn matrix(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Matrix, TensorError> {
        let (rows, columns) = (view.shape[0], view.shape[1]);
        let LoadOptions { simd, team } = &self.options;
        let bytes = view.bytes.len() / rows.max(1);
        let fill = |row: usize, values: &mut [f32]| {
            let row = &view.bytes[row * bytes..(row + 1) * bytes];
            // The view has the shape that was checked, and whole blocks in each row.
            let _ = dequantise(view.dtype, row, values);
        };
        // One row tells whether the type can be expanded at all.
        dequantise(view.dtype, &view.bytes[..bytes], &mut vec![0.0; columns])?;
        Ok(Matrix::make_f32(&self.memory, rows, columns, *simd, team, fill)?.with_parameter(id))
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
    /// Reads every weight that `config` implies from `source`, one after the other, in the form that `loader` gives them; norms that the source
    /// has less 1 come with 1 added. Each weight is released as soon as it is read, so that no more than one is in memory twice.
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
        Weights::make(config, &mut Reading { config, source, loader })
    }

    /// Every weight that `config` implies, made one after the other in the order of [`ModelConfig::weights`], which numbers
    /// the parameters.
    pub(crate) fn make<K>(config: &ModelConfig, maker: &mut K) -> Result<Weights<M, V>, ModelError>
    where
        K: WeightMaker<Matrix = M, Vector = V>,
    {
        let mut making = Making { config, maker, next: 0 };
        Ok(Weights {
            embedding: making.matrix(WeightName::Embedding)?,
            layers: (0..config.layers).map(|index| making.layer(index)).collect::<Result<_, _>>()?,
            final_norm: making.vector(WeightName::FinalNorm)?,
            separate_head: match config.tied_embeddings {
                true => None,
                false => Some(making.matrix(WeightName::Head)?),
            },
        })
    }
}

/// Where a model's weights come from, one by one: read from a file or newly made.
pub(crate) trait WeightMaker {
    /// A matrix `[outputs, inputs]`.
    type Matrix;
    /// A norm's scale or a bias.
    type Vector;

    fn matrix(&mut self, id: ParameterId, name: WeightName) -> Result<Self::Matrix, ModelError>;

    fn vector(&mut self, id: ParameterId, name: WeightName) -> Result<Self::Vector, ModelError>;
}

/// Weights being made. Fields of structures are evaluated in the order in which they are written.
struct Making<'a, K> {
    config: &'a ModelConfig,
    maker: &'a mut K,
    next: u32,
}

impl<K: WeightMaker> Making<'_, K> {
    fn layer(&mut self, index: usize) -> Result<LayerWeights<K::Matrix, K::Vector>, ModelError> {
        use LayerWeightName as W;
        let config = self.config;
        let name = |name| WeightName::Layer(index, name);
        let (before, after) = (config.norms.before(), config.norms.after());
        let qk_norm = config.qk_norm != QueryKeyNorm::Never;
        Ok(LayerWeights {
            attention_norm: self.vector_if(before, name(W::AttentionNorm))?,
            query: self.linear(name(W::Query), name(W::QueryBias), config.attention_bias)?,
            key: self.linear(name(W::Key), name(W::KeyBias), config.attention_bias)?,
            value: self.linear(name(W::Value), name(W::ValueBias), config.attention_bias)?,
            query_norm: self.vector_if(qk_norm, name(W::QueryNorm))?,
            key_norm: self.vector_if(qk_norm, name(W::KeyNorm))?,
            output: self.linear(name(W::Output), name(W::OutputBias), config.attention_output_bias)?,
            attention_output_norm: self.vector_if(after, name(W::AttentionOutputNorm))?,
            feed_forward_norm: self.vector_if(before, name(W::FeedForwardNorm))?,
            feed_forward: self.feed_forward(index)?,
            feed_forward_output_norm: self.vector_if(after, name(W::FeedForwardOutputNorm))?,
        })
    }

    fn feed_forward(&mut self, index: usize) -> Result<FeedForward<K::Matrix, K::Vector>, ModelError> {
        use LayerWeightName as W;
        let config = self.config;
        let name = |name| WeightName::Layer(index, name);
        let Some(settings) = config.experts_of(index) else {
            return Ok(FeedForward::Dense {
                gate: self.linear(name(W::Gate), name(W::GateBias), config.feed_forward_bias)?,
                up: self.linear(name(W::Up), name(W::UpBias), config.feed_forward_bias)?,
                down: self.linear(name(W::Down), name(W::DownBias), config.feed_forward_bias)?,
            });
        };
        let router = self.matrix(name(W::Router))?;
        let expert = |expert: u16| {
            Ok(Expert {
                gate: self.matrix(name(W::ExpertGate(expert)))?,
                up: self.matrix(name(W::ExpertUp(expert)))?,
                down: self.matrix(name(W::ExpertDown(expert)))?,
            })
        };
        let experts = (0..settings.count as u16).map(expert).collect::<Result<_, ModelError>>()?;
        let choice = ExpertChoice { active: settings.active, normalise: settings.normalise };
        Ok(FeedForward::Experts(Experts { router, experts, choice }))
    }

    fn linear(
        &mut self,
        matrix: WeightName,
        bias: WeightName,
        has_bias: bool,
    ) -> Result<Linear<K::Matrix, K::Vector>, ModelError> {
        Ok(Linear { matrix: self.matrix(matrix)?, bias: self.vector_if(has_bias, bias)? })
    }

    fn matrix(&mut self, name: WeightName) -> Result<K::Matrix, ModelError> {
        let id = self.number();
        self.maker.matrix(id, name)
    }

    fn vector(&mut self, name: WeightName) -> Result<K::Vector, ModelError> {
        let id = self.number();
        self.maker.vector(id, name)
    }

    fn vector_if(&mut self, present: bool, name: WeightName) -> Result<Option<K::Vector>, ModelError> {
        present.then(|| self.vector(name)).transpose()
    }

    fn number(&mut self) -> ParameterId {
        let id = ParameterId(self.next);
        self.next += 1;
        id
    }
}

/// The values of a norm that is stored less 1, as f32: each is rounded once, after 1 has been added.
fn with_one_more(view: &TensorView<'_>) -> Result<Vec<u8>, TensorError> {
    let mut values = vec![0.0_f32; view.shape.iter().product()];
    dequantise(view.dtype, view.bytes, &mut values)?;
    Ok(values.iter().flat_map(|value| (value + 1.0).to_le_bytes()).collect())
}

/// Reads weights from a source.
struct Reading<'a, L> {
    config: &'a ModelConfig,
    source: &'a dyn TensorSource,
    loader: &'a mut L,
}

impl<L: WeightLoader> WeightMaker for Reading<'_, L> {
    type Matrix = L::Matrix;
    type Vector = L::Vector;

    fn matrix(&mut self, id: ParameterId, name: WeightName) -> Result<L::Matrix, ModelError> {
        self.read(id, name, L::matrix)
    }

    fn vector(&mut self, id: ParameterId, name: WeightName) -> Result<L::Vector, ModelError> {
        if !(self.config.norms_less_one && name.is_norm()) {
            return self.read(id, name, L::vector);
        }
        self.read(id, name, |loader, id, view| {
            let bytes = with_one_more(view)?;
            let (name, shape) = (view.name.clone(), view.shape.clone());
            loader.vector(id, &TensorView { name, dtype: Dtype::F32, shape, bytes: &bytes })
        })
    }
}

impl<L: WeightLoader> Reading<'_, L> {
    fn read<T>(
        &mut self,
        id: ParameterId,
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
        let weight = make(self.loader, id, &view).map_err(|error| {
            let tensor = view.name.clone();
            ModelError::Weight { file: file(), tensor, error }
        })?;
        self.source.release(name);
        Ok(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{RandomWeights, tiny_config, tiny_gemma};
    use crate::weights::{ReferenceLoader, Weight};

    /// What the forward pass multiplies with is what the files hold, and 1 more where they hold norms less 1; other weights stay.
    #[test]
    fn norms_that_are_stored_less_one_get_one_when_they_are_loaded() {
        for config in [tiny_gemma(), tiny_config()] {
            let plain = ModelConfig { norms_less_one: false, ..config.clone() };
            let options =
                LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) };
            let source = RandomWeights::new(config.clone(), Dtype::F32, 1);
            let weights = Weights::load(&config, &source, &options).unwrap();
            let expanded =
                Weights::load_with(&config, &source, &mut ExpandingLoader::new(options.clone())).unwrap();
            let exact = Weights::load_with(&config, &source, &mut ReferenceLoader).unwrap();
            let stored = Weights::load(&plain, &source, &options).unwrap();
            let mut norms = 0;
            for (name, weight) in weights.parameters() {
                let Weight::Vector(values) = weight else { continue };
                let Some(Weight::Vector(stored)) = stored.get(name) else { panic!("{name:?} is missing") };
                let more = if config.norms_less_one && name.is_norm() { 1.0 } else { 0.0 };
                norms += usize::from(more > 0.0);
                let expected: Vec<f32> = stored.iter().map(|value| value + more).collect();
                assert_eq!(values[..], expected, "{name:?}");
                let Some(Weight::Vector(same)) = expanded.get(name) else { panic!("{name:?} is missing") };
                assert_eq!(same, values, "{name:?}");
                let Some(Weight::Vector(exact)) = exact.get(name) else { panic!("{name:?} is missing") };
                assert!(exact.iter().zip(&expected).all(|(exact, value)| *exact == f64::from(*value)));
            }
            // Four of hidden states, two of queries and keys in each layer, and the last one.
            assert_eq!(norms, if config.norms_less_one { 6 * config.layers + 1 } else { 0 });
        }
    }
}
