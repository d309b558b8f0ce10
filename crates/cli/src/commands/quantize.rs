//! `zhenjin quantize`: a model in the types that are served fast, and what that costs, measured on a text.

use super::export::{open_adapter, refuse_existing, source};
use super::perplexity::{Measurement, read_text};
use crate::arguments::ComputeArguments;
use crate::home::Home;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use zhenjin_model::AdapterValues;
use zhenjin_model::write::{Quantisation, WrittenGguf};

#[derive(Debug, Args)]
pub(crate) struct QuantizeArguments {
    /// A training run's folder or one of its checkpoints, a Hugging Face folder, a GGUF file, or a fetched model's name;
    /// with weights in F32, F16 or BF16
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,
    /// The GGUF file to write; there is none of that name yet
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1, q4_0, f16, bf16 or f32: what llama.cpp's program of
    /// that name understands by it
    #[arg(long = "type", value_name = "TYPE", value_parser = quantisation)]
    pub(crate) quantisation: Quantisation,
    /// Merge this adapter into the weights first: a folder as PEFT or a run writes it; SOURCE may be quantised then
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// A UTF-8 text on which the perplexity of both models is measured
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Tokens in a window of that text
    #[arg(long, default_value_t = 512, value_name = "TOKENS", requires = "text")]
    pub(crate) ctx: usize,
    /// Measure on so many windows
    #[arg(long, value_name = "N", requires = "text")]
    pub(crate) chunks: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

fn quantisation(name: &str) -> Result<Quantisation, String> {
    Quantisation::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Quantisation::names().collect();
        format!("`{name}` is none of {}", names.join(", "))
    })
}

pub(crate) fn run(home: &Home, arguments: &QuantizeArguments) -> Result<()> {
    let source = source(home, &arguments.source)?;
    refuse_existing(&arguments.out)?;
    let text = arguments.text.as_deref().map(read_text).transpose()?;
    let opened = zhenjin_hub::open_to_export(&source)?;
    ensure!(
        text.is_none() || !zhenjin_hub::is_embedder(&source),
        "--text: {} is an embedding model, which has no perplexity; leave that out",
        source.display()
    );
    let adapter = open_adapter(&opened, arguments.adapter.as_deref())?;
    if let (Some(path), Some(_)) = (&arguments.adapter, &text) {
        // Perplexity before is measured with the adapter beside the model, which not every adapter can be.
        AdapterValues::open(path, opened.file.config()).context(
            "--text compares with the adapter beside the model; `zhenjin export SOURCE --adapter FOLDER --to hf OUT` merges it first, and OUT can \
             be quantised with --text",
        )?;
    }
    let written =
        zhenjin_hub::export_gguf(&opened, adapter.as_ref(), &arguments.out, arguments.quantisation)?;
    let (parameters, before) = (opened.file.config().parameters(), opened.file.file_bytes());
    drop(opened);
    if !arguments.json {
        print_written(arguments, &written, parameters, before);
    }
    let mut measured = None;
    if let Some(text) = &text {
        // Like beside like: what was written has the adapter in its weights.
        let measurement = Measurement {
            adapter: arguments.adapter.as_deref(),
            text,
            ctx: arguments.ctx,
            windows: arguments.chunks,
            compute: &arguments.compute,
            shows_progress: !arguments.json,
        };
        let first = measurement.of(&source)?;
        let second = Measurement { adapter: None, ..measurement }.of(&arguments.out)?;
        ensure!(
            first.tokens == second.tokens,
            "the written tokenizer cuts the text into other tokens than the source's; please report this"
        );
        measured = Some((first, second));
    }
    if arguments.json {
        let perplexity = measured.as_ref().map(|(source, quantised)| {
            json!({
                "before": source.result.perplexity, "after": quantised.result.perplexity,
                "standard_error": source.result.standard_error, "scored_tokens": source.result.scored_tokens,
                "windows": source.result.windows, "ctx": arguments.ctx,
                "kv_before": source.kv_dtype.name(), "kv_after": quantised.kv_dtype.name(),
            })
        });
        println!("{}", describe(arguments, &written, parameters, before, perplexity));
        return Ok(());
    }
    match measured {
        None => println!("perplexity was not measured: no text was given (--text FILE)"),
        Some((source, quantised)) => {
            let (before, after) = (source.result, quantised.result);
            println!(
                "perplexity {:.4} ± {:.4} before (keys and values in {}), {:.4} after (in {}): {:+.2} %, over {} scored \
                 tokens in {} windows of {}",
                before.perplexity,
                before.standard_error,
                source.kv_dtype.name(),
                after.perplexity,
                quantised.kv_dtype.name(),
                100.0 * (after.perplexity / before.perplexity - 1.0),
                before.scored_tokens,
                before.windows,
                arguments.ctx
            );
        }
    }
    Ok(())
}

fn print_written(arguments: &QuantizeArguments, written: &WrittenGguf, parameters: u64, before: u64) {
    let types: Vec<String> =
        written.types.iter().map(|(dtype, tensors)| format!("{tensors} tensors in {dtype}")).collect();
    println!(
        "{}: {}, {} bytes ({:.2} bits a parameter), from {before} bytes",
        arguments.out.display(),
        types.join(", "),
        written.file.bytes,
        8.0 * written.file.bytes as f64 / parameters as f64,
    );
    if let Some(first) = written.fallbacks.first() {
        println!(
            "{} tensors could not have the type that {} wants, because their rows are not whole blocks of it: {} ({} columns) \
             is {} instead of {}",
            written.fallbacks.len(),
            arguments.quantisation.name(),
            first.tensor,
            first.columns,
            first.given,
            first.wanted,
        );
    }
}

fn describe(
    arguments: &QuantizeArguments,
    written: &WrittenGguf,
    parameters: u64,
    before: u64,
    perplexity: Option<serde_json::Value>,
) -> serde_json::Value {
    let types: serde_json::Map<String, serde_json::Value> =
        written.types.iter().map(|(dtype, tensors)| (dtype.name().to_owned(), json!(tensors))).collect();
    let fallbacks: Vec<_> = written
        .fallbacks
        .iter()
        .map(|fallback| {
            json!({
                "tensor": fallback.tensor, "columns": fallback.columns,
                "wanted": fallback.wanted.name(), "given": fallback.given.name(),
            })
        })
        .collect();
    json!({
        "file": arguments.out.display().to_string(), "type": arguments.quantisation.name(), "bytes": written.file.bytes,
        "source_bytes": before, "parameters": parameters, "tensors": types, "fallbacks": fallbacks,
        "perplexity": perplexity,
    })
}
