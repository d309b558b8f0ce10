//! `zhenjin data`: examples looked at before anything is trained on them.

mod check;
mod show;

use super::text_input::threads;
use crate::arguments::at_least_one;
use crate::home::Home;
use crate::machine;
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use time::OffsetDateTime;
use zhenjin_align::data::{LearntAnswers, PromptSettings};
use zhenjin_assistant::ThinkingWish;
use zhenjin_hub::{ModelStore, OpenedModel};

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Count what examples hold: kinds, roles, lengths, duplicates, leaks, bad records
    #[command(after_help = "Examples:
  zhenjin data check chat.jsonl
  zhenjin data check pairs.jsonl.gz --model smollm2:135m --context 1024 --against held-out.jsonl
  zhenjin data check chat.jsonl --model qwen3:0.6b --json")]
    Check(CheckArguments),
    /// Show an example's exact tokens, and which of them are learnt
    #[command(after_help = "Examples:
  zhenjin data show chat.jsonl --model smollm2:135m
  zhenjin data show pairs.jsonl --model smollm2:135m --index 7
  zhenjin data show chat.jsonl --model qwen3:0.6b --json")]
    Show(ShowArguments),
}

/// How a template is to write examples.
#[derive(Debug, Args)]
pub(crate) struct TemplateArguments {
    /// Which answers of a conversation are learnt
    #[arg(long, value_enum, default_value_t = LearnArgument::All, value_name = "WHICH")]
    pub(crate) learn: LearnArgument,
    #[command(flatten)]
    pub(crate) thinking: ThinkingOption,
}

/// What a model is told in its prompts.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct ThinkingOption {
    /// Whether a model that can be told so thinks before it answers [default: as its template does by itself]
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub(crate) thinking: Option<ThinkingArgument>,
}

impl ThinkingOption {
    /// The settings of prompts, at this time.
    pub(crate) fn settings(&self, now: OffsetDateTime) -> PromptSettings {
        let thinking = match self.thinking {
            None => ThinkingWish::ModelsOwn,
            Some(ThinkingArgument::On) => ThinkingWish::On,
            Some(ThinkingArgument::Off) => ThinkingWish::Off,
        };
        PromptSettings { thinking, ..PromptSettings::at(now) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LearnArgument {
    /// All of them
    All,
    /// The last one
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThinkingArgument {
    /// It thinks
    On,
    /// It does not
    Off,
}

impl TemplateArguments {
    pub(crate) fn learnt(&self) -> LearntAnswers {
        match self.learn {
            LearnArgument::All => LearntAnswers::All,
            LearnArgument::Last => LearntAnswers::Last,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Files of examples: JSON lines or JSON arrays, plain or compressed (gzip, zstd); formats are known by their fields
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The model whose tokens are counted: a fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(long, value_name = "MODEL")]
    model: Option<OsString>,
    /// Count the examples with more tokens than this
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one, requires = "model")]
    context: Option<usize>,
    /// A file with which the others should share nothing, such as a test's (repeatable)
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    #[command(flatten)]
    template: TemplateArguments,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// A file of examples
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The model whose tokens are shown: a fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(long, value_name = "MODEL")]
    model: OsString,
    /// Which example, counted from 0; bad records do not count
    #[arg(long, value_name = "N", default_value_t = 0)]
    index: usize,
    #[command(flatten)]
    template: TemplateArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(home: &Home, command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Check(arguments) => check::run(home, arguments),
        DataCommand::Show(arguments) => show::run(home, arguments),
    }
}

/// A model's tokenizer and template; its weights are mapped, not read.
fn open(home: &Home, model: &OsString) -> Result<OpenedModel> {
    let local = machine::resolve(&ModelStore::new(home.models()), model)?;
    Ok(zhenjin_hub::open(&local.path)?)
}
