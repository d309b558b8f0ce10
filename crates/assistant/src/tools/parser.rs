//! Takes tool calls out of a text that comes in pieces. What turns out to be no call is given back as text:
//! nothing is lost. Knows the formats only through [`super::format`].

use super::call_scanner::{CallEvent, CallScanner};
use crate::answer::thoughts::possible_marker;
use zhenjin_conversation::{CallBeginning, ToolFormat};

/// A part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The model's thought before its answer. The parser itself never finds one.
    Thought(String),
    /// Text for the user.
    Text(String),
    /// Call `index` begins.
    CallBegins { index: usize, name: String },
    /// More of the arguments of call `index`.
    Arguments { index: usize, text: String },
}

#[derive(Clone, Debug)]
enum State {
    /// Nothing but white space so far (in this answer, or since a call).
    AtBeginning,
    /// In text that cannot become a call without a marker.
    InText,
    /// In a list of calls, before the object of one.
    BeforeCall(Listed),
    /// In a list of calls, after the object of one.
    AfterCall,
    /// In the object of a call.
    InCall(Call),
    /// After the object, before the end marker.
    BeforeEndMarker,
    /// In the arguments of an announced call whose JSON broke off: they are passed on as the model writes
    /// them.
    InBrokenArguments,
}

/// What came of a list since its marker, or since the call before.
#[derive(Clone, Debug)]
struct Listed {
    raw: String,
    /// The list's bracket came.
    is_open: bool,
}

#[derive(Clone, Debug)]
struct Call {
    scanner: CallScanner,
    /// Everything since the beginning of the call, marker included, as long as nothing of it was passed on.
    raw: String,
    name: Option<String>,
    /// Arguments that came before the name.
    early_arguments: String,
    /// The call was announced.
    announced: bool,
}

impl Call {
    /// Before its object; `raw` is what came before that.
    fn new(raw: String) -> Call {
        let scanner = CallScanner::new();
        Call { scanner, raw, name: None, early_arguments: String::new(), announced: false }
    }
}

/// An answer's text, read as far as it has come.
#[derive(Clone, Debug)]
pub(crate) struct ToolCallParser {
    format: ToolFormat,
    names: Vec<String>,
    state: State,
    /// Text that may be the beginning of a marker, or white space that may stand around a call.
    held: String,
    calls: usize,
    completed: usize,
    /// The answer is calls and nothing else.
    calls_required: bool,
}

impl ToolCallParser {
    /// For an answer of a model that was told of tools with these names.
    pub(crate) fn new(format: ToolFormat, names: Vec<String>) -> ToolCallParser {
        ToolCallParser {
            format,
            names,
            state: State::AtBeginning,
            held: String::new(),
            calls: 0,
            completed: 0,
            calls_required: false,
        }
    }

    /// The same for an answer that must be calls, if `required`.
    pub(crate) fn where_calls_are_required(self, required: bool) -> ToolCallParser {
        ToolCallParser { calls_required: required, ..self }
    }

