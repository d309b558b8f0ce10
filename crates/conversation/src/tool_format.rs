//! The ways in which models write tool calls. To add one: a variant here, its recognition in
//! [`ToolFormat::of_rendering`], its texts in the functions below, and its beginning in the parser of calls.
//! Nothing else knows the formats apart.

use serde_json::Value;
use zhenjin_tokenizer::ChatTemplate;

use crate::message::ToolCall;

/// Before a list of calls.
const LIST_MARKER: &str = "<|tool_call|>";

/// How a model writes a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>` {"name": …, "arguments": {…}} `</tool_call>`: Hermes, Qwen 2.5, Qwen 3.
    Hermes,
    /// {"name": …, "parameters": {…}} as the whole answer: Llama 3.1 and later.
    LlamaJson,
    /// `<|tool_call|>` [{"name": …, "arguments": {…}}, …]: Granite 3, Phi-4-mini.
    JsonList,
}

/// Where a call begins in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallBeginning {
    /// After this marker, anywhere.
    Marker(&'static str),
    /// In a list after this marker, anywhere.
    List(&'static str),
    /// With an object at the beginning of the answer, or after another call.
    ObjectFirst,
}

impl ToolFormat {
    /// The format in which a template wrote a call to `name`, found in what it rendered; `None` if it is none
    /// of those known here. The call must be the last place where the name stands.
    pub fn of_rendering(text: &str, name: &str) -> Option<ToolFormat> {
        let (before, after) = text.split_at(text.rfind(name)?);
        let behind_marker = before.rfind(LIST_MARKER).map(|marker| &before[marker + LIST_MARKER.len()..]);
        let in_list = behind_marker.is_some_and(|list| list.trim_start().starts_with(['[', '{']));
        if in_list && after.contains("\"arguments\"") {
            return Some(ToolFormat::JsonList);
        }
        if let Some(marker) = before.rfind("<tool_call>") {
            let object = before[marker + "<tool_call>".len()..].trim_start();
            // Other formats put something else than JSON between the same markers.
            return (object.starts_with('{') && after.contains("\"arguments\""))
                .then_some(ToolFormat::Hermes);
        }
        (before.ends_with('"') && after.contains("\"parameters\"")).then_some(ToolFormat::LlamaJson)
    }

    /// The format that a template tells the model to write calls in, where it writes none itself, as Granite's; `None` if it is none of those
    /// known here.
    pub fn of_instructions(template: &ChatTemplate) -> Option<ToolFormat> {
        template.mentions(LIST_MARKER).then_some(ToolFormat::JsonList)
    }

    /// How a call begins.
    pub fn beginning(self) -> CallBeginning {
        match self {
            ToolFormat::Hermes => CallBeginning::Marker("<tool_call>"),
            ToolFormat::LlamaJson => CallBeginning::ObjectFirst,
            ToolFormat::JsonList => CallBeginning::List(LIST_MARKER),
        }
    }

    /// What models of this format write before a call too: Granite 3.1 before its lists.
    pub fn other_marker(self) -> Option<&'static str> {
        (self == ToolFormat::JsonList).then_some("<tool_call>")
    }

    /// Calls as the model writes them: the marker before them, where it is one for all, and the rest.
    pub fn written(self, calls: &[ToolCall]) -> (&'static str, String) {
        let mut text = String::new();
        for call in calls {
            let CallTexts { before_arguments, after_arguments, between_calls } = self.call_texts(&call.name);
            if !text.is_empty() {
                text.push_str(between_calls);
            }
            text.push_str(&before_arguments);
            text.push_str(&call.arguments);
            text.push_str(after_arguments);
        }
        match self.beginning() {
            CallBeginning::List(marker) => (marker, format!("[{text}]")),
            CallBeginning::Marker(_) | CallBeginning::ObjectFirst => ("", text),
        }
    }

    /// What follows the object of a call.
    pub fn end_marker(self) -> Option<&'static str> {
        match self {
            ToolFormat::Hermes => Some("</tool_call>"),
            ToolFormat::LlamaJson | ToolFormat::JsonList => None,
        }
    }

    /// The text of a call up to its arguments, the text after them, and what stands between two calls.
    pub fn call_texts(self, name: &str) -> CallTexts {
        let name = Value::from(name);
        match self {
            ToolFormat::Hermes => CallTexts {
                before_arguments: format!("<tool_call>\n{{\"name\": {name}, \"arguments\": "),
                after_arguments: "}\n</tool_call>",
                between_calls: "\n",
            },
            ToolFormat::LlamaJson => CallTexts {
                before_arguments: format!("{{\"name\": {name}, \"parameters\": "),
                after_arguments: "}",
                between_calls: "; ",
            },
            ToolFormat::JsonList => CallTexts {
                before_arguments: format!("{{\"name\": {name}, \"arguments\": "),
                after_arguments: "}",
                between_calls: ", ",
            },
        }
    }
}

/// The fixed texts of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTexts {
    /// Up to its arguments.
    pub before_arguments: String,
    /// Behind them.
    pub after_arguments: &'static str,
    /// Between two calls.
    pub between_calls: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_as_the_model_writes_them() {
        let call = |name: &str| ToolCall {
            id: "1".to_owned(),
            name: name.to_owned(),
            arguments: "{\"a\": 1}".to_owned(),
        };
        let (marker, text) = ToolFormat::JsonList.written(&[call("f"), call("g")]);
        assert_eq!(marker, "<|tool_call|>");
        assert_eq!(
            text,
            "[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {\"a\": 1}}]"
        );
        let (marker, text) = ToolFormat::LlamaJson.written(&[call("f")]);
        assert_eq!((marker, text.as_str()), ("", "{\"name\": \"f\", \"parameters\": {\"a\": 1}}"));
    }

    #[test]
    fn formats_are_told_apart() {
        let hermes = "<|im_start|>assistant\n<tool_call>\n{\"name\": \"probe\", \"arguments\": {}}\n</tool_call><|im_end|>";
        assert_eq!(ToolFormat::of_rendering(hermes, "probe"), Some(ToolFormat::Hermes));
        let llama = "<|start_header_id|>assistant<|end_header_id|>\n\n{\"name\": \"probe\", \"parameters\": {}}<|eot_id|>";
        assert_eq!(ToolFormat::of_rendering(llama, "probe"), Some(ToolFormat::LlamaJson));
        assert_eq!(
            ToolFormat::of_rendering("[TOOL_CALLS] [{\"name\": \"probe\", \"arguments\": {}}]", "probe"),
            None
        );
        let xml = "<tool_call>\n<function=probe>\n</function>\n</tool_call>";
        assert_eq!(ToolFormat::of_rendering(xml, "probe"), None);
        assert_eq!(ToolFormat::of_rendering("nothing", "probe"), None);
        let list =
            "<|end_of_role|><|tool_call|>[\n    {\"name\": \"probe\", \"arguments\": {}}]<|end_of_text|>";
        assert_eq!(ToolFormat::of_rendering(list, "probe"), Some(ToolFormat::JsonList));
    }
}
