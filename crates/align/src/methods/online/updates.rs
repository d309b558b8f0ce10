//! The updates of a step: clipped policy gradients over minibatches of its answers.

use zhenjin_random::SplitMix64;
use zhenjin_tensor::{ScoreGradient, TokenScore};

use super::episode::Episode;
use super::{Critic, Online};
use crate::configuration::{DivergencePlace, PolicySection};
use crate::error::AlignError;
use crate::faults::{FaultyDocument, FaultyModel, FaultyStep};
use crate::losses::policy::{Clip, DivergenceEstimator};
use crate::measures::Measures;
use crate::packed::{Packed, groups};
use crate::run::StepOutcome;

/// The least and the greatest ratio of probabilities of a step.
#[derive(Debug)]
struct Ratios {
    least: f64,
    greatest: f64,
}

impl Online {
    /// Learns from the answers, as often as the configuration says. The step's loss is the mean of its updates, as in TRL's log, and its gradient's
    /// norm the greatest of them, which tells of every single one that went too far.
    pub(super) fn learn(
        &mut self,
        step: u64,
        rate_factor: f64,
        episodes: &mut [Episode],
        outcome: &mut StepOutcome,
    ) -> Result<(), AlignError> {
        let mut ratios = Ratios { least: f64::INFINITY, greatest: f64::NEG_INFINITY };
        let (mut updates, mut losses) = (0u32, 0.0);
        for epoch in 0..self.policy.epochs {
            let place = step * self.policy.epochs as u64 + epoch as u64;
            let order: Vec<usize> = match self.policy.minibatches {
                1 => (0..episodes.len()).collect(),
                _ => SplitMix64::of(self.configuration.seed, "minibatches", place)
                    .shuffled((0..episodes.len()).collect()),
            };
            for minibatch in minibatches(&order, self.policy.minibatches) {
                let of_minibatch: Vec<&Episode> = minibatch
                    .iter()
                    .map(|index| &episodes[*index])
                    .filter(|episode| episode.counts)
                    .collect();
                // Those that are left out for their length still count in means over answers, as in TRL: few that ended weigh no more for it.
                let answers = minibatch.iter().filter(|index| episodes[**index].reward.is_some()).count();
                let is_first = epoch == 0 && updates == 0;
                let loss =
                    self.minibatch(&of_minibatch, answers, is_first, &mut ratios, &mut outcome.measures)?;
                let Some(loss) = loss else { continue };
                updates += 1;
                let faulty = |online: &Online, model, what, value| {
                    online.faulty(step, model, &of_minibatch, what, value)
                };
                // All numbers are looked at before any weight changes: the weights of the step before are then still there.
                if !loss.is_finite() {
                    return Err(faulty(self, FaultyModel::Policy, "the loss", loss));
                }
                let norm = self.parts.trainee.gradient_norm();
                if !norm.is_finite() {
                    return Err(faulty(self, FaultyModel::Policy, "the gradient's norm", norm));
                }
                let mut norm_of_critic = 0.0;
                if let Some(critic) = &mut self.parts.critic {
                    norm_of_critic =
                        critic.accumulate(&of_minibatch, &self.parts.tasks, &mut outcome.measures)?;
                    if !norm_of_critic.is_finite() {
                        let what = "the norm of the critic's gradient";
                        return Err(faulty(self, FaultyModel::Critic, what, norm_of_critic));
                    }
                }
                let update = self.parts.trainee.update_by(norm, rate_factor)?;
                if let Some(critic) = &mut self.parts.critic {
                    critic.update(norm_of_critic, rate_factor)?;
                }
                losses += loss;
                outcome.gradient_norm = outcome.gradient_norm.max(update.norm);
                outcome.clipped |= update.clipped;
            }
        }
        if updates == 0 {
            let reason = "no answer of the step has an advantage: all rewards of each prompt are equal, or no answer counts";
            outcome.skipped = Some(reason.to_owned());
        } else {
            outcome.loss = losses / f64::from(updates);
            outcome.measures.add("ratio_least", ratios.least);
            outcome.measures.add("ratio_greatest", ratios.greatest);
        }
        Ok(())
    }

    /// Of some answers of step `step`, counted from 0. Nothing is computed: what was not kept yet may be lost by it.
    fn faulty(
        &self,
        step: u64,
        model: FaultyModel,
        episodes: &[&Episode],
        what: &'static str,
        value: f64,
    ) -> AlignError {
        let examples: Vec<usize> = episodes.iter().map(|episode| episode.task).collect();
        let mut packed = Packed::default();
        for episode in episodes {
            packed.push_answer(&self.parts.tasks[episode.task].prompt, &episode.answer.tokens);
        }
        let documents = FaultyDocument::of(&examples, &packed);
        let critic = self.parts.critic.as_ref().map(Critic::trainee);
        let trainee = critic.filter(|_| model == FaultyModel::Critic).unwrap_or(&self.parts.trainee);
        AlignError::NonFinite {
            step: step + 1,
            what,
            value,
            examples,
            hint: trainee.known_of_non_finite(),
            faulty: Box::new(FaultyStep::new(step + 1, model, documents)),
            kept: None,
        }
    }

