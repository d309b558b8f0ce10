//! One loaded embedder, an encoder or a decoder: texts to vectors. It needs no engine: a text is read once and nothing is remembered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use zhenjin_hub::{OpenError, OpenedEmbedder};
use zhenjin_model::embedder::{EmbedderRunner, EmbedderShape, EmbedderTextError};
use zhenjin_model::encoder::{EncoderPooling, normalise};
use zhenjin_model::{LoadOptions, MemoryEstimate, MemoryPlan, ModelError, PAGE_TOKENS};
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
    Text(#[from] EmbedderTextError),
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

/// Why an embedder is not loaded.
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

/// One loaded embedder.
#[derive(Debug)]
pub struct Embedder {
    /// Its context length is the most tokens of a text, by the files and by the memory.
    shape: EmbedderShape,
    tokenizer: TextEncoder,
    pooling: EncoderPooling,
    lowercases: bool,
    pools_prompts: bool,
    prompts: BTreeMap<String, String>,
    kept_dimensions: Option<usize>,
    warnings: Vec<String>,
    turns: Turns,
    runner: Mutex<EmbedderRunner>,
    team: Arc<ThreadTeam>,
}

impl Embedder {
    /// Whether there is an embedder at this path.
    pub fn is_at(path: &Path) -> bool {
        zhenjin_hub::is_embedder(path)
    }

    /// The memory that an opened embedder takes on so many threads. What a text of more tokens than a pass of several has takes beyond such a
    /// pass is counted as pages: where the memory limit holds less, shorter texts are read.
    ///
    /// # Errors
    /// What the files report.
    pub fn memory_estimate(opened: &OpenedEmbedder, threads: usize) -> Result<MemoryEstimate, ModelError> {
        let shape = opened.file.shape();
        let bytes = |tokens: usize| shape.limited_to(tokens).workspace_bytes(PASS_ROWS, threads) as u64;
        let of_layers = opened.pooling.as_ref().map_or(0, EncoderPooling::weight_bytes);
        let (workspace, longest) = (bytes(PASS_ROWS), bytes(opened.max_tokens));
        let pages = opened.max_tokens.div_ceil(PAGE_TOKENS).max(1) as u64;
        Ok(MemoryEstimate {
            weights: opened.file.weight_bytes()?.saturating_add(of_layers),
            tokenizer: shape.vocabulary_size as u64 * TOKENIZER_BYTES_PER_TOKEN,
            workspace,
            page: longest.saturating_sub(workspace).div_ceil(pages),
            kv_dtype: KvDtype::F32,
            context: opened.max_tokens,
            max_batch: 1,
            draft: None,
        })
    }

    /// Refuses an embedder whose files say less than vectors need. Its weights are not loaded.
    ///
    /// # Errors
    /// [`EmbedderError`] with the file and the place in it, and [`EmbedderError::NoPooling`].
    pub fn check(path: &Path) -> Result<(), EmbedderError> {
        let opened = zhenjin_hub::open_embedder(path)?;
        opened.pooling.map(drop).ok_or(EmbedderError::NoPooling)
    }

    /// Loads the embedder at `path`. `pooling` takes the place of what its files say.
    ///
    /// # Errors
    /// [`EmbedderError`] with the file and the place in it.
    pub fn load(
        path: &Path,
        pooling: Option<EncoderPooling>,
        options: &LoadOptions,
    ) -> Result<Embedder, EmbedderError> {
        Embedder::from_opened(zhenjin_hub::open_embedder(path)?, pooling, options, usize::MAX)
    }

    /// The same of opened files, for texts of at most `memory_holds` tokens, if that is less than they say.
    pub(crate) fn from_opened(
        mut opened: OpenedEmbedder,
        pooling: Option<EncoderPooling>,
        options: &LoadOptions,
        memory_holds: usize,
    ) -> Result<Embedder, EmbedderError> {
        let pooling = pooling.or_else(|| opened.pooling.take()).ok_or(EmbedderError::NoPooling)?;
        let more = opened.warning_of_last_token(&pooling);
        let OpenedEmbedder {
            file,
            tokenizer,
            max_tokens,
            lowercases,
            pools_prompts,
            prompts,
            kept_dimensions,
            mut warnings,
            ..
        } = opened;
        // It is among the others already where the files say the same pooling.
        warnings.extend(more.filter(|more| !warnings.contains(more)));
        let runner = EmbedderRunner::load(&file, options, PASS_ROWS, max_tokens.min(memory_holds))?;
        let shape = file.shape().limited_to(max_tokens).limited_by_memory_to(memory_holds);
        Ok(Embedder {
            shape,
            tokenizer,
            pooling,
            lowercases,
            pools_prompts,
            prompts,
            kept_dimensions,
            warnings,
            turns: Turns::default(),
            runner: Mutex::new(runner),
            team: Arc::clone(&options.team),
        })
    }

    /// The most tokens of a text, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.shape.context_length
    }

    /// Width of a vector where nobody asks for another one: the whole width, unless the model's makers say how many values are kept.
    pub fn dimensions(&self) -> usize {
        let width = self.width();
        self.kept_dimensions.map_or(width, |kept| kept.min(width))
    }

    /// Width of a whole vector.
    fn width(&self) -> usize {
        self.pooling.width(self.shape.hidden_size)
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
                        self.shape.check(&all)?;
                        Err(error)
                    })?
                }
            };
            let is_too_long = tokens.len() > self.max_tokens();
            all.push(tokens);
            // It is said before another text takes time.
            if is_too_long {
                break;
            }
        }
        self.shape.check(&all)?;
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
        let limit = self.max_tokens();
        match self.tokenizer.encode_at_most(&words, limit, is_cancelled) {
            Ok(LimitedEncoding::Ids(tokens)) => Ok(tokens),
            Ok(LimitedEncoding::BeyondLimit) => {
                let by_memory = self.shape.is_limited_by_memory();
                Err(EmbedderTextError::FarTooLong { text, limit, by_memory }.into())
            }
            Ok(LimitedEncoding::Cancelled) => Err(EmbedError::Cancelled),
            Err(error) => Err(EmbedError::Tokenizer { text, error }),
        }
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
    /// of the same thread team; the passes of several requests take turns; once `is_cancelled` is true, it ends before the model's next layer.
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
        self.shape.check(texts)?;
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
            let over = || is_cancelled.load(Ordering::Relaxed);
            let embedded = self.team.in_background(|| runner.embed_unless(pass, &self.pooling, over));
            let embedded = embedded.map_err(|error| of_pass(error, vectors.len()))?;
            vectors.extend(embedded.ok_or(EmbedError::Cancelled)?);
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

