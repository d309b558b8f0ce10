//! Steps an embedder: several texts in one pass, one behind the other without padding. A text's vector has the same bits whatever texts are
//! beside it, at any number of threads.

use std::sync::Arc;

use zhenjin_tensor::{
    Activations, AttentionShape, DirectExecutor, EncoderExecutor, Executor, KvCache, KvDtype, KvShape,
    Matrix, PAGE_TOKENS, RotaryFrequencies, TensorError, Vector, WorkspaceLimits,
};

use super::EmbedderFile;
use crate::config::ModelConfig;
use crate::encoder::{Encoder, EncoderConfig, EncoderPooling, EncoderWeights, encoder_attention_shape};
use crate::errors::ModelError;
use crate::forward::{self, Transformer};
use crate::rope;
use crate::weights::{LoadOptions, PackingLoader, Weights};

/// A text that an embedder cannot read, or of which it makes nothing. Texts and tokens are numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedderTextError {
    /// Nothing is left of it.
    #[error("text {text} has no tokens")]
    Empty {
        /// Which text.
        text: usize,
    },
    /// Nothing is ever cut.
    #[error("text {text} has {tokens} tokens, but {}; shorten or divide it", reads_at_most(*limit, *by_memory))]
    TooLong {
        /// Which text.
        text: usize,
        /// Its tokens, special ones included.
        tokens: usize,
        /// The most that the model reads.
        limit: usize,
        /// It would read more, but there is no memory for that.
        by_memory: bool,
    },
    /// As [`EmbedderTextError::TooLong`], of a text whose tokens were not counted to the end.
    #[error(
        "text {text} has more than {limit} tokens, but {}; shorten or divide it",
        reads_at_most(*limit, *by_memory)
    )]
    FarTooLong {
        /// Which text.
        text: usize,
        /// The most that the model reads.
        limit: usize,
        /// As of [`EmbedderTextError::TooLong`].
        by_memory: bool,
    },
    /// No fault of the text: a weight is not a finite number, or so large that what is computed with it is none.
    #[error("the hidden states of text {text} are not finite: the weights are broken")]
    NotFinite {
        /// Which text.
        text: usize,
    },
    /// A token that the model does not know.
    #[error(
        "text {text}: token {index} is {token}, outside the model's vocabulary of {vocabulary_size} tokens"
    )]
    UnknownToken {
        /// Which text.
        text: usize,
        /// Which of its tokens.
        index: usize,
        /// The token.
        token: u32,
        /// Number of tokens that the model knows.
        vocabulary_size: usize,
    },
}

fn reads_at_most(limit: usize, by_memory: bool) -> String {
    let reason = if by_memory { ", as the memory limit holds no more" } else { "" };
    format!("the model reads {limit} at most{reason}")
}

/// What texts, passes and memory depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbedderShape {
    /// Number of token ids.
    pub vocabulary_size: usize,
    /// The most tokens of a text.
    pub context_length: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    attention: AttentionShape,
    /// Width of the widest tensor.
    widest: usize,
    /// The model would read longer texts if there were memory for them.
    by_memory: bool,
}

impl From<&EncoderConfig> for EmbedderShape {
    fn from(config: &EncoderConfig) -> EmbedderShape {
        EmbedderShape {
            vocabulary_size: config.vocabulary_size,
            context_length: config.context_length(),
            hidden_size: config.hidden_size,
            attention: encoder_attention_shape(config),
            widest: config.hidden_size.max(config.intermediate_size),
            by_memory: false,
        }
    }
}

impl From<&ModelConfig> for EmbedderShape {
    fn from(config: &ModelConfig) -> EmbedderShape {
        EmbedderShape {
            vocabulary_size: config.vocabulary_size,
            context_length: config.context_length,
            hidden_size: config.hidden_size,
            attention: forward::attention_shape(config),
            widest: config.widest(),
            by_memory: false,
        }
    }
}

impl EmbedderShape {
    /// The same for texts of at most so many tokens.
    #[must_use]
    pub fn limited_to(self, tokens: usize) -> EmbedderShape {
        EmbedderShape { context_length: self.context_length.min(tokens), ..self }
    }

    /// The same for texts of at most so many tokens, for which there is memory. What refuses longer ones says so.
    #[must_use]
    pub fn limited_by_memory_to(self, tokens: usize) -> EmbedderShape {
        let by_memory = self.by_memory || tokens < self.context_length;
        EmbedderShape { by_memory, ..self.limited_to(tokens) }
    }

