//! Makes vectors of texts as they are asked for. The one of us that `bench/embeddings/compare.py` measures.
//!
//! `embed_speed MODEL THREADS` answers with a line of JSON when the model is loaded; then one line of standard input,
//! `{"texts": […], "together": true}`, gets one line of JSON with the seconds that all texts took, in one call or in one for each, from text to
//! vector, and the last text's vector.

#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use zhenjin_assistant::{EmbedInput, Embedder};
use zhenjin_model::LoadOptions;
use zhenjin_tensor::{SimdLevel, ThreadTeam};

#[derive(Deserialize)]
struct Request {
    texts: Vec<String>,
    together: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads] = &arguments[..] else {
        return Err("usage: embed_speed MODEL THREADS".into());
    };
    let team = Arc::new(ThreadTeam::new(threads.parse()?)?);
    let embedder = Embedder::load(Path::new(model), None, &LoadOptions { simd: SimdLevel::detect(), team })?;
    embed(&embedder, &["ready".to_owned()])?;
    answer(&json!({ "version": env!("CARGO_PKG_VERSION") }))?;
    for line in std::io::stdin().lock().lines() {
        let Request { texts, together } = serde_json::from_str(&line?)?;
        let started = Instant::now();
        let mut last = None;
        for texts in texts.chunks(if together { texts.len().max(1) } else { 1 }) {
            last = embed(&embedder, texts)?.pop();
        }
        let seconds = started.elapsed().as_secs_f64();
        answer(&json!({ "seconds": seconds, "last": last, "peak_bytes": peak_bytes()? }))?;
    }
    Ok(())
}

fn embed(embedder: &Embedder, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let inputs: Vec<EmbedInput> = texts.iter().cloned().map(EmbedInput::Text).collect();
    let is_cancelled = AtomicBool::new(false);
    let tokens = embedder.tokens(&inputs, None, &is_cancelled)?;
    Ok(embedder.embed(&tokens, None, &is_cancelled)?)
}

/// The most memory that this process has had.
fn peak_bytes() -> Result<Option<u64>, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map(|kib| kib * 1024))
}

fn answer(value: &Value) -> std::io::Result<()> {
    println!("{value}");
    std::io::stdout().flush()
}
