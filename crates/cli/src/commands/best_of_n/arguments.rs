//! The options of `zhenjin best-of-n`, and those of writing several answers.

use crate::arguments::at_least_one;
use crate::commands::align::{BadArgument, OverlongArgument, RewardLimits, reward_expression};
use crate::commands::data::ThinkingOption;
use crate::commands::report::ReportLanguage;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zhenjin_align::best_of::Choice;
use zhenjin_model::LoadOptions;
use zhenjin_tensor::ComputeOptions;

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin best-of-n smollm2:135m --data problems.jsonl --n 8 --reward number --least 1 --out solved.jsonl
  zhenjin sft smollm2:135m --data solved.jsonl --out runs/rejection-sampling
  zhenjin best-of-n smollm2:135m --data prompts.jsonl --n 16 --reward-model runs/reward/checkpoints/step-00000100 --as preference --out pairs.jsonl
  zhenjin dpo smollm2:135m --data pairs.jsonl --out runs/dpo

FILE.answers.jsonl keeps all answers: the same command goes on where it was killed, and another --least, --keep or --as needs no new ones.";

/// What the answers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExampleKind {
    /// Conversations with the best answers, for `sft`
    Best,
    /// Pairs of the best and the worst answer, for `dpo` and `reward`
    Preference,
}

/// How answers are written and judged.
#[derive(Debug, Clone, Args)]
pub(crate) struct SamplingArguments {
    /// Answers to each prompt
    #[arg(long = "n", alias = "answers", default_value_t = 8, value_name = "N", value_parser = at_least_one)]
    pub(crate) answers: usize,
    /// What an answer is worth: `number`, `regex:…`, `process:CMD` …, with weights as in 0.7*number+0.3*length:tokens<=64
    #[arg(long, value_name = "REWARD", allow_hyphen_values = true)]
    pub(crate) reward: Option<String>,
    /// Or what a reward model says: a checkpoint of `zhenjin reward` on the same model; added to --reward
    #[arg(long, value_name = "FOLDER")]
    pub(crate) reward_model: Option<PathBuf>,
    /// The model that the reward model's adapter belongs to [default: MODEL]
    #[arg(long, value_name = "MODEL", requires = "reward_model")]
    pub(crate) reward_base: Option<OsString>,
    #[command(flatten)]
    pub(crate) limits: RewardLimits,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = at_least_one)]
    pub(crate) max_tokens: usize,
    /// Sampling temperature [default: 1]
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// Nucleus sampling
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub(crate) top_p: f64,
    /// Sample among the K likeliest tokens; 0 among all
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub(crate) top_k: usize,
    /// Seed of sampling
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
}

/// The options of the command.
#[derive(Debug, Args)]
pub(crate) struct BestOfArguments {
    /// The model that answers: a fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Files of prompts; formats are known by their fields (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// The file of examples that is written
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// An adapter to the model: a folder as PEFT or a run writes it
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArguments,
    /// What the answers become
    #[arg(long = "as", value_enum, default_value_t = ExampleKind::Best, value_name = "KIND")]
    pub(crate) kind: ExampleKind,
    /// Leave out answers that are worth less
    #[arg(long, value_name = "REWARD", allow_negative_numbers = true)]
    pub(crate) least: Option<f64>,
    /// So many of the best distinct answers to each prompt, at most [default: 1]
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    pub(crate) keep: Option<usize>,
    /// Leave out pairs whose rewards are nearer to each other
    #[arg(long, value_name = "DIFFERENCE")]
    pub(crate) least_margin: Option<f64>,
    /// Also choose answers that were cut at --max-tokens: imitated, they teach to stop in the middle
    #[arg(long)]
    pub(crate) keep_cut: bool,
    /// Prompts, the first of --data [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) prompts: Option<usize>,
    /// Most tokens of a prompt [default: what the model can hold]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub(crate) context: Option<usize>,
    /// What happens to longer prompts
    #[arg(long, value_enum, default_value_t = OverlongArgument::Error)]
    pub(crate) overlong: OverlongArgument,
    /// What happens to records that are not prompts
    #[arg(long, value_enum, default_value_t = BadArgument::Stop)]
    pub(crate) bad: BadArgument,
    #[command(flatten)]
    pub(crate) thinking: ThinkingOption,
    /// Language of what is told
    #[arg(long, value_enum, default_value_t = ReportLanguage::En)]
    pub(crate) language: ReportLanguage,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni, amx; on AArch64 neon, dotprod, i8mm [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) simd: Option<String>,
}

impl SamplingArguments {
    /// Refuses what cannot be, before anything is read; `temperature` is the one in effect.
    pub(crate) fn check(&self, temperature: f64) -> Result<()> {
        self.limits.check(self.reward.is_some())?;
        self.reward.as_deref().map(|text| reward_expression(text, &self.limits)).transpose()?;
        let is_reward_model = |folder: &Path| {
            ["config.json", "adapter_config.json"].iter().any(|name| folder.join(name).is_file())
        };
        if let Some(folder) = self.reward_model.as_deref().filter(|folder| !is_reward_model(folder)) {
            bail!(
                "{} is no reward model: it has neither a model's config.json nor an adapter's adapter_config.json",
                folder.display()
            );
        }
        const MOST_ANSWERS: usize = 1024;
        if self.answers > MOST_ANSWERS {
            bail!("--n {}: at most {MOST_ANSWERS} answers to a prompt", self.answers);
        }
        if !(0.0..=10.0).contains(&temperature) {
            bail!("--temperature {temperature}: it must lie between 0 and 10");
        }
        if temperature == 0.0 && self.answers > 1 {
            bail!(
                "--temperature 0 takes the likeliest token each time, so all {} answers would be the same",
                self.answers
            );
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            bail!("--top-p {}: it must lie above 0 and be at most 1", self.top_p);
        }
        Ok(())
    }
}

impl BestOfArguments {
    /// What is chosen of the answers.
    pub(super) fn choice(&self) -> Result<Choice> {
        self.sampling.check(self.sampling.temperature.unwrap_or(1.0))?;
        if self.sampling.reward.is_none() && self.sampling.reward_model.is_none() {
            bail!("--reward or --reward-model says what an answer is worth");
        }
        for (option, value) in [("--least", self.least), ("--least-margin", self.least_margin)] {
            if value.is_some_and(f64::is_nan) {
                bail!("{option}: NaN is no reward");
            }
        }
        match self.kind {
            ExampleKind::Best if self.least_margin.is_some() => {
                bail!("--least-margin is of pairs: it needs --as preference")
            }
            ExampleKind::Best => Ok(Choice::Best {
                keep: self.keep.unwrap_or(1),
                least: self.least.unwrap_or(f64::NEG_INFINITY),
            }),
            ExampleKind::Preference if self.keep.is_some() || self.least.is_some() => {
                bail!(
                    "--keep and --least are of answers to imitate; a pair is the best and the worst answer, with --least-margin"
                )
            }
            ExampleKind::Preference if self.sampling.answers < 2 => {
                bail!("--as preference needs at least two answers: --n 2")
            }
            ExampleKind::Preference => Ok(Choice::Pair { least_margin: self.least_margin.unwrap_or(0.0) }),
        }
    }

    /// Threads and instructions.
    pub(super) fn load(&self) -> Result<LoadOptions> {
        let compute = ComputeOptions::resolve(self.simd.as_deref(), self.threads.map(usize::from))?;
        Ok(LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) })
    }
}
