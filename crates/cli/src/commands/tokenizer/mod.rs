//! `zhenjin tokenizer train`: a new tokenizer from text.

use super::text_input::{BrokenRecords, TextInputArguments};
use crate::memory_size::MemorySize;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;
use zhenjin_corpus::{
    BrokenRecord, InputFile, SampleOptions, ScriptCounts, TextSample, TokenizerFit, discover, measure, sample,
};
use zhenjin_tokenizer::{
    CHAT_TOKENS, Tokenizer, TokenizerConfig, TokenizerTraining, TrainedTokenizer, train_byte_level,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Train a byte-level BPE tokenizer (tokenizer.json, with a ChatML template)
    #[command(after_help = "Examples:
  zhenjin tokenizer train book/ --vocabulary 8192 --out ./tokenizer
  zhenjin tokenizer train poems.jsonl.zst --format '<|title|>{title}\\n{lines}' --special '<|title|>' --out ./tokenizer")]
    Train(TrainArguments),
}

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    #[command(flatten)]
    input: TextInputArguments,
    /// The folder for tokenizer.json and tokenizer_config.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens of the vocabulary, with the 256 bytes and all control tokens
    #[arg(long, value_name = "N", default_value_t = 8192)]
    vocabulary: usize,
    /// Another control token beside the three of the chat format (repeatable)
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// Text to train on at most; of more, the documents are chosen by a hash of their contents, as many as fit
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    max_text: MemorySize,
    /// Print one JSON object with the numbers
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &TokenizerCommand) -> Result<()> {
    let TokenizerCommand::Train(arguments) = command;
    let started = Instant::now();
    let options = arguments.input.options()?;
    let mut inputs = Vec::new();
    for input in arguments.input.inputs(&[])? {
        inputs.push(discover(&input, options.kind)?.files);
    }
    let special_tokens: Vec<String> =
        CHAT_TOKENS.iter().map(|token| (*token).to_owned()).chain(arguments.special.clone()).collect();
    let sample_options = SampleOptions {
        input: options,
        limit_bytes: usize::try_from(arguments.max_text.0).context("--max-text")?,
        special_tokens,
        threads: arguments.input.threads(),
    };
    let mut broken = BrokenRecords::default();
    let (text, trained) = train_tokenizer(
        &inputs,
        &sample_options,
        arguments.special.clone(),
        &|_| arguments.vocabulary,
        &mut |record| broken.show(record),
    )
    .with_context(|| {
        let paths: Vec<String> =
            arguments.input.inputs.iter().map(|path| path.display().to_string()).collect();
        format!("training a tokenizer on {}", paths.join(", "))
    })?;
    let config = TokenizerConfig::from_json(&trained.tokenizer_config_json)?;
    let tokenizer = Tokenizer::from_tokenizer_json(&trained.tokenizer_json, Some(&config))?;
    let trained_in = started.elapsed().as_secs_f64();
    // Short text leaves nothing to hold out.
    let is_held_out = !text.held_out.is_empty();
    let started = Instant::now();
    let fit = measure(&tokenizer, if is_held_out { &text.held_out } else { &text.training })?;
    let measured_in = started.elapsed().as_secs_f64();
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("making {}", arguments.out.display()))?;
    zhenjin_files::write_whole(
        &arguments.out.join("tokenizer_config.json"),
        &[&trained.tokenizer_config_json],
    )?;
    zhenjin_files::write_whole(&arguments.out.join("tokenizer.json"), &[&trained.tokenizer_json])?;
    let report = Report {
        arguments,
        text: &text,
        size: trained.vocabulary_size,
        trained_in,
        fit,
        is_held_out,
        measured_in,
    };
    report.print();
    Ok(())
}

/// Reads text and trains a tokenizer on it; the size of its vocabulary may follow from the bytes of all text.
pub(crate) fn train_tokenizer(
    inputs: &[Vec<InputFile>],
    options: &SampleOptions,
    special_tokens: Vec<String>,
    vocabulary_size: &dyn Fn(u64) -> usize,
    broken: &mut dyn FnMut(&BrokenRecord),
) -> Result<(TextSample, TrainedTokenizer)> {
    let text = sample(inputs, options, broken)?;
    let training = TokenizerTraining { vocabulary_size: vocabulary_size(text.bytes), special_tokens };
    let trained = train_byte_level(text.training.iter().map(String::as_str), &training)?;
    Ok((text, trained))
}

struct Report<'a> {
    arguments: &'a TrainArguments,
    text: &'a TextSample,
    size: usize,
    trained_in: f64,
    fit: TokenizerFit,
    is_held_out: bool,
    measured_in: f64,
}

impl Report<'_> {
    /// One thread encodes and decodes when the fit is measured.
    fn tokens_per_second(&self) -> f64 {
        self.fit.tokens() as f64 / self.measured_in.max(1e-9)
    }

    fn print(&self) {
        let trained_on: usize = self.text.training.iter().map(String::len).sum();
        if self.arguments.json {
            println!("{}", self.json(trained_on));
            return;
        }
        println!(
            "{}: {} tokens, trained in {:.1} s on {} of {} in {} documents",
            self.arguments.out.display(),
            self.size,
            self.trained_in,
            MemorySize(trained_on as u64),
            MemorySize(self.text.bytes),
            self.text.documents
        );
        if self.size < self.arguments.vocabulary {
            println!("fewer than the {} asked for: no other pair occurs twice", self.arguments.vocabulary);
        }
        if self.text.share < 1.0 {
            println!(
                "the text is over {}; a share of {:.3} of it was trained on, documents chosen by a hash of their contents",
                self.arguments.max_text, self.text.share
            );
        }
        if self.text.broken > 0 {
            println!("broken and left out: {}", self.text.broken);
        }
        let where_from = if self.is_held_out {
            "text that was held out"
        } else {
            "the same text, as nothing was left to hold out"
        };
        println!("measured on {} lines of {where_from}; every line came back byte for byte", self.fit.lines);
        for (name, counts) in
            [("Chinese", self.fit.chinese), ("English", self.fit.english), ("other", self.fit.other)]
        {
            if let Some(ratio) = counts.characters_per_token() {
                println!("  {name:<8}{ratio:.3} characters per token ({} tokens)", counts.tokens);
            }
        }
        println!("  {:.0} tokens a second, encoded and decoded on one thread", self.tokens_per_second());
    }

    fn json(&self, trained_on: usize) -> Value {
        let script = |counts: ScriptCounts| {
            json!({ "characters": counts.characters, "bytes": counts.bytes, "tokens": counts.tokens,
                    "characters_per_token": counts.characters_per_token() })
        };
        json!({
            "folder": self.arguments.out.display().to_string(), "vocabulary_size": self.size, "training_seconds": self.trained_in,
            "training_bytes": trained_on, "documents": self.text.documents, "bytes": self.text.bytes,
            "share": self.text.share, "broken": self.text.broken, "held_out": self.is_held_out,
            "round_trip_lines": self.fit.lines, "chinese": script(self.fit.chinese), "english": script(self.fit.english),
            "other": script(self.fit.other), "tokens_per_second": self.tokens_per_second(),
        })
    }
}
