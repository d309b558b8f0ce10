//! The conversation as items: messages, calls, results, thoughts.

use std::collections::HashMap;

use serde_json::{Value, json};
use zhenjin_assistant::{Message, Role, ToolCall};
use zhenjin_store::Owner;

use super::recent::RecentItems;
use super::sealed::unseal;
use crate::errors::ApiError;
use crate::openai::request::limits;
use crate::openai::request::node::Node;

/// Takes `input` apart.
pub(super) fn read(node: &Node<'_>, recent: &RecentItems, owner: &Owner) -> Result<Vec<Message>, ApiError> {
    if node.value.is_string() {
        return Ok(vec![Message::new(Role::User, node.text()?)]);
    }
    if !node.value.is_array() {
        return Err(node.error("must be a string or a list of items"));
    }
    let mut read = Conversation::default();
    for item in node.list()? {
        let kind = item.entries()?.get("type").and_then(Value::as_str);
        if kind != Some("item_reference") && (kind.is_some() || item.entries()?.contains_key("role")) {
            read.item(&item)?;
            continue;
        }
        // Only `id` is required of a reference.
        let id = item.object(&["type", "id"])?.required("id")?;
        let Some(found) = recent.get(owner, id.text()?) else {
            let message = format!(
                "refers to the item `{}`, which is not remembered here: answers are not stored; send the item itself, or set `store` \
                 to false so that your client does",
                id.text()?
            );
            return Err(id.error(message).with_code("item_not_found"));
        };
        read.item(&Node::new(&found, item.path.clone()))?;
    }
    if read.messages.is_empty() {
        return Err(node.error("must hold at least one message"));
    }
    Ok(read.messages)
}

/// The conversation so far.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// The calls so far by their ids, each with its message. Searching the messages for each of very many results would take
    /// time that grows with their square.
    calls: HashMap<String, Call>,
    /// A thought whose message is still to come.
    thought: Option<String>,
}

/// A call that a result may answer.
struct Call {
    /// How many messages there were when it came, its own included.
    message: usize,
    function: String,
}

impl Conversation {
    fn item(&mut self, item: &Node<'_>) -> Result<(), ApiError> {
        let before = self.messages.len();
        if item.entries()?.get("type").is_some_and(|kind| kind == "reasoning") {
            self.thought = read_reasoning(item)?;
            return Ok(());
        }
        read_item(item, self)?;
        // A thought belongs to the assistant's message after it.
        if let Some(message) = self.messages.get_mut(before..).and_then(|new| new.first_mut()) {
            let thought = self.thought.take();
            if message.role == Role::Assistant {
                message.thought = thought;
            }
        }
        Ok(())
    }

    /// Takes note of a call of the last message. Of calls with one id that of the latest message counts, and the first in it.
    fn remember(&mut self, id: &str, function: &str) {
        let message = self.messages.len();
        if self.calls.get(id).is_none_or(|earlier| earlier.message != message) {
            self.calls.insert(id.to_owned(), Call { message, function: function.to_owned() });
        }
    }
}

fn read_item(item: &Node<'_>, conversation: &mut Conversation) -> Result<(), ApiError> {
    let kind = item.entries()?.get("type").filter(|kind| !kind.is_null());
    match kind.map(|kind| kind.as_str()) {
        None | Some(Some("message")) => read_message(item, &mut conversation.messages),
        Some(Some("function_call")) => read_call(item, conversation),
        Some(Some("function_call_output")) => read_output(item, conversation),
        _ => {
            let kind = item.peek("type")?;
            let message = format!(
                "is {}, which is not supported here: known are message, function_call, function_call_output, reasoning and \
                 item_reference",
                kind.value
            );
            Err(kind.error(message).with_code("unsupported_value"))
        }
    }
}

fn read_message(item: &Node<'_>, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let fields = item.object(&["type", "role", "content", "id", "status", "phase"])?;
    let role = fields.required("role")?;
    let speaker = match role.text()? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            return Err(role.error(format!("must be system, developer, user or assistant, not `{other}`")));
        }
    };
    let content = read_content(&fields.required("content")?)?;
    messages.push(Message::new(speaker, content));
    Ok(())
}

