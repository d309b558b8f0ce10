//! `zhenjin inspect`: what a model file holds, and the memory that serving it takes.

use super::inspect_config::config_lines;
use super::inspect_encoder;
use crate::arguments::InspectArguments;
use crate::home::Home;
use crate::machine;
use crate::memory_size::MemorySize;
use crate::text;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use zhenjin_assistant::Embedder;
use zhenjin_hub::{ModelStore, OpenedModel};
use zhenjin_model::{FileTensor, PAGE_TOKENS, WeightName};
use zhenjin_tokenizer::ChatTemplate;

/// Chats at the same time, as for `serve`.
const MAX_BATCH: u16 = 32;

#[derive(Serialize)]
struct Inspection {
    name: String,
    path: String,
    format: &'static str,
    file_bytes: u64,
    architecture: String,
    /// Each once.
    parameters: u64,
    /// Of a head that holds the embedding's values a second time.
    repeated_parameters: u64,
    config: BTreeMap<&'static str, String>,
    tokenizer: Tokens,
    has_chat_template: bool,
    template_knows_tools: bool,
    types: BTreeMap<String, TypeTotal>,
    memory: ServingMemory,
    unread_settings: Vec<String>,
    unused_tensors: Vec<String>,
    warnings: Vec<String>,
    tensors: Vec<TensorLine>,
}

#[derive(Serialize)]
struct Tokens {
    vocabulary_size: usize,
    special_tokens: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_turn: Vec<u32>,
}

#[derive(Serialize, Default)]
struct TypeTotal {
    tensors: u64,
    bytes: u64,
}

/// What `serve` with the same options plans.
#[derive(Serialize)]
struct ServingMemory {
    max_batch: u16,
    limit_bytes: u64,
    weights_bytes: u64,
    tokenizer_bytes: u64,
    workspace_bytes: u64,
    kv_cache_dtype: &'static str,
    kv_bytes_per_token: u64,
    least_bytes: u64,
    /// None where not even the least is within the limit.
    planned: Option<PlannedMemory>,
}

#[derive(Serialize)]
struct PlannedMemory {
    context: usize,
    kv_tokens: usize,
    kv_bytes: u64,
    bytes: u64,
}

#[derive(Serialize)]
pub(super) struct TensorLine {
    name: String,
    r#type: &'static str,
    shape: Vec<usize>,
    bytes: u64,
}

impl From<FileTensor<'_>> for TensorLine {
    fn from(tensor: FileTensor<'_>) -> TensorLine {
        TensorLine {
            name: tensor.name.to_owned(),
            r#type: tensor.type_name,
            shape: tensor.shape.to_vec(),
            bytes: tensor.bytes.len() as u64,
        }
    }
}

pub(super) fn print_tensors(out: &mut impl Write, tensors: &[TensorLine]) -> std::io::Result<()> {
    writeln!(out, "\nTensors:")?;
    for TensorLine { name, r#type, shape, bytes } in tensors {
        let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
        writeln!(out, "  {type:6} {shape:>16} {bytes:>12}  {}", shown(name))?;
    }
    Ok(())
}

/// Names that the files hold, in one line: a name cannot steer the terminal, nor look like another line.
pub(super) fn in_a_line(names: &[String]) -> String {
    names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")
}

fn shown(name: &str) -> String {
    text::shown(name).replace(['\n', '\t'], "\u{FFFD}")
}

pub(crate) fn run(home: &Home, arguments: &InspectArguments) -> Result<()> {
    let local = machine::resolve(&ModelStore::new(home.models()), &arguments.model)?;
    if Embedder::is_at(&local.path) {
        return inspect_encoder::run(&local.name, &local.path, arguments);
    }
    let opened = zhenjin_hub::open(&local.path)?;
    let inspection = inspect(&local.name, &opened, arguments)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&inspection)?)?;
        return Ok(());
    }
    print(&mut out, &inspection, arguments.tensors)?;
    Ok(())
}

fn inspect(name: &str, opened: &OpenedModel, arguments: &InspectArguments) -> Result<Inspection> {
    let file = &opened.file;
    let tokenizer = &opened.tokenizer;
    let mut types = BTreeMap::<String, TypeTotal>::new();
    for tensor in file.tensors() {
        let total = types.entry(tensor.type_name.to_owned()).or_default();
        total.tensors += 1;
        total.bytes += tensor.bytes.len() as u64;
    }
    let repeated = if zhenjin_model::head_repeats_embedding(file)? {
        let shape = file.config().shape(WeightName::Head);
        shape.iter().map(|length| *length as u64).product()
    } else {
        0
    };
    let stored: u64 = file.tensors().map(|tensor| elements(&tensor)).sum();
    Ok(Inspection {
        name: name.to_owned(),
        path: file.path().display().to_string(),
        format: file.format().name(),
        file_bytes: file.file_bytes(),
        architecture: file.config().architecture.clone(),
        parameters: stored - repeated,
        repeated_parameters: repeated,
        config: config_lines(file.config()),
        tokenizer: Tokens {
            vocabulary_size: tokenizer.vocabulary_size(),
            special_tokens: tokenizer.special_ids().count(),
            bos: tokenizer.bos(),
            eos: tokenizer.eos(),
            end_of_turn: tokenizer.end_of_turn().to_vec(),
        },
        has_chat_template: opened.template.is_some(),
        template_knows_tools: opened.template.as_ref().is_some_and(ChatTemplate::supports_tools),
        types,
        memory: memory(opened, arguments)?,
        unread_settings: file.unread_settings().to_vec(),
        unused_tensors: file.unused_tensors().to_vec(),
        warnings: opened.warnings.clone(),
        tensors: file.tensors().map(TensorLine::from).collect(),
    })
}

