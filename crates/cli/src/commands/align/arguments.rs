//! The options of the commands that train a model further.

use super::offline::ReferenceProgress;
use super::rewards::RewardLimits;
use crate::arguments::at_least_one;
use crate::commands::best_of_n::SamplingArguments;
use crate::commands::cost::PriceArguments;
use crate::commands::data::ThinkingOption;
use crate::memory_size::MemorySize;
use crate::priority::PriorityArgument;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zhenjin_align::configuration::{Method, TuningKind};
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

pub(crate) const DISTILL_EXAMPLES: &str = "Examples:
  zhenjin distill smollm2:135m --teacher runs/large/checkpoints/step-00000100 --data chat.jsonl --out runs/small
  zhenjin distill smollm2:135m --teacher smollm2:135m --teacher-adapter runs/chat/checkpoints/step-00000100 --data chat.jsonl --out runs/d
  zhenjin distill smollm2:135m --teacher smollm2:360m --divergence jensen-shannon --own-answers 0.5 --data chat.jsonl --out runs/gkd

  zhenjin distill smollm2:135m --teacher qwen2.5-coder-0.5b.gguf --from text --data prompts.jsonl --out runs/text

For logits the teacher must have the student's vocabulary; padding at its end does not count.";

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
    #[arg(long, value_name = "FILE", required_unless_present = "replay")]
    pub(crate) data: Vec<PathBuf>,
    /// Files of examples that are measured and not learnt (repeatable) [default: a share of --data]
    #[arg(long, value_name = "FILE")]
    pub(crate) held_out: Vec<PathBuf>,
    /// Files of plain text that stays as probable as it is (repeatable; sft, dpo, kto): paragraphs, divided by empty lines. What is learned
    /// changes other text less; anchor.weight says how much that matters
    #[arg(long, value_name = "FILE")]
    pub(crate) anchor: Vec<PathBuf>,
    /// The share of --data that is held out, by conversation
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, conflicts_with = "held_out")]
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
    /// Rank of a new adapter (tuning.rank); tuning.projections says what is adapted: all, attention, query-value, or names with commas
    /// between, such as q_proj,v_proj [default: 16]
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
    /// Which answers of a conversation are learnt (sft, distill)
    #[arg(long, value_enum, default_value_t = LearnedArgument::All)]
    pub(crate) learn: LearnedArgument,
    #[command(flatten)]
    pub(crate) thinking: ThinkingOption,
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
    /// Most memory that the run may take, such as 4G; one that needs more is refused before it begins [default: what is free]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<MemorySize>,
    /// Show the effective configuration, what the data are, and what the run would cost, with times measured on them; and end
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Encode the examples anew, and do not keep their tokens for the next run that reads the same files
    #[arg(long)]
    pub(crate) no_kept_examples: bool,
    /// Compute a step that was kept in RUN/faults, as its numbers were not finite, again, with the weights of --resume (or of the checkpoint that
    /// FILE names), and end
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
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni, amx; on AArch64 neon, dotprod, i8mm [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) simd: Option<String>,
    // No option: for a program around the run that shows how far it is.
    #[arg(skip)]
    pub(crate) reference: ReferenceProgress,
}

impl AlignArguments {
    /// Refuses options that have no effect on `method`.
    pub(crate) fn check(&self, method: Method) -> Result<()> {
        if self.learn == LearnedArgument::Last && !matches!(method, Method::Sft | Method::Distill) {
            bail!(
                "--learn last says which answers of conversations `sft` and `distill` learn, and has no effect on `{}`: leave it out",
                method.name()
            );
        }
        Ok(())
    }

    /// Whether nothing is trained, and so nothing in the run's folder is changed.
    pub(crate) fn only_looks(&self) -> bool {
        self.dry_run || self.replay.is_some()
    }

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

    /// Whether `--set` gives this setting.
    pub(super) fn sets(&self, key: &str) -> bool {
        let name = |assignment: &String| assignment.split('=').next().is_some_and(|name| name.trim() == key);
        self.set.iter().any(name)
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
            // Also where a whole run.toml gives both, but for whoever gives the embedding's own beside it.
            if !self.sets("optimiser.embedding_learning_rate") {
                overrides.add("optimiser.embedding_learning_rate", rate);
            }
        }
        Ok(overrides)
    }
}

