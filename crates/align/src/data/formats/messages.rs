//! Messages and tools, in OpenAI's shape or ShareGPT's.

use serde_json::{Map, Value};
use zhenjin_conversation::{Message, Role, Tool, ToolCall};

use super::super::errors::{BadKind, Fault};
use super::Unread;
use super::fields::{Fields, meant, shape, wrong};

/// Names of roles that data use, in lower case.
const ROLES: [(&str, Role); 25] = [
    ("system", Role::System),
    ("developer", Role::System),
    ("系统", Role::System),
    ("user", Role::User),
    ("human", Role::User),
    ("prompter", Role::User),
    ("customer", Role::User),
    ("用户", Role::User),
    ("人类", Role::User),
    ("assistant", Role::Assistant),
    ("gpt", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("bot", Role::Assistant),
    ("chatbot", Role::Assistant),
    ("model", Role::Assistant),
    ("ai", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("助手", Role::Assistant),
    ("tool", Role::Tool),
    ("function", Role::Tool),
    ("observation", Role::Tool),
    ("function_response", Role::Tool),
    ("tool_response", Role::Tool),
    ("工具", Role::Tool),
];

/// Fields in which a message says what it says.
const CONTENTS: [&str; 3] = ["content", "value", "text"];

/// Other names that people may give them.
const MISNAMED: [&str; 5] = ["message", "msg", "body", "utterance", "said"];

/// The role of ShareGPT's messages that are a call.
const CALL_ROLES: [&str; 2] = ["function_call", "tool_call"];

/// A list of messages, and the places of those with the weight 0, which are not to be learnt.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) messages: Vec<Message>,
    pub(super) unlearnt: Vec<usize>,
}

/// Refuses a weight of 0 from message `from` on: what was compared or judged counts as a whole.
pub(super) fn judged_as_a_whole(name: &str, unlearnt: &[usize], from: usize) -> Result<(), Fault> {
    match unlearnt.iter().find(|place| **place >= from) {
        None => Ok(()),
        Some(place) => {
            let reason = format!(
                "message {} of `{name}` has the weight 0, but an answer that was compared or judged counts as a whole; leave its weight out",
                place + 1
            );
            Err(Fault::new(BadKind::WrongField, reason))
        }
    }
}

/// Reads a list of messages.
pub(super) fn read(name: &str, value: &Value, unread: &mut Unread) -> Result<Messages, Fault> {
    let items = value.as_array().ok_or_else(|| wrong(name, "a list of messages", value))?;
    let mut read = Messages::default();
    for (place, item) in items.iter().enumerate() {
        let path = format!("{name}[{place}]");
        let (message, is_learnt) = read_one(&path, item, unread)?;
        if !is_learnt {
            read.unlearnt.push(place);
        }
        read.messages.push(message);
    }
    Ok(read)
}

/// Reads one message; `false` beside it where it is not to be learnt.
fn read_one(path: &str, value: &Value, unread: &mut Unread) -> Result<(Message, bool), Fault> {
    let map = value.as_object().ok_or_else(|| wrong(path, "a message (an object)", value))?;
    let fields = Fields::new(map);
    let (name_of_role, role_value) = fields
        .first(&["role", "from"])
        .ok_or_else(|| wrong(path, "a message with `role` and `content` (or `from` and `value`)", value))?;
    let role_text =
        role_value.as_str().ok_or_else(|| wrong(&format!("{path}.{name_of_role}"), "a text", role_value))?;
    let content = fields.first(&CONTENTS);
    let (content_name, content) = content.map_or(("content", None), |(name, value)| (name, Some(value)));
    let content_path = format!("{path}.{content_name}");
    let mut message = if CALL_ROLES.contains(&role_text.to_lowercase().as_str()) {
        call_message(&content_path, content)?
    } else {
        let role = role(path, role_text)?;
        Message::new(role, content.map_or(Ok(String::new()), |content| text_of(&content_path, content))?)
    };
    if message.role == Role::Assistant {
        read_assistants(path, &fields, &mut message)?;
    }
    message.name = fields.text("name")?.map(str::to_owned);
    message.tool_call_id = fields.text("tool_call_id")?.map(str::to_owned);
    let is_learnt = match fields.number("weight")? {
        None => true,
        Some(weight) if weight == 0.0 || weight == 1.0 => weight == 1.0,
        Some(weight) => {
            return Err(Fault::new(BadKind::WrongField, format!("`{path}.weight` is {weight}, not 0 or 1")));
        }
    };
    if content.is_none() && message.content.is_empty() && message.tool_calls.is_empty() {
        check_content_is_named(path, &fields)?;
    }
    for (name, _) in fields.unread() {
        unread.add(format!("messages[].{name}"));
    }
    Ok((message, is_learnt))
}

/// Refuses a message without content that has a field by which content may have been meant.
fn check_content_is_named(path: &str, fields: &Fields<'_>) -> Result<(), Fault> {
    let is_meant = |(name, value): &(&String, &Value)| {
        (value.is_string() || value.is_array())
            && (MISNAMED.contains(&name.to_lowercase().as_str()) || meant(name, &CONTENTS).is_some())
    };
    match fields.unread().into_iter().find(is_meant) {
        None => Ok(()),
        Some((name, _)) => {
            let reason = format!("`{path}` has no `content`; did you mean it by `{name}`?");
            Err(Fault::new(BadKind::WrongField, reason))
        }
    }
}

/// What only the assistant's messages have.
fn read_assistants(path: &str, fields: &Fields<'_>, message: &mut Message) -> Result<(), Fault> {
    for name in ["reasoning_content", "reasoning", "thinking"] {
        match (fields.text(name)?, &message.thought) {
            (Some(thought), Some(earlier)) if thought != earlier => {
                let reason =
                    format!("`{path}.{name}` differs from the thought that stands elsewhere in the message");
                return Err(Fault::new(BadKind::WrongField, reason));
            }
            (Some(thought), _) if !thought.is_empty() => message.thought = Some(thought.to_owned()),
            _ => {}
        }
    }
    if let Some(refusal) = fields.text("refusal")?
        && message.content.is_empty()
    {
        message.content = refusal.to_owned();
    }
    if let Some(calls) = fields.get("tool_calls") {
        let path = format!("{path}.tool_calls");
        let calls = calls.as_array().ok_or_else(|| wrong(&path, "a list of calls", calls))?;
        for (place, call) in calls.iter().enumerate() {
            message.tool_calls.push(read_call(&format!("{path}[{place}]"), call, place)?);
        }
    }
    if let Some(call) = fields.get("function_call") {
        message.tool_calls.push(read_call(&format!("{path}.function_call"), call, message.tool_calls.len())?);
    }
    Ok(())
}

/// ShareGPT's message that is a call: its text is the JSON of one, or of a list.
fn call_message(path: &str, content: Option<&Value>) -> Result<Message, Fault> {
    let missing = || Fault::new(BadKind::WrongField, format!("`{path}` must be the JSON of a call"));
    let parsed;
    let value = match content.ok_or_else(missing)? {
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|_| missing())?;
            &parsed
        }
        other => other,
    };
    let calls = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut message = Message::new(Role::Assistant, "");
    for (place, call) in calls.iter().enumerate() {
        message.tool_calls.push(read_call(&format!("{path}[{place}]"), call, place)?);
    }
    if message.tool_calls.is_empty() { Err(missing()) } else { Ok(message) }
}

