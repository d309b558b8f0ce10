//! The conversation that a chat request sends.

use serde_json::{Map, Value, json};
use zhenjin_assistant::{Message, REQUEST_VARIABLES, Role, ToolCall};

use super::limits;
use super::node::{Node, ObjectNode};
use crate::errors::ApiError;

/// Fields that answers carry beside what was said, here or elsewhere, and that come back with them. They have no effect.
const BESIDE: [&str; 8] = [
    "annotations",
    "parsed",
    "cache_control",
    "id",
    "index",
    "provider_specific_fields",
    "reasoning_details",
    "thinking_blocks",
];

/// The fields of a message, and those that may stand beside them.
fn object_with<'a>(node: &Node<'a>, fields: &[&'static str]) -> Result<ObjectNode<'a>, ApiError> {
    node.object(&[fields, &BESIDE[..]].concat())
}

/// Takes `messages` apart.
pub(crate) fn read(node: &Node<'_>) -> Result<Vec<Message>, ApiError> {
    let mut messages: Vec<Message> = Vec::new();
    // Its place is kept, as looking for it before each of very many results would take time that grows with their square.
    let mut last_assistant: Option<usize> = None;
    for item in node.list()? {
        let message = read_message(&item)?;
        if let Some(id) = &message.tool_call_id {
            let asked = last_assistant.and_then(|place| messages.get(place));
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
        if message.role == Role::Assistant {
            last_assistant = Some(messages.len());
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
    let fields = object_with(node, &["role", "content", "name"])?;
    let content = read_content(&fields.required("content")?, role)?;
    Ok(Message { name: read_name(&fields)?, ..Message::new(role, content.text) })
}

fn read_tool(node: &Node<'_>) -> Result<Message, ApiError> {
    let fields = object_with(node, &["role", "content", "name", "tool_call_id"])?;
    let content = read_content(&fields.required("content")?, Role::Tool)?;
    let tool_call_id = Some(fields.required("tool_call_id")?.text()?.to_owned());
    Ok(Message { name: read_name(&fields)?, tool_call_id, ..Message::new(Role::Tool, content.text) })
}

fn read_assistant(node: &Node<'_>) -> Result<Message, ApiError> {
    let fields = object_with(
        node,
        &[
            "role",
            "content",
            "name",
            "refusal",
            "reasoning_content",
            "reasoning",
            "tool_calls",
            "function_call",
            "audio",
        ],
    )?;
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
    let (said, thought_parts) = said.map_or((None, String::new()), |said| (Some(said.text), said.thought));
    let thought = read_thought(&fields, thought_parts)?;
    let refused = fields.get("refusal").map(|refusal| refusal.text().map(str::to_owned)).transpose()?;
    let content = match (said, refused) {
        (Some(said), None) => said,
        (said, Some(refused)) if said.as_deref().unwrap_or("").is_empty() => refused,
        (Some(_), Some(_)) => return Err(node.error("has both `content` and `refusal`: send one of them")),
        (None, _) if !tool_calls.is_empty() || thought.is_some() => String::new(),
        // Nothing was said, as when an answer was cut before its first word.
        (None, _) if node.value.get("content").is_some() => String::new(),
        (None, _) => return Err(node.error("needs `content`, `refusal` or `tool_calls`")),
    };
    Ok(Message { thought, name: read_name(&fields)?, tool_calls, ..Message::new(Role::Assistant, content) })
}

/// What the assistant thought, which may stand in two fields (with the same text) or in parts of the content.
fn read_thought(fields: &ObjectNode<'_>, parts: String) -> Result<Option<String>, ApiError> {
    let mut thought = (!parts.is_empty()).then_some(parts);
    for name in ["reasoning_content", "reasoning"] {
        let Some(node) = fields.get(name) else { continue };
        let text = node.text()?;
        match &thought {
            _ if text.is_empty() => {}
            Some(earlier) if earlier != text => {
                return Err(node.error("differs from the thought that stands elsewhere in the message"));
            }
            _ => thought = Some(text.to_owned()),
        }
    }
    Ok(thought)
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
            let fields = object_with(&item, &["id", "type", "function", "custom"])?;
            if let Some(kind) = fields.get("type") {
                match kind.text()? {
                    "function" => {}
                    "custom" => {
                        return Err(kind
                            .error("`custom` is not supported here")
                            .with_code("unsupported_value"));
                    }
                    other => return Err(kind.error(format!("must be `function`, not `{other}`"))),
                }
            }
            let function = fields.required("function")?;
            let function = object_with(&function, &["name", "arguments", "parsed_arguments", "strict"])?;
            Ok(ToolCall {
                id: fields.required("id")?.text()?.to_owned(),
                name: function.required("name")?.text()?.to_owned(),
                arguments: read_arguments(&function)?,
            })
        })
        .collect()
}

/// A call's arguments: JSON as text, or the object itself. A call without any has an empty object of them.
fn read_arguments(function: &ObjectNode<'_>) -> Result<String, ApiError> {
    const NONE: &str = "{}";
    let Some(node) = function.get("arguments") else { return Ok(NONE.to_owned()) };
    match node.value {
        Value::Object(_) => Ok(node.value.to_string()),
        _ => match node.text()? {
            text if text.trim().is_empty() => Ok(NONE.to_owned()),
            text => Ok(text.to_owned()),
        },
    }
}

/// What a message says, and what its writer thought before.
#[derive(Default)]
struct Content {
    text: String,
    thought: String,
}

/// A content: a text, or text parts, which are joined as they stand.
fn read_content(node: &Node<'_>, role: Role) -> Result<Content, ApiError> {
    if node.value.is_string() {
        return Ok(Content { text: node.text()?.to_owned(), ..Content::default() });
    }
    if !node.value.is_array() {
        return Err(node.error("must be a string or a list of text parts"));
    }
    let mut content = Content::default();
    for part in node.list()? {
        let kind = part.peek("type")?;
        match kind.text()? {
            "text" => {
                // The breakpoint is a hint to caches; here shared beginnings are found by their content.
                let fields = object_with(&part, &["type", "text", "prompt_cache_breakpoint"])?;
                content.text.push_str(fields.required("text")?.text()?);
            }
            "refusal" if role == Role::Assistant => {
                let fields = object_with(&part, &["type", "refusal"])?;
                content.text.push_str(fields.required("refusal")?.text()?);
            }
            "reasoning" | "thinking" if role == Role::Assistant => {
                content.thought.push_str(&read_thought_part(&part)?);
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

/// A part that holds a thought, in a field of its type's name or in `text`, as a text or as a list of text parts.
fn read_thought_part(part: &Node<'_>) -> Result<String, ApiError> {
    // Other makers sign their thoughts; here nobody would check it.
    let fields = object_with(part, &["type", "text", "reasoning", "thinking", "signature"])?;
    let texts = ["text", "reasoning", "thinking"].iter().filter_map(|name| fields.get(name));
    let mut thought = String::new();
    for node in texts {
        thought.push_str(&read_content(&node, Role::Assistant)?.text);
    }
    Ok(thought)
}

/// Takes `chat_template_kwargs` apart: any names, any values, within the request's own bounds.
pub(crate) fn read_template_variables(node: &Node<'_>) -> Result<Map<String, Value>, ApiError> {
    let variables = node.entries()?;
    match variables.keys().find(|name| REQUEST_VARIABLES.contains(&name.as_str())) {
        Some(name) => Err(node.error(format!("must not set `{name}`, which the request itself sets"))),
        None => Ok(variables.clone()),
    }
}

pub(crate) fn template_variables_schema() -> Value {
    json!({ "type": "object" })
}

/// An object's schema with the fields that may stand beside its own.
fn with_beside(mut schema: Value) -> Value {
    for name in BESIDE {
        schema["properties"][name] = json!({});
    }
    schema["additionalProperties"] = json!(false);
    schema
}

pub(crate) fn schema() -> Value {
    let text_part = with_beside(json!({ "type": "object", "required": ["type", "text"], "properties": {
        "type": { "const": "text" }, "text": { "type": "string" }, "prompt_cache_breakpoint": { "type": "object" } } }));
    let content = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": text_part }] });
    let refusal_part =
        with_beside(json!({ "type": "object", "required": ["type", "refusal"], "properties": {
        "type": { "const": "refusal" }, "refusal": { "type": "string" } } }));
    let thought_part = with_beside(json!({ "type": "object", "required": ["type"], "properties": {
        "type": { "enum": ["reasoning", "thinking"] }, "text": content, "reasoning": content, "thinking": content,
        "signature": { "type": ["string", "null"] } } }));
    let said = json!({ "anyOf": [{ "type": "string" }, { "type": "null" },
        { "type": "array", "items": { "anyOf": [text_part, refusal_part, thought_part] } }] });
    let name = json!({ "type": "string", "description": "Passed to the model's template; most templates leave it out." });
    let plain = with_beside(json!({ "type": "object", "required": ["role", "content"], "properties": {
        "role": { "enum": ["system", "developer", "user"] }, "content": content, "name": name } }));
    let arguments =
        json!({ "type": ["string", "object", "null"], "description": "JSON as text; empty: no arguments." });
    let function = with_beside(json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "type": "string" }, "arguments": arguments, "parsed_arguments": {}, "strict": {} } }));
    let call = with_beside(json!({ "type": "object", "required": ["id", "function"], "properties": {
        "id": { "type": "string" }, "type": { "enum": ["function", null] }, "function": function } }));
    let mut assistant = with_beside(json!({ "type": "object", "required": ["role"], "properties": {
        "role": { "const": "assistant" }, "content": said, "name": name,
        "refusal": { "type": ["string", "null"] },
        "reasoning_content": { "type": ["string", "null"], "description": "What a thinking model thought before it." },
        "reasoning": { "type": ["string", "null"], "description": "The same under its other name." },
        "tool_calls": { "type": "array", "items": call, "maxItems": limits::TOOL_CALLS } } }));
    assistant["anyOf"] =
        json!([{ "required": ["content"] }, { "required": ["tool_calls"] }, { "required": ["refusal"] }]);
    let tool = with_beside(json!({ "type": "object", "required": ["role", "content", "tool_call_id"],
        "properties": { "role": { "const": "tool" }, "content": content, "name": name, "tool_call_id": { "type": "string" } } }));
    json!({ "type": "array", "minItems": 1, "items": { "oneOf": [plain, assistant, tool] } })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// For each result the messages before it were once searched, which took minutes for a request within the limits.
    #[test]
    fn very_many_results_of_one_call_are_read_at_once() {
        let call = json!({ "id": "a", "function": { "name": "f" } });
        let mut messages = vec![json!({ "role": "assistant", "tool_calls": [call] })];
        messages.resize(200_001, json!({ "role": "tool", "tool_call_id": "a", "content": "" }));
        let body = Value::Array(messages);
        let begun = Instant::now();
        let read = read(&Node::new(&body, "messages")).expect("a conversation");
        assert_eq!(read.len(), 200_001);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_result_answers_the_last_assistant_message_before_it() {
        let asks = |id: &str| json!({ "role": "assistant", "tool_calls": [{ "id": id, "function": { "name": "f" } }] });
        let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "" });
        for (messages, place) in [
            (json!([result("a")]), Some(0)),
            (json!([asks("a"), result("a"), result("b")]), Some(2)),
            (json!([asks("a"), asks("b"), result("a")]), Some(2)),
            (
                json!([asks("a"), asks("b"), { "role": "user", "content": "x" }, result("b"), result("b")]),
                None,
            ),
        ] {
            let error = read(&Node::new(&messages, "messages")).err();
            let complaint = place.map(|place| {
                let path = format!("messages[{place}]");
                format!("`{path}` answers the call ")
            });
            match (error, complaint) {
                (None, None) => {}
                (Some(error), Some(complaint)) => {
                    assert!(error.message().starts_with(&complaint), "{}", error.message());
                }
                (error, _) => panic!("{messages}: {error:?}"),
            }
        }
    }
}
