//! Runs of methods that learn from given answers.

use std::path::{Path, PathBuf};

use zhenjin_train::checkpoint::{Checkpoint, CheckpointError, FileSums};

use super::anchor::Anchor;
use super::examples::Examples;
use crate::configuration::Configuration;
use crate::error::AlignError;
use crate::faults::{FaultyDocument, FaultyModel, FaultyStep};
use crate::measures::Measures;
use crate::micro_batches::{is_nearly, largest, micro_batches};
use crate::order::Order;
use crate::packed::groups;
use crate::prepared::PreparedFile;
use crate::run::{HeldOut, StepOutcome, Training};
use crate::trainee::Trainee;

/// Writes answers with the model as it is, for sample texts.
pub trait Answerer {
    /// Answers to prompts, with the prompts, as texts.
    ///
    /// # Errors
    /// [`AlignError`].
    fn answers(&mut self, trainee: &Trainee, prompts: &[&[u32]])
    -> Result<Vec<(String, String)>, AlignError>;
}

/// Implicit rewards of preferred answers that are nearer to 0 than this say nothing of a loss.
const SLIGHT: f64 = 0.01;
/// The mean of fewer examples says nothing of the others.
const FEW: usize = 4;

/// Says where preferred answers have become less likely, by what the last step measured of so many examples.
fn of_preferred(measures: &Measures, examples: usize) -> Option<String> {
    let chosen = measures.mean("chosen_reward")?;
    let rejected = measures.mean("rejected_reward")?;
    if chosen > -SLIGHT || examples < FEW {
        return None;
    }
    let fact = format!(
        "preferred answers have become less likely than they were before training (their implicit reward is {chosen:.4})"
    );
    Some(match chosen > rejected {
        true => format!(
            "{fact}, only less so than the others: the loss asks for the difference alone; preference.sft_weight above 0 keeps them likely"
        ),
        false => format!(
            "{fact}, and the rejected answers gain on them (theirs is {rejected:.4}): the preferences are not learnt; look whether the data have \
             them the right way round, and at the learning rate"
        ),
    })
}

/// Prompts of which sample texts are written.
const SAMPLES: usize = 3;

/// A method with its examples, those that are held out, and the model that learns.
pub struct Offline<E> {
    configuration: Configuration,
    trainee: Trainee,
    examples: E,
    held_out: E,
    order: Order,
    anchor: Option<Anchor>,
    answerer: Option<Box<dyn Answerer>>,
    fingerprint: String,
}

impl<E> std::fmt::Debug for Offline<E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Offline").field("method", &self.configuration.method).finish_non_exhaustive()
    }
}

impl<E: Examples> Offline<E> {
    /// A run on `examples`, measured on `held_out`. `fingerprint` is that of the data; those of the model and of its adapter are added.
    ///
    /// # Errors
    /// [`AlignError::Input`] without examples.
    pub fn new(
        configuration: Configuration,
        trainee: Trainee,
        examples: E,
        held_out: E,
        answerer: Option<Box<dyn Answerer>>,
        fingerprint: &str,
    ) -> Result<Offline<E>, AlignError> {
        if examples.count() == 0 {
            return Err(AlignError::Input("there are no examples to train on".to_owned()));
        }
        let order = Order::new(configuration.seed, examples.count());
        let fingerprint = format!("{fingerprint}, {}", trainee.beginning());
        Ok(Offline { configuration, trainee, examples, held_out, order, anchor: None, answerer, fingerprint })
    }

    /// Keeps this text as probable as it is.
    #[must_use]
    pub fn with_anchor(self, anchor: Anchor) -> Offline<E> {
        let fingerprint = format!("{}, anchor {}", self.fingerprint, anchor.fingerprint());
        Offline { anchor: Some(anchor), fingerprint, ..self }
    }

