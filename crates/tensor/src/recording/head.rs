//! The head with its loss: log-probabilities of the targets, and their gradients, some rows at a time.

use std::sync::Arc;

use super::{Recorded, RecordingExecutor, parameter};
use crate::error::expect;
use crate::linear::backward::{input_gradient, weight_gradient};
use crate::linear::{QuantisedRows, linear_part};
use crate::ops::softmax::scaled_probabilities;
use crate::team::DisjointMut;
use crate::{Gradients, LogSumExp, Matrix, ParameterShape, TensorError};

/// Logits that are in memory at once, at most: 32 MiB.
const LOGITS: usize = 8 << 20;
/// Rows that are computed together at least.
const FEWEST_ROWS: usize = 48;
/// And at most: the head's gradient is read and written once for so many rows, which is little beside their products.
const MOST_ROWS: usize = 256;

/// What the head says about one row's target. Rows without a target have zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of the target's probability: [`LogSumExp::log_probability`].
    pub log_probability: f32,
    /// ln Σ e^logit over the row: [`LogSumExp::value`], rounded once.
    pub log_sum_exp: f32,
}

/// The derivatives of the loss by a row's [`TokenScore`]. A plain sum of cross-entropies has (−1, 0); z-loss
/// (c · log_sum_exp², Chowdhery et al. 2022) adds 2 · c · log_sum_exp to the second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreGradient {
    /// By the log-probability.
    pub log_probability: f32,
    /// By the log-sum-exp.
    pub log_sum_exp: f32,
}

impl RecordingExecutor {
    /// Scores of the targets under softmax over the first `outputs` outputs of `normalised · headᵀ`, and in the same pass the
    /// gradients: of the head, added to `gradients`, and of `normalised`, from which [`RecordingExecutor::backward`] goes on.
    /// `row_gradient` is asked for the derivatives of the loss by the scores of each row that has a target. Logits have the bits
    /// that [`crate::Executor::linear`] gives them, and are never in memory all at once.
    ///
    /// # Errors
    /// [`TensorError::Length`] when there are not as many rows as targets, [`TensorError::RowOutOfRange`] when a target or
    /// `outputs` is beyond the matrix, [`TensorError::NotAParameter`], [`TensorError::NotF32`] when a head that learns is not in f32,
    /// [`TensorError::OutOfMemory`].
    pub fn head_loss(
        &mut self,
        normalised: Recorded,
        head: &Matrix,
        outputs: usize,
        targets: &[Option<u32>],
        row_gradient: &(dyn Fn(usize, TokenScore) -> ScoreGradient + Sync),
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenScore>, TensorError> {
        let id = parameter("head", head.parameter())?;
        let node = self.tape.node("head", &normalised)?;
        check_targets(head, outputs, targets, normalised.rows(), normalised.width())?;
        let shape = ParameterShape::Matrix { rows: head.rows(), columns: head.columns() };
        let mut sum = gradients.of("head", id, shape)?;
        if sum.is_some() {
            head.f32_packed()?;
        }
        let mut quantised = QuantisedRows::new();
        let mut result = self.direct.workspace.take(normalised.rows(), normalised.width())?;
        let input = self.tape.values("head", node)?;
        let (width, all) = (normalised.width(), head.rows());
        let rows_together = (LOGITS / all.max(1)).clamp(FEWEST_ROWS, MOST_ROWS);
        let mut logits = self.direct.workspace.take(rows_together.min(targets.len()), all)?;
        let mut scores = vec![TokenScore::default(); targets.len()];
        let simd = self.direct.simd;
        let team = &self.direct.team;
        for (index, targets) in targets.chunks(rows_together).enumerate() {
            let (first, rows) = (index * rows_together, targets.len());
            let input = input.rows_values(first..first + rows);
            let logits = &mut logits.values_mut()[..rows * all];
            if head.dtype().is_quantised() {
                quantised.quantise(input, rows, head.simd(), team)?;
            }
            linear_part(team, input, rows, &quantised, head, 0..all, logits)?;
            let scores = DisjointMut::new(&mut scores[first..first + rows]);
            team.for_each_chunk(logits, all, |row, logits| {
                let (usable, unusable) = logits.split_at_mut(outputs);
                unusable.fill(0.0);
                let Some(target) = targets[row] else {
                    usable.fill(0.0);
                    return;
                };
                let mut total = LogSumExp::default();
                total.add(simd, usable);
                let score = TokenScore {
                    log_probability: total.log_probability(usable[target as usize]),
                    log_sum_exp: total.value() as f32,
                };
                // SAFETY: every row has a score of its own.
                let place = unsafe { scores.slice(row..row + 1) };
                place[0] = score;
                let gradient = row_gradient(first + row, score);
                let factor = gradient.log_sum_exp - gradient.log_probability;
                scaled_probabilities(simd, usable, score.log_sum_exp, factor);
                usable[target as usize] += gradient.log_probability;
            });
            if let Some(sum) = &mut sum {
                weight_gradient(team, simd, logits, input, rows, sum)?;
            }
            let out = &mut result.values_mut()[first * width..(first + rows) * width];
            input_gradient(team, logits, rows, head, &mut self.products, out, false)?;
        }
        self.direct.workspace.give_back(logits);
        self.trace.check(super::Pass::Backward, "head", None, &result);
        self.tape.consume(node, &mut self.direct.workspace);
        self.add_gradient(node, Arc::new(result))?;
        Ok(scores)
    }
}

fn check_targets(
    head: &Matrix,
    outputs: usize,
    targets: &[Option<u32>],
    rows: usize,
    width: usize,
) -> Result<(), TensorError> {
    expect("head: rows", rows, targets.len())?;
    expect("head: width of the rows", head.columns(), width)?;
    if outputs > head.rows() {
        return Err(TensorError::RowOutOfRange { row: outputs, rows: head.rows() });
    }
    match targets.iter().flatten().find(|target| **target as usize >= outputs) {
        Some(target) => Err(TensorError::RowOutOfRange { row: *target as usize, rows: outputs }),
        None => Ok(()),
    }
}
