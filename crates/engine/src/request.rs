//! What is asked of the engine and what it answers: token ids and numbers, no text.

use std::sync::Arc;
use std::time::Duration;

use zhenjin_model::{Adapter, Fingerprint, Pooling};

use crate::sampling::Sampling;
use crate::sampling::mask::TokenConstraint;

/// One sequence to continue.
pub struct Request {
    /// The tokens to continue, at least one.
    pub prompt: Vec<u32>,
    /// How each next token is chosen.
    pub sampling: Sampling,
    /// The most tokens to generate. 0 only with `prompt_logprobs` or `pooling`.
    pub max_tokens: usize,
    /// Tokens that end the answer.
    pub stop_tokens: Vec<u32>,
    /// `Some(n)`: the log-probability of every generated token, and the n most likely ones.
    pub logprobs: Option<usize>,
    /// What logits are divided by for the log-probabilities of generated tokens: 1 for the model's own distribution, the temperature of
    /// `sampling` for that from which tokens are drawn (but for its truncation).
    pub logprob_temperature: f32,
    /// As `logprobs`, for tokens of the prompt, by the model's own distribution.
    pub prompt_logprobs: Option<PromptLogprobs>,
    /// The prompt's hidden states after the final norm, pooled to one vector. For a mean the whole prompt is computed: no
    /// prefix is reused.
    pub pooling: Option<Pooling>,
    /// What the answer must look like.
    pub constraint: Option<Box<dyn TokenConstraint>>,
    /// What else ends the answer.
    pub stop_condition: Option<Box<dyn StopCondition>>,
    /// The adapter that the model computes with. The request keeps it to its end, whatever is served under its name then.
    pub adapter: Option<Arc<Adapter>>,
    /// Whose keys and values the request may reuse.
    pub cache_salt: CacheSalt,
}

/// Keeps the prefix caches of those apart who must not learn of each other's prompts: only requests with the same salt share
/// pages. An identity, not a secret: it never leaves the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CacheSalt([u8; 32]);

impl CacheSalt {
    /// The salt of those who name none: they share with each other.
    pub const SHARED: CacheSalt = CacheSalt([0; 32]);

    /// The salt of the owner with that name: SHA-256.
    pub fn of_owner(name: &str) -> CacheSalt {
        CacheSalt(*Fingerprint::of_parts("zhenjin cache salt", [name.as_bytes()]).as_bytes())
    }

    /// The salt with these bytes, such as a digest of an owner's name.
    pub const fn new(bytes: [u8; 32]) -> CacheSalt {
        CacheSalt(bytes)
    }
}

/// Which tokens of a prompt are scored: those from position `from` on, each after all tokens before it. What comes before
/// the position of the first one, the token that it follows aside, may come from the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptLogprobs {
    /// The first position that is reported. Position 0 has a report without a log-probability: nothing predicts it. A
    /// position behind the prompt's end asks for no report.
    pub from: usize,
    /// How many of the most likely tokens are reported at each position.
    pub top: usize,
}

/// Ends an answer by what its tokens amount to (a text that they spell, say). One value serves one answer.
pub trait StopCondition: Send {
    /// Takes note of the next token; true if the answer ends with it. Not called for stop tokens.
    fn ends_with(&mut self, token: u32) -> bool;
}

impl Request {
    /// Continues `prompt` by at most `max_tokens` tokens, with nothing else asked for.
    pub fn new(prompt: Vec<u32>, max_tokens: usize, sampling: Sampling) -> Request {
        Request {
            prompt,
            sampling,
            max_tokens,
            stop_tokens: Vec::new(),
            logprobs: None,
            logprob_temperature: 1.0,
            prompt_logprobs: None,
            pooling: None,
            constraint: None,
            stop_condition: None,
            adapter: None,
            cache_salt: CacheSalt::SHARED,
        }
    }
}

impl Request {
    /// Scores the tokens from position `from` on, with the `top` most likely ones at each, and generates nothing.
    pub fn score(tokens: Vec<u32>, from: usize, top: usize) -> Request {
        let prompt_logprobs = Some(PromptLogprobs { from, top });
        Request { prompt_logprobs, ..Request::new(tokens, 0, Sampling::greedy()) }
    }

