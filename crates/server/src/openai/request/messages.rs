//! The conversation that a chat request sends.

use serde_json::{Map, Value, json};
use zhenjin_assistant::{Message, Role, ToolCall};

use super::limits;
use super::node::{Node, ObjectNode};
use crate::errors::ApiError;

/// Takes `messages` apart.
pub(crate) fn read(node: &Node<'_>) -> Result<Vec<Message>, ApiError> {
    let mut messages: Vec<Message> = Vec::new();
    for item in node.list()? {
        let message = read_message(&item)?;
        if let Some(id) = &message.tool_call_id {
            let asked = messages.iter().rev().find(|earlier| earlier.role == Role::Assistant);
            if !asked.is_some_and(|earlier| earlier.tool_calls.iter().any(|call| &call.id == id)) {
                return Err(ApiError::invalid(
                    format!("{}.tool_call_id", item.path),
                    format!(
                        "`{}` answers the call `{id}`, which no assistant message before it made",
                        item.path
                    ),
                ));
            }
        }
        messages.push(message);
    }
    if messages.is_empty() {
        return Err(node.error("must hold at least one message"));
    }
    Ok(messages)
}

fn read_message(node: &Node<'_>) -> Result<Message, ApiError> {
    let role = node.peek("role")?;
    match role.text()? {
        // Two names of one role: models know `system` alone.
        "system" | "developer" => read_plain(node, Role::System),
        "user" => read_plain(node, Role::User),
        "assistant" => read_assistant(node),
        "tool" => read_tool(node),
        "function" => Err(role
            .error("`function` is not supported here: it was replaced by `tool`")
            .with_code("unsupported_value")),
        other => {
            Err(role.error(format!("must be system, developer, user, assistant or tool, not `{other}`")))
        }
    }
}

fn read_plain(node: &Node<'_>, role: Role) -> Result<Message, ApiError> {
    let fields = node.object(&["role", "content", "name"])?;
    let content = read_content(&fields.required("content")?, role)?;
    Ok(Message { role, content, name: read_name(&fields)?, tool_calls: Vec::new(), tool_call_id: None })
}

fn read_tool(node: &Node<'_>) -> Result<Message, ApiError> {
    let fields = node.object(&["role", "content", "name", "tool_call_id"])?;
    let content = read_content(&fields.required("content")?, Role::Tool)?;
    let tool_call_id = Some(fields.required("tool_call_id")?.text()?.to_owned());
    Ok(Message { role: Role::Tool, content, name: read_name(&fields)?, tool_calls: Vec::new(), tool_call_id })
}

fn read_assistant(node: &Node<'_>) -> Result<Message, ApiError> {
    let fields =
        node.object(&["role", "content", "name", "refusal", "tool_calls", "function_call", "audio"])?;
    if let Some(call) = fields.get("function_call") {
        return Err(call
            .error("is not supported here: it was replaced by `tool_calls`")
            .with_code("unsupported_value"));
    }
    if let Some(audio) = fields.get("audio") {
        return Err(audio
            .error("is not supported here: models read text only")
            .with_code("unsupported_value"));
    }
    let tool_calls = match fields.get("tool_calls") {
        None => Vec::new(),
        Some(calls) => read_tool_calls(&calls)?,
    };
    let said = fields.get("content").map(|content| read_content(&content, Role::Assistant)).transpose()?;
    let refused = fields.get("refusal").map(|refusal| refusal.text().map(str::to_owned)).transpose()?;
    let content = match (said, refused) {
        (Some(said), None) => said,
        (said, Some(refused)) if said.as_deref().unwrap_or("").is_empty() => refused,
        (Some(_), Some(_)) => return Err(node.error("has both `content` and `refusal`: send one of them")),
        (None, _) if !tool_calls.is_empty() => String::new(),
        (None, _) => return Err(node.error("needs `content`, `refusal` or `tool_calls`")),
    };
    Ok(Message { role: Role::Assistant, content, name: read_name(&fields)?, tool_calls, tool_call_id: None })
}

fn read_name(fields: &ObjectNode<'_>) -> Result<Option<String>, ApiError> {
    fields.get("name").map(|name| name.text().map(str::to_owned)).transpose()
}

