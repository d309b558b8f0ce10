//! One step: gradients of all micro-batches, the check of their numbers, clipping, the update.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zhenjin_model::{FinishedLayer, Model};
use zhenjin_tensor::{Gradients, ScoreGradient, TokenScore};

use super::Trainer;
use super::exchange::Agreed;
use super::faults::Verdict;
use super::routers::RouterSums;
use crate::accumulation::tree_sum;
use crate::configuration::OptimiserKind;
use crate::energy::EnergyMeter;
use crate::error::TrainError;
use crate::metrics::{NetworkUse, StepMetrics};
use crate::optimiser::StepNumbers;
use crate::sequences::Rows;

/// What the micro-batches of a step gave, summed over all targets.
pub(super) struct Gradient {
    pub(super) gradients: Gradients,
    pub(super) loss: f64,
    pub(super) z_loss: f64,
    pub(super) targets: u64,
    pub(super) routers: RouterSums,
    pub(super) squared_norm: f64,
    /// Whether one of the ranks was asked to stop.
    pub(super) stop: bool,
    /// How long nothing was computed because the ranks exchanged something.
    waited: Duration,
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
    /// Asks `stop` once; the answer is that of all ranks.
    pub(super) fn step(&mut self, stop: &dyn Fn() -> bool) -> Result<(StepMetrics, bool), TrainError> {
        let started = Instant::now();
        let sent_before = self.traffic().bytes_sent;
        let first = self.state.next_sequence;
        let step = self.state.step + 1;
        let Gradient { gradients, loss, z_loss, targets, routers, squared_norm, stop, mut waited } =
            self.gradient(first, stop())?;
        let count = targets.max(1) as f64;
        let (loss, z_loss) = (loss / count, z_loss / count);
        let norm = squared_norm.sqrt() / count;

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
                let numbers = StepNumbers { gradient_factor: factor as f32, rate_factor };
                waited += self.update(&gradients, numbers)?;
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
        let network = (self.setup.ranks.size() > 1).then(|| NetworkUse {
            bytes_sent: self.traffic().bytes_sent - sent_before,
            waited_seconds: waited.as_secs_f64(),
        });
        let gauges = &mut self.setup.gauges;
        let metrics = StepMetrics {
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
            network,
            targets,
            routers: routers.metrics(),
            measures: std::collections::BTreeMap::new(),
            skipped,
        };
        Ok((metrics, stop))
    }

    /// The rows of some sequences.
    pub(super) fn rows(&self, indices: std::ops::Range<u64>) -> Result<Rows, TrainError> {
        let mut rows = Rows::default();
        for index in indices {
            rows.push(self.setup.source.sequence(index)?);
        }
        Ok(rows)
    }

    /// The sum of the gradients of all targets of the step whose first sequence is `first`; of several ranks, each has the sums that it owns. Whether one of
    /// them says `stop` is told to all on the way.
    pub(super) fn gradient(&mut self, first: u64, stop: bool) -> Result<Gradient, TrainError> {
        let ranks = self.setup.ranks.clone();
        let team = Arc::clone(&self.setup.load.team);
        let own = ranks.own(self.configuration.batch.micro_batches);
        let mut sums = Vec::new();
        let experts = RouterSums::shape(&self.config);
        self.learner.set_router_slopes(self.router_slopes());
        for micro_batch in own.start..own.end - 1 {
            let mut gradients = self.tree.zeros(&team)?;
            let sums_of_batch = self.micro_batch(first, micro_batch, &mut gradients, &mut |_, _| {})?;
            sums.push(sums_of_batch);
            self.tree.push(gradients, &team)?;
        }
        let mut gradients = self.tree.zeros(&team)?;
        let tree = std::mem::take(&mut self.tree);
        let outcome = if ranks.size() == 1 {
            let of_last = self.micro_batch(first, own.end - 1, &mut gradients, &mut |_, _| {});
            of_last.and_then(|sums| {
                tree.complete_all(&mut gradients, &team)?;
                Ok((sums, Duration::ZERO))
            })
        } else {
            let exchange = Arc::clone(&self.exchange);
            let complete = |id, newest: &mut [f32]| tree.complete(id, newest, &team);
            ranks.sum_during(&exchange, &mut gradients, &complete, |gradients, finished| {
                self.micro_batch(first, own.end - 1, gradients, finished)
            })
        };
        self.tree = tree;
        self.tree.clear();
        let (of_last, mut waited) = outcome?;
        sums.push(of_last);
        let started = Instant::now();
        let Agreed { sums, squared_norm, stop } =
            ranks.agree(&self.exchange, &gradients, sums, stop, &team)?;
        waited += started.elapsed();
        let sum = |which: usize| tree_sum(&sums.iter().map(|sums| sums[which]).collect::<Vec<f64>>());
        // Counts below 2^53 are exact.
        let (loss, z_loss, targets) = (sum(0), sum(1), sum(2) as u64);
        let routers = RouterSums::new(&experts, |index| sum(3 + index));
        Ok(Gradient { gradients, loss, z_loss, targets, routers, squared_norm, stop, waited })
    }

    /// Adds the gradient of a micro-batch of the step whose first sequence is `first`; its loss, z-loss and number of targets, then what its
    /// routers chose.
    fn micro_batch(
        &mut self,
        first: u64,
        micro_batch: u64,
        gradients: &mut Gradients,
        finished: &mut FinishedLayer<'_>,
    ) -> Result<Vec<f64>, TrainError> {
        let sequences = self.configuration.batch.sequences as u64;
        let z_weight = self.configuration.loss.z_loss;
        let start = first + micro_batch * sequences;
        let rows = self.rows(start..start + sequences)?;
        let (weights, row_gradient) = (&self.model.weights, row_gradient(z_weight));
        let batch = rows.batch();
        let scores = self.learner.accumulate_by_layer(weights, &batch, &row_gradient, gradients, finished)?;
        let (mut loss, mut z_loss) = (0.0, 0.0);
        for (score, _) in scores.iter().zip(&rows.targets).filter(|(_, target)| target.is_some()) {
            loss -= f64::from(score.log_probability);
            z_loss += z_weight * f64::from(score.log_sum_exp).powi(2);
        }
        let mut numbers = vec![loss, z_loss, rows.target_count() as f64];
        let experts = RouterSums::shape(&self.config);
        RouterSums::push(&mut numbers, &experts, &self.learner.take_router_statistics());
        Ok(numbers)
    }

    /// The weights, to be changed.
    pub(super) fn model_mut(&mut self) -> Result<&mut Model, TrainError> {
        Arc::get_mut(&mut self.model).ok_or(TrainError::WeightsInUse)
    }

    /// Updates the weights; how long it took to exchange them.
    fn update(&mut self, gradients: &Gradients, numbers: StepNumbers) -> Result<Duration, TrainError> {
        let team = Arc::clone(&self.setup.load.team);
        let model = Arc::get_mut(&mut self.model).ok_or(TrainError::WeightsInUse)?;
        self.optimiser.update(&mut model.weights, gradients, numbers, &team)?;
        let started = Instant::now();
        self.setup.ranks.share_updates(&self.exchange, &mut model.weights)?;
        Ok(started.elapsed())
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
