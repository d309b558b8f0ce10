//! Chat templates: a conversation → the text that the model was trained on.
//!
//! The template is the model's own Jinja source and is treated as hostile: it runs in a sandbox with a budget of work
//! ([`sandbox`]). Users' text is guarded before rendering so that it can never become a control token, whatever the
//! template does with it ([`guard`]). What the assistant wrote is found by comparison ([`assistant_spans`]).
//! This file does not know token ids or models.

mod assistant_spans;
mod generation_tag;
mod guard;
mod python_add;
mod python_format;
mod python_json;
mod sandbox;
mod strftime;

use std::ops::Range;

use minijinja::Environment;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{TemplateError, Tokenizer, TokenizerConfig};
use guard::Guard;

/// The largest template source that is compiled (the largest published ones have about 30 KB).
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// The variant for conversations with tools.
    tool_use_source: Option<String>,
    bos: String,
    eos: String,
    guard: Guard,
    mentions_tools: bool,
}

/// A conversation to render.
#[derive(Debug, Clone, Default)]
pub struct RenderInput<'a> {
    /// Messages in OpenAI's shape: `role`, `content`, `tool_calls`, …. Tool calls' `arguments` written as JSON text are
    /// parsed first, because templates expect objects.
    pub messages: &'a [Value],
    /// Tool definitions in OpenAI's shape.
    pub tools: &'a [Value],
    /// End with the beginning of the assistant's next message.
    pub add_generation_prompt: bool,
    /// The time that `strftime_now` shows. Without it a template that asks for the time fails.
    pub now: Option<OffsetDateTime>,
    /// More variables for the template, such as `enable_thinking`.
    pub variables: Option<&'a Map<String, Value>>,
    /// Find out which characters the assistant wrote (needed for training only: costs one more rendering per message).
    pub mark_assistant: bool,
}

