//! `zhenjin evaluate`: measures of what a model writes.

mod poem_documents;
mod poems;

use crate::arguments::EngineArguments;
use crate::home::Home;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum EvaluateCommand {
    /// Poems: held-out bits per character; forms, rhymes and tones of generated poems beside the real ones; copied runs
    Poems(PoemsArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PoemsArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
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

pub(crate) async fn run(home: &Home, command: EvaluateCommand) -> Result<()> {
    match command {
        EvaluateCommand::Poems(arguments) => poems::run(home, &arguments).await,
    }
}
