//! How many rows a served model's steps have, and so how much memory serving it takes.

use std::path::Path;

use zhenjin_model::{MemoryEstimate, ModelError, ModelFile, ServingLimits};

use super::ServeOptions;
use crate::error::AssistantError;

/// The most prompt tokens of one step, over all requests.
pub(super) const PREFILL_ROWS: usize = 512;
/// Bytes of a tokenizer for each token of its vocabulary. 366 were measured with 49,152 tokens and 379 with 151,936, before the
/// byte-level encoder's own table of merges, which adds 23 to 31.
const TOKENIZER_BYTES_PER_TOKEN: usize = 450;

impl ServeOptions {
    /// The memory that serving the model in `file` takes with these options, without a draft model.
    ///
    /// # Errors
    /// As [`ModelFile::memory_estimate`].
    pub fn memory_estimate(&self, file: &ModelFile) -> Result<MemoryEstimate, ModelError> {
        file.memory_estimate(&self.limits())
    }

    /// The same of the model at `path`, a GGUF file or a Hugging Face folder.
    ///
    /// # Errors
    /// [`AssistantError::Load`] when the files cannot be read.
    pub fn memory_estimate_at(&self, path: &Path) -> Result<MemoryEstimate, AssistantError> {
        ModelFile::open(path).and_then(|file| self.memory_estimate(&file)).map_err(|error| {
            AssistantError::Load { name: path.display().to_string(), reason: error.to_string() }
        })
    }

    pub(super) fn limits(&self) -> ServingLimits {
        ServingLimits {
            context: self.context,
            max_batch: self.max_batch,
            // A part of a prompt beside every running answer.
            max_rows: PREFILL_ROWS + self.max_batch,
            // One for each running answer, or those of a few answers and their drafts. Prompts' log-probabilities need none.
            max_logits_rows: self.max_batch.max(16),
            threads: self.compute.threads,
            kv_cache_dtype: self.kv_cache_dtype,
            tokenizer_bytes_per_token: TOKENIZER_BYTES_PER_TOKEN,
        }
    }
}
