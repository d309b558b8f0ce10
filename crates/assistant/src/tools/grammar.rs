//! The grammar of an answer that must be tool calls, in llguidance's variant of Lark. Does not compile it.

use serde_json::{Value, json};

use zhenjin_conversation::{CallBeginning, Tool, ToolFormat};

/// The schema of a function's arguments.
pub(crate) fn parameters_of(tool: &Tool) -> Value {
    let none = || json!({"type": "object", "properties": {}, "additionalProperties": false});
    tool.parameters.clone().unwrap_or_else(none)
}

/// One call of one of `tools`, or one or more if `parallel`. `parameters` are their arguments' schemas, as the compiler of
/// grammars knows them; `is_token` says whether a text is a control token of the vocabulary.
pub(crate) fn of_calls(
    format: ToolFormat,
    tools: &[&Tool],
    parameters: &[Value],
    parallel: bool,
    is_token: impl Fn(&str) -> bool,
) -> String {
    let mut rules = String::new();
    let mut alternatives = Vec::with_capacity(tools.len());
    for (index, (tool, parameters)) in tools.iter().zip(parameters).enumerate() {
        let texts = format.call_texts(&tool.name);
        rules.push_str(&format!(
            "call_{index}: {} arguments_{index} {}\narguments_{index}: %json {parameters}\n",
            Value::from(texts.before_arguments),
            Value::from(texts.after_arguments),
        ));
        alternatives.push(format!("call_{index}"));
    }
    let between = tools.first().map_or("", |tool| format.call_texts(&tool.name).between_calls);
    let calls = if parallel { format!("call ({} call)*", Value::from(between)) } else { "call".to_owned() };
    let start = match format.beginning() {
        CallBeginning::List(marker) if is_token(marker) => format!("{marker} \"[\" {calls} \"]\""),
        CallBeginning::List(marker) => format!("{} {calls} \"]\"", Value::from(format!("{marker}["))),
        CallBeginning::Marker(_) | CallBeginning::ObjectFirst => calls,
    };
    format!("start: {start}\ncall: {}\n{rules}", alternatives.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_names_every_tool() {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            description: None,
            parameters: Some(json!({"type": "object"})),
        };
        let grammar = of_calls(
            ToolFormat::Hermes,
            &[&tool("f"), &tool("g")],
            &[json!({"type": "object"}), json!({"type": "object"})],
            true,
            |_| false,
        );
        assert!(grammar.starts_with("start: call (\"\\n\" call)*\ncall: call_0 | call_1\n"), "{grammar}");
        assert!(
            grammar.contains(
                r#"call_1: "<tool_call>\n{\"name\": \"g\", \"arguments\": " arguments_1 "}\n</tool_call>""#
            ),
            "{grammar}"
        );
    }

    #[test]
    fn a_list_of_calls_has_its_marker_and_brackets() {
        let tool = Tool { name: "f".to_owned(), description: None, parameters: None };
        let start = |is_token: bool, parallel: bool| {
            let parameters = [json!({"type": "object"})];
            let grammar = of_calls(ToolFormat::JsonList, &[&tool], &parameters, parallel, |_| is_token);
            grammar.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(start(true, false), r#"start: <|tool_call|> "[" call "]""#);
        assert_eq!(start(true, true), r#"start: <|tool_call|> "[" call (", " call)* "]""#);
        assert_eq!(start(false, false), r#"start: "<|tool_call|>[" call "]""#);
    }
}
