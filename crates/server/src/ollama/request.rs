//! Requests to chat and to generate, each field known to be fine by itself and beside the others.

use serde_json::Value;
use zhenjin_assistant::{
    ChatRequest, CompletionPrompt, CompletionRequest, Message, OutputFormat, Role, ThinkingWish, ToolChoice,
};

use super::durations::{KeepAlive, read_keep_alive};
use super::{fields, messages, options};
use crate::errors::ApiError;
use crate::openai::fields::{CheckedFields, check};
use crate::openai::request::node::Node;
use crate::openai::request::tools::{read_schema, read_tools};

/// What is to be done, and how the answer is sent.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) task: Task,
    pub(super) stream: bool,
    pub(super) keep_alive: KeepAlive,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Only the model is to be loaded, or unloaded.
    Load,
    Chat(Box<ChatRequest>),
    Complete(Box<CompletionRequest>),
}

/// Takes the body of `/api/chat` apart.
pub(super) fn read_chat(body: &Value) -> Result<Asked, ApiError> {
    let fields = check(fields::CHAT, body)?;
    let messages = fields.get("messages").map(|node| messages::read(&node)).transpose()?.unwrap_or_default();
    let tools = fields.get("tools").map(|node| read_tools(&node)).transpose()?.unwrap_or_default();
    let tool_choice = if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto };
    let is_empty = messages.is_empty();
    let request = ChatRequest { tools, tool_choice, ..conversation(&fields, messages)? };
    asked(&fields, if is_empty { Task::Load } else { Task::Chat(Box::new(request)) })
}

/// Takes the body of `/api/generate` apart.
pub(super) fn read_generate(body: &Value) -> Result<Asked, ApiError> {
    let fields = check(fields::GENERATE, body)?;
    let prompt = fields.text("prompt").unwrap_or_default().to_owned();
    let system = fields.text("system").filter(|text| !text.is_empty());
    let is_raw = fields.boolean("raw").unwrap_or(false);
    for name in ["system", "think"] {
        let is_given = fields.get(name).is_some_and(|node| node.value != "" && node.value != false);
        if is_raw && is_given {
            let message =
                format!("`{name}` belongs to the model's template, which `raw` leaves out: send one of them");
            return Err(ApiError::invalid(name, message));
        }
    }
    let system = system.map(|text| Message::new(Role::System, text));
    let messages = system.into_iter().chain([Message::new(Role::User, prompt.clone())]).collect();
    let request = conversation(&fields, messages)?;
    if prompt.is_empty() {
        return asked(&fields, Task::Load);
    }
    if !is_raw {
        return asked(&fields, Task::Chat(Box::new(request)));
    }
    let ChatRequest { output_format, options, .. } = request;
    let prompt = CompletionPrompt::Rendered(prompt);
    asked(
        &fields,
        Task::Complete(Box::new(CompletionRequest { prompt, echo: false, output_format, options })),
    )
}

fn asked(fields: &CheckedFields<'_>, task: Task) -> Result<Asked, ApiError> {
    let keep_alive = fields.get("keep_alive").map(|node| read_keep_alive(&node)).transpose()?;
    Ok(Asked {
        model: fields.text("model").unwrap_or_default().to_owned(),
        task,
        stream: fields.boolean("stream").unwrap_or(true),
        keep_alive: keep_alive.unwrap_or_default(),
    })
}

/// What both routes say about an answer to `messages`.
fn conversation(fields: &CheckedFields<'_>, messages: Vec<Message>) -> Result<ChatRequest, ApiError> {
    let top = fields.count("top_logprobs");
    let logprobs = match fields.boolean("logprobs") {
        Some(true) => Some(top.unwrap_or(0)),
        _ if top.is_some_and(|top| top > 0) => {
            let message = "`top_logprobs` is only allowed when `logprobs` is true";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        _ => None,
    };
    Ok(ChatRequest {
        output_format: fields.get("format").map(|node| read_format(&node)).transpose()?.unwrap_or_default(),
        thinking: fields.get("think").map(|node| read_think(&node)).transpose()?.unwrap_or_default(),
        options: options::read(fields.get("options").as_ref(), logprobs)?,
        ..ChatRequest::new(messages)
    })
}

fn read_format(node: &Node<'_>) -> Result<OutputFormat, ApiError> {
    match node.value {
        Value::String(word) if word.is_empty() => Ok(OutputFormat::Text),
        Value::String(word) if word == "json" => Ok(OutputFormat::JsonObject),
        Value::Object(_) => read_schema(node).map(OutputFormat::JsonSchema),
        _ => Err(node.error("must be `json` or a JSON schema, which is an object")),
    }
}

fn read_think(node: &Node<'_>) -> Result<ThinkingWish, ApiError> {
    match node.value {
        Value::Bool(true) => Ok(ThinkingWish::WherePossible),
        Value::Bool(false) => Ok(ThinkingWish::Off),
        Value::String(level) if matches!(level.as_str(), "low" | "medium" | "high") => {
            Ok(ThinkingWish::Effort(level.clone()))
        }
        _ => Err(node.error("must be true, false, low, medium or high")),
    }
}
