//! The head with its loss: log-probabilities of the targets, or any loss of the logits, and their gradients, some rows at a time.

use std::ops::Range;
use std::sync::Arc;

use super::{Recorded, RecordingExecutor, parameter};
use crate::error::expect;
use crate::linear::backward::{input_gradient, weight_gradient};
use crate::linear::{QuantisedRows, linear_part};
use crate::ops::softmax::scaled_probabilities;
use crate::team::DisjointMut;
use crate::{
    Activations, DirectExecutor, Gradients, LogSumExp, Matrix, ParameterShape, SimdLevel, TensorError,
};

/// Logits that are in memory at once, at most: 32 MiB.
const LOGITS: usize = 8 << 20;
/// Rows that are computed together at least.
const FEWEST_ROWS: usize = 48;
/// And at most: the head's gradient is read and written once for so many rows, which is little beside their products.
const MOST_ROWS: usize = 256;

/// What the head says about one row's target. Rows without a target have zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of the target's probability at the executor's temperature: [`LogSumExp::log_probability`].
    pub log_probability: f32,
    /// ln Σ e^(logit / temperature) over the row: [`LogSumExp::value`], rounded once.
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

/// A loss of whole rows of logits.
pub trait LogitLoss: Sync {
    /// What is said of a row.
    type Score: Clone + Default + Send;

    /// Is told which rows come next, before [`LogitLoss::row`] is asked about them; rows ascend.
    ///
    /// # Errors
    /// [`TensorError`], which ends the pass.
    fn begin(&mut self, rows: Range<usize>) -> Result<(), TensorError>;

    /// Overwrites the logits of row `row` with the derivatives of the loss by them. Threads ask about different rows at once.
    fn row(&self, row: usize, logits: &mut [f32]) -> Self::Score;
}

/// A loss of the targets' scores.
struct TargetLoss<'a> {
    simd: SimdLevel,
    /// What logits are divided by.
    temperature: f32,
    targets: &'a [Option<u32>],
    row_gradient: &'a (dyn Fn(usize, TokenScore) -> ScoreGradient + Sync),
}

impl LogitLoss for TargetLoss<'_> {
    type Score = TokenScore;

    fn begin(&mut self, _: Range<usize>) -> Result<(), TensorError> {
        Ok(())
    }

    fn row(&self, row: usize, logits: &mut [f32]) -> TokenScore {
        let Some(target) = self.targets[row] else {
            logits.fill(0.0);
            return TokenScore::default();
        };
        let mut total = LogSumExp::at_temperature(self.temperature);
        total.add(self.simd, logits);
        let score = TokenScore {
            log_probability: total.log_probability(logits[target as usize]),
            log_sum_exp: total.value() as f32,
        };
        let gradient = (self.row_gradient)(row, score);
        let inverse = total.inverse_temperature();
        if inverse != 1.0 {
            logits.iter_mut().for_each(|logit| *logit *= inverse);
        }
        let factor = gradient.log_sum_exp - gradient.log_probability;
        scaled_probabilities(self.simd, logits, score.log_sum_exp, factor * inverse);
        logits[target as usize] += gradient.log_probability * inverse;
        score
    }
}

