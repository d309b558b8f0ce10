//! Chat templates: a conversation → the text that the model was trained on.
//!
//! The template is the model's own Jinja source and is treated as hostile: it runs in a sandbox with a budget of work
//! ([`sandbox`]). Users' text is guarded before rendering so that it can never become a control token, whatever the
//! template does with it ([`guard`]). What the assistant wrote is found by comparison ([`assistant_spans`]).
//! This file does not know token ids or models.

mod assistant_spans;
mod conversation;
mod guard;
mod python;
mod sandbox;
mod source;
mod strftime;
mod workers;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{TemplateError, Tokenizer, TokenizerConfig};
use conversation::Conversation;
use guard::Guard;
use workers::Workers;

/// The largest template source that is compiled (the largest published ones have about 30 KB).
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// A compiled chat template.
///
/// Rendering happens on threads that the template keeps while it is used (see the file `workers.rs`); any number of threads may
/// render at once.
pub struct ChatTemplate {
    sources: Arc<Sources>,
    writing: Arc<Writing>,
    workers: Workers,
    /// What the templates ask for beside the conversation.
    variables: BTreeSet<String>,
}

/// What is compiled.
#[derive(Debug, Clone)]
struct Sources {
    default: String,
    /// The variant for conversations with tools.
    tool_use: Option<String>,
}

/// How conversations are written for a tokenizer.
#[derive(Debug, Clone)]
struct Writing {
    bos: String,
    eos: String,
    guard: Guard,
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
    /// What goes behind messages' texts, at most one for each message.
    pub appended: &'a [Appended],
}

/// What goes behind the text of a message: something that the model writes with a control token of its own, and that the template does not
/// write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appended {
    /// The place of the message in the conversation.
    pub message: usize,
    /// The text of the control token: it stays one.
    pub control: String,
    /// What stands behind it: never a control token, like the message's own text.
    pub text: String,
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
            .field("bos", &self.writing.bos)
            .field("eos", &self.writing.eos)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Whether the same conversation may be another text at another time.
    pub fn may_show_time(&self) -> bool {
        let sources = [Some(&self.sources.default), self.sources.tool_use.as_ref()];
        sources.into_iter().flatten().any(|source| source.contains("strftime_now"))
    }

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
        let default = checked(source)?;
        let variables = sandbox::on_large_stack(|| sandbox::variables(&default))?;
        let guard = Guard::new(special_texts, end_of_turn).for_template(&default);
        let sources = Arc::new(Sources { default, tool_use: None });
        Ok(Self {
            workers: Workers::new(sources.clone()),
            sources,
            writing: Arc::new(Writing { bos: bos.to_owned(), eos: eos.to_owned(), guard }),
            variables,
        })
    }

    /// Adds the variant that is used when a conversation comes with tools.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_tool_use(self, source: &str) -> Result<Self, TemplateError> {
        let tool_use = checked(source)?;
        let mut variables = sandbox::on_large_stack(|| sandbox::variables(&tool_use))?;
        variables.extend(self.variables.iter().cloned());
        let mut writing = Writing::clone(&self.writing);
        writing.guard = writing.guard.for_template(&tool_use);
        let sources = Arc::new(Sources { default: self.sources.default.clone(), tool_use: Some(tool_use) });
        Ok(Self { workers: Workers::new(sources.clone()), sources, writing: Arc::new(writing), variables })
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

    /// Its source, as its makers wrote it; the variant for conversations with tools left out.
    pub fn source(&self) -> &str {
        &self.sources.default
    }

    /// Whether tools given to [`ChatTemplate::render`] reach the model.
    pub fn supports_tools(&self) -> bool {
        self.sources.tool_use.is_some() || self.variables.contains("tools")
    }

    /// The names that the template reads, in order: `messages`, `tools`, and switches such as `enable_thinking`.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }

    /// Whether the text stands somewhere in the template's source.
    pub fn mentions(&self, text: &str) -> bool {
        self.sources.default.contains(text)
            || self.sources.tool_use.as_ref().is_some_and(|source| source.contains(text))
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] with the template's own words, [`TemplateError::OutOfFuel`] when it works for too long,
    /// [`TemplateError::Failed`] for every other error inside it.
    pub fn render(&self, input: &RenderInput<'_>) -> Result<Rendered, TemplateError> {
        let conversation = Conversation::of(input);
        let writing = self.writing.clone();
        self.workers.run(move |engine| conversation.render(engine, &writing))?
    }

    /// Renders conversations one after another, which takes less time than [`ChatTemplate::render`] for each: the results
    /// are the same, in the same order.
    pub fn render_all(&self, inputs: &[RenderInput<'_>]) -> Vec<Result<Rendered, TemplateError>> {
        let conversations: Vec<Conversation> = inputs.iter().map(Conversation::of).collect();
        let writing = self.writing.clone();
        let rendered = self.workers.run(move |engine| -> Vec<Result<Rendered, TemplateError>> {
            conversations.iter().map(|conversation| conversation.render(engine, &writing)).collect()
        });
        match rendered {
            Ok(rendered) => rendered,
            // One of them made the engine fail altogether; which one is found by rendering each alone.
            Err(_) => inputs.iter().map(|input| self.render(input)).collect(),
        }
    }
}

/// The source as the engine reads it, after a trial compilation.
fn checked(source: &str) -> Result<String, TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::TooLarge { bytes: source.len(), limit: MAX_TEMPLATE_BYTES });
    }
    let source = source::rewritten(source);
    sandbox::on_large_stack(|| sandbox::compile("chat_template", &source).map(drop))?
        .map_err(|error| TemplateError::Syntax(sandbox::describe(&error)))?;
    Ok(source)
}