    /// The texts around calls.
    pub(crate) fn markers(&self) -> impl Iterator<Item = &'static str> + use<> {
        let beginning = match self.format.beginning() {
            CallBeginning::Marker(marker) | CallBeginning::List(marker) => Some(marker),
            CallBeginning::ObjectFirst => None,
        };
        beginning.into_iter().chain(self.format.other_marker()).chain(self.format.end_marker())
    }

    /// Calls that began so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Calls that are complete, end marker included.
    pub(crate) fn completed(&self) -> usize {
        self.completed
    }

    /// More of the text.
    pub(crate) fn push(&mut self, piece: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for character in piece.chars() {
            match std::mem::replace(&mut self.state, State::InText) {
                State::BeforeCall(listed) => self.state = before_call(listed, character, &mut parts),
                State::AfterCall => self.after_call(character, &mut parts),
                State::InCall(call) => self.state = self.in_call(call, character, &mut parts),
                State::BeforeEndMarker => self.before_end_marker(character, &mut parts),
                State::InBrokenArguments => self.in_broken_arguments(character, &mut parts),
                state => self.in_text(state, character, &mut parts),
            }
        }
        parts
    }

    /// The rest of an answer that has come to its end. `is_cut`: not by the model's own decision.
    ///
    /// A call that was begun and not announced is no call, and mostly no text for the user either.
    pub(crate) fn finish(&mut self, is_cut: bool) -> Vec<Part> {
        let mut parts = Vec::new();
        let is_after_marker = self.format.beginning() != CallBeginning::ObjectFirst;
        let was_to_be_call = self.calls_required || self.completed > 0 || (is_cut && is_after_marker);
        match std::mem::replace(&mut self.state, State::InText) {
            State::InCall(Call { announced: false, raw, .. }) | State::BeforeCall(Listed { raw, .. }) => {
                if !was_to_be_call {
                    push_text(&mut parts, &raw);
                }
            }
            State::InCall(_) | State::AfterCall => {}
            // The object was complete; the model only left out (a part of) the end marker.
            State::BeforeEndMarker => {
                self.completed += 1;
                self.held.clear();
            }
            State::InBrokenArguments => {
                push_arguments(&mut parts, self.calls - 1, &std::mem::take(&mut self.held))
            }
            State::AtBeginning if self.calls > 0 => self.held.clear(),
            // Of a marker that was begun.
            State::AtBeginning | State::InText if self.calls_required => self.held.clear(),
            State::AtBeginning | State::InText => {}
        }
        push_text(&mut parts, &std::mem::take(&mut self.held));
        parts
    }

    fn in_text(&mut self, state: State, character: char, parts: &mut Vec<Part>) {
        let is_separator = character.is_whitespace() || (character == ';' && self.calls > 0);
        if matches!(state, State::AtBeginning) && is_separator {
            self.held.push(character);
            self.state = State::AtBeginning;
            return;
        }
        match self.format.beginning() {
            CallBeginning::ObjectFirst if matches!(state, State::AtBeginning) && character == '{' => {
                let mut call = Call::new(std::mem::take(&mut self.held));
                call.scanner.push(character, &mut Vec::new());
                call.raw.push(character);
                self.state = State::InCall(call);
            }
            CallBeginning::ObjectFirst => {
                self.held.push(character);
                push_text(parts, &std::mem::take(&mut self.held));
            }
            CallBeginning::Marker(marker) | CallBeginning::List(marker) => {
                self.held.push(character);
                let markers = [Some(marker), self.format.other_marker()];
                let markers = markers.into_iter().flatten();
                if let Some(marker) = markers.clone().find(|marker| self.held.ends_with(*marker)) {
                    let raw = std::mem::take(&mut self.held);
                    // White space around calls is not text; anything else before the marker is.
                    let before = &raw[..raw.len() - marker.len()];
                    if !before.trim().is_empty() {
                        push_text(parts, before);
                    }
                    let raw = marker.to_owned();
                    self.state = if self.is_in_list() {
                        State::BeforeCall(Listed { raw, is_open: false })
                    } else {
                        State::InCall(Call::new(raw))
                    };
                    return;
                }
                let possible = markers.map(|marker| possible_marker(&self.held, marker)).max().unwrap_or(0);
                let kept = self.held.split_off(self.held.len() - possible);
                let text = std::mem::replace(&mut self.held, kept);
                if text.chars().all(|c| c.is_whitespace()) && matches!(state, State::AtBeginning) {
                    self.held.insert_str(0, &text);
                    self.state = State::AtBeginning;
                } else {
                    push_text(parts, &text);
                }
            }
        }
    }

    fn in_call(&mut self, mut call: Call, character: char, parts: &mut Vec<Part>) -> State {
        let mut events = Vec::new();
        call.scanner.push(character, &mut events);
        if !call.announced {
            call.raw.push(character);
        }
        for event in events {
            match event {
                CallEvent::Name(name) => call.name = Some(name),
                CallEvent::Arguments(text) if call.announced => push_arguments(parts, self.calls - 1, &text),
                CallEvent::Arguments(text) => call.early_arguments.push_str(&text),
                CallEvent::End if self.is_call(&call) => {
                    self.announce(&mut call, parts);
                    if self.format.end_marker().is_some() {
                        return State::BeforeEndMarker;
                    }
                    self.completed += 1;
                    return if self.is_in_list() { State::AfterCall } else { State::AtBeginning };
                }
                // An announced call whose JSON breaks off stays a call, with the arguments as the model wrote
                // them.
                CallEvent::BrokenArguments if call.announced => {
                    push_arguments(parts, self.calls - 1, &character.to_string());
                    return State::InBrokenArguments;
                }
                CallEvent::Malformed if call.announced && self.is_in_list() => {
                    self.completed += 1;
                    self.after_call(character, parts);
                    return std::mem::replace(&mut self.state, State::InText);
                }
                CallEvent::Malformed if call.announced => {
                    self.before_end_marker(character, parts);
                    return std::mem::replace(&mut self.state, State::InText);
                }
                CallEvent::End | CallEvent::Malformed | CallEvent::BrokenArguments => {
                    push_text(parts, &call.raw);
                    return State::InText;
                }
            }
        }
        if !call.announced && !call.early_arguments.is_empty() && self.is_call(&call) {
            self.announce(&mut call, parts);
        }
        State::InCall(call)
    }

    /// Whether calls stand in lists.
    fn is_in_list(&self) -> bool {
        matches!(self.format.beginning(), CallBeginning::List(_))
    }

    /// Between markers any name counts, as the model plainly meant a call. A bare object counts if it names
    /// one of the tools and has arguments; otherwise it is JSON that the user asked for.
    fn is_call(&self, call: &Call) -> bool {
        match (&call.name, self.format.beginning()) {
            (None, _) => false,
            (Some(_), CallBeginning::Marker(_) | CallBeginning::List(_)) => true,
            (Some(name), CallBeginning::ObjectFirst) => {
                self.names.contains(name) && (call.announced || !call.early_arguments.is_empty())
            }
        }
    }

    fn announce(&mut self, call: &mut Call, parts: &mut Vec<Part>) {
        if call.announced {
            return;
        }
        let index = self.calls;
        self.calls += 1;
        call.announced = true;
        call.raw = String::new();
        parts.push(Part::CallBegins { index, name: call.name.clone().unwrap_or_default() });
        let arguments = std::mem::take(&mut call.early_arguments);
        // A call without arguments has an empty object of them.
        push_arguments(parts, index, if arguments.is_empty() { "{}" } else { &arguments });
    }

    /// Expects the end marker, after white space. A model that goes on with something else has left the
    /// marker out.
    fn before_end_marker(&mut self, character: char, parts: &mut Vec<Part>) {
        self.held.push(character);
        let Some(marker) = self.format.end_marker() else { return };
        let seen = self.held.trim_start();
        if !marker.starts_with(seen) {
            self.completed += 1;
            let rest = std::mem::take(&mut self.held);
            self.state = State::AtBeginning;
            self.as_text(&rest, parts);
        } else if seen == marker {
            self.completed += 1;
            self.held.clear();
            self.state = State::AtBeginning;
        } else {
            self.state = State::BeforeEndMarker;
        }
    }

    /// Expects the next call of a list, or its end. A model that goes on with something else has left its end out.
    fn after_call(&mut self, character: char, parts: &mut Vec<Part>) {
        self.state = match character {
            ',' => State::BeforeCall(Listed { raw: String::new(), is_open: true }),
            ']' => State::AtBeginning,
            space if space.is_whitespace() => State::AfterCall,
            _ => {
                self.state = State::AtBeginning;
                return self.as_text(&character.to_string(), parts);
            }
        };
    }

    /// Reads on outside calls.
    fn as_text(&mut self, text: &str, parts: &mut Vec<Part>) {
        for character in text.chars() {
            let state = std::mem::replace(&mut self.state, State::InText);
            self.in_text(state, character, parts);
        }
    }

    fn in_broken_arguments(&mut self, character: char, parts: &mut Vec<Part>) {
        self.held.push(character);
        let marker = self.format.end_marker().unwrap_or_default();
        let is_complete = !marker.is_empty() && self.held.ends_with(marker);
        let kept = if is_complete { marker.len() } else { possible_marker(&self.held, marker) };
        let rest = self.held.split_off(self.held.len() - kept);
        push_arguments(parts, self.calls - 1, &std::mem::replace(&mut self.held, rest));
        self.state = State::InBrokenArguments;
        if is_complete {
            self.completed += 1;
            self.held.clear();
            self.state = State::AtBeginning;
        }
    }
}