/// How many rows of so many logits are computed together.
fn rows_together(outputs: usize) -> usize {
    (LOGITS / outputs.max(1)).clamp(FEWEST_ROWS, MOST_ROWS)
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
        check_targets(head, outputs, targets, normalised.rows(), normalised.width())?;
        let DirectExecutor { simd, temperature, .. } = self.direct;
        let mut loss = TargetLoss { simd, temperature, targets, row_gradient };
        self.logit_loss(normalised, head, outputs, &mut loss, gradients)
    }

    /// As [`RecordingExecutor::head_loss`], for any loss of the first `outputs` logits of each row: its score of every row.
    ///
    /// # Errors
    /// As for [`RecordingExecutor::head_loss`], and those of `loss`.
    pub fn logit_loss<L: LogitLoss>(
        &mut self,
        normalised: Recorded,
        head: &Matrix,
        outputs: usize,
        loss: &mut L,
        gradients: &mut Gradients,
    ) -> Result<Vec<L::Score>, TensorError> {
        let (scores, result) = self.logit_gradients(&normalised, head, outputs, loss, gradients)?;
        self.end_at_head(&normalised, result)?;
        Ok(scores)
    }

    /// As [`RecordingExecutor::head_loss`], for a loss whose derivatives depend on the scores of all rows: `slopes` is given these and says the
    /// derivatives by each. Of a head that does not learn, logits are computed once: a row's gradient is multiplied with its derivative at the
    /// end, which rounds in another place. Of one that learns they are computed twice, and the gradients have the same bits.
    ///
    /// # Errors
    /// As for that; [`TensorError::Length`] when there are not as many slopes as rows.
    pub fn head_loss_together(
        &mut self,
        normalised: Recorded,
        head: &Matrix,
        outputs: usize,
        targets: &[Option<u32>],
        slopes: &mut dyn FnMut(&[TokenScore]) -> Vec<ScoreGradient>,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenScore>, TensorError> {
        const WHAT: &str = "head: slopes";
        check_targets(head, outputs, targets, normalised.rows(), normalised.width())?;
        let id = parameter("head", head.parameter())?;
        let DirectExecutor { simd, temperature, .. } = self.direct;
        if gradients.of("head", id, shape_of(head))?.is_some() {
            let row_gradient = &|_, _| ScoreGradient::default();
            let mut loss = TargetLoss { simd, temperature, targets, row_gradient };
            let node = self.tape.node("head", &normalised)?;
            let scores =
                self.direct.logit_scores(self.tape.values("head", node)?, head, outputs, &mut loss)?;
            let slopes = slopes(&scores);
            expect(WHAT, targets.len(), slopes.len())?;
            return self.head_loss(normalised, head, outputs, targets, &|row, _| slopes[row], gradients);
        }
        let unit = ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
        let mut loss = TargetLoss { simd, temperature, targets, row_gradient: &|_, _| unit };
        let (scores, mut result) = self.logit_gradients(&normalised, head, outputs, &mut loss, gradients)?;
        let slopes = slopes(&scores);
        expect(WHAT, targets.len(), slopes.len())?;
        self.scale_rows(&mut result, head, targets, &slopes);
        self.end_at_head(&normalised, result)?;
        Ok(scores)
    }

    /// Turns the derivatives of −log-probability by the head's input into those of a loss: with w for the target's row of the head and T for
    /// the temperature, a row's gradient is (by log-sum-exp − by log-probability) · it + by log-sum-exp · w / T.
    fn scale_rows(
        &self,
        result: &mut Activations,
        head: &Matrix,
        targets: &[Option<u32>],
        slopes: &[ScoreGradient],
    ) {
        let width = head.columns();
        let inverse_temperature = self.direct.temperature.recip();
        self.direct.for_rows(result, |rows, values| {
            let mut weights = Vec::new();
            for (row, values) in rows.zip(values.chunks_exact_mut(width.max(1))) {
                let Some(target) = targets[row] else { continue };
                let ScoreGradient { log_probability, log_sum_exp } = slopes[row];
                let factor = log_sum_exp - log_probability;
                values.iter_mut().for_each(|value| *value *= factor);
                if log_sum_exp != 0.0 {
                    weights.resize(width, 0.0);
                    head.row(target as usize, &mut weights);
                    let factor = log_sum_exp * inverse_temperature;
                    let pairs = values.iter_mut().zip(&weights);
                    pairs.for_each(|(value, weight)| *value += factor * weight);
                }
            }
        });
    }

    /// Goes on from the derivatives by the head's input.
    fn end_at_head(&mut self, normalised: &Recorded, result: Activations) -> Result<(), TensorError> {
        let node = self.tape.node("head", normalised)?;
        self.trace.check(super::Pass::Backward, "head", None, &result);
        self.tape.consume(node, &mut self.direct.workspace);
        self.add_gradient(node, Arc::new(result))
    }

    /// The scores of all rows, and the derivatives by the head's input; those by the head are added to `gradients` if it learns.
    fn logit_gradients<L: LogitLoss>(
        &mut self,
        normalised: &Recorded,
        head: &Matrix,
        outputs: usize,
        loss: &mut L,
        gradients: &mut Gradients,
    ) -> Result<(Vec<L::Score>, Activations), TensorError> {
        let id = parameter("head", head.parameter())?;
        let node = self.tape.node("head", normalised)?;
        check_outputs(head, outputs, normalised.width())?;
        let mut sum = gradients.of("head", id, shape_of(head))?;
        if sum.is_some() {
            head.f32_packed()?;
        }
        let mut quantised = QuantisedRows::new();
        let count = normalised.rows();
        let mut result = self.direct.workspace.take(count, normalised.width())?;
        let input = self.tape.values("head", node)?;
        let (width, all) = (normalised.width(), head.rows());
        let rows_together = rows_together(all);
        let mut logits = self.direct.workspace.take_fixed(rows_together.min(count), all)?;
        let mut scores = vec![L::Score::default(); count];
        let simd = self.direct.simd;
        let team = &self.direct.team;
        for first in (0..count).step_by(rows_together) {
            let rows = rows_together.min(count - first);
            loss.begin(first..first + rows)?;
            let input = input.rows_values(first..first + rows);
            let logits = &mut logits.values_mut()[..rows * all];
            if head.dtype().is_quantised() {
                quantised.quantise(input, rows, head.simd(), team)?;
            }
            linear_part(team, input, rows, &quantised, head, 0..all, logits)?;
            let scores = DisjointMut::new(&mut scores[first..first + rows]);
            let loss = &*loss;
            team.for_each_chunk(logits, all, |row, logits| {
                let (usable, unusable) = logits.split_at_mut(outputs);
                unusable.fill(0.0);
                // SAFETY: every row has a score of its own.
                let place = unsafe { scores.slice(row..row + 1) };
                place[0] = loss.row(first + row, usable);
            });
            if let Some(sum) = &mut sum {
                weight_gradient(team, simd, logits, input, rows, sum)?;
            }
            let out = &mut result.values_mut()[first * width..(first + rows) * width];
            input_gradient(team, logits, rows, head, &mut self.products, out, false)?;
        }
        self.direct.workspace.give_back(logits);
        Ok((scores, result))
    }
}

