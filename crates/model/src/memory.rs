//! How much memory serving a model needs, known from its file before anything is loaded.
//!
//! It does not know how much memory the machine has.

use zhenjin_tensor::{Dtype, KvDtype, Matrix, PAGE_TOKENS};

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::file::ModelFile;
use crate::runner::Runner;
use crate::tensor_source::{LayerWeightName, TensorSource, WeightName};

/// What a model is asked to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// Positions of each sequence.
    pub context: usize,
    /// Sequences at once.
    pub sequences: usize,
    /// Tokens in one step, at most.
    pub max_rows: usize,
    /// How keys and values are kept.
    pub kv_dtype: KvDtype,
}

/// Bytes of memory that serving takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The weights in the layout that computes.
    pub weights: u64,
    /// The keys and values of one position.
    pub kv_per_token: u64,
    /// The KV cache: whole pages for every sequence.
    pub kv: u64,
    /// Activations, logits and scratch of one step.
    pub workspace: u64,
}

impl MemoryPlan {
    /// Everything together.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.workspace)
    }
}

impl ModelFile {
    /// The type in which the matrices of the layers are; where they have several, that of the first gate.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    pub fn layer_dtype(&self) -> Result<Dtype, ModelError> {
        Ok(self.tensor(WeightName::Layer(0, LayerWeightName::Gate))?.dtype)
    }

    /// The memory that serving this model takes.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    pub fn memory(&self, serving: &Serving) -> Result<MemoryPlan, ModelError> {
        let config = self.config();
        let page = Runner::page_bytes(config, serving.kv_dtype) as u64;
        let pages = (serving.context.div_ceil(PAGE_TOKENS) as u64).saturating_mul(serving.sequences as u64);
        Ok(MemoryPlan {
            weights: self.packed_weights(config)?,
            kv_per_token: page / PAGE_TOKENS as u64,
            kv: page.saturating_mul(pages),
            workspace: Runner::workspace_bytes(
                config,
                serving.max_rows,
                serving.sequences.min(serving.max_rows),
            ) as u64,
        })
    }

    fn packed_weights(&self, config: &ModelConfig) -> Result<u64, ModelError> {
        let mut bytes = 0_u64;
        for weight in config.weights() {
            let view = self.tensor(weight)?;
            let packed = match view.shape[..] {
                [rows, columns] => Matrix::packed_bytes(view.dtype, rows, columns),
                _ => view.shape.iter().product::<usize>().checked_mul(size_of::<f32>()),
            };
            // No more than the file's bytes padded; what could not be addressed could not have been mapped either.
            bytes = bytes.saturating_add(packed.map_or(u64::MAX, |packed| packed as u64));
        }
        Ok(bytes)
    }
}
