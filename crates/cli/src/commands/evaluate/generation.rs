//! What all evaluations do with the engine: score given tokens, and let it write.

use anyhow::{Context, Result, bail};
use zhenjin_assistant::{
    CompletionPrompt, CompletionRequest, Echo, Failure, FinishReason, GenerationOptions, OutputFormat,
    TextEvent, TextGeneration,
};

/// Texts that are generated or scored at the same time.
pub(super) const TOGETHER: usize = 16;

/// `count` of the documents (or all), spread over the whole.
pub(super) fn spread(documents: &[u64], count: usize) -> Vec<u64> {
    let count = count.min(documents.len());
    (0..count).map(|index| documents[index * documents.len() / count]).collect()
}

/// A text that is to be written behind `prompt`.
pub(super) fn completion(prompt: CompletionPrompt, options: GenerationOptions) -> CompletionRequest {
    CompletionRequest { prompt, echo: false, output_format: OutputFormat::Text, options }
}

/// Asks for the log-probabilities of `tokens` and writes nothing.
pub(super) fn score_request(tokens: Vec<u32>) -> CompletionRequest {
    let options =
        GenerationOptions { max_tokens: Some(0), logprobs: Some(0), ..GenerationOptions::default() };
    CompletionRequest { echo: true, ..completion(CompletionPrompt::Tokens(tokens), options) }
}

/// The log-probability of every token of a [`score_request`], in nats; the first has none.
pub(super) async fn log_probabilities(generation: TextGeneration) -> Result<Vec<Option<f64>>> {
    let echo = finish(generation).await?.echo.context("the engine gave no log-probabilities")?;
    Ok(echo.tokens.iter().map(|token| token.logprob.map(f64::from)).collect())
}

/// What was written.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) echo: Option<Echo>,
    pub(super) reason: Option<FinishReason>,
}

/// Waits for the end.
pub(super) async fn finish(mut generation: TextGeneration) -> Result<Answer> {
    let mut answer = Answer::default();
    while let Some(event) = generation.next().await {
        match event {
            TextEvent::Started { echo, .. } => answer.echo = echo,
            TextEvent::Delta { text, .. } => answer.text.push_str(&text),
            TextEvent::Finished { reason, .. } => answer.reason = Some(reason),
            TextEvent::Failed { failure: Failure::Broken(reason) | Failure::NotValid(reason), .. } => {
                bail!("the engine failed: {reason}")
            }
            TextEvent::Failed { failure: Failure::ShutDown, .. } => bail!("the engine was shut down"),
            TextEvent::Thought { .. } | TextEvent::ToolCall { .. } => {}
        }
    }
    Ok(answer)
}
