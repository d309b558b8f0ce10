//! The generations of one request: their events merged, and gathered into whole answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{BoxStream, SelectAll, select_all, unfold};
use futures_util::{Stream, StreamExt};
use zhenjin_assistant::{
    Assistant, Echo, Failure, FinishReason, StopCause, TextEvent, TextGeneration, Timings, TokenInfo, Usage,
};

use crate::errors::ApiError;
use crate::observe::fresh_id;
use crate::openai::failure;
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamPermit;

/// What all pieces of one answer share.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) fingerprint: String,
}

impl Heading {
    /// A new heading; `kind` is what OpenAI puts before such ids.
    pub(crate) fn new(kind: &str, assistant: &Assistant) -> Self {
        Heading {
            id: format!("{kind}-{}", fresh_id()),
            created: seconds_since_1970(),
            model: assistant.info().name.clone(),
            fingerprint: assistant.info().fingerprint.clone(),
        }
    }
}

/// The time now, in seconds since 1970.
pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Tokens of its prompt, once it is computed.
    pub(crate) prompt_tokens: usize,
    /// Of these, found in the cache.
    pub(crate) cached_tokens: usize,
    /// Its own tokens so far.
    pub(crate) completion_tokens: usize,
}

/// The running generations of one request. Dropping it, as happens when the client goes away, cancels all of them.
pub(crate) struct Generations {
    events: SelectAll<BoxStream<'static, (usize, TextEvent, usize)>>,
    progress: Vec<Progress>,
    shutdown: Shutdown,
    model: String,
    request_id: String,
    /// The model stays in memory for as long as this is held.
    _assistant: Arc<Assistant>,
    _permit: StreamPermit,
}

impl Generations {
    /// Follows `generations`, whose places in the list become the choices' numbers.
    pub(crate) fn new(
        generations: Vec<TextGeneration>,
        assistant: Arc<Assistant>,
        permit: StreamPermit,
        shutdown: Shutdown,
        request_id: String,
    ) -> Self {
        let progress = vec![Progress::default(); generations.len()];
        let events = select_all(
            generations
                .into_iter()
                .enumerate()
                .map(|(choice, generation)| numbered(choice, generation).boxed()),
        );
        let model = assistant.info().name.clone();
        Generations { events, progress, shutdown, model, request_id, _assistant: assistant, _permit: permit }
    }

    /// The next event of any choice; `None` once all are finished; an error if one failed or the server ends.
    pub(crate) async fn next(&mut self) -> Option<Result<(usize, TextEvent), ApiError>> {
        let next = tokio::select! {
            next = self.events.next() => next,
            () = self.shutdown.ending() => return Some(Err(ApiError::shutting_down())),
        };
        let (choice, event, sampled) = next?;
        if let Some(progress) = self.progress.get_mut(choice) {
            progress.completion_tokens = sampled;
            if let TextEvent::Started { prompt_tokens, cached_tokens, .. } = event {
                (progress.prompt_tokens, progress.cached_tokens) = (prompt_tokens, cached_tokens);
            }
        }
        match &event {
            TextEvent::Finished { reason, usage, timings } => {
                self.log(choice, end_of(reason), usage, timings)
            }
            TextEvent::Failed { failure: why, usage, timings } => {
                self.log(choice, end_of_failure(why), usage, timings);
                return Some(Err(failure(why.clone())));
            }
            _ => {}
        }
        Some(Ok((choice, event)))
    }

    /// How far a choice has come with the event that [`Generations::next`] gave last.
    pub(crate) fn progress(&self, choice: usize) -> Progress {
        self.progress.get(choice).copied().unwrap_or_default()
    }

    /// One line for each answer: numbers only, never text.
    fn log(&self, choice: usize, end: &'static str, usage: &Usage, timings: &Timings) {
        tracing::info!(
            id = self.request_id,
            model = self.model,
            choice,
            end,
            prompt_tokens = usage.prompt_tokens,
            cached_tokens = usage.cached_tokens,
            answer_tokens = usage.completion_tokens,
            queue_ms = timings.queue.as_millis() as u64,
            first_token_ms = timings.time_to_first_token.map(|time| time.as_millis() as u64),
            tokens_per_second = timings.tokens_per_second(usage.completion_tokens),
            "generated"
        );
    }

