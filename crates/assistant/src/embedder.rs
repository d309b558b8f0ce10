//! One loaded encoder: texts to vectors. It needs no engine: a text is read once and nothing is remembered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use zhenjin_hub::{OpenError, OpenedEncoder};
use zhenjin_model::encoder::{
    EncoderConfig, EncoderFile, EncoderPooling, EncoderRunner, EncoderTextError, normalise,
};
use zhenjin_model::{LoadOptions, MemoryEstimate, ModelError};
use zhenjin_tensor::{KvDtype, ThreadTeam};
use zhenjin_tokenizer::{LimitedEncoding, TextEncoder, TokenizerError};

/// The most tokens of one pass of several texts; a longer text is computed alone. More are no faster: the matrices are in the caches by then.
const PASS_ROWS: usize = 512;
/// Bytes of a tokenizer for each token of its vocabulary: its text in a hash table and in a list, and the library's caches.
const TOKENIZER_BYTES_PER_TOKEN: u64 = 300;

/// A text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbedInput {
    /// A text, which gets the tokenizer's special tokens.
    Text(String),
    /// Token ids, which are taken as they are.
    Tokens(Vec<u32>),
}

/// Why texts are not embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// A text that the model cannot read, or of which it makes nothing.
    #[error(transparent)]
    Text(#[from] EncoderTextError),
    /// A text that the tokenizer cannot read.
    #[error("text {text}: {error}")]
    Tokenizer {
        /// Which text, from 0.
        text: usize,
        /// Why.
        error: TokenizerError,
    },
    /// A shorter vector was asked for than there is, or none.
    #[error("{asked} dimensions were asked for, but the model's vectors have {most}; ask for 1 to {most}")]
    Dimensions {
        /// Asked for.
        asked: usize,
        /// The width of the model's vectors.
        most: usize,
    },
    /// A prompt before texts whose tokens are not to be pooled.
    #[error(
        "this model leaves the tokens of prompts out of its vectors, which is not supported; leave the prompt out"
    )]
    Prompt,
    /// Nobody waits for the result any more.
    #[error("nobody waits for the embeddings any more")]
    Cancelled,
    /// Something broke that the texts did not cause.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Why an encoder is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedderError {
    /// Its files.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder does not say how its hidden states become one vector.
    #[error(
        "the model's folder has no modules.json (of sentence-transformers), or its GGUF file no pooling type, that says how its hidden states become one vector: {}; add that to it",
        modes()
    )]
    NoPooling,
    /// Its weights.
    #[error(transparent)]
    Model(#[from] ModelError),
}

fn modes() -> String {
    zhenjin_model::encoder::PoolingMode::ALL.map(|mode| mode.name()).join(", ")
}

/// Who computes next: those who wait, in the order in which they came. A mutex promises no order, and one that is dropped and locked again
/// at once is as good as never free.
#[derive(Debug, Default)]
struct Turns {
    numbers: Mutex<TurnNumbers>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct TurnNumbers {
    /// Of whoever comes next.
    next: u64,
    /// Of whoever has the turn.
    current: u64,
}

impl Turns {
    /// Waits for those who came before.
    fn wait(&self) -> Turn<'_> {
        let mut numbers = self.numbers();
        let own = numbers.next;
        numbers.next += 1;
        while numbers.current != own {
            numbers = self.over.wait(numbers).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self }
    }

    fn numbers(&self) -> MutexGuard<'_, TurnNumbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to compute, until it is dropped.
struct Turn<'a> {
    turns: &'a Turns,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.numbers().current += 1;
        self.turns.over.notify_all();
    }
}

/// One loaded encoder.
#[derive(Debug)]
pub struct Embedder {
    config: EncoderConfig,
    tokenizer: TextEncoder,
    pooling: EncoderPooling,
    max_tokens: usize,
    lowercases: bool,
    pools_prompts: bool,
    prompts: BTreeMap<String, String>,
    kept_dimensions: Option<usize>,
    warnings: Vec<String>,
    turns: Turns,
    runner: Mutex<EncoderRunner>,
    team: Arc<ThreadTeam>,
}

impl Embedder {
    /// Whether there is an encoder at this path.
    pub fn is_at(path: &Path) -> bool {
        EncoderFile::is_at(path)
    }

