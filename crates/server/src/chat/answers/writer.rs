//! The task that writes one answer: from the model into the store, then to the followers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use zhenjin_assistant::{Failure, FinishReason, TextEvent, Timings, Transcript, Usage};
use zhenjin_store::{AnswerEnd, GenerationRecord, Message, Owner, Status, StoreError};

use super::{AnswerSource, Provenance, RunningAnswer, RunningAnswers, Tokens};

/// Shortest pause between two writes of an answer's text: 20 a second look smooth.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Longest pause; more than this cannot be lost to a power cut.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Each write rewrites the row, so the pause grows by a millisecond for so many bytes of text.
const BYTES_PER_MILLISECOND: usize = 512;

/// The part of an answer that is not in the store yet.
#[derive(Default)]
struct AnswerBuffer {
    /// Text that is not in the store yet.
    pending: String,
    /// An answer is kept as one text, its thought included.
    transcript: Transcript,
    /// Bytes of text that are.
    stored: usize,
    prompt_tokens: Option<usize>,
    cached_tokens: Option<usize>,
    /// When the first and the latest text came.
    text_came: Option<(Instant, Instant)>,
    /// What the engine measured, if the answer came to an end there.
    finished: Option<(Usage, Timings)>,
}

impl AnswerBuffer {
    fn push(&mut self, text: &str) {
        let text = self.transcript.answer(text);
        self.push_written(&text);
    }

    fn push_thought(&mut self, text: &str) {
        let text = self.transcript.thought(text);
        self.push_written(&text);
    }

    fn push_written(&mut self, text: &str) {
        let now = Instant::now();
        self.text_came = Some((self.text_came.map_or(now, |(first, _)| first), now));
        self.pending.push_str(text);
    }
}

/// Why no more text comes.
struct Ending {
    status: Status,
    finish_reason: Option<&'static str>,
    error: Option<String>,
}

impl Ending {
    fn new(status: Status) -> Ending {
        Ending { status, finish_reason: None, error: None }
    }

    fn failed(error: impl Into<String>) -> Ending {
        Ending { error: Some(error.into()), ..Ending::new(Status::Failed) }
    }
}

/// Writes `message`'s text from `source` until it ends, is stopped, or the server ends.
pub(super) async fn write(
    answers: Arc<RunningAnswers>,
    running: Arc<RunningAnswer>,
    message: Message,
    mut source: impl AnswerSource,
    provenance: Provenance,
) {
    let mut buffer = AnswerBuffer::default();
    let ending = take_down(&answers, &running, &message, &mut source, &mut buffer).await;
    let tokens = source.tokens();
    // The model stops computing before the ending is saved.
    drop(source);
    let ended = match answers
        .store
        .end_answer(&running.owner, &message.id, answer_end(&ending, &buffer, &provenance, tokens))
        .await
    {
        Ok(ended) => {
            running.publish(&buffer.pending);
            ended
        }
        Err(error) => {
            tracing::error!(answer = %message.id, %error, "an answer's ending could not be saved");
            unsaved(&answers, &running.owner, message.clone(), &error).await
        }
    };
    running.progress.send_modify(|progress| progress.ended = Some(Arc::new(ended)));
    answers.forget(&message.id);
}