    /// Whether it would read longer texts if there were memory for them.
    pub fn is_limited_by_memory(&self) -> bool {
        self.by_memory
    }

    /// Refuses texts that the model cannot read.
    ///
    /// # Errors
    /// Which text, and why.
    pub fn check(&self, texts: &[Vec<u32>]) -> Result<(), EmbedderTextError> {
        let (limit, vocabulary_size) = (self.context_length, self.vocabulary_size);
        for (text, tokens) in texts.iter().enumerate() {
            if tokens.is_empty() {
                return Err(EmbedderTextError::Empty { text });
            }
            if tokens.len() > limit {
                let (tokens, by_memory) = (tokens.len(), self.by_memory);
                return Err(EmbedderTextError::TooLong { text, tokens, limit, by_memory });
            }
            let unknown = tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocabulary_size);
            if let Some((index, token)) = unknown {
                return Err(EmbedderTextError::UnknownToken { text, index, token: *token, vocabulary_size });
            }
        }
        Ok(())
    }

    /// Bytes, besides weights, that passes of `max_rows` tokens take at most on so many threads.
    pub fn workspace_bytes(&self, max_rows: usize, threads: usize) -> usize {
        let bytes = DirectExecutor::workspace_bytes(&WorkspaceLimits {
            shape: self.attention,
            threads,
            max_rows: self.longest_pass(max_rows),
            widest: self.widest,
            context_length: self.context_length,
            outputs: 0,
        });
        // Keys and values of one layer: pages of several texts, each of one token at worst, or those of the longest text alone.
        let AttentionShape { kv_heads, head_dim, .. } = self.attention;
        let pages = max_rows.max(self.context_length.div_ceil(PAGE_TOKENS));
        let pages = pages.saturating_mul(PAGE_TOKENS * 2 * kv_heads * head_dim * size_of::<f32>());
        bytes.saturating_add(pages)
    }

    /// Rows of the largest pass: of several texts, or of the longest one alone.
    fn longest_pass(&self, max_rows: usize) -> usize {
        max_rows.max(self.context_length)
    }
}

/// The weights of an embedder, and what its forward pass needs beside them.
#[derive(Debug)]
enum Computing {
    Encoder(Box<LoadedEncoder>),
    Decoder(Box<LoadedDecoder>),
}

#[derive(Debug)]
struct LoadedEncoder {
    config: EncoderConfig,
    weights: EncoderWeights<Matrix, Vector>,
}

#[derive(Debug)]
struct LoadedDecoder {
    config: ModelConfig,
    weights: Weights,
    rotary: Vec<RotaryFrequencies>,
}

impl Computing {
    fn load(file: &EmbedderFile, options: &LoadOptions) -> Result<Computing, ModelError> {
        Ok(match file {
            EmbedderFile::Encoder(file) => {
                let weights = EncoderWeights::load(file, &mut PackingLoader::new(options.clone()))?;
                Computing::Encoder(Box::new(LoadedEncoder { config: file.config().clone(), weights }))
            }
            EmbedderFile::Decoder(file) => {
                let config = file.config().clone();
                let weights = Weights::load(&config, &**file, options)?;
                let rotary = rope::tables(&config);
                Computing::Decoder(Box::new(LoadedDecoder { config, weights, rotary }))
            }
        })
    }

    /// The hidden states of all tokens, one row for each, text behind text: behind the last layer, and its final norm where there is one. `None`
    /// once `is_cancelled`, which is asked before each layer, says yes.
    fn hidden_states(
        &self,
        executor: &mut DirectExecutor,
        texts: &[Vec<u32>],
        is_cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Activations>, TensorError> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let tokens = texts.concat();
        match self {
            Computing::Encoder(encoder) => {
                let LoadedEncoder { config, weights } = &**encoder;
                let positions: Vec<u32> = texts.iter().flat_map(|text| config.positions_of(text)).collect();
                executor.begin_encoding(&lengths)?;
                let encoder = Encoder { config, weights };
                let mut hidden = encoder.embed(executor, &tokens, &positions)?;
                for layer in &weights.layers {
                    if is_cancelled() {
                        executor.discard(hidden);
                        return Ok(None);
                    }
                    hidden = encoder.layer(executor, layer, hidden)?;
                }
                Ok(Some(hidden))
            }
            Computing::Decoder(decoder) => {
                let LoadedDecoder { config, weights, rotary } = &**decoder;
                let transformer = Transformer { config, weights, adapters: &[] };
                executor.begin_packed(&lengths, rotary)?;
                let mut hidden = transformer.embed(executor, &tokens)?;
                for index in 0..weights.layers.len() {
                    if is_cancelled() {
                        executor.discard(hidden);
                        return Ok(None);
                    }
                    hidden = transformer.layer(executor, index, hidden, None)?;
                }
                let normalised = transformer.final_norm(executor, &hidden)?;
                executor.discard(hidden);
                Ok(Some(normalised))
            }
        }
    }
}

