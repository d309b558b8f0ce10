//! The memory that a served model was estimated to take, beside what its process then takes. In a program of its own, so that
//! no other test's memory is counted.

#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use support::{block_on, options, read, real_model};
use zhenjin_assistant::{
    Assistant, CompletionPrompt, CompletionRequest, GenerationOptions, ModelSpec, OutputFormat,
    SamplingSettings, ServeOptions, ServedModels,
};

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// A prompt that shares no page with those of other numbers; the first one asks for log-probabilities of the prompt.
fn completion(number: usize, tokens: usize) -> CompletionRequest {
    let prompt = (0..tokens).map(|at| ((at * 31 + number * 7) % 40_000) as u32).collect();
    CompletionRequest {
        prompt: CompletionPrompt::Tokens(prompt),
        echo: number == 0,
        output_format: OutputFormat::Text,
        options: GenerationOptions {
            sampling: SamplingSettings::greedy(),
            max_tokens: Some(8),
            logprobs: Some(1),
            ..GenerationOptions::default()
        },
    }
}

/// Fills the batch, the largest step and the KV cache.
fn fill(assistant: &Arc<Assistant>, options: &ServeOptions) {
    let answers: Vec<_> =
        (0..options.max_batch).map(|number| assistant.complete(&completion(number, 1000)).unwrap()).collect();
    for answer in answers {
        read(answer);
    }
}

/// Regression: the estimate left out the tokenizer, so that a model took more than was planned for it.
#[test]
fn a_model_takes_the_memory_that_was_planned() {
    let options = ServeOptions { max_batch: 8, ..options(Some(1024), 2) };
    let estimate = options.memory_estimate_at(&real_model()).unwrap();
    let planned = estimate.plan(options.memory_bytes).unwrap().bytes;
    let spec = ModelSpec { name: "real".to_owned(), path: real_model() };
    let models = ServedModels::new(vec![spec], options.clone()).unwrap();
    let before = resident();
    let assistant = block_on(models.get("real")).unwrap();
    assert_eq!(assistant.info().memory_bytes, planned);
    let loaded = resident() - before;
    fill(&assistant, &options);
    let full = resident() - before;
    let figures =
        format!("{loaded} bytes after loading, {full} after a full batch; {planned} planned, {estimate:?}");
    assert!(loaded <= planned - estimate.page * estimate.plan(planned).unwrap().pages as u64, "{figures}");
    assert!(full <= planned && full >= planned / 10 * 9, "{figures}");
}