/// A call: OpenAI's, or name and arguments alone.
fn read_call(path: &str, value: &Value, place: usize) -> Result<ToolCall, Fault> {
    let function = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| wrong(path, "a call with a `name`", value))?.to_owned();
    let arguments = function.get("arguments").or_else(|| function.get("parameters"));
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).is_ok();
    let arguments = match arguments {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::String(text)) if object(text) => text.clone(),
        Some(arguments @ Value::Object(_)) => arguments.to_string(),
        Some(other) => return Err(wrong(&format!("{path}.arguments"), "a JSON object", other)),
    };
    let id = value.get("id").and_then(Value::as_str).map_or_else(|| format!("call_{place}"), str::to_owned);
    Ok(ToolCall { id, name, arguments })
}

pub(super) fn role(path: &str, text: &str) -> Result<Role, Fault> {
    let lower = text.to_lowercase();
    if let Some((_, role)) = ROLES.iter().find(|(name, _)| *name == lower) {
        return Ok(*role);
    }
    let names = ROLES.map(|(name, _)| name);
    let hint = meant(text, &names).map_or(String::new(), |name| format!(", did you mean `{name}`?"));
    let reason = format!(
        "{path}: nobody knows the role `{text}`{}known are system, user (human), assistant (gpt), tool (observation)",
        if hint.is_empty() { "; ".to_owned() } else { format!("{hint} ") }
    );
    Err(Fault::new(BadKind::UnknownRole, reason))
}