/// Which divergence from the teacher is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DivergenceArgument {
    /// KL(teacher ‖ student): the student covers everything that the teacher may say
    ForwardKl,
    /// KL(student ‖ teacher): the student says nothing that the teacher would not say
    ReverseKl,
    /// Between the two, by --beta
    JensenShannon,
}

impl DivergenceArgument {
    fn name(self) -> &'static str {
        match self {
            DivergenceArgument::ForwardKl => "forward-kl",
            DivergenceArgument::ReverseKl => "reverse-kl",
            DivergenceArgument::JensenShannon => "jensen-shannon",
        }
    }
}

/// What the student learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TeachingArgument {
    /// The teacher's distribution of each token of the data's answers
    Logits,
    /// Answers that the teacher writes to the data's prompts, through its own chat template: vocabularies may differ
    Text,
}

/// The options of distillation.
#[derive(Debug, Args)]
pub(crate) struct DistillArguments {
    #[command(flatten)]
    pub(crate) align: AlignArguments,
    /// The model that is learnt from: a fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(long, value_name = "MODEL")]
    pub(crate) teacher: OsString,
    /// An adapter to the teacher: a folder as PEFT or a run writes it
    #[arg(long, value_name = "FOLDER")]
    pub(crate) teacher_adapter: Option<PathBuf>,
    /// What the student learns from
    #[arg(long, value_enum, default_value_t = TeachingArgument::Logits, value_name = "WHAT")]
    pub(crate) from: TeachingArgument,
    /// Which divergence from the teacher is made small (distillation.divergence) [default: forward-kl]
    #[arg(long, value_enum)]
    pub(crate) divergence: Option<DivergenceArgument>,
    /// The teacher's share in the mixture of jensen-shannon (distillation.beta) [default: 0.5]
    #[arg(long, value_name = "BETA")]
    pub(crate) beta: Option<f64>,
    /// What both models' logits are divided by (distillation.temperature) [default: 1]; with --from text, of the teacher's answers
    /// [default: 0, the likeliest token each time; 1 with several answers]
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// The divergence's share of the loss; the rest is the cross entropy with the data (distillation.weight) [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub(crate) weight: Option<f64>,
    /// The share of examples that the student answers itself, each time they come (distillation.own_answers) [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub(crate) own_answers: Option<f64>,
    /// Most tokens of the student's own answer (rollout.max_tokens), or with --from text of the teacher's [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,
    /// With --from text: answers of the teacher to each prompt, the best of which is learnt [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) answers: Option<usize>,
    /// With --from text: what an answer is worth, as for `best-of-n`
    #[arg(long, value_name = "REWARD", allow_hyphen_values = true)]
    pub(crate) reward: Option<String>,
    /// With --from text: leave out answers that are worth less
    #[arg(long, value_name = "REWARD", allow_negative_numbers = true, requires = "reward")]
    pub(crate) least: Option<f64>,
    #[command(flatten)]
    pub(crate) limits: RewardLimits,
}

impl DistillArguments {
    /// Refuses options that have no effect on what the student learns from.
    pub(crate) fn check(&self) -> Result<()> {
        let of_answers = [
            ("--answers", self.answers.is_some()),
            ("--reward", self.reward.is_some()),
            ("--least", self.least.is_some()),
        ];
        let of_text = [&of_answers[..], &self.limits.given()[..]].concat();
        let of_logits = [
            ("--divergence", self.divergence.is_some()),
            ("--beta", self.beta.is_some()),
            ("--weight", self.weight.is_some()),
            ("--own-answers", self.own_answers.is_some()),
        ];
        let (others, needed) = match self.from {
            TeachingArgument::Logits => (&of_text[..], "text"),
            TeachingArgument::Text => (&of_logits[..], "logits"),
        };
        if let Some((option, _)) = others.iter().find(|(_, is_given)| *is_given) {
            bail!("{option} is of --from {needed}");
        }
        let writes_none = self.own_answers.is_none_or(|share| share == 0.0);
        if self.from == TeachingArgument::Logits && self.max_tokens.is_some() && writes_none {
            bail!("--max-tokens is of the student's --own-answers above 0, or of --from text");
        }
        Ok(())
    }