fn shape_of(head: &Matrix) -> ParameterShape {
    ParameterShape::Matrix { rows: head.rows(), columns: head.columns() }
}

impl DirectExecutor {
    /// The scores that [`RecordingExecutor::logit_loss`] gives, without gradients.
    ///
    /// # Errors
    /// As for [`RecordingExecutor::logit_loss`]; no parameter need learn.
    pub fn logit_scores<L: LogitLoss>(
        &mut self,
        normalised: &Activations,
        head: &Matrix,
        outputs: usize,
        loss: &mut L,
    ) -> Result<Vec<L::Score>, TensorError> {
        check_outputs(head, outputs, normalised.width())?;
        let (count, all) = (normalised.rows(), head.rows());
        let mut scores = vec![L::Score::default(); count];
        for first in (0..count).step_by(rows_together(all)) {
            let rows = first..count.min(first + rows_together(all));
            loss.begin(rows.clone())?;
            let mut logits = self.row_logits(normalised, rows.clone(), head)?;
            let scores = DisjointMut::new(&mut scores[rows]);
            let loss = &*loss;
            self.team.for_each_chunk(logits.values_mut(), all, |row, logits| {
                // SAFETY: every row has a score of its own.
                let place = unsafe { scores.slice(row..row + 1) };
                place[0] = loss.row(first + row, &mut logits[..outputs]);
            });
            self.workspace.give_back(logits);
        }
        Ok(scores)
    }

    /// The logits of some rows of `normalised`, `[rows, outputs of the head]`, with the bits that [`crate::Executor::linear`] gives them.
    ///
    /// # Errors
    /// [`TensorError::RowOutOfRange`] when there are not so many rows, [`TensorError::Length`] when the widths differ,
    /// [`TensorError::OutOfMemory`].
    pub fn row_logits(
        &mut self,
        normalised: &Activations,
        rows: Range<usize>,
        head: &Matrix,
    ) -> Result<Activations, TensorError> {
        expect("head: width of the rows", head.columns(), normalised.width())?;
        if rows.end > normalised.rows() || rows.start > rows.end {
            return Err(TensorError::RowOutOfRange { row: rows.end, rows: normalised.rows() });
        }
        let (count, all) = (rows.len(), head.rows());
        let input = normalised.rows_values(rows);
        let mut logits = self.workspace.take_fixed(count, all)?;
        if head.dtype().is_quantised() {
            self.quantised.quantise(input, count, head.simd(), &self.team)?;
        }
        linear_part(&self.team, input, count, &self.quantised, head, 0..all, logits.values_mut())?;
        Ok(logits)
    }
}

fn check_outputs(head: &Matrix, outputs: usize, width: usize) -> Result<(), TensorError> {
    expect("head: width of the rows", head.columns(), width)?;
    match outputs > head.rows() {
        true => Err(TensorError::RowOutOfRange { row: outputs, rows: head.rows() }),
        false => Ok(()),
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
    check_outputs(head, outputs, width)?;
    match targets.iter().flatten().find(|target| **target as usize >= outputs) {
        Some(target) => Err(TensorError::RowOutOfRange { row: *target as usize, rows: outputs }),
        None => Ok(()),
    }
}
