//! One loaded model.

use zhenjin_engine::{EngineStats, Sampling};
use zhenjin_tokenizer::Tokenizer;

use crate::error::AssistantError;
use crate::generation::TextGeneration;
use crate::request::{ChatRequest, CompletionRequest};

/// What there is to know about a loaded model.
#[derive(Clone, Debug, PartialEq)]
pub struct AssistantInfo {
    /// The name under which it is served.
    pub name: String,
    /// The architecture, as its file calls it.
    pub architecture: String,
    /// The most tokens of one conversation here: the model's context, or less if the server was told so or memory holds less.
    pub context_length: usize,
    /// Bytes of weights, workspace, keys and values.
    pub memory_bytes: u64,
    /// Whether it has a chat template.
    pub has_template: bool,
    /// Whether its template tells the model of tools itself; otherwise a system message does.
    pub template_knows_tools: bool,
    /// Changes when the weights or the code that computes with them change (OpenAI's `system_fingerprint`).
    pub fingerprint: String,
}

/// One loaded model: tokenizer, chat template, engine.
#[derive(Debug)]
pub struct Assistant {}

impl Assistant {
    /// Answers a conversation.
    ///
    /// # Errors
    /// [`AssistantError`] that says what is wrong, or how long to wait.
    pub fn chat(&self, _request: &ChatRequest) -> Result<TextGeneration, AssistantError> {
        todo!()
    }

    /// Answers a conversation `choices` times. Choice 0 uses the request's seed, choice i the seed
    /// [`zhenjin_engine::sampling::random::seed_of_choice`]`(seed, i)`.
    ///
    /// # Errors
    /// As [`Assistant::chat`]; then none of them runs.
    pub fn chat_choices(
        &self,
        _request: &ChatRequest,
        _choices: usize,
    ) -> Result<Vec<TextGeneration>, AssistantError> {
        todo!()
    }

    /// Continues a text.
    ///
    /// # Errors
    /// [`AssistantError`] that says what is wrong, or how long to wait.
    pub fn complete(&self, _request: &CompletionRequest) -> Result<TextGeneration, AssistantError> {
        todo!()
    }

    /// Continues a text `choices` times, with seeds as in [`Assistant::chat_choices`].
    ///
    /// # Errors
    /// As [`Assistant::complete`]; then none of them runs.
    pub fn complete_choices(
        &self,
        _request: &CompletionRequest,
        _choices: usize,
    ) -> Result<Vec<TextGeneration>, AssistantError> {
        todo!()
    }

    /// How many tokens the conversation takes as a prompt, tools and template included.
    ///
    /// # Errors
    /// As [`Assistant::chat`], but nothing is submitted.
    pub fn count_prompt(&self, _request: &ChatRequest) -> Result<usize, AssistantError> {
        todo!()
    }

    /// What there is to know about the model.
    pub fn info(&self) -> &AssistantInfo {
        todo!()
    }

    /// Text ↔ token ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        todo!()
    }

    /// How tokens are chosen where a request says nothing.
    pub fn default_sampling(&self) -> &Sampling {
        todo!()
    }

    /// What the engine counted.
    pub fn stats(&self) -> EngineStats {
        todo!()
    }
}
