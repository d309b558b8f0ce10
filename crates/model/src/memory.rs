//! The memory that serving a model takes, estimated from its file before anything is loaded: the one estimate that loading,
//! the model menu and `inspect` use.

use zhenjin_tensor::{Dtype, KvDtype, Matrix, PAGE_TOKENS};

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::file::ModelFile;
use crate::kv_cache::KvCacheDtype;
use crate::runner::Runner;
use crate::tensor_source::TensorSource;

/// A model is not served with a KV cache of fewer tokens than this, unless its context is shorter.
const LEAST_TOKENS: usize = 2048;
/// Tokens of KV cache planned per running request, if the memory limit allows; longer requests share them.
const TOKENS_PER_REQUEST: usize = 1024;

/// The settings on which the memory of a served model depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingLimits {
    /// The most tokens of one sequence; `None`: the model's own context.
    pub context: Option<usize>,
    /// The most sequences that run at once.
    pub max_batch: usize,
    /// The most tokens of one step.
    pub max_rows: usize,
    /// The most rows of logits of one step.
    pub max_logits_rows: usize,
    /// Threads that compute.
    pub threads: usize,
    /// The type of the KV cache that was asked for.
    pub kv_cache_dtype: KvCacheDtype,
    /// Bytes that the caller's tokenizer takes for each token of the vocabulary; 0 without one.
    pub tokenizer_bytes_per_token: usize,
}

/// What serving a model takes, before it is known how much memory there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Bytes of the weights, packed for the kernels.
    pub weights: u64,
    /// Bytes of the tokenizer.
    pub tokenizer: u64,
    /// Bytes of activations, logits and scratch of one step.
    pub workspace: u64,
    /// Bytes of one page of the KV cache: keys and values of [`PAGE_TOKENS`] positions of every layer.
    pub page: u64,
    /// The type of the KV cache.
    pub kv_dtype: KvDtype,
    /// The most tokens of one sequence, if memory allows.
    pub context: usize,
    /// The most sequences that run at once.
    pub max_batch: usize,
    /// A second model that drafts for this one.
    pub draft: Option<DraftMemory>,
}

/// What a model takes that drafts for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftMemory {
    /// Bytes of its weights and workspace.
    pub fixed: u64,
    /// Bytes of one page of its KV cache.
    pub page: u64,
    /// Pages without which it is not loaded.
    pub least_pages: usize,
    /// Pages that it can use.
    pub most_pages: usize,
}

/// How a model is served within a given amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Pages of the KV cache.
    pub pages: usize,
    /// The most tokens of one sequence.
    pub context: usize,
    /// Pages of the draft model's KV cache; 0 without one.
    pub draft_pages: usize,
    /// All bytes: weights, tokenizer, workspace and KV cache, and the same of the draft model.
    pub bytes: u64,
}

impl MemoryEstimate {
    /// Bytes without which the model is not served: weights, tokenizer, workspace and the KV cache of one short
    /// conversation.
    pub fn least(&self) -> u64 {
        self.with_tokens(self.context.min(LEAST_TOKENS))
    }

    /// Bytes with which one conversation can fill the context.
    pub fn full_context(&self) -> u64 {
        self.with_tokens(self.context)
    }

    /// The plan within `available` bytes; `None` if that is less than [`MemoryEstimate::least`].
    pub fn plan(&self, available: u64) -> Option<MemoryPlan> {
        if available < self.least() {
            return None;
        }
        let batch = self.max_batch.max(1).saturating_mul(TOKENS_PER_REQUEST.min(self.context));
        let desired = self.context.max(batch).div_ceil(PAGE_TOKENS);
        let affordable = (available - self.fixed()) / self.page.max(1);
        let pages = desired.min(usize::try_from(affordable).unwrap_or(usize::MAX));
        let context = self.context.min(pages.saturating_mul(PAGE_TOKENS));
        let bytes = self.with_pages(pages);
        let Some(draft) = self.draft else {
            return Some(MemoryPlan { pages, context, draft_pages: 0, bytes });
        };
        // What is short is short for drafts first.
        let affordable = usize::try_from((available - bytes) / draft.page.max(1)).unwrap_or(usize::MAX);
        let more = affordable.min(draft.most_pages.saturating_sub(draft.least_pages));
        let bytes = bytes.saturating_add((more as u64).saturating_mul(draft.page));
        Some(MemoryPlan { pages, context, draft_pages: draft.least_pages + more, bytes })
    }

    /// The same model with another one that drafts for it and takes `draft` alone, of which the tokenizer is not kept. So many sequences
    /// are drafted at once.
    #[must_use]
    pub fn with_draft(self, draft: &MemoryEstimate, sequences: usize) -> MemoryEstimate {
        let context = draft.context.min(self.context);
        let tokens = context.max(sequences.saturating_mul(TOKENS_PER_REQUEST.min(context)));
        let draft = DraftMemory {
            fixed: draft.weights.saturating_add(draft.workspace),
            page: draft.page,
            least_pages: context.min(LEAST_TOKENS).div_ceil(PAGE_TOKENS),
            most_pages: tokens.div_ceil(PAGE_TOKENS),
        };
        MemoryEstimate { draft: Some(draft), ..self }
    }

