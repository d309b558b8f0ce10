//! Tools for models whose chat template does not know them: described in a system message in the Hermes format (the one
//! most models have seen), calls and results written as text in the same format.

use serde_json::Value;

use crate::message::{Message, Role, Tool};

/// The messages with everything about tools written as plain text: descriptions in the system message, calls
/// in the assistant's messages, results in user messages.
pub(crate) fn with_tools_as_text(messages: &[Message], tools: &[&Tool]) -> Vec<Message> {
    let mut written: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    if !tools.is_empty() {
        let description = describe(tools);
        match messages.first() {
            Some(first) if first.role == Role::System => {
                written.push(Message::new(Role::System, format!("{}\n\n{description}", first.content)));
            }
            _ => written.push(Message::new(Role::System, description)),
        }
    }
    let skipped =
        usize::from(!tools.is_empty() && messages.first().is_some_and(|first| first.role == Role::System));
    let mut after_result = false;
    for message in &messages[skipped..] {
        let is_result = message.role == Role::Tool;
        match written.last_mut() {
            // Results of calls made together come in one turn.
            Some(last) if is_result && after_result => {
                last.content.push('\n');
                last.content.push_str(&result_text(message));
            }
            _ if is_result => written.push(Message::new(Role::User, result_text(message))),
            _ => written.push(with_calls_as_text(message)),
        }
        after_result = is_result;
    }
    written
}

fn describe(tools: &[&Tool]) -> String {
    let mut text = String::from(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures \
         within <tools></tools> XML tags:\n<tools>",
    );
    for tool in tools {
        text.push('\n');
        text.push_str(&tool.to_template_value().to_string());
    }
    text.push_str(
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML \
         tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>",
    );
    text
}

fn with_calls_as_text(message: &Message) -> Message {
    let mut content = message.content.clone();
    for call in &message.tool_calls {
        if !content.is_empty() {
            content.push('\n');
        }
        let (name, arguments) = (Value::from(call.name.as_str()), &call.arguments);
        content.push_str(&format!(
            "<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>"
        ));
    }
    Message { content, tool_calls: Vec::new(), ..message.clone() }
}

fn result_text(message: &Message) -> String {
    format!("<tool_response>\n{}\n</tool_response>", message.content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ToolCall;

    #[test]
    fn everything_about_tools_becomes_text() {
        let tool = Tool { name: "add".to_owned(), description: Some("Adds.".to_owned()), parameters: None };
        let call =
            ToolCall { id: "1".to_owned(), name: "add".to_owned(), arguments: "{\"a\": 1}".to_owned() };
        let mut answer = Message::new(Role::Assistant, "");
        answer.tool_calls = vec![call.clone(), call];
        let messages = [
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, "1+1?"),
            answer,
            Message::new(Role::Tool, "2"),
            Message::new(Role::Tool, "3"),
            Message::new(Role::User, "Thanks."),
        ];
        let written = with_tools_as_text(&messages, &[&tool]);
        assert_eq!(
            written.iter().map(|m| m.role.name()).collect::<Vec<_>>(),
            ["system", "user", "assistant", "user", "user"]
        );
        assert!(written[0].content.starts_with("Be brief.\n\n# Tools"));
        assert!(written[0].content.contains("\"name\":\"add\""));
        let one_call = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        assert_eq!(written[2].content, format!("{one_call}\n{one_call}"));
        assert_eq!(
            written[3].content,
            "<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>"
        );
        let without = with_tools_as_text(&messages[1..2], &[&tool]);
        assert_eq!(without[0].role, Role::System);
        assert_eq!(with_tools_as_text(&messages[..2], &[]), messages[..2]);
    }
}
