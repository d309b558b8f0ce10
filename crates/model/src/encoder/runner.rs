//! Steps an encoder: several texts in one pass, one behind the other without padding. A text's vector has the same bits whatever texts are
//! beside it, at any number of threads.

use std::sync::Arc;

use zhenjin_tensor::{
    DirectExecutor, EncoderExecutor, Executor, KvCache, KvDtype, KvShape, Matrix, PAGE_TOKENS, Vector,
    WorkspaceLimits,
};

use super::config::EncoderConfig;
use super::file::EncoderFile;
use super::forward::{Encoder, attention_shape};
use super::pooling::EncoderPooling;
use super::weights::EncoderWeights;
use crate::errors::ModelError;
use crate::weights::{LoadOptions, PackingLoader};

/// A text that an encoder cannot read, or of which it makes nothing. Texts and tokens are numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncoderTextError {
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
    /// As [`EncoderTextError::TooLong`], of a text whose tokens were not counted to the end.
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

/// Computes with one encoder.
#[derive(Debug)]
pub struct EncoderRunner {
    config: EncoderConfig,
    weights: EncoderWeights<Matrix, Vector>,
    executor: DirectExecutor,
    /// Of a pass with several texts; a single text may have as many as the model reads.
    max_rows: usize,
}

impl EncoderRunner {
    /// Loads the weights of an opened file. `max_rows` is the most tokens of a pass, unless a single text has more: that one is computed alone.
    ///
    /// # Errors
    /// As [`EncoderWeights::load`], and [`ModelError::Tensor`] for heads or instructions that cannot be computed.
    pub fn load(
        file: &EncoderFile,
        options: &LoadOptions,
        max_rows: usize,
    ) -> Result<EncoderRunner, ModelError> {
        let weights = EncoderWeights::load(file, &mut PackingLoader::new(options.clone()))?;
        let config = file.config().clone();
        let shape = attention_shape(&config);
        let kv_shape =
            KvShape { dtype: KvDtype::F32, layers: 1, kv_heads: shape.kv_heads, head_dim: shape.head_dim };
        let cache = KvCache::new(kv_shape, 0)?;
        let mut executor = DirectExecutor::new(cache, shape, options.simd, Arc::clone(&options.team))?;
        let longest = max_rows.max(config.context_length());
        executor.prepare(longest, config.hidden_size.max(config.intermediate_size), 0);
        Ok(EncoderRunner { config, weights, executor, max_rows })
    }

    /// Shape and switches.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Refuses texts that the model cannot read. `limit` is the most tokens, if that is less than the model's own.
    ///
    /// # Errors
    /// Which text, and why.
    pub fn check(
        config: &EncoderConfig,
        texts: &[Vec<u32>],
        limit: Option<usize>,
    ) -> Result<(), EncoderTextError> {
        let limit = limit.unwrap_or(usize::MAX).min(config.context_length());
        for (text, tokens) in texts.iter().enumerate() {
            if tokens.is_empty() {
                return Err(EncoderTextError::Empty { text });
            }
            if tokens.len() > limit {
                return Err(EncoderTextError::TooLong { text, tokens: tokens.len(), limit });
            }
            let vocabulary_size = config.vocabulary_size;
            let unknown = tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocabulary_size);
            if let Some((index, token)) = unknown {
                return Err(EncoderTextError::UnknownToken { text, index, token: *token, vocabulary_size });
            }
        }
        Ok(())
    }

    /// How many of the first texts one pass computes: as many as have [`EncoderRunner::load`]'s `max_rows` tokens together, one at least.
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
    /// [`ModelError::EncoderText`] for a text that cannot be read, or whose hidden states or vector are not finite; [`ModelError::Tensor`]
    /// without memory.
    pub fn embed(
        &mut self,
        texts: &[Vec<u32>],
        pooling: &EncoderPooling,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        EncoderRunner::check(&self.config, texts, None)?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let positions: Vec<u32> = texts.iter().flat_map(|tokens| self.config.positions_of(tokens)).collect();
        let encoder = Encoder { config: &self.config, weights: &self.weights };
        self.executor.begin_encoding(&lengths)?;
        let hidden = encoder.hidden_states(&mut self.executor, &texts.concat(), &positions)?;
        let mut first = 0;
        let vectors = lengths.iter().enumerate().map(|(text, length)| {
            let rows = hidden.rows_values(first..first + length);
            first += length;
            // Pooling may leave out a row, or a value that is none.
            let vector = is_finite(rows).then(|| pooling.pool(rows, self.config.hidden_size));
            vector.filter(|vector| is_finite(vector)).ok_or(EncoderTextError::NotFinite { text })
        });
        let vectors = vectors.collect::<Result<Vec<_>, _>>();
        self.executor.discard(hidden);
        Ok(vectors?)
    }

    /// Bytes, besides weights, that passes of `max_rows` tokens take at most on so many threads.
    pub fn workspace_bytes(config: &EncoderConfig, max_rows: usize, threads: usize) -> usize {
        let longest = max_rows.max(config.context_length());
        let bytes = DirectExecutor::workspace_bytes(&WorkspaceLimits {
            shape: attention_shape(config),
            threads,
            max_rows: longest,
            widest: config.hidden_size.max(config.intermediate_size),
            context_length: config.context_length(),
            outputs: 0,
        });
        // Keys and values of one layer: pages of several texts, each of one token at worst, or those of the longest text alone.
        let pages = max_rows.max(config.context_length().div_ceil(PAGE_TOKENS));
        let pages = pages.saturating_mul(PAGE_TOKENS * 2 * config.hidden_size * size_of::<f32>());
        bytes.saturating_add(pages)
    }
}

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
