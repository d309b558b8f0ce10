//! A loaded model: its configuration and its weights, ready to be shared by runners.
//!
//! It does not compute; [`crate::Runner`] does.

use std::path::Path;

use zhenjin_tensor::{Dtype, KvDtype, SimdLevel};

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::file::ModelFile;
use crate::fingerprint::{Fingerprint, FingerprintedSource};
use crate::kv_cache::KvCacheDtype;
use crate::tensor_source::TensorSource;
use crate::weights::{ExpandingLoader, FeedForward, LoadOptions, Weights};

/// A model in memory.
#[derive(Debug)]
pub struct Model {
    /// Shape and switches.
    pub config: ModelConfig,
    /// The weights, packed for one instruction set.
    pub weights: Weights,
    /// That instruction set.
    pub simd: SimdLevel,
    /// Of every weight, as it was read.
    pub fingerprint: Fingerprint,
}

impl Model {
    /// Loads a `.gguf` file or a Hugging Face folder.
    ///
    /// # Errors
    /// Whatever [`ModelFile::open`] and [`Weights::load`] report, with the file and the place in it.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Model, ModelError> {
        let file = ModelFile::open(path)?;
        Model::from_source(file.config().clone(), &file, options)
    }

    /// Loads a model of shape `config` from any source of weights.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn from_source(
        config: ModelConfig,
        source: &dyn TensorSource,
        options: &LoadOptions,
    ) -> Result<Model, ModelError> {
        let source = FingerprintedSource::new(source, &options.team);
        let weights = Weights::load(&config, &source, options)?;
        let fingerprint = source.fingerprint(&config);
        Ok(Model { config, weights, simd: options.simd, fingerprint })
    }

    /// As [`Model::from_source`], with all matrices in f32, whatever type the source has them in: weights that learn.
    ///
    /// # Errors
    /// As [`Weights::load_with`].
    pub fn from_source_in_f32(
        config: ModelConfig,
        source: &dyn TensorSource,
        options: &LoadOptions,
    ) -> Result<Model, ModelError> {
        let source = FingerprintedSource::new(source, &options.team);
        let weights = Weights::load_with(&config, &source, &mut ExpandingLoader::new(options.clone()))?;
        let fingerprint = source.fingerprint(&config);
        Ok(Model { config, weights, simd: options.simd, fingerprint })
    }

    /// The type in which the matrices of the layers are; where they have several, that of the first gate.
    pub fn layer_dtype(&self) -> Dtype {
        match &self.weights.layers[0].feed_forward {
            FeedForward::Dense { gate, .. } => gate.matrix.dtype(),
            FeedForward::Experts(experts) => experts.experts[0].gate.dtype(),
        }
    }

    /// The type of the KV cache with which this model is served when `asked` was asked for.
    pub fn kv_dtype(&self, asked: KvCacheDtype) -> KvDtype {
        asked.choose(self.layer_dtype(), self.config.head_dim)
    }
}
