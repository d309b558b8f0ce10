//! Runs steps of one model: checks a batch, computes it, hands the logits out. One per engine thread.
//!
//! It does not know which chunk belongs to whom, nor who owns which page: the caller says so with every step.

use std::sync::Arc;

use zhenjin_tensor::{
    Activations, DirectExecutor, Executor, KvCache, KvDtype, KvShape, RotaryFrequencies, SequenceRows,
    SimdLevel, TensorError, ThreadTeam, WorkspaceLimits,
};

use crate::batch::{BatchError, Logits, SequenceChunk};
use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::forward::{self, Transformer};
use crate::model::Model;
use crate::rope;

/// How a [`Runner`] is set up. All memory is planned by these numbers.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// Pages of the KV cache, of [`Runner::page_bytes`] each. Their memory is taken when they are first used.
    pub pages: usize,
    /// How keys and values are kept.
    pub kv_dtype: KvDtype,
    /// Greatest number of tokens in one step.
    pub max_rows: usize,
    /// Greatest number of rows of logits in one step.
    pub max_logits_rows: usize,
    /// Positions that a sequence may have, if fewer than the model was made for.
    pub context_length: Option<usize>,
    /// Instruction set of the small operations and of attention.
    pub simd: SimdLevel,
    /// The threads that compute.
    pub team: Arc<ThreadTeam>,
}

/// A model with a KV cache and the memory to compute steps.
#[derive(Debug)]
pub struct Runner {
    model: Arc<Model>,
    executor: DirectExecutor,
    rotary: RotaryFrequencies,
    max_rows: usize,
    max_logits_rows: usize,
    context_length: usize,
    tokens: Vec<u32>,
    selected: Vec<usize>,
    logits: Option<Activations>,
}

impl Runner {
    /// A runner for `model`.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] when the KV cache finds no memory, the processor lacks `simd` or the model's heads cannot be
    /// computed or kept in `kv_dtype`; [`ModelError::ContextTooLong`] when a longer context is asked for than the model was made for.
    pub fn new(model: Arc<Model>, options: RunnerOptions) -> Result<Runner, ModelError> {
        let config = &model.config;
        let context_length = options.context_length.unwrap_or(config.context_length);
        if context_length > config.context_length {
            return Err(ModelError::ContextTooLong { asked: context_length, longest: config.context_length });
        }
        let cache = KvCache::new(kv_shape(config, options.kv_dtype), options.pages)?;
        let shape = forward::attention_shape(config);
        let mut executor = DirectExecutor::new(cache, shape, options.simd, options.team)?;
        let outputs = options.max_logits_rows.saturating_mul(config.vocabulary_size);
        executor.prepare(options.max_rows, widest(config), outputs);
        Ok(Runner {
            executor,
            rotary: rope::frequencies(&config.rope),
            max_rows: options.max_rows,
            max_logits_rows: options.max_logits_rows,
            context_length,
            tokens: Vec::new(),
            selected: Vec::new(),
            logits: None,
            model,
        })
    }

    /// Bytes of one page of the KV cache: keys and values of 32 positions of every layer.
    pub fn page_bytes(config: &ModelConfig, kv_dtype: KvDtype) -> usize {
        kv_shape(config, kv_dtype).page_bytes().unwrap_or(usize::MAX)
    }

    /// Bytes, besides weights and KV pages, that steps of `max_rows` tokens and `max_logits_rows` rows of logits take at
    /// most, with one thread per processor.
    pub fn workspace_bytes(config: &ModelConfig, max_rows: usize, max_logits_rows: usize) -> usize {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        DirectExecutor::workspace_bytes(&WorkspaceLimits {
            shape: forward::attention_shape(config),
            threads,
            max_rows,
            widest: widest(config),
            context_length: config.context_length,
            outputs: max_logits_rows.saturating_mul(config.vocabulary_size),
        })
    }

    /// Bytes of that kind that have been taken so far.
    pub fn workspace_bytes_taken(&self) -> usize {
        let logits = self.logits.as_ref().map_or(0, Activations::bytes);
        self.executor.workspace_bytes_taken() + logits
    }

