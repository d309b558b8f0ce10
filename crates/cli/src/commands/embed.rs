//! `zhenjin embed`: texts to vectors, one JSON line for each.

use crate::home::Home;
use crate::machine;
use crate::text;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use zhenjin_assistant::{
    EmbedError, EmbedInput, Embedder, EmbedderError, EmbedderTextError, EncoderPooling, PoolingMode,
};
use zhenjin_hub::ModelStore;
use zhenjin_model::LoadOptions;
use zhenjin_tensor::ComputeOptions;

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin embed all-minilm:l6 'How do I boil an egg?' 'Boiling eggs'
  zhenjin embed all-minilm:l6 --lines titles.txt > vectors.jsonl
  zhenjin embed ./multilingual-e5-small --prompt 'query: ' 'How do I boil an egg?'
  zhenjin embed all-minilm:l6 --jsonl documents.jsonl --field body --dimensions 128";

/// Texts that are read, embedded and written together.
const AT_ONCE: usize = 256;
/// The longest line that is read, in bytes; far more than any model reads.
const LINE_LIMIT: usize = 8 << 20;

#[derive(Debug, Args)]
pub(crate) struct EmbedArguments {
    /// An embedding model: a fetched model's name or a Hugging Face folder or a GGUF file (BERT, XLM-RoBERTa, RoBERTa; decoders whose files say how they pool, such as Qwen3-Embedding)
    #[arg(value_name = "MODEL")]
    model: OsString,
    /// Texts [default: the lines of standard input]
    #[arg(value_name = "TEXT", value_parser = text::argument(), conflicts_with_all = ["lines", "jsonl"])]
    texts: Vec<String>,
    /// A file with a text on each line; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "jsonl")]
    lines: Option<PathBuf>,
    /// A file with a JSON string, or an object with the text in a field, on each line; - for standard input
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// The field of --jsonl's objects that holds the text
    #[arg(long, value_name = "NAME", default_value = "text", requires = "jsonl")]
    field: String,
    /// Put this before every text; some models were trained with such beginnings, as E5 with 'query: ' and 'passage: '
    #[arg(long, value_name = "TEXT", value_parser = text::argument())]
    prompt: Option<String>,
    /// Put the prompt before every text that the model's makers gave this name
    #[arg(long, value_name = "NAME", conflicts_with = "prompt")]
    prompt_name: Option<String>,
    /// Keep the first N values of each vector, of unit length again if the whole ones are [default: as the model's folder says, else all]
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// How hidden states become one vector, without a layer behind it: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken [default: as the model's folder says]
    #[arg(long, value_name = "MODE", value_parser = pooling_mode)]
    pooling: Option<PoolingMode>,
    /// With --pooling, divide every vector by its length
    #[arg(long, requires = "pooling")]
    normalise: bool,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni, amx; on AArch64 neon, dotprod, i8mm [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    simd: Option<String>,
}

fn pooling_mode(name: &str) -> Result<PoolingMode, String> {
    PoolingMode::of_name(name).ok_or_else(|| {
        let names = PoolingMode::ALL.map(PoolingMode::name).join(", ");
        format!("there is no such way to pool; there are {names}")
    })
}

/// One line of the output.
#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    /// Tokens that the model read, special ones included.
    tokens: usize,
    embedding: &'a [f32],
}

