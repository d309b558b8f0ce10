//! One loaded model: checks requests, makes prompts and constraints of them, submits them to the engine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;
use zhenjin_conversation::{ConversationStyle, Prompt, PromptOptions, ThinkingSupport, Tool, ToolStyle};
use zhenjin_engine::sampling::random;
use zhenjin_engine::{Engine, EngineStats, PromptLogprobs, Request, Sampling};
use zhenjin_model::{Adapter, Fingerprint};
use zhenjin_tokenizer::{ChatTemplate, ControlText, Specials, Tokenizer};

use crate::answer::checks::AnswerChecks;
use crate::answer::pipeline::{EndOfAnswer, Pipeline, Reading};
use crate::answer::repetition::RepetitionDetection;
use crate::answer::thoughts::ThoughtReading;
use crate::constraint::compiler::{CompiledFormat, FormatCompiler};
use crate::constraint::least_tokens::LeastTokens;
use crate::constraint::limits;
use crate::error::AssistantError;
use crate::generation::TextGeneration;
use crate::lease::{Lease, Leases};
use crate::request::{
    ChatRequest, CompletionPrompt, CompletionRequest, GenerationOptions, OutputFormat, ToolChoice,
};
use crate::tools;
use crate::tools::parser::ToolCallParser;

/// The most stop strings of a request.
pub(crate) const MAX_STOP_STRINGS: usize = 16;
/// The most bytes of a stop string.
pub(crate) const MAX_STOP_BYTES: usize = 1024;
/// The most answers to one request.
pub(crate) const MAX_CHOICES: usize = 128;

/// What there is to know about a loaded model.
#[derive(Clone, Debug, PartialEq)]
pub struct AssistantInfo {
    /// The name under which it is served.
    pub name: String,
    /// The architecture, as its file calls it.
    pub architecture: String,
    /// The most tokens of one conversation here: the model's context, or less if the server was told so or
    /// memory holds less.
    pub context_length: usize,
    /// Bytes of weights, workspace, keys and values.
    pub memory_bytes: u64,
    /// Whether it has a chat template.
    pub has_template: bool,
    /// Whether its template tells the model of tools itself; otherwise a system message does.
    pub template_knows_tools: bool,
    /// Whether it thinks before it answers, and whether it can be told to.
    pub thinking: ThinkingSupport,
    /// Changes when the weights, the adapter or the code that computes with them change (OpenAI's `system_fingerprint`).
    pub fingerprint: String,
}

/// Everything that answers need. Held by the assistant and by every running answer.
pub(crate) struct LoadedModel {
    pub(crate) info: AssistantInfo,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) style: ConversationStyle,
    pub(crate) default_sampling: Sampling,
    /// When an answer counts as a loop, where a request says nothing.
    pub(crate) repetition_detection: RepetitionDetection,
    pub(crate) engine: Engine,
    /// Those who use it.
    pub(crate) leases: Leases,
    /// Built when the first request asks for an output format.
    pub(crate) format_compiler: OnceLock<Result<FormatCompiler, AssistantError>>,
}

/// One loaded model: tokenizer, chat template, engine.
///
/// Submitting renders a template and may compile a grammar, which takes up to some tenths of a second: async
/// callers should do it where blocking is allowed.
pub struct Assistant {
    pub(crate) model: Arc<LoadedModel>,
    info: AssistantInfo,
    adapter: Option<Arc<Adapter>>,
    /// Of the model and of the adapter; none where it is only kept to be leased.
    leases: Vec<Lease>,
}

/// A request in tokens, before it is known how many answers are wanted.
struct Prepared {
    prompt: Vec<u32>,
    reading: Reading,
    format: Option<CompiledFormat>,
    echo: Option<String>,
    prompt_logprobs: Option<PromptLogprobs>,
}

/// Answers to one request, checked and not begun; see [`Assistant::begin`].
pub struct PreparedAnswers(Vec<PreparedAnswer>);