/// Computes with one embedder.
#[derive(Debug)]
pub struct EmbedderRunner {
    shape: EmbedderShape,
    computing: Computing,
    executor: DirectExecutor,
    /// Of a pass with several texts; a single text may have as many as the model reads.
    max_rows: usize,
}

impl EmbedderRunner {
    /// Loads the weights of an opened file, for texts of at most `max_tokens` tokens, if that is less than the model reads. `max_rows` is the most
    /// tokens of a pass, unless a single text has more: that one is computed alone.
    ///
    /// # Errors
    /// As [`EncoderWeights::load`] or [`Weights::load`], and [`ModelError::Tensor`] for heads or instructions that cannot be computed.
    pub fn load(
        file: &EmbedderFile,
        options: &LoadOptions,
        max_rows: usize,
        max_tokens: usize,
    ) -> Result<EmbedderRunner, ModelError> {
        let computing = Computing::load(file, options)?;
        let shape = file.shape().limited_to(max_tokens);
        let AttentionShape { kv_heads, head_dim, .. } = shape.attention;
        // Keys and values are those of whole texts, of which the executor keeps one layer at a time: these pages are never used.
        let kv_shape = KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim };
        let cache = KvCache::new(kv_shape, 0)?;
        let mut executor =
            DirectExecutor::new(cache, shape.attention, options.simd, Arc::clone(&options.team))?;
        executor.prepare(shape.longest_pass(max_rows), shape.widest, 0);
        Ok(EmbedderRunner { shape, computing, executor, max_rows })
    }

    /// What texts, passes and memory depend on.
    pub fn shape(&self) -> EmbedderShape {
        self.shape
    }

    /// How many of the first texts one pass computes: as many as have [`EmbedderRunner::load`]'s `max_rows` tokens together, one at least.
    pub fn texts_of_a_pass(&self, texts: &[Vec<u32>]) -> usize {
        let mut rows = 0;
        let fits = |tokens: &&Vec<u32>| {
            rows += tokens.len();
            rows <= self.max_rows
        };
        texts.iter().take_while(fits).count().max(1).min(texts.len())
    }

    /// The vectors of texts, all in one pass.
    ///
    /// # Errors
    /// [`ModelError::EmbedderText`] for a text that cannot be read, or whose hidden states or vector are not finite; [`ModelError::Tensor`]
    /// without memory.
    pub fn embed(
        &mut self,
        texts: &[Vec<u32>],
        pooling: &EncoderPooling,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        // Without a reason to end there are always vectors.
        Ok(self.embed_unless(texts, pooling, || false)?.unwrap_or_default())
    }

    /// As [`EmbedderRunner::embed`]; `None` once `is_cancelled`, which is asked before each layer, says yes: a pass of one long text takes minutes.
    ///
    /// # Errors
    /// As [`EmbedderRunner::embed`].
    pub fn embed_unless(
        &mut self,
        texts: &[Vec<u32>],
        pooling: &EncoderPooling,
        mut is_cancelled: impl FnMut() -> bool,
    ) -> Result<Option<Vec<Vec<f32>>>, ModelError> {
        self.shape.check(texts)?;
        if texts.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let hidden = self.computing.hidden_states(&mut self.executor, texts, &mut is_cancelled)?;
        let Some(hidden) = hidden else { return Ok(None) };
        let mut first = 0;
        let vectors = texts.iter().enumerate().map(|(text, tokens)| {
            let rows = hidden.rows_values(first..first + tokens.len());
            first += tokens.len();
            // Pooling may leave out a row, or a value that is none.
            let vector = is_finite(rows).then(|| pooling.pool(rows, self.shape.hidden_size));
            vector.filter(|vector| is_finite(vector)).ok_or(EmbedderTextError::NotFinite { text })
        });
        let vectors = vectors.collect::<Result<Vec<_>, _>>();
        self.executor.discard(hidden);
        Ok(Some(vectors?))
    }
}

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
