//! Numbers that are not finite, and leaps: what was found, where, and what is done about it. The batch is kept as a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zhenjin_tensor::Gradients;

use super::Trainer;
use super::step::row_gradient;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::configuration::FaultPolicy;
use crate::error::TrainError;
use crate::sequences::Rows;

/// What is to be done with a step's gradient.
pub(super) enum Verdict {
    /// It updates the weights.
    Good,
    /// It is left out, and why.
    Skip(String),
    /// The last checkpoint is loaded, and why.
    RollBack(String),
}

/// A batch that something was wrong with, as it is kept in `faults/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultyBatch {
    /// The step that it was for.
    pub step: u64,
    /// What was found.
    pub fault: String,
    /// The last whole checkpoint at that time.
    pub checkpoint: Option<PathBuf>,
    /// The number of its first sequence in the data.
    pub first_sequence: u64,
    /// Its sequences.
    pub sequences: Vec<FaultySequence>,
}

/// A sequence of a [`FaultyBatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultySequence {
    /// Its number in the data.
    pub index: u64,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What each row is to predict.
    pub targets: Vec<Option<u32>>,
    /// Rows of each document.
    pub document_lengths: Vec<usize>,
}

impl Trainer {
    /// Judges the numbers of a step whose first sequence is `first`.
    pub(super) fn judge(
        &mut self,
        step: u64,
        first: u64,
        loss: f64,
        norm: f64,
    ) -> Result<Verdict, TrainError> {
        let (policy, fault) = if loss.is_finite() && norm.is_finite() {
            match self.window.leap(loss, norm) {
                Some(leap) => (self.configuration.faults.spike, leap),
                None => {
                    self.state.faults_in_a_row = 0;
                    return Ok(Verdict::Good);
                }
            }
        } else {
            let (index, origin) = self.origin_of_non_finite(first)?;
            let place = match index {
                Some(index) => format!("in sequence {index}: {origin}"),
                None => origin,
            };
            let what = format!("loss {loss}, gradient norm {norm}: {place}");
            (self.configuration.faults.non_finite, what)
        };
        let last = first + self.configuration.sequences_per_step() - 1;
        let dump = self.keep_batch(step, first, &fault)?;
        let fault = format!("{fault} (sequences {first} to {last}, kept in {})", dump.display());
        self.state.faults_in_a_row += 1;
        let most = self.configuration.faults.most_in_a_row;
        let error = |fault| TrainError::Fault { step, fault, checkpoint: self.last_checkpoint.clone() };
        if policy == FaultPolicy::Stop {
            return Err(error(fault));
        }
        if self.state.faults_in_a_row >= most || self.rollbacks >= most {
            return Err(error(format!(
                "{fault}; that was fault {most} in a row, so that going on is no use"
            )));
        }
        match (policy, &self.last_checkpoint) {
            (FaultPolicy::RollBack, Some(path)) => {
                self.notes.push(format!("step {step}: {fault}: back to {}", path.display()));
                Ok(Verdict::RollBack(fault))
            }
            (FaultPolicy::RollBack, None) => {
                Err(error(format!("{fault}; there is no checkpoint to go back to")))
            }
            _ => {
                self.notes.push(format!("step {step} changed nothing: {fault}"));
                Ok(Verdict::Skip(fault))
            }
        }
    }

    /// Computes every sequence of a step alone, until a number that is not finite is found: which sequence, and where from. A sum
    /// can be infinite though all of its parts are finite: then it is said so.
    fn origin_of_non_finite(&mut self, first: u64) -> Result<(Option<u64>, String), TrainError> {
        let mut scratch = Gradients::new(&self.model.weights.parameter_shapes())?;
        let row_gradient = row_gradient(self.configuration.loss.z_loss);
        for index in first..first + self.configuration.sequences_per_step() {
            let rows = self.rows(index..index + 1)?;
            let weights = &self.model.weights;
            let found = self.learner.find_non_finite(weights, &rows.batch(), &row_gradient, &mut scratch)?;
            if let Some(origin) = found {
                return Ok((Some(index), origin.to_string()));
            }
        }
        Ok((None, "every sequence alone is finite, their sum is not".to_owned()))
    }

    fn keep_batch(&self, step: u64, first: u64, fault: &str) -> Result<PathBuf, TrainError> {
        let folder = self.setup.folder.join("faults");
        let path = folder.join(format!("step-{step:08}.json"));
        if !self.setup.ranks.is_first() {
            return Ok(path);
        }
        let mut sequences = Vec::new();
        for index in first..first + self.configuration.sequences_per_step() {
            let sequence = self.setup.source.sequence(index)?;
            sequences.push(FaultySequence {
                index,
                tokens: sequence.tokens,
                targets: sequence.targets,
                document_lengths: sequence.document_lengths,
            });
        }
        let batch = FaultyBatch {
            step,
            fault: fault.to_owned(),
            checkpoint: self.last_checkpoint.clone(),
            first_sequence: first,
            sequences,
        };
        zhenjin_files::make_folder(&folder).map_err(CheckpointError::from)?;
        let io = |source| CheckpointError::Io { action: "write", path: path.clone(), source };
        let text = serde_json::to_vec(&batch).map_err(|error| io(error.into()))?;
        zhenjin_files::write_whole(&path, &[&text]).map_err(CheckpointError::from)?;
        Ok(path)
    }

    /// Returns to the last checkpoint, but not to its place in the data.
    pub(super) fn roll_back(&mut self) -> Result<(), TrainError> {
        let Some(path) = self.last_checkpoint.clone() else { return Ok(()) };
        let faults = self.state.faults_in_a_row;
        let checkpoint = Checkpoint::open(&path)?;
        self.load(&checkpoint)?;
        self.setup.ranks.compare(&self.model.weights, self.state.step)?;
        self.state.faults_in_a_row = faults;
        // The place in the data is another one than the checkpoint's.
        self.saved_step = None;
        self.rollbacks += 1;
        Ok(())
    }

    /// Computes a kept batch with the weights as they are: loss in nats per target, and what is not finite, if anything.
    ///
    /// # Errors
    /// What the learner reports.
    pub fn replay(&mut self, batch: &FaultyBatch) -> Result<(f64, Option<String>), TrainError> {
        let mut scratch = Gradients::new(&self.model.weights.parameter_shapes())?;
        let row_gradient = row_gradient(self.configuration.loss.z_loss);
        let (mut loss, mut targets, mut found) = (0.0, 0, None);
        for sequence in &batch.sequences {
            let rows = Rows {
                tokens: sequence.tokens.clone(),
                targets: sequence.targets.clone(),
                document_lengths: sequence.document_lengths.clone(),
                bytes: 0,
            };
            let scores = self.learner.score(&self.model.weights, &rows.batch())?;
            let scored = scores.iter().zip(&rows.targets).filter(|(_, target)| target.is_some());
            loss -= scored.map(|(score, _)| f64::from(score.log_probability)).sum::<f64>();
            targets += rows.target_count();
            if found.is_none() {
                let weights = &self.model.weights;
                let origin =
                    self.learner.find_non_finite(weights, &rows.batch(), &row_gradient, &mut scratch)?;
                found = origin.map(|origin| format!("in sequence {}: {origin}", sequence.index));
            }
        }
        Ok((loss / targets.max(1) as f64, found))
    }
}