    /// Pools the hidden states of the tokens, and generates nothing.
    pub fn pool(tokens: Vec<u32>, pooling: Pooling) -> Request {
        Request { pooling: Some(pooling), ..Request::new(tokens, 0, Sampling::greedy()) }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Request")
            .field("prompt_tokens", &self.prompt.len())
            .field("max_tokens", &self.max_tokens)
            .field("sampling", &self.sampling)
            .field("constrained", &self.constraint.is_some())
            .field("adapter", &self.adapter.as_ref().map(|adapter| adapter.fingerprint()))
            .finish_non_exhaustive()
    }
}

/// A token and the natural logarithm of its probability (see [`crate::sampling::log_softmax`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// log p, at most 0.
    pub logprob: f32,
}

/// The log-probability of a token, and of the most likely ones at the same position.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenReport {
    /// The token.
    pub id: u32,
    /// log p of it; `None` if not asked for, and for a prompt's first token, which nothing predicts.
    pub logprob: Option<f32>,
    /// The most likely tokens at its position, most likely first, as many as asked for.
    pub top: Vec<TokenLogprob>,
}

/// What happens to a request, in this order: [`Event::Prompt`] once, [`Event::Token`] for each token,
/// [`Event::Finished`] once.
#[derive(Clone, Debug)]
pub enum Event {
    /// The prompt is computed.
    Prompt {
        /// How many of its tokens were found in the cache instead of computed.
        cached_tokens: usize,
        /// One report for each prompt token that [`Request::prompt_logprobs`] asks for.
        tokens: Vec<TokenReport>,
        /// The vector [hidden_size] that [`Request::pooling`] asks for.
        pooled: Option<Vec<f32>>,
    },
    /// A token was generated.
    Token {
        /// Which, and how likely it was if [`Request::logprobs`].
        report: TokenReport,
        /// True if it is one of [`Request::stop_tokens`]; [`Event::Finished`] follows.
        is_stop: bool,
    },
    /// Nothing more will come.
    Finished {
        /// Why.
        reason: EndReason,
        /// Tokens used.
        usage: Usage,
        /// Time used.
        timings: Timings,
    },
}

/// Why a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A stop token was generated.
    StopToken(u32),
    /// The constraint is satisfied and allows nothing more.
    ConstraintFinished,
    /// The stop condition says so.
    StopCondition,
    /// `max_tokens` were generated.
    Length,
    /// The engine shut down before the answer was complete.
    ShutDown,
    /// Something broke; the text says what.
    Error(String),
}

/// How many tokens a request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the prompt.
    pub prompt_tokens: usize,
    /// Of these, found in the cache.
    pub cached_tokens: usize,
    /// Generated, a stop token included.
    pub completion_tokens: usize,
}

/// How long a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission until its first row was computed.
    pub queue: Duration,
    /// From submission until its first token; `None` if there was none.
    pub time_to_first_token: Option<Duration>,
    /// From its first to its last token.
    pub decode: Duration,
    /// From submission to the end.
    pub total: Duration,
}

impl Timings {
    /// Tokens per second after the first token, of an answer of `completion_tokens`; `None` for fewer than
    /// two tokens.
    pub fn tokens_per_second(&self, completion_tokens: usize) -> Option<f64> {
        let seconds = self.decode.as_secs_f64();
        (completion_tokens > 1 && seconds > 0.0).then(|| (completion_tokens - 1) as f64 / seconds)
    }
}

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// Too many requests wait already.
    #[error("{waiting} requests are running or waiting, and the limit is {limit}; try again in about {} s", retry_after.as_secs().max(1))]
    QueueFull {
        /// Requests in the engine.
        waiting: usize,
        /// The most that it takes.
        limit: usize,
        /// When a place should be free, estimated from how long the latest requests took.
        retry_after: Duration,
    },
    /// Prompt and answer do not fit into the model's context.
    #[error(
        "the prompt has {prompt} tokens and up to {max_tokens} more are asked for, but the context holds {context}"
    )]
    ContextExceeded {
        /// Tokens in the prompt.
        prompt: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// Prompt and answer do not fit into the memory for keys and values, even alone.
    #[error(
        "the prompt has {prompt} tokens and up to {max_tokens} more are asked for, but the memory for keys and values holds \
         {capacity} tokens; give the server more memory or ask for less"
    )]
    MemoryExceeded {
        /// Tokens in the prompt.
        prompt: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// Tokens that all pages together hold.
        capacity: usize,
    },
    /// A value is out of its range.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, by its name in the API.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine takes no more requests.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl SubmitError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> SubmitError {
        SubmitError::Invalid { field, reason: reason.into() }
    }
}