    /// Adds the gradient of some answers, where means over answers are over `answers`; their loss, or `None` if nothing is to be learnt from them.
    fn minibatch(
        &mut self,
        episodes: &[&Episode],
        answers: usize,
        is_first: bool,
        ratios: &mut Ratios,
        measures: &mut Measures,
    ) -> Result<Option<f64>, AlignError> {
        let policy = self.policy;
        let in_loss = is_in_loss(&policy);
        let all_tokens: usize = episodes.iter().map(|episode| episode.answer.tokens.len()).sum();
        // An answer without advantage has no gradient; it still counts in the means.
        let learnt: Vec<&Episode> = episodes
            .iter()
            .filter(|episode| in_loss || episode.advantages.iter().any(|advantage| *advantage != 0.0))
            .copied()
            .collect();
        if learnt.is_empty() {
            return Ok(None);
        }
        let is_exact = is_first && self.is_exact();
        let tasks = &self.parts.tasks;
        let losses = TokenLosses::new(&policy);
        let sizes: Vec<usize> = learnt.iter().map(|episode| episode.rows(tasks)).collect();
        let mut loss = 0.0;
        for range in groups(&sizes, self.configuration.batch.micro_tokens) {
            let mut packed = Packed::default();
            let mut rows = Vec::new();
            for episode in &learnt[range.clone()] {
                packed.push_answer(&tasks[episode.task].prompt, &episode.answer.tokens);
                let tokens = episode.answer.tokens.len();
                let weight = policy.aggregation.weight(tokens, answers, all_tokens, self.rollout.max_tokens);
                rows.resize(packed.tokens.len() - tokens, None);
                rows.extend((0..tokens).map(|token| Some(Row::of(episode, token, weight))));
            }
            let slope = |row: usize, score: TokenScore| {
                let slope = rows[row].map_or(0.0, |row| losses.of(&row, score).slope);
                ScoreGradient { log_probability: slope as f32, log_sum_exp: 0.0 }
            };
            let scores = self.parts.trainee.accumulate_rows(&packed, &slope)?;
            for (document, answer) in packed.documents().zip(range) {
                for (token, row) in document.clone().filter(|row| rows[*row].is_some()).enumerate() {
                    let (Some(of_row), score) = (rows[row], scores[row]) else { continue };
                    if is_exact && score.log_probability.to_bits() != of_row.old.to_bits() {
                        let (now, then) = (score.log_probability, of_row.old);
                        return Err(AlignError::Ratio { answer, token, now, then });
                    }
                    let TokenLoss { loss: value, ratio, clipped, .. } = losses.of(&of_row, score);
                    loss += value;
                    (ratios.least, ratios.greatest) = (ratios.least.min(ratio), ratios.greatest.max(ratio));
                    measures.add("ratio_mean", ratio);
                    measures.add("clipped_tokens", f64::from(u8::from(clipped)));
                }
            }
        }
        Ok(Some(loss))
    }
}

/// As many parts as are asked for, or one for each item where there are fewer; none has two more than another.
fn minibatches(order: &[usize], count: usize) -> impl Iterator<Item = &[usize]> {
    let (all, count) = (order.len(), count.min(order.len()));
    (0..count).map(move |part| &order[part * all / count..(part + 1) * all / count])
}

/// Whether the divergence from the reference is a part of the loss.
fn is_in_loss(policy: &PolicySection) -> bool {
    policy.kl > 0.0 && policy.kl_in == DivergencePlace::Loss
}

/// A token of an answer as the loss sees it.
#[derive(Clone, Copy, Debug)]
struct Row {
    old: f32,
    reference: f32,
    advantage: f64,
    /// Of the mismatch between the engine's numbers and the learner's.
    correction: f64,
    /// The token's share of the loss.
    weight: f64,
}

impl Row {
    fn of(episode: &Episode, token: usize, weight: f64) -> Row {
        Row {
            old: episode.old[token],
            reference: episode.reference.get(token).copied().unwrap_or(f32::NAN),
            advantage: episode.advantages.get(token).copied().unwrap_or(0.0),
            correction: episode.corrections.get(token).copied().unwrap_or(1.0),
            weight,
        }
    }
}

/// The weighted loss of a token.
#[derive(Clone, Copy, Debug)]
struct TokenLoss {
    loss: f64,
    slope: f64,
    ratio: f64,
    clipped: bool,
}

/// How the tokens of answers are judged.
struct TokenLosses {
    clip: Clip,
    /// Weight of the divergence in the loss.
    kl: f64,
    estimator: DivergenceEstimator,
    /// Whether the divergence is multiplied with the ratio.
    corrected: bool,
}

impl TokenLosses {
    fn new(policy: &PolicySection) -> TokenLosses {
        TokenLosses {
            clip: Clip {
                low: policy.clip_low,
                high: policy.clip_high,
                dual: if policy.dual_clip == 0.0 { f64::INFINITY } else { policy.dual_clip },
            },
            kl: if is_in_loss(policy) { policy.kl } else { 0.0 },
            estimator: policy.kl_estimator,
            corrected: policy.kl_correction,
        }
    }

    fn of(&self, row: &Row, score: TokenScore) -> TokenLoss {
        let log_ratio = f64::from(score.log_probability) - f64::from(row.old);
        let of = self.clip.loss(log_ratio, row.advantage);
        let (mut loss, mut slope) = (row.correction * of.loss, row.correction * of.slope);
        if self.kl > 0.0 {
            let now = f64::from(score.log_probability);
            let (reference, old) = (f64::from(row.reference), f64::from(row.old));
            let (divergence, by_token) = match self.corrected {
                true => self.estimator.corrected(now, reference, old),
                false => self.estimator.of(now, reference),
            };
            loss += self.kl * divergence;
            slope += self.kl * by_token;
        }
        TokenLoss {
            loss: row.weight * loss,
            slope: row.weight * slope,
            ratio: log_ratio.exp(),
            clipped: of.clipped,
        }
    }
}

#[cfg(test)]
mod tests;