async fn take_down(
    answers: &RunningAnswers,
    running: &RunningAnswer,
    message: &Message,
    source: &mut impl AnswerSource,
    buffer: &mut AnswerBuffer,
) -> Ending {
    let mut next_write = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = running.stop.notified() => return Ending::new(Status::Stopped),
            () = answers.shutdown.ending() => return Ending::new(Status::Interrupted),
            () = sleep_until(next_write), if !buffer.pending.is_empty() => {
                if let Err(error) = answers.store.append_to_answer(&running.owner, &message.id, &buffer.pending).await {
                    tracing::error!(answer = %message.id, %error, "an answer's text could not be saved");
                    return Ending::failed(format!("the answer could not be saved: {error}"));
                }
                running.publish(&buffer.pending);
                buffer.stored += buffer.pending.len();
                buffer.pending.clear();
                next_write = Instant::now() + pause(buffer.stored);
            }
            event = source.next() => match event {
                Some(TextEvent::Started { prompt_tokens, cached_tokens, .. }) => {
                    buffer.prompt_tokens = Some(prompt_tokens);
                    buffer.cached_tokens = Some(cached_tokens);
                }
                Some(TextEvent::Thought { text, .. }) => buffer.push_thought(&text),
                Some(TextEvent::Delta { text, .. }) => buffer.push(&text),
                // Nothing here offers tools, so a call can only be the model's words.
                Some(TextEvent::ToolCall { arguments, .. }) => buffer.push(&arguments),
                Some(TextEvent::Finished { reason, usage, timings }) => {
                    buffer.finished = Some((usage, timings));
                    return Ending { finish_reason: Some(word(&reason)), ..Ending::new(Status::Complete) };
                }
                Some(TextEvent::Failed { failure, usage, timings }) => {
                    buffer.finished = Some((usage, timings));
                    return match failure {
                        Failure::ShutDown => Ending::new(Status::Interrupted),
                        Failure::Broken(reason) | Failure::NotValid(reason) => Ending::failed(reason),
                    };
                }
                None => return Ending::failed("the model ended without saying why"),
            },
        }
    }
}

fn pause(stored: usize) -> Duration {
    let grown = Duration::from_millis((stored / BYTES_PER_MILLISECOND) as u64);
    grown.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

fn word(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Repetition => "repetition",
    }
}

fn answer_end(ending: &Ending, buffer: &AnswerBuffer, provenance: &Provenance, tokens: Tokens) -> AnswerEnd {
    let (first_token, speed) = measured(buffer, provenance, tokens.sampled.len());
    let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
    AnswerEnd {
        text: buffer.pending.clone(),
        error: ending.error.clone(),
        finish_reason: ending.finish_reason.map(str::to_owned),
        prompt_tokens: buffer.prompt_tokens.map(count),
        completion_tokens: Some(count(tokens.sampled.len())),
        cached_tokens: buffer.cached_tokens.map(count),
        time_to_first_token_ms: first_token.map(|time| time.as_secs_f64() * 1000.0),
        tokens_per_second: speed,
        context_length: Some(count(provenance.context_length)),
        generation: (!tokens.sampled.is_empty()).then(|| GenerationRecord {
            model: provenance.model.clone(),
            fingerprint: Some(provenance.fingerprint.clone()),
            seed: Some(tokens.seed),
            settings: provenance.settings.clone(),
            prompt_tokens: tokens.prompt,
            sampled_tokens: tokens.sampled,
            logprobs: tokens.logprobs,
            template: provenance.template.clone(),
            system_prompt: Some(provenance.system_prompt.clone()),
        }),
        ..AnswerEnd::new(ending.status)
    }
}

/// Time to the first token, and tokens per second after it: by the engine's clock, or by ours for an answer that was stopped.
fn measured(
    buffer: &AnswerBuffer,
    provenance: &Provenance,
    tokens: usize,
) -> (Option<Duration>, Option<f64>) {
    if let Some((_, timings)) = &buffer.finished {
        return (timings.time_to_first_token, timings.tokens_per_second(tokens));
    }
    let Some((first, latest)) = buffer.text_came else { return (None, None) };
    let seconds = (latest - first).as_secs_f64();
    let speed = (tokens > 1 && seconds > 0.0).then(|| (tokens - 1) as f64 / seconds);
    (Some(first.into_std() - provenance.asked), speed)
}

/// What followers are told when the store would not take the ending: the text that it has, and that it failed.
async fn unsaved(answers: &RunningAnswers, owner: &Owner, message: Message, error: &StoreError) -> Message {
    let stored = answers.store.message(owner, &message.id).await.unwrap_or(message);
    match stored.status {
        Status::Generating => {
            let error = Some(format!("the answer's ending could not be saved: {error}"));
            Message { status: Status::Failed, error, ..stored }
        }
        _ => stored,
    }
}
