//! The configuration of a run: what a method needs and nothing else, so that no setting is without effect.
//!
//! A method's sections are there, the others are absent; a setting of an absent section is refused by name. This module reads no
//! command line.

mod check;
mod defaults;
mod projections;

use std::path::Path;

use serde::{Deserialize, Serialize};
use zhenjin_train::configuration::{ConfigurationError, OptimiserSection, Overrides, ScheduleSection};

use crate::losses::advantage::GroupScale;
use crate::losses::distillation::TeacherDivergence;
use crate::losses::policy::{Aggregation, DivergenceEstimator};
use crate::losses::preference::PreferenceLossKind;
pub use projections::Projections;

/// How a model is trained further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Supervised fine-tuning on what the assistant wrote.
    Sft,
    /// A reward model from preference pairs.
    Reward,
    /// Direct preference optimisation and its relatives.
    Dpo,
    /// Kahneman–Tversky optimisation on judged answers.
    Kto,
    /// Proximal policy optimisation with a critic.
    Ppo,
    /// Group-relative policy optimisation.
    Grpo,
    /// Distillation: a teacher's distributions of tokens.
    Distill,
}

impl Method {
    /// Whether it trains on answers that the model itself writes during the run.
    pub fn is_online(self) -> bool {
        matches!(self, Method::Ppo | Method::Grpo)
    }

    /// Its name in files and commands.
    pub fn name(self) -> &'static str {
        match self {
            Method::Sft => "sft",
            Method::Reward => "reward",
            Method::Dpo => "dpo",
            Method::Kto => "kto",
            Method::Ppo => "ppo",
            Method::Grpo => "grpo",
            Method::Distill => "distill",
        }
    }
}

/// Everything that decides which weights a run ends with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The method.
    pub method: Method,
    /// Of new matrices, of the order of the data, of sampling.
    pub seed: u64,
    /// The time that chat templates show, in seconds since 1970: when the run began.
    pub time: u64,
    /// What is trained.
    pub tuning: TuningSection,
    /// How examples become batches.
    pub batch: BatchSection,
    /// What an update does; Muon is not offered for adapters.
    pub optimiser: OptimiserSection,
    /// How learning rates change over the run.
    pub schedule: ScheduleSection,
    /// Of DPO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceSection>,
    /// Of KTO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<JudgedSection>,
    /// Of reward models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardSection>,
    /// Of distillation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationSection>,
    /// Of text that stays as probable as it was, of the methods that learn from given answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<AnchorSection>,
    /// How answers are written during the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSection>,
    /// Of PPO and GRPO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySection>,
    /// Of GRPO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupSection>,
    /// Of PPO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critic: Option<CriticSection>,
    /// When a run that deceives itself is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchSection>,
    /// When something is saved, measured or shown.
    pub intervals: IntervalSection,
}

/// Which weights learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TuningKind {
    /// All of them.
    Full,
    /// Low-rank additions (Hu et al. 2021, "LoRA"); the model itself stays as it is, in whatever type.
    Lora,
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningSection {
    /// Which weights learn.
    pub kind: TuningKind,
    /// Rank of the additions; 0 for full training.
    pub rank: usize,
    /// Additions are multiplied with alpha / rank; 0 for full training.
    pub alpha: f64,
    /// Multiply with alpha / √rank instead (Kalajdzievski 2023, "rsLoRA", arXiv 2312.03732).
    pub rank_stabilised: bool,
    /// Which projections have additions.
    pub projections: Projections,
}

/// How examples become batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSection {
    /// Examples of an update; prompts for methods that write answers.
    pub examples: usize,
    /// Tokens whose gradients are computed together, at most; an example that has more is computed alone. A matter of memory and speed.
    pub micro_tokens: usize,
}

/// Of DPO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceSection {
    /// The formula.
    pub loss: PreferenceLossKind,
    /// How dear it is to move away from the reference.
    pub beta: f64,
    /// The share of labels that are taken to be wrong.
    pub label_smoothing: f64,
    /// Weight of the preferred answer's mean negative log-probability per token (Pang et al. 2024, arXiv 2404.19733); 0 leaves it out.
    pub sft_weight: f64,
}

/// Of KTO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedSection {
    /// How dear it is to move away from the reference.
    pub beta: f64,
    /// Weight of liked answers.
    pub liked_weight: f64,
    /// Weight of disliked answers.
    pub disliked_weight: f64,
    /// Weight of a liked answer's mean negative log-probability, beside and times `liked_weight`; 0 leaves it out, as the paper does.
    #[serde(default)]
    pub sft_weight: f64,
}

/// Of reward models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSection {
    /// Weight of (r_chosen + r_rejected)², which keeps rewards around 0; 0 leaves it out.
    pub centring: f64,
}

/// Of distillation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillationSection {
    /// Which divergence from the teacher is made small.
    pub divergence: TeacherDivergence,
    /// β of the Jensen–Shannon divergence, above 0 and below 1; 0 for the others.
    pub beta: f64,
    /// What both models' logits are divided by.
    pub temperature: f64,
    /// The share of the divergence in the loss; the rest is the cross entropy with the data's tokens.
    pub weight: f64,
    /// The share of examples that the model answers itself, each time they come, so that it learns where its own answers lead; with it the
    /// section `rollout` says how.
    pub own_answers: f64,
}

/// Of text that stays as probable as it was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorSection {
    /// Weight of half the mean squared change of its tokens' log-probabilities.
    pub weight: f64,
    /// Its tokens in each step, at most; a text that has more is taken alone.
    pub tokens: usize,
}

impl AnchorSection {
    /// The weight where nobody says another; the log has the runs that it was chosen by.
    pub const WEIGHT: f64 = 10.0;
}

