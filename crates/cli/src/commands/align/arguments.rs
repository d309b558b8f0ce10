//! The options of the commands that train a model further.

use crate::arguments::at_least_one;
use crate::commands::cost::PriceArguments;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zhenjin_align::configuration::TuningKind;
use zhenjin_align::data::{BadPolicy, LearntAnswers, Overlong};
use zhenjin_train::configuration::Overrides;

pub(crate) const SFT_EXAMPLES: &str = "Examples:
  zhenjin sft smollm2:135m --data chat.jsonl --out runs/chat
  zhenjin sft smollm2:135m --data chat.jsonl --full --out runs/chat-full
  zhenjin sft smollm2:135m --data chat.jsonl --out runs/chat --resume auto

The adapter (or, with --full, the model) is in the checkpoints; `zhenjin serve MODEL --adapter NAME=CHECKPOINT` serves it.
Exit codes: 0 finished; 1 an error; 2 a setting that does not exist or cannot be; 75 asked to stop and saved.";

pub(crate) const PAIR_EXAMPLES: &str = "Examples:
  zhenjin dpo smollm2:135m --data pairs.jsonl --out runs/dpo
  zhenjin dpo smollm2:135m --data pairs.jsonl --adapter runs/chat/checkpoints/step-00000100 --out runs/dpo --set preference.beta=0.2
  zhenjin reward smollm2:135m --data pairs.jsonl --out runs/reward
  zhenjin kto smollm2:135m --data thumbs.jsonl --out runs/kto";

pub(crate) const ONLINE_EXAMPLES: &str = "Examples:
  zhenjin grpo smollm2:135m --data problems.jsonl --reward number --out runs/grpo
  zhenjin grpo smollm2:135m --data prompts.jsonl --reward '0.8*process:./judge.py+0.2*length:tokens<=64' --out runs/grpo
  zhenjin ppo smollm2:135m --data pairs.jsonl --reward-model runs/reward/checkpoints/step-00000100 --out runs/ppo";

/// What happens to examples with too many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverlongArgument {
    /// The first one ends the command
    Error,
    /// They are left out and counted
    Drop,
    /// Conversations are divided between turns, and counted
    Split,
}

impl OverlongArgument {
    pub(crate) fn policy(self) -> Overlong {
        match self {
            OverlongArgument::Error => Overlong::Error,
            OverlongArgument::Drop => Overlong::Drop,
            OverlongArgument::Split => Overlong::Split,
        }
    }
}

/// What happens to records that are not examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BadArgument {
    /// The first one ends the command
    Stop,
    /// They are left out and counted
    Drop,
}

impl BadArgument {
    pub(crate) fn policy(self) -> BadPolicy {
        match self {
            BadArgument::Stop => BadPolicy::Stop,
            BadArgument::Drop => BadPolicy::Drop,
        }
    }
}

/// Which answers of a conversation are learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LearnedArgument {
    /// All of them
    All,
    /// The last one
    Last,
}

/// What all methods are told.
#[derive(Debug, Clone, Args)]
pub(crate) struct AlignArguments {
    /// The model that learns: a fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Files of examples; formats are known by their fields (repeatable). `zhenjin data check` looks at them
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// Files of examples that are measured and not learnt (repeatable) [default: a share of --data]
    #[arg(long, value_name = "FILE")]
    pub(crate) held_out: Vec<PathBuf>,
    /// The share of --data that is held out, by conversation
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub(crate) held_out_share: f64,
    /// The run's folder: configuration, metrics, checkpoints
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Train all weights, in f32, instead of an adapter
    #[arg(long, conflicts_with = "adapter")]
    pub(crate) full: bool,
    /// Train this adapter further instead of a new one: a folder as PEFT or a run writes it
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// Rank of a new adapter (tuning.rank) [default: 16]
    #[arg(long, value_name = "N", conflicts_with = "full")]
    pub(crate) rank: Option<u16>,
    /// Compute the frozen model below an adapter in f32 instead of the type of its file: exact, slower, more memory
    #[arg(long, conflicts_with = "full")]
    pub(crate) f32: bool,
    /// Updates (schedule.steps) [default: one pass over the examples; 200 for methods that write answers]
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u32>,
    /// Examples, or prompts, of an update (batch.examples)
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<u32>,
    /// Highest learning rate (optimiser.learning_rate)
    #[arg(long, value_name = "RATE")]
    pub(crate) learning_rate: Option<f64>,
    /// Most tokens of an example, of a prompt where answers are written [default: what the model can hold]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub(crate) context: Option<usize>,
    /// What happens to longer examples
    #[arg(long, value_enum, default_value_t = OverlongArgument::Error)]
    pub(crate) overlong: OverlongArgument,
    /// What happens to records that are not examples
    #[arg(long, value_enum, default_value_t = BadArgument::Stop)]
    pub(crate) bad: BadArgument,
    /// Which answers of a conversation are learnt
    #[arg(long, value_enum, default_value_t = LearnedArgument::All)]
    pub(crate) learn: LearnedArgument,
    /// Settings from a TOML file, such as the run.toml of another run of the same method
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as optimiser.clip=0.5 (repeatable; stronger than --config)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of new matrices, the order of examples, and sampling
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Go on with a run: `auto` takes the newest whole checkpoint of --out if there is one, PATH that one
    #[arg(long, value_name = "auto|PATH")]
    pub(crate) resume: Option<OsString>,
    /// Compute layers a second time on the way back instead of keeping their activations: less memory, slower, the same numbers
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Show the effective configuration and what the data are, and end
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Lines instead of the dashboard, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    #[command(flatten)]
    pub(crate) prices: PriceArguments,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) simd: Option<String>,
}

