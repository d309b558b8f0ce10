//! One pass: its rows with targets, the end of the forward pass, and the way back.

use zhenjin_tensor::{
    Activations, DirectExecutor, Executor, Gradients, LogitLoss, Matrix, Recorded, RecordingExecutor,
    ScoreGradient, ScoreTarget, TensorError, TokenScore, Vector, WantedGradient,
};

use super::prefixes::ComputedRows;
use super::{FinishedLayer, Learned, RowGradient, TokenBatch};
use crate::config::ModelConfig;
use crate::forward::{AdapterRows, Transformer, times};
use crate::weights::ParameterTable;

/// What a pass does at its end.
pub(super) type Finish<'a> = dyn FnMut(&mut Head<'_, '_>, &mut Gradients) -> Result<(), TensorError> + 'a;

/// The end of a forward pass: the normalised hidden states of the rows that have a target.
pub(super) enum Head<'a, 'b> {
    Rows {
        executor: &'a mut RecordingExecutor,
        /// Until a loss has used it up.
        normalised: Option<Recorded>,
        outputs: usize,
        step: &'a Step<'b>,
    },
    /// No row has a target.
    Nothing { rows: usize, of: &'a TargetRows },
}

impl Head<'_, '_> {
    /// Scores of all rows, and the derivatives by everything before them.
    pub(super) fn score(
        &mut self,
        row_gradient: &RowGradient<'_>,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenScore>, TensorError> {
        match self {
            Head::Nothing { rows, of } => Ok(of.scatter(Vec::new(), *rows)),
            Head::Rows { executor, normalised, outputs, step } => {
                let input = head_input(executor, normalised, step, "scores")?;
                let rows = step.rows;
                let row_gradient = |row: usize, score| row_gradient(rows.selected[row], score);
                let head = step.learned.weights.head();
                let scores =
                    executor.head_loss(input, head, *outputs, &rows.targets, &row_gradient, gradients)?;
                Ok(rows.scatter(scores, step.batch.tokens.len()))
            }
        }
    }

    /// The same for a loss whose derivatives depend on all scores: `slopes` is given one for each row.
    pub(super) fn score_together(
        &mut self,
        slopes: &mut dyn FnMut(&[TokenScore]) -> Vec<ScoreGradient>,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenScore>, TensorError> {
        match self {
            Head::Nothing { rows, of } => {
                let scores = of.scatter(Vec::new(), *rows);
                slopes(&scores);
                Ok(scores)
            }
            Head::Rows { executor, normalised, outputs, step } => {
                let input = head_input(executor, normalised, step, "scores")?;
                let (rows, all) = (step.rows, step.batch.tokens.len());
                let mut of_selected = |scores: &[TokenScore]| {
                    let slopes = slopes(&rows.scatter(scores.to_vec(), all));
                    let of_row = |row: &usize| slopes.get(*row).copied().unwrap_or_default();
                    rows.selected.iter().map(of_row).collect()
                };
                let head = step.learned.weights.head();
                let scores = executor.head_loss_together(
                    input,
                    head,
                    *outputs,
                    &rows.targets,
                    &mut of_selected,
                    gradients,
                )?;
                Ok(rows.scatter(scores, all))
            }
        }
    }

    /// Scores of the rows that have a target by a loss of their logits, and the derivatives by everything before them.
    pub(super) fn logits<L: LogitLoss>(
        &mut self,
        loss: &mut L,
        gradients: &mut Gradients,
    ) -> Result<Vec<L::Score>, TensorError> {
        match self {
            Head::Nothing { .. } => Ok(Vec::new()),
            Head::Rows { executor, normalised, outputs, step } => {
                let input = head_input(executor, normalised, step, "logits")?;
                executor.logit_loss(input, step.learned.weights.head(), *outputs, loss, gradients)
            }
        }
    }

    /// Values of the rows that have a target, and the derivatives by everything before them.
    pub(super) fn values(
        &mut self,
        slopes: &mut dyn FnMut(&[f32]) -> Vec<f32>,
        gradients: &mut Gradients,
    ) -> Result<Vec<f32>, TensorError> {
        match self {
            Head::Nothing { .. } => Ok(Vec::new()),
            Head::Rows { executor, normalised, step, .. } => {
                let normalised = normalised.take().ok_or(TensorError::NotOnTape { what: "values" })?;
                let head = step.learned.values;
                let head = head.ok_or(TensorError::NotAParameter { what: "head for values" })?;
                executor.value_loss(normalised, head, slopes, gradients)
            }
        }
    }
}

/// What the head multiplies, of the normalised hidden states, which are used up.
fn head_input(
    executor: &mut RecordingExecutor,
    normalised: &mut Option<Recorded>,
    step: &Step<'_>,
    what: &'static str,
) -> Result<Recorded, TensorError> {
    let normalised = normalised.take().ok_or(TensorError::NotOnTape { what })?;
    times(executor, normalised, step.logits_factor)
}

/// Goes back to `input`, takes its gradient and empties the tape; `None` where nothing below the input learns.
pub(super) fn go_back(
    executor: &mut RecordingExecutor,
    step: &Step<'_>,
    input: Option<WantedGradient>,
    gradients: &mut Gradients,
    finished: &mut FinishedLayer<'_>,
) -> Result<Option<Activations>, TensorError> {
    executor.backward_by_layer(step.table, gradients, finished)?;
    let gradient = input.map(|input| executor.take_gradient(input)).transpose()?;
    executor.clear_tape();
    match gradient {
        Some(None) => Err(TensorError::NotOnTape { what: "gradient of a layer's input" }),
        found => Ok(found.flatten()),
    }
}

/// What one pass computes with.
pub(super) struct Step<'a> {
    pub(super) learned: Learned<'a>,
    pub(super) table: &'a ParameterTable<'a>,
    pub(super) adapters: &'a [AdapterRows<'a, Matrix>],
    pub(super) batch: &'a TokenBatch<'a>,
    pub(super) rows: &'a TargetRows,
    /// See [`Learned::first_learning`].
    pub(super) first_learning: usize,
    /// What logits are multiplied with.
    pub(super) logits_factor: f32,
}

