//! Methods that learn from answers which the model itself writes: PPO and GRPO.
//!
//! A step: prompts, answers by the engine, rewards, advantages, updates. In f32 the engine's log-probabilities are the learner's, so the
//! ratio of probabilities in the first update is exactly 1, and this is asserted.

mod critic;
mod episode;
mod rewards;
mod updates;

use std::path::Path;
use std::sync::Arc;

use zhenjin_model::Model;
use zhenjin_random::SplitMix64;
use zhenjin_tensor::ScoreGradient;
use zhenjin_train::checkpoint::{Checkpoint, CheckpointError, FileSums};

use crate::configuration::{Configuration, DivergencePlace, Method, PolicySection, RolloutSection};
use crate::data::EncodedTask;
use crate::error::AlignError;
use crate::faults::{FaultyModel, FaultyStep};
use crate::losses::advantage;
use crate::measures::Measures;
use crate::methods::offline::Answerer;
use crate::micro_batches::{largest, longest_answers, micro_batches};
use crate::order::Order;
use crate::packed::Packed;
use crate::rollouts::{Job, Rollouts};
use crate::run::{HeldOut, StepOutcome, Training};
use crate::trainee::Trainee;
use crate::watch::{Watch, Watched, copied, correlation, distinct_pairs, repetition};
pub use critic::Critic;
use episode::Episode;
pub use rewards::{Judgement, RewardSource};

/// Turns tokens into text for rewards.
pub type Decode = Box<dyn Fn(&[u32]) -> String>;

/// What an online run is made of, beside its configuration.
pub struct OnlineParts {
    /// The policy.
    pub trainee: Trainee,
    /// The critic, for PPO.
    pub critic: Option<Critic>,
    /// Prompts to learn from.
    pub tasks: Vec<EncodedTask>,
    /// Prompts to measure on.
    pub held_out: Vec<EncodedTask>,
    /// The rewards that are learnt.
    pub rewards: Box<dyn RewardSource>,
    /// Rewards that are only measured.
    pub judge: Option<Box<dyn RewardSource>>,
    /// Writes answers.
    pub rollouts: Rollouts,
    /// Other weights that answers are written with: a quantised copy of the policy's base.
    pub rollout_model: Option<Arc<Model>>,
    /// Tokens to text.
    pub decode: Decode,
    /// Writes sample texts.
    pub answerer: Option<Box<dyn Answerer>>,
    /// Of data and rewards.
    pub fingerprint: String,
}

/// A run of PPO or GRPO.
pub struct Online {
    configuration: Configuration,
    rollout: RolloutSection,
    policy: PolicySection,
    parts: OnlineParts,
    order: Order,
    watch: Watch,
    fingerprint: String,
}

impl std::fmt::Debug for Online {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Online").field("method", &self.configuration.method).finish_non_exhaustive()
    }
}

impl Online {
    /// A run of `configuration`, whose method writes its own answers.
    ///
    /// # Errors
    /// [`AlignError::Input`] without prompts, without a critic for PPO, or for a prompt that leaves no room for an answer.
    pub fn new(configuration: Configuration, mut parts: OnlineParts) -> Result<Online, AlignError> {
        let (Some(rollout), Some(policy), Some(watch)) =
            (configuration.rollout, configuration.policy, configuration.watch)
        else {
            return Err(AlignError::Input(format!("{} writes no answers", configuration.method.name())));
        };
        if parts.tasks.is_empty() {
            return Err(AlignError::Input("there are no prompts to learn from".to_owned()));
        }
        if (configuration.method == Method::Ppo) != parts.critic.is_some() {
            return Err(AlignError::Input("PPO needs a critic, and GRPO has none".to_owned()));
        }
        let context = parts.trainee.model().config.context_length;
        let room = context.saturating_sub(rollout.max_tokens);
        let too_long = |task: &EncodedTask| task.prompt.is_empty() || task.prompt.len() > room;
        if let Some(number) = parts.tasks.iter().chain(&parts.held_out).position(too_long) {
            return Err(AlignError::Input(format!(
                "prompt {} leaves no room for an answer: with rollout.max_tokens = {} a prompt has 1 to {room} tokens in this model's \
                 context of {context}",
                number + 1,
                rollout.max_tokens
            )));
        }
        // The policy that is learnt is the one that answers are drawn from.
        parts.trainee.set_score_temperature(rollout.temperature as f32);
        let prompts = parts.tasks.iter().chain(&parts.held_out).map(|task| task.prompt.len());
        parts.rollouts.expect_prompts(prompts.max().unwrap_or(0));
        let order = Order::new(configuration.seed, parts.tasks.len());
        let writer =
            parts.rollout_model.as_ref().map(|model| format!(" [answers by model {}]", model.fingerprint));
        let fingerprint =
            format!("{}, {}{}", parts.fingerprint, parts.trainee.beginning(), writer.unwrap_or_default());
        Ok(Online { configuration, rollout, policy, parts, order, watch: Watch::new(watch), fingerprint })
    }