/// What is to be reserved for an embedder of this estimate, and the most tokens of a text: as many as the limit would hold if nothing else were
/// loaded. All of that is needed at once: what is free at the moment decides nothing that lasts.
pub(crate) fn within_limit(estimate: MemoryEstimate, limit: u64) -> (MemoryEstimate, usize) {
    // Not even short texts fit: what reserves says so.
    let Some(MemoryPlan { context, .. }) = estimate.plan(limit) else { return (estimate, estimate.context) };
    let pages = (context.div_ceil(PAGE_TOKENS) as u64).saturating_mul(estimate.page);
    let workspace = estimate.workspace.saturating_add(pages);
    (MemoryEstimate { workspace, page: 0, context, ..estimate }, context)
}

/// The error of a pass whose first text has the number `first`.
fn of_pass(error: ModelError, first: usize) -> EmbedError {
    match error {
        ModelError::EmbedderText(EmbedderTextError::NotFinite { text }) => {
            EmbedderTextError::NotFinite { text: text + first }.into()
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an embedder that was loaded beside a busy model read, as long as it was loaded, only the texts for which there was memory at
    /// that moment.
    #[test]
    fn an_embedder_is_loaded_for_all_texts_that_the_limit_holds_or_not_yet() {
        let estimate = MemoryEstimate {
            weights: 1000,
            tokenizer: 100,
            workspace: 200,
            page: 10,
            kv_dtype: KvDtype::F32,
            context: 8192,
            max_batch: 1,
            draft: None,
        };
        let whole = 1300 + 8192 / PAGE_TOKENS as u64 * 10;
        let (needed, context) = within_limit(estimate, whole);
        assert_eq!((context, needed.least(), needed.full_context()), (8192, whole, whole));
        // Beside something else there is less at the moment: that is no reason to load it for less.
        assert!(estimate.plan(whole - 1).is_some() && needed.plan(whole - 1).is_none());
        assert_eq!(needed.plan(whole).map(|plan| plan.bytes), Some(whole));
        // What adapters take of the limit is never free: what is left of it decides, so that it can be loaded beside them.
        let (needed, context) = within_limit(estimate, whole - 25);
        assert_eq!(context, 8192 - 3 * PAGE_TOKENS);
        assert!(needed.plan(whole - 25).is_some());
        // The limit itself holds no more than 100 pages.
        let (needed, context) = within_limit(estimate, 1300 + 1005);
        assert_eq!((context, needed.least()), (100 * PAGE_TOKENS, 2300));
        // Not even the least: as it is, which the one who reserves refuses.
        assert_eq!(within_limit(estimate, 1500), (estimate, 8192));
    }

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
