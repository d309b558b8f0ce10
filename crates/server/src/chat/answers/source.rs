//! Where an answer's text comes from.

use std::future::Future;
use std::time::Instant;

use serde_json::Value;
use zhenjin_assistant::{TextEvent, TextGeneration};

/// The events of one answer, in order. Dropping it cancels the generation.
pub(crate) trait AnswerSource: Send + 'static {
    /// The next event; `None` after the last. Dropped before it resolves, no event is lost.
    fn next(&mut self) -> impl Future<Output = Option<TextEvent>> + Send;

    /// The tokens behind the events so far.
    fn tokens(&self) -> Tokens;
}

/// The tokens of a prompt and of its answer so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tokens {
    /// Ids of the whole prompt.
    pub(crate) prompt: Vec<u32>,
    /// Ids in the order in which they were sampled.
    pub(crate) sampled: Vec<u32>,
    /// The seed with which they were.
    pub(crate) seed: u64,
    /// Log-probabilities of the sampled ones, where they were computed.
    pub(crate) logprobs: Option<Vec<f32>>,
}

impl AnswerSource for TextGeneration {
    async fn next(&mut self) -> Option<TextEvent> {
        TextGeneration::next(self).await
    }

    fn tokens(&self) -> Tokens {
        Tokens {
            prompt: self.prompt().to_vec(),
            sampled: self.sampled().to_vec(),
            seed: self.seed(),
            logprobs: self.logprobs().map(<[f32]>::to_vec),
        }
    }
}

/// What is known of an answer before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Provenance {
    /// The model.
    pub(crate) model: String,
    /// Names the model's weights, its adapter and the code that computes with them.
    pub(crate) fingerprint: String,
    /// SHA-256 of its chat template, in hexadecimal.
    pub(crate) template: Option<String>,
    /// The system prompt that it reads; empty for none.
    pub(crate) system_prompt: String,
    /// The sampling settings in force, as JSON.
    pub(crate) settings: Value,
    /// The most tokens that the model takes in, prompt and answer together.
    pub(crate) context_length: usize,
    /// When the model was asked.
    pub(crate) asked: Instant,
}
