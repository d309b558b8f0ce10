//! What serving a model will take, told from its files before anything is loaded. Does not know what memory
//! is free.

use std::path::Path;

use zhenjin_model::{ModelError, ModelFile};

use super::ServeOptions;
use super::memory::{self, MemoryNeeds};
use crate::error::AssistantError;

/// What serving a model will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServingForecast {
    /// Bytes without which it cannot be served: weights, workspace, and keys and values of a short
    /// conversation.
    pub least_bytes: u64,
    /// The most tokens of one conversation, if memory allows.
    pub context_length: usize,
}

impl ServingForecast {
    /// Of the model at `path`, a GGUF file or a Hugging Face folder.
    ///
    /// # Errors
    /// [`AssistantError::Load`] when the files cannot be read.
    pub fn of(path: &Path, options: &ServeOptions) -> Result<ServingForecast, AssistantError> {
        let failed = |error: ModelError| AssistantError::Load {
            name: path.display().to_string(),
            reason: error.to_string(),
        };
        let file = ModelFile::open(path).map_err(failed)?;
        let kv_dtype = memory::kv_dtype(&file, options).map_err(failed)?;
        let context = file.config().context_length;
        Ok(ServingForecast {
            least_bytes: MemoryNeeds::of(&file, kv_dtype, options).least(),
            context_length: options.context.map_or(context, |limit| limit.min(context)),
        })
    }
}