    /// Bytes of the KV cache for one token.
    pub fn kv_per_token(&self) -> u64 {
        self.page / PAGE_TOKENS as u64
    }

    /// What does not depend on the length of the KV cache, with the least of the draft model.
    fn fixed(&self) -> u64 {
        let of_draft = self.draft.map_or(0, |draft| {
            draft.fixed.saturating_add((draft.least_pages as u64).saturating_mul(draft.page))
        });
        self.weights.saturating_add(self.tokenizer).saturating_add(self.workspace).saturating_add(of_draft)
    }

    fn with_tokens(&self, tokens: usize) -> u64 {
        self.with_pages(tokens.div_ceil(PAGE_TOKENS))
    }

    fn with_pages(&self, pages: usize) -> u64 {
        self.fixed().saturating_add((pages as u64).saturating_mul(self.page))
    }
}

impl ModelFile {
    /// The type in which the matrices of the layers are; where they have several, that of the first gate.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    pub fn layer_dtype(&self) -> Result<Dtype, ModelError> {
        Ok(self.tensor(self.config().first_gate())?.dtype)
    }

    /// The type of the KV cache with which this model is served when `asked` was asked for.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    pub fn kv_dtype(&self, asked: KvCacheDtype) -> Result<KvDtype, ModelError> {
        Ok(asked.choose(self.layer_dtype()?, self.config().head_dim))
    }

    /// The memory that serving this model takes.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    pub fn memory_estimate(&self, limits: &ServingLimits) -> Result<MemoryEstimate, ModelError> {
        let config = self.config();
        let kv_dtype = self.kv_dtype(limits.kv_cache_dtype)?;
        let workspace =
            Runner::workspace_bytes(config, limits.max_rows, limits.max_logits_rows, limits.threads);
        let tokenizer = config.vocabulary_size.saturating_mul(limits.tokenizer_bytes_per_token);
        Ok(MemoryEstimate {
            weights: self.packed_weights(config)?,
            tokenizer: tokenizer as u64,
            workspace: workspace as u64,
            page: Runner::page_bytes(config, kv_dtype) as u64,
            kv_dtype,
            context: limits.context.unwrap_or(usize::MAX).min(config.context_length),
            max_batch: limits.max_batch,
            draft: None,
        })
    }

    /// Bytes of the weights that `config` implies, packed for the kernels.
    pub(crate) fn packed_weights(&self, config: &ModelConfig) -> Result<u64, ModelError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kv_cache_gets_what_is_left_up_to_what_the_batch_needs() {
        let estimate = MemoryEstimate {
            weights: 850,
            tokenizer: 50,
            workspace: 100,
            page: 10,
            kv_dtype: KvDtype::F32,
            context: 4096,
            max_batch: 8,
            draft: None,
        };
        assert_eq!((estimate.least(), estimate.full_context()), (1_000 + 640, 1_000 + 1_280));
        assert_eq!(estimate.plan(1_639), None);
        let plan = |pages, context, bytes| Some(MemoryPlan { pages, context, draft_pages: 0, bytes });
        assert_eq!(estimate.plan(1_640), plan(64, 2048, 1_640));
        assert_eq!(estimate.plan(1_009 + 1_280), plan(128, 4096, 2_280));
        assert_eq!(estimate.plan(1 << 40), plan(256, 4096, 1_000 + 2_560));
        let short = MemoryEstimate { context: 512, ..estimate };
        assert_eq!(short.plan(short.least()), plan(16, 512, 1_160));
    }

    #[test]
    fn a_draft_model_gets_the_least_and_then_what_the_model_leaves() {
        let large = MemoryEstimate {
            weights: 850,
            tokenizer: 50,
            workspace: 100,
            page: 10,
            kv_dtype: KvDtype::F32,
            context: 4096,
            max_batch: 8,
            draft: None,
        };
        let small =
            MemoryEstimate { weights: 90, tokenizer: 50, workspace: 10, page: 1, context: 8192, ..large };
        let both = large.with_draft(&small, 8);
        // Weights, workspace and 64 pages of the small one.
        assert_eq!(both.least(), large.least() + 100 + 64);
        assert_eq!(both.plan(both.least() - 1), None);
        let plan = |available| both.plan(available).map(|plan| (plan.pages, plan.draft_pages, plan.bytes));
        assert_eq!(plan(both.least()), Some((64, 64, both.least())));
        let without = large.with_pages(256) + 164;
        assert_eq!(plan(without), Some((256, 64, without)));
        assert_eq!(plan(without + 9), Some((256, 73, without + 9)));
        assert_eq!(plan(1 << 40), Some((256, 256, without + 192)));
        let short = large.with_draft(&MemoryEstimate { context: 100, ..small }, 2);
        assert_eq!(short.plan(1 << 40).map(|plan| plan.draft_pages), Some(7));
    }
}