/// Expects the bracket of a list, and the object of a call. Some models write a call alone, without the bracket.
fn before_call(listed: Listed, character: char, parts: &mut Vec<Part>) -> State {
    let Listed { mut raw, is_open } = listed;
    raw.push(character);
    match character {
        '[' if !is_open => State::BeforeCall(Listed { raw, is_open: true }),
        '{' => {
            let mut call = Call::new(raw);
            call.scanner.push(character, &mut Vec::new());
            State::InCall(call)
        }
        space if space.is_whitespace() => State::BeforeCall(Listed { raw, is_open }),
        _ => {
            push_text(parts, &raw);
            State::InText
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn push_arguments(parts: &mut Vec<Part>, call: usize, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Arguments { index, text: last }) if *index == call => last.push_str(text),
        _ => parts.push(Part::Arguments { index: call, text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text and calls (name, arguments), however the text is cut.
    fn parse(format: ToolFormat, text: &str, step: usize) -> (String, Vec<(String, String)>) {
        let mut parser = ToolCallParser::new(format, vec!["f".to_owned(), "g".to_owned()]);
        let (mut shown, mut calls) = (String::new(), Vec::new());
        let characters: Vec<char> = text.chars().collect();
        let mut parts: Vec<Part> = characters
            .chunks(step)
            .flat_map(|chunk| parser.push(&chunk.iter().collect::<String>()))
            .collect();
        parts.extend(parser.finish(false));
        for part in parts {
            match part {
                Part::Text(text) => shown.push_str(&text),
                Part::CallBegins { index, name } => {
                    assert_eq!(index, calls.len());
                    calls.push((name, String::new()));
                }
                Part::Arguments { index, text } => calls[index].1.push_str(&text),
                Part::Thought(_) => unreachable!("the parser knows no thoughts"),
            }
        }
        assert_eq!(parser.calls(), calls.len());
        (shown, calls)
    }

    fn expect(format: ToolFormat, text: &str, shown: &str, calls: &[(&str, &str)]) {
        let calls: Vec<(String, String)> =
            calls.iter().map(|&(name, arguments)| (name.to_owned(), arguments.to_owned())).collect();
        for step in [1, 2, 3, 7, 1000] {
            assert_eq!(
                parse(format, text, step),
                (shown.to_owned(), calls.clone()),
                "{text:?} in steps of {step}"
            );
        }
    }

    #[test]
    fn hermes_calls_and_text() {
        let hermes =
            |text: &str, shown: &str, calls: &[(&str, &str)]| expect(ToolFormat::Hermes, text, shown, calls);
        hermes("Hello <tool", "Hello <tool", &[]);
        hermes(
            "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\"}}\n</tool_call>\n",
            "Let me see.\n",
            &[("f", "{\"a\": \"}</tool_call>\"}")],
        );
        hermes(
            "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"arguments\":{\"b\":1},\"name\":\"other\"}</tool_call>",
            "",
            &[("f", "{}"), ("other", "{\"b\":1}")],
        );
        hermes("<tool_call>{\"name\": \"f\"}</tool_call>", "", &[("f", "{}")]);
        hermes("<tool_call>\nnonsense</tool_call> x", "<tool_call>\nnonsense</tool_call> x", &[]);
        hermes("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ", "", &[("f", "{\"a\": ")]);
        hermes("<tool_call>{\"name\": \"f", "<tool_call>{\"name\": \"f", &[]);
        hermes("<tool_call>{\"name\":\"f\",\"arguments\":{}} and <b>", " and <b>", &[("f", "{}")]);
        hermes("<tool_call>{\"name\":\"f\",\"arguments\":{]]</x}</tool_call>", "", &[("f", "{]]</x}")]);
        hermes("\n  indented", "\n  indented", &[]);
    }

    #[test]
    fn llama_calls_and_json_that_is_no_call() {
        let llama = |text: &str, shown: &str, calls: &[(&str, &str)]| {
            expect(ToolFormat::LlamaJson, text, shown, calls)
        };
        llama("{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "", &[("f", "{\"a\": 1}")]);
        llama(
            "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}",
            "",
            &[("f", "{}"), ("g", "{}")],
        );
        llama("{\"name\": \"Bob\", \"parameters\": {}}", "{\"name\": \"Bob\", \"parameters\": {}}", &[]);
        llama("{\"name\": \"f\", \"age\": 3} ok", "{\"name\": \"f\", \"age\": 3} ok", &[]);
        llama(
            "Sure: {\"name\": \"f\", \"parameters\": {}}",
            "Sure: {\"name\": \"f\", \"parameters\": {}}",
            &[],
        );
    }

    #[test]
    fn lists_of_calls_and_text() {
        let list = |text: &str, shown: &str, calls: &[(&str, &str)]| {
            expect(ToolFormat::JsonList, text, shown, calls)
        };
        list("<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": [1]}}]", "", &[("f", "{\"a\": [1]}")]);
        list(
            "Let me see.\n<|tool_call|> [\n  {\"arguments\": {}, \"name\": \"f\"},\n  {\"name\": \"other\"}\n]\n",
            "Let me see.\n",
            &[("f", "{}"), ("other", "{}")],
        );
        // As Phi-4-mini ends it, without brackets, and with a second list.
        list(
            "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>",
            "<|/tool_call|>",
            &[("f", "{}")],
        );
        list("<|tool_call|>{\"name\": \"f\", \"arguments\": {}}", "", &[("f", "{}")]);
        list(
            "<|tool_call|>[{\"name\": \"f\"}]<|tool_call|>[{\"name\": \"g\"}] x",
            " x",
            &[("f", "{}"), ("g", "{}")],
        );
        for text in
            ["<|tool_call|>[]", "<|tool_call|>[[", "<|tool_call|> no", "<|tool_ca", "[{\"name\": \"f\"}]"]
        {
            list(text, text, &[]);
        }
        list("<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": ", "", &[("f", "{\"a\": ")]);
        for text in ["<tool_call>", "<tool_call>x", "a <tool_call> b", "<tool_|tool_call|>"] {
            list(text, text, &[]);
        }
        list("<|tool_call|>[{\"name\": \"f\"", "<|tool_call|>[{\"name\": \"f\"", &[]);
        list("<|tool_call|>[{\"name\": \"f\"} and", "and", &[("f", "{}")]);
        list("<|tool_call|>[{\"name\": \"f\", \"arguments\": {}] so", " so", &[("f", "{}")]);
    }

    /// Regression: the lists that Granite 3.1 writes behind `<tool_call>` were text.
    #[test]
    fn lists_begin_with_the_other_marker_too() {
        for (text, shown, calls) in [
            ("<tool_call>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", "", vec![("f", "{\"a\": 1}")]),
            ("So: <tool_call>{\"name\": \"f\"}", "So: ", vec![("f", "{}")]),
            (
                "<|tool_call|>[{\"name\": \"f\"}]\n<tool_call>[{\"name\": \"g\"}]",
                "",
                vec![("f", "{}"), ("g", "{}")],
            ),
        ] {
            expect(ToolFormat::JsonList, text, shown, &calls);
        }
    }

    /// Regression: an answer that was cut in a call showed the beginning of the model's notation as its text.
    #[test]
    fn a_call_that_is_cut_before_its_name_is_no_text() {
        let shown = |format: ToolFormat, text: &str, required: bool, is_cut: bool| {
            let names = vec!["f".to_owned()];
            let mut parser = ToolCallParser::new(format, names).where_calls_are_required(required);
            let parts = parser.push(text).into_iter().chain(parser.finish(is_cut));
            let texts = parts.filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
            texts.collect::<String>()
        };
        let whole = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n";
        for end in ["", "<tool", "<tool_call>", "<tool_call>\n{\"name\": \"f"] {
            for is_cut in [false, true] {
                assert_eq!(shown(ToolFormat::Hermes, end, true, is_cut), "", "{end}");
                let after = format!("{whole}{end}");
                assert_eq!(shown(ToolFormat::Hermes, &after, false, is_cut), "", "{end}");
            }
        }
        let begun = "Let me see. <tool_call>\n{\"name\": \"f";
        assert_eq!(shown(ToolFormat::Hermes, begun, false, true), "Let me see. ");
        // What the model ended itself, or what only looks like a beginning, is text.
        assert_eq!(shown(ToolFormat::Hermes, begun, false, false), begun);
        assert_eq!(shown(ToolFormat::Hermes, "Hello <tool", false, true), "Hello <tool");
        let object = "{\"name\": \"f\", \"parameters\": ";
        assert_eq!(shown(ToolFormat::LlamaJson, object, false, true), object);
        assert_eq!(shown(ToolFormat::LlamaJson, object, true, true), "");
        let second = format!("{object}{{}}}}; {object}");
        assert_eq!(shown(ToolFormat::LlamaJson, &second, false, true), "");
    }

    proptest! {
        #[test]
        fn text_without_calls_is_unchanged(text in "[ <tol_ca>{}\"n;\n好]{0,40}", step in 1usize..9) {
            prop_assume!(!text.contains("<tool_call>"));
            prop_assert_eq!(parse(ToolFormat::Hermes, &text, step), (text.clone(), vec![]));
            prop_assert_eq!(parse(ToolFormat::LlamaJson, &text, step), (text.clone(), vec![]));
        }

        #[test]
        fn pieces_of_lists_do_not_matter(text in r#"(<\|tool_call\|>|<tool_call>|\[|\]|,|\{"name": "f", "arguments": |\{|\}|"|x| ){0,12}"#, step in 1usize..9) {
            prop_assert_eq!(parse(ToolFormat::JsonList, &text, step), parse(ToolFormat::JsonList, &text, 1000));
        }

        #[test]
        fn pieces_do_not_matter(text in r#"(<tool_call>|</tool_call>|\{"name": "f", "arguments": |\{|\}|"|x| ){0,12}"#, step in 1usize..9) {
            prop_assert_eq!(parse(ToolFormat::Hermes, &text, step), parse(ToolFormat::Hermes, &text, 1000));
        }
    }
}
