//! From a conversation to the tokens of its prompt: messages and tools through the model's chat template.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use zhenjin_tokenizer::{ChatTemplate, RenderInput, TemplateError, Tokenizer};

use crate::error::ConversationError;
use crate::markers::ThoughtMarkers;
use crate::message::{Message, ThinkingWish, Tool};
use crate::thinking::{ThinkingStyle, check_variables};
use crate::tool_format::ToolFormat;
use crate::tools_as_text::with_tools_as_text;

/// How a model is told of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStyle {
    /// By its template, which writes calls in this format.
    Template(ToolFormat),
    /// By a system message, as its template does not know tools.
    SystemMessage,
    /// By its template, in a format that is not known here.
    Unknown,
}

impl ToolStyle {
    /// Finds out by rendering a conversation with a call, or, where the template leaves calls out, by what it tells the model.
    pub fn of_template(template: &ChatTemplate) -> ToolStyle {
        const PROBE: &str = "zhenjin_probe";
        // Not the name of the call: a template that shows tools and no calls writes none in the format of its tools.
        const OFFERED: &str = "zhenjin_offer";
        if !template.supports_tools() {
            return ToolStyle::SystemMessage;
        }
        let call = json!({"id": "call00001", "type": "function", "function": {"name": PROBE, "arguments": {"x": 1}}});
        let messages = [
            json!({"role": "user", "content": "x"}),
            json!({"role": "assistant", "content": "", "tool_calls": [call]}),
        ];
        let parameters = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
        let function = json!({"name": OFFERED, "description": "x", "parameters": parameters});
        let tools = [json!({"type": "function", "function": function})];
        let input = RenderInput {
            messages: &messages,
            tools: &tools,
            now: Some(OffsetDateTime::UNIX_EPOCH),
            ..RenderInput::default()
        };
        let rendered = template.render(&input).map(|rendered| rendered.text).unwrap_or_default();
        let format = if rendered.contains(PROBE) {
            ToolFormat::of_rendering(&rendered, PROBE)
        } else {
            ToolFormat::of_instructions(template)
        };
        format.map_or(ToolStyle::Unknown, ToolStyle::Template)
    }

    /// The format of calls; `None` if it is not known.
    pub fn format(self) -> Option<ToolFormat> {
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

/// How conversations are written for a model: how it is told of tools, and how it thinks.
#[derive(Clone, Debug)]
pub struct ConversationStyle {
    /// How it is told of tools.
    pub tools: ToolStyle,
    /// How it thinks.
    pub thinking: ThinkingStyle,
}

/// What a prompt depends on beside the conversation.
#[derive(Clone, Copy, Debug)]
pub struct PromptOptions<'a> {
    /// Whether the model shall think before it answers.
    pub thinking: &'a ThinkingWish,
    /// More variables for the template; one that it does not read is refused.
    pub template_variables: &'a Map<String, Value>,
    /// The time that templates show.
    pub now: OffsetDateTime,
}

/// A conversation in its template's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenConversation {
    /// The messages, in OpenAI's shape.
    pub messages: Vec<Value>,
    /// The tools, in OpenAI's shape; none where they stand in a message.
    pub tools: Vec<Value>,
    /// The template's other variables.
    pub variables: Map<String, Value>,
    /// The time that it shows.
    pub now: OffsetDateTime,
}

impl WrittenConversation {
    /// What a template renders: the conversation as it is, or with the beginning of the next answer.
    pub fn input(&self, add_generation_prompt: bool) -> RenderInput<'_> {
        RenderInput {
            messages: &self.messages,
            tools: &self.tools,
            add_generation_prompt,
            now: Some(self.now),
            variables: Some(&self.variables),
            mark_assistant: false,
        }
    }
}

/// A conversation as a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Everything up to where the answer begins.
    pub tokens: Vec<u32>,
    /// Its text.
    pub text: String,
    /// It ends with the beginning of a thought.
    pub opens_thought: bool,
}