pub(crate) fn run(home: &Home, arguments: &EmbedArguments) -> Result<()> {
    let path = machine::resolve(&ModelStore::new(home.models()), &arguments.model)?.path;
    let embedder = load(&path, arguments)?;
    for warning in embedder.warnings() {
        eprintln!("note: {}", text::shown(warning));
    }
    let prompt = match &arguments.prompt_name {
        Some(name) => Some(named_prompt(&embedder, name)?),
        None => arguments.prompt.as_deref(),
    };
    embedder.check_dimensions(arguments.dimensions).map_err(|error| anyhow!("--dimensions: {error}"))?;
    let mut texts = arguments.texts()?;
    let mut first = 0;
    loop {
        // What comes before a text that cannot be read is written first.
        let mut failure = None;
        let readable = |text: Result<EmbedInput>| text.map_err(|error| failure = Some(error)).ok();
        let together: Vec<EmbedInput> = texts.by_ref().take(AT_ONCE).map_while(readable).collect();
        if !together.is_empty() {
            write_vectors(&embedder, &together, prompt, arguments.dimensions, first)?;
        }
        match failure {
            Some(error) => return Err(error),
            None if together.is_empty() => return Ok(()),
            None => first += together.len(),
        }
    }
}

/// Writes a line for each of the texts, of which the first has the number `first`.
fn write_vectors(
    embedder: &Embedder,
    texts: &[EmbedInput],
    prompt: Option<&str>,
    dimensions: Option<usize>,
    first: usize,
) -> Result<()> {
    let named = |error: EmbedError| behind(error, first);
    let is_cancelled = AtomicBool::new(false);
    let tokens = embedder.tokens(texts, prompt, &is_cancelled).map_err(named)?;
    let vectors = embedder.embed(&tokens, dimensions, &is_cancelled).map_err(named)?;
    let mut out = std::io::stdout().lock();
    for (place, (embedding, tokens)) in vectors.iter().zip(&tokens).enumerate() {
        let line = Line { index: first + place, tokens: tokens.len(), embedding };
        serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn load(path: &Path, arguments: &EmbedArguments) -> Result<Embedder> {
    if arguments.pooling.is_none() && !Embedder::is_at(path) {
        // What cannot make vectors in any way says itself what it is.
        zhenjin_hub::open_embedder(path)?;
        bail!(
            "{}: this model writes text and makes no embeddings: neither a modules.json (of sentence-transformers) in its folder nor a pooling type in its GGUF file says how its hidden states become one vector; give an embedding model such as all-minilm:l6, or, if it is one, say it here with --pooling MODE",
            path.display()
        );
    }
    let compute = ComputeOptions::resolve(arguments.simd.as_deref(), arguments.threads.map(usize::from))?;
    let team = compute.start_team().context("starting the threads that compute")?;
    let options = LoadOptions { simd: compute.simd, team: Arc::new(team) };
    let pooling = arguments.pooling.map(|mode| EncoderPooling::of_mode(mode, arguments.normalise));
    Embedder::load(path, pooling, &options).map_err(|error| match error {
        EmbedderError::NoPooling => {
            anyhow!("{}: {error}, or say it here with --pooling MODE", path.display())
        }
        error => error.into(),
    })
}

fn named_prompt<'a>(embedder: &'a Embedder, name: &str) -> Result<&'a str> {
    match embedder.prompts().get(name) {
        Some(prompt) => Ok(prompt),
        None => {
            let names: Vec<&str> = embedder.prompts().keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("--prompt-name {name}: the model has no prompt of that name; it has {names}")
        }
    }
}

/// The error with the text's number in the whole input, for texts of which the first has the number `first`.
fn behind(error: EmbedError, first: usize) -> anyhow::Error {
    let error = match error {
        EmbedError::Text(EmbedderTextError::Empty { text }) => {
            EmbedderTextError::Empty { text: text + first }.into()
        }
        EmbedError::Text(EmbedderTextError::TooLong { text, tokens, limit, by_memory }) => {
            EmbedderTextError::TooLong { text: text + first, tokens, limit, by_memory }.into()
        }
        EmbedError::Text(EmbedderTextError::FarTooLong { text, limit, by_memory }) => {
            EmbedderTextError::FarTooLong { text: text + first, limit, by_memory }.into()
        }
        EmbedError::Text(EmbedderTextError::NotFinite { text }) => {
            EmbedderTextError::NotFinite { text: text + first }.into()
        }
        EmbedError::Text(EmbedderTextError::UnknownToken { text, index, token, vocabulary_size }) => {
            EmbedderTextError::UnknownToken { text: text + first, index, token, vocabulary_size }.into()
        }
        EmbedError::Tokenizer { text, error } => EmbedError::Tokenizer { text: text + first, error },
        other => other,
    };
    error.into()
}

