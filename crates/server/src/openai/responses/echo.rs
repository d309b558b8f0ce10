//! What an answer repeats of its request.

use serde_json::Value;
use zhenjin_engine::Sampling;

/// What an answer repeats of its request, with the defaults that were in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Echo {
    pub(super) tools: Vec<Value>,
    pub(super) tool_choice: Value,
    pub(super) parallel_tool_calls: bool,
    pub(super) text: Value,
    pub(super) effort: Option<String>,
    pub(super) instructions: Value,
    pub(super) max_output_tokens: Option<usize>,
    pub(super) max_tool_calls: Option<usize>,
    pub(super) metadata: Value,
    pub(super) user: Value,
    pub(super) safety_identifier: Value,
    pub(super) prompt_cache_key: Value,
    pub(super) top_logprobs: usize,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) presence_penalty: f32,
    pub(super) frequency_penalty: f32,
    /// Whether log-probabilities are reported.
    pub(super) reports_logprobs: bool,
    /// Whether thoughts are given a second time, to be sent back.
    pub(super) encrypts: bool,
}

impl Echo {
    /// With the settings that are in force once the model's own are known.
    pub(super) fn with_sampling(self, sampling: &Sampling) -> Echo {
        Echo {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            ..self
        }
    }
}
