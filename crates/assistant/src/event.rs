//! What happens to a request, in text.

use zhenjin_engine::{Timings, Usage};

/// What happens, in this order: [`TextEvent::Started`] once; [`TextEvent::Thought`] any number of times; [`TextEvent::Delta`]
/// and [`TextEvent::ToolCall`] any number of times; [`TextEvent::Finished`] or [`TextEvent::Failed`] once.
#[derive(Clone, Debug)]
pub enum TextEvent {
    /// The prompt is computed; the first token follows.
    Started {
        /// Tokens in the prompt.
        prompt_tokens: usize,
        /// Of these, found in the cache.
        cached_tokens: usize,
        /// The prompt itself, if the request asked for its echo.
        echo: Option<Echo>,
    },
    /// More of what a thinking model thinks before it answers, without the markers around it.
    Thought {
        /// Whole characters; may be empty.
        text: String,
        /// The tokens that are now shown, those of the markers included; empty unless log-probabilities were asked for.
        tokens: Vec<TokenInfo>,
    },
    /// More of the answer's text.
    Delta {
        /// Whole characters; may be empty when a token ends inside a character or leaves no text.
        text: String,
        /// The tokens that are now shown; empty unless log-probabilities were asked for.
        tokens: Vec<TokenInfo>,
    },
    /// A tool call begins, or more of its arguments.
    ToolCall {
        /// 0 for the answer's first call.
        index: usize,
        /// In the call's first event only.
        id: Option<String>,
        /// In the call's first event only.
        name: Option<String>,
        /// More of the JSON text of the arguments; the concatenation of all is the whole.
        arguments: String,
    },
    /// The answer is complete.
    Finished {
        /// Why it ends.
        reason: FinishReason,
        /// Tokens used.
        usage: Usage,
        /// Time used.
        timings: Timings,
    },
    /// The answer ends here though it is not complete.
    Failed {
        /// Why.
        failure: Failure,
        /// Tokens used so far.
        usage: Usage,
        /// Time used so far.
        timings: Timings,
    },
}

/// The prompt, given back before the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Echo {
    /// Its text.
    pub text: String,
    /// Its tokens, with log-probabilities for all but the first; empty unless asked for.
    pub tokens: Vec<TokenInfo>,
}

/// A token of the answer or the prompt, with its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: u32,
    /// Its bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// log p by the model's own distribution (temperature 1, nothing excluded); `None` for a prompt's first
    /// token.
    pub logprob: Option<f32>,
    /// The most likely tokens at its position, most likely first.
    pub top: Vec<TokenCandidate>,
}

/// One of the most likely tokens at a position.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenCandidate {
    /// Its id.
    pub id: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// log p.
    pub logprob: f32,
}

/// Why an answer is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It came to its end.
    Stop(StopCause),
    /// It has as many tokens as were asked for, or as fit.
    Length,
    /// It ended with one or more tool calls.
    ToolCalls,
    /// It repeated itself without end, by the rule of [`crate::RepetitionDetection`]; it is not complete.
    Repetition,
}

/// What ended an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The model ended its turn.
    EndOfTurn,
    /// One of the request's own stop tokens.
    StopToken(u32),
    /// One of the request's stop strings; it is not part of the text.
    StopString(String),
    /// The output format is complete and allows nothing more.
    FormatComplete,
}

/// Why an answer is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The program is ending.
    ShutDown,
    /// The model or a constraint broke; the text says how.
    Broken(String),
    /// The answer is complete and does not satisfy its JSON schema, which has something that tokens cannot be held to; the text
    /// says where.
    NotValid(String),
}