/// A text, or text parts, which are joined as they stand.
fn read_content(node: &Node<'_>) -> Result<String, ApiError> {
    if node.value.is_string() {
        return node.text().map(str::to_owned);
    }
    if !node.value.is_array() {
        return Err(node.error("must be a string or a list of text parts"));
    }
    let mut content = String::new();
    for part in node.list()? {
        let kind = part.peek("type")?;
        let text = match kind.text()? {
            "input_text" | "output_text" | "text" => part
                .object(&["type", "text", "annotations", "logprobs", "parsed", "prompt_cache_breakpoint"])?
                .required("text")?,
            "refusal" => part.object(&["type", "refusal"])?.required("refusal")?,
            other @ ("input_image" | "input_file" | "input_audio" | "input_video") => {
                return Err(kind
                    .error(format!("`{other}` is not supported here: models read text only"))
                    .with_code("unsupported_value"));
            }
            other => {
                return Err(kind.error(format!("must be input_text, output_text or refusal, not `{other}`")));
            }
        };
        content.push_str(text.text()?);
    }
    Ok(content)
}

fn read_call(item: &Node<'_>, conversation: &mut Conversation) -> Result<(), ApiError> {
    let fields = item.object(&[
        "type",
        "id",
        "call_id",
        "name",
        "arguments",
        "status",
        "caller",
        "namespace",
        "async",
        "parsed_arguments",
    ])?;
    let call = ToolCall {
        id: fields.required("call_id")?.text()?.to_owned(),
        name: fields.required("name")?.text()?.to_owned(),
        arguments: fields.required("arguments")?.text()?.to_owned(),
    };
    let (id, function) = (call.id.clone(), call.name.clone());
    // What the assistant says and the calls that it makes thereby are one message.
    match conversation.messages.last_mut() {
        Some(last) if last.role == Role::Assistant => {
            if last.tool_calls.len() >= limits::TOOL_CALLS {
                return Err(
                    item.error(format!("is more than the {} calls of one answer", limits::TOOL_CALLS))
                );
            }
            last.tool_calls.push(call);
        }
        _ => {
            let message = Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") };
            conversation.messages.push(message);
        }
    }
    conversation.remember(&id, &function);
    Ok(())
}

fn read_output(item: &Node<'_>, conversation: &mut Conversation) -> Result<(), ApiError> {
    let fields =
        item.object(&["type", "id", "call_id", "output", "status", "name", "caller", "namespace"])?;
    let node = fields.required("call_id")?;
    let id = node.text()?;
    let Some(call) = conversation.calls.get(id) else {
        return Err(node.error(format!("answers the call `{id}`, which no item before it made")));
    };
    let name = Some(call.function.clone());
    let content = read_content(&fields.required("output")?)?;
    let result = Message { tool_call_id: Some(id.to_owned()), name, ..Message::new(Role::Tool, content) };
    conversation.messages.push(result);
    Ok(())
}