    /// The memory that an opened encoder takes on so many threads.
    pub fn memory_estimate(opened: &OpenedEncoder, threads: usize) -> MemoryEstimate {
        let config = opened.file.config();
        let of_layers = opened.pooling.as_ref().map_or(0, EncoderPooling::weight_bytes);
        MemoryEstimate {
            weights: opened.file.weight_bytes() + of_layers,
            tokenizer: config.vocabulary_size as u64 * TOKENIZER_BYTES_PER_TOKEN,
            workspace: EncoderRunner::workspace_bytes(config, PASS_ROWS, threads) as u64,
            page: 0,
            kv_dtype: KvDtype::F32,
            context: opened.max_tokens,
            max_batch: 1,
            draft: None,
        }
    }

    /// Refuses an encoder whose files say less than vectors need. Its weights are not loaded.
    ///
    /// # Errors
    /// [`EmbedderError`] with the file and the place in it, and [`EmbedderError::NoPooling`].
    pub fn check(path: &Path) -> Result<(), EmbedderError> {
        let opened = zhenjin_hub::open_encoder(path)?;
        opened.pooling.map(drop).ok_or(EmbedderError::NoPooling)
    }

    /// Loads the encoder in `folder`. `pooling` takes the place of what the folder says.
    ///
    /// # Errors
    /// [`EmbedderError`] with the file and the place in it.
    pub fn load(
        folder: &Path,
        pooling: Option<EncoderPooling>,
        options: &LoadOptions,
    ) -> Result<Embedder, EmbedderError> {
        Embedder::from_opened(zhenjin_hub::open_encoder(folder)?, pooling, options)
    }

    pub(crate) fn from_opened(
        opened: OpenedEncoder,
        pooling: Option<EncoderPooling>,
        options: &LoadOptions,
    ) -> Result<Embedder, EmbedderError> {
        let OpenedEncoder {
            file,
            tokenizer,
            max_tokens,
            lowercases,
            pools_prompts,
            prompts,
            kept_dimensions,
            warnings,
            ..
        } = opened;
        let pooling = pooling.or(opened.pooling).ok_or(EmbedderError::NoPooling)?;
        let runner = EncoderRunner::load(&file, options, PASS_ROWS)?;
        let config = file.config().clone();
        let runner = Mutex::new(runner);
        Ok(Embedder {
            config,
            tokenizer,
            pooling,
            max_tokens,
            lowercases,
            pools_prompts,
            prompts,
            kept_dimensions,
            warnings,
            turns: Turns::default(),
            runner,
            team: Arc::clone(&options.team),
        })
    }

    /// The most tokens of a text, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Width of a vector where nobody asks for another one: the whole width, unless the model's makers say how many values are kept.
    pub fn dimensions(&self) -> usize {
        let width = self.width();
        self.kept_dimensions.map_or(width, |kept| kept.min(width))
    }

    /// Width of a whole vector.
    fn width(&self) -> usize {
        self.pooling.width(self.config.hidden_size)
    }

