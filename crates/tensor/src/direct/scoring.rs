//! Scores: log-probabilities under a product's outputs, without those outputs ever being in memory as a whole.
//!
//! The product is computed some outputs at a time for all rows, and each piece is reduced to what is asked while it is in
//! the caches. Pieces are whole parts of [`LogSumExp`], so neither their size nor the number of rows changes a bit.

use super::{DirectExecutor, expect};
use crate::linear::linear_part;
use crate::ops::softmax::LogSumExp;
use crate::ops::top::{TopLogit, TopLogits};
use crate::{Activations, Matrix, SimdLevel, TensorError, TokenScore};

/// Outputs of a piece, over all rows: 4 MiB, which stay in the third-level cache. A piece has a part of every row at least.
const PIECE_ELEMENTS: usize = 1 << 20;

/// What is asked about the outputs of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScoreTarget {
    /// The output whose log-probability is asked for.
    pub output: usize,
    /// How many of the most likely outputs are asked for.
    pub top: usize,
}

/// What was asked about the outputs of one row. Log-probabilities are [`LogSumExp::log_probability`].
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// The natural logarithm of the target's probability.
    pub log_probability: f32,
    /// The most likely outputs with their log-probabilities, most likely first, the lower number first among equals;
    /// impossible ones (logit −∞) are left out.
    pub top: Vec<(usize, f32)>,
    /// The first logit that is NaN or +∞, if there is one: the other fields mean nothing then.
    pub broken: Option<TopLogit>,
}

/// One row's outputs so far.
#[derive(Debug, Default)]
pub(super) struct RowState {
    total: LogSumExp,
    target: ScoreTarget,
    target_logit: f32,
    top: TopLogits,
    broken: Option<TopLogit>,
}

impl RowState {
    fn begin(&mut self, target: ScoreTarget, temperature: f32) {
        self.total = LogSumExp::at_temperature(temperature);
        (self.target, self.target_logit) = (target, f32::NAN);
        self.top.begin(target.top);
        self.broken = None;
    }

    fn add(&mut self, simd: SimdLevel, first: usize, logits: &[f32]) {
        self.total.add(simd, logits);
        self.top.add(first, logits);
        if let Some(logit) = self.target.output.checked_sub(first).and_then(|index| logits.get(index)) {
            self.target_logit = *logit;
        }
        if self.broken.is_none() && self.total.is_broken() {
            let is_broken = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
            let found = logits.iter().position(is_broken);
            self.broken = found.map(|index| TopLogit { index: first + index, logit: logits[index] });
        }
    }

    fn finish(&mut self) -> RowScore {
        let total = self.total;
        let ranked = |top: &TopLogit| (top.index, total.log_probability(top.logit));
        RowScore {
            log_probability: total.log_probability(self.target_logit),
            top: self.top.finish().iter().map(ranked).collect(),
            broken: self.broken,
        }
    }
}

/// Outputs in a piece for so many rows: whole parts.
fn piece(rows: usize) -> usize {
    let parts = PIECE_ELEMENTS / LogSumExp::PART / rows.max(1);
    parts.max(1) * LogSumExp::PART
}

impl DirectExecutor {
    /// Most values that a piece of the outputs takes while up to `max_rows` rows are scored.
    pub fn scoring_elements(max_rows: usize, outputs: usize) -> usize {
        PIECE_ELEMENTS.max(max_rows.saturating_mul(LogSumExp::PART)).min(max_rows.saturating_mul(outputs))
    }

    /// Divides logits by `temperature`, which is greater than 0, in all scores from now on (1 at first).
    pub fn set_score_temperature(&mut self, temperature: f32) {
        self.temperature = temperature;
    }

