//! The conversation that `/api/chat` takes.

use serde_json::{Value, json};
use zhenjin_assistant::{Message, Role, ToolCall};

use crate::errors::ApiError;
use crate::openai::request::limits;
use crate::openai::request::node::{Node, ObjectNode};

/// Takes `messages` apart.
pub(super) fn read(node: &Node<'_>) -> Result<Vec<Message>, ApiError> {
    let mut messages: Vec<Message> = Vec::new();
    // Calls of the last assistant message that have no result yet.
    let mut open: Vec<ToolCall> = Vec::new();
    for (index, item) in node.list()?.enumerate() {
        let fields = item.object(&[
            "role",
            "content",
            "thinking",
            "images",
            "tool_calls",
            "tool_name",
            "name",
            "tool_call_id",
        ])?;
        let role = read_role(&fields.required("role")?)?;
        if let Some(images) = fields.get("images")
            && images.list()?.len() > 0
        {
            return Err(images
                .error("is not supported here: models read text only")
                .with_code("unsupported_value"));
        }
        let text = |name| fields.get(name).map(|node| node.text().map(str::to_owned)).transpose();
        let mut message = Message::new(role, text("content")?.unwrap_or_default());
        message.name = text("tool_name")?.or(text("name")?);
        let thinking = text("thinking")?;
        match role {
            Role::Assistant => {
                message.thought = thinking;
                message.tool_calls = read_calls(&fields, index)?;
                open.clone_from(&message.tool_calls);
            }
            Role::Tool => {
                message.tool_call_id =
                    text("tool_call_id")?.or_else(|| take_answered(&mut open, message.name.as_deref()));
            }
            Role::System | Role::User => {}
        }
        if role != Role::Assistant && fields.get("tool_calls").is_some_and(|calls| calls.value != &json!([]))
        {
            return Err(item.error("has `tool_calls`, which only the assistant's messages have"));
        }
        messages.push(message);
    }
    Ok(messages)
}

fn read_role(node: &Node<'_>) -> Result<Role, ApiError> {
    match node.text()? {
        "system" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        other => Err(node.error(format!("must be system, user, assistant or tool, not `{other}`"))),
    }
}

/// The call that a result answers: the first of that function without a result, or the first at all. Ollama's clients name the
/// function, not the call.
fn take_answered(open: &mut Vec<ToolCall>, function: Option<&str>) -> Option<String> {
    let same = open.iter().position(|call| Some(call.name.as_str()) == function);
    let index = same.or((function.is_none() && !open.is_empty()).then_some(0))?;
    Some(open.remove(index).id)
}

fn read_calls(fields: &ObjectNode<'_>, message: usize) -> Result<Vec<ToolCall>, ApiError> {
    let Some(node) = fields.get("tool_calls") else { return Ok(Vec::new()) };
    let items = node.list()?;
    if items.len() > limits::TOOL_CALLS {
        return Err(node.error(format!("must hold at most {} calls", limits::TOOL_CALLS)));
    }
    items
        .enumerate()
        .map(|(index, item)| {
            let call = item.object(&["id", "type", "function"])?;
            let function =
                call.required("function")?.object(&["index", "name", "description", "arguments"])?;
            let arguments = match function.get("arguments") {
                Some(node) => Value::Object(node.entries()?.clone()).to_string(),
                None => "{}".to_owned(),
            };
            let id = call.get("id").map(|node| node.text().map(str::to_owned)).transpose()?;
            Ok(ToolCall {
                id: id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{message}_{index}")),
                name: function.required("name")?.text()?.to_owned(),
                arguments,
            })
        })
        .collect()
}

pub(super) fn schema() -> Value {
    let text = json!({ "type": ["string", "null"] });
    let function = json!({ "type": "object", "required": ["name"], "additionalProperties": false, "properties": {
        "index": { "type": "integer" }, "name": { "type": "string" }, "description": { "type": "string" },
        "arguments": { "type": "object" } } });
    let call = json!({ "type": "object", "required": ["function"], "additionalProperties": false,
        "properties": { "id": { "type": "string" }, "type": { "type": "string" }, "function": function } });
    json!({ "type": "array", "items": { "type": "object", "required": ["role"], "additionalProperties": false, "properties": {
        "role": { "enum": ["system", "user", "assistant", "tool"] },
        "content": text, "thinking": text, "tool_name": text, "name": text, "tool_call_id": text,
        "images": { "type": ["array", "null"], "maxItems": 0 },
        "tool_calls": { "type": ["array", "null"], "items": call, "maxItems": limits::TOOL_CALLS } } } })
}
