//! Answers in Ollama's words, whole or a line at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zhenjin_assistant::{FinishReason, ServedModels, TextEvent, Timings, TokenInfo, Usage};

use super::ErrorLine;
use super::durations::KeepAlive;
use super::wire::{
    OllamaChatAnswer, OllamaEnding, OllamaFunction, OllamaGenerateAnswer, OllamaMessage, OllamaToolCall, now,
};
use crate::answering::{AnswerWriter, Pieces, WholeAnswer, WholeCall};
use crate::errors::ApiError;
use crate::openai::logprobs::ChatLogprobs;

/// Which of the two routes is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Chat,
    Generate,
}

/// What an answer says beside its text.
pub(super) struct Writer {
    pub(super) shape: Shape,
    /// As the request named it.
    pub(super) model: String,
    pub(super) asked: Instant,
    pub(super) load: Duration,
    pub(super) reports_logprobs: bool,
    /// Calls that are still being written; only whole ones are sent.
    pub(super) calls: Vec<WholeCall>,
    pub(super) sent_calls: usize,
    /// Dropped with the writer, after the generation.
    pub(super) _unload: Option<Unload>,
}

/// When it is dropped, the time begins after which a model is unloaded, unless others use it.
pub(super) struct Unload {
    models: Arc<ServedModels>,
    name: String,
    after: Duration,
}

impl Unload {
    /// For a model that the request wants gone.
    pub(super) fn wanted(keep_alive: KeepAlive, models: &Arc<ServedModels>, name: &str) -> Option<Unload> {
        match keep_alive {
            KeepAlive::Stay => None,
            KeepAlive::For(after) => {
                Some(Unload { models: Arc::clone(models), name: name.to_owned(), after })
            }
        }
    }
}

impl Drop for Unload {
    fn drop(&mut self) {
        if self.after.is_zero() {
            self.models.unload(&self.name);
        } else {
            self.models.unload_after(&self.name, self.after);
        }
    }
}

/// What one piece says.
#[derive(Default)]
struct Said {
    thought: Option<String>,
    text: String,
    calls: Vec<OllamaToolCall>,
    ending: OllamaEnding,
}

impl Writer {
    /// The whole answer as one object.
    pub(super) fn whole(self, answer: WholeAnswer) -> Value {
        let mut ending = match &answer.end {
            Some((reason, usage)) => self.ending(reason, usage, &answer.timings),
            None => OllamaEnding::default(),
        };
        ending.logprobs = self.logprobs(&[answer.thought_tokens, answer.tokens].concat());
        let thought = (!answer.thought.is_empty()).then_some(answer.thought);
        let calls = answer.calls.iter().enumerate().map(|(index, call)| written_call(index, call)).collect();
        self.piece(Said { thought, text: answer.text, calls, ending })
    }

    /// The answer to a request that only loads or unloads the model.
    pub(super) fn loaded(&self, done_reason: &'static str) -> Value {
        let ending = OllamaEnding { done: true, done_reason: Some(done_reason), ..OllamaEnding::default() };
        self.piece(Said { ending, ..Said::default() })
    }

    fn piece(&self, said: Said) -> Value {
        let Said { thought, text, calls, ending } = said;
        let (model, created_at) = (self.model.clone(), now());
        match self.shape {
            Shape::Chat => {
                let message =
                    OllamaMessage { role: "assistant", content: text, thinking: thought, tool_calls: calls };
                json!(OllamaChatAnswer { model, created_at, message, ending })
            }
            Shape::Generate => {
                json!(OllamaGenerateAnswer { model, created_at, response: text, thinking: thought, ending })
            }
        }
    }

    fn logprobs(&self, tokens: &[TokenInfo]) -> Option<Vec<crate::openai::logprobs::ChatTokenLogprob>> {
        (self.reports_logprobs && !tokens.is_empty()).then(|| ChatLogprobs::of(&[], tokens).content)
    }

    fn ending(&self, reason: &FinishReason, usage: &Usage, timings: &Timings) -> OllamaEnding {
        let nanoseconds = |duration: Duration| Some(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        let first = timings.time_to_first_token.unwrap_or(timings.total);
        OllamaEnding {
            logprobs: None,
            done: true,
            done_reason: Some(match reason {
                FinishReason::Length | FinishReason::Repetition => "length",
                FinishReason::Stop(_) | FinishReason::ToolCalls => "stop",
            }),
            total_duration: nanoseconds(self.asked.elapsed()),
            load_duration: nanoseconds(self.load),
            prompt_eval_count: Some(usage.prompt_tokens),
            prompt_eval_duration: nanoseconds(first.saturating_sub(timings.queue)),
            eval_count: Some(usage.completion_tokens),
            eval_duration: nanoseconds(timings.decode),
        }
    }

    /// Sends the calls that are whole: all but the last, or with `is_end` that one as well.
    fn send_calls(&mut self, is_end: bool, pieces: &mut Pieces) {
        let whole = self.calls.len().saturating_sub(usize::from(!is_end));
        while self.sent_calls < whole {
            let call = written_call(self.sent_calls, &self.calls[self.sent_calls]);
            pieces.push(&self.piece(Said { calls: vec![call], ..Said::default() }));
            self.sent_calls += 1;
        }
    }
}

impl AnswerWriter for Writer {
    fn write(&mut self, _choice: usize, event: TextEvent, pieces: &mut Pieces) {
        match event {
            TextEvent::Delta { text, tokens } => {
                let logprobs = self.logprobs(&tokens);
                if !text.is_empty() || logprobs.is_some() {
                    let ending = OllamaEnding { logprobs, ..OllamaEnding::default() };
                    pieces.push(&self.piece(Said { text, ending, ..Said::default() }));
                }
            }
            TextEvent::Thought { text, tokens } => {
                let logprobs = self.logprobs(&tokens);
                if !text.is_empty() || logprobs.is_some() {
                    let ending = OllamaEnding { logprobs, ..OllamaEnding::default() };
                    pieces.push(&self.piece(Said { thought: Some(text), ending, ..Said::default() }));
                }
            }
            TextEvent::ToolCall { id, name, arguments, .. } => {
                WholeCall::take(&mut self.calls, id, name, &arguments);
                self.send_calls(false, pieces);
            }
            TextEvent::Finished { reason, usage, timings } => {
                self.send_calls(true, pieces);
                let ending = self.ending(&reason, &usage, &timings);
                pieces.push(&self.piece(Said { ending, ..Said::default() }));
            }
            TextEvent::Started { .. } | TextEvent::Failed { .. } => {}
        }
    }

    fn end(&mut self, _pieces: &mut Pieces) {}

    fn fail(&mut self, error: &ApiError, pieces: &mut Pieces) {
        pieces.push(&ErrorLine::of(error));
    }
}

/// A call with its arguments as an object. What a model wrote that is no JSON object stands under `arguments` as text, so that
/// nothing of it is lost.
fn written_call(index: usize, call: &WholeCall) -> OllamaToolCall {
    let arguments = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({ "arguments": call.arguments }),
    };
    OllamaToolCall {
        id: call.id.clone(),
        function: OllamaFunction { index, name: call.name.clone(), arguments },
    }
}