/// A message's content: a text, or parts that are texts.
fn text_of(path: &str, value: &Value) -> Result<String, Fault> {
    let parts = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => return Err(wrong(path, "a text or a list of text parts", other)),
    };
    let mut text = String::new();
    for part in parts {
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text" | "input_text" | "output_text"), Some(part)) => text.push_str(part),
            (Some(kind), _) => {
                let reason = format!("`{path}` has a part of type `{kind}`; only text can be learnt");
                return Err(Fault::new(BadKind::WrongField, reason));
            }
            _ => return Err(wrong(path, "a list of parts with `type` and `text`", part)),
        }
    }
    Ok(text)
}

/// The functions that the assistant could call: a list, or its JSON text.
pub(super) fn read_tools(fields: &Fields<'_>) -> Result<Vec<Tool>, Fault> {
    let Some(value) = fields.get("tools").or_else(|| fields.get("functions")) else { return Ok(Vec::new()) };
    let parsed;
    let value = match value {
        Value::String(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text)
                .map_err(|error| Fault::new(BadKind::WrongField, format!("`tools` is not JSON: {error}")))?;
            &parsed
        }
        other => other,
    };
    let items = value.as_array().ok_or_else(|| wrong("tools", "a list of tools", value))?;
    items.iter().enumerate().map(|(place, item)| read_tool(&format!("tools[{place}]"), item)).collect()
}

fn read_tool(path: &str, value: &Value) -> Result<Tool, Fault> {
    let function = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| wrong(path, "a tool with a `name`", value))?.to_owned();
    let description = function.get("description").and_then(Value::as_str).map(str::to_owned);
    let parameters = function.get("parameters").filter(|parameters| !parameters.is_null()).cloned();
    if let Some(parameters) = parameters.as_ref().filter(|parameters| !parameters.is_object()) {
        return Err(wrong(&format!("{path}.parameters"), "a JSON schema (an object)", parameters));
    }
    Ok(Tool { name, description, parameters })
}

/// An answer that stands alone: a text, a message, or a list of messages that begins with the assistant's.
pub(super) fn read_answer(name: &str, value: &Value, unread: &mut Unread) -> Result<Messages, Fault> {
    let (message, is_learnt) = match value {
        Value::String(text) => (Message::new(Role::Assistant, text.as_str()), true),
        Value::Object(_) => read_one(name, value, unread)?,
        Value::Array(_) => return read(name, value, unread),
        other => return Err(wrong(name, "a text, a message or a list of messages", other)),
    };
    let unlearnt = if is_learnt { Vec::new() } else { vec![0] };
    Ok(Messages { messages: vec![message], unlearnt })
}

/// The marks with which paragraphs of a dialogue in one text begin.
const MARKS: [(&str, Role); 8] = [
    ("Human:", Role::User),
    ("Assistant:", Role::Assistant),
    ("人类：", Role::User),
    ("人类:", Role::User),
    ("用户：", Role::User),
    ("用户:", Role::User),
    ("助手：", Role::Assistant),
    ("助手:", Role::Assistant),
];

/// The mark with which a text begins, and whose it is.
pub(super) fn mark_of(text: &str) -> Option<(&'static str, Role)> {
    MARKS.into_iter().find(|(mark, _)| text.starts_with(*mark))
}

/// Whether a text begins with a mark of this role.
pub(super) fn begins_as(text: &str, role: Role) -> bool {
    mark_of(text).is_some_and(|(_, own)| own == role)
}

fn answer_marks() -> impl Iterator<Item = &'static str> {
    MARKS.into_iter().filter(|(_, role)| *role == Role::Assistant).map(|(mark, _)| mark)
}