    /// Computes what the examples need of the reference, or reads it from `file` if it was computed for the same data and model before.
    /// `progress` is told how many of how many examples are done.
    ///
    /// # Errors
    /// [`AlignError`].
    pub fn prepare(
        &mut self,
        file: PathBuf,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), AlignError> {
        let file = PreparedFile::new(file, self.fingerprint.clone());
        if let Some(prepared) = file.read()
            && prepared.len() == 3
            && self.examples.restore(&prepared[0])
            && self.held_out.restore(&prepared[1])
            && self.anchor.as_mut().is_none_or(|anchor| anchor.restore(&prepared[2]))
        {
            self.trainee.forget_reference();
            return Ok(());
        }
        let of_first = self.examples.count();
        let all = of_first + self.held_out.count();
        self.examples.prepare(&mut self.trainee, &mut |done| progress(done, all))?;
        self.held_out.prepare(&mut self.trainee, &mut |done| progress(of_first + done, all))?;
        if let Some(anchor) = &mut self.anchor {
            anchor.prepare(&mut self.trainee)?;
        }
        let of_anchor = self.anchor.as_ref().map(Anchor::prepared).unwrap_or_default();
        let prepared = [self.examples.prepared(), self.held_out.prepared(), of_anchor];
        self.trainee.forget_reference();
        if prepared.iter().all(Vec::is_empty) { Ok(()) } else { file.write(&prepared) }
    }

    /// The model that learns.
    pub fn trainee(&self) -> &Trainee {
        &self.trainee
    }

    /// Of step `step`, counted from 0. Nothing is computed: what was not kept yet may be lost by it.
    fn faulty(&self, step: u64, of_step: Vec<usize>, what: &'static str, value: f64) -> AlignError {
        let documents = FaultyDocument::of(&of_step, &self.examples.packed(&of_step));
        let model = match self.trainee.gives_values() {
            true => FaultyModel::RewardModel,
            false => FaultyModel::Policy,
        };
        let anchor = self.anchor.as_ref().map(|anchor| anchor.documents(step)).unwrap_or_default();
        let faulty = FaultyStep { anchor, ..FaultyStep::new(step + 1, model, documents) };
        AlignError::NonFinite {
            step: step + 1,
            what,
            value,
            examples: of_step,
            hint: self.trainee.known_of_non_finite(),
            faulty: Box::new(faulty),
            kept: None,
        }
    }

    fn micro_batches(examples: &E, of: &[usize], most: usize) -> Vec<std::ops::Range<usize>> {
        groups(&of.iter().map(|example| examples.rows(*example)).collect::<Vec<_>>(), most)
    }
}

impl<E: Examples> Training for Offline<E> {
    fn step(&mut self, step: u64, rate_factor: f64) -> Result<StepOutcome, AlignError> {
        let count = self.configuration.batch.examples;
        let of_step = self.order.examples(step * count as u64, count);
        let divisor = self.examples.begin(&mut self.trainee, &of_step)?;
        let mut outcome = StepOutcome::default();
        let tokens: usize = of_step.iter().map(|example| self.examples.rows(*example)).sum();
        outcome.tokens = tokens as u64;
        let flops = self.trainee.flops_per_token() + self.examples.other_flops_per_row();
        outcome.model_flops = flops * tokens as f64;
        if divisor == 0.0 {
            outcome.skipped = Some("none of the step's tokens is to be learnt".to_owned());
            return Ok(outcome);
        }
        for range in Self::micro_batches(&self.examples, &of_step, self.configuration.batch.micro_tokens) {
            let micro = &of_step[range];
            let targets =
                self.examples.judge(&mut self.trainee, micro, divisor, true, &mut outcome.measures)?;
            outcome.targets += targets as u64;
        }
        if let Some(anchor) = &self.anchor {
            anchor.learn(&mut self.trainee, step, &mut outcome.measures)?;
            outcome.model_flops += self.trainee.flops_per_token() * anchor.tokens(step) as f64;
        }
        outcome.loss = outcome.measures.take_mean("loss").unwrap_or_default();
        // Looked at before the update, which such a loss would spoil.
        if !outcome.loss.is_finite() {
            return Err(self.faulty(step, of_step, "the loss", outcome.loss));
        }
        let update = self.trainee.update(rate_factor)?;
        if !update.norm.is_finite() {
            return Err(self.faulty(step, of_step, "the gradient's norm", update.norm));
        }
        outcome.gradient_norm = update.norm;
        outcome.clipped = update.clipped;
        let is_last = step + 1 == self.configuration.schedule.steps;
        if is_last {
            outcome.notes.extend(of_preferred(&outcome.measures, of_step.len()));
        }
        Ok(outcome)
    }

