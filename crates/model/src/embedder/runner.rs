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
    #[error("text {text} has {tokens} tokens, but the model reads {limit} at most; shorten or divide it")]
    TooLong {
        /// Which text.
        text: usize,
        /// Its tokens, special ones included.
        tokens: usize,
        /// The most that the model reads.
        limit: usize,
    },
    /// As [`EmbedderTextError::TooLong`], of a text whose tokens were not counted to the end.
    #[error(
        "text {text} has more than {limit} tokens, but the model reads {limit} at most; shorten or divide it"
    )]
    FarTooLong {
        /// Which text.
        text: usize,
        /// The most that the model reads.
        limit: usize,
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
}

impl From<&EncoderConfig> for EmbedderShape {
    fn from(config: &EncoderConfig) -> EmbedderShape {
        EmbedderShape {
            vocabulary_size: config.vocabulary_size,
            context_length: config.context_length(),
            hidden_size: config.hidden_size,
            attention: encoder_attention_shape(config),
            widest: config.hidden_size.max(config.intermediate_size),
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
        }
    }
}

impl EmbedderShape {
    /// The same for texts of at most so many tokens.
    #[must_use]
    pub fn limited_to(self, tokens: usize) -> EmbedderShape {
        EmbedderShape { context_length: self.context_length.min(tokens), ..self }
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
                return Err(EmbedderTextError::TooLong { text, tokens: tokens.len(), limit });
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

    /// The hidden states of all tokens, one row for each, text behind text: behind the last layer, and its final norm where there is one.
    fn hidden_states(
        &self,
        executor: &mut DirectExecutor,
        texts: &[Vec<u32>],
    ) -> Result<Activations, TensorError> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let tokens = texts.concat();
        match self {
            Computing::Encoder(encoder) => {
                let LoadedEncoder { config, weights } = &**encoder;
                let positions: Vec<u32> = texts.iter().flat_map(|text| config.positions_of(text)).collect();
                executor.begin_encoding(&lengths)?;
                Encoder { config, weights }.hidden_states(executor, &tokens, &positions)
            }
            Computing::Decoder(decoder) => {
                let LoadedDecoder { config, weights, rotary } = &**decoder;
                let transformer = Transformer { config, weights, adapters: &[] };
                let rows: Vec<usize> = (0..tokens.len()).collect();
                executor.begin_packed(&lengths, rotary)?;
                let hidden = transformer.hidden_states(executor, &tokens, &rows)?;
                let normalised = transformer.final_norm(executor, &hidden)?;
                executor.discard(hidden);
                Ok(normalised)
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
        self.shape.check(texts)?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let hidden = self.computing.hidden_states(&mut self.executor, texts)?;
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
        Ok(vectors?)
    }
}

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