/// How answers are written during the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSection {
    /// Answers to each prompt.
    pub answers: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Temperature of sampling.
    pub temperature: f64,
    /// Of all tokens, those with the greatest probabilities that make up this share; 1 keeps all.
    pub top_p: f64,
    /// So many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Answers that did not end by themselves do not count (Yu et al. 2025, "DAPO", section 3.4).
    pub drop_overlong: bool,
}

/// Where the divergence from the reference is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DivergencePlace {
    /// Taken from each token's reward (Ouyang et al. 2022).
    Reward,
    /// Added to the loss (Shao et al. 2024).
    Loss,
}

/// Of PPO and GRPO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySection {
    /// Times that the answers of a step are learnt from.
    pub epochs: usize,
    /// Updates of each of these times.
    pub minibatches: usize,
    /// The ratio of probabilities counts down to 1 − this.
    pub clip_low: f64,
    /// And up to 1 + this.
    pub clip_high: f64,
    /// Bound of the ratio where the advantage is negative; 0 has none.
    pub dual_clip: f64,
    /// How the losses of tokens become one.
    pub aggregation: Aggregation,
    /// Weight of the divergence from the reference; 0 leaves it out, and no reference is computed.
    pub kl: f64,
    /// How it is estimated.
    pub kl_estimator: DivergenceEstimator,
    /// Where it counts.
    pub kl_in: DivergencePlace,
    /// In the loss, the divergence is multiplied with the ratio of probabilities, so that its gradient is that of KL(π ‖ π_ref) in expectation
    /// (DeepSeek-AI 2025, "DeepSeek-V3.2", arXiv 2512.02556). Runs of earlier versions go on without it.
    #[serde(default)]
    pub kl_correction: bool,
    /// Where answers were written with other numbers than are trained (quantised weights, keys in 8 bits), the ratio between both is cut
    /// here and corrects the loss (Yao et al. 2025, "truncated importance sampling"); 0 does not correct.
    pub mismatch_cap: f64,
}

/// Of GRPO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSection {
    /// What a group's advantages are divided by.
    pub scale: GroupScale,
}

/// Of PPO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriticSection {
    /// Its learning rate.
    pub learning_rate: f64,
    /// Discount of later rewards.
    pub gamma: f64,
    /// λ of generalised advantage estimation.
    pub lambda: f64,
    /// How far a value may move in the updates of one step; 0 does not bound it.
    pub value_clip: f64,
    /// Advantages of a step get mean 0 and deviation 1.
    pub whiten: bool,
}

/// When a run that deceives itself is stopped. 0 leaves a rule out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSection {
    /// Greatest divergence from the reference, in nats per token.
    pub most_kl: f64,
    /// Least entropy of the policy, in nats per token.
    pub least_entropy: f64,
    /// Greatest share of tokens in repeated groups of four.
    pub most_repetition: f64,
    /// Steps over which rewards, lengths and the held-out judge are compared.
    pub window: usize,
}

/// When something is saved, measured or shown. In steps; 0 is never (checkpoints: only at the end).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalSection {
    /// Steps between checkpoints.
    pub checkpoint: u64,
    /// Checkpoints that are kept, beside the best.
    pub keep: usize,
    /// Steps between measurements on held-out examples.
    pub held_out: u64,
    /// Steps between sample texts.
    pub samples: u64,
}

impl Configuration {
    /// The method's own values for `examples` examples, with `overrides` on top. There is an anchor if one of its settings is given.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the setting that does not exist, has the wrong type, or is out of range; or the method, where the settings
    /// are those of another one.
    pub fn resolve(
        method: Method,
        tuning: TuningKind,
        examples: usize,
        overrides: &Overrides,
    ) -> Result<Configuration, ConfigurationError> {
        // Before anything else: what such settings lack or have too much is no help to whoever gave them.
        if let Some(given) = overrides.word("method").filter(|given| *given != method.name()) {
            let problem =
                format!("is \"{given}\" in the settings, and the run trains by \"{}\"", method.name());
            return Err(ConfigurationError::OutOfRange { key: "method".to_owned(), problem });
        }
        let mut start = defaults::configuration(method, tuning);
        if method == Method::Distill && overrides.has("distillation.own_answers") {
            start.rollout = Some(defaults::rollout(1));
        }
        start.anchor = defaults::anchor(method, overrides);
        let mut configuration: Configuration = overrides.apply(&start)?;
        if start.rollout.is_some()
            && configuration.distillation.is_some_and(|distillation| distillation.own_answers == 0.0)
        {
            start.rollout = None;
            configuration = overrides.apply(&start).map_err(of_no_answers)?;
        }
        defaults::derive(&mut configuration, examples, overrides);
        configuration.check()?;
        configuration.check_effects()?;
        Ok(configuration)
    }

    /// Reads an effective configuration that has every key.
    ///
    /// # Errors
    /// [`ConfigurationError`] with the line, or with the setting that is out of range.
    pub fn from_toml(text: &str, origin: &Path) -> Result<Configuration, ConfigurationError> {
        let configuration: Configuration = toml::from_str(text).map_err(|error| {
            ConfigurationError::Syntax { origin: origin.to_owned(), problem: error.to_string() }
        })?;
        configuration.check()?;
        Ok(configuration)
    }

    /// As TOML, every key in its section.
    pub fn to_toml(&self) -> String {
        // Numbers, words and booleans in named fields can always be written.
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

/// Why a setting of answers is refused where the model writes none.
fn of_no_answers(error: ConfigurationError) -> ConfigurationError {
    match error {
        ConfigurationError::UnknownKey { key, .. } if key.starts_with("rollout.") => {
            let problem = "is of answers that the model writes itself; with `distillation.own_answers` = 0 it writes none";
            ConfigurationError::OutOfRange { key, problem: problem.to_owned() }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
