//! A chat request as a whole: its fields, and which of them go together. Does not know how it is answered.

use serde_json::{Map, Value};

use super::format::{self, Format};
use super::messages::{self, Message};
use super::sampling::{Delivery, SamplingFields, read_delivery, read_sampling};
use super::tools::{Tool, ToolChoice, read_tool_choice, read_tools};
use crate::errors::ApiError;
use crate::openai::field_tables::CHAT;
use crate::openai::fields::check;

/// A chat request whose every field is known to be fine by itself and beside the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatFields {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) parallel_tool_calls: bool,
    pub(crate) format: Format,
    pub(crate) sampling: SamplingFields,
    pub(crate) delivery: Delivery,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) choices: usize,
    /// `Some(n)`: report log-probabilities, with the n most likely tokens at each place.
    pub(crate) logprobs: Option<usize>,
    pub(crate) template_variables: Map<String, Value>,
    pub(crate) reports_service_tier: bool,
}

/// Takes a chat request's body apart.
pub(crate) fn read(body: &Value) -> Result<ChatFields, ApiError> {
    let fields = check(CHAT, body)?;
    let messages = fields.get("messages").map(|node| messages::read(&node)).transpose()?.unwrap_or_default();
    let mut tools = fields.get("tools").map(|node| read_tools(&node)).transpose()?.unwrap_or_default();
    let tool_choice = read_tool_choice(fields.get("tool_choice").as_ref(), &mut tools)?;
    let format = format::read(&fields)?;
    if format != Format::Text && matches!(tool_choice, ToolChoice::Required | ToolChoice::Named(_)) {
        return Err(ApiError::invalid(
            "tool_choice",
            "`tool_choice` asks for a call, while `response_format`, `regex` or `grammar` asks for an answer: send one of them",
        ));
    }
    let max_tokens = match (fields.count("max_tokens"), fields.count("max_completion_tokens")) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(
                "max_tokens",
                "`max_tokens` and `max_completion_tokens` are two names for one thing: send one of them",
            ));
        }
        (older, newer) => older.or(newer),
    };
    let wants_logprobs = fields.boolean("logprobs").unwrap_or(false);
    let top_logprobs = fields.count("top_logprobs");
    if top_logprobs.is_some() && !wants_logprobs {
        return Err(ApiError::invalid(
            "top_logprobs",
            "`top_logprobs` is only allowed when `logprobs` is true",
        ));
    }
    let template_variables = fields
        .get("chat_template_kwargs")
        .map(|node| messages::read_template_variables(&node))
        .transpose()?;
    Ok(ChatFields {
        model: fields.text("model").unwrap_or_default().to_owned(),
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: fields.boolean("parallel_tool_calls").unwrap_or(true),
        format,
        sampling: read_sampling(&fields)?,
        delivery: read_delivery(&fields)?,
        max_tokens,
        choices: fields.count("n").unwrap_or(1),
        logprobs: wants_logprobs.then(|| top_logprobs.unwrap_or(0)),
        template_variables: template_variables.unwrap_or_default(),
        reports_service_tier: fields.get("service_tier").is_some(),
    })
}