    /// Waits until all `choices` are whole.
    pub(crate) async fn gather(mut self, choices: usize) -> Result<Vec<WholeAnswer>, ApiError> {
        let mut answers = vec![WholeAnswer::default(); choices];
        while let Some(next) = self.next().await {
            let (choice, event) = next?;
            let tokens = self.progress(choice).completion_tokens;
            if let Some(answer) = answers.get_mut(choice) {
                if matches!(event, TextEvent::Thought { .. }) {
                    answer.thought_count = tokens;
                }
                answer.take(event);
            }
        }
        if answers.iter().any(|answer| answer.end.is_none()) {
            return Err(ApiError::internal("an answer ended without saying why"));
        }
        Ok(answers)
    }
}

fn end_of(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop(StopCause::EndOfTurn) => "end_of_turn",
        FinishReason::Stop(StopCause::StopToken(_)) => "stop_token",
        FinishReason::Stop(StopCause::StopString(_)) => "stop_text",
        FinishReason::Stop(StopCause::FormatComplete) => "format_complete",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Repetition => "repetition",
    }
}

fn end_of_failure(failure: &Failure) -> &'static str {
    match failure {
        Failure::ShutDown => "shut_down",
        Failure::Broken(_) => "broken",
        Failure::NotValid(_) => "not_valid",
    }
}

fn numbered(
    choice: usize,
    generation: TextGeneration,
) -> impl Stream<Item = (usize, TextEvent, usize)> + Send + 'static {
    unfold(generation, move |mut generation| async move {
        let event = generation.next().await?;
        let sampled = generation.sampled().len();
        Some(((choice, event, sampled), generation))
    })
}

/// Everything about one finished answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct WholeAnswer {
    pub(crate) echo: Option<Echo>,
    /// What the model thought before the text.
    pub(crate) thought: String,
    pub(crate) thought_tokens: Vec<TokenInfo>,
    /// How many tokens the thought took, whether or not they are reported.
    pub(crate) thought_count: usize,
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenInfo>,
    pub(crate) calls: Vec<WholeCall>,
    pub(crate) end: Option<(FinishReason, Usage)>,
    pub(crate) timings: Timings,
}

/// A finished tool call.
#[derive(Clone, Debug, Default)]
pub(crate) struct WholeCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl WholeCall {
    /// Puts an event about a call to the calls so far: a new one, or more arguments of the last one.
    pub(crate) fn take(
        calls: &mut Vec<WholeCall>,
        id: Option<String>,
        name: Option<String>,
        arguments: &str,
    ) {
        if let (Some(id), Some(name)) = (id, name) {
            calls.push(WholeCall { id, name, arguments: String::new() });
        }
        if let Some(call) = calls.last_mut() {
            call.arguments.push_str(arguments);
        }
    }
}

impl WholeAnswer {
    fn take(&mut self, event: TextEvent) {
        match event {
            TextEvent::Started { echo, .. } => self.echo = echo,
            TextEvent::Thought { text, tokens } => {
                self.thought.push_str(&text);
                self.thought_tokens.extend(tokens);
            }
            TextEvent::Delta { text, tokens } => {
                self.text.push_str(&text);
                self.tokens.extend(tokens);
            }
            TextEvent::ToolCall { id, name, arguments, .. } => {
                WholeCall::take(&mut self.calls, id, name, &arguments);
            }
            TextEvent::Finished { reason, usage, timings } => {
                self.end = Some((reason, usage));
                self.timings = timings;
            }
            TextEvent::Failed { .. } => {}
        }
    }

    /// The mean log-probability of the answer's tokens; an empty answer is certain.
    pub(crate) fn mean_logprob(&self) -> f64 {
        let sum: f64 = self.tokens.iter().filter_map(|token| token.logprob).map(f64::from).sum();
        if self.tokens.is_empty() { 0.0 } else { sum / self.tokens.len() as f64 }
    }
}
