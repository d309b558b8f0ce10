//! The loop: forward and backward over micro-batches, one update, and what is saved, measured and shown between updates.
//!
//! A run is a function of its configuration and its data: neither threads, clocks nor interruptions reach the weights.

mod exchange;
mod faults;
mod ranks;
mod routers;
mod saving;
mod step;
mod validation;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zhenjin_model::{
    Fingerprint, InitialisationRule, Learner, LearnerOptions, LoadOptions, Model, ModelConfig, initialise,
};

use crate::accumulation::GradientTree;
use crate::checkpoint::{Checkpoint, Checkpoints, RunState};
use crate::configuration::Configuration;
use crate::energy::EnergyMeter;
use crate::error::TrainError;
use crate::metrics::{Event, Observer, SampleText};
use crate::optimiser::{Optimiser, describe};
use crate::sequences::SequenceSource;
use exchange::Exchange;
use window::Window;

pub use faults::{FaultyBatch, FaultySequence};
pub use ranks::Ranks;

/// Makes sample texts with the weights as they are, through the engine that serves.
pub trait Sampler {
    /// Texts after step `step`. The model must not be kept.
    ///
    /// # Errors
    /// Why there are none, as a sentence; the run goes on.
    fn samples(&mut self, model: &Arc<Model>, step: u64) -> Result<Vec<SampleText>, String>;
}

/// What a run needs beside its configuration.
pub struct Setup {
    /// The run's folder: `checkpoints/` and `faults/` are made in it.
    pub folder: PathBuf,
    /// The data.
    pub source: Arc<dyn SequenceSource>,
    /// Instructions and threads.
    pub load: LoadOptions,
    /// The processes that share the run.
    pub ranks: Ranks,
    /// Exchange gradients during the backward pass; otherwise behind it, which gives the same bits later. For comparison.
    pub overlap: bool,
    /// So many layers are computed a second time instead of keeping their activations.
    pub recomputed_layers: usize,
    /// Tokens that the tokenizer has; the model may have more, which are never predicted.
    pub usable_vocabulary: usize,
    /// Small files that every checkpoint has as well: the tokenizer's. Names and contents.
    pub companions: Vec<(String, Vec<u8>)>,
    /// What this machine tells about itself.
    pub gauges: Gauges,
}

/// What a machine tells about itself, for the metrics. None of it reaches the weights.
#[derive(Default)]
pub struct Gauges {
    /// Most operations per second that it was measured to make, for the share of it that is used.
    pub peak_flops: Option<f64>,
    /// Resident bytes of this process.
    pub resident_bytes: Option<Box<dyn Fn() -> Option<u64> + Send>>,
    /// The energy that steps use.
    pub energy: Option<EnergyMeter>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Setup").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were made.
    Finished,
    /// The caller asked it to stop; it was saved and can go on.
    Stopped {
        /// Steps made.
        step: u64,
    },
}

/// A training run.
pub struct Trainer {
    setup: Setup,
    configuration: Configuration,
    config: ModelConfig,
    model: Arc<Model>,
    learner: Learner,
    optimiser: Optimiser,
    exchange: Arc<Exchange>,
    tree: GradientTree,
    checkpoints: Checkpoints,
    last_checkpoint: Option<PathBuf>,
    /// The step whose state, as it is now, the run's folder has a checkpoint of.
    saved_step: Option<u64>,
    window: Window,
    state: RunState,
    /// Rolls back to the last checkpoint since it was made.
    rollbacks: usize,
    /// What is to be said after this step.
    notes: Vec<String>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trainer").field("step", &self.state.step).finish_non_exhaustive()
    }
}

impl Trainer {
    /// A run before its first step, with weights drawn from the configuration's seed.
    ///
    /// # Errors
    /// [`TrainError::Model`] when memory is short.
    pub fn new(configuration: Configuration, setup: Setup) -> Result<Trainer, TrainError> {
        configuration.check()?;
        setup.ranks.check(configuration.batch.micro_batches)?;
        let config = configuration.model_config();
        let weights = initialise(&config, &InitialisationRule::default(), configuration.seed, &setup.load)?;
        let learner = Learner::new(&config, LearnerOptions { load: setup.load.clone(), recompute: false })?
            .with_recomputed_layers(setup.recomputed_layers)
            .with_usable_vocabulary(setup.usable_vocabulary);
        let tree = GradientTree::new(weights.parameter_shapes());
        let descriptions = describe(&config, configuration.optimiser.kind);
        let exchange = Exchange::new(&config, &descriptions, setup.ranks.size(), setup.overlap);
        let shards = exchange.shards(setup.ranks.rank());
        let text = configuration.to_toml();
        let model = Model {
            config: config.clone(),
            weights,
            simd: setup.load.simd,
            fingerprint: Fingerprint::of_parts("training", [text.as_bytes()]),
        };
        Ok(Trainer {
            optimiser: Optimiser::of_shards(&config, &configuration.optimiser, shards)?,
            checkpoints: Checkpoints::new(&setup.folder.join("checkpoints"), configuration.intervals.keep),
            window: Window::new(&configuration.faults),
            state: RunState::new(text, setup.source.fingerprint()),
            last_checkpoint: None,
            saved_step: None,
            rollbacks: 0,
            notes: Vec::new(),
            model: Arc::new(model),
            exchange: Arc::new(exchange),
            config,
            configuration,
            learner,
            tree,
            setup,
        })
    }