    /// Scores every row of `input` [targets.len(), columns] under softmax over the first `outputs` outputs of
    /// `input · headᵀ`, and appends a score for each row to `scores`. A logit has the bits that
    /// [`crate::Executor::linear`] gives it.
    ///
    /// # Errors
    /// [`TensorError::Length`] when there are not as many rows as targets, [`TensorError::RowOutOfRange`] when a target or
    /// `outputs` is beyond the matrix, [`TensorError::OutOfMemory`].
    pub fn score(
        &mut self,
        input: &Activations,
        head: &Matrix,
        outputs: usize,
        targets: &[ScoreTarget],
        scores: &mut Vec<RowScore>,
    ) -> Result<(), TensorError> {
        let states = self.scored_states(input, head, outputs, targets)?;
        scores.extend(states.iter_mut().map(RowState::finish));
        Ok(())
    }

    /// As [`DirectExecutor::score`]: the log-probability of each row's target and the log-sum-exp.
    ///
    /// # Errors
    /// As for [`DirectExecutor::score`].
    pub fn token_scores(
        &mut self,
        input: &Activations,
        head: &Matrix,
        outputs: usize,
        targets: &[ScoreTarget],
        scores: &mut Vec<TokenScore>,
    ) -> Result<(), TensorError> {
        let states = self.scored_states(input, head, outputs, targets)?;
        scores.extend(states.iter().map(|RowState { total, target_logit, .. }| TokenScore {
            log_probability: total.log_probability(*target_logit),
            log_sum_exp: total.value() as f32,
        }));
        Ok(())
    }

    /// The states of all rows behind the last output.
    fn scored_states(
        &mut self,
        input: &Activations,
        head: &Matrix,
        outputs: usize,
        targets: &[ScoreTarget],
    ) -> Result<&mut [RowState], TensorError> {
        let rows = targets.len();
        expect("score: rows", rows, input.rows())?;
        expect("score: width of the rows", head.columns(), input.width())?;
        if let Some(target) = targets.iter().find(|target| target.output >= outputs) {
            return Err(TensorError::RowOutOfRange { row: target.output, rows: outputs });
        }
        if head.dtype().is_quantised() {
            self.quantised.quantise(input.values(), rows, head.simd(), &self.team)?;
        }
        if self.scoring.len() < rows {
            self.scoring.resize_with(rows, RowState::default);
        }
        let states = &mut self.scoring[..rows];
        let temperature = self.temperature;
        states.iter_mut().zip(targets).for_each(|(state, target)| state.begin(*target, temperature));
        let simd = self.simd;
        let piece = piece(rows);
        let mut buffer = self.workspace.take_fixed(rows, piece.min(outputs))?;
        for first in (0..outputs).step_by(piece) {
            let range = first..outputs.min(first + piece);
            let width = range.len();
            let logits = &mut buffer.values_mut()[..rows * width];
            linear_part(&self.team, input.values(), rows, &self.quantised, head, range, logits)?;
            let logits = &*logits;
            self.team.for_each_chunk(states, 1, |row, state| {
                state[0].add(simd, first, &logits[row * width..(row + 1) * width]);
            });
        }
        self.workspace.give_back(buffer);
        Ok(states)
    }

    /// The rows of `input` whose numbers are given, in that order.
    ///
    /// # Errors
    /// [`TensorError::RowOutOfRange`], [`TensorError::OutOfMemory`].
    pub fn copy_rows(&mut self, input: &Activations, rows: &[usize]) -> Result<Activations, TensorError> {
        if let Some(row) = rows.iter().find(|row| **row >= input.rows()) {
            return Err(TensorError::RowOutOfRange { row: *row, rows: input.rows() });
        }
        let mut out = self.workspace.take(rows.len(), input.width())?;
        for (row, out) in rows.iter().zip(out.values_mut().chunks_exact_mut(input.width().max(1))) {
            out.copy_from_slice(input.row(*row));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_parts_within_the_planned_memory() {
        for outputs in [1, 1023, 1024, 1025, 49_152, 151_936] {
            for rows in [1, 2, 7, 64, 512, 1025, 5000] {
                let piece = piece(rows);
                assert!(piece.is_multiple_of(LogSumExp::PART));
                let planned = DirectExecutor::scoring_elements(rows, outputs);
                assert!(piece.min(outputs) * rows <= planned, "{rows} × {outputs}");
                assert!(planned <= DirectExecutor::scoring_elements(6000, outputs));
            }
        }
    }
}
