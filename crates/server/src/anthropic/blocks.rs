//! The conversation of `/v1/messages`: messages of blocks, and the system message.

use std::collections::HashMap;

use serde_json::{Value, json};
use zhenjin_assistant::{Message, Role, ToolCall};

use crate::errors::ApiError;
use crate::openai::request::limits;
use crate::openai::request::node::Node;

/// What stands between blocks of one message, and between messages that are joined.
const GAP: &str = "\n\n";

/// Takes `system` and `messages` apart.
pub(super) fn read(system: Option<Node<'_>>, node: &Node<'_>) -> Result<Vec<Message>, ApiError> {
    let mut conversation = Conversation::default();
    if let Some(system) = system {
        let text = read_texts(&system)?;
        if !text.is_empty() {
            conversation.messages.push(Message::new(Role::System, text));
        }
    }
    let mut last = None;
    for item in node.list()? {
        let fields = item.object(&["role", "content"])?;
        let (role, content) = (fields.required("role")?, fields.required("content")?);
        match role.text()? {
            "user" => read_user(&content, &mut conversation)?,
            "assistant" => read_assistant(&content, &mut conversation)?,
            "system" => conversation.join(Message::new(Role::System, read_texts(&content)?)),
            other => return Err(role.error(format!("must be user or assistant, not `{other}`"))),
        }
        last = Some(role);
    }
    match last {
        None => Err(node.error("must hold at least one message")),
        Some(role) if role.value == "assistant" => Err(role
            .error(
                "must be user in the last message: beginning the answer for the model is not supported here",
            )
            .with_code("unsupported_value")),
        Some(_) => Ok(conversation.messages),
    }
}

/// The conversation so far.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// The functions that the assistant's last message calls, by the calls' ids. Searching the messages for each of very many results would
    /// take time that grows with their square.
    calls: HashMap<String, String>,
}

impl Conversation {
    /// Appends a message, joined with the one before it if that is of the same role.
    fn join(&mut self, message: Message) {
        let joins =
            message.role != Role::Tool && self.messages.last().is_some_and(|last| last.role == message.role);
        if message.role == Role::Assistant {
            if !joins {
                self.calls = HashMap::new();
            }
            for call in &message.tool_calls {
                // Of several calls with one id the first counts.
                self.calls.entry(call.id.clone()).or_insert_with(|| call.name.clone());
            }
        }
        match self.messages.last_mut() {
            Some(last) if joins => {
                append(&mut last.content, &message.content);
                last.tool_calls.extend(message.tool_calls);
                if let Some(thought) = message.thought {
                    append(last.thought.get_or_insert_default(), &thought);
                }
            }
            _ => self.messages.push(message),
        }
    }
}

fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str(GAP);
    }
    text.push_str(more);
}

fn read_user(content: &Node<'_>, conversation: &mut Conversation) -> Result<(), ApiError> {
    if content.value.is_string() {
        conversation.join(Message::new(Role::User, content.text()?));
        return Ok(());
    }
    for block in content.list()? {
        let kind = block.peek("type")?;
        match kind.text()? {
            "text" => conversation.join(Message::new(Role::User, read_text(&block)?)),
            "tool_result" => {
                let result = read_result(&block, &conversation.calls)?;
                conversation.messages.push(result);
            }
            other => return Err(unsupported(&kind, other, "text or tool_result")),
        }
    }
    Ok(())
}

fn read_assistant(content: &Node<'_>, conversation: &mut Conversation) -> Result<(), ApiError> {
    if content.value.is_string() {
        conversation.join(Message::new(Role::Assistant, content.text()?));
        return Ok(());
    }
    let mut message = Message::new(Role::Assistant, "");
    for block in content.list()? {
        let kind = block.peek("type")?;
        match kind.text()? {
            "text" => append(&mut message.content, read_text(&block)?),
            "thinking" => {
                let fields = block.object(&["type", "thinking", "signature"])?;
                append(message.thought.get_or_insert_default(), fields.required("thinking")?.text()?);
            }
            // What another server thought and hid, which nobody here can read.
            "redacted_thinking" => drop(block.object(&["type", "data"])?),
            "tool_use" => message.tool_calls.push(read_call(&block)?),
            other => return Err(unsupported(&kind, other, "text, thinking or tool_use")),
        }
    }
    if message.tool_calls.len() > limits::TOOL_CALLS {
        return Err(content.error(format!("must hold at most {} calls", limits::TOOL_CALLS)));
    }
    conversation.join(message);
    Ok(())
}

fn unsupported(kind: &Node<'_>, name: &str, expected: &str) -> ApiError {
    match name {
        "image" | "document" | "search_result" | "container_upload" => kind
            .error(format!("`{name}` is not supported here: models read text only; send text blocks"))
            .with_code("unsupported_value"),
        _ => kind.error(format!("must be {expected}, not `{name}`")),
    }
}

/// A text block's text. Where text is cited from says nothing to models here.
fn read_text<'a>(block: &Node<'a>) -> Result<&'a str, ApiError> {
    block.object(&["type", "text", "cache_control", "citations"])?.required("text")?.text()
}

/// A text, or text blocks.
fn read_texts(node: &Node<'_>) -> Result<String, ApiError> {
    if node.value.is_string() {
        return node.text().map(str::to_owned);
    }
    if !node.value.is_array() {
        return Err(node.error("must be a string or a list of text blocks"));
    }
    let mut text = String::new();
    for block in node.list()? {
        let kind = block.peek("type")?;
        match kind.text()? {
            "text" => append(&mut text, read_text(&block)?),
            other => return Err(unsupported(&kind, other, "text")),
        }
    }
    Ok(text)
}

