//! `zhenjin evaluate`: measures of what a model writes.

mod alignment;
mod arithmetic;
mod generation;
mod poem_documents;
mod poems;
mod preferences;
mod rewards;
mod text;
mod wins;

use alignment::{AlignmentArguments, WritingArguments};
pub(crate) use arithmetic::run as arithmetic;
pub(crate) use poems::run as poems;
pub(crate) use preferences::run as preferences;
pub(crate) use rewards::run as rewards;
pub(crate) use text::run as text;
pub(crate) use wins::run as wins;

use crate::arguments::EngineArguments;
use crate::commands::align::RewardLimits;
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
    /// Preferences: how often a policy, the model it began as, or a reward model prefers the answer that people preferred
    #[command(after_help = "Examples:
  zhenjin evaluate preferences smollm2:135m --data held-out.jsonl
  zhenjin evaluate preferences smollm2:135m --adapter runs/dpo/checkpoints/step-00000100 --data held-out.jsonl
  zhenjin evaluate preferences smollm2:135m --reward-model runs/reward/checkpoints/step-00000100 --data pairs.jsonl --held-out-share 0.05")]
    Preferences(PreferencesArguments),
    /// Wins: two models answer the same prompts, and a reward model says whose answers are better
    #[command(after_help = "Examples:
  zhenjin evaluate wins smollm2:135m --adapter runs/dpo/checkpoints/step-00000100 --against base --data prompts.jsonl \\
    --judge-model runs/judge/checkpoints/step-00000100 --overlong drop")]
    Wins(WinsArguments),
    /// Rewards: what a model's answers to prompts are worth by rewards that can be checked, beside another model's
    #[command(after_help = "Examples:
  zhenjin evaluate rewards smollm2:135m --adapter runs/grpo/checkpoints/step-00000100 --against base --data problems.jsonl --reward number
  zhenjin evaluate rewards smollm2:135m --data problems.jsonl --reward number --temperature 0 --by digits")]
    Rewards(RewardsArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PreferencesArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// The policy: an adapter to MODEL, a folder as PEFT or a run writes it [default: MODEL itself]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// What the policy is measured against: `base`, which is MODEL without an adapter, an adapter to it, or another model
    #[arg(long, value_name = "base|FOLDER|MODEL")]
    pub(crate) against: Option<OsString>,
    /// Measure a reward model on MODEL instead: a checkpoint of `zhenjin reward`
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["adapter", "against"])]
    pub(crate) reward_model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: AlignmentArguments,
}

#[derive(Debug, Args)]
pub(crate) struct WinsArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// The first side: an adapter to MODEL, a folder as PEFT or a run writes it [default: MODEL itself]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// The second side: `base`, which is MODEL without an adapter, an adapter to it, or another model
    #[arg(long, value_name = "base|FOLDER|MODEL")]
    pub(crate) against: OsString,
    /// Who judges: a checkpoint of `zhenjin reward` that neither side was trained by
    #[arg(long, value_name = "FOLDER")]
    pub(crate) judge_model: PathBuf,
    /// The model that the judge is an adapter to [default: MODEL]
    #[arg(long, value_name = "MODEL")]
    pub(crate) judge_base: Option<OsString>,
    #[command(flatten)]
    pub(crate) writing: WritingArguments,
    #[command(flatten)]
    pub(crate) common: AlignmentArguments,
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

#[derive(Debug, Args)]
pub(crate) struct RewardsArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Measure this adapter to MODEL, a folder as PEFT or a run writes it [default: MODEL itself]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// What it is compared with: `base`, which is MODEL without an adapter, an adapter to it, or another model [default: nothing]
    #[arg(long, value_name = "base|FOLDER|MODEL")]
    pub(crate) against: Option<OsString>,
    /// What an answer is worth: `number`, `regex:…`, `process:CMD` …, with weights as in 0.7*number+0.3*length:tokens<=64
    #[arg(long, value_name = "REWARD", allow_hyphen_values = true)]
    pub(crate) reward: String,
    #[command(flatten)]
    pub(crate) limits: RewardLimits,
    /// Results for each value of this field as well; every record of the data needs it
    #[arg(long, value_name = "FIELD")]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) writing: WritingArguments,
    #[command(flatten)]
    pub(crate) common: AlignmentArguments,
}
