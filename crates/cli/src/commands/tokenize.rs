//! `zhenjin tokenize`: text to token shards.

use super::text_input::{BrokenRecords, TextInputArguments};
use crate::memory_size::MemorySize;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;
use zhenjin_corpus::{Counts, Summary, TokenizeEvent, TokenizeOptions, TokenizerFiles, tokenize};
use zhenjin_tokenizer::{MAX_TOKENIZER_JSON_BYTES, Tokenizer, TokenizerConfig};

pub(crate) const TOKENIZE_EXAMPLES: &str = "Examples:
  zhenjin tokenize book/ --tokenizer ./tokenizer --out ./shards --licence MIT
  zhenjin tokenize chat.jsonl.gz --field text --tokenizer ./tokenizer --out ./shards
  zhenjin tokenize poems.jsonl.zst --format '<|title|>{title}\\n<|lines|>{lines}' --tokenizer ./tokenizer --out ./shards

Cut off at any moment, the same command goes on behind the last whole shard.";

#[derive(Debug, Args)]
pub(crate) struct TokenizeArguments {
    #[command(flatten)]
    input: TextInputArguments,
    /// A folder with tokenizer.json (`zhenjin tokenizer train` makes one), or the file itself
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// The folder for the shards
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The licence of the text; once for all inputs, or once for each (repeatable)
    #[arg(long, value_name = "NAME")]
    licence: Vec<String>,
    /// The control token that follows each document [default: <|endoftext|>, or the tokenizer's end of sequence]
    #[arg(long, value_name = "TOKEN")]
    end_of_text: Option<String>,
    /// Tokens of a shard
    #[arg(long, value_name = "N", default_value_t = 4 << 20)]
    shard_tokens: u64,
    /// Stop at the first broken line instead of leaving it out, and accept no shards of a run that left one out
    #[arg(long)]
    strict: bool,
    /// Replace shards in the folder that were made from something else, and another tokenizer's files
    #[arg(long)]
    replace: bool,
    /// Print one JSON object with the counts
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &TokenizeArguments) -> Result<()> {
    let started = Instant::now();
    let (tokenizer, files) = open_tokenizer(&arguments.tokenizer)?;
    let options = TokenizeOptions {
        inputs: arguments.input.inputs(&arguments.licence)?,
        input: arguments.input.options()?,
        end_of_text: arguments.end_of_text.clone(),
        shard_tokens: arguments.shard_tokens,
        threads: arguments.input.threads(),
        strict: arguments.strict,
        replace: arguments.replace,
    };
    let mut broken = BrokenRecords::default();
    let show_progress = std::io::stderr().is_terminal() && !arguments.json;
    let mut read = 0;
    let summary = tokenize(&tokenizer, &files, &arguments.out, &options, &mut |event| match event {
        TokenizeEvent::Note(text) => eprintln!("{text}"),
        TokenizeEvent::Broken(record) => broken.show(record),
        TokenizeEvent::Read(bytes) => read += bytes,
        TokenizeEvent::Shard(counts) if show_progress => {
            eprint!(
                "\r{} read, {} documents, {} tokens ",
                MemorySize(read as u64),
                counts.documents,
                counts.tokens
            );
        }
        TokenizeEvent::Shard(_) => {}
    });
    if show_progress {
        eprintln!();
    }
    let summary = summary.with_context(|| format!("making token shards in {}", arguments.out.display()))?;
    print(&summary, &arguments.out, read, started.elapsed().as_secs_f64(), arguments.json);
    Ok(())
}

fn print(summary: &Summary, folder: &Path, read: usize, seconds: f64, as_json: bool) {
    let Counts { documents, tokens, text_bytes, text_characters, broken, cut } = summary.counts;
    if as_json {
        let line = json!({
            "folder": folder.display().to_string(), "documents": documents, "tokens": tokens, "text_bytes": text_bytes,
            "text_characters": text_characters, "broken": broken, "cut": cut, "shards": summary.shards,
            "kept_shards": summary.kept_shards, "unchanged": summary.unchanged, "seconds": seconds,
            "read_bytes": read, "broken_records": summary.broken,
        });
        println!("{line}");
        return;
    }
    println!(
        "{}: {documents} documents, {tokens} tokens, {text_characters} characters in {} shards",
        folder.display(),
        summary.shards
    );
    println!("characters per token: {:.3}", text_characters as f64 / tokens.max(1) as f64);
    if broken > 0 {
        println!("broken and left out: {broken}; the list in the folder, corpus.json, says which");
    }
    if cut > 0 {
        println!("too long for one document and cut: {cut}");
    }
    if summary.unchanged {
        println!("nothing has changed since they were made ({seconds:.2} s)");
    } else {
        let megabytes = read as f64 / 1e6;
        println!("{megabytes:.1} MB of text in {seconds:.1} s ({:.1} MB/s)", megabytes / seconds);
    }
}

/// What else a tokenizer's folder has for the models that are trained with it.
const COMPANIONS: [&str; 3] = ["tokenizer_config.json", "chat_template.jinja", "generation_config.json"];

/// Opens a tokenizer's folder or its `tokenizer.json`.
pub(crate) fn open_tokenizer(path: &Path) -> Result<(Tokenizer, TokenizerFiles)> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    let tokenizer_json = read(&file)?;
    let mut companions = Vec::new();
    for name in COMPANIONS {
        let path = file.with_file_name(name);
        if path.is_file() {
            companions.push((name.to_owned(), read(&path)?));
        }
    }
    let config = companions.iter().find(|(name, _)| name == COMPANIONS[0]);
    let config = config.map(|(_, contents)| TokenizerConfig::from_json(contents)).transpose();
    let config = config.with_context(|| file.with_file_name(COMPANIONS[0]).display().to_string())?;
    let tokenizer = Tokenizer::from_tokenizer_json(&tokenizer_json, config.as_ref())
        .with_context(|| file.display().to_string())?;
    Ok((tokenizer, TokenizerFiles { tokenizer_json, companions }))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).with_context(|| format!("opening {}", path.display()))?.len();
    if size > MAX_TOKENIZER_JSON_BYTES as u64 {
        bail!("{} has {size} bytes: this is not a tokenizer", path.display());
    }
    let contents = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    zhenjin_files::check_no_lfs_pointer(path, &contents)?;
    Ok(contents)
}
