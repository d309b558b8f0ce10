//! Reads the JSON object of one tool call, character by character: its name, and its arguments as they come.
//! Knows no markers around the object; does not check that the arguments are valid JSON beyond where they
//! end.

/// What the next character completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallEvent {
    /// The function's name.
    Name(String),
    /// More of the arguments' JSON text.
    Arguments(String),
    /// The object is complete.
    End,
    /// The character cannot stand in the arguments; the earlier ones were passed on.
    BrokenArguments,
    /// This is no call: not an object, or one with a broken structure.
    Malformed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    BeforeObject,
    BeforeKey,
    Key(String),
    AfterKey(String),
    BeforeValue(String),
    Value { key: String, raw: String, kind: ValueKind, nesting: Vec<char>, in_string: bool, escaped: bool },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueKind {
    Container,
    String,
    Scalar,
}

/// The most levels of nesting in a value.
const MAX_NESTING: usize = 128;
/// The most bytes of a key, or of a value that is not passed on as it comes.
const MAX_HELD_BYTES: usize = 1 << 20;

/// A call's object, read as far as it has come.
#[derive(Clone, Debug)]
pub(crate) struct CallScanner {
    state: State,
}

impl CallScanner {
    /// Before the object.
    pub(crate) fn new() -> CallScanner {
        CallScanner { state: State::BeforeObject }
    }

    /// The next character. After [`CallEvent::End`] and [`CallEvent::Malformed`] there is nothing more to
    /// read.
    pub(crate) fn push(&mut self, character: char, events: &mut Vec<CallEvent>) {
        let state = std::mem::replace(&mut self.state, State::Ended);
        self.state = match state {
            State::BeforeObject if character.is_whitespace() => State::BeforeObject,
            State::BeforeObject if character == '{' => State::BeforeKey,
            State::BeforeKey if character.is_whitespace() || character == ',' => State::BeforeKey,
            State::BeforeKey if character == '"' => State::Key(String::new()),
            State::BeforeKey if character == '}' => end(events),
            State::Key(key) if character == '"' && !ends_escaped(&key) => State::AfterKey(key),
            State::Key(mut key) if key.len() < MAX_HELD_BYTES => {
                key.push(character);
                State::Key(key)
            }
            State::AfterKey(key) if character.is_whitespace() => State::AfterKey(key),
            State::AfterKey(key) if character == ':' => State::BeforeValue(key),
            State::BeforeValue(key) if character.is_whitespace() => State::BeforeValue(key),
            State::BeforeValue(key) => begin_value(key, character, events),
            State::Value { key, raw, kind, nesting, in_string, escaped } => {
                go_on(key, raw, kind, nesting, in_string, escaped, character, events)
            }
            _ => malformed(events),
        };
    }
}

fn end(events: &mut Vec<CallEvent>) -> State {
    events.push(CallEvent::End);
    State::Ended
}

fn malformed(events: &mut Vec<CallEvent>) -> State {
    events.push(CallEvent::Malformed);
    State::Ended
}

fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn is_arguments(key: &str) -> bool {
    matches!(key, "arguments" | "parameters")
}

