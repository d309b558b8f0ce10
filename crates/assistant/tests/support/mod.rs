//! What several test programs share.

#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../../tests/real_model.rs"]
mod real_model;
pub(crate) use real_model::real_model;

use zhenjin_assistant::{
    ChatRequest, FinishReason, Message, ModelSpec, Role, SamplingSettings, ServeOptions, ServedModels,
    TextEvent, TextGeneration, TokenInfo, Usage,
};
use zhenjin_tensor::ComputeOptions;

/// The real model alone, with room for a few conversations.
pub(crate) fn served(context: Option<usize>, threads: usize) -> ServedModels {
    let spec = ModelSpec { name: "smollm2".to_owned(), path: real_model() };
    ServedModels::new(vec![spec], options(context, threads)).expect("one model has one name")
}

/// Options with plenty of memory.
pub(crate) fn options(context: Option<usize>, threads: usize) -> ServeOptions {
    ServeOptions {
        memory_bytes: 4 << 30,
        compute: ComputeOptions { threads, ..ComputeOptions::detect() },
        kv_cache_dtype: zhenjin_model::KvCacheDtype::default(),
        context,
        max_batch: 16,
        queue_limit: 64,
        speculation: zhenjin_engine::Speculation::default(),
        repetition_detection: zhenjin_assistant::RepetitionDetection::default(),
        observer: None,
    }
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// An answer, read to its end.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenInfo>,
    /// Names and arguments.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) echo: Option<zhenjin_assistant::Echo>,
    pub(crate) cached_tokens: usize,
    pub(crate) reason: Option<FinishReason>,
    pub(crate) usage: Usage,
}

/// Reads an answer, for threads outside a runtime.
pub(crate) fn read(mut generation: TextGeneration) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = generation.blocking_next() {
        match event {
            TextEvent::Started { cached_tokens, echo, .. } => {
                answer.cached_tokens = cached_tokens;
                answer.echo = echo;
            }
            TextEvent::Thought { text, .. } => panic!("a model without thoughts thought {text:?}"),
            TextEvent::Delta { text, tokens } => {
                answer.text.push_str(&text);
                answer.tokens.extend(tokens);
            }
            TextEvent::ToolCall { index, name, arguments, .. } => {
                if let Some(name) = name {
                    assert_eq!(index, answer.calls.len());
                    answer.calls.push((name, String::new()));
                }
                answer.calls[index].1.push_str(&arguments);
            }
            TextEvent::Finished { reason, usage, .. } => {
                answer.reason = Some(reason);
                answer.usage = usage;
            }
            TextEvent::Failed { failure, .. } => panic!("failed: {failure:?}"),
        }
    }
    answer
}

/// A greedy chat with one question.
pub(crate) fn question(text: &str) -> ChatRequest {
    let mut request = ChatRequest::new(vec![Message::new(Role::User, text)]);
    request.options.sampling = SamplingSettings::greedy();
    request.options.max_tokens = Some(64);
    request
}
