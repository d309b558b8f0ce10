//! A completion request as a whole: its fields, and which of them go together.

use serde_json::Value;
use zhenjin_assistant::CompletionRequest;

use super::format::WantedFormat;
use super::sampling::{Delivery, one_name, read_delivery, read_options};
use super::{format, limits, prompt};
use crate::errors::ApiError;
use crate::openai::field_tables::COMPLETION;
use crate::openai::fields::check;

/// OpenAI's default of `max_tokens` in completions.
const DEFAULT_MAX_TOKENS: usize = 16;

/// A completion request whose every field is known to be fine by itself and beside the others.
#[derive(Clone, Debug)]
pub(crate) struct CompletionFields {
    pub(crate) model: String,
    /// One for each prompt.
    pub(crate) requests: Vec<CompletionRequest>,
    /// Answers to each prompt that are returned.
    pub(crate) choices: usize,
    /// Answers to each prompt that are generated.
    pub(crate) best_of: usize,
    /// Whether the caller wants log-probabilities; with `best_of` they are computed either way.
    pub(crate) reports_logprobs: bool,
    pub(crate) delivery: Delivery,
    pub(crate) format: WantedFormat,
}

impl CompletionFields {
    /// The field that asks for more answers than one, where one does.
    pub(crate) fn asking(&self) -> &'static str {
        if self.best_of == 1 { "prompt" } else { asking(self.choices, self.best_of) }
    }
}

/// Of `n` and `best_of`, the one that says how many answers each prompt gets.
fn asking(choices: usize, best_of: usize) -> &'static str {
    if best_of > choices { "best_of" } else { "n" }
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
            "`best_of` above `n` compares whole answers, so it cannot be streamed",
        ));
    }
    let sequences = prompts.len() * best_of;
    if sequences > limits::SEQUENCES {
        let prompts = prompts.len();
        return Err(ApiError::invalid(
            asking(choices, best_of),
            format!(
                "{prompts} prompts times {best_of} answers are {sequences}, more than {}",
                limits::SEQUENCES
            ),
        ));
    }
    let echo = fields.boolean("echo").unwrap_or(false);
    let limit = one_name(&fields, "max_tokens", "n_predict")?;
    // -1 asks for all that fits.
    let max_tokens = match fields.integer(limit) {
        Some(limit) => usize::try_from(limit).ok(),
        None => Some(DEFAULT_MAX_TOKENS),
    };
    if max_tokens == Some(0) && !echo {
        return Err(ApiError::invalid("max_tokens", "`max_tokens` may be 0 only together with `echo`"));
    }
    let logprobs = fields.count(one_name(&fields, "logprobs", "n_probs")?);
    let logprobs = logprobs.filter(|count| *count > 0 || fields.get("logprobs").is_some());
    let scored = logprobs.or((best_of > choices).then_some(0));
    let options = read_options(&fields, max_tokens, scored)?;
    let format = format::read(&fields)?;
    let requests = prompts.into_iter().map(|prompt| CompletionRequest {
        prompt,
        echo,
        output_format: format.format.clone(),
        options: options.clone(),
    });
    Ok(CompletionFields {
        model: fields.text("model").unwrap_or_default().to_owned(),
        requests: requests.collect(),
        choices,
        best_of,
        reports_logprobs: logprobs.is_some(),
        delivery,
        format,
    })
}
