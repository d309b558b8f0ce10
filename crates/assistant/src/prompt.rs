//! From a conversation to the tokens of its prompt: messages and tools through the model's chat template.

use serde_json::{Value, json};
use time::OffsetDateTime;
use zhenjin_tokenizer::{ChatTemplate, RenderInput, TemplateError, Tokenizer};

use crate::error::AssistantError;
use crate::request::{ChatRequest, Tool};
use crate::thinking::{ThinkingStyle, check_variables};
use crate::tools::format::ToolFormat;
use crate::tools::instructions::with_tools_as_text;

/// How a model is told of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolStyle {
    /// By its template, which writes calls in this format.
    Template(ToolFormat),
    /// By a system message, as its template does not know tools.
    SystemMessage,
    /// By its template, in a format that is not known here.
    Unknown,
}

impl ToolStyle {
    /// Finds out by rendering a conversation with a call.
    pub(crate) fn of_template(template: &ChatTemplate) -> ToolStyle {
        const PROBE: &str = "zhenjin_probe";
        if !template.supports_tools() {
            return ToolStyle::SystemMessage;
        }
        let call = json!({"id": "call00001", "type": "function", "function": {"name": PROBE, "arguments": {"x": 1}}});
        let messages = [
            json!({"role": "user", "content": "x"}),
            json!({"role": "assistant", "content": "", "tool_calls": [call]}),
        ];
        let parameters = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
        let function = json!({"name": PROBE, "description": "x", "parameters": parameters});
        let tools = [json!({"type": "function", "function": function})];
        let input = RenderInput {
            messages: &messages,
            tools: &tools,
            now: Some(OffsetDateTime::UNIX_EPOCH),
            ..RenderInput::default()
        };
        let format =
            template.render(&input).ok().and_then(|rendered| ToolFormat::of_rendering(&rendered.text, PROBE));
        format.map_or(ToolStyle::Unknown, ToolStyle::Template)
    }

    /// The format of calls; `None` if it is not known.
    pub(crate) fn format(self) -> Option<ToolFormat> {
        match self {
            ToolStyle::Template(format) => Some(format),
            ToolStyle::SystemMessage => Some(ToolFormat::Hermes),
            ToolStyle::Unknown => None,
        }
    }
}

/// Whether functions can be offered to a model with this template: it tells the model of them in a format that is known here, or
/// it does not know them, and a system message does.
pub fn takes_tools(template: &ChatTemplate) -> bool {
    ToolStyle::of_template(template) != ToolStyle::Unknown
}

/// A conversation as a prompt.
pub(crate) struct Prompt {
    /// Everything up to where the answer begins.
    pub(crate) tokens: Vec<u32>,
    /// It ends with the beginning of a thought.
    pub(crate) opens_thought: bool,
}

/// The prompt of a conversation.
///
/// # Errors
/// [`AssistantError::Invalid`] for `messages` that are empty or that the template refuses, for variables that the template
/// does not read, and for a wish to think or not that it cannot fulfil.
pub(crate) fn of_conversation(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    style: ToolStyle,
    thinking: &ThinkingStyle,
    request: &ChatRequest,
    tools: &[&Tool],
) -> Result<Prompt, AssistantError> {
    if request.messages.is_empty() {
        return Err(AssistantError::invalid("messages", "there are none"));
    }
    check_variables(template, &request.template_variables)?;
    let mut variables = request.template_variables.clone();
    thinking.apply(&request.thinking, &mut variables)?;
    let as_text = style == ToolStyle::SystemMessage;
    let written =
        if as_text { with_tools_as_text(&request.messages, tools) } else { request.messages.clone() };
    let messages: Vec<Value> = written.iter().map(|message| thinking.template_value(message)).collect();
    let tools: Vec<Value> =
        if as_text { Vec::new() } else { tools.iter().map(|tool| tool.to_template_value()).collect() };
    let input = RenderInput {
        messages: &messages,
        tools: &tools,
        add_generation_prompt: true,
        now: Some(request.now.unwrap_or_else(OffsetDateTime::now_utc)),
        variables: Some(&variables),
        mark_assistant: false,
    };
    let rendered = template.render(&input).map_err(|error| match error {
        TemplateError::Syntax(_) | TemplateError::Description(_) | TemplateError::TooLarge { .. } => {
            AssistantError::Internal(error.to_string())
        }
        _ => AssistantError::invalid("messages", error.to_string()),
    })?;
    let opening = thinking.markers.opening;
    // Without the template's own word for it, the marker at the end would be somebody's text.
    let opens_thought = template.mentions(opening) && rendered.text.trim_end().ends_with(opening);
    let tokens = tokenizer
        .encode_rendered(&rendered)
        .map_err(|error| AssistantError::invalid("messages", error.to_string()))?;
    Ok(Prompt { tokens, opens_thought })
}