/// A rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text, exactly as Hugging Face's `apply_chat_template` renders it.
    pub text: String,
    /// Byte positions in `text`, ascending, that no control token may reach across: they lie inside text that looks like
    /// a control token and was written by a user, a tool or the assistant.
    pub(crate) plain_text_breaks: Vec<usize>,
    /// Byte ranges of `text`, ascending, that the assistant wrote, with the token that ends its turn. Empty unless
    /// [`RenderInput::mark_assistant`].
    pub assistant_spans: Vec<Range<usize>>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ChatTemplate")
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template for a tokenizer, whose control tokens are kept out of users' text.
    ///
    /// # Errors
    /// [`TemplateError::TooLarge`] beyond [`MAX_TEMPLATE_BYTES`], [`TemplateError::Syntax`] with the line.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let text_of = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_bytes(id))
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                .unwrap_or_default()
        };
        let end_of_turn = tokenizer.end_of_turn().iter().map(|&id| text_of(Some(id))).collect();
        Self::with_special_texts(
            source,
            &text_of(tokenizer.bos()),
            &text_of(tokenizer.eos()),
            tokenizer.special_texts(),
            end_of_turn,
        )
    }

    /// Compiles a template for a set of control tokens' texts.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_special_texts(
        source: &str,
        bos: &str,
        eos: &str,
        special_texts: Vec<String>,
        end_of_turn: Vec<String>,
    ) -> Result<Self, TemplateError> {
        let environment = sandbox::environment();
        let source = checked(source)?;
        let mentions_tools = sandbox::on_large_stack(|| sandbox::mentions_tools(&source))?;
        Ok(Self {
            environment,
            source,
            tool_use_source: None,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            guard: Guard::new(special_texts, end_of_turn),
            mentions_tools,
        })
    }

    /// Adds the variant that is used when a conversation comes with tools.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_tool_use(mut self, source: &str) -> Result<Self, TemplateError> {
        self.tool_use_source = Some(checked(source)?);
        Ok(self)
    }

    /// The template or templates of a `tokenizer_config.json`, or `None` when it has none: one source, or a list of
    /// `{"name": …, "template": …}` of which `default` and `tool_use` are used.
    ///
    /// # Errors
    /// [`TemplateError::Description`] for another shape, and as [`ChatTemplate::new`].
    pub fn from_config(
        config: &TokenizerConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, TemplateError> {
        let named = match &config.chat_template {
            None => return Ok(None),
            Some(Value::String(source)) => return Self::new(source, tokenizer).map(Some),
            Some(Value::Array(named)) => named,
            Some(_) => {
                return Err(TemplateError::Description(
                    "chat_template is neither a text nor a list".to_owned(),
                ));
            }
        };
        let source = |name: &str| {
            named.iter().find(|entry| entry["name"] == name).and_then(|entry| entry["template"].as_str())
        };
        let Some(default) = source("default") else {
            return Err(TemplateError::Description(
                "the list chat_template has no template named default".to_owned(),
            ));
        };
        let template = Self::new(default, tokenizer)?;
        match source("tool_use") {
            Some(tool_use) => template.with_tool_use(tool_use).map(Some),
            None => Ok(Some(template)),
        }
    }

    /// Whether tools given to [`ChatTemplate::render`] reach the model.
    pub fn supports_tools(&self) -> bool {
        self.tool_use_source.is_some() || self.mentions_tools
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] with the template's own words, [`TemplateError::OutOfFuel`] when it works for too long,
    /// [`TemplateError::Failed`] for every other error inside it.
    pub fn render(&self, input: &RenderInput<'_>) -> Result<Rendered, TemplateError> {
        let messages: Vec<Value> = input.messages.iter().map(with_parsed_arguments).collect();
        let marked = self.render_messages(input, &messages)?;
        let mut rendered = Rendered {
            text: marked.text,
            plain_text_breaks: marked.breaks,
            assistant_spans: marked.generated,
        };
        if !input.mark_assistant {
            rendered.assistant_spans.clear();
        } else if rendered.assistant_spans.is_empty() {
            rendered.assistant_spans =
                assistant_spans::find(self, input, &messages, &rendered.text, &rendered.plain_text_breaks)?;
        }
        Ok(rendered)
    }

    /// Renders messages whose arguments are already parsed.
    fn render_messages(
        &self,
        input: &RenderInput<'_>,
        messages: &[Value],
    ) -> Result<guard::Unguarded, TemplateError> {
        let source =
            self.tool_use_source.as_ref().filter(|_| !input.tools.is_empty()).unwrap_or(&self.source);
        let mut context = Map::new();
        if let Some(variables) = input.variables {
            for (name, value) in variables {
                context.insert(name.clone(), self.guard.protect(value));
            }
        }
        context.insert(
            "messages".to_owned(),
            messages.iter().map(|message| self.guard.protect(message)).collect(),
        );
        if !input.tools.is_empty() {
            context.insert(
                "tools".to_owned(),
                input.tools.iter().map(|tool| self.guard.protect(tool)).collect(),
            );
        }
        context.insert("add_generation_prompt".to_owned(), Value::Bool(input.add_generation_prompt));
        context.insert("bos_token".to_owned(), Value::String(self.bos.clone()));
        context.insert("eos_token".to_owned(), Value::String(self.eos.clone()));
        let text = sandbox::render(&self.environment, source, &context, input.now)?;
        Ok(guard::unguard(&text))
    }
}

/// The source as the engine reads it, after a trial compilation.
fn checked(source: &str) -> Result<String, TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::TooLarge { bytes: source.len(), limit: MAX_TEMPLATE_BYTES });
    }
    let source = generation_tag::as_filter(source);
    sandbox::on_large_stack(|| sandbox::compile("chat_template", &source).map(drop))?
        .map_err(|error| TemplateError::Syntax(sandbox::describe(&error)))?;
    Ok(source)
}

/// OpenAI writes a tool call's arguments as JSON text, templates expect the object.
fn with_parsed_arguments(message: &Value) -> Value {
    let mut message = message.clone();
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let arguments = match call.get_mut("function") {
            Some(function) => function.get_mut("arguments"),
            None => call.get_mut("arguments"),
        };
        if let Some(arguments) = arguments
            && let Some(text) = arguments.as_str()
            && let Ok(parsed @ Value::Object(_)) = serde_json::from_str(text)
        {
            *arguments = parsed;
        }
    }
    message
}
