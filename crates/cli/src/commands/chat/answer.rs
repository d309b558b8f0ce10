//! One answer: streams it to a writer, stops on Ctrl-C, and keeps its numbers.

use anyhow::{Result, bail};
use serde::Serialize;
use std::io::Write;
use zhenjin_assistant::{
    Assistant, ChatRequest, Failure, FinishReason, TextEvent, Timings, Transcript, Usage,
};

/// An answer and what is known about it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Answer {
    pub(super) answer: String,
    /// What a thinking model thought before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<String>,
    /// `stop`, `length`, `tool_calls`, `repetition`, or `interrupted` by the person.
    pub(super) finish_reason: &'static str,
    pub(super) seed: u64,
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    pub(super) completion_tokens: usize,
    pub(super) time_to_first_token_ms: Option<f64>,
    pub(super) tokens_per_second: Option<f64>,
}

/// Asks `assistant` and writes the answer to `out` as it comes.
pub(super) async fn stream(
    assistant: &Assistant,
    request: &ChatRequest,
    out: &mut dyn Write,
) -> Result<Answer> {
    let mut generation = assistant.chat(request)?;
    let mut answer = Answer {
        answer: String::new(),
        reasoning: None,
        finish_reason: "interrupted",
        seed: generation.seed(),
        prompt_tokens: 0,
        cached_tokens: 0,
        completion_tokens: 0,
        time_to_first_token_ms: None,
        tokens_per_second: None,
    };
    let mut transcript = Transcript::default();
    loop {
        let event = tokio::select! {
            event = generation.next() => event,
            signal = tokio::signal::ctrl_c() => { signal?; None }
        };
        match event {
            Some(TextEvent::Started { prompt_tokens, cached_tokens, .. }) => {
                answer.prompt_tokens = prompt_tokens;
                answer.cached_tokens = cached_tokens;
            }
            Some(TextEvent::Thought { text, .. }) => {
                answer.reasoning.get_or_insert_default().push_str(&text);
                write!(out, "{}", transcript.thought(&text))?;
                out.flush()?;
            }
            Some(TextEvent::Delta { text, .. }) => {
                answer.answer.push_str(&text);
                write!(out, "{}", transcript.answer(&text))?;
                out.flush()?;
            }
            Some(TextEvent::ToolCall { .. }) => {}
            Some(TextEvent::Finished { reason, usage, timings }) => {
                answer.finish_reason = reason_name(&reason);
                answer.take_numbers(&usage, &timings);
                return Ok(answer);
            }
            Some(TextEvent::Failed {
                failure: Failure::Broken(reason) | Failure::NotValid(reason), ..
            }) => {
                bail!("the answer broke off: {reason}")
            }
            Some(TextEvent::Failed { failure: Failure::ShutDown, .. }) | None => return Ok(answer),
        }
    }
}

fn reason_name(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Repetition => "repetition",
    }
}

impl Answer {
    fn take_numbers(&mut self, usage: &Usage, timings: &Timings) {
        self.completion_tokens = usage.completion_tokens;
        self.time_to_first_token_ms = timings.time_to_first_token.map(|time| time.as_secs_f64() * 1e3);
        self.tokens_per_second = timings.tokens_per_second(usage.completion_tokens);
    }

    /// The numbers as one line for people.
    pub(super) fn summary(&self) -> String {
        let mut parts = vec![format!("{} prompt tokens", self.prompt_tokens)];
        if self.cached_tokens > 0 {
            parts.push(format!("{} of them cached", self.cached_tokens));
        }
        parts.push(format!("{} new", self.completion_tokens));
        if let Some(speed) = self.tokens_per_second {
            parts.push(format!("{speed:.1} tok/s"));
        }
        if let Some(milliseconds) = self.time_to_first_token_ms {
            parts.push(format!("first token after {milliseconds:.0} ms"));
        }
        parts.push(format!("seed {}", self.seed));
        parts.push(format!("ended by {}", self.finish_reason));
        parts.join(" · ")
    }
}
