//! How much memory a model takes, and how much of it goes to keys and values. Counts bytes; loads nothing.

use zhenjin_model::{ModelError, ModelFile, Runner};
use zhenjin_tensor::{KvDtype, PAGE_TOKENS};

use super::ServeOptions;

/// Rows of prompts in one step, over all requests.
pub(crate) const PREFILL_ROWS: usize = 512;
/// A model is not served with room for fewer tokens of conversation than this, unless it was made for fewer.
const LEAST_CONTEXT: usize = 2048;
/// Room for keys and values per concurrent request, if the memory limit allows; longer conversations share
/// it.
const TOKENS_PER_REQUEST: usize = 1024;

/// What a model needs, before it is known how much it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryNeeds {
    /// Weights and workspace.
    fixed: u64,
    page_bytes: u64,
    context: usize,
    max_batch: usize,
}

/// What a model gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Pages of keys and values.
    pub(crate) pages: usize,
    /// The most tokens of one conversation.
    pub(crate) context: usize,
    /// All bytes.
    pub(crate) bytes: u64,
}

/// The type in which keys and values of the model in `file` are kept.
pub(crate) fn kv_dtype(file: &ModelFile, options: &ServeOptions) -> Result<KvDtype, ModelError> {
    Ok(options.kv_cache_dtype.choose(file.layer_dtype()?, file.config().head_dim))
}

impl MemoryNeeds {
    /// Of the model in `file`, with its keys and values in `kv_dtype`.
    pub(crate) fn of(file: &ModelFile, kv_dtype: KvDtype, options: &ServeOptions) -> MemoryNeeds {
        let config = file.config();
        let weights_bytes: u64 = file.tensors().map(|tensor| tensor.bytes.len() as u64).sum();
        let workspace = Runner::workspace_bytes(config, max_rows(options), max_logits_rows(options));
        MemoryNeeds {
            fixed: weights_bytes.saturating_add(workspace as u64),
            page_bytes: Runner::page_bytes(config, kv_dtype) as u64,
            context: options.context.unwrap_or(usize::MAX).min(config.context_length),
            max_batch: options.max_batch.max(1),
        }
    }

    /// Bytes without which the model is not served.
    pub(crate) fn least(&self) -> u64 {
        self.with_tokens(self.context.min(LEAST_CONTEXT))
    }

    /// Bytes with which one conversation can fill the model's context: what idle models are unloaded for.
    pub(crate) fn wanted(&self) -> u64 {
        self.with_tokens(self.context)
    }

    /// The plan within `available` bytes; `None` if that is less than the least.
    pub(crate) fn plan(&self, available: u64) -> Option<MemoryPlan> {
        if available < self.least() {
            return None;
        }
        let desired = self.context.max(self.max_batch.saturating_mul(TOKENS_PER_REQUEST.min(self.context)));
        let affordable = (available - self.fixed) / self.page_bytes.max(1);
        let pages = desired.div_ceil(PAGE_TOKENS).min(usize::try_from(affordable).unwrap_or(usize::MAX));
        let bytes = self.fixed + pages as u64 * self.page_bytes;
        Some(MemoryPlan { pages, context: self.context.min(pages * PAGE_TOKENS), bytes })
    }

    fn with_tokens(&self, tokens: usize) -> u64 {
        let pages = tokens.div_ceil(PAGE_TOKENS) as u64;
        self.fixed.saturating_add(pages.saturating_mul(self.page_bytes))
    }
}

/// The most rows of one step: a part of a prompt beside every running answer.
pub(crate) fn max_rows(options: &ServeOptions) -> usize {
    PREFILL_ROWS + options.max_batch
}

/// The most rows of logits of one step: one for each running answer, or those of a few answers and their drafts. Prompts'
/// log-probabilities need none.
pub(crate) fn max_logits_rows(options: &ServeOptions) -> usize {
    options.max_batch.max(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_get_what_is_left_within_reason() {
        let needs = MemoryNeeds { fixed: 1_000, page_bytes: 10, context: 4096, max_batch: 8 };
        assert_eq!((needs.least(), needs.wanted()), (1_000 + 640, 1_000 + 1_280));
        assert_eq!(needs.plan(1_639), None);
        assert_eq!(needs.plan(1_640), Some(MemoryPlan { pages: 64, context: 2048, bytes: 1_640 }));
        assert_eq!(needs.plan(1_009 + 1_280), Some(MemoryPlan { pages: 128, context: 4096, bytes: 2_280 }));
        assert_eq!(needs.plan(1 << 40), Some(MemoryPlan { pages: 256, context: 4096, bytes: 1_000 + 2_560 }));
        let small = MemoryNeeds { context: 512, ..needs };
        assert_eq!(small.plan(small.least()), Some(MemoryPlan { pages: 16, context: 512, bytes: 1_160 }));
    }
}
