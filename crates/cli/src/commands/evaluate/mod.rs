//! `zhenjin evaluate`: measures of what a model writes.

mod arithmetic;
mod generation;
mod poem_documents;
mod poems;
mod text;

use crate::arguments::EngineArguments;
use crate::home::Home;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum EvaluateCommand {
    /// Poems: held-out bits per character; forms, rhymes and tones of generated poems beside the real ones; copied runs
    Poems(PoemsArguments),
    /// Text: bits per byte of the documents that training held out
    #[command(after_help = "Examples:
  zhenjin evaluate text ./run/checkpoints/step-00001000 --data ./shards")]
    Text(TextArguments),
    /// Arithmetic: the share of problems that models solve, by operation and digits, side by side
    #[command(after_help = "Examples:
  zhenjin generate arithmetic --count 1000 --test --out test.jsonl
  zhenjin evaluate arithmetic ./worked ./plain --data test.jsonl --training train.jsonl")]
    Arithmetic(ArithmeticArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PoemsArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// The token shards that it was trained on; the documents held out for validation are the test
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The share of documents that training held out
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub(crate) validation_share: f64,
    /// Poems to generate, each from the head (kind, author, title) of a held-out one
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub(crate) samples: usize,
    /// Held-out poems to score
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) scored: usize,
    /// Most tokens of a generated poem
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub(crate) max_tokens: usize,
    /// Sampling temperature [default: the model's own]
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Nucleus sampling [default: the model's own]
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// The seed of the first poem; the n-th has this + n
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Print generated poems, this many
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) show: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TextArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Token shards of the model's tokenizer; the documents held out for validation are the test
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The share of documents that training held out
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub(crate) validation_share: f64,
    /// Held-out documents to score [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) scored: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ArithmeticArguments {
    /// Fetched models' names, GGUF files or Hugging Face folders
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<OsString>,
    /// Problems, as `zhenjin generate arithmetic --test` writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Problems that were trained on: if one of them is in the test, nothing is measured (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) training: Vec<PathBuf>,
    /// What a model is called in the table, once for each (repeatable) [default: as it is named]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 160, value_name = "N")]
    pub(crate) max_tokens: usize,
    /// Write the results to a file too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

pub(crate) async fn run(home: &Home, command: EvaluateCommand) -> Result<()> {
    match command {
        EvaluateCommand::Poems(arguments) => poems::run(home, &arguments).await,
        EvaluateCommand::Text(arguments) => text::run(home, &arguments).await,
        EvaluateCommand::Arithmetic(arguments) => arithmetic::run(home, &arguments).await,
    }
}