fn read_tool_calls(node: &Node<'_>) -> Result<Vec<ToolCall>, ApiError> {
    let items = node.list()?;
    if items.len() > limits::TOOL_CALLS {
        return Err(node.error(format!(
            "must hold at most {} calls, not {}",
            limits::TOOL_CALLS,
            items.len()
        )));
    }
    items
        .map(|item| {
            let kind = item.peek("type")?;
            match kind.text()? {
                "function" => {}
                "custom" => {
                    return Err(kind.error("`custom` is not supported here").with_code("unsupported_value"));
                }
                other => return Err(kind.error(format!("must be `function`, not `{other}`"))),
            }
            let fields = item.object(&["id", "type", "function"])?;
            let function = fields.required("function")?.object(&["name", "arguments"])?;
            Ok(ToolCall {
                id: fields.required("id")?.text()?.to_owned(),
                name: function.required("name")?.text()?.to_owned(),
                arguments: function.required("arguments")?.text()?.to_owned(),
            })
        })
        .collect()
}

/// A content: a text, or text parts, which are joined as they stand.
fn read_content(node: &Node<'_>, role: Role) -> Result<String, ApiError> {
    if node.value.is_string() {
        return node.text().map(str::to_owned);
    }
    if !node.value.is_array() {
        return Err(node.error("must be a string or a list of text parts"));
    }
    let mut content = String::new();
    for part in node.list()? {
        let kind = part.peek("type")?;
        match kind.text()? {
            "text" => {
                // The breakpoint is a hint to caches; here shared beginnings are found by their content.
                let fields = part.object(&["type", "text", "prompt_cache_breakpoint"])?;
                content.push_str(fields.required("text")?.text()?);
            }
            "refusal" if role == Role::Assistant => {
                content.push_str(part.object(&["type", "refusal"])?.required("refusal")?.text()?);
            }
            other @ ("image_url" | "input_audio" | "file" | "input_image" | "input_file") => {
                return Err(kind
                    .error(format!("`{other}` is not supported here: models read text only"))
                    .with_code("unsupported_value"));
            }
            other => return Err(kind.error(format!("must be `text`, not `{other}`"))),
        }
    }
    Ok(content)
}

/// Takes `chat_template_kwargs` apart: any names, any values, within the request's own bounds.
pub(crate) fn read_template_variables(node: &Node<'_>) -> Result<Map<String, Value>, ApiError> {
    const TAKEN: &[&str] = &[
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "bos_token",
        "eos_token",
        "raise_exception",
        "strftime_now",
    ];
    let variables = node.entries()?;
    match variables.keys().find(|name| TAKEN.contains(&name.as_str())) {
        Some(name) => Err(node.error(format!("must not set `{name}`, which the request itself sets"))),
        None => Ok(variables.clone()),
    }
}

pub(crate) fn template_variables_schema() -> Value {
    json!({ "type": "object" })
}

pub(crate) fn schema() -> Value {
    let text_part = json!({ "type": "object", "required": ["type", "text"], "additionalProperties": false, "properties": {
        "type": { "const": "text" }, "text": { "type": "string" }, "prompt_cache_breakpoint": { "type": "object" } } });
    let content = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": text_part }] });
    let name = json!({ "type": "string", "description": "Passed to the model's template; most templates leave it out." });
    let plain = json!({ "type": "object", "required": ["role", "content"], "additionalProperties": false, "properties": {
        "role": { "enum": ["system", "developer", "user"] }, "content": content, "name": name } });
    let call = json!({ "type": "object", "required": ["id", "type", "function"], "additionalProperties": false, "properties": {
        "id": { "type": "string" }, "type": { "const": "function" },
        "function": { "type": "object", "required": ["name", "arguments"], "additionalProperties": false, "properties": {
            "name": { "type": "string" }, "arguments": { "type": "string", "description": "JSON as text." } } } } });
    let assistant = json!({ "type": "object", "required": ["role"], "additionalProperties": false, "properties": {
        "role": { "const": "assistant" }, "content": { "anyOf": [content, { "type": "null" }] }, "name": name,
        "refusal": { "type": ["string", "null"] },
        "tool_calls": { "type": "array", "items": call, "maxItems": limits::TOOL_CALLS } },
        "anyOf": [{ "required": ["content"] }, { "required": ["tool_calls"] }, { "required": ["refusal"] }] });
    let tool = json!({ "type": "object", "required": ["role", "content", "tool_call_id"], "additionalProperties": false,
        "properties": { "role": { "const": "tool" }, "content": content, "name": name, "tool_call_id": { "type": "string" } } });
    json!({ "type": "array", "minItems": 1, "items": { "oneOf": [plain, assistant, tool] } })
}