/// One of them: what the engine computes, and what reads it.
struct PreparedAnswer {
    request: Request,
    pipeline: Pipeline,
    wants_tokens: bool,
    echo: Option<String>,
    prompt: Arc<[u32]>,
    checks: AnswerChecks,
}

impl Assistant {
    /// The assistant of a loaded model.
    pub(crate) fn new(model: LoadedModel) -> Assistant {
        Assistant { info: model.info.clone(), model: Arc::new(model), adapter: None, leases: Vec::new() }
    }

    /// The same for somebody who uses it: the model is in use for as long as the value, or an answer of it, is held.
    pub(crate) fn leased(&self) -> Assistant {
        let Assistant { model, info, adapter, leases } = self;
        let leases = leases.iter().cloned().chain([model.leases.lease()]).collect();
        Assistant { model: Arc::clone(model), info: info.clone(), adapter: adapter.clone(), leases }
    }

    /// Whether both are of one loaded model, with whatever adapters.
    pub fn shares_model_with(&self, other: &Assistant) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }

    /// The same model with an adapter in use, served under `name`.
    pub(crate) fn with_adapter(&self, name: &str, adapter: Arc<Adapter>, lease: Lease) -> Assistant {
        let base = &self.model.info;
        let parts =
            [base.fingerprint.as_bytes(), adapter.fingerprint().as_bytes().as_slice()].map(<[u8]>::to_vec);
        let fingerprint =
            Fingerprint::of_parts("zhenjin answers with an adapter", parts.iter().map(Vec::as_slice));
        let info = AssistantInfo {
            name: name.to_owned(),
            memory_bytes: base.memory_bytes + adapter.bytes() as u64,
            fingerprint: system_fingerprint(fingerprint),
            ..base.clone()
        };
        let leases = self.leases.iter().cloned().chain([lease]).collect();
        Assistant { model: Arc::clone(&self.model), info, adapter: Some(adapter), leases }
    }

    /// The same under another name.
    pub(crate) fn named(&self, name: &str) -> Assistant {
        let Assistant { model, info, adapter, leases } = self;
        let info = AssistantInfo { name: name.to_owned(), ..info.clone() };
        Assistant { model: Arc::clone(model), info, adapter: adapter.clone(), leases: leases.clone() }
    }

    /// Answers a conversation.
    ///
    /// # Errors
    /// [`AssistantError`] that says what is wrong, or how long to wait.
    pub fn chat(&self, request: &ChatRequest) -> Result<TextGeneration, AssistantError> {
        self.chat_choices(request, 1)?.pop().ok_or_else(no_answer)
    }

    /// Answers a conversation `choices` times. Choice 0 uses the request's seed, choice i the seed
    /// [`zhenjin_engine::sampling::random::seed_of_choice`]`(seed, i)`.
    ///
    /// # Errors
    /// As [`Assistant::chat`]; then none of them runs.
    pub fn chat_choices(
        &self,
        request: &ChatRequest,
        choices: usize,
    ) -> Result<Vec<TextGeneration>, AssistantError> {
        let (messages, context) = (request.messages.len(), self.info.context_length);
        if messages > context {
            // Before a template is run with so many.
            return Err(AssistantError::TooManyMessages { messages, context });
        }
        let tools = self.offered_tools(request)?;
        let Prompt { tokens: prompt, opens_thought, .. } = self.prompt_of(request, &tools)?;
        let constraint = match request.tool_choice {
            ToolChoice::Required | ToolChoice::Named(_) => {
                Some(self.calls_constraint(request, &tools, None)?)
            }
            ToolChoice::Auto if !tools.is_empty() && request.output_format != OutputFormat::Text => {
                Some(self.calls_constraint(request, &tools, Some(&request.output_format))?)
            }
            ToolChoice::Auto | ToolChoice::None => self.format_constraint(&request.output_format)?,
        };
        let must_call = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let parser = self.model.style.tools.format().filter(|_| !tools.is_empty()).map(|format| {
            let names = tools.iter().map(|tool| tool.name.clone()).collect();
            ToolCallParser::new(format, names).where_calls_are_required(must_call)
        });
        let markers = self.model.style.thinking.markers;
        let thoughts = ThoughtReading { markers, is_open: opens_thought };
        let (thoughts, constraint) = match constraint {
            // What an answer must look like holds after the thought that its prompt opens; without one, for all of it.
            Some(constraint) if opens_thought => {
                (Some(thoughts), Some(constraint.after_thought(&self.model.tokenizer, thoughts)))
            }
            Some(constraint) => (None, Some(constraint)),
            None => (Some(thoughts), None),
        };
        let reading = Reading {
            stop: request.options.stop.clone(),
            thoughts,
            tool_calls: parser,
            single_call: !request.may_call_several(),
            drops_space: self.drops_space_behind(&prompt),
            repetition: self.repetition_detection(&request.options),
        };
        let prepared = Prepared { prompt, reading, format: constraint, echo: None, prompt_logprobs: None };
        self.begin(vec![self.prepare(prepared, &request.options, choices)?])
    }

    /// Continues a text.
    ///
    /// # Errors
    /// [`AssistantError`] that says what is wrong, or how long to wait.
    pub fn complete(&self, request: &CompletionRequest) -> Result<TextGeneration, AssistantError> {
        self.complete_choices(request, 1)?.pop().ok_or_else(no_answer)
    }

    /// Continues a text `choices` times, with seeds as in [`Assistant::chat_choices`].
    ///
    /// # Errors
    /// As [`Assistant::complete`]; then none of them runs.
    pub fn complete_choices(
        &self,
        request: &CompletionRequest,
        choices: usize,
    ) -> Result<Vec<TextGeneration>, AssistantError> {
        self.begin(vec![self.prepare_completion(request, choices)?])
    }

    /// Begins answers that belong together, in their order: all of them, or none.
    ///
    /// # Errors
    /// [`AssistantError::QueueFull`] where not so many places are free; [`AssistantError::Invalid`] with the field `n` where there are never so
    /// many; [`AssistantError::ShuttingDown`].
    pub fn begin(&self, prepared: Vec<PreparedAnswers>) -> Result<Vec<TextGeneration>, AssistantError> {
        let mut requests = Vec::new();
        let mut readers = Vec::new();
        for answer in prepared.into_iter().flat_map(|answers| answers.0) {
            let PreparedAnswer { request, pipeline, wants_tokens, echo, prompt, checks } = answer;
            requests.push(request);
            readers.push((pipeline, wants_tokens, echo, prompt, checks));
        }
        let generations = self.model.engine.submit_all(requests)?;
        let begun = generations.into_iter().zip(readers).map(|(generation, reader)| {
            let (pipeline, wants_tokens, echo, prompt, checks) = reader;
            let model = (Arc::clone(&self.model), self.leases.clone());
            TextGeneration::new(generation, model, pipeline, wants_tokens, echo, prompt, checks)
        });
        Ok(begun.collect())
    }

    /// Checks all that can be wrong with `choices` continuations of a text, with seeds as in [`Assistant::chat_choices`], and begins none.
    ///
    /// # Errors
    /// [`AssistantError`] that says what is wrong.
    pub fn prepare_completion(
        &self,
        request: &CompletionRequest,
        choices: usize,
    ) -> Result<PreparedAnswers, AssistantError> {
        let tokenizer = &self.model.tokenizer;
        let invalid =
            |error: zhenjin_tokenizer::TokenizerError| AssistantError::invalid("prompt", error.to_string());
        let (prompt, text) = match &request.prompt {
            CompletionPrompt::Tokens(tokens) => {
                (tokens.clone(), tokenizer.decode(tokens, ControlText::Show).map_err(invalid)?)
            }
            CompletionPrompt::Text(text) => {
                let beginning = tokenizer.bos().filter(|_| tokenizer.adds_bos());
                let tokens = tokenizer.encode(text, Specials::AsText).map_err(invalid)?;
                (beginning.into_iter().chain(tokens).collect(), text.clone())
            }
            CompletionPrompt::Rendered(text) => {
                let tokens = tokenizer.encode(text, Specials::Parse).map_err(invalid)?;
                let beginning =
                    tokenizer.bos().filter(|bos| tokenizer.adds_bos() && tokens.first() != Some(bos));
                (beginning.into_iter().chain(tokens).collect(), text.clone())
            }
        };
        let is_empty_answer = request.options.max_tokens == Some(0);
        if is_empty_answer && !request.echo {
            return Err(AssistantError::invalid("max_tokens", "0 tokens can be asked for only with echo"));
        }
        let prompt_logprobs = match request.options.logprobs {
            Some(top) if request.echo => Some(PromptLogprobs { from: 0, top }),
            // The engine computes a prompt without an answer only for its log-probabilities: those of no token.
            _ => is_empty_answer.then_some(PromptLogprobs { from: prompt.len(), top: 0 }),
        };
        let reading = Reading {
            stop: request.options.stop.clone(),
            thoughts: None,
            tool_calls: None,
            single_call: false,
            drops_space: false,
            repetition: self.repetition_detection(&request.options),
        };
        let format = self.format_constraint(&request.output_format)?;
        let prepared =
            Prepared { prompt, reading, format, echo: request.echo.then_some(text), prompt_logprobs };
        self.prepare(prepared, &request.options, choices)
    }

    /// How many tokens the conversation takes as a prompt, tools and template included.
    ///
    /// # Errors
    /// As [`Assistant::chat`], but nothing is submitted.
    pub fn count_prompt(&self, request: &ChatRequest) -> Result<usize, AssistantError> {
        Ok(self.prompt_tokens(request)?.len())
    }

    /// The tokens of the conversation's prompt, tools and template included.
    ///
    /// # Errors
    /// As [`Assistant::chat`], but nothing is submitted.
    pub fn prompt_tokens(&self, request: &ChatRequest) -> Result<Vec<u32>, AssistantError> {
        let tools = self.offered_tools(request)?;
        Ok(self.prompt_of(request, &tools)?.tokens)
    }

    /// What there is to know about the model.
    pub fn info(&self) -> &AssistantInfo {
        &self.info
    }

    /// The source of its chat template; `None` without one.
    pub fn template_source(&self) -> Option<&str> {
        self.model.template.as_ref().map(ChatTemplate::source)
    }

    /// Text ↔ token ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.model.tokenizer
    }

    /// How tokens are chosen where a request says nothing.
    pub fn default_sampling(&self) -> &Sampling {
        &self.model.default_sampling
    }

    /// When a place for an answer should be free once all are taken; `None` before the first answer has ended.
    pub fn expected_wait(&self) -> Option<Duration> {
        self.model.engine.expected_wait()
    }

    /// What the engine counted.
    pub fn stats(&self) -> EngineStats {
        self.model.engine.stats()
    }

    /// How many use the model: holders of a leased assistant, and answers.
    pub(crate) fn users(&self) -> usize {
        self.model.leases.count()
    }

    fn offered_tools<'r>(&self, request: &'r ChatRequest) -> Result<Vec<&'r Tool>, AssistantError> {
        let tools = tools::offered_tools(request)?;
        for parameters in tools.iter().filter_map(|tool| tool.parameters.as_ref()) {
            limits::check_schema("tools", parameters)?;
        }
        if !tools.is_empty() && self.model.style.tools == ToolStyle::Unknown {
            let reason = "this model's chat template writes tool calls in a format that is not supported \
                          (supported: Hermes and Qwen's <tool_call>, Llama 3's JSON, Granite's <|tool_call|>)";
            return Err(AssistantError::invalid("tools", reason));
        }
        Ok(tools)
    }

    fn prompt_of(&self, request: &ChatRequest, tools: &[&Tool]) -> Result<Prompt, AssistantError> {
        let Some(template) = &self.model.template else {
            let reason = "this model has no chat template, so it cannot answer conversations; ask it for a completion instead";
            return Err(AssistantError::invalid("messages", reason));
        };
        let options = PromptOptions {
            thinking: &request.thinking,
            template_variables: &request.template_variables,
            now: request.now.unwrap_or_else(OffsetDateTime::now_utc),
        };
        let LoadedModel { tokenizer, style, .. } = &*self.model;
        Ok(style.prompt(tokenizer, template, &request.messages, tools, &options)?)
    }

    /// Whether what follows a prompt begins with a space that the vocabulary puts there.
    fn drops_space_behind(&self, prompt: &[u32]) -> bool {
        let tokenizer = &self.model.tokenizer;
        tokenizer.puts_space_before_texts() && prompt.last().is_some_and(|id| tokenizer.is_special(*id))
    }

    fn format_constraint(&self, format: &OutputFormat) -> Result<Option<CompiledFormat>, AssistantError> {
        if *format == OutputFormat::Text { Ok(None) } else { self.format_compiler()?.compile(format) }
    }

    /// Calls, or an answer in the format where one is given.
    fn calls_constraint(
        &self,
        request: &ChatRequest,
        tools: &[&Tool],
        answer: Option<&OutputFormat>,
    ) -> Result<CompiledFormat, AssistantError> {
        let Some(format) = self.model.style.tools.format() else { return Err(no_answer()) };
        self.format_compiler()?.compile_calls(format, tools, request.may_call_several(), answer)
    }

    fn format_compiler(&self) -> Result<&FormatCompiler, AssistantError> {
        let compiler = self.model.format_compiler.get_or_init(|| FormatCompiler::new(&self.model.tokenizer));
        compiler.as_ref().map_err(Clone::clone)
    }

    fn prepare(
        &self,
        prepared: Prepared,
        options: &GenerationOptions,
        choices: usize,
    ) -> Result<PreparedAnswers, AssistantError> {
        check_stop_strings(&options.stop)?;
        if choices == 0 || choices > MAX_CHOICES {
            return Err(AssistantError::invalid(
                "n",
                format!("{choices} is not between 1 and {MAX_CHOICES}"),
            ));
        }
        let mut sampling = options.sampling.resolve(&self.model.default_sampling);
        let seed = sampling.seed.unwrap_or_else(random::fresh_seed);
        let max_tokens = self.max_tokens(prepared.prompt.len(), options)?;
        let end_of_turn = self.model.tokenizer.end_of_turn();
        let own_ends: &[u32] = if options.ignore_end { &[] } else { end_of_turn };
        let stop_tokens: Vec<u32> = own_ends.iter().chain(&options.stop_token_ids).copied().collect();
        check_min_tokens(options.min_tokens, max_tokens, prepared.format.is_some())?;
        let least = (options.min_tokens > 0).then(|| {
            LeastTokens::new(options.min_tokens, [end_of_turn, options.stop_token_ids.as_slice()].concat())
        });
        let wants_tokens = options.logprobs.is_some();
        let prompt: Arc<[u32]> = prepared.prompt.as_slice().into();
        let mut answers = Vec::with_capacity(choices);
        for choice in 0..choices {
            sampling.seed = Some(random::seed_of_choice(seed, choice as u64));
            let beside_engine = EndOfAnswer::new(&self.model.tokenizer, &prepared.reading);
            let request = Request {
                stop_tokens: stop_tokens.clone(),
                logprobs: options.logprobs,
                prompt_logprobs: prepared.prompt_logprobs,
                constraint: match &prepared.format {
                    Some(format) => Some(Box::new(format.constraint()) as _),
                    None => least.clone().map(|least| Box::new(least) as _),
                },
                stop_condition: beside_engine.map(|condition| Box::new(condition) as _),
                adapter: self.adapter.clone(),
                cache_salt: options.cache_salt,
                ..Request::new(prepared.prompt.clone(), max_tokens, sampling.clone())
            };
            if choice == 0 {
                // The others differ in nothing that could be wrong.
                self.model.engine.check(&request)?;
            }
            answers.push(PreparedAnswer {
                request,
                pipeline: Pipeline::new(&self.model.tokenizer, prepared.reading.clone()),
                wants_tokens,
                echo: prepared.echo.clone(),
                prompt: Arc::clone(&prompt),
                checks: prepared.format.as_ref().map(CompiledFormat::checks).unwrap_or_default(),
            });
        }
        Ok(PreparedAnswers(answers))
    }

    /// The request's own rule, or this server's; none by itself where the request names a length.
    fn repetition_detection(&self, options: &GenerationOptions) -> RepetitionDetection {
        // Who asks for a length wants it whatever the text is.
        let wants_length = options.ignore_end || options.min_tokens > 0;
        let unsaid = if wants_length { RepetitionDetection::Off } else { self.model.repetition_detection };
        options.repetition_detection.unwrap_or(unsaid)
    }

    /// What was asked for, or all that fits after the prompt.
    fn max_tokens(&self, prompt: usize, options: &GenerationOptions) -> Result<usize, AssistantError> {
        let context = self.model.info.context_length;
        match options.max_tokens {
            Some(max_tokens) if prompt.saturating_add(max_tokens) <= context => Ok(max_tokens),
            Some(max_tokens) if options.ends_with_context && prompt < context => {
                Ok(max_tokens.min(context - prompt))
            }
            None if prompt < context => Ok(context - prompt),
            asked => Err(AssistantError::ContextExceeded { prompt, max_tokens: asked.unwrap_or(1), context }),
        }
    }
}

