//! From a conversation to the tokens of its prompt: messages and tools through the model's chat template.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use zhenjin_tokenizer::{Appended, ChatTemplate, RenderInput, Rendered, TemplateError, Tokenizer};

use crate::error::ConversationError;
use crate::markers::ThoughtMarkers;
use crate::message::{Message, ThinkingWish, Tool, ToolCall};
use crate::thinking::{ThinkingStyle, check_variables, left_aside};
use crate::tool_format::ToolFormat;
use crate::tools_as_text::with_tools_as_text;

/// What a system message may say in the place of a template's switch, where the template looks for it (SmolLM3).
const SYSTEM_SWITCHES: [&str; 2] = ["/think", "/no_think"];

/// How a model is told of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStyle {
    /// By its template, which writes calls in this format.
    Template(ToolFormat),
    /// By its template, which tells it to write calls in this format and writes none itself: they go into the message's text.
    Instructions(ToolFormat),
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
        let rendered = |appended: &[Appended]| {
            let input = RenderInput {
                messages: &messages,
                tools: &tools,
                now: Some(OffsetDateTime::UNIX_EPOCH),
                appended,
                ..RenderInput::default()
            };
            template.render(&input).map(|rendered| rendered.text).unwrap_or_default()
        };
        let text = rendered(&[]);
        if text.contains(PROBE) {
            return ToolFormat::of_rendering(&text, PROBE).map_or(ToolStyle::Unknown, ToolStyle::Template);
        }
        let Some(format) = ToolFormat::of_instructions(template) else { return ToolStyle::Unknown };
        let call = ToolCall { id: String::new(), name: PROBE.to_owned(), arguments: "{}".to_owned() };
        let (control, text) = format.written(&[call]);
        let appended = Appended { message: 1, control: control.to_owned(), text: text.clone() };
        // A template that leaves the message's text out as well cannot say what was called.
        let is_kept = rendered(&[appended]).contains(&format!("{control}{text}"));
        if is_kept { ToolStyle::Instructions(format) } else { ToolStyle::Unknown }
    }

    /// The format of calls; `None` if it is not known.
    pub fn format(self) -> Option<ToolFormat> {
        match self {
            ToolStyle::Template(format) | ToolStyle::Instructions(format) => Some(format),
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
    /// Calls that stand behind the texts of messages, as the model writes them.
    pub calls: Vec<Appended>,
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
            appended: &self.calls,
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
        let calls = self.calls_behind_texts(messages);
        let as_template = |message: &Message| match self.tools {
            ToolStyle::Instructions(_) => {
                self.thinking.template_value(&Message { tool_calls: Vec::new(), ..message.clone() })
            }
            _ => self.thinking.template_value(message),
        };
        let messages: Vec<Value> = if as_text {
            with_tools_as_text(messages, tools).iter().map(as_template).collect()
        } else {
            messages.iter().map(as_template).collect()
        };
        let tools: Vec<Value> =
            if as_text { Vec::new() } else { tools.iter().map(|tool| tool.to_template_value()).collect() };
        Ok(WrittenConversation { messages, tools, variables, now: options.now, calls })
    }

    /// Calls of a model whose template writes none, as the model itself writes them.
    fn calls_behind_texts(&self, messages: &[Message]) -> Vec<Appended> {
        let ToolStyle::Instructions(format) = self.tools else { return Vec::new() };
        let with_calls = messages.iter().enumerate().filter(|(_, message)| !message.tool_calls.is_empty());
        with_calls
            .map(|(place, message)| {
                let (control, text) = format.written(&message.tool_calls);
                Appended { message: place, control: control.to_owned(), text }
            })
            .collect()
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// As [`ConversationStyle::written`], and [`ConversationError::Invalid`] for `messages` that the template refuses, and for a wish to think
    /// that changes nothing in this conversation.
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
        if !opens_thought {
            self.check_switch(template, written, &rendered, options.thinking)?;
        }
        let tokens = tokenizer
            .encode_rendered(&rendered)
            .map_err(|error| ConversationError::invalid("messages", error.to_string()))?;
        Ok(Prompt { tokens, text: rendered.text, opens_thought })
    }

    /// Refuses a wish to think that the template does not look at: Granite's has its switch behind a system message and tools.
    fn check_switch(
        &self,
        template: &ChatTemplate,
        written: WrittenConversation,
        rendered: &Rendered,
        wish: &ThinkingWish,
    ) -> Result<(), ConversationError> {
        let Some(variables) = self.thinking.switched_off(wish, &written.variables) else { return Ok(()) };
        // The conversation itself may decide it, as SmolLM3's does with `/think` and `/no_think`.
        let decides = |message: &Value| {
            message["role"] == "system"
                && message["content"].as_str().is_some_and(|text| {
                    SYSTEM_SWITCHES.iter().any(|word| text.contains(word) && template.mentions(word))
                })
        };
        if written.messages.iter().any(decides) {
            return Ok(());
        }
        let off = WrittenConversation { variables, ..written };
        match template.render(&off.input(true)) {
            Ok(off) if off.text == rendered.text => Err(left_aside()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Role;

    fn style(source: &str) -> ToolStyle {
        let template = ChatTemplate::with_special_texts(source, "<s>", "</s>", Vec::new(), Vec::new());
        ToolStyle::of_template(&template.expect("a template"))
    }

    /// Regression: a template that shows tools and leaves calls out was taken for one that writes them as Llama does, as its tools have
    /// `parameters`.
    #[test]
    fn a_template_that_leaves_calls_out_is_known_by_what_it_tells_the_model() {
        let granite = include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja");
        assert_eq!(style(granite), ToolStyle::Instructions(ToolFormat::JsonList));
        let wordless = "{{ tools | tojson }}<|tool_call|>{% for m in messages %}{{ m.role }}{% endfor %}";
        assert_eq!(style(wordless), ToolStyle::Unknown);
        let silent = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}";
        assert_eq!(style(silent), ToolStyle::Unknown);
        let gemma = include_str!("../../tokenizer/tests/data/family_templates/gemma3.jinja");
        assert_eq!(style(gemma), ToolStyle::SystemMessage);
        let llama = "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}\
            {% for c in m.tool_calls %}{\"name\": \"{{ c.function.name }}\", \"parameters\": \
            {{ c.function.arguments | tojson }}}{% endfor %}{% endfor %}";
        assert_eq!(style(llama), ToolStyle::Template(ToolFormat::LlamaJson));
    }

    const GRANITE: &str = include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja");

    fn granite() -> (ChatTemplate, Tokenizer) {
        let golden: Value =
            serde_json::from_str(include_str!("../../tokenizer/tests/data/family_tokenizers.json"))
                .expect("JSON");
        let cases = golden["cases"].as_array().expect("cases");
        let case = cases.iter().find(|case| case["name"] == "Granite 3").expect("Granite 3");
        let tokenizer = Tokenizer::from_tokenizer_json(case["tokenizer"].to_string().as_bytes(), None);
        let tokenizer = tokenizer.expect("a tokenizer");
        (ChatTemplate::new(GRANITE, &tokenizer).expect("a template"), tokenizer)
    }

    fn prompt_of(
        messages: &[Message],
        tools: &[&Tool],
        thinking: &ThinkingWish,
    ) -> Result<Prompt, ConversationError> {
        let (template, tokenizer) = granite();
        let variables = Map::new();
        let options =
            PromptOptions { thinking, template_variables: &variables, now: OffsetDateTime::UNIX_EPOCH };
        ConversationStyle::of(Some(&template), &tokenizer)
            .prompt(&tokenizer, &template, messages, tools, &options)
    }

    /// Regression: the history of Granite, whose template writes no calls, had an empty message where the model had called.
    #[test]
    fn calls_that_the_template_leaves_out_stand_in_the_prompt_as_the_model_writes_them() {
        let mut calling = Message::new(Role::Assistant, "Look: <|tool_call|>\n");
        let arguments = "{\"a\": \"<|end_of_text|>\"}".to_owned();
        calling.tool_calls = vec![ToolCall { id: "1".to_owned(), name: "f".to_owned(), arguments }];
        let messages =
            [Message::new(Role::User, "x"), calling, Message::new(Role::Tool, "<|tool_call|>Sunny.")];
        let prompt = prompt_of(&messages, &[], &ThinkingWish::ModelsOwn).expect("a prompt");
        let written = "<|start_of_role|>assistant<|end_of_role|>Look: <|tool_call|>\n<|tool_call|>\
            [{\"name\": \"f\", \"arguments\": {\"a\": \"<|end_of_text|>\"}}]<|end_of_text|>\n\
            <|start_of_role|>tool<|end_of_role|><|tool_call|>Sunny.<|end_of_text|>";
        assert!(prompt.text.contains(written), "{}", prompt.text);
        // What somebody wrote is no control token; the marker of the call is.
        let (_, tokenizer) = granite();
        let count = |text: &str| {
            let id = tokenizer.special_id(text).expect("a control token");
            prompt.tokens.iter().filter(|token| **token == id).count()
        };
        assert_eq!(count("<|tool_call|>"), 1);
        // The system message, the user, the assistant and the tool.
        assert_eq!(count("<|end_of_text|>"), 4);
    }

    /// Regression: with a system message or tools, Granite's template leaves its switch aside, and the wish to think changed nothing without a
    /// word.
    #[test]
    fn a_wish_to_think_that_the_template_leaves_aside_is_refused() {
        let tool = Tool { name: "f".to_owned(), description: None, parameters: None };
        let question = [Message::new(Role::User, "x")];
        let with_system = [Message::new(Role::System, "y"), Message::new(Role::User, "x")];
        for wish in [ThinkingWish::On, ThinkingWish::Effort("low".to_owned())] {
            let prompt = prompt_of(&question, &[], &wish).expect("a prompt");
            assert!(prompt.text.contains("<response></response>"), "{}", prompt.text);
            for refused in [prompt_of(&with_system, &[], &wish), prompt_of(&question, &[&tool], &wish)] {
                let said = refused.expect_err("refused").to_string();
                assert!(
                    said.starts_with("reasoning_effort: ") && said.contains("leaves its switch aside"),
                    "{said}"
                );
            }
        }
        for wish in [ThinkingWish::Off, ThinkingWish::ModelsOwn, ThinkingWish::WherePossible] {
            assert!(prompt_of(&with_system, &[&tool], &wish).is_ok());
        }
    }

    /// Regression: a wish to think was refused where the system message already told the model to think.
    #[test]
    fn what_a_system_message_says_of_thinking_in_the_templates_words_is_no_reason_to_refuse() {
        let source = "{% set mode = '/think' if enable_thinking else '/no_think' %}{% for m in messages %}\
            {% if m.role == 'system' %}{% if '/no_think' in m.content %}{% set mode = '/no_think' %}\
            {% elif '/think' in m.content %}{% set mode = '/think' %}{% endif %}{% endif %}{% endfor %}\
            {{ 'think' if messages[0].role != 'system' and mode == '/think' else '' }}<think></think>\
            {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
        let template = ChatTemplate::with_special_texts(source, "<s>", "</s>", Vec::new(), Vec::new());
        let template = template.expect("a template");
        let (_, tokenizer) = granite();
        let variables = Map::new();
        let options = PromptOptions {
            thinking: &ThinkingWish::On,
            template_variables: &variables,
            now: OffsetDateTime::UNIX_EPOCH,
        };
        let prompt = |system: &str| {
            let messages = [Message::new(Role::System, system), Message::new(Role::User, "x")];
            ConversationStyle::of(Some(&template), &tokenizer).prompt(
                &tokenizer,
                &template,
                &messages,
                &[],
                &options,
            )
        };
        assert!(prompt("You are a coder. /think").is_ok() && prompt("/no_think").is_ok());
        assert!(prompt("You are a coder.").is_err());
    }
}