    /// Width of a row of logits.
    pub fn vocabulary_size(&self) -> usize {
        self.model.config.vocabulary_size
    }

    /// Positions that a sequence may have.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Pages of the KV cache.
    pub fn page_count(&self) -> usize {
        self.executor.cache().pages()
    }

    /// Greatest number of tokens in one step.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Greatest number of rows of logits in one step.
    pub fn max_logits_rows(&self) -> usize {
        self.max_logits_rows
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Computes one step: the keys and values of every token go into the pages, and the logits that the chunks ask for are
    /// returned in the chunks' order. What a chunk gets depends on its own sequence alone, bit for bit.
    ///
    /// # Errors
    /// [`ModelError::Batch`] when the chunks ask for what is not there, [`ModelError::Tensor`] when the pages do not fit
    /// the chunks; the pages hold what they held before. [`TensorError::OutOfMemory`] while computing leaves the chunks'
    /// own positions unspecified.
    pub fn step(&mut self, chunks: &[SequenceChunk<'_>]) -> Result<Logits<'_>, ModelError> {
        self.check(chunks)?;
        if let Some(previous) = self.logits.take() {
            self.executor.discard(previous);
        }
        self.tokens.clear();
        self.selected.clear();
        for chunk in chunks {
            self.tokens.extend_from_slice(chunk.tokens);
            self.selected.extend(self.tokens.len() - chunk.logits_rows()..self.tokens.len());
        }
        if chunks.is_empty() {
            return self.no_logits();
        }
        let sequences = chunks.iter().map(|chunk| SequenceRows {
            rows: chunk.tokens.len(),
            start: chunk.start,
            pages: chunk.pages,
        });
        self.executor.begin(sequences, &self.rotary)?;
        let Model { config, weights, .. } = &*self.model;
        let transformer = Transformer { config, weights };
        let logits = transformer.logits(&mut self.executor, &self.tokens, &self.selected)?;
        if self.selected.is_empty() {
            self.executor.discard(logits);
            return self.no_logits();
        }
        let logits = self.logits.insert(logits);
        let width = config.vocabulary_size;
        Logits::new(logits.values(), width).ok_or(ModelError::Tensor(TensorError::Length {
            what: "logits",
            expected: width,
            actual: logits.width(),
        }))
    }

    fn no_logits(&self) -> Result<Logits<'_>, ModelError> {
        let what = "logits";
        let error = TensorError::Length { what, expected: 1, actual: self.vocabulary_size() };
        Logits::new(&[], self.vocabulary_size()).ok_or(ModelError::Tensor(error))
    }

    fn check(&self, chunks: &[SequenceChunk<'_>]) -> Result<(), BatchError> {
        let vocabulary_size = self.vocabulary_size();
        let (mut rows, mut logits_rows) = (0usize, 0usize);
        for (index, chunk) in chunks.iter().enumerate() {
            if chunk.tokens.is_empty() {
                return Err(BatchError::EmptyChunk { chunk: index });
            }
            let unknown =
                chunk.tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocabulary_size);
            if let Some((at, token)) = unknown {
                return Err(BatchError::UnknownToken {
                    chunk: index,
                    index: at,
                    token: *token,
                    vocabulary_size,
                });
            }
            let end = chunk.start.saturating_add(chunk.tokens.len());
            if end > self.context_length {
                let context_length = self.context_length;
                return Err(BatchError::ContextExceeded { chunk: index, end, context_length });
            }
            rows += chunk.tokens.len();
            logits_rows += chunk.logits_rows();
        }
        if rows > self.max_rows {
            return Err(BatchError::TooManyRows { rows, max_rows: self.max_rows });
        }
        if logits_rows > self.max_logits_rows {
            return Err(BatchError::TooManyLogits { rows: logits_rows, max_rows: self.max_logits_rows });
        }
        Ok(())
    }
}

/// Width of the widest tensor, the logits aside.
fn widest(config: &ModelConfig) -> usize {
    config.intermediate_size.max(config.query_width()).max(config.hidden_size)
}

fn kv_shape(config: &ModelConfig, dtype: KvDtype) -> KvShape {
    KvShape { dtype, layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim }
}
