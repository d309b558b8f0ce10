//! The loop of a run: steps, measurements, sample texts, checkpoints; what a step is, the method says.
//!
//! A run is a function of its configuration, its model and its data: a killed run that goes on from a checkpoint ends with the bits of an
//! undisturbed one.

mod fingerprint;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use zhenjin_train::checkpoint::{Best, Checkpoint, CheckpointError, Checkpoints, FileSums, RunState};
use zhenjin_train::configuration::differing_keys;
use zhenjin_train::energy::EnergyMeter;
use zhenjin_train::metrics::{Event, HeldOutMetrics, Observer, SampleText, StepMetrics};
use zhenjin_train::plan::bytes_text;
use zhenjin_train::training::{Gauges, Outcome};

use crate::configuration::Configuration;
use crate::error::AlignError;
use crate::faults::FaultyStep;
use crate::measures::Measures;
pub use fingerprint::{SCHEMAS, same_data, same_model};

/// What a step did.
#[derive(Clone, Debug, Default)]
pub struct StepOutcome {
    /// The loss that was differentiated; of several updates the mean.
    pub loss: f64,
    /// Tokens that were read or written.
    pub tokens: u64,
    /// Tokens that the loss is of.
    pub targets: u64,
    /// Norm of the gradient before clipping; of several updates the greatest.
    pub gradient_norm: f64,
    /// Whether it was clipped.
    pub clipped: bool,
    /// Operations by the model's formula.
    pub model_flops: f64,
    /// What else was measured.
    pub measures: Measures,
    /// What a reader of the log should know.
    pub notes: Vec<String>,
    /// Why the weights did not change, if they did not.
    pub skipped: Option<String>,
}

/// Held-out examples, measured.
#[derive(Clone, Debug, Default)]
pub struct HeldOut {
    /// How many.
    pub examples: u64,
    /// Their means.
    pub measures: Measures,
    /// What decides which checkpoint is the best: the lowest.
    pub lowest_is_best: Option<f64>,
    /// What a reader of the log should know.
    pub notes: Vec<String>,
}

/// A method with its model and its data.
pub trait Training {
    /// Makes step `step`, counted from 0, with learning rates times `rate_factor`.
    ///
    /// # Errors
    /// [`AlignError`] when the step cannot be made; the run ends.
    fn step(&mut self, step: u64, rate_factor: f64) -> Result<StepOutcome, AlignError>;

    /// Computes the largest batch of the steps from `step` on as training will, and forgets it: what memory is short for is known at the beginning.
    /// Its rows; `None` where the first step has one that is nearly as large.
    ///
    /// # Errors
    /// As for [`Training::step`].
    fn rehearse(&mut self, step: u64) -> Result<Option<usize>, AlignError> {
        let _ = step;
        Ok(None)
    }

    /// Measures examples that are not trained on; `None` if there are none.
    ///
    /// # Errors
    /// [`AlignError`]; the run ends.
    fn held_out(&mut self) -> Result<Option<HeldOut>, AlignError>;

    /// Prompts and what the model answers now.
    ///
    /// # Errors
    /// Why there are none; the run goes on.
    fn samples(&mut self) -> Result<Vec<(String, String)>, AlignError>;

    /// Writes what a checkpoint holds beside its state.
    ///
    /// # Errors
    /// [`CheckpointError`].
    fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError>;

    /// Takes over a checkpoint.
    ///
    /// # Errors
    /// [`AlignError`] when a file of it cannot be read or does not fit.
    fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), AlignError>;

    /// Updates of the weights so far.
    fn updates(&self) -> u64;

    /// The first number that is not finite among those that [`Training::write`] would write, with its place.
    fn not_finite(&self) -> Option<String> {
        None
    }

    /// Computes what a step read once more, and says where a number that is not finite comes from, if it is found. What is to be kept is on the
    /// disk before: memory may not suffice.
    ///
    /// # Errors
    /// [`AlignError`] when it cannot be computed.
    fn origin_of_non_finite(&mut self, step: &FaultyStep) -> Result<Option<String>, AlignError> {
        let _ = step;
        Ok(None)
    }

    /// What earlier steps left to be remembered, as bits.
    fn memory(&self) -> Vec<[u64; 2]> {
        Vec::new()
    }

    /// Takes that over.
    fn remember(&mut self, _: &[[u64; 2]]) {}

    /// Changes with the data and the model that the run begins with.
    fn fingerprint(&self) -> String;
}