    /// The policy.
    pub fn trainee(&self) -> &Trainee {
        &self.parts.trainee
    }

    /// Whether answers are written with the very numbers that are trained.
    fn is_exact(&self) -> bool {
        self.parts.rollout_model.is_none()
    }

    /// Answers to some prompts, `answers` to each, without rewards.
    fn write(
        &mut self,
        tasks: &[usize],
        held_out: bool,
        answers: usize,
        seed: u64,
    ) -> Result<Vec<Episode>, AlignError> {
        let parts = &mut self.parts;
        let source = if held_out { &parts.held_out } else { &parts.tasks };
        let purpose = if held_out { "held-out answers" } else { "answers" };
        let run_seed = self.configuration.seed;
        let job = |number: usize| {
            let place = seed.wrapping_mul(1 << 20) + number as u64;
            let seed = SplitMix64::of(run_seed, purpose, place).next_u64();
            Job { prompt: &source[tasks[number / answers]].prompt, seed }
        };
        let jobs: Vec<Job<'_>> = (0..tasks.len() * answers).map(job).collect();
        let model = parts.rollout_model.as_ref().unwrap_or(parts.trainee.model());
        let adapter = parts.trainee.adapter_for(model)?;
        let written = parts.rollouts.write(model, adapter.as_ref(), &jobs)?;
        let tasks = tasks.iter().flat_map(|task| std::iter::repeat_n(*task, answers));
        let episodes = tasks.zip(written).map(|(task, answer)| {
            // The tokens that end an answer are no text.
            let end = answer.tokens.len() - usize::from(answer.ended);
            let text = (parts.decode)(&answer.tokens[..end]);
            Episode::new(task, answer, text)
        });
        Ok(episodes.collect())
    }

    fn judge(&mut self, episodes: &mut [Episode], outcome: &mut StepOutcome) -> Result<(), AlignError> {
        let tasks = &self.parts.tasks;
        let judgements = rewards::judge(self.parts.rewards.as_mut(), tasks, episodes, &mut outcome.notes)?;
        let mut faults = 0;
        let mut first_fault = None;
        for (episode, judgement) in episodes.iter_mut().zip(judgements) {
            for (name, value) in &judgement.parts {
                outcome.measures.add(&format!("reward/{name}"), *value);
            }
            match judgement.total {
                Ok(total) => episode.reward = Some(total),
                Err(fault) => {
                    faults += 1;
                    first_fault.get_or_insert(fault);
                }
            }
        }
        if let Some(fault) = first_fault {
            if faults == episodes.len() {
                return Err(AlignError::NoReward(fault));
            }
            let all = episodes.len();
            outcome.notes.push(format!(
                "{faults} of {all} answers have no reward and do not count; the first: {fault}"
            ));
        }
        for episode in episodes.iter_mut() {
            episode.counts =
                episode.reward.is_some() && (episode.answer.ended || !self.rollout.drop_overlong);
        }
        if let Some(judge) = &mut self.parts.judge {
            let (mut faults, mut first_fault) = (0, None);
            for judgement in rewards::judge(judge.as_mut(), tasks, episodes, &mut outcome.notes)? {
                match judgement.total {
                    Ok(total) => outcome.measures.add("judge", total),
                    Err(fault) => {
                        faults += 1;
                        first_fault.get_or_insert(fault);
                    }
                }
            }
            if let Some(fault) = first_fault {
                let all = episodes.len();
                outcome
                    .notes
                    .push(format!("the judge says nothing of {faults} of {all} answers; the first: {fault}"));
            }
        }
        Ok(())
    }

