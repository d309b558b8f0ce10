//! The receiving end of a request, in text. Dropping it cancels the request within one step of the model.

use std::collections::VecDeque;
use std::sync::Arc;

use zhenjin_engine::{EndReason, Event, Generation, Timings, TokenReport, Usage, sampling};

use crate::answer::checks::{AnswerChecks, CheckedTexts};
use crate::answer::pipeline::{Ending, Output, Pipeline, token_info};
use crate::assistant::LoadedModel;
use crate::event::{Echo, Failure, FinishReason, StopCause, TextEvent, TokenInfo};
use crate::lease::Lease;
use crate::tools::parser::Part;

/// The events of one answer, in order. The model is not unloaded while this is held.
pub struct TextGeneration {
    generation: Generation,
    model: Arc<LoadedModel>,
    /// The model, and the adapter if there is one, are in use until the answer is dropped.
    _leases: Vec<Lease>,
    pipeline: Pipeline,
    wants_tokens: bool,
    /// The prompt's text, if it is to be echoed.
    echo: Option<String>,
    /// The tokens that the model continues.
    prompt: Arc<[u32]>,
    /// The tokens that it sampled, a stop token included.
    sampled: Vec<u32>,
    /// Their log-probabilities, if asked for.
    logprobs: Vec<f32>,
    ready: VecDeque<TextEvent>,
    ending: Option<Ending>,
    checked: CheckedTexts,
    /// The receiving end found an error; the engine's last event is not the answer's.
    broken: Option<String>,
}

impl TextGeneration {
    pub(crate) fn new(
        generation: Generation,
        (model, leases): (Arc<LoadedModel>, Vec<Lease>),
        pipeline: Pipeline,
        wants_tokens: bool,
        echo: Option<String>,
        prompt: Arc<[u32]>,
        checks: AnswerChecks,
    ) -> TextGeneration {
        TextGeneration {
            generation,
            model,
            _leases: leases,
            pipeline,
            wants_tokens,
            echo,
            prompt,
            sampled: Vec::new(),
            logprobs: Vec::new(),
            ready: VecDeque::new(),
            ending: None,
            checked: CheckedTexts::new(checks),
            broken: None,
        }
    }

    /// The seed in use: the request's own, or the fresh one that was drawn for it.
    pub fn seed(&self) -> u64 {
        self.generation.seed()
    }

    /// The prompt's tokens.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// The answer's tokens that have come so far, in the order in which they were sampled; a stop token
    /// included.
    pub fn sampled(&self) -> &[u32] {
        &self.sampled
    }

    /// The log-probabilities of [`TextGeneration::sampled`] by the model's own distribution; `None` unless they were asked for.
    pub fn logprobs(&self) -> Option<&[f32]> {
        (self.wants_tokens && self.logprobs.len() == self.sampled.len()).then_some(&self.logprobs)
    }

    /// The next event; `None` after [`TextEvent::Finished`] or [`TextEvent::Failed`].
    pub async fn next(&mut self) -> Option<TextEvent> {
        while self.ready.is_empty() {
            let event = self.generation.next().await?;
            self.read(event);
        }
        self.ready.pop_front()
    }

    /// The next event, for threads outside an async runtime (it panics inside one).
    pub fn blocking_next(&mut self) -> Option<TextEvent> {
        while self.ready.is_empty() {
            let event = self.generation.blocking_next()?;
            self.read(event);
        }
        self.ready.pop_front()
    }

    fn read(&mut self, event: Event) {
        match event {
            Event::Prompt { cached_tokens, tokens, pooled: _ } => {
                let echo = self.echo.take().map(|text| Echo { text, tokens: self.infos(tokens) });
                self.ready.push_back(TextEvent::Started {
                    prompt_tokens: self.prompt.len(),
                    cached_tokens,
                    echo,
                });
            }
            Event::Token { .. } if self.ending.is_some() || self.broken.is_some() => {}
            Event::Token { report, is_stop } => {
                self.sampled.push(report.id);
                self.logprobs.extend(report.logprob);
                if !is_stop {
                    self.read_token(report);
                }
            }
            Event::Finished { reason, usage, timings } => self.finish(reason, usage, timings),
        }
    }

    fn read_token(&mut self, report: TokenReport) {
        match self.pipeline.push(report) {
            Ok(output) => {
                self.ending = output.ended.clone();
                self.show(output);
            }
            Err(error) => self.broken = Some(error.to_string()),
        }
    }

