//! What is asked of an assistant: conversations and prompts, in text.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use zhenjin_conversation::{Message, ThinkingWish, Tool};
use zhenjin_engine::{CacheSalt, Sampling};

use crate::answer::repetition::RepetitionDetection;

/// A conversation to answer.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// What was said so far, oldest first; at least one message.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may, must, or must not call one.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: bool,
    /// What the answer must look like. Where the model may call tools, it is either calls or an answer like that; where it must
    /// call one, the format has no effect.
    pub output_format: OutputFormat,
    /// Whether the model shall think before it answers.
    pub thinking: ThinkingWish,
    /// More variables for the chat template; one that the template does not read is refused.
    pub template_variables: Map<String, Value>,
    /// The time that templates show; `None`: now, in UTC.
    pub now: Option<OffsetDateTime>,
    /// How to generate.
    pub options: GenerationOptions,
}

impl ChatRequest {
    /// Answers `messages`, with nothing else asked for.
    pub fn new(messages: Vec<Message>) -> ChatRequest {
        ChatRequest {
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            output_format: OutputFormat::Text,
            thinking: ThinkingWish::ModelsOwn,
            template_variables: Map::new(),
            now: None,
            options: GenerationOptions::default(),
        }
    }

    /// Whether the answer may hold more than one call. Whoever names a function asks for that one call.
    pub(crate) fn may_call_several(&self) -> bool {
        self.parallel_tool_calls && !matches!(self.tool_choice, ToolChoice::Named(_))
    }
}

/// A text to continue.
#[derive(Clone, Debug)]
pub struct CompletionRequest {
    /// The text or its tokens.
    pub prompt: CompletionPrompt,
    /// Give the prompt back before the answer; with [`GenerationOptions::logprobs`] its log-probabilities as
    /// well.
    pub echo: bool,
    /// What the continuation must look like.
    pub output_format: OutputFormat,
    /// How to generate.
    pub options: GenerationOptions,
}

/// The text to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompletionPrompt {
    /// Text; control tokens written in it are plain text. The model's beginning-of-sequence token is put
    /// before it if the model was trained so.
    Text(String),
    /// A prompt that was rendered elsewhere: control tokens written in it are control tokens. The model's beginning-of-sequence
    /// token is put before it if the model was trained so and the text does not begin with it.
    Rendered(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
}

/// How to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub sampling: SamplingSettings,
    /// The most tokens; `None`: as many as fit. 0 is allowed only for an echoed completion.
    pub max_tokens: Option<usize>,
    /// Where the context ends before `max_tokens`, so does the answer; else such a request is refused. A prompt that leaves no room is refused
    /// in any case.
    pub ends_with_context: bool,
    /// Texts that end the answer; they are not part of it. They are looked for in the answer, not in the thought before it,
    /// whose closing marker itself may be one. At most 16, none empty.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides the model's own.
    pub stop_token_ids: Vec<u32>,
    /// The model's own end does not end the answer: it goes on to `max_tokens`.
    pub ignore_end: bool,
    /// The fewest tokens before a token can end the answer; a stop text still can. Not with an output format.
    pub min_tokens: usize,
    /// `Some(n)`: log-probabilities of the answer's tokens, and the n most likely at each position.
    pub logprobs: Option<usize>,
    /// When the answer counts as a loop and is ended; `None`: as the server was told.
    pub repetition_detection: Option<RepetitionDetection>,
    /// Whose keys and values the answer may reuse: those of requests with the same salt.
    pub cache_salt: CacheSalt,
}

/// How tokens are chosen, where the request says so; everything else as the model's authors recommend, or by
/// [`Sampling`]'s defaults. Each field means what the same field of [`Sampling`] means.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is documented at the field of the same name of Sampling")]
pub struct SamplingSettings {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<usize>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: Option<u64>,
}

impl SamplingSettings {
    /// Always the most likely token.
    pub fn greedy() -> SamplingSettings {
        SamplingSettings { temperature: Some(0.0), ..SamplingSettings::default() }
    }

    /// The settings with `defaults` where the request says nothing.
    pub fn resolve(&self, defaults: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            logit_bias: if self.logit_bias.is_empty() {
                defaults.logit_bias.clone()
            } else {
                self.logit_bias.clone()
            },
            seed: self.seed.or(defaults.seed),
        }
    }
}

/// Whether the model may, must, or must not call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It decides.
    #[default]
    Auto,
    /// It must not; it is not told of the tools.
    None,
    /// It must call at least one.
    Required,
    /// It must call this one.
    Named(String),
}

/// What an answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OutputFormat {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that the schema describes.
    JsonSchema(Value),
    /// Text that the regular expression (the `regex` crate's syntax) matches from beginning to end.
    Regex(String),
    /// Text of the grammar, in llguidance's variant of Lark.
    Lark(String),
}
