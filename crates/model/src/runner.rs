//! Runs steps of one model: checks a batch, computes it, hands out what the chunks ask for. One per engine thread.
//!
//! It does not track which chunk or page belongs to which request: the caller says so with every step.

use std::sync::Arc;

use zhenjin_tensor::{
    Activations, DirectExecutor, Executor, KvCache, KvDtype, KvShape, Matrix, RotaryFrequencies, RowScore,
    SequenceRows, SimdLevel, TensorError, ThreadTeam, WorkspaceLimits,
};

use crate::batch::{BatchError, OutputRows, SequenceChunk, StepOutputs};
use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::forward::{self, AdapterRows, Transformer};
use crate::key_centres::key_centres;
use crate::model::Model;
use crate::rope;
use crate::selection::Selection;

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
    /// The token ids `0..usable_vocabulary` can be predicted; a model's rows may be padded beyond its tokenizer's
    /// vocabulary, and what is there has no logits and no part in log-probabilities. `None`: all of the model's.
    pub usable_vocabulary: Option<usize>,
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
    /// See [`rope::tables`].
    rotary: Vec<RotaryFrequencies>,
    max_rows: usize,
    max_logits_rows: usize,
    context_length: usize,
    usable_vocabulary: usize,
    selection: Selection,
    logits: Option<Activations>,
    scores: Vec<RowScore>,
    hidden: Option<Activations>,
}

impl Runner {
    /// A runner for `model`.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] when the KV cache finds no memory, the processor lacks `simd` or the model's heads cannot be
    /// computed or kept in `kv_dtype`; [`ModelError::ContextTooLong`] when a longer context is asked for than the model was made for;
    /// [`ModelError::NoUsableVocabulary`].
    pub fn new(model: Arc<Model>, options: RunnerOptions) -> Result<Runner, ModelError> {
        let config = &model.config;
        let context_length = options.context_length.unwrap_or(config.context_length);
        if context_length > config.context_length {
            return Err(ModelError::ContextTooLong { asked: context_length, longest: config.context_length });
        }
        let usable_vocabulary = options.usable_vocabulary.unwrap_or(usize::MAX).min(config.vocabulary_size);
        if usable_vocabulary == 0 {
            return Err(ModelError::NoUsableVocabulary);
        }
        let rotary = rope::tables(config);
        let cache = KvCache::new(kv_shape(config, options.kv_dtype), options.pages)?;
        let shape = forward::attention_shape(config);
        let mut executor = DirectExecutor::new(cache, shape, options.simd, options.team)?;
        let outputs = outputs(config, options.max_rows, options.max_logits_rows);
        executor.set_key_centres(key_centres(config, &model.weights, &rotary))?;
        executor.prepare(options.max_rows, widest(config), outputs);
        Ok(Runner {
            executor,
            rotary,
            max_rows: options.max_rows,
            max_logits_rows: options.max_logits_rows,
            context_length,
            usable_vocabulary,
            selection: Selection::default(),
            logits: None,
            scores: Vec::new(),
            hidden: None,
            model,
        })
    }

    /// Bytes of one page of the KV cache: keys and values of 32 positions of every layer.
    pub fn page_bytes(config: &ModelConfig, kv_dtype: KvDtype) -> usize {
        kv_shape(config, kv_dtype).page_bytes().unwrap_or(usize::MAX)
    }

    /// Bytes, besides weights and KV pages, that steps of `max_rows` tokens and `max_logits_rows` rows of logits take at
    /// most on so many threads.
    pub fn workspace_bytes(
        config: &ModelConfig,
        max_rows: usize,
        max_logits_rows: usize,
        threads: usize,
    ) -> usize {
        DirectExecutor::workspace_bytes(&WorkspaceLimits {
            shape: forward::attention_shape(config),
            threads,
            max_rows,
            widest: widest(config),
            context_length: config.context_length,
            outputs: outputs(config, max_rows, max_logits_rows),
        })
    }

    /// Bytes of that kind that have been taken so far.
    pub fn workspace_bytes_taken(&self) -> usize {
        let held = [&self.logits, &self.hidden].into_iter().flatten();
        self.executor.workspace_bytes_taken() + held.map(Activations::bytes).sum::<usize>()
    }

