//! The options of `zhenjin pretrain`.

use crate::commands::cost::PriceArguments;
use crate::commands::text_input::DocumentArguments;
use crate::memory_size::MemorySize;
use crate::priority::PriorityArgument;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;
use zhenjin_train::configuration::Overrides;

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin pretrain --data poems/ --depth 4 --out runs/poems --minutes 30
  zhenjin pretrain --data shards/ --depth 4 --out runs/first --minutes 30
  zhenjin pretrain --data shards/ --config runs/first/run.toml --out runs/again
  zhenjin pretrain --data shards/ --out runs/first --resume auto
  zhenjin pretrain --data shards/ --depth 4 --experts 8 --active 2 --out runs/experts
  zhenjin pretrain --data shards/ --depth 4 --out runs/adamw --set optimiser.kind=adamw --set schedule.kind=cosine

Exit codes: 0 the run is finished; 1 an error; 2 a setting that does not exist or cannot be;
75 it was asked to stop (SIGTERM, SIGINT, SIGUSR1), has been saved, and goes on with --resume auto.";

/// The options that make a model one with experts.
#[derive(Debug, Args)]
pub(crate) struct ExpertArguments {
    /// Experts of each layer: a mixture instead of one feed-forward network (model.experts)
    #[arg(long, value_name = "E")]
    experts: Option<u16>,
    /// Experts that each token uses (model.active_experts); by default they are as wide as together costs what the dense network does [default: 2]
    #[arg(long, value_name = "K")]
    active: Option<u16>,
}

impl ExpertArguments {
    pub(crate) fn says_something(&self) -> bool {
        self.experts.is_some() || self.active.is_some()
    }

    /// As settings.
    pub(crate) fn add_to(&self, overrides: &mut Overrides) {
        for (key, value) in [("model.experts", self.experts), ("model.active_experts", self.active)] {
            if let Some(value) = value {
                overrides.add(key, i64::from(value));
            }
        }
    }
}

/// Names and spellings of a document's options that have a default value.
const DEFAULTED: [(&str, &str); 2] = [("split", "--split"), ("max_document", "--max-document")];

/// What in a text is a document, and which of the options with a default value were given all the same: they are refused where they have no
/// effect.
#[derive(Debug)]
pub(crate) struct GivenDocument {
    pub(crate) arguments: DocumentArguments,
    pub(crate) given: Vec<&'static str>,
}

impl FromArgMatches for GivenDocument {
    fn from_arg_matches(matches: &ArgMatches) -> Result<GivenDocument, clap::Error> {
        GivenDocument::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<GivenDocument, clap::Error> {
        // First, as the values are taken out of the matches.
        let mut given = Vec::new();
        for (name, option) in DEFAULTED {
            if matches.value_source(name) == Some(ValueSource::CommandLine) {
                given.push(option);
            }
        }
        Ok(GivenDocument { arguments: DocumentArguments::from_arg_matches_mut(matches)?, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = GivenDocument::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for GivenDocument {
    fn augment_args(command: Command) -> Command {
        DocumentArguments::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        DocumentArguments::augment_args_for_update(command)
    }
}

impl PretrainArguments {
    /// Whether nothing is trained, and so nothing in the run's folder is changed.
    pub(crate) fn only_looks(&self) -> bool {
        self.dry_run || self.replay.is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct PretrainArguments {
    /// Text: a file or folder of text, JSON lines or Parquet, plain or compressed; its token shards are made in the run's folder.
    /// Or a folder of token shards, as `zhenjin tokenize` writes them
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) document: GivenDocument,
    /// The tokenizer for text: a folder with tokenizer.json, or the file itself [default: one that is trained on the text]
    #[arg(long, value_name = "PATH")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Tokens of the tokenizer that is trained [default: one for about 1,000 bytes of text, from 512 to 8,192]
    #[arg(long, value_name = "N", conflicts_with = "tokenizer")]
    pub(crate) vocabulary: Option<usize>,
    /// The run's folder: configuration, metrics, checkpoints
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// The dial: layers, from which width, batch, learning rates and tokens follow [default: 4, or what --config says]
    #[arg(long, value_name = "LAYERS")]
    pub(crate) depth: Option<usize>,
    #[command(flatten)]
    pub(crate) experts: ExpertArguments,
    /// Settings from a TOML file, such as the run.toml of another run
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as optimiser.learning_rate=1e-3 (repeatable; stronger than --config)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Lay the schedule out for so many minutes, by the speed that is measured first
    #[arg(long, value_name = "MINUTES", conflicts_with = "tokens")]
    pub(crate) minutes: Option<f64>,
    /// Tokens to train on [default: 12 for each parameter that multiplies]
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<u64>,
    /// Seed of the weights and of the order of the data
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Go on with a run: `auto` takes the newest whole checkpoint of --out if there is one, PATH that one
    #[arg(long, value_name = "auto|PATH")]
    pub(crate) resume: Option<std::ffi::OsString>,
    /// What sample texts begin with (repeatable) [default: the first words of some training documents]
    #[arg(long, value_name = "TEXT")]
    pub(crate) sample_prompt: Vec<String>,
    /// Tokens of a sample text [default: 48, or as many as a sequence has room for]
    #[arg(long, value_name = "N")]
    pub(crate) sample_tokens: Option<usize>,
    /// Compute layers a second time on the way back instead of keeping their activations
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Of several ranks: exchange gradients behind the backward pass instead of during it; same weights, for comparison
    #[arg(long)]
    pub(crate) no_overlap: bool,
    /// Begin although the checkpoints will not all fit on the disk: those that fail are said, and the run goes on
    #[arg(long)]
    pub(crate) allow_small_disk: bool,
    /// Show the effective configuration and end
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Compute a batch that was kept in RUN/faults again, with the weights of --resume (or new ones), and end
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<PathBuf>,
    /// Lines instead of the dashboard, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    #[command(flatten)]
    pub(crate) priority: PriorityArgument,
    #[command(flatten)]
    pub(crate) prices: PriceArguments,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Most memory that the run may take, such as 4GiB [default: what is free]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<MemorySize>,
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni, amx; on AArch64 neon, dotprod, i8mm [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) simd: Option<String>,
}
