//! Ollama's answers as they go over the wire.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use crate::openai::logprobs::ChatTokenLogprob;

/// An answer to a chat, or a piece of one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaChatAnswer {
    /// The model, as the request named it.
    pub(super) model: String,
    pub(super) created_at: String,
    pub(super) message: OllamaMessage,
    #[serde(flatten)]
    pub(super) ending: OllamaEnding,
}

/// A continued text, or a piece of one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaGenerateAnswer {
    /// The model, as the request named it.
    pub(super) model: String,
    pub(super) created_at: String,
    pub(super) response: String,
    /// What the model thought before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<String>,
    #[serde(flatten)]
    pub(super) ending: OllamaEnding,
}

/// What the model said.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaMessage {
    /// `assistant`
    pub(super) role: &'static str,
    pub(super) content: String,
    /// What the model thought before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<OllamaToolCall>,
}

/// A call that the model makes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaToolCall {
    pub(super) id: String,
    pub(super) function: OllamaFunction,
}

/// The function that is called.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaFunction {
    /// 0 for the answer's first call.
    pub(super) index: usize,
    pub(super) name: String,
    #[schema(value_type = Object)]
    pub(super) arguments: Value,
}

/// Whether the answer is complete, and then why and how long it took. Durations are in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct OllamaEnding {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Vec<ChatTokenLogprob>>,
    pub(super) done: bool,
    /// `stop`, `length`, `load` or `unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) done_reason: Option<&'static str>,
    /// From the request's arrival to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_duration: Option<u64>,
    /// Until the model was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load_duration: Option<u64>,
    /// Tokens in the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_eval_count: Option<usize>,
    /// Computing the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_eval_duration: Option<u64>,
    /// Tokens generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) eval_count: Option<usize>,
    /// Generating them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) eval_duration: Option<u64>,
}

/// The models that requests can name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaModels {
    pub(super) models: Vec<OllamaModel>,
}

/// A model on this machine.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaModel {
    pub(super) name: String,
    /// The name once more.
    pub(super) model: String,
    pub(super) modified_at: String,
    /// Bytes of its files.
    pub(super) size: u64,
    /// The SHA-256 of its first file; empty where it is not known.
    pub(super) digest: String,
    pub(super) details: OllamaDetails,
}

/// What kind of model it is.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct OllamaDetails {
    /// For a model with an adapter: the model alone.
    pub(super) parent_model: String,
    pub(super) format: String,
    pub(super) family: String,
    pub(super) families: Vec<String>,
    pub(super) parameter_size: String,
    pub(super) quantization_level: String,
}

/// The models in memory.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaRunningModels {
    pub(super) models: Vec<OllamaRunningModel>,
}

/// A model in memory.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaRunningModel {
    pub(super) name: String,
    /// The name once more.
    pub(super) model: String,
    /// Bytes in memory.
    pub(super) size: u64,
    pub(super) digest: String,
    pub(super) details: OllamaDetails,
    /// When it is unloaded unless it is used before; far in the future if it stays until its memory is needed.
    pub(super) expires_at: String,
    /// Always 0: nothing lies in a graphics card's memory.
    pub(super) size_vram: u64,
    /// The most tokens of one conversation.
    pub(super) context_length: usize,
}

/// What there is to know about a model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaModelCard {
    /// Its terms of use; empty where they are not known.
    pub(super) license: String,
    /// How it would be written down for Ollama.
    pub(super) modelfile: String,
    /// The makers' advice for sampling, one setting a line.
    pub(super) parameters: String,
    /// Its chat template.
    pub(super) template: String,
    pub(super) details: OllamaDetails,
    #[schema(value_type = Object)]
    pub(super) model_info: Value,
    /// Of `completion`, `tools` and `thinking`.
    pub(super) capabilities: Vec<&'static str>,
    pub(super) modified_at: String,
}

/// How far a download is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct OllamaProgress {
    /// What is being done; `success` in the last line.
    pub(super) status: String,
    /// What is being downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    /// Its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
    /// Those that are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completed: Option<u64>,
}

/// The versions.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OllamaVersion {
    /// Of Ollama's API, as it is spoken here.
    pub(super) version: &'static str,
    /// Of this program.
    pub(super) zhenjin: &'static str,
}

/// A point in time as Ollama's clients read it.
pub(super) fn written(time: OffsetDateTime) -> String {
    // Only years beyond 9999 cannot be written.
    time.format(&Rfc3339).unwrap_or_default()
}

pub(super) fn now() -> String {
    written(OffsetDateTime::now_utc())
}