/// The thought, from whichever of its forms the client kept.
fn read_reasoning(item: &Node<'_>) -> Result<Option<String>, ApiError> {
    let fields = item.object(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
    let mut texts = Vec::new();
    for (name, part) in [("content", "reasoning_text"), ("summary", "summary_text")] {
        let mut text = String::new();
        if let Some(parts) = fields.get(name) {
            for node in parts.list()? {
                let kind = node.peek("type")?;
                if kind.value != part {
                    return Err(kind.error(format!("must be {part}")));
                }
                text.push_str(node.object(&["type", "text"])?.required("text")?.text()?);
            }
        }
        texts.push(text);
    }
    let sealed = fields.get("encrypted_content").map(|node| node.text()).transpose()?;
    // What another server sealed cannot be read here.
    let opened = sealed.and_then(unseal).into_iter();
    Ok([texts.swap_remove(0)].into_iter().chain(opened).chain(texts).find(|text| !text.is_empty()))
}

pub(super) fn schema() -> Value {
    let text = json!({ "type": "string" });
    let part = json!({ "type": "object", "required": ["type", "text"], "additionalProperties": false, "properties": {
        "type": { "enum": ["input_text", "output_text", "text"] }, "text": text, "annotations": {}, "logprobs": {}, "parsed": {},
        "prompt_cache_breakpoint": {} } });
    let refusal = json!({ "type": "object", "required": ["type", "refusal"], "additionalProperties": false,
        "properties": { "type": { "const": "refusal" }, "refusal": text } });
    let content = json!({ "anyOf": [text, { "type": "array", "items": { "anyOf": [part, refusal] } }] });
    let item = |kind: Value, required: Value, properties: Value| {
        let mut schema = json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties });
        schema["properties"]["type"] = kind;
        for name in ["id", "status"] {
            schema["properties"][name] = json!({ "type": ["string", "null"] });
        }
        schema
    };
    let message = item(
        json!({ "enum": ["message", null] }),
        json!(["role", "content"]),
        json!({ "role": { "enum": ["system", "developer", "user", "assistant"] }, "content": content, "phase": {} }),
    );
    let call = item(
        json!({ "const": "function_call" }),
        json!(["type", "call_id", "name", "arguments"]),
        json!({ "call_id": text, "name": text, "arguments": text, "caller": {}, "namespace": {}, "async": {}, "parsed_arguments": {} }),
    );
    let output = item(
        json!({ "const": "function_call_output" }),
        json!(["type", "call_id", "output"]),
        json!({ "call_id": text, "output": content, "name": {}, "caller": {}, "namespace": {} }),
    );
    let texts = |kind: &str| {
        let part = json!({ "type": "object", "required": ["type", "text"], "additionalProperties": false,
            "properties": { "type": { "const": kind }, "text": text } });
        json!({ "type": ["array", "null"], "items": part })
    };
    let reasoning = item(
        json!({ "const": "reasoning" }),
        json!(["type"]),
        json!({ "summary": texts("summary_text"), "content": texts("reasoning_text"),
            "encrypted_content": { "type": ["string", "null"] } }),
    );
    let reference = json!({ "type": "object", "required": ["type", "id"], "additionalProperties": false,
        "properties": { "type": { "const": "item_reference" }, "id": text } });
    json!({ "anyOf": [text, { "type": "array", "minItems": 1, "items": { "anyOf": [message, call, output, reasoning, reference] } }] })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn read_all(items: &Value) -> Result<Vec<Message>, ApiError> {
        read(&Node::new(items, "input"), &RecentItems::default(), &Owner::Local)
    }

    /// For each result the messages before it were once searched, which took minutes for a request within the limits.
    #[test]
    fn very_many_results_of_one_call_are_read_at_once() {
        let mut items =
            vec![json!({ "type": "function_call", "call_id": "a", "name": "f", "arguments": "{}" })];
        items.resize(200_001, json!({ "type": "function_call_output", "call_id": "a", "output": "" }));
        let body = Value::Array(items);
        let begun = Instant::now();
        assert_eq!(read_all(&body).expect("a conversation").len(), 200_001);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_result_has_the_name_of_the_latest_call_of_its_id() {
        let call =
            |name: &str| json!({ "type": "function_call", "call_id": "a", "name": name, "arguments": "{}" });
        let result = json!({ "type": "function_call_output", "call_id": "a", "output": "x" });
        let items = json!([call("f"), call("g"), result, call("h"), result]);
        let read = read_all(&items).expect("a conversation");
        let names: Vec<Option<&str>> = read.iter().map(|message| message.name.as_deref()).collect();
        assert_eq!(names, [None, Some("f"), None, Some("h")]);
        let unknown = read_all(&json!([result])).expect_err("no call");
        assert!(
            unknown.message().starts_with("`input[0].call_id` answers the call `a`"),
            "{}",
            unknown.message()
        );
    }
}