    /// Width of a row of logits: the token ids below it can be predicted.
    pub fn usable_vocabulary(&self) -> usize {
        self.usable_vocabulary
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

    /// The threads that compute its steps.
    pub fn team(&self) -> &Arc<ThreadTeam> {
        self.executor.team()
    }

    /// Computes further steps with other weights, such as those of a later training step. Keys and values in the pages stay what
    /// the old weights computed; it is the caller who must not mix them.
    ///
    /// # Errors
    /// [`ModelError::OtherModel`] when the weights have another configuration or are packed for other instructions.
    pub fn use_weights(&mut self, model: &Arc<Model>) -> Result<(), ModelError> {
        if model.config != self.model.config || model.simd != self.model.simd {
            return Err(ModelError::OtherModel);
        }
        // Every sequence's keys are written with the centres of its own weights.
        self.executor.set_key_centres(key_centres(&model.config, &model.weights, &self.rotary))?;
        self.model = Arc::clone(model);
        Ok(())
    }

    /// Computes one step: the keys and values of every token go into the pages, and what the chunks ask for is returned in
    /// the chunks' order. What a chunk gets depends on its own sequence alone, bit for bit; a log-probability is the one
    /// that [`zhenjin_tensor::log_sum_exp`] over the row of logits gives.
    ///
    /// # Errors
    /// [`ModelError::Batch`] when the chunks ask for what is not there, [`ModelError::Tensor`] when the pages do not fit
    /// the chunks; the pages hold what they held before. [`TensorError::OutOfMemory`] while computing leaves the chunks'
    /// own positions unspecified.
    pub fn step(&mut self, chunks: &[SequenceChunk<'_>]) -> Result<StepOutputs<'_>, ModelError> {
        self.check(chunks)?;
        for previous in [self.logits.take(), self.hidden.take()].into_iter().flatten() {
            self.executor.discard(previous);
        }
        self.scores.clear();
        self.selection.set(chunks);
        if !chunks.is_empty() {
            let sequences = chunks.iter().map(|chunk| SequenceRows {
                rows: chunk.tokens.len(),
                start: chunk.start,
                pages: chunk.pages,
            });
            self.executor.begin(sequences, &self.rotary)?;
            self.compute(chunks)?;
        }
        let (usable, hidden_size) = (self.usable_vocabulary, self.model.config.hidden_size);
        let logits = output_rows(self.logits.as_ref(), usable)?;
        let hidden = output_rows(self.hidden.as_ref(), hidden_size)?;
        Ok(StepOutputs { logits, scores: &self.scores, hidden })
    }

    /// The forward pass, and what is wanted of its rows.
    fn compute(&mut self, chunks: &[SequenceChunk<'_>]) -> Result<(), ModelError> {
        let Model { config, weights, .. } = &*self.model;
        let adapters = adapter_rows(chunks);
        let transformer = Transformer { config, weights, adapters: &adapters };
        let Selection { tokens, selected, logits, scored, targets, hidden } = &self.selection;
        let executor = &mut self.executor;
        let states = transformer.hidden_states(executor, tokens, selected)?;
        if selected.is_empty() {
            executor.discard(states);
            return Ok(());
        }
        let normalised = transformer.final_norm(executor, &states)?;
        executor.discard(states);
        // Hidden states have no factor that logits may have.
        if !hidden.is_empty() {
            self.hidden = Some(executor.copy_rows(&normalised, hidden)?);
        }
        let input = transformer.head_input(executor, normalised)?;
        // The scores come before the logits: their piece of outputs has the memory that these take next.
        if scored.len() == selected.len() {
            executor.score(&input, weights.head(), self.usable_vocabulary, targets, &mut self.scores)?;
        } else if !scored.is_empty() {
            let rows = executor.copy_rows(&input, scored)?;
            executor.score(&rows, weights.head(), self.usable_vocabulary, targets, &mut self.scores)?;
            executor.discard(rows);
        }
        if logits.is_empty() {
            executor.discard(input);
            return Ok(());
        }
        let input =
            if logits.len() == selected.len() { input } else { executor.select_rows(input, logits)? };
        self.logits = Some(transformer.head_logits(executor, input)?);
        Ok(())
    }

    fn check(&self, chunks: &[SequenceChunk<'_>]) -> Result<(), BatchError> {
        let vocabulary_size = self.model.config.vocabulary_size;
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
            self.check_targets(index, chunk)?;
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

    fn check_targets(&self, index: usize, chunk: &SequenceChunk<'_>) -> Result<(), BatchError> {
        let (first_row, targets) = (chunk.scores.first_row, chunk.scores.targets);
        let tokens = chunk.tokens.len();
        if !targets.is_empty() && first_row.saturating_add(targets.len()) > tokens {
            let targets = targets.len();
            return Err(BatchError::TooManyTargets { chunk: index, first_row, targets, tokens });
        }
        let usable_vocabulary = self.usable_vocabulary;
        let unknown = targets.iter().enumerate().find(|(_, token)| **token as usize >= usable_vocabulary);
        match unknown {
            None => Ok(()),
            Some((at, &token)) => {
                Err(BatchError::UnknownTarget { chunk: index, index: at, token, usable_vocabulary })
            }
        }
    }
}

/// The first `width` values of each row of a tensor, if there is one.
fn output_rows(tensor: Option<&Activations>, width: usize) -> Result<OutputRows<'_>, TensorError> {
    let Some(tensor) = tensor else { return Ok(OutputRows::none()) };
    let actual = tensor.width();
    let error = TensorError::Length { what: "rows of a step's outputs", expected: width, actual };
    OutputRows::new(tensor.values(), actual, width).ok_or(error)
}

/// Most values of logits, or of the pieces that are scored instead; they are never there at the same time.
fn outputs(config: &ModelConfig, max_rows: usize, max_logits_rows: usize) -> usize {
    let logits = max_logits_rows.saturating_mul(config.vocabulary_size);
    logits.max(DirectExecutor::scoring_elements(max_rows, config.vocabulary_size))
}

/// Which rows of the chunks have which adapter. Neighbours with the same one are taken together.
fn adapter_rows<'a>(chunks: &[SequenceChunk<'a>]) -> Vec<AdapterRows<'a, Matrix>> {
    let mut adapters: Vec<AdapterRows<'a, Matrix>> = Vec::new();
    let mut first = 0;
    for chunk in chunks {
        let rows = first..first + chunk.tokens.len();
        first = rows.end;
        let Some(adapter) = chunk.adapter else { continue };
        match adapters.last_mut() {
            Some(last) if last.rows.end == rows.start && std::ptr::eq(last.adapter, adapter) => {
                last.rows.end = rows.end;
            }
            _ => adapters.push(AdapterRows { rows, adapter }),
        }
    }
    adapters
}

/// Width of the widest tensor, the logits aside.
fn widest(config: &ModelConfig) -> usize {
    config.widest()
}

fn kv_shape(config: &ModelConfig, dtype: KvDtype) -> KvShape {
    KvShape { dtype, layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim }
}
