//! What several test programs share.

#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../../tests/real_model.rs"]
mod real_model;
pub(crate) use real_model::real_model;

use std::path::Path;
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
        drafts: Vec::new(),
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

/// Hidden size, and width of the queries, of the real model.
const WIDTH: usize = 576;

/// Writes an adapter of rank 1 to the query projections of the first layers, as `peft` would.
pub(crate) fn write_adapter(folder: &Path, strength: f32) {
    std::fs::create_dir_all(folder).unwrap();
    let settings = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}"#;
    std::fs::write(folder.join("adapter_config.json"), settings).unwrap();
    let (mut header, mut data) = (Vec::new(), Vec::<u8>::new());
    for layer in 0..8 {
        for (part, shape) in [("lora_A", [1, WIDTH]), ("lora_B", [WIDTH, 1])] {
            let begin = data.len();
            for index in 0..WIDTH {
                let value = strength * ((index * 37 + layer * 11) % 17) as f32 / 17.0;
                data.extend(value.to_le_bytes());
            }
            header.push(format!(
                r#""base_model.model.model.layers.{layer}.self_attn.q_proj.{part}.weight":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{}]}}"#,
                data.len()
            ));
        }
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    // A file is replaced by renaming: the old one may be mapped.
    std::fs::write(folder.join("new"), file).unwrap();
    std::fs::rename(folder.join("new"), folder.join("adapter_model.safetensors")).unwrap();
}
