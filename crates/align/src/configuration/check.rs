//! Which values a setting can have.

use zhenjin_train::configuration::{ConfigurationError, OptimiserKind};

use super::{
    Configuration, DistillationSection, DivergencePlace, PolicySection, Projections, RolloutSection,
    TuningKind,
};
use crate::losses::distillation::TeacherDivergence;
use crate::losses::policy::DivergenceEstimator;
use crate::losses::preference::PreferenceLossKind;

/// Ranks beyond this have no use, and would take much memory.
const MOST_RANK: usize = 1024;
/// Answers to one prompt, at most.
const MOST_ANSWERS: usize = 1024;

impl Configuration {
    /// Refuses values that cannot be.
    ///
    /// # Errors
    /// [`ConfigurationError::OutOfRange`] names the setting, its range and its value.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        self.check_tuning()?;
        whole("batch.examples", self.batch.examples, 1, 1 << 20)?;
        whole("batch.micro_tokens", self.batch.micro_tokens, 16, 1 << 24)?;
        self.check_optimiser()?;
        if let Some(preference) = &self.preference {
            number("preference.beta", preference.beta, 1e-6, 1e3)?;
            number("preference.label_smoothing", preference.label_smoothing, 0.0, 0.499)?;
            number("preference.sft_weight", preference.sft_weight, 0.0, 1e3)?;
        }
        if let Some(judged) = &self.judged {
            number("judged.beta", judged.beta, 1e-6, 1e3)?;
            number("judged.liked_weight", judged.liked_weight, 0.0, 1e3)?;
            number("judged.disliked_weight", judged.disliked_weight, 0.0, 1e3)?;
            number("judged.sft_weight", judged.sft_weight, 0.0, 1e3)?;
        }
        if let Some(reward) = &self.reward {
            number("reward.centring", reward.centring, 0.0, 1e3)?;
        }
        if let Some(distillation) = &self.distillation {
            self.check_distillation(distillation)?;
        }
        if let Some(anchor) = &self.anchor {
            number("anchor.weight", anchor.weight, 0.0, 1e6)?;
            whole("anchor.tokens", anchor.tokens, 16, 1 << 20)?;
        }
        if let Some(rollout) = &self.rollout {
            self.check_rollout(rollout)?;
        }
        if let Some(policy) = &self.policy {
            self.check_policy(policy)?;
        }
        if let Some(critic) = &self.critic {
            number("critic.learning_rate", critic.learning_rate, 0.0, 10.0)?;
            number("critic.gamma", critic.gamma, 0.0, 1.0)?;
            number("critic.lambda", critic.lambda, 0.0, 1.0)?;
            number("critic.value_clip", critic.value_clip, 0.0, 1e6)?;
        }
        if let Some(watch) = &self.watch {
            number("watch.most_kl", watch.most_kl, 0.0, 1e6)?;
            number("watch.least_entropy", watch.least_entropy, 0.0, 1e3)?;
            number("watch.most_repetition", watch.most_repetition, 0.0, 1.0)?;
            whole("watch.window", watch.window, 2, 1 << 20)?;
        }
        whole("intervals.keep", self.intervals.keep, 1, 1 << 20)
    }

    /// Refuses settings of a new run that would have no effect. Runs of earlier versions, which accepted them, go on.
    ///
    /// # Errors
    /// [`ConfigurationError::OutOfRange`].
    pub(super) fn check_effects(&self) -> Result<(), ConfigurationError> {
        if let Some(preference) = &self.preference
            && preference.label_smoothing > 0.0
            && preference.loss != PreferenceLossKind::Sigmoid
        {
            let problem = "is of the loss \"sigmoid\"; for others it has no effect and must be 0";
            return Err(out_of_range("preference.label_smoothing", problem));
        }
        let tuning = &self.tuning;
        let of_adapters = tuning.rank_stabilised || tuning.projections != Projections::ALL;
        if tuning.kind == TuningKind::Full && of_adapters {
            let problem = "and `tuning.projections` are of adapters: they must be false and \"all\" where all weights are trained";
            return Err(out_of_range("tuning.rank_stabilised", problem));
        }
        Ok(())
    }

    fn check_tuning(&self) -> Result<(), ConfigurationError> {
        let tuning = &self.tuning;
        match tuning.kind {
            TuningKind::Lora => {
                whole("tuning.rank", tuning.rank, 1, MOST_RANK)?;
                number("tuning.alpha", tuning.alpha, 1e-6, 1e6)
            }
            TuningKind::Full if tuning.rank != 0 || tuning.alpha != 0.0 => {
                Err(out_of_range("tuning.rank", "and `tuning.alpha` must be 0 where all weights are trained"))
            }
            TuningKind::Full => Ok(()),
        }
    }

    fn check_optimiser(&self) -> Result<(), ConfigurationError> {
        let optimiser = &self.optimiser;
        if optimiser.kind != OptimiserKind::Adamw {
            return Err(out_of_range("optimiser.kind", "must be adamw: Muon is for training from scratch"));
        }
        number("optimiser.learning_rate", optimiser.learning_rate, 0.0, 10.0)?;
        number("optimiser.embedding_learning_rate", optimiser.embedding_learning_rate, 0.0, 10.0)?;
        number("optimiser.weight_decay", optimiser.weight_decay, 0.0, 10.0)?;
        number("optimiser.beta1", optimiser.beta1, 0.0, 0.999_999)?;
        number("optimiser.beta2", optimiser.beta2, 0.0, 0.999_999)?;
        number("optimiser.epsilon", optimiser.epsilon, 1e-20, 1.0)?;
        number("optimiser.clip", optimiser.clip, 0.0, 1e9)?;
        for (key, value) in [
            ("optimiser.muon_learning_rate", optimiser.muon_learning_rate),
            ("optimiser.momentum", optimiser.momentum),
            ("optimiser.average_decay", optimiser.average_decay),
        ] {
            if value != 0.0 {
                return Err(out_of_range(key, "has no effect here and must be 0"));
            }
        }
        let schedule = &self.schedule;
        if schedule.steps == 0 {
            return Err(out_of_range("schedule.steps", "must be at least 1"));
        }
        if schedule.warmup_steps > schedule.steps {
            let problem = format!("must be at most schedule.steps, {}", schedule.steps);
            return Err(out_of_range("schedule.warmup_steps", &problem));
        }
        number("schedule.decay_share", schedule.decay_share, 0.0, 1.0)?;
        number("schedule.final_share", schedule.final_share, 0.0, 1.0)
    }

    fn check_distillation(&self, distillation: &DistillationSection) -> Result<(), ConfigurationError> {
        match distillation.divergence {
            TeacherDivergence::JensenShannon => {
                number("distillation.beta", distillation.beta, 1e-6, 1.0 - 1e-6)?;
            }
            _ if distillation.beta != 0.0 => {
                let problem =
                    "is of the jensen-shannon divergence; for others it has no effect and must be 0";
                return Err(out_of_range("distillation.beta", problem));
            }
            _ => {}
        }
        number("distillation.temperature", distillation.temperature, 0.01, 100.0)?;
        number("distillation.weight", distillation.weight, 0.0, 1.0)?;
        number("distillation.own_answers", distillation.own_answers, 0.0, 1.0)?;
        match &self.rollout {
            Some(rollout) if rollout.answers != 1 => {
                Err(out_of_range("rollout.answers", "must be 1 for distillation: an example has one answer"))
            }
            Some(rollout) if rollout.drop_overlong => Err(out_of_range(
                "rollout.drop_overlong",
                "has no effect on distillation, which learns from each token alone, and must be false",
            )),
            None if distillation.own_answers > 0.0 => {
                Err(out_of_range("distillation.own_answers", "needs the section `rollout`"))
            }
            _ => Ok(()),
        }
    }

    fn check_rollout(&self, rollout: &RolloutSection) -> Result<(), ConfigurationError> {
        let least = if self.group.is_some() { 2 } else { 1 };
        whole("rollout.answers", rollout.answers, least, MOST_ANSWERS)?;
        whole("rollout.max_tokens", rollout.max_tokens, 1, 1 << 20)?;
        // At temperature 0 all answers to a prompt are the same.
        number("rollout.temperature", rollout.temperature, 0.01, 10.0)?;
        number("rollout.top_p", rollout.top_p, 1e-6, 1.0)?;
        whole("rollout.top_k", rollout.top_k, 0, 1 << 20)
    }

    fn check_policy(&self, policy: &PolicySection) -> Result<(), ConfigurationError> {
        whole("policy.epochs", policy.epochs, 1, 1000)?;
        let answers = self.batch.examples * self.rollout.map_or(1, |rollout| rollout.answers);
        whole("policy.minibatches", policy.minibatches, 1, answers)?;
        number("policy.clip_low", policy.clip_low, 0.0, 1.0)?;
        number("policy.clip_high", policy.clip_high, 0.0, 1e3)?;
        if policy.dual_clip != 0.0 {
            number("policy.dual_clip", policy.dual_clip, 1.0 + policy.clip_high, 1e6)?;
        }
        number("policy.kl", policy.kl, 0.0, 1e3)?;
        if policy.mismatch_cap != 0.0 {
            number("policy.mismatch_cap", policy.mismatch_cap, 1.0, 1e6)?;
        }
        if policy.kl > 0.0
            && policy.kl_in == DivergencePlace::Loss
            && policy.kl_estimator == DivergenceEstimator::K1
            && !policy.kl_correction
        {
            let problem = "must be k2 or k3 with policy.kl_in = \"loss\" and without policy.kl_correction: k1's gradient in a loss ignores the \
                           reference";
            return Err(out_of_range("policy.kl_estimator", problem));
        }
        Ok(())
    }
}

fn out_of_range(key: &str, problem: &str) -> ConfigurationError {
    ConfigurationError::OutOfRange { key: key.to_owned(), problem: problem.to_owned() }
}

fn number(key: &str, value: f64, least: f64, most: f64) -> Result<(), ConfigurationError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(out_of_range(key, &format!("must lie between {least} and {most}, found {value}"))),
    }
}

fn whole(key: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigurationError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(out_of_range(key, &format!("must be {least} to {most}, found {value}"))),
    }
}