    fn rehearse(&mut self, step: u64) -> Result<Option<usize>, AlignError> {
        let (batch, examples) = (&self.configuration.batch, &self.examples);
        let rows = |example: usize| examples.rows(example);
        let all_steps = step..self.configuration.schedule.steps;
        let steps = micro_batches(batch, &mut self.order, all_steps.clone(), &rows, 1);
        let packed = |items: &[usize]| examples.packed(items);
        let first = steps.first().and_then(|first| largest(first.iter(), &packed));
        let Some((most, rows)) = largest(steps.iter().flatten(), &packed) else { return Ok(None) };
        // The piece of an anchor is computed in a pass of its own, which may be the largest.
        let anchor = self.anchor.as_ref();
        let first = first.map_or(0, |(_, rows)| rows).max(anchor.map_or(0, |anchor| anchor.rows(step)));
        let piece = anchor.and_then(|anchor| Some((anchor, anchor.largest(all_steps)?)));
        let piece = piece.filter(|(_, (_, of_piece))| *of_piece > rows);
        let most_rows = piece.map_or(rows, |(_, (_, of_piece))| of_piece);
        if is_nearly(first, most_rows) {
            return Ok(None);
        }
        match piece {
            Some((anchor, (of_step, _))) => anchor.rehearse(&mut self.trainee, of_step)?,
            None => {
                examples.judge(&mut self.trainee, &most.items, 1.0, true, &mut Measures::default())?;
            }
        }
        self.trainee.forget_gradients();
        Ok(Some(most_rows))
    }

    fn held_out(&mut self) -> Result<Option<HeldOut>, AlignError> {
        let count = self.held_out.count();
        if count == 0 {
            return Ok(None);
        }
        let mut measures = Measures::default();
        let all: Vec<usize> = (0..count).collect();
        // Losses that depend on the other examples of a step do so here as well.
        for of_step in all.chunks(self.configuration.batch.examples) {
            let divisor = self.held_out.begin(&mut self.trainee, of_step)?;
            for range in Self::micro_batches(&self.held_out, of_step, self.configuration.batch.micro_tokens) {
                self.held_out.judge(&mut self.trainee, &of_step[range], divisor, false, &mut measures)?;
            }
        }
        let lowest_is_best = measures.mean("loss");
        Ok(Some(HeldOut { examples: count as u64, measures, lowest_is_best, notes: Vec::new() }))
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>, AlignError> {
        let Some(answerer) = &mut self.answerer else { return Ok(Vec::new()) };
        let source = if self.held_out.count() > 0 { &self.held_out } else { &self.examples };
        let prompts: Vec<&[u32]> =
            (0..source.count()).filter_map(|example| source.prompt(example)).take(SAMPLES).collect();
        answerer.answers(&self.trainee, &prompts)
    }

    fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError> {
        self.trainee.write(folder)
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), AlignError> {
        self.trainee.load(&checkpoint.path, checkpoint.state.updates)
    }

    fn updates(&self) -> u64 {
        self.trainee.updates()
    }

    fn not_finite(&self) -> Option<String> {
        self.trainee.not_finite()
    }

    fn origin_of_non_finite(&mut self, step: &FaultyStep) -> Result<Option<String>, AlignError> {
        self.trainee.origin_of_non_finite(step)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: "only less so than the others" was said where the others became more likely, and of a mean of -0.0002 over two examples.
    #[test]
    fn what_is_said_of_preferred_answers_is_what_was_measured() {
        let said = |chosen: f64, rejected: f64, examples: usize| {
            let mut measures = Measures::default();
            measures.add("chosen_reward", chosen);
            measures.add("rejected_reward", rejected);
            of_preferred(&measures, examples)
        };
        let less = said(-0.5, -0.9, 8).unwrap();
        assert!(less.contains("only less so than the others"), "{less}");
        let gain = said(-0.5, 0.3, 8).unwrap();
        assert!(!gain.contains("only less so") && gain.contains("rejected answers gain"), "{gain}");
        assert_eq!(said(-0.0002, -0.3, 8), None);
        assert_eq!(said(-0.5, -0.9, 2), None);
        assert_eq!(said(0.5, -0.9, 8), None);
        assert_eq!(of_preferred(&Measures::default(), 8), None);
    }
}