    fn show(&mut self, output: Output) {
        let mut thought_tokens = self.infos(output.thought_tokens);
        let mut tokens = self.infos(output.tokens);
        for part in output.parts {
            if !matches!(part, Part::Thought(_)) && !thought_tokens.is_empty() {
                let tokens = std::mem::take(&mut thought_tokens);
                self.ready.push_back(TextEvent::Thought { text: String::new(), tokens });
            }
            let event = match part {
                Part::Thought(text) => {
                    TextEvent::Thought { text, tokens: std::mem::take(&mut thought_tokens) }
                }
                Part::Text(text) => TextEvent::Delta { text, tokens: std::mem::take(&mut tokens) },
                Part::CallBegins { index, name } => {
                    let id = Some(self.call_id(index));
                    TextEvent::ToolCall { index, id, name: Some(name), arguments: String::new() }
                }
                Part::Arguments { index, text } => {
                    TextEvent::ToolCall { index, id: None, name: None, arguments: text }
                }
            };
            self.checked.read(&event);
            self.ready.push_back(event);
        }
        if !thought_tokens.is_empty() {
            self.ready.push_back(TextEvent::Thought { text: String::new(), tokens: thought_tokens });
        }
        if !tokens.is_empty() {
            self.ready.push_back(TextEvent::Delta { text: String::new(), tokens });
        }
    }

    /// What is told of tokens: nothing, unless log-probabilities were asked for.
    fn infos(&self, reports: Vec<TokenReport>) -> Vec<TokenInfo> {
        let reports = if self.wants_tokens { reports } else { Vec::new() };
        reports.into_iter().map(|report| token_info(&self.model.tokenizer, report)).collect()
    }

    /// Different for every call of a conversation, as its prompt grows from turn to turn; the same when the
    /// request is repeated.
    fn call_id(&self, index: usize) -> String {
        let turn = sampling::random::seed_of_choice(self.seed(), self.prompt.len() as u64);
        format!("call_{:016x}", sampling::random::seed_of_choice(turn, index as u64 + 1))
    }

    fn finish(&mut self, reason: EndReason, usage: Usage, timings: Timings) {
        // The model's own end is the only one that it chose.
        let is_cut = match &reason {
            EndReason::StopToken(token) => !self.model.tokenizer.end_of_turn().contains(token),
            _ => true,
        };
        let rest = match self.ending {
            Some(Ending::StopString(_) | Ending::CallComplete) => {
                Output { parts: self.pipeline.finish_ended(), ..Output::default() }
            }
            Some(Ending::Repetition) | None => self.pipeline.finish(is_cut),
        };
        self.show(rest);
        let failure = match (self.broken.take(), &reason) {
            (Some(message), _) => Some(Failure::Broken(message)),
            (None, EndReason::Error(message)) => Some(Failure::Broken(message.clone())),
            (None, EndReason::ShutDown) => Some(Failure::ShutDown),
            _ => None,
        };
        if let Some(failure) = failure {
            self.ready.push_back(TextEvent::Failed { failure, usage, timings });
            return;
        }
        let reason = self.finish_reason(reason);
        // What the request's own stop text or token cut off is not what the schema is about.
        let is_complete = matches!(
            reason,
            FinishReason::Stop(StopCause::EndOfTurn | StopCause::FormatComplete) | FinishReason::ToolCalls
        );
        let event = match self.checked.check() {
            Err(reason) if is_complete => {
                TextEvent::Failed { failure: Failure::NotValid(reason), usage, timings }
            }
            _ => TextEvent::Finished { reason, usage, timings },
        };
        self.ready.push_back(event);
    }

    /// Why the answer ended, once it has been read to its end.
    fn finish_reason(&mut self, reason: EndReason) -> FinishReason {
        let has_calls = self.pipeline.calls() > 0;
        let end_of_turn = self.model.tokenizer.end_of_turn();
        // The request's own stop text or token, if that is what ended the answer.
        let stop = match (&self.ending, &reason) {
            (Some(Ending::StopString(stop)), _) => Some(StopCause::StopString(stop.clone())),
            (None, EndReason::StopToken(token)) if !end_of_turn.contains(token) => {
                Some(StopCause::StopToken(*token))
            }
            _ => None,
        };
        match (self.ending.take(), reason, stop) {
            (None, EndReason::Length, _) => FinishReason::Length,
            (Some(Ending::Repetition), ..) => FinishReason::Repetition,
            // What it cut off is no call that a client could make.
            (.., Some(stop)) if !has_calls || self.pipeline.ends_in_call() => FinishReason::Stop(stop),
            _ if has_calls => FinishReason::ToolCalls,
            (_, EndReason::ConstraintFinished, _) => FinishReason::Stop(StopCause::FormatComplete),
            _ => FinishReason::Stop(StopCause::EndOfTurn),
        }
    }
}

impl std::fmt::Debug for TextGeneration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TextGeneration")
            .field("seed", &self.seed())
            .field("prompt_tokens", &self.prompt.len())
            .finish_non_exhaustive()
    }
}
