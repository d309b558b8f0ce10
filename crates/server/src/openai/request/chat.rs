//! A chat request as a whole: its fields, and which of them go together.

use serde_json::Value;
use zhenjin_assistant::{ChatRequest, ToolChoice};

use super::format::WantedFormat;
use super::sampling::{Delivery, one_name, read_delivery, read_options};
use super::thinking::ThinkingField;
use super::tools::{read_tool_choice, read_tools};
use super::{format, messages, thinking};
use crate::errors::ApiError;
use crate::openai::field_tables::CHAT;
use crate::openai::fields::{CheckedFields, check};

/// A chat request whose every field is known to be fine by itself and beside the others.
#[derive(Clone, Debug)]
pub(crate) struct ChatFields {
    pub(crate) model: String,
    pub(crate) request: ChatRequest,
    pub(crate) choices: usize,
    pub(crate) delivery: Delivery,
    pub(crate) names_service_tier: bool,
    pub(crate) thinking: ThinkingField,
    pub(crate) format: WantedFormat,
}

/// Takes a chat request's body apart.
pub(crate) fn read(body: &Value) -> Result<ChatFields, ApiError> {
    let fields = check(CHAT, body)?;
    let messages = fields.get("messages").map(|node| messages::read(&node)).transpose()?.unwrap_or_default();
    let mut tools = fields.get("tools").map(|node| read_tools(&node)).transpose()?.unwrap_or_default();
    let tool_choice = read_tool_choice(fields.get("tool_choice").as_ref(), &mut tools)?;
    let format = format::read(&fields)?;
    let output_format = format.format.clone();
    let template_variables = fields
        .get("chat_template_kwargs")
        .map(|node| messages::read_template_variables(&node))
        .transpose()?;
    let mut template_variables = template_variables.unwrap_or_default();
    let (wish, thinking) = thinking::read(&fields, &mut template_variables)?;
    // Who names a function wants one call of it.
    let allows_several = !matches!(tool_choice, ToolChoice::Named(_));
    let request = ChatRequest {
        tools,
        tool_choice,
        parallel_tool_calls: fields.boolean("parallel_tool_calls").unwrap_or(true) && allows_several,
        output_format,
        thinking: wish,
        template_variables,
        options: read_options(&fields, read_max_tokens(&fields)?, read_logprobs(&fields)?)?,
        ..ChatRequest::new(messages)
    };
    Ok(ChatFields {
        model: fields.text("model").unwrap_or_default().to_owned(),
        request,
        choices: fields.count("n").unwrap_or(1),
        delivery: read_delivery(&fields)?,
        names_service_tier: fields.get("service_tier").is_some(),
        thinking,
        format,
    })
}

fn read_max_tokens(fields: &CheckedFields<'_>) -> Result<Option<usize>, ApiError> {
    let older = one_name(fields, "max_tokens", "n_predict")?;
    Ok(fields.count(one_name(fields, older, "max_completion_tokens")?))
}

fn read_logprobs(fields: &CheckedFields<'_>) -> Result<Option<usize>, ApiError> {
    let top = fields.count("top_logprobs");
    let elsewhere = fields.count("n_probs").filter(|count| *count > 0);
    match (fields.boolean("logprobs"), elsewhere) {
        (None, Some(count)) if top.is_none() => Ok(Some(count)),
        (_, Some(_)) => Err(ApiError::invalid(
            "n_probs",
            "`n_probs` is another name of `logprobs` with `top_logprobs`: send one of them",
        )),
        (Some(true), None) => Ok(Some(top.unwrap_or(0))),
        _ if top.is_some_and(|top| top > 0) => {
            Err(ApiError::invalid("top_logprobs", "`top_logprobs` is only allowed when `logprobs` is true"))
        }
        _ => Ok(None),
    }
}