impl<'a> Step<'a> {
    /// A layer's input on the tape, with its gradient where anything below it learns.
    pub(super) fn input(
        &self,
        executor: &mut RecordingExecutor,
        layer: usize,
        values: Activations,
    ) -> (Recorded, Option<WantedGradient>) {
        if self.first_learning > layer {
            return (executor.constant(values), None);
        }
        let (input, wanted) = executor.input(values);
        (input, Some(wanted))
    }

    pub(super) fn transformer<'b>(&'b self, config: &'b ModelConfig) -> Transformer<'b, Matrix, Vector> {
        Transformer { config, weights: self.learned.weights, adapters: self.adapters }
    }

    /// Behind the attention of the last layer, only rows with a target are computed.
    pub(super) fn selected(&self, layer: usize) -> Option<&'a [usize]> {
        (layer + 1 == self.learned.weights.layers.len()).then_some(&self.rows.computed)
    }
}

/// The rows of a batch that have a target, and the rows that are computed for them.
#[derive(Default)]
pub(super) struct TargetRows {
    /// Rows of the batch.
    pub(super) selected: Vec<usize>,
    pub(super) targets: Vec<Option<u32>>,
    /// The tokens of all rows that are computed; fewer than the batch's where documents share rows.
    pub(super) tokens: Vec<u32>,
    /// Of these rows, ascending, those of the selected ones.
    pub(super) computed: Vec<usize>,
    /// The place of each selected row among `computed`: a row that documents share may have a target in each.
    places: Vec<usize>,
}

impl TargetRows {
    pub(super) fn new(batch: &TokenBatch<'_>, selected: Vec<usize>, rows: ComputedRows) -> TargetRows {
        let ComputedRows { documents, tokens } = rows;
        let targets = selected.iter().map(|row| batch.targets[*row]).collect();
        let of_selected: Vec<usize> = selected.iter().map(|row| documents.of_positions()[*row]).collect();
        let mut computed = of_selected.clone();
        computed.sort_unstable();
        computed.dedup();
        let places = of_selected.iter().map(|row| computed.partition_point(|other| other < row)).collect();
        TargetRows { selected, targets, tokens, computed, places }
    }

    /// A row for each target, given one for each computed row.
    pub(super) fn with_targets<E: Executor>(
        &self,
        executor: &mut E,
        computed: E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        if self.places.len() == self.computed.len() && self.places.is_sorted() {
            return Ok(computed);
        }
        executor.select_rows(computed, &self.places)
    }

    /// The scores of the targets, given the normalised hidden states of their rows.
    pub(super) fn scores(
        &self,
        executor: &mut DirectExecutor,
        normalised: &Activations,
        head: &Matrix,
        outputs: usize,
    ) -> Result<Vec<TokenScore>, TensorError> {
        let target = |target: &Option<u32>| ScoreTarget { output: target.unwrap_or(0) as usize, top: 0 };
        let targets: Vec<ScoreTarget> = self.targets.iter().map(target).collect();
        let mut scores = Vec::with_capacity(targets.len());
        executor.token_scores(normalised, head, outputs, &targets, &mut scores)?;
        Ok(scores)
    }

    /// The scores of all rows.
    pub(super) fn scatter(&self, scores: Vec<TokenScore>, rows: usize) -> Vec<TokenScore> {
        if scores.len() == rows {
            return scores;
        }
        let mut all = vec![TokenScore::default(); rows];
        self.selected.iter().zip(scores).for_each(|(row, score)| all[*row] = score);
        all
    }
}