impl AlignArguments {
    pub(crate) fn tuning(&self) -> TuningKind {
        if self.full { TuningKind::Full } else { TuningKind::Lora }
    }

    pub(crate) fn overlong(&self) -> Overlong {
        self.overlong.policy()
    }

    pub(crate) fn bad(&self) -> BadPolicy {
        self.bad.policy()
    }

    pub(crate) fn learnt(&self) -> LearntAnswers {
        match self.learn {
            LearnedArgument::All => LearntAnswers::All,
            LearnedArgument::Last => LearntAnswers::Last,
        }
    }

    /// Settings: from the file, then `--set`, then the options that have a name of their own.
    pub(crate) fn overrides(&self) -> Result<Overrides> {
        let mut overrides = Overrides::new();
        if let Some(path) = &self.config {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            overrides.add_toml(&text, Path::new(path))?;
        }
        for assignment in &self.set {
            overrides.add_assignment(assignment)?;
        }
        for (key, value) in [
            ("seed", self.seed.map(i64::from)),
            ("schedule.steps", self.steps.map(i64::from)),
            ("batch.examples", self.batch.map(i64::from)),
            ("tuning.rank", self.rank.map(i64::from)),
        ] {
            if let Some(value) = value {
                overrides.add(key, value);
            }
        }
        if let Some(rate) = self.learning_rate {
            overrides.add("optimiser.learning_rate", rate);
            overrides.add("optimiser.embedding_learning_rate", rate);
        }
        Ok(overrides)
    }
}

/// The options of methods whose model writes its own answers.
#[derive(Debug, Args)]
pub(crate) struct OnlineArguments {
    #[command(flatten)]
    pub(crate) align: AlignArguments,
    /// What an answer is worth: `number`, `regex:…`, `process:CMD` …, with weights as in 0.7*number+0.3*length:tokens<=64
    #[arg(long, value_name = "REWARD", required_unless_present = "reward_model")]
    pub(crate) reward: Option<String>,
    /// Or what a reward model says: a checkpoint of `zhenjin reward` on the same model; added to --reward
    #[arg(long, value_name = "FOLDER")]
    pub(crate) reward_model: Option<PathBuf>,
    /// A reward that is only measured, against self-deception
    #[arg(long, value_name = "REWARD")]
    pub(crate) judge: Option<String>,
    /// A reward model that is only measured
    #[arg(long, value_name = "FOLDER", conflicts_with = "judge")]
    pub(crate) judge_model: Option<PathBuf>,
    /// Answers to each prompt (rollout.answers)
    #[arg(long, value_name = "N")]
    pub(crate) answers: Option<u32>,
    /// Most tokens of an answer (rollout.max_tokens)
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// Write answers with this model instead, a quantised copy of MODEL: faster; the difference is measured and corrected
    #[arg(long, value_name = "MODEL", conflicts_with = "full")]
    pub(crate) rollout_model: Option<OsString>,
}

impl OnlineArguments {
    pub(crate) fn overrides(&self) -> Result<Overrides> {
        let mut overrides = self.align.overrides()?;
        for (key, value) in [("rollout.answers", self.answers), ("rollout.max_tokens", self.max_tokens)] {
            if let Some(value) = value {
                overrides.add(key, i64::from(value));
            }
        }
        Ok(overrides)
    }
}