    /// Log-probabilities of the answers by the learner where the engine wrote with other numbers, and by the reference where it counts.
    fn score(&mut self, episodes: &mut [Episode], outcome: &mut StepOutcome) -> Result<(), AlignError> {
        let trainee = &mut self.parts.trainee;
        let tasks = &self.parts.tasks;
        let most = self.configuration.batch.micro_tokens;
        if self.parts.rollout_model.is_some() {
            episode::score(
                episodes,
                tasks,
                most,
                &mut |packed| trainee.scores(packed),
                |episode, scores| {
                    episode.old = scores;
                },
            )?;
            let cap = self.policy.mismatch_cap;
            let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
            for episode in episodes.iter_mut() {
                let pairs = episode.old.iter().zip(&episode.answer.log_probabilities);
                let ratios: Vec<f64> =
                    pairs.map(|(old, written)| (f64::from(*old) - f64::from(*written)).exp()).collect();
                for ratio in &ratios {
                    outcome.measures.add("mismatch", (ratio.ln()).abs());
                    (least, greatest) = (least.min(*ratio), greatest.max(*ratio));
                }
                if cap > 0.0 {
                    episode.corrections = ratios.into_iter().map(|ratio| ratio.min(cap)).collect();
                }
            }
            outcome.measures.add("mismatch_least", least);
            outcome.measures.add("mismatch_greatest", greatest);
        }
        if self.policy.kl > 0.0 || self.configuration.watch.is_some_and(|watch| watch.most_kl > 0.0) {
            let mut reference = |packed: &Packed| trainee.reference_scores(packed);
            episode::score(episodes, tasks, most, &mut reference, |episode, scores| {
                episode.reference = scores;
            })?;
            for episode in episodes.iter() {
                for (old, reference) in episode.old.iter().zip(&episode.reference) {
                    let estimator = crate::losses::policy::DivergenceEstimator::K3;
                    outcome.measures.add("kl", estimator.of(f64::from(*old), f64::from(*reference)).0);
                }
            }
        }
        Ok(())
    }

