//! One step: gradients of all micro-batches, the check of their numbers, clipping, the update.

use std::sync::Arc;
use std::time::Instant;

use zhenjin_model::Model;
use zhenjin_tensor::{Gradients, ScoreGradient, TokenScore};

use super::Trainer;
use super::faults::Verdict;
use super::routers::RouterSums;
use crate::accumulation::tree_sum;
use crate::configuration::OptimiserKind;
use crate::energy::EnergyMeter;
use crate::error::TrainError;
use crate::metrics::StepMetrics;
use crate::optimiser::StepNumbers;
use crate::sequences::Rows;

/// What the micro-batches of a step gave, summed over all targets.
pub(super) struct Gradient {
    pub(super) gradients: Gradients,
    pub(super) loss: f64,
    pub(super) z_loss: f64,
    pub(super) targets: u64,
    pub(super) routers: RouterSums,
}

/// The derivative of a target's loss by its score: −log p + z · (log Σ e^logit)².
pub(super) fn row_gradient(z_loss: f64) -> impl Fn(usize, TokenScore) -> ScoreGradient + Sync {
    move |_, score| ScoreGradient {
        log_probability: -1.0,
        log_sum_exp: (2.0 * z_loss * f64::from(score.log_sum_exp)) as f32,
    }
}

impl Trainer {
    /// Makes one step, or returns to the last checkpoint: then fewer steps are made than the metrics' number says.
    pub(super) fn step(&mut self) -> Result<StepMetrics, TrainError> {
        let started = Instant::now();
        let first = self.state.next_sequence;
        let step = self.state.step + 1;
        let Gradient { gradients, loss, z_loss, targets, routers } = self.gradient(first)?;
        let count = targets.max(1) as f64;
        let (loss, z_loss) = (loss / count, z_loss / count);
        let norm = gradients.squared_norm(&self.setup.load.team).sqrt() / count;

        let clip = self.configuration.optimiser.clip;
        let clipped = clip > 0.0 && norm > clip;
        let rate_factor = self.configuration.schedule.factor(self.state.step);
        let verdict = match targets {
            0 => Verdict::Skip("the batch has no targets".to_owned()),
            _ => self.judge(step, first, loss, norm)?,
        };
        self.window.push(loss, norm);
        let rolled_back = matches!(verdict, Verdict::RollBack(_));
        let tokens_before = self.state.tokens;
        let skipped = match verdict {
            Verdict::Good => {
                let factor = if clipped { clip / norm } else { 1.0 } / count;
                self.update(&gradients, StepNumbers { gradient_factor: factor as f32, rate_factor })?;
                self.state.choices = routers.choices();
                None
            }
            Verdict::Skip(reason) => Some(reason),
            Verdict::RollBack(reason) => {
                self.roll_back()?;
                Some(reason)
            }
        };
        self.tree.take_back(gradients);
        self.state.next_sequence = first + self.configuration.sequences_per_step();
        let tokens = self.configuration.tokens_per_step();
        let tokens_so_far = tokens_before + tokens;
        if !rolled_back {
            self.state.step = step;
            self.state.tokens = tokens_so_far;
            self.state.updates = self.optimiser.updates();
        }

        let seconds = started.elapsed().as_secs_f64();
        let model_flops = self.model_flops();
        let optimiser = &self.configuration.optimiser;
        let rate = match optimiser.kind {
            OptimiserKind::Adamw => optimiser.learning_rate,
            OptimiserKind::Muon => optimiser.muon_learning_rate,
        };
        let gauges = &mut self.setup.gauges;
        Ok(StepMetrics {
            step,
            tokens: tokens_so_far,
            loss,
            z_loss,
            gradient_norm: norm,
            clipped,
            learning_rate: rate * rate_factor,
            seconds,
            tokens_per_second: tokens as f64 / seconds,
            model_flops,
            peak_fraction: gauges.peak_flops.map(|peak| model_flops / seconds / peak),
            resident_bytes: gauges.resident_bytes.as_ref().and_then(|read| read()),
            energy: gauges.energy.as_mut().map(EnergyMeter::since_last),
            targets,
            routers: routers.metrics(),
            skipped,
        })
    }

