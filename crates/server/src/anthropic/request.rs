//! A request to `/v1/messages`, each field known to be fine by itself and beside the others.

use serde_json::{Value, json};
use zhenjin_assistant::{ChatRequest, GenerationOptions, OutputFormat, SamplingSettings, ThinkingWish};

use super::{blocks, fields, tools};
use crate::errors::ApiError;
use crate::openai::fields::{CheckedFields, Field, check};
use crate::openai::request::limits;
use crate::openai::request::sampling::read_stop;
use crate::openai::request::tools::read_schema;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) request: ChatRequest,
    pub(super) stream: bool,
}

/// Takes the body of `/v1/messages` apart.
pub(super) fn read(body: &Value) -> Result<Asked, ApiError> {
    let fields = check(fields::MESSAGES, body)?;
    let number = |name| fields.number(name).map(|value| value as f32);
    let stop = fields.get("stop_sequences").map(|node| {
        drop(node.list()?);
        read_stop(&node)
    });
    let options = GenerationOptions {
        sampling: SamplingSettings {
            temperature: number("temperature"),
            top_p: number("top_p"),
            top_k: fields.count("top_k"),
            ..SamplingSettings::default()
        },
        max_tokens: fields.count("max_tokens"),
        stop: stop.transpose()?.unwrap_or_default(),
        ..GenerationOptions::default()
    };
    let stream = fields.boolean("stream").unwrap_or(false);
    let Asked { model, request, .. } = read_conversation(fields::MESSAGES, body)?;
    Ok(Asked { model, request: ChatRequest { options, ..request }, stream })
}

/// What both routes say about the conversation.
pub(super) fn read_conversation(table: &[&'static [Field]], body: &Value) -> Result<Asked, ApiError> {
    let fields = check(table, body)?;
    let messages = match fields.get("messages") {
        Some(node) => blocks::read(fields.get("system"), &node)?,
        None => Vec::new(),
    };
    let tools = fields.get("tools").map(|node| tools::read_tools(&node)).transpose()?.unwrap_or_default();
    let (tool_choice, parallel) = tools::read_tool_choice(fields.get("tool_choice").as_ref(), &tools)?;
    let (output_format, effort) = read_output_config(&fields)?;
    let thinking = match (read_thinking(&fields)?, effort) {
        // Anthropic's clients send an effort with every request; without thoughts there is nothing that it changes here.
        (ThinkingWish::Off, _) => ThinkingWish::Off,
        (_, Some(effort)) => ThinkingWish::Effort(effort),
        (wish, None) => wish,
    };
    let request = ChatRequest {
        tools,
        tool_choice,
        parallel_tool_calls: parallel,
        output_format,
        thinking,
        ..ChatRequest::new(messages)
    };
    Ok(Asked { model: fields.text("model").unwrap_or_default().to_owned(), request, stream: false })
}

/// Whether the model is to think.
fn read_thinking(fields: &CheckedFields<'_>) -> Result<ThinkingWish, ApiError> {
    let Some(node) = fields.get("thinking") else { return Ok(ThinkingWish::ModelsOwn) };
    let values = node.object(&["type", "budget_tokens", "display"])?;
    if let Some(budget) = values.get("budget_tokens") {
        budget.integer(1, i64::MAX)?;
    }
    if let Some(display) = values.get("display").filter(|display| display.value != "summarized") {
        return Err(display
            .error("is not supported here: thoughts are shown as they are; leave it out")
            .with_code("unsupported_parameter"));
    }
    let kind = values.required("type")?;
    match kind.text()? {
        "enabled" => Ok(ThinkingWish::On),
        "disabled" => Ok(ThinkingWish::Off),
        "adaptive" | "between_tools" => Ok(ThinkingWish::ModelsOwn),
        other => Err(kind.error(format!("must be enabled, disabled or adaptive, not `{other}`"))),
    }
}

const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

fn read_output_config(fields: &CheckedFields<'_>) -> Result<(OutputFormat, Option<String>), ApiError> {
    let Some(node) = fields.get("output_config") else { return Ok((OutputFormat::Text, None)) };
    let values = node.object(&["format", "effort"])?;
    let format = match values.get("format") {
        None => OutputFormat::Text,
        Some(format) => {
            let kind = format.peek("type")?;
            if kind.value != "json_schema" {
                return Err(kind.error(format!("must be json_schema, not {}", kind.value)));
            }
            let schema = format.object(&["type", "schema"])?.required("schema")?;
            OutputFormat::JsonSchema(read_schema(&schema)?)
        }
    };
    let effort = values.get("effort").map(|node| match node.text()? {
        word if EFFORTS.contains(&word) => Ok(word.to_owned()),
        other => Err(node.error(format!("must be one of {}, not `{other}`", EFFORTS.join(", ")))),
    });
    Ok((format, effort.transpose()?))
}

pub(super) fn stop_schema() -> Value {
    json!({ "type": "array", "maxItems": limits::STOPS,
        "items": { "type": "string", "minLength": 1, "maxLength": limits::STOP_BYTES } })
}

pub(super) fn thinking_schema() -> Value {
    json!({ "type": "object", "required": ["type"], "additionalProperties": false, "properties": {
        "type": { "enum": ["enabled", "disabled", "adaptive", "between_tools"] },
        "budget_tokens": { "type": ["integer", "null"], "minimum": 1, "maximum": i64::MAX },
        "display": { "enum": ["summarized", null] } } })
}

pub(super) fn output_config_schema() -> Value {
    let format = json!({ "type": "object", "required": ["type", "schema"], "additionalProperties": false,
        "properties": { "type": { "const": "json_schema" }, "schema": { "type": "object", "description": "A JSON schema." } } });
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "format": { "anyOf": [format, { "type": "null" }] },
        "effort": { "enum": EFFORTS.map(Some).into_iter().chain([None]).collect::<Vec<_>>() } } })
}