fn read_call(block: &Node<'_>) -> Result<ToolCall, ApiError> {
    let fields = block.object(&["type", "id", "name", "input", "cache_control", "caller", "toolset_name"])?;
    Ok(ToolCall {
        id: fields.required("id")?.text()?.to_owned(),
        name: fields.required("name")?.text()?.to_owned(),
        arguments: Value::Object(fields.required("input")?.entries()?.clone()).to_string(),
    })
}

/// A call's result; `calls` has the functions that the assistant's last message calls, by the calls' ids.
fn read_result(block: &Node<'_>, calls: &HashMap<String, String>) -> Result<Message, ApiError> {
    let fields =
        block.object(&["type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"])?;
    let node = fields.required("tool_use_id")?;
    let id = node.text()?;
    let Some(function) = calls.get(id) else {
        return Err(node.error(format!("is `{id}`, which no `tool_use` of the assistant's last message has")));
    };
    let text = fields.get("content").map(|content| read_texts(&content)).transpose()?.unwrap_or_default();
    let failed = fields.get("is_error").map(|node| node.boolean()).transpose()?.unwrap_or(false);
    let content = if failed { format!("Error: {text}") } else { text };
    Ok(Message {
        tool_call_id: Some(id.to_owned()),
        name: Some(function.clone()),
        ..Message::new(Role::Tool, content)
    })
}

fn text_block() -> Value {
    json!({ "type": "object", "required": ["type", "text"], "additionalProperties": false, "properties": {
        "type": { "const": "text" }, "text": { "type": "string" }, "cache_control": {}, "citations": {} } })
}

fn texts() -> Value {
    json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": text_block() }] })
}

pub(super) fn system_schema() -> Value {
    texts()
}

pub(super) fn messages_schema() -> Value {
    let result = json!({ "type": "object", "required": ["type", "tool_use_id"], "additionalProperties": false, "properties": {
        "type": { "const": "tool_result" }, "tool_use_id": { "type": "string" }, "content": texts(),
        "is_error": { "type": ["boolean", "null"] }, "cache_control": {}, "toolset_name": {} } });
    let call = json!({ "type": "object", "required": ["type", "id", "name", "input"], "additionalProperties": false, "properties": {
        "type": { "const": "tool_use" }, "id": { "type": "string" }, "name": { "type": "string" }, "input": { "type": "object" },
        "cache_control": {}, "caller": {}, "toolset_name": {} } });
    let thinking = json!({ "type": "object", "required": ["type", "thinking"], "additionalProperties": false, "properties": {
        "type": { "const": "thinking" }, "thinking": { "type": "string" }, "signature": { "type": "string" } } });
    let redacted = json!({ "type": "object", "required": ["type"], "additionalProperties": false,
        "properties": { "type": { "const": "redacted_thinking" }, "data": { "type": "string" } } });
    let message = |role: Value, blocks: Value| {
        json!({ "type": "object", "required": ["role", "content"], "additionalProperties": false, "properties": {
            "role": role,
            "content": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "anyOf": blocks } }] } } })
    };
    let user = message(json!({ "const": "user" }), json!([text_block(), result]));
    let assistant = message(json!({ "const": "assistant" }), json!([text_block(), thinking, redacted, call]));
    let system = message(json!({ "const": "system" }), json!([text_block()]));
    json!({ "type": "array", "minItems": 1, "items": { "anyOf": [user, assistant, system] } })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// For each result the messages and calls before it were once searched, which took minutes for a request within the limits.
    #[test]
    fn very_many_results_are_read_at_once() {
        let call = |id: usize| json!({ "type": "tool_use", "id": id.to_string(), "name": "f", "input": {} });
        let result = |id: usize| json!({ "type": "tool_result", "tool_use_id": id.to_string() });
        // Messages of the assistant are joined, so that one has more calls than a request may write into it.
        let asks = (0..500).map(|message| {
            let calls: Vec<Value> = (0..100).map(|place| call(message * 100 + place)).collect();
            json!({ "role": "assistant", "content": calls })
        });
        let results: Vec<Value> = (0..200_000).map(|place| result(place % 50_000)).collect();
        let messages: Vec<Value> = asks.chain([json!({ "role": "user", "content": results })]).collect();
        let body = Value::Array(messages);
        let begun = Instant::now();
        let read = read(None, &Node::new(&body, "messages")).expect("a conversation");
        assert_eq!((read.len(), read[0].tool_calls.len()), (200_001, 50_000));
        assert_eq!(read[200_000].name.as_deref(), Some("f"));
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_result_answers_the_assistants_last_message() {
        let asks = |id: &str| {
            let call = json!({ "type": "tool_use", "id": id, "name": "f", "input": {} });
            json!({ "role": "assistant", "content": [call] })
        };
        let answers = |id: &str| {
            let result = json!({ "type": "tool_result", "tool_use_id": id, "content": "x" });
            json!({ "role": "user", "content": [result] })
        };
        let said = json!({ "role": "user", "content": "x" });
        for (messages, is_fine) in [
            (json!([asks("a"), answers("a")]), true),
            // Joined messages are one.
            (json!([asks("a"), asks("b"), answers("a"), answers("b")]), true),
            (json!([asks("a"), said, asks("b"), answers("a")]), false),
            (json!([said, answers("a")]), false),
        ] {
            assert_eq!(read(None, &Node::new(&messages, "messages")).is_ok(), is_fine, "{messages}");
        }
    }
}