    /// The rows of some sequences.
    pub(super) fn rows(&self, indices: std::ops::Range<u64>) -> Result<Rows, TrainError> {
        let mut rows = Rows::default();
        for index in indices {
            rows.push(self.setup.source.sequence(index)?);
        }
        Ok(rows)
    }

    /// The sum of the gradients of all targets of the step whose first sequence is `first`.
    pub(super) fn gradient(&mut self, first: u64) -> Result<Gradient, TrainError> {
        let batch = self.configuration.batch.clone();
        let z_weight = self.configuration.loss.z_loss;
        let team = Arc::clone(&self.setup.load.team);
        let mut sums = Vec::new();
        let experts = RouterSums::shape(&self.config);
        self.learner.set_router_slopes(self.router_slopes());
        for micro_batch in self.setup.ranks.own(batch.micro_batches) {
            let start = first + micro_batch * batch.sequences as u64;
            let rows = self.rows(start..start + batch.sequences as u64)?;
            let mut gradients = self.tree.zeros(&team)?;
            let scores = self.learner.accumulate(
                &self.model.weights,
                &rows.batch(),
                &row_gradient(z_weight),
                &mut gradients,
            )?;
            self.tree.push(gradients, &team)?;
            let (mut loss, mut z_loss) = (0.0, 0.0);
            for (score, _) in scores.iter().zip(&rows.targets).filter(|(_, target)| target.is_some()) {
                loss -= f64::from(score.log_probability);
                z_loss += z_weight * f64::from(score.log_sum_exp).powi(2);
            }
            let mut numbers = vec![loss, z_loss, rows.target_count() as f64];
            RouterSums::push(&mut numbers, &experts, &self.learner.take_router_statistics());
            sums.push(numbers);
        }
        let mut gradients = self.tree.finish(&team)?;
        self.setup.ranks.sum(&mut gradients)?;
        let sums = self.setup.ranks.gather(sums)?;
        let sum = |which: usize| tree_sum(&sums.iter().map(|sums| sums[which]).collect::<Vec<f64>>());
        // Counts below 2^53 are exact.
        let routers = RouterSums::new(&experts, |index| sum(3 + index));
        Ok(Gradient { gradients, loss: sum(0), z_loss: sum(1), targets: sum(2) as u64, routers })
    }

    /// The weights, to be changed.
    pub(super) fn model_mut(&mut self) -> Result<&mut Model, TrainError> {
        Arc::get_mut(&mut self.model).ok_or(TrainError::WeightsInUse)
    }

    fn update(&mut self, gradients: &Gradients, numbers: StepNumbers) -> Result<(), TrainError> {
        let team = Arc::clone(&self.setup.load.team);
        let model = Arc::get_mut(&mut self.model).ok_or(TrainError::WeightsInUse)?;
        self.optimiser.update(&mut model.weights, gradients, numbers, &team)?;
        self.setup.ranks.share_updates(self.optimiser.descriptions(), &mut model.weights)
    }

    /// Operations of a step: 6 for each parameter that multiplies and each token, and attention's 12 · width for each pair of
    /// positions that see each other (Chowdhery et al. 2022, appendix B), where every sequence counts as one document.
    fn model_flops(&self) -> f64 {
        let model = &self.configuration.model;
        let length = self.configuration.data.sequence_length as f64;
        let tokens = self.configuration.tokens_per_step() as f64;
        let attention = 12.0 * (model.layers * model.heads * model.head_dim) as f64 * (length + 1.0) / 2.0;
        tokens * (6.0 * self.configuration.multiplying_parameters() as f64 + attention)
    }
}
