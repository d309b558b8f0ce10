//! Tools: recognising the model's calls while they are written, and making it call where
//! it must.
//!
//! * [`parser`]: text → text and calls, piece by piece, with [`call_scanner`] for the JSON inside.
//! * [`grammar`]: the grammar of calls for `tool_choice` required or named.
//!
//! Nothing here runs a tool.

pub(crate) mod call_scanner;
pub(crate) mod grammar;
pub(crate) mod parser;

use std::collections::BTreeSet;

use zhenjin_conversation::Tool;

use crate::error::AssistantError;
use crate::request::{ChatRequest, ToolChoice};

const MAX_TOOLS: usize = 128;
const MAX_NAME_BYTES: usize = 64;

/// The tools that the model is told of: all, or the named one, or none.
///
/// # Errors
/// [`AssistantError::Invalid`] for a bad or repeated name, an unknown choice, or a choice without tools.
pub(crate) fn offered_tools(request: &ChatRequest) -> Result<Vec<&Tool>, AssistantError> {
    if request.tools.len() > MAX_TOOLS {
        let reason = format!("{} tools are more than the {MAX_TOOLS} allowed", request.tools.len());
        return Err(AssistantError::invalid("tools", reason));
    }
    let mut names = BTreeSet::new();
    for tool in &request.tools {
        check_name(&tool.name)?;
        if !names.insert(tool.name.as_str()) {
            return Err(AssistantError::invalid("tools", format!("the name `{}` is used twice", tool.name)));
        }
        if let Some(parameters) = &tool.parameters
            && !parameters.is_object()
        {
            return Err(AssistantError::invalid(
                "tools",
                format!("the parameters of `{}` are not a JSON schema object", tool.name),
            ));
        }
    }
    match &request.tool_choice {
        ToolChoice::None => Ok(Vec::new()),
        ToolChoice::Auto => Ok(request.tools.iter().collect()),
        ToolChoice::Required if request.tools.is_empty() => {
            Err(AssistantError::invalid("tool_choice", "a call is required, but there are no tools"))
        }
        ToolChoice::Required => Ok(request.tools.iter().collect()),
        ToolChoice::Named(name) => match request.tools.iter().find(|tool| tool.name == *name) {
            Some(tool) => Ok(vec![tool]),
            None => Err(AssistantError::invalid("tool_choice", format!("there is no tool named `{name}`"))),
        },
    }
}

fn check_name(name: &str) -> Result<(), AssistantError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_allowed) {
        let reason =
            format!("the name `{name}` is not 1 to {MAX_NAME_BYTES} letters, digits, '_', '-' and '.'");
        return Err(AssistantError::invalid("tools", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_conversation::{Message, Role};

    fn tool(name: &str) -> Tool {
        Tool { name: name.to_owned(), description: None, parameters: None }
    }

    #[test]
    fn choices_are_checked() {
        let mut request = ChatRequest::new(vec![Message::new(Role::User, "hi")]);
        let names = |request: &ChatRequest| {
            offered_tools(request).map(|tools| tools.iter().map(|t| t.name.clone()).collect::<Vec<_>>())
        };
        let field = |request: &ChatRequest| match offered_tools(request) {
            Err(AssistantError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        request.tool_choice = ToolChoice::Required;
        assert_eq!(field(&request), "tool_choice");
        request.tools = vec![tool("add"), tool("get.weather-2")];
        assert_eq!(names(&request).unwrap().len(), 2);
        request.tool_choice = ToolChoice::Named("add".to_owned());
        assert_eq!(names(&request).unwrap(), ["add"]);
        request.tool_choice = ToolChoice::Named("subtract".to_owned());
        assert_eq!(field(&request), "tool_choice");
        request.tool_choice = ToolChoice::None;
        assert!(names(&request).unwrap().is_empty());
        for bad in ["", "a b", "名", &"x".repeat(65)] {
            request.tools = vec![tool(bad)];
            assert_eq!(field(&request), "tools");
        }
        request.tools = vec![tool("add"), tool("add")];
        assert_eq!(field(&request), "tools");
    }
}
