//! PPO's critic: what an answer will be worth, at each of its tokens.

use std::path::Path;

use zhenjin_train::checkpoint::{CheckpointError, FileSums};

use super::episode::Episode;
use crate::configuration::CriticSection;
use crate::data::EncodedTask;
use crate::error::AlignError;
use crate::losses::advantage::{generalised, whitened};
use crate::losses::value::clipped_value;
use crate::measures::Measures;
use crate::packed::{Packed, groups};
use crate::trainee::{Trainee, ValueBatch};

/// A model with a head for values that learns beside the policy. Its files in a checkpoint are in a folder of their own.
#[derive(Debug)]
pub struct Critic {
    trainee: Trainee,
    section: CriticSection,
    micro_tokens: usize,
}

impl Critic {
    /// Its files in a checkpoint begin so.
    pub const PREFIX: &'static str = "critic-";

    /// A critic that begins with the weights and the head of `trainee`.
    pub fn new(trainee: Trainee, section: CriticSection, micro_tokens: usize) -> Critic {
        Critic { trainee, section, micro_tokens }
    }

    /// Values, returns and advantages of all answers that count.
    pub(super) fn advantages(
        &mut self,
        episodes: &mut [Episode],
        tasks: &[EncodedTask],
        measures: &mut Measures,
    ) -> Result<(), AlignError> {
        let sizes: Vec<usize> = episodes.iter().map(|episode| episode.rows(tasks)).collect();
        for range in groups(&sizes, self.micro_tokens) {
            let batch = batch(&episodes[range.clone()], tasks);
            let mut values = self.trainee.values(&batch)?.into_iter().map(f64::from);
            for episode in &mut episodes[range] {
                episode.values = values.by_ref().take(episode.answer.tokens.len()).collect();
            }
        }
        let CriticSection { gamma, lambda, whiten, .. } = self.section;
        for episode in episodes.iter_mut().filter(|episode| episode.counts) {
            let rewards = episode.token_rewards();
            (episode.advantages, episode.returns) = generalised(&rewards, &episode.values, gamma, lambda);
        }
        let counting = || episodes.iter().filter(|episode| episode.counts);
        let returns: Vec<f64> = counting().flat_map(|episode| episode.returns.iter().copied()).collect();
        let errors: Vec<f64> = counting()
            .flat_map(|episode| {
                episode.returns.iter().zip(&episode.values).map(|(target, value)| target - value)
            })
            .collect();
        let (of_returns, of_errors) = (variance(&returns), variance(&errors));
        if of_returns > 0.0 {
            measures.add("explained_variance", 1.0 - of_errors / of_returns);
        }
        if whiten {
            let all: Vec<f64> = counting().flat_map(|episode| episode.advantages.iter().copied()).collect();
            let mut all = whitened(&all).into_iter();
            for episode in episodes.iter_mut().filter(|episode| episode.counts) {
                episode.advantages.iter_mut().zip(&mut all).for_each(|(place, value)| *place = value);
            }
        }
        Ok(())
    }

    /// Computes a batch as [`Critic::accumulate`] does, and forgets it.
    pub(super) fn rehearse(&mut self, packed: &Packed) -> Result<(), AlignError> {
        self.trainee.accumulate_values(&packed.into(), &mut |values| vec![1.0; values.len()])?;
        self.trainee.forget_gradients();
        Ok(())
    }

    pub(super) fn trainee(&self) -> &Trainee {
        &self.trainee
    }

    pub(super) fn trainee_mut(&mut self) -> &mut Trainee {
        &mut self.trainee
    }

    /// Adds the gradient that moves the values of some answers towards their returns; its norm.
    pub(super) fn accumulate(
        &mut self,
        episodes: &[&Episode],
        tasks: &[EncodedTask],
        measures: &mut Measures,
    ) -> Result<f64, AlignError> {
        let all: usize = episodes.iter().map(|episode| episode.answer.tokens.len()).sum();
        let sizes: Vec<usize> = episodes.iter().map(|episode| episode.rows(tasks)).collect();
        let clip = if self.section.value_clip == 0.0 { f64::INFINITY } else { self.section.value_clip };
        for range in groups(&sizes, self.micro_tokens) {
            let of_batch = &episodes[range];
            let batch = batch(of_batch.iter().copied(), tasks);
            let old = || of_batch.iter().flat_map(|episode| episode.values.iter().zip(&episode.returns));
            let mut loss = |values: &[f32]| {
                let losses = values.iter().zip(old()).map(|(value, (old, target))| {
                    let (loss, slope) = clipped_value(f64::from(*value), *old, *target, clip);
                    measures.add("value_loss", loss);
                    (slope / all.max(1) as f64) as f32
                });
                losses.collect()
            };
            self.trainee.accumulate_values(&batch, &mut loss)?;
        }
        Ok(self.trainee.gradient_norm())
    }

    /// Makes an update by the gradient that was added, whose norm [`Critic::accumulate`] gave.
    pub(super) fn update(&mut self, norm: f64, rate_factor: f64) -> Result<(), AlignError> {
        self.trainee.update_by(norm, rate_factor)?;
        Ok(())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError> {
        self.trainee.write_as(folder, Critic::PREFIX)
    }

    pub(super) fn load(&mut self, folder: &Path, updates: u64) -> Result<(), AlignError> {
        self.trainee.load_as(folder, Critic::PREFIX, updates)
    }
}

/// The rows before each token of the answers: what the state is worth in which the token is chosen.
fn batch<'a>(episodes: impl IntoIterator<Item = &'a Episode>, tasks: &[EncodedTask]) -> ValueBatch {
    let mut batch = ValueBatch::default();
    for episode in episodes {
        batch.push_answer(&tasks[episode.task].prompt, &episode.answer.tokens);
    }
    batch
}

fn variance(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count
}