    /// How the teacher writes answers; `seed` is that of the run.
    pub(crate) fn teachers_answers(&self, seed: u64) -> Result<(SamplingArguments, f64)> {
        let answers = self.answers.unwrap_or(1);
        let temperature = self.temperature.unwrap_or(if answers > 1 { 1.0 } else { 0.0 });
        if answers > 1 && self.reward.is_none() {
            bail!("--answers {answers}: --reward says which of them is the best");
        }
        let sampling = SamplingArguments {
            answers,
            reward: self.reward.clone(),
            limits: self.limits.clone(),
            reward_model: None,
            reward_base: None,
            max_tokens: self.max_tokens.map_or(256, |tokens| tokens as usize),
            temperature: Some(temperature),
            top_p: 1.0,
            top_k: 0,
            seed,
        };
        sampling.check(temperature)?;
        Ok((sampling, temperature))
    }

    pub(crate) fn overrides(&self) -> Result<Overrides> {
        let mut overrides = self.align.overrides()?;
        if let Some(divergence) = self.divergence {
            overrides.add("distillation.divergence", divergence.name());
        }
        for (key, value) in [
            ("distillation.beta", self.beta),
            ("distillation.temperature", self.temperature),
            ("distillation.weight", self.weight),
            ("distillation.own_answers", self.own_answers),
        ] {
            if let Some(value) = value {
                overrides.add(key, value);
            }
        }
        if let Some(tokens) = self.max_tokens {
            overrides.add("rollout.max_tokens", i64::from(tokens));
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
    #[arg(
        long,
        value_name = "REWARD",
        allow_hyphen_values = true,
        required_unless_present_any = ["reward_model", "replay"]
    )]
    pub(crate) reward: Option<String>,
    /// Or what a reward model says: a checkpoint of `zhenjin reward`, or a reward model of transformers or peft for the same tokens; added to --reward
    #[arg(long, value_name = "FOLDER")]
    pub(crate) reward_model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: RewardLimits,
    /// A reward that is only measured, against self-deception
    #[arg(long, value_name = "REWARD", allow_hyphen_values = true)]
    pub(crate) judge: Option<String>,
    /// A reward model that is only measured, as for --reward-model
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use zhenjin_align::configuration::Configuration;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        online: OnlineArguments,
    }

    fn online(more: &[&str]) -> OnlineArguments {
        let arguments = [&["grpo", "model", "--data", "a.jsonl", "--out", "run"][..], more].concat();
        Options::try_parse_from(arguments).expect("options that can be").online
    }

    /// Regression: a weight below 0 was taken for an option.
    #[test]
    fn rewards_and_judges_may_begin_with_a_weight_below_0() {
        let found = online(&["--reward", "-1*number", "--judge", "-0.5*length:tokens<=9", "--full"]);
        assert_eq!(found.reward.as_deref(), Some("-1*number"));
        assert_eq!(found.judge.as_deref(), Some("-0.5*length:tokens<=9"));
        assert!(found.align.full);
    }

    /// Regression: the option for both rates took the embedding's own, which was given beside it, away, and nobody was told.
    #[test]
    fn the_option_for_the_rate_leaves_the_embeddings_own() {
        let rates = |more: &[&str]| {
            let arguments = online(&[&["--reward", "number", "--full"][..], more].concat());
            let overrides = arguments.overrides().expect("settings");
            let found = Configuration::resolve(Method::Grpo, TuningKind::Full, 8, &overrides);
            let optimiser = found.expect("a configuration").optimiser;
            (optimiser.learning_rate, optimiser.embedding_learning_rate)
        };
        assert_eq!(rates(&["--learning-rate", "3e-3"]), (3e-3, 3e-3));
        let own = "optimiser.embedding_learning_rate=1e-4";
        assert_eq!(rates(&["--learning-rate", "3e-3", "--set", own]), (3e-3, 1e-4));
        assert_eq!(rates(&["--set", "optimiser.learning_rate=3e-3"]), (3e-3, 3e-3));
    }
}