    /// The run that `checkpoint` was saved from, where it was.
    ///
    /// # Errors
    /// [`TrainError::OtherConfiguration`] names the keys in which `configuration` is another one, [`TrainError::OtherData`];
    /// and when the checkpoint cannot be read.
    pub fn resume(
        configuration: Configuration,
        setup: Setup,
        checkpoint: &Checkpoint,
    ) -> Result<Trainer, TrainError> {
        let mut trainer = Trainer::new(configuration, setup)?;
        trainer.load(checkpoint)?;
        Ok(trainer)
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.state.step
    }

    /// The model as it is.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The checkpoint that was saved last, or that the run goes on from.
    pub fn last_checkpoint(&self) -> Option<&Path> {
        self.last_checkpoint.as_deref()
    }

    /// The effective configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Trains until the schedule's last step, or until `stop` says so after a step; then saves.
    ///
    /// # Errors
    /// [`TrainError::Fault`] when a number is not finite and the policy is to stop; [`TrainError::Metrics`] when an observer
    /// cannot write; [`TrainError::Checkpoint`] when the last checkpoint cannot be saved (others are tried again later).
    pub fn run(
        &mut self,
        observers: &mut [Box<dyn Observer>],
        mut sampler: Option<&mut dyn Sampler>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Outcome, TrainError> {
        let steps = self.configuration.schedule.steps;
        let ranks = self.setup.ranks.clone();
        ranks.compare(&self.model.weights, self.state.step)?;
        let mut agreed = None;
        while self.state.step < steps {
            // Several ranks have agreed on it during the step before.
            if agreed.filter(|_| ranks.size() > 1).map_or_else(|| ranks.any(stop()), Ok)? {
                self.save_before_a_stop(observers)?;
                return Ok(Outcome::Stopped { step: self.state.step });
            }
            let (metrics, is_asked) = match ranks.size() {
                1 => self.step(&|| false)?,
                _ => self.step(stop)?,
            };
            agreed = Some(is_asked);
            let step = metrics.step;
            tell(observers, &Event::Step(metrics))?;
            if self.state.step < step {
                // Back at the last checkpoint, which has everything that comes after its step.
                self.tell_notes(observers)?;
                continue;
            }
            let is_due = |interval: u64| step == steps || (interval > 0 && step.is_multiple_of(interval));
            let intervals = self.configuration.intervals.clone();
            if is_due(intervals.compare_ranks) {
                ranks.compare(&self.model.weights, step)?;
            }
            let mut measured = None;
            if intervals.validation > 0 && is_due(intervals.validation) {
                measured = self.measure(observers)?;
            }
            if let Some(sampler) = &mut sampler
                && intervals.samples > 0
                && is_due(intervals.samples)
            {
                match sampler.samples(&self.model, step) {
                    Ok(samples) => {
                        samples.into_iter().try_for_each(|sample| tell(observers, &Event::Sample(sample)))?;
                    }
                    Err(reason) => self.notes.push(format!("no sample texts: {reason}")),
                }
            }
            self.tell_notes(observers)?;
            if is_due(intervals.checkpoint) {
                let best = self.state.best;
                self.note_best(measured);
                self.save(observers, step == steps)?;
                // A best checkpoint that could not be saved would let the one before it be removed as an old one.
                if self.saved_step != Some(step) {
                    self.state.best = best;
                }
            }
        }
        observers.iter_mut().try_for_each(|observer| observer.flush())?;
        Ok(Outcome::Finished)
    }

    /// Scores the validation sequences on the first rank and tells all ranks the loss.
    fn measure(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<Option<f64>, TrainError> {
        let ranks = self.setup.ranks.clone();
        let bytes = ranks.of_first(|| {
            let measured = self.validate()?;
            if let Some(metrics) = &measured {
                tell(observers, &Event::Validation(metrics.clone()))?;
            }
            Ok::<_, TrainError>(
                measured.map(|metrics| metrics.loss.to_le_bytes().to_vec()).unwrap_or_default(),
            )
        })?;
        Ok(bytes.as_array().map(|bytes| f64::from_le_bytes(*bytes)))
    }

    fn tell_notes(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<(), TrainError> {
        let step = self.state.step;
        self.notes.drain(..).try_for_each(|text| tell(observers, &Event::Note { step, text }))
    }
}

fn tell(observers: &mut [Box<dyn Observer>], event: &Event) -> Result<(), TrainError> {
    Ok(observers.iter_mut().try_for_each(|observer| observer.event(event))?)
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod ranks_tests;
#[cfg(test)]
mod router_tests;
#[cfg(test)]
mod tests;