/// Whether the assistant's mark stands in a text behind an empty line.
pub(super) fn has_answer(text: &str) -> bool {
    answer_marks().any(|mark| text.contains(&format!("\n\n{mark}")))
}

/// The assistant's mark with which a text ends.
pub(super) fn answer_mark_at_end(text: &str) -> Option<&'static str> {
    answer_marks().find(|mark| text.ends_with(*mark))
}

/// The first of the assistant's marks with which a line of a text begins.
pub(super) fn answer_mark_of_a_line(text: &str) -> Option<&'static str> {
    text.lines().filter_map(mark_of).find(|(_, role)| *role == Role::Assistant).map(|(mark, _)| mark)
}

/// Whether a text looks like a dialogue: it begins with the user's mark, behind an empty line or with the assistant's mark in it.
pub(super) fn is_dialogue(text: &str) -> bool {
    let trimmed = text.trim();
    begins_as(trimmed, Role::User)
        && (text.starts_with(['\n', '\r']) || has_answer(trimmed) || answer_mark_at_end(trimmed).is_some())
}

/// Whether an answer holds lines that begin with the user's mark and then the assistant's: turns that no empty line divides.
pub(super) fn holds_turns(message: &Message) -> bool {
    let mut lines = message.content.lines().skip(1);
    message.role == Role::Assistant
        && lines.any(|line| begins_as(line, Role::User))
        && lines.any(|line| begins_as(line, Role::Assistant))
}

/// Whether two messages say the same, white space at the ends aside.
pub(super) fn is_same(one: &Message, other: &Message) -> bool {
    (one.role, one.content.trim(), &one.tool_calls, &one.thought)
        == (other.role, other.content.trim(), &other.tool_calls, &other.thought)
}

/// Messages without the system messages at their beginning.
pub(super) fn without_system(messages: &[Message]) -> &[Message] {
    let system = messages.iter().take_while(|message| message.role == Role::System).count();
    &messages[system..]
}

/// What is wrong with a dialogue in one text whose turns only single line breaks divide.
pub(super) fn without_empty_line(name: &str, mark: &str) -> String {
    format!(
        "`{name}` has a line that begins with \"{mark}\" and no empty line before it; a dialogue in one text has an empty line \
         before each such mark"
    )
}

/// A dialogue in one text that must end with an answer.
pub(super) fn of_whole_text(name: &str, text: &str) -> Result<Vec<Message>, Fault> {
    let messages = of_text(name, text)?;
    let last = messages.last().filter(|last| last.role != Role::Assistant);
    match last.and_then(|last| answer_mark_of_a_line(&last.content)) {
        None => Ok(messages),
        Some(mark) => Err(Fault::new(BadKind::WrongField, without_empty_line(name, mark))),
    }
}

/// A dialogue written as text: paragraphs that begin with `Human:` or `Assistant:`, or with such marks in Chinese.
pub(super) fn of_text(name: &str, text: &str) -> Result<Vec<Message>, Fault> {
    // The next mark: where its empty line begins and where it ends, without a look behind it: the other one may be far away, or nowhere, and
    // would be looked for at every mark.
    let next = |text: &str| {
        let mut start = 0;
        while let Some(place) = text[start..].find("\n\n").map(|place| start + place) {
            let mark = place + 2;
            if let Some((found, role)) = mark_of(&text[mark..]) {
                return Some((place, mark + found.len(), role));
            }
            start = place + 1;
        }
        None
    };
    // A text may lack the empty line before its first mark, or a part of it.
    let text = format!("\n\n{}", text.trim_start());
    let mut messages = Vec::new();
    let mut rest = text.as_str();
    while let Some((place, behind, role)) = next(rest) {
        if messages.is_empty() && !rest[..place].trim().is_empty() {
            break;
        }
        let after = &rest[behind..];
        let end = next(after).map_or(after.len(), |(place, ..)| place);
        messages.push(Message::new(role, after[..end].trim()));
        rest = &after[end..];
    }
    if messages.is_empty() {
        let found = shape(&Value::from(text.trim_start()));
        let reason = format!(
            "`{name}` must begin with \"Human:\" or \"Assistant:\" (or 人类：, 用户：, 助手：), not with {found}"
        );
        return Err(Fault::new(BadKind::WrongField, reason));
    }
    Ok(messages)
}