fn begin_value(key: String, character: char, events: &mut Vec<CallEvent>) -> State {
    let (kind, nesting) = match character {
        '{' => (ValueKind::Container, vec!['}']),
        '[' => (ValueKind::Container, vec![']']),
        '"' => (ValueKind::String, Vec::new()),
        '}' | ']' | ',' | ':' => return malformed(events),
        _ => (ValueKind::Scalar, Vec::new()),
    };
    if kind == ValueKind::Container && is_arguments(&key) {
        events.push(CallEvent::Arguments(character.to_string()));
    }
    State::Value {
        key,
        raw: character.to_string(),
        kind,
        nesting,
        in_string: kind == ValueKind::String,
        escaped: false,
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of State::Value, taken apart")]
fn go_on(
    key: String,
    mut raw: String,
    kind: ValueKind,
    mut nesting: Vec<char>,
    mut in_string: bool,
    mut escaped: bool,
    character: char,
    events: &mut Vec<CallEvent>,
) -> State {
    if kind == ValueKind::Scalar {
        if character != ',' && character != '}' && !character.is_whitespace() {
            raw.push(character);
            return State::Value { key, raw, kind, nesting, in_string, escaped };
        }
        return if character == '}' { end(events) } else { State::BeforeKey };
    }
    let streams = kind == ValueKind::Container && is_arguments(&key);
    let broken = if streams { CallEvent::BrokenArguments } else { CallEvent::Malformed };
    let is_broken = match character {
        _ if in_string => false,
        '{' | '[' => nesting.len() >= MAX_NESTING,
        '}' | ']' => nesting.last() != Some(&character),
        _ => false,
    };
    if is_broken || (!streams && raw.len() >= MAX_HELD_BYTES) {
        events.push(broken);
        return State::Ended;
    }
    if streams {
        push_arguments(events, character);
    } else {
        raw.push(character);
    }
    if in_string {
        in_string = escaped || character != '"';
        escaped = !escaped && character == '\\';
    } else {
        match character {
            '"' => in_string = true,
            '{' => nesting.push('}'),
            '[' => nesting.push(']'),
            '}' | ']' => drop(nesting.pop()),
            _ => {}
        }
    }
    if in_string || !nesting.is_empty() {
        return State::Value { key, raw, kind, nesting, in_string, escaped };
    }
    if kind == ValueKind::String {
        let Ok(text) = serde_json::from_str::<String>(&raw) else { return malformed(events) };
        if key == "name" {
            events.push(CallEvent::Name(text));
        } else if is_arguments(&key) {
            // Some models write the arguments as OpenAI's API does: JSON text inside a JSON string.
            events.push(CallEvent::Arguments(text));
        }
    }
    State::BeforeKey
}

/// Joins characters that come one after the other.
fn push_arguments(events: &mut Vec<CallEvent>, character: char) {
    match events.last_mut() {
        Some(CallEvent::Arguments(text)) => text.push(character),
        _ => events.push(CallEvent::Arguments(character.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Vec<CallEvent> {
        let mut scanner = CallScanner::new();
        let mut events = Vec::new();
        for character in text.chars() {
            scanner.push(character, &mut events);
        }
        events
    }

    #[test]
    fn names_and_arguments_in_any_order_and_spacing() {
        use CallEvent::{Arguments, End, Name};
        let arguments = r#"{"city": "a}\"]{", "days": [1, {"x": null}]}"#;
        let expected = vec![Name("f".to_owned()), Arguments(arguments.to_owned()), End];
        assert_eq!(scan(&format!(r#" {{"name": "f", "arguments": {arguments}}}"#)), expected);
        assert_eq!(
            scan(&format!(
                "{{\n\"type\" : \"function\",\"name\":\"f\",\n \"parameters\":{arguments} , \"n\": 12 }}"
            )),
            expected
        );
        let swapped = vec![Arguments("{}".to_owned()), Name("f".to_owned()), End];
        assert_eq!(scan(r#"{"arguments": {}, "name": "f"}"#), swapped);
        let quoted = vec![Name("f".to_owned()), Arguments(r#"{"a":1}"#.to_owned()), End];
        assert_eq!(scan(r#"{"name": "f", "arguments": "{\"a\":1}"}"#), quoted);
    }

    #[test]
    fn what_is_no_call_is_said_so() {
        for text in
            ["x", "[1]", r#"{"a" 1}"#, r#"{"arguments": }"#, r#"{"arguments": {]}"#, r#"{"name": "\q"}"#]
        {
            assert_eq!(scan(text).last(), Some(&CallEvent::Malformed), "{text}");
        }
        let broken = [CallEvent::Arguments("{".to_owned()), CallEvent::BrokenArguments];
        assert_eq!(scan(r#"{"arguments": {]"#), broken);
        let deep = format!(r#"{{"arguments": {}"#, "[".repeat(200));
        assert_eq!(scan(&deep)[1], CallEvent::BrokenArguments);
    }
}
