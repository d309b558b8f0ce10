//! OpenAI's answers as they go over the wire.

use serde::Serialize;
use utoipa::ToSchema;
use zhenjin_assistant::{FinishReason, Usage};

use super::logprobs::{ChatLogprobs, CompletionLogprobs};
use crate::answering::Progress;

/// A whole chat answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ChatCompletion {
    pub(super) id: String,
    /// `chat.completion`
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<ChatChoice>,
    pub(super) usage: UsageReport,
    /// Changes when the weights or the code that computes with them change.
    pub(super) system_fingerprint: String,
    /// `default`, if the request named a tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'static str>,
}

/// One of the answers to a chat.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ChatChoice {
    pub(super) index: usize,
    pub(super) message: AnswerMessage,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: &'static str,
    /// `repetition_detected`: the answer repeated itself without end, and was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_reason: Option<&'static str>,
}

/// What the model said.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AnswerMessage {
    /// `assistant`
    pub(super) role: &'static str,
    /// null if there are only calls.
    pub(super) content: Option<String>,
    /// What a thinking model thought before it; absent if it did not think. Not part of OpenAI's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    /// The same under its other name. Not part of OpenAI's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<String>,
    /// Always null: models here have no separate way to refuse.
    pub(super) refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<AnswerToolCall>,
}

/// A call that the model makes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AnswerToolCall {
    pub(super) id: String,
    /// `function`
    pub(super) r#type: &'static str,
    pub(super) function: AnswerFunction,
}

/// The function that is called.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AnswerFunction {
    pub(super) name: String,
    /// JSON as text.
    pub(super) arguments: String,
}

/// A piece of a streamed chat answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ChatCompletionChunk {
    pub(super) id: String,
    /// `chat.completion.chunk`
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<ChunkChoice>,
    pub(super) system_fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'static str>,
    /// Only with `include_usage`: null but in the last piece, unless `continuous_usage_stats` asks for the usage so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageReport>>,
}

/// What a piece adds to one answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ChunkChoice {
    pub(super) index: usize,
    pub(super) delta: ChunkDelta,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
    /// `repetition_detected`: the answer repeated itself without end, and was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_reason: Option<&'static str>,
}

/// What is added.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct ChunkDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    /// More of the thought. Not part of OpenAI's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    /// The same under its other name. Not part of OpenAI's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCallDelta>,
}

/// More of a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ToolCallDelta {
    pub(super) index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r#type: Option<&'static str>,
    pub(super) function: FunctionDelta,
}

/// More of a call's function.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}

/// A whole completion, or a piece of a streamed one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    pub(super) id: String,
    /// `text_completion`
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<CompletionChoice>,
    pub(super) system_fingerprint: String,
    /// In streams only with `include_usage`, and null but in the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageReport>>,
}

/// One of the continuations.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct CompletionChoice {
    /// Prompt times `n` plus answer.
    pub(super) index: usize,
    pub(super) text: String,
    pub(super) logprobs: Option<CompletionLogprobs>,
    /// null in all but the last piece of a stream.
    pub(super) finish_reason: Option<&'static str>,
    /// `repetition_detected`: the answer repeated itself without end, and was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_reason: Option<&'static str>,
}

/// How many tokens a request used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct UsageReport {
    pub(super) prompt_tokens: usize,
    pub(super) completion_tokens: usize,
    pub(super) total_tokens: usize,
    pub(super) prompt_tokens_details: PromptTokensDetails,
}

/// Where a prompt's tokens came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct PromptTokensDetails {
    /// Found in the cache instead of computed.
    pub(super) cached_tokens: usize,
}

impl UsageReport {
    /// Adds an answer. A prompt counts once, however many answers it gets.
    pub(super) fn add(&mut self, usage: &Usage, is_first_of_prompt: bool) {
        if is_first_of_prompt {
            self.prompt_tokens += usage.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += usage.cached_tokens;
        }
        self.completion_tokens += usage.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

/// The usage while answers are still being written.
#[derive(Clone, Debug)]
pub(super) struct RunningUsage {
    answers: Vec<Progress>,
    /// Answers to each prompt.
    of_prompt: usize,
}

impl RunningUsage {
    /// Of `answers` answers, `of_prompt` to each prompt.
    pub(super) fn new(answers: usize, of_prompt: usize) -> Self {
        RunningUsage { answers: vec![Progress::default(); answers], of_prompt }
    }

    /// How far an answer has come.
    pub(super) fn update(&mut self, answer: usize, progress: Progress) {
        if let Some(known) = self.answers.get_mut(answer) {
            *known = progress;
        }
    }

    /// All of it so far.
    pub(super) fn report(&self) -> UsageReport {
        let mut report = UsageReport::default();
        for (index, answer) in self.answers.iter().enumerate() {
            if index.is_multiple_of(self.of_prompt) {
                report.prompt_tokens += answer.prompt_tokens;
                report.prompt_tokens_details.cached_tokens += answer.cached_tokens;
            }
            report.completion_tokens += answer.completion_tokens;
        }
        report.total_tokens = report.prompt_tokens + report.completion_tokens;
        report
    }
}

/// OpenAI's word for why an answer ended. It has none for an answer that repeats itself, and clients know no other words; like
/// one that is too long, such an answer is not complete. [`stop_reason`] tells the two apart.
pub(super) fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop(_) => "stop",
        FinishReason::Length | FinishReason::Repetition => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// What OpenAI's word does not say; the field and the word are those of vLLM.
pub(super) fn stop_reason(reason: &FinishReason) -> Option<&'static str> {
    match reason {
        FinishReason::Repetition => Some("repetition_detected"),
        FinishReason::Stop(_) | FinishReason::Length | FinishReason::ToolCalls => None,
    }
}