    /// Beginnings of texts that the makers name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.prompts
    }

    /// What is to be known of the model's files, as sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The tokens of every input, all of which the model can read. `prompt` is put before every text. Once `is_cancelled` is true, it ends
    /// before the next input, and inside one that is far too long.
    ///
    /// # Errors
    /// [`EmbedError::Text`] or [`EmbedError::Tokenizer`] with the number of the first input that cannot be read; [`EmbedError::Prompt`],
    /// [`EmbedError::Cancelled`].
    pub fn tokens(
        &self,
        inputs: &[EmbedInput],
        prompt: Option<&str>,
        is_cancelled: &AtomicBool,
    ) -> Result<Vec<Vec<u32>>, EmbedError> {
        let prompt = prompt.unwrap_or("");
        if !prompt.is_empty() && !self.pools_prompts {
            return Err(EmbedError::Prompt);
        }
        let mut all = Vec::with_capacity(inputs.len());
        for (text, input) in inputs.iter().enumerate() {
            if is_cancelled.load(Ordering::Relaxed) {
                return Err(EmbedError::Cancelled);
            }
            let tokens = match input {
                EmbedInput::Tokens(tokens) => tokens.clone(),
                EmbedInput::Text(words) => {
                    let tokens = self.tokens_of(text, format!("{prompt}{words}"), is_cancelled);
                    // The first input that cannot be read is named, whatever is wrong with it.
                    tokens.or_else(|error| {
                        EncoderRunner::check(&self.config, &all, Some(self.max_tokens))?;
                        Err(error)
                    })?
                }
            };
            let is_too_long = tokens.len() > self.limit();
            all.push(tokens);
            // It is said before another text takes time.
            if is_too_long {
                break;
            }
        }
        EncoderRunner::check(&self.config, &all, Some(self.max_tokens))?;
        Ok(all)
    }

    /// The tokens of a text, special ones included, which has the number `text`.
    fn tokens_of(
        &self,
        text: usize,
        words: String,
        is_cancelled: &AtomicBool,
    ) -> Result<Vec<u32>, EmbedError> {
        let words = if self.lowercases { words.to_lowercase() } else { words };
        let limit = self.limit();
        match self.tokenizer.encode_at_most(&words, limit, is_cancelled) {
            Ok(LimitedEncoding::Ids(tokens)) => Ok(tokens),
            Ok(LimitedEncoding::BeyondLimit) => Err(EncoderTextError::FarTooLong { text, limit }.into()),
            Ok(LimitedEncoding::Cancelled) => Err(EmbedError::Cancelled),
            Err(error) => Err(EmbedError::Tokenizer { text, error }),
        }
    }

    /// The most tokens of a text, by the folder and by the model.
    fn limit(&self) -> usize {
        self.max_tokens.min(self.config.context_length())
    }

    /// Refuses a number of dimensions that no vector of the model has.
    ///
    /// # Errors
    /// [`EmbedError::Dimensions`].
    pub fn check_dimensions(&self, dimensions: Option<usize>) -> Result<(), EmbedError> {
        let most = self.width();
        match dimensions {
            Some(asked) if !(1..=most).contains(&asked) => Err(EmbedError::Dimensions { asked, most }),
            _ => Ok(()),
        }
    }

    /// The vectors of texts, as tokens, in their order; of each the first so many values as `dimensions` or else the model's makers say, of
    /// unit length again if the whole ones are. A text's vector has the same bits whatever other texts there are. It is computed behind chats
    /// of the same thread team; the passes of several requests take turns; once `is_cancelled` is true, it ends.
    ///
    /// # Errors
    /// [`EmbedError::Text`] for texts that [`Embedder::tokens`] did not give and where the weights are broken, [`EmbedError::Dimensions`],
    /// [`EmbedError::Cancelled`], [`EmbedError::Model`] without memory.
    pub fn embed(
        &self,
        texts: &[Vec<u32>],
        dimensions: Option<usize>,
        is_cancelled: &AtomicBool,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.check_dimensions(dimensions)?;
        EncoderRunner::check(&self.config, texts, Some(self.max_tokens))?;
        let mut vectors = Vec::with_capacity(texts.len());
        while vectors.len() < texts.len() {
            // Another request that waits has its pass before this one's next.
            let _turn = self.turns.wait();
            if is_cancelled.load(Ordering::Relaxed) {
                return Err(EmbedError::Cancelled);
            }
            // A panic in another request's pass leaves nothing behind that the next pass reads.
            let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
            let left = &texts[vectors.len()..];
            let pass = &left[..runner.texts_of_a_pass(left)];
            let embedded = self.team.in_background(|| runner.embed(pass, &self.pooling));
            vectors.extend(embedded.map_err(|error| of_pass(error, vectors.len()))?);
        }
        if let Some(dimensions) = dimensions.or(self.kept_dimensions) {
            for vector in &mut vectors {
                vector.truncate(dimensions);
                if self.pooling.normalise {
                    normalise(vector);
                }
            }
        }
        Ok(vectors)
    }
}

/// The error of a pass whose first text has the number `first`.
fn of_pass(error: ModelError, first: usize) -> EmbedError {
    match error {
        ModelError::EncoderText(EncoderTextError::NotFinite { text }) => {
            EncoderTextError::NotFinite { text: text + first }.into()
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a request of many passes took the mutex again before those who waited, and had all its passes first.
    #[test]
    fn whoever_waits_is_before_the_next_pass_of_another() {
        let turns = Turns::default();
        let order = Mutex::new(Vec::new());
        let note = |name: &'static str| order.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        std::thread::scope(|scope| {
            let mut turn = turns.wait();
            for (waiting, name) in ["second", "third"].into_iter().enumerate() {
                let (turns, note) = (&turns, &note);
                scope.spawn(move || {
                    let _turn = turns.wait();
                    note(name);
                });
                while turns.numbers().next < waiting as u64 + 2 {
                    std::thread::yield_now();
                }
            }
            note("first");
            drop(turn);
            turn = turns.wait();
            note("first again");
            drop(turn);
        });
        let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(order, ["first", "second", "third", "first again"]);
    }
}
