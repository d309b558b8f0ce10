//! `zhenjin inspect` of an embedding model: how it makes vectors of texts.

use super::inspect::{TensorLine, in_a_line, print_tensors};
use crate::arguments::InspectArguments;
use crate::machine;
use crate::memory_size::MemorySize;
use crate::text;
use anyhow::{Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use zhenjin_assistant::{Embedder, PoolingMode};
use zhenjin_model::KvCacheDtype;
use zhenjin_model::encoder::{Dense, DenseShape};

#[derive(Serialize)]
struct Inspection {
    name: String,
    path: String,
    embeds: bool,
    architecture: String,
    parameters: u64,
    layers: usize,
    hidden_size: usize,
    intermediate_size: usize,
    heads: usize,
    /// Tokens of a text, special ones included.
    max_tokens: usize,
    vocabulary_size: usize,
    /// None where the folder does not say.
    pooling: Option<Vec<&'static str>>,
    /// Layers that the pooled vector goes through.
    dense: Vec<DenseLine>,
    normalises: Option<bool>,
    dimensions: Option<usize>,
    lowercases: bool,
    prompts: BTreeMap<String, String>,
    weights_bytes: u64,
    memory_bytes: u64,
    unused_tensors: Vec<String>,
    warnings: Vec<String>,
    tensors: Vec<TensorLine>,
}

#[derive(Serialize)]
struct DenseLine {
    inputs: usize,
    outputs: usize,
    bias: bool,
    activation: &'static str,
}

impl DenseLine {
    fn of(layer: &Dense) -> DenseLine {
        let DenseShape { inputs, outputs, has_bias, activation } = layer.shape();
        DenseLine { inputs, outputs, bias: has_bias, activation: activation.name() }
    }
}

pub(crate) fn run(name: &str, path: &Path, arguments: &InspectArguments) -> Result<()> {
    check(name, arguments)?;
    let opened = zhenjin_hub::open_embedder(path)?;
    let estimate = Embedder::memory_estimate(&opened, machine::compute(&arguments.engine.compute)?.threads)?;
    let sizes = opened.file.sizes();
    let pooling = opened.pooling.as_ref();
    let inspection = Inspection {
        name: name.to_owned(),
        path: path.display().to_string(),
        embeds: true,
        architecture: opened.file.architecture().to_owned(),
        parameters: opened.file.parameters(),
        layers: sizes.layers,
        hidden_size: sizes.hidden_size,
        intermediate_size: sizes.intermediate_size,
        heads: sizes.heads,
        max_tokens: opened.max_tokens,
        vocabulary_size: opened.tokenizer.vocabulary_size(),
        pooling: pooling.map(|pooling| pooling.modes.iter().map(|mode| PoolingMode::name(*mode)).collect()),
        dense: pooling.iter().flat_map(|pooling| &pooling.dense).map(DenseLine::of).collect(),
        normalises: pooling.map(|pooling| pooling.normalise),
        dimensions: pooling
            .map(|pooling| opened.kept_dimensions.unwrap_or_else(|| pooling.width(sizes.hidden_size))),
        lowercases: opened.lowercases,
        prompts: opened.prompts.clone(),
        weights_bytes: estimate.weights,
        memory_bytes: estimate.full_context(),
        unused_tensors: opened.file.unused_tensors().to_vec(),
        warnings: opened.warnings.clone(),
        tensors: opened.file.tensors().map(TensorLine::from).collect(),
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&inspection)?)?;
        return Ok(());
    }
    print(&mut out, &inspection, arguments.tensors)?;
    Ok(())
}

/// Refuses options that say how models that write are served.
fn check(name: &str, arguments: &InspectArguments) -> Result<()> {
    let InspectArguments { engine, max_batch, .. } = arguments;
    let options = [
        ("--context", engine.context.is_some()),
        ("--memory", engine.memory.is_some()),
        ("--kv-cache-dtype", engine.compute.kv_cache_dtype != KvCacheDtype::Auto),
        ("--max-batch", max_batch.is_some()),
    ];
    let given: Vec<&str> =
        options.into_iter().filter_map(|(option, is_given)| is_given.then_some(option)).collect();
    if given.is_empty() {
        return Ok(());
    }
    bail!(
        "{}: without effect, as {name} is an embedding model, which keeps nothing of the texts that it read; leave that out",
        given.join(", ")
    )
}

/// What is put before a text, in one line.
fn prompt_in_words(prompt: &str) -> String {
    match prompt {
        "" => "nothing before a text".to_owned(),
        prompt => format!("“{}” before a text", text::shown(prompt).replace('\n', "↵")),
    }
}

fn print(out: &mut impl Write, inspection: &Inspection, with_tensors: bool) -> std::io::Result<()> {
    writeln!(out, "{} · an embedding model: it makes embeddings and writes no text", inspection.name)?;
    writeln!(out, "  {}", inspection.path)?;
    let millions = inspection.parameters as f64 / 1e6;
    let architecture = text::shown(&inspection.architecture);
    writeln!(out, "\nArchitecture: {architecture}, {millions:.1} M parameters")?;
    let Inspection { layers, hidden_size, intermediate_size, heads, .. } = inspection;
    writeln!(
        out,
        "  {layers} layers of width {hidden_size}, {intermediate_size} in the feed-forward network, {heads} heads"
    )?;
    writeln!(
        out,
        "Texts: at most {} tokens; {} tokens in the vocabulary{}",
        inspection.max_tokens,
        inspection.vocabulary_size,
        if inspection.lowercases { "; put into lower case" } else { "" }
    )?;
    match (&inspection.pooling, inspection.dimensions) {
        (Some(pooling), Some(dimensions)) => {
            let length = if inspection.normalises == Some(true) { ", of unit length" } else { "" };
            let mut way = pooling.join(" and ");
            for DenseLine { inputs, outputs, activation, .. } in &inspection.dense {
                let _ = write!(way, ", a layer of {inputs} × {outputs} values with {activation}");
            }
            writeln!(out, "Vectors: {dimensions} values by {way}{length}")?;
        }
        _ => writeln!(out, "Vectors: no modules.json and no pooling type says how; `embed` needs --pooling")?,
    }
    for (name, prompt) in &inspection.prompts {
        writeln!(out, "Prompt {}: {}", text::shown(name), prompt_in_words(prompt))?;
    }
    let size = |bytes: u64| MemorySize(bytes).to_string();
    writeln!(
        out,
        "Memory: {}, of which weights {}",
        size(inspection.memory_bytes),
        size(inspection.weights_bytes)
    )?;
    for (what, names) in
        [("Tensors not used", &inspection.unused_tensors), ("Warnings", &inspection.warnings)]
    {
        if !names.is_empty() {
            writeln!(out, "{what}: {}", in_a_line(names))?;
        }
    }
    if with_tensors {
        print_tensors(out, &inspection.tensors)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prompt was once printed as Rust's debug form of it.
    #[test]
    fn a_prompt_is_said_in_words() {
        assert_eq!(prompt_in_words("say \"it\": "), "“say \"it\": ” before a text");
        assert_eq!(prompt_in_words("一行\n\u{1b}[2J"), "“一行↵\u{FFFD}[2J” before a text");
        assert_eq!(prompt_in_words(""), "nothing before a text");
    }
}
