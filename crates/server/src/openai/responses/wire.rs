//! Answers of `/v1/responses` as they go over the wire.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zhenjin_assistant::Usage;

use crate::openai::logprobs::ChatTokenLogprob;

/// An answer, whole or under way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ResponseObject {
    pub(super) id: String,
    /// `response`
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created_at: u64,
    /// Seconds since 1970; null while it is under way, and if it failed.
    #[schema(required)]
    pub(super) completed_at: Option<u64>,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub(super) status: &'static str,
    /// Why it is incomplete.
    #[schema(required)]
    pub(super) incomplete_details: Option<IncompleteDetails>,
    pub(super) model: String,
    pub(super) output: Vec<ResponseItem>,
    /// Why it failed.
    #[schema(required)]
    pub(super) error: Option<ResponseFault>,
    #[schema(required)]
    pub(super) usage: Option<ResponseUsage>,
    #[schema(value_type = Vec<Object>)]
    pub(super) tools: Vec<Value>,
    pub(super) tool_choice: Value,
    pub(super) parallel_tool_calls: bool,
    #[schema(value_type = Object)]
    pub(super) text: Value,
    #[schema(value_type = Object)]
    pub(super) reasoning: Value,
    pub(super) instructions: Value,
    /// Always null.
    pub(super) previous_response_id: Value,
    #[schema(required)]
    pub(super) max_output_tokens: Option<usize>,
    #[schema(required)]
    pub(super) max_tool_calls: Option<usize>,
    #[schema(value_type = Object)]
    pub(super) metadata: Value,
    pub(super) user: Value,
    pub(super) safety_identifier: Value,
    pub(super) prompt_cache_key: Value,
    pub(super) top_logprobs: usize,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) presence_penalty: f32,
    pub(super) frequency_penalty: f32,
    /// `disabled`: nothing is ever cut.
    pub(super) truncation: &'static str,
    /// Always false: answers are not stored.
    pub(super) store: bool,
    /// Always false.
    pub(super) background: bool,
    /// `default`
    pub(super) service_tier: &'static str,
}

/// Why an answer is incomplete.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct IncompleteDetails {
    /// `max_output_tokens`: it has as many tokens as were asked for, or as fit.
    pub(super) reason: &'static str,
}

/// Why an answer failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ResponseFault {
    pub(super) code: String,
    pub(super) message: String,
}

/// A part of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ResponseItem {
    /// Text for the user.
    Message {
        id: String,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// `assistant`
        role: &'static str,
        content: Vec<OutputPart>,
    },
    /// What the model thought before it.
    Reasoning {
        id: String,
        /// Always empty: thoughts are not summarised.
        #[schema(value_type = Vec<Object>)]
        summary: Vec<Value>,
        content: Vec<ThoughtPart>,
        /// The thought in the form in which it is sent back, if `include` asks for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
    },
    /// A call that the model makes.
    FunctionCall {
        id: String,
        /// Which results name.
        call_id: String,
        name: String,
        /// JSON as text.
        arguments: String,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
    },
}

impl ResponseItem {
    pub(super) fn id(&self) -> &str {
        match self {
            ResponseItem::Message { id, .. }
            | ResponseItem::Reasoning { id, .. }
            | ResponseItem::FunctionCall { id, .. } => id,
        }
    }
}

/// A part of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum OutputPart {
    OutputText {
        text: String,
        /// Always empty.
        #[schema(value_type = Vec<Object>)]
        annotations: Vec<Value>,
        logprobs: Vec<ChatTokenLogprob>,
    },
}

/// A part of a thought.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ThoughtPart {
    ReasoningText { text: String },
}

/// How many tokens a request used.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ResponseUsage {
    pub(super) input_tokens: usize,
    pub(super) input_tokens_details: InputTokensDetails,
    pub(super) output_tokens: usize,
    pub(super) output_tokens_details: OutputTokensDetails,
    pub(super) total_tokens: usize,
}

/// Where a prompt's tokens came from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct InputTokensDetails {
    /// Found in the cache instead of computed.
    pub(super) cached_tokens: usize,
    /// Always 0: no kind of input costs more than another.
    pub(super) cache_write_tokens: usize,
}

/// What the answer's tokens were for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OutputTokensDetails {
    /// Thoughts.
    pub(super) reasoning_tokens: usize,
}

impl ResponseUsage {
    pub(super) fn of(usage: &Usage, thought_tokens: usize) -> ResponseUsage {
        ResponseUsage {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: thought_tokens },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// One event of a streamed answer. Which further fields it has depends on its type.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ResponseEvent {
    /// As `response.output_text.delta`.
    pub(super) r#type: &'static str,
    /// 0 for the stream's first event.
    pub(super) sequence_number: usize,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(super) fields: Map<String, Value>,
}