fn elements(tensor: &FileTensor<'_>) -> u64 {
    tensor.shape.iter().map(|length| *length as u64).product()
}

/// Token ids as people write them.
fn ids(ids: &[u32]) -> String {
    match ids {
        [] => "none".to_owned(),
        ids => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn memory(opened: &OpenedModel, arguments: &InspectArguments) -> Result<ServingMemory> {
    let max_batch = arguments.max_batch.unwrap_or(MAX_BATCH);
    let options = machine::serve_options(&arguments.engine, usize::from(max_batch), 0)?;
    let estimate = options.memory_estimate(&opened.file)?;
    let planned = estimate.plan(options.memory_bytes).map(|plan| PlannedMemory {
        context: plan.context,
        kv_tokens: plan.pages * PAGE_TOKENS,
        kv_bytes: plan.pages as u64 * estimate.page,
        bytes: plan.bytes,
    });
    Ok(ServingMemory {
        max_batch,
        limit_bytes: options.memory_bytes,
        weights_bytes: estimate.weights,
        tokenizer_bytes: estimate.tokenizer,
        workspace_bytes: estimate.workspace,
        kv_cache_dtype: estimate.kv_dtype.name(),
        kv_bytes_per_token: estimate.kv_per_token(),
        least_bytes: estimate.least(),
        planned,
    })
}

fn size(bytes: u64) -> String {
    MemorySize(bytes).to_string()
}

fn print_memory(out: &mut impl Write, memory: &ServingMemory) -> std::io::Result<()> {
    writeln!(out, "\nMemory to serve {} chats at once:", memory.max_batch)?;
    writeln!(out, "  weights   {:>12}", size(memory.weights_bytes))?;
    writeln!(out, "  tokenizer {:>12}", size(memory.tokenizer_bytes))?;
    writeln!(out, "  workspace {:>12}", size(memory.workspace_bytes))?;
    writeln!(
        out,
        "  KV cache  {:>12}  a token, in {}",
        size(memory.kv_bytes_per_token),
        memory.kv_cache_dtype
    )?;
    writeln!(out, "  least     {:>12}  with the KV cache of one short chat", size(memory.least_bytes))?;
    match &memory.planned {
        Some(plan) => writeln!(
            out,
            "  planned   {:>12}  with a KV cache of {} tokens, {}; a chat has at most {} tokens",
            size(plan.bytes),
            plan.kv_tokens,
            size(plan.kv_bytes),
            plan.context
        ),
        None => writeln!(
            out,
            "  planned             –  the least is more than the {} that models may take",
            size(memory.limit_bytes)
        ),
    }
}

fn print(out: &mut impl Write, inspection: &Inspection, with_tensors: bool) -> std::io::Result<()> {
    writeln!(out, "{} · {} · {}", inspection.name, inspection.format, size(inspection.file_bytes))?;
    writeln!(out, "  {}", inspection.path)?;
    writeln!(
        out,
        "\nArchitecture: {}, {:.1} M parameters",
        shown(&inspection.architecture),
        inspection.parameters as f64 / 1e6
    )?;
    if inspection.repeated_parameters > 0 {
        writeln!(
            out,
            "  the head is the embedding stored a second time, {:.1} M parameters that are not counted",
            inspection.repeated_parameters as f64 / 1e6
        )?;
    }
    for (name, value) in &inspection.config {
        writeln!(out, "  {name}: {value}")?;
    }
    let tokens = &inspection.tokenizer;
    writeln!(
        out,
        "\nTokenizer: {} tokens, {} of them special; beginning of text: {}, end of text: {}, end of turn: {}",
        tokens.vocabulary_size,
        tokens.special_tokens,
        ids(tokens.bos.as_slice()),
        ids(tokens.eos.as_slice()),
        ids(&tokens.end_of_turn)
    )?;
    let template = match (inspection.has_chat_template, inspection.template_knows_tools) {
        (false, _) => "none; it completes texts, but cannot chat",
        (true, false) => "yes; it does not know tools, so a system message tells the model of them",
        (true, true) => "yes, with tools",
    };
    writeln!(out, "Chat template: {template}")?;
    writeln!(out, "\nWeights:")?;
    for (name, total) in &inspection.types {
        writeln!(out, "  {name:6} {:4} tensors {:>12}", total.tensors, size(total.bytes))?;
    }
    for (what, names) in [
        ("Settings not read", &inspection.unread_settings),
        ("Tensors not used", &inspection.unused_tensors),
        ("Warnings", &inspection.warnings),
    ] {
        if !names.is_empty() {
            writeln!(out, "{what}: {}", in_a_line(names))?;
        }
    }
    print_memory(out, &inspection.memory)?;
    if with_tensors {
        print_tensors(out, &inspection.tensors)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: control characters in a tensor's name reached the terminal, which they can steer.
    #[test]
    fn names_in_files_cannot_steer_the_terminal() {
        let name = "a\u{1b}[2J\nb".to_owned();
        let tensor = TensorLine { name: name.clone(), r#type: "F32", shape: vec![2, 3], bytes: 24 };
        let mut out = Vec::new();
        print_tensors(&mut out, &[tensor]).unwrap();
        let said = String::from_utf8(out).unwrap();
        assert!(said.ends_with("24  a\u{FFFD}[2J\u{FFFD}b\n"), "{said:?}");
        assert_eq!(in_a_line(&[name, "b".to_owned()]), "a\u{FFFD}[2J\u{FFFD}b, b");
    }
}