type Texts = Box<dyn Iterator<Item = Result<EmbedInput>>>;

impl EmbedArguments {
    fn texts(&self) -> Result<Texts> {
        let field = self.field.clone();
        if let Some(path) = &self.jsonl {
            // Lines of white space alone are none, as for everybody who reads such files.
            let is_blank = |line: &Result<String>| line.as_ref().is_ok_and(|line| line.trim().is_empty());
            let lines = lines_of(path)?.enumerate().filter(move |(_, line)| !is_blank(line));
            return Ok(Box::new(lines.map(move |(index, line)| of_json(&line?, &field, index))));
        }
        let path = match &self.lines {
            Some(path) => path,
            None if !self.texts.is_empty() => {
                let texts = self.texts.clone().into_iter();
                return Ok(Box::new(texts.map(|text| Ok(EmbedInput::Text(text)))));
            }
            None if std::io::stdin().is_terminal() => {
                bail!(
                    "there is nothing to embed: give TEXT, --lines FILE, --jsonl FILE, or lines on standard input"
                )
            }
            None => Path::new("-"),
        };
        Ok(Box::new(lines_of(path)?.map(|line| Ok(EmbedInput::Text(line?)))))
    }
}

fn lines_of(path: &Path) -> Result<impl Iterator<Item = Result<String>> + use<>> {
    let (mut reader, name): (Box<dyn BufRead>, String) = if path == Path::new("-") {
        (Box::new(std::io::stdin().lock()), "standard input".to_owned())
    } else {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        (Box::new(BufReader::new(file)), path.display().to_string())
    };
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        number += 1;
        let mut line = Vec::new();
        let mut limited = std::io::Read::take(&mut reader, LINE_LIMIT as u64 + 1);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.len() > LINE_LIMIT => {
                Some(Err(anyhow!("{name}: line {number} has more than {LINE_LIMIT} bytes")))
            }
            Ok(_) => {
                let line = String::from_utf8(line).map_err(|_| anyhow!("{name}: line {number} is not UTF-8"));
                Some(line.map(|line| line.trim_end_matches(['\n', '\r']).to_owned()))
            }
            Err(error) => Some(Err(anyhow!(error).context(format!("reading {name}")))),
        }
    }))
}

fn of_json(line: &str, field: &str, index: usize) -> Result<EmbedInput> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("line {}", index + 1))?;
    let found = if value.is_string() { &value } else { &value[field] };
    match found.as_str() {
        Some(text) => Ok(EmbedInput::Text(text.to_owned())),
        None => bail!("line {}: it is neither a string nor an object with a text in `{field}`", index + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an unknown token of text 300 was reported as one of text 44, which is its number among those embedded together.
    #[test]
    fn every_error_names_the_text_by_its_number_in_the_whole_input() {
        let unknown = EmbedderTextError::UnknownToken { text: 44, index: 2, token: 99, vocabulary_size: 64 };
        let long = EmbedderTextError::TooLong { text: 44, tokens: 600, limit: 512, by_memory: false };
        let far_too_long = EmbedderTextError::FarTooLong { text: 44, limit: 512, by_memory: false };
        let broken = EmbedderTextError::NotFinite { text: 44 };
        let said = behind(broken.into(), AT_ONCE).to_string();
        assert_eq!(said, "the hidden states of text 300 are not finite: the weights are broken");
        for error in [unknown, long, far_too_long, EmbedderTextError::Empty { text: 44 }] {
            let said = behind(error.into(), AT_ONCE).to_string();
            assert!(said.starts_with("text 300"), "{said}");
        }
    }
}