/// A run of a method.
pub struct Run<T> {
    configuration: Configuration,
    training: T,
    folder: PathBuf,
    checkpoints: Checkpoints,
    last_checkpoint: Option<PathBuf>,
    /// The step whose state, as it is now, the run's folder has a checkpoint of.
    saved_step: Option<u64>,
    state: RunState,
    gauges: Gauges,
}

impl<T> std::fmt::Debug for Run<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Run").field("step", &self.state.step).finish_non_exhaustive()
    }
}

impl<T: Training> Run<T> {
    /// A run before its first step, or where `checkpoint` was saved. Checkpoints go into `folder/checkpoints`.
    ///
    /// # Errors
    /// [`AlignError::OtherConfiguration`], [`AlignError::OtherData`], and when the checkpoint cannot be read.
    pub fn new(
        configuration: Configuration,
        training: T,
        folder: &Path,
        gauges: Gauges,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Run<T>, AlignError> {
        let state = RunState::new(configuration.to_toml(), training.fingerprint());
        let checkpoints = Checkpoints::new(&folder.join("checkpoints"), configuration.intervals.keep);
        let mut run = Run {
            configuration,
            training,
            folder: folder.to_owned(),
            checkpoints,
            last_checkpoint: None,
            saved_step: None,
            state,
            gauges,
        };
        if let Some(checkpoint) = checkpoint {
            run.load(checkpoint)?;
        }
        Ok(run)
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), AlignError> {
        let (path, state) = (&checkpoint.path, &checkpoint.state);
        let theirs = Configuration::from_toml(&state.configuration, path)?;
        let mut keys = differing_keys(&self.configuration, &theirs);
        keys.retain(|(key, ..)| !key.starts_with("intervals."));
        if !keys.is_empty() {
            return Err(AlignError::OtherConfiguration { checkpoint: path.clone(), keys });
        }
        if !same_data(&state.data, &self.state.data) {
            let (ours, theirs) = (self.state.data.clone(), state.data.clone());
            return Err(AlignError::OtherData { checkpoint: path.clone(), ours, theirs });
        }
        self.training.load(checkpoint)?;
        self.training.remember(&state.window);
        self.state = RunState {
            files: BTreeMap::new(),
            window: Vec::new(),
            configuration: self.state.configuration.clone(),
            ..state.clone()
        };
        // A checkpoint in another folder, or one with other settings, does not say how this run goes on.
        let is_own = state.configuration == self.state.configuration && self.checkpoints.holds(checkpoint);
        self.saved_step = is_own.then_some(state.step);
        self.last_checkpoint = Some(path.clone());
        Ok(())
    }

    /// The method.
    pub fn training(&self) -> &T {
        &self.training
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.state.step
    }

    /// The newest checkpoint, if one was saved.
    pub fn last_checkpoint(&self) -> Option<&Path> {
        self.last_checkpoint.as_deref()
    }

    /// Trains until the schedule's last step, or until `stop` says so between two steps or a reward was asked to stop; then saves.
    ///
    /// # Errors
    /// [`AlignError`]; checkpoints that cannot be saved end the run only if nothing would be left of it.
    pub fn run(
        &mut self,
        observers: &mut [Box<dyn Observer>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Outcome, AlignError> {
        match self.go_on(observers, stop) {
            Err(AlignError::Stopped) => self.stopped(observers),
            ended => ended,
        }
    }

    /// The same, without saving where it is to stop: [`AlignError::Stopped`].
    fn go_on(
        &mut self,
        observers: &mut [Box<dyn Observer>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Outcome, AlignError> {
        let steps = self.configuration.schedule.steps;
        if self.state.step < steps && !stop() {
            self.rehearse(observers)?;
        }
        if self.state.step == 0 && self.configuration.intervals.held_out > 0 {
            self.measure(observers)?;
        }
        if self.state.is_unmeasured && !stop() {
            self.measure_afterwards(observers)?;
        }
        while self.state.step < steps {
            if stop() {
                return Err(AlignError::Stopped);
            }
            let memory = self.training.memory();
            let (metrics, notes) = match self.step() {
                Ok(made) => made,
                Err(error) => return Err(self.ended(error, &memory, observers)),
            };
            let step = metrics.step;
            tell(observers, &Event::Step(metrics))?;
            notes.into_iter().try_for_each(|text| tell(observers, &Event::Note { step, text }))?;
            let is_due = |interval: u64| is_due(interval, step, steps);
            let intervals = self.configuration.intervals;
            let mut loss = None;
            if intervals.held_out > 0 && is_due(intervals.held_out) {
                loss = match self.measure(observers) {
                    Ok(loss) => loss,
                    Err(error) => {
                        let memory = self.training.memory();
                        self.state.is_unmeasured = true;
                        return Err(self.ended(error, &memory, observers));
                    }
                };
            }
            if intervals.samples > 0 && is_due(intervals.samples) {
                self.sample(observers)?;
            }
            if is_due(intervals.checkpoint) {
                let best = self.state.best;
                self.note_best(loss);
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

    /// Saves the weights of the last step that was made, for a run that was asked to stop.
    fn stopped(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<Outcome, AlignError> {
        // One of this step would be replaced by itself.
        match self.saved_step == Some(self.state.step) {
            true => observers.iter_mut().try_for_each(|observer| observer.flush())?,
            false => self.save(observers, true)?,
        }
        Ok(Outcome::Stopped { step: self.state.step })
    }

    /// What a failed step leaves: the weights of the step before as a checkpoint, as far as it can be, and what it read where its numbers are not
    /// finite. `memory` is what was to be remembered before it. The error that ends the run.
    fn ended(
        &mut self,
        error: AlignError,
        memory: &[[u64; 2]],
        observers: &mut [Box<dyn Observer>],
    ) -> AlignError {
        match error {
            AlignError::NonFinite { .. } => return self.kept(error, memory, observers),
            // Who stops it saves it.
            AlignError::Stopped => {
                self.training.remember(memory);
                return error;
            }
            _ => {}
        }
        let not_saved = match self.save_before(memory, observers) {
            Ok(why) => why,
            Err(error) => Some(format!("the weights before it are not saved: {error}")),
        };
        if let Some(text) = not_saved {
            // What ended the run is said all the same, also where the log cannot be written.
            let _ = tell(observers, &Event::Note { step: self.state.step, text });
        }
        error
    }

    /// Saves the weights of the step before, where no checkpoint has them. Why they are not saved, if they are not.
    fn save_before(
        &mut self,
        memory: &[[u64; 2]],
        observers: &mut [Box<dyn Observer>],
    ) -> Result<Option<String>, AlignError> {
        let step = self.state.step;
        if step == 0 || self.saved_step == Some(step) {
            return Ok(None);
        }
        let not_saved = |why: &str| Ok(Some(format!("the weights after step {step} are not saved: {why}")));
        if self.training.updates() != self.state.updates {
            return not_saved("the step that failed had made updates already");
        }
        if let Some(what) = self.training.not_finite() {
            return not_saved(&what);
        }
        self.training.remember(memory);
        self.save_finite(observers, false)?;
        match self.saved_step == Some(step) {
            true => Ok(None),
            false => not_saved("no checkpoint could be written"),
        }
    }

    /// Keeps what a step read whose numbers are not finite, then the weights before it; then looks for where the numbers come from. Whatever that
    /// takes, what was kept stays.
    fn kept(
        &mut self,
        error: AlignError,
        memory: &[[u64; 2]],
        observers: &mut [Box<dyn Observer>],
    ) -> AlignError {
        let fault = error.to_string();
        let AlignError::NonFinite { step, what, value, examples, mut hint, mut faulty, .. } = error else {
            return error;
        };
        faulty.fault = fault;
        faulty.checkpoint = self.last_checkpoint.clone();
        faulty.updates = self.training.updates().saturating_sub(self.state.updates);
        faulty.configuration = self.state.configuration.clone();
        faulty.data = self.state.data.clone();
        let path = faulty.place(&self.folder);
        let (mut notes, mut is_kept) = (String::new(), false);
        let mut write = |faulty: &FaultyStep, notes: &mut String| match faulty.write(&path) {
            Ok(()) => is_kept = true,
            Err(error) if is_kept => notes.push_str(&format!("; its file does not say all of this: {error}")),
            Err(error) => notes.push_str(&format!("; the step could not be kept: {error}")),
        };
        write(&faulty, &mut notes);
        match self.save_before(memory, observers) {
            Ok(None) => {}
            Ok(Some(why)) => notes.push_str(&format!("; {why}")),
            Err(error) => notes.push_str(&format!("; the weights before it are not saved: {error}")),
        }
        if faulty.checkpoint != self.last_checkpoint {
            faulty.checkpoint = self.last_checkpoint.clone();
            write(&faulty, &mut notes);
        }
        match self.training.origin_of_non_finite(&faulty) {
            Ok(Some(origin)) => {
                faulty.origin = Some(origin.clone());
                hint = origin;
                write(&faulty, &mut notes);
            }
            Ok(None) => hint.push_str("; each document alone is finite, without the method's loss"),
            Err(error) => hint.push_str(&format!("; its documents could not be computed again: {error}")),
        }
        hint.push_str("; a smaller optimiser.learning_rate may help");
        hint.push_str(&notes);
        let kept = is_kept.then_some(path);
        AlignError::NonFinite { step, what, value, examples, hint, faulty, kept }
    }

    /// Measures held-out examples after a step whose measurement had failed and ended the run, as it would have been then.
    fn measure_afterwards(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<(), AlignError> {
        let loss = self.measure(observers)?;
        self.state.is_unmeasured = false;
        let (step, steps) = (self.state.step, self.configuration.schedule.steps);
        if is_due(self.configuration.intervals.checkpoint, step, steps) {
            self.note_best(loss);
        }
        self.save(observers, false)
    }

    fn rehearse(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<(), AlignError> {
        let step = self.state.step;
        let Some(rows) = self.training.rehearse(step)? else { return Ok(()) };
        let resident = self.gauges.resident_bytes.as_ref().and_then(|read| read());
        let memory =
            resident.map_or(String::new(), |bytes| format!("; the program has {}", bytes_text(bytes)));
        let text = format!("the largest batch, of {rows} rows, was computed first, for its memory{memory}");
        tell(observers, &Event::Note { step, text })
    }

    fn step(&mut self) -> Result<(StepMetrics, Vec<String>), AlignError> {
        let started = Instant::now();
        let rate_factor = self.configuration.schedule.factor(self.state.step);
        let outcome = self.training.step(self.state.step, rate_factor)?;
        self.state.step += 1;
        self.state.tokens += outcome.tokens;
        self.state.updates = self.training.updates();
        let seconds = started.elapsed().as_secs_f64();
        let gauges = &mut self.gauges;
        let metrics = StepMetrics {
            step: self.state.step,
            tokens: self.state.tokens,
            loss: outcome.loss,
            z_loss: 0.0,
            gradient_norm: outcome.gradient_norm,
            clipped: outcome.clipped,
            learning_rate: self.configuration.optimiser.learning_rate * rate_factor,
            seconds,
            tokens_per_second: outcome.tokens as f64 / seconds,
            model_flops: outcome.model_flops,
            peak_fraction: gauges.peak_flops.map(|peak| outcome.model_flops / seconds / peak),
            resident_bytes: gauges.resident_bytes.as_ref().and_then(|read| read()),
            energy: gauges.energy.as_mut().map(EnergyMeter::since_last),
            network: None,
            targets: outcome.targets,
            routers: None,
            measures: outcome.measures.means(),
            skipped: outcome.skipped,
        };
        Ok((metrics, outcome.notes))
    }

    /// Measures held-out examples; what the best checkpoint is chosen by.
    fn measure(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<Option<f64>, AlignError> {
        let Some(HeldOut { examples, measures, lowest_is_best, notes }) = self.training.held_out()? else {
            return Ok(None);
        };
        let step = self.state.step;
        tell(observers, &Event::HeldOut(HeldOutMetrics { step, examples, measures: measures.means() }))?;
        notes.into_iter().try_for_each(|text| tell(observers, &Event::Note { step, text }))?;
        Ok(lowest_is_best)
    }

    fn sample(&mut self, observers: &mut [Box<dyn Observer>]) -> Result<(), AlignError> {
        let step = self.state.step;
        match self.training.samples() {
            Ok(samples) => samples.into_iter().try_for_each(|(prompt, text)| {
                tell(observers, &Event::Sample(SampleText { step, prompt, text }))
            }),
            Err(error) => tell(observers, &Event::Note { step, text: format!("no sample texts: {error}") }),
        }
    }

    /// Remembers the coming checkpoint as the best if its held-out loss is lower than all before.
    fn note_best(&mut self, loss: Option<f64>) {
        // No other would ever be lower than what is no number.
        let is_lower = |loss: &f64| !loss.is_nan() && self.state.best.is_none_or(|best| *loss < best.loss());
        if let Some(loss) = loss.filter(is_lower) {
            self.state.best = Some(Best { step: self.state.step, loss_bits: loss.to_bits() });
        }
    }

    /// Saves a checkpoint. Where it cannot be saved and is not `needed`, the observers are told and the run goes on.
    fn save(&mut self, observers: &mut [Box<dyn Observer>], needed: bool) -> Result<(), AlignError> {
        if let Some(what) = self.training.not_finite() {
            let step = self.state.step;
            let error = AlignError::SpoiltWeights { step, what, last: self.last_checkpoint.clone() };
            return match needed {
                true => Err(error),
                false => tell(observers, &Event::Note { step, text: error.to_string() }),
            };
        }
        self.save_finite(observers, needed)
    }

    /// As [`Run::save`], where it is known that all numbers are finite: asking reads all that is to be written.
    fn save_finite(&mut self, observers: &mut [Box<dyn Observer>], needed: bool) -> Result<(), AlignError> {
        let state = RunState { window: self.training.memory(), ..self.state.clone() };
        let step = state.step;
        let training = &self.training;
        let mut flushed = Ok(());
        let saved = self.checkpoints.save(state, &mut |folder| training.write(folder), &mut || {
            flushed = observers.iter_mut().try_for_each(|observer| observer.flush());
            match &flushed {
                Ok(()) => Ok(()),
                Err(error) => Err(CheckpointError::Damaged {
                    path: PathBuf::from("the run's log"),
                    problem: error.to_string(),
                }),
            }
        });
        flushed?;
        match saved {
            Ok(path) => {
                tell(observers, &Event::Checkpoint { step, path: path.clone() })?;
                self.saved_step = Some(step);
                self.last_checkpoint = Some(path);
                Ok(())
            }
            Err(error) if needed => Err(error.into()),
            Err(error) => {
                let text = format!("no checkpoint was saved: {error}; it is tried again at the next one");
                tell(observers, &Event::Note { step, text })
            }
        }
    }
}

fn tell(observers: &mut [Box<dyn Observer>], event: &Event) -> Result<(), AlignError> {
    Ok(observers.iter_mut().try_for_each(|observer| observer.event(event))?)
}

/// Whether what is done every `interval` steps, and after the last, is done after this one.
fn is_due(interval: u64, step: u64, steps: u64) -> bool {
    step == steps || (interval > 0 && step.is_multiple_of(interval))
}