impl ConversationStyle {
    /// Finds out by the template; without one there are no conversations, and nothing is known of tools.
    pub fn of(template: Option<&ChatTemplate>, tokenizer: &Tokenizer) -> ConversationStyle {
        ConversationStyle {
            tools: template.map_or(ToolStyle::Unknown, ToolStyle::of_template),
            thinking: ThinkingStyle::of(template, ThoughtMarkers::of_tokenizer(tokenizer)),
        }
    }

    /// The conversation in the template's terms: tools as text where it does not know them, thoughts where it looks for them.
    ///
    /// # Errors
    /// [`ConversationError::Invalid`] for no `messages`, for variables that the template does not read, and for a wish to think
    /// or not that it cannot fulfil.
    pub fn written(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        tools: &[&Tool],
        options: &PromptOptions<'_>,
    ) -> Result<WrittenConversation, ConversationError> {
        if messages.is_empty() {
            return Err(ConversationError::invalid("messages", "there are none"));
        }
        check_variables(template, options.template_variables)?;
        let mut variables = options.template_variables.clone();
        self.thinking.apply(options.thinking, &mut variables)?;
        let as_text = self.tools == ToolStyle::SystemMessage;
        let as_template = |message: &Message| self.thinking.template_value(message);
        let messages: Vec<Value> = if as_text {
            with_tools_as_text(messages, tools).iter().map(as_template).collect()
        } else {
            messages.iter().map(as_template).collect()
        };
        let tools: Vec<Value> =
            if as_text { Vec::new() } else { tools.iter().map(|tool| tool.to_template_value()).collect() };
        Ok(WrittenConversation { messages, tools, variables, now: options.now })
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// As [`ConversationStyle::written`], and [`ConversationError::Invalid`] for `messages` that the template refuses.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        messages: &[Message],
        tools: &[&Tool],
        options: &PromptOptions<'_>,
    ) -> Result<Prompt, ConversationError> {
        let written = self.written(template, messages, tools, options)?;
        let rendered = template.render(&written.input(true)).map_err(|error| match error {
            TemplateError::Syntax(_) | TemplateError::Description(_) | TemplateError::TooLarge { .. } => {
                ConversationError::Template(error.to_string())
            }
            _ => ConversationError::invalid("messages", error.to_string()),
        })?;
        let opening = self.thinking.markers.opening;
        // Without the template's own word for it, the marker at the end would be somebody's text.
        let opens_thought = template.mentions(opening) && rendered.text.trim_end().ends_with(opening);
        let tokens = tokenizer
            .encode_rendered(&rendered)
            .map_err(|error| ConversationError::invalid("messages", error.to_string()))?;
        Ok(Prompt { tokens, text: rendered.text, opens_thought })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(source: &str) -> ToolStyle {
        let template = ChatTemplate::with_special_texts(source, "<s>", "</s>", Vec::new(), Vec::new());
        ToolStyle::of_template(&template.expect("a template"))
    }

    /// Regression: a template that shows tools and leaves calls out was taken for one that writes them as Llama does, as its tools have
    /// `parameters`.
    #[test]
    fn a_template_that_leaves_calls_out_is_known_by_what_it_tells_the_model() {
        let granite = include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja");
        assert_eq!(style(granite), ToolStyle::Template(ToolFormat::JsonList));
        let silent = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}";
        assert_eq!(style(silent), ToolStyle::Unknown);
        let gemma = include_str!("../../tokenizer/tests/data/family_templates/gemma3.jinja");
        assert_eq!(style(gemma), ToolStyle::SystemMessage);
        let llama = "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}\
            {% for c in m.tool_calls %}{\"name\": \"{{ c.function.name }}\", \"parameters\": \
            {{ c.function.arguments | tojson }}}{% endfor %}{% endfor %}";
        assert_eq!(style(llama), ToolStyle::Template(ToolFormat::LlamaJson));
    }
}