impl std::fmt::Debug for PreparedAnswers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("PreparedAnswers").field(&self.0.len()).finish()
    }
}

impl std::fmt::Debug for Assistant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Assistant").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The first 16 digits: the form of OpenAI's `system_fingerprint`, and enough to tell thousands of models apart.
pub(crate) fn system_fingerprint(fingerprint: Fingerprint) -> String {
    let mut digits = fingerprint.to_string();
    digits.truncate(16);
    format!("fp_{digits}")
}

fn check_min_tokens(least: usize, most: usize, has_constraint: bool) -> Result<(), AssistantError> {
    if least > most {
        let reason = format!("{least} tokens at least are more than the {most} that the answer may have");
        return Err(AssistantError::invalid("min_tokens", reason));
    }
    if least > 0 && has_constraint {
        let reason = "an answer that must have a format, or be a call, ends where that is complete";
        return Err(AssistantError::invalid("min_tokens", reason));
    }
    Ok(())
}

fn check_stop_strings(stop: &[String]) -> Result<(), AssistantError> {
    if stop.len() > MAX_STOP_STRINGS {
        let reason = format!("{} strings are more than the {MAX_STOP_STRINGS} allowed", stop.len());
        return Err(AssistantError::invalid("stop", reason));
    }
    if stop.iter().any(String::is_empty) {
        return Err(AssistantError::invalid("stop", "an empty string would stop everywhere"));
    }
    if let Some(long) = stop.iter().find(|stop| stop.len() > MAX_STOP_BYTES) {
        let reason = format!("a string of {} bytes is longer than the {MAX_STOP_BYTES} allowed", long.len());
        return Err(AssistantError::invalid("stop", reason));
    }
    Ok(())
}

fn no_answer() -> AssistantError {
    AssistantError::Internal("the request was accepted without an answer to come".to_owned())
}
