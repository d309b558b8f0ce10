//! `POST /v1/completions`.

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use zhenjin_assistant::{OutputFormat, TextEvent};

use super::faults::refusal;
use super::logprobs::CompletionLogprobsWriter;
use super::request::completion::{CompletionFields, read};
use super::response::{Completion, CompletionChoice, RunningUsage, UsageReport, finish_reason, stop_reason};
use super::stream::{self, PieceWriter};
use crate::answering::{Answering, Heading, Progress, WholeAnswer};
use crate::body::json_read;
use crate::errors::{ApiError, ErrorBody};

/// Continues texts.
#[utoipa::path(post, path = "/v1/completions", operation_id = "createCompletion", tag = "openai",
    request_body(content = ref("#/components/schemas/CompletionRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The continuations; with `stream`, events of `Completion`, then `[DONE]`.",
            content((Completion = "application/json"), (Completion = "text/event-stream"))),
        (status = 400, description = "The request is wrong; `param` names the field.", body = ErrorBody),
        (status = 404, description = "No model of this name is served.", body = ErrorBody),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
        (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(super) async fn create(answering: Answering, request: Request) -> Result<Response, ApiError> {
    let fields = json_read(request, read).await?;
    let ready = answering.open(&fields.model).await?;
    let count = fields.requests.len() * fields.best_of;
    let asking = fields.asking();
    let writer = CompletionWriter::new(Heading::new("cmpl", ready.assistant()), &fields, count);
    let CompletionFields { requests, best_of, delivery, format, .. } = fields;
    let refused = |error, format: &OutputFormat| refusal(error, "prompt", format);
    let generations = ready
        .complete(requests, best_of, refused)
        .await
        .map_err(|error| format.rename(error).with_field_renamed("n", asking))?;
    if delivery.stream {
        return Ok(stream::send(generations, writer));
    }
    let answers = generations.gather(count).await?;
    Ok(Json(writer.whole(answers)).into_response())
}

struct CompletionWriter {
    heading: Heading,
    choices: usize,
    best_of: usize,
    include_usage: bool,
    continuous_usage: bool,
    running: RunningUsage,
    usage: UsageReport,
    /// For each generation, if log-probabilities are reported.
    logprobs: Vec<Option<CompletionLogprobsWriter>>,
}

impl CompletionWriter {
    fn new(heading: Heading, fields: &CompletionFields, count: usize) -> Self {
        let candidates = fields.requests.first().and_then(|request| request.options.logprobs).unwrap_or(0);
        let logprobs = fields.reports_logprobs.then(|| CompletionLogprobsWriter::new(candidates));
        CompletionWriter {
            heading,
            choices: fields.choices,
            best_of: fields.best_of,
            include_usage: fields.delivery.include_usage,
            continuous_usage: fields.delivery.continuous_usage,
            running: RunningUsage::new(count, fields.best_of),
            usage: UsageReport::default(),
            logprobs: vec![logprobs; count],
        }
    }

    fn whole(mut self, answers: Vec<WholeAnswer>) -> Completion {
        for (index, answer) in answers.iter().enumerate() {
            if let Some((_, usage)) = &answer.end {
                self.usage.add(usage, index % self.best_of == 0);
            }
        }
        let mut choices = Vec::new();
        for (prompt, answers) in answers.chunks(self.best_of).enumerate() {
            for (rank, answer) in best(answers, self.choices).into_iter().enumerate() {
                choices.push(self.choice(prompt * self.choices + rank, answer));
            }
        }
        let usage = self.usage.clone();
        self.piece(choices, Some(Some(usage)))
    }

    fn choice(&mut self, index: usize, answer: &WholeAnswer) -> CompletionChoice {
        let mut text = String::new();
        let mut logprobs = None;
        let writer = self.logprobs.get_mut(index).and_then(Option::as_mut);
        if let Some(writer) = writer {
            let echoed = answer.echo.as_ref().map(|echo| writer.write_echo(echo));
            let own = writer.write(&answer.tokens);
            logprobs = Some(match echoed {
                Some(mut report) => {
                    report.append(own);
                    report
                }
                None => own,
            });
        }
        if let Some(echo) = &answer.echo {
            text.push_str(&echo.text);
        }
        text.push_str(&answer.text);
        let end = answer.end.as_ref().map(|(reason, _)| reason);
        CompletionChoice {
            index,
            text,
            logprobs,
            finish_reason: end.map(finish_reason),
            stop_reason: end.and_then(stop_reason),
        }
    }

    fn piece(&self, choices: Vec<CompletionChoice>, usage: Option<Option<UsageReport>>) -> Completion {
        Completion {
            id: self.heading.id.clone(),
            object: "text_completion",
            created: self.heading.created,
            model: self.heading.model.clone(),
            choices,
            system_fingerprint: self.heading.fingerprint.clone(),
            usage,
        }
    }
}

/// The `count` answers with the highest mean log-probability, best first; all of them as they are if none is left out.
fn best(answers: &[WholeAnswer], count: usize) -> Vec<&WholeAnswer> {
    let mut ranked: Vec<&WholeAnswer> = answers.iter().collect();
    if count < ranked.len() {
        ranked.sort_by(|left, right| right.mean_logprob().total_cmp(&left.mean_logprob()));
        ranked.truncate(count);
    }
    ranked
}

impl PieceWriter for CompletionWriter {
    type Piece = Completion;

    fn write(&mut self, choice: usize, event: TextEvent) -> Vec<Completion> {
        let (mut reason, mut detail) = (None, None);
        let writer = self.logprobs.get_mut(choice).and_then(Option::as_mut);
        let (text, logprobs) = match event {
            TextEvent::Started { echo: Some(echo), .. } => {
                let logprobs = writer.map(|writer| writer.write_echo(&echo));
                (echo.text, logprobs.filter(|_| !echo.tokens.is_empty()))
            }
            // Completions have neither thoughts nor calls: what the model writes is the text.
            TextEvent::Started { echo: None, .. }
            | TextEvent::Thought { .. }
            | TextEvent::ToolCall { .. }
            | TextEvent::Failed { .. } => return Vec::new(),
            TextEvent::Delta { text, tokens } if text.is_empty() && tokens.is_empty() => return Vec::new(),
            TextEvent::Delta { text, tokens } => {
                let logprobs =
                    if tokens.is_empty() { None } else { writer.map(|writer| writer.write(&tokens)) };
                (text, logprobs)
            }
            TextEvent::Finished { reason: why, usage, .. } => {
                self.usage.add(&usage, choice.is_multiple_of(self.best_of));
                reason = Some(finish_reason(&why));
                detail = stop_reason(&why);
                (String::new(), None)
            }
        };
        let choice =
            CompletionChoice { index: choice, text, logprobs, finish_reason: reason, stop_reason: detail };
        let usage = self.continuous_usage.then(|| self.running.report());
        vec![self.piece(vec![choice], self.include_usage.then_some(usage))]
    }

    fn progress(&mut self, choice: usize, progress: Progress) {
        self.running.update(choice, progress);
    }

    fn usage(&mut self) -> Option<Completion> {
        self.include_usage.then(|| self.piece(Vec::new(), Some(Some(self.usage.clone()))))
    }
}