    fn advantages(&mut self, episodes: &mut [Episode], outcome: &mut StepOutcome) -> Result<(), AlignError> {
        if self.policy.kl > 0.0 && self.policy.kl_in == DivergencePlace::Reward {
            episodes.iter_mut().for_each(|episode| episode.count_divergence(&self.policy));
        }
        match (&mut self.parts.critic, self.configuration.group) {
            (Some(critic), _) => critic.advantages(episodes, &self.parts.tasks, &mut outcome.measures)?,
            (None, Some(group)) => {
                let (mut uniform, mut groups) = (0usize, 0usize);
                // By their number: where two epochs meet, and with few prompts, one prompt may stand twice in a row.
                for group_episodes in episodes.chunks_mut(self.rollout.answers.max(1)) {
                    let counting: Vec<usize> = (0..group_episodes.len())
                        .filter(|index| group_episodes[*index].reward.is_some())
                        .collect();
                    let rewards: Vec<f64> =
                        counting.iter().map(|index| group_episodes[*index].whole_reward()).collect();
                    groups += 1;
                    uniform += usize::from(advantage::is_uniform(&rewards));
                    let deviation = advantage::deviation(&rewards);
                    outcome.measures.add("reward_deviation", deviation);
                    for (index, advantage) in counting.iter().zip(advantage::of_group(&rewards, group.scale))
                    {
                        let episode = &mut group_episodes[*index];
                        episode.advantages = vec![advantage; episode.answer.tokens.len()];
                    }
                }
                outcome.measures.add("uniform_groups", uniform as f64 / groups.max(1) as f64);
                if uniform * 5 > groups * 4 {
                    outcome.notes.push(format!(
                        "for {uniform} of {groups} prompts all answers have the same reward: nothing can be learnt from them; prompts that are \
                         sometimes answered well teach most"
                    ));
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// What the answers look like, and whether the run deceives itself.
    fn watch(
        &mut self,
        step: u64,
        episodes: &[Episode],
        outcome: &mut StepOutcome,
    ) -> Result<(), AlignError> {
        let measures = &mut outcome.measures;
        let mut pairs = Vec::new();
        for episode in episodes {
            let tokens = &episode.answer.tokens;
            measures.add("answer_tokens", tokens.len() as f64);
            measures.add("ended", f64::from(u8::from(episode.answer.ended)));
            measures.add("repetition", repetition(tokens));
            measures.add("copied", copied(&self.parts.tasks[episode.task].prompt, tokens));
            for log_probability in &episode.old {
                measures.add("entropy", -f64::from(*log_probability));
            }
            if let Some(reward) = episode.reward {
                measures.add("reward", reward);
                pairs.push((reward, tokens.len() as f64));
            }
        }
        if let Some(share) = distinct_pairs(episodes.iter().map(|episode| &episode.answer.tokens[..])) {
            measures.add("distinct_2", share);
        }
        let mean = |name: &str| measures.mean(name);
        let broken = self.watch.rule_broken(
            mean("kl"),
            mean("entropy").unwrap_or(f64::INFINITY),
            mean("repetition").unwrap_or(0.0),
        );
        if let Some(reason) = broken {
            return Err(AlignError::Watched { step: step + 1, reason });
        }
        let warning = self.watch.take(Watched {
            reward: mean("reward").unwrap_or(f64::NAN),
            answer_tokens: mean("answer_tokens").unwrap_or(f64::NAN),
            correlation: correlation(&pairs).unwrap_or(f64::NAN),
            judge: mean("judge").unwrap_or(f64::NAN),
        });
        outcome.notes.extend(warning);
        Ok(())
    }
}

/// Adds what answers are worth, and whether each is worth nothing; how many are so, with the first fault.
fn add_totals(
    measures: &mut Measures,
    judgements: Vec<Judgement>,
    total: &str,
    without: &str,
) -> Option<(usize, String)> {
    let mut faults = Vec::new();
    for judgement in judgements {
        measures.add(without, f64::from(u8::from(judgement.total.is_err())));
        match judgement.total {
            Ok(worth) => measures.add(total, worth),
            Err(fault) => faults.push(fault),
        }
    }
    let count = faults.len();
    faults.into_iter().next().map(|first| (count, first))
}

impl Training for Online {
    fn step(&mut self, step: u64, rate_factor: f64) -> Result<StepOutcome, AlignError> {
        let prompts = self.configuration.batch.examples;
        let tasks = self.order.examples(step * prompts as u64, prompts);
        let mut outcome = StepOutcome::default();
        let mut episodes = self.write(&tasks, false, self.rollout.answers, step)?;
        self.judge(&mut episodes, &mut outcome)?;
        self.score(&mut episodes, &mut outcome)?;
        self.watch(step, &episodes, &mut outcome)?;
        self.advantages(&mut episodes, &mut outcome)?;
        // Full training changes the weights that the engine holds.
        if self.parts.trainee.adapter().is_none() {
            self.parts.rollouts.stop();
        }
        let tokens: usize = episodes.iter().map(|episode| episode.rows(&self.parts.tasks)).sum();
        outcome.tokens = tokens as u64;
        outcome.targets = episodes.iter().map(|episode| episode.answer.tokens.len() as u64).sum();
        outcome.model_flops =
            self.parts.trainee.flops_per_token() * tokens as f64 * self.policy.epochs as f64
                + self.parts.trainee.forward_flops_per_token() * tokens as f64;
        self.learn(step, rate_factor, &mut episodes, &mut outcome)?;
        let RolloutSection { top_p, top_k, .. } = self.rollout;
        if step == 0 && (top_p < 1.0 || top_k > 0) {
            outcome.notes.push(format!(
                "answers are drawn with top-p {top_p} and top-k {top_k}, while ratios and divergences are those of all tokens' probabilities: the \
                 update is not quite that of the policy which is drawn from"
            ));
        }
        if step == 0 && self.configuration.group.is_some() {
            let note = "the loss of GRPO is near 0 by its construction (the ratio is 1 and advantages sum to 0): rewards and the gradient's norm tell \
                        whether it learns";
            outcome.notes.push(note.to_owned());
        }
        Ok(outcome)
    }

    /// Nobody knows yet how long the answers will be: they are as long as they may be.
    fn rehearse(&mut self, step: u64) -> Result<Option<usize>, AlignError> {
        let parts = &mut self.parts;
        let RolloutSection { answers, max_tokens, .. } = self.rollout;
        let vocabulary = parts.trainee.usable_vocabulary();
        let tasks = &parts.tasks;
        let prompt = |example: usize| &tasks[example].prompt[..];
        let packed = |items: &[usize]| longest_answers(items, answers, max_tokens, vocabulary, &prompt);
        let rows = |example: usize| (tasks[example].prompt.len() + max_tokens).saturating_sub(1);
        let batch = &self.configuration.batch;
        let steps = step..self.configuration.schedule.steps;
        let steps = micro_batches(batch, &mut self.order, steps, &rows, answers);
        let Some((most, rows)) = largest(steps.iter().flatten(), &packed) else { return Ok(None) };
        let packed = packed(&most.items);
        let slope = |_, _| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
        parts.trainee.accumulate_rows(&packed, &slope)?;
        parts.trainee.forget_gradients();
        if let Some(critic) = &mut parts.critic {
            critic.rehearse(&packed)?;
        }
        Ok(Some(rows))
    }

    fn held_out(&mut self) -> Result<Option<HeldOut>, AlignError> {
        let count = self.parts.held_out.len();
        if count == 0 {
            return Ok(None);
        }
        let all: Vec<usize> = (0..count).collect();
        let episodes = self.write(&all, true, 1, 0)?;
        let mut measures = Measures::default();
        for episode in &episodes {
            measures.add("answer_tokens", episode.answer.tokens.len() as f64);
            measures.add("ended", f64::from(u8::from(episode.answer.ended)));
        }
        let mut notes = Vec::new();
        let tasks = &self.parts.held_out;
        let judgements = rewards::judge(self.parts.rewards.as_mut(), tasks, &episodes, &mut notes)?;
        let without = add_totals(&mut measures, judgements, "reward", "without_reward");
        let note = |(faults, first): (usize, String)| {
            format!(
                "{faults} of {count} held-out answers have no reward and do not count; the first: {first}"
            )
        };
        notes.extend(without.map(note));
        if let Some(judge) = &mut self.parts.judge {
            let judgements = rewards::judge(judge.as_mut(), tasks, &episodes, &mut notes)?;
            let without = add_totals(&mut measures, judgements, "judge", "without_judgement");
            let note = |(faults, first): (usize, String)| {
                format!("the judge says nothing of {faults} of {count} held-out answers; the first: {first}")
            };
            notes.extend(without.map(note));
        }
        // The best checkpoint is that with the greatest reward.
        let lowest_is_best = measures.mean("reward").map(|reward| -reward);
        Ok(Some(HeldOut { examples: count as u64, measures, lowest_is_best, notes }))
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>, AlignError> {
        const SAMPLES: usize = 3;
        let parts = &mut self.parts;
        let Some(answerer) = &mut parts.answerer else { return Ok(Vec::new()) };
        let source = if parts.held_out.is_empty() { &parts.tasks } else { &parts.held_out };
        let prompts: Vec<&[u32]> = source.iter().take(SAMPLES).map(|task| &task.prompt[..]).collect();
        answerer.answers(&parts.trainee, &prompts)
    }

    fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError> {
        let mut files = self.parts.trainee.write(folder)?;
        if let Some(critic) = &self.parts.critic {
            files.extend(critic.write(folder)?);
        }
        Ok(files)
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), AlignError> {
        self.parts.rollouts.stop();
        self.parts.trainee.load(&checkpoint.path, checkpoint.state.updates)?;
        if let Some(critic) = &mut self.parts.critic {
            critic.load(&checkpoint.path, checkpoint.state.updates)?;
        }
        Ok(())
    }

    fn updates(&self) -> u64 {
        self.parts.trainee.updates()
    }

    fn not_finite(&self) -> Option<String> {
        let of_critic = || {
            let critic = self.parts.critic.as_ref()?.trainee().not_finite()?;
            Some(format!("in the critic, {critic}"))
        };
        self.parts.trainee.not_finite().or_else(of_critic)
    }

    fn origin_of_non_finite(&mut self, step: &FaultyStep) -> Result<Option<String>, AlignError> {
        match (&mut self.parts.critic, step.model) {
            (Some(critic), Some(FaultyModel::Critic)) => critic.trainee_mut().origin_of_non_finite(step),
            _ => self.parts.trainee.origin_of_non_finite(step),
        }
    }

    fn memory(&self) -> Vec<[u64; 2]> {
        self.watch.memory()
    }

    fn remember(&mut self, memory: &[[u64; 2]]) {
        self.watch.remember(memory);
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

#[cfg(test)]
mod tests;
