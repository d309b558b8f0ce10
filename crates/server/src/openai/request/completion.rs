//! A completion request as a whole: its fields, and which of them go together. Does not know how it is answered.

use serde_json::Value;

use super::format::{self, Format};
use super::limits;
use super::prompt::{self, Prompt};
use super::sampling::{Delivery, SamplingFields, read_delivery, read_sampling};
use crate::errors::ApiError;
use crate::openai::field_tables::COMPLETION;
use crate::openai::fields::check;

/// OpenAI's default of `max_tokens` in completions.
const DEFAULT_MAX_TOKENS: usize = 16;

/// A completion request whose every field is known to be fine by itself and beside the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionFields {
    pub(crate) model: String,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) format: Format,
    pub(crate) sampling: SamplingFields,
    pub(crate) delivery: Delivery,
    pub(crate) max_tokens: usize,
    /// Answers to each prompt that are returned.
    pub(crate) choices: usize,
    /// Answers to each prompt that are generated.
    pub(crate) best_of: usize,
    pub(crate) echo: bool,
    /// `Some(n)`: report log-probabilities, with the n most likely tokens at each place.
    pub(crate) logprobs: Option<usize>,
}

/// Takes a completion request's body apart.
pub(crate) fn read(body: &Value) -> Result<CompletionFields, ApiError> {
    let fields = check(COMPLETION, body)?;
    let prompts = fields.get("prompt").map(|node| prompt::read(&node)).transpose()?.unwrap_or_default();
    let delivery = read_delivery(&fields)?;
    let choices = fields.count("n").unwrap_or(1);
    let best_of = fields.count("best_of").unwrap_or(choices);
    if best_of < choices {
        return Err(ApiError::invalid(
            "best_of",
            format!("`best_of` ({best_of}) must not be less than `n` ({choices})"),
        ));
    }
    if best_of > choices && delivery.stream {
        return Err(ApiError::invalid(
            "best_of",
            "`best_of` above `n` needs whole answers, so it cannot be streamed",
        ));
    }
    let sequences = prompts.len() * best_of;
    if sequences > limits::SEQUENCES {
        return Err(ApiError::invalid(
            "n",
            format!(
                "{} prompts times {best_of} answers are {sequences}, more than {}",
                prompts.len(),
                limits::SEQUENCES
            ),
        ));
    }
    let echo = fields.boolean("echo").unwrap_or(false);
    let max_tokens = fields.count("max_tokens").unwrap_or(DEFAULT_MAX_TOKENS);
    if max_tokens == 0 && !echo {
        return Err(ApiError::invalid("max_tokens", "`max_tokens` may be 0 only together with `echo`"));
    }
    Ok(CompletionFields {
        model: fields.text("model").unwrap_or_default().to_owned(),
        prompts,
        format: format::read(&fields)?,
        sampling: read_sampling(&fields)?,
        delivery,
        max_tokens,
        choices,
        best_of,
        echo,
        logprobs: fields.count("logprobs"),
    })
}
