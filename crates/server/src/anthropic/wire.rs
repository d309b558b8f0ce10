//! Anthropic's answers as they go over the wire.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_assistant::Usage;

use crate::errors::ApiError;

/// A whole answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AnthropicMessage {
    pub(super) id: String,
    /// `message`
    pub(super) r#type: &'static str,
    /// `assistant`
    pub(super) role: &'static str,
    pub(super) model: String,
    pub(super) content: Vec<AnthropicBlock>,
    /// `end_turn`, `max_tokens`, `stop_sequence`, `tool_use` or `model_context_window_exceeded`; null while it is being written.
    #[schema(required)]
    pub(super) stop_reason: Option<&'static str>,
    /// The text that ended it, if one of `stop_sequences` did.
    #[schema(required)]
    pub(super) stop_sequence: Option<String>,
    pub(super) usage: AnthropicUsage,
}

/// A part of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum AnthropicBlock {
    /// Text for the user.
    Text { text: String },
    /// What the model thought before it. The signature says only that nobody signed it.
    Thinking { thinking: String, signature: String },
    /// A call that the model makes.
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: Value,
    },
}

/// How many tokens a request used. A prompt's tokens are the sum of the three kinds of input.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(super) struct AnthropicUsage {
    /// Of the prompt, computed.
    pub(super) input_tokens: usize,
    /// Always 0: no kind of input costs more than another.
    pub(super) cache_creation_input_tokens: usize,
    /// Of the prompt, found in the cache.
    pub(super) cache_read_input_tokens: usize,
    /// Generated.
    pub(super) output_tokens: usize,
}

impl AnthropicUsage {
    pub(super) fn of(usage: &Usage) -> AnthropicUsage {
        AnthropicUsage {
            input_tokens: usage.prompt_tokens - usage.cached_tokens,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
        }
    }
}

/// One event of a streamed answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum AnthropicEvent {
    /// The answer begins.
    MessageStart { message: AnthropicMessage },
    /// A block begins, empty.
    ContentBlockStart { index: usize, content_block: AnthropicBlock },
    /// More of a block.
    ContentBlockDelta { index: usize, delta: AnthropicDelta },
    /// A block is whole.
    ContentBlockStop { index: usize },
    /// Why the answer ends, and what it used.
    MessageDelta { delta: AnthropicEnding, usage: AnthropicUsage },
    /// The answer is whole.
    MessageStop,
    /// The connection is alive.
    Ping,
}

impl AnthropicEvent {
    /// The name under which it is sent.
    pub(super) fn name(&self) -> &'static str {
        match self {
            AnthropicEvent::MessageStart { .. } => "message_start",
            AnthropicEvent::ContentBlockStart { .. } => "content_block_start",
            AnthropicEvent::ContentBlockDelta { .. } => "content_block_delta",
            AnthropicEvent::ContentBlockStop { .. } => "content_block_stop",
            AnthropicEvent::MessageDelta { .. } => "message_delta",
            AnthropicEvent::MessageStop => "message_stop",
            AnthropicEvent::Ping => "ping",
        }
    }
}

/// More of a block.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type")]
pub(super) enum AnthropicDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    /// More of the JSON text of a call's input.
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
}

/// Why an answer ends.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AnthropicEnding {
    #[schema(required)]
    pub(super) stop_reason: Option<&'static str>,
    #[schema(required)]
    pub(super) stop_sequence: Option<String>,
}

/// How many tokens a conversation takes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AnthropicTokenCount {
    /// Template and tools included.
    pub(super) input_tokens: usize,
}

/// An error as Anthropic's clients read it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AnthropicError {
    /// `error`
    r#type: &'static str,
    error: AnthropicFault,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct AnthropicFault {
    /// The class of error, as `invalid_request_error`.
    r#type: &'static str,
    /// What was wrong, where, and what to do.
    message: String,
}

impl AnthropicError {
    pub(crate) fn of(error: &ApiError) -> AnthropicError {
        let kind = match error.status().as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        AnthropicError {
            r#type: "error",
            error: AnthropicFault { r#type: kind, message: error.message().to_owned() },
        }
    }
}
