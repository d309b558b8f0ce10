//! Losses of whole rows of logits, and another model's logits to compare them with. Rows are those that have a target, in their order.

use std::ops::Range;

use zhenjin_tensor::{Activations, DirectExecutor, Executor, Gradients, LogitLoss, Matrix, TensorError};

use super::{Learned, Learner, TokenBatch};
use crate::errors::ModelError;

impl Learner {
    /// The scores of a batch's rows by a loss of their logits; its derivatives by all parameters are added to `gradients`. The logits are
    /// those of tokens that can be used ([`Learner::with_usable_vocabulary`]), of some rows at a time.
    ///
    /// # Errors
    /// As for [`Learner::accumulate`], and those of `loss`.
    pub fn accumulate_logits<'a, L: LogitLoss>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        loss: &mut L,
        gradients: &mut Gradients,
    ) -> Result<Vec<L::Score>, ModelError> {
        let mut scores = Vec::new();
        self.pass(learned.into(), batch, gradients, &mut |_, _| {}, &mut |head, gradients| {
            scores = head.logits(loss, gradients)?;
            Ok(())
        })?;
        Ok(scores)
    }

    /// The scores that [`Learner::accumulate_logits`] gives, without gradients.
    ///
    /// # Errors
    /// As for [`Learner::accumulate_logits`].
    pub fn score_logits<'a, L: LogitLoss>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        loss: &mut L,
    ) -> Result<Vec<L::Score>, ModelError> {
        let learned = learned.into();
        let Some(rows) = self.begin(batch)? else { return Ok(Vec::new()) };
        let input = self.head_input(learned, &rows)?;
        let (executor, head) = (self.executor.direct(), learned.weights.head());
        let scores = executor.logit_scores(&input, head, self.usable_vocabulary, loss)?;
        executor.discard(input);
        Ok(scores)
    }

    /// The logits of a batch's rows, to be computed some rows at a time.
    ///
    /// # Errors
    /// As for [`Learner::score`].
    pub fn target_logits<'l>(
        &'l mut self,
        learned: impl Into<Learned<'l>>,
        batch: &TokenBatch<'_>,
    ) -> Result<TargetLogits<'l>, ModelError> {
        let learned = learned.into();
        let input = match self.begin(batch)? {
            Some(rows) => Some(self.head_input(learned, &rows)?),
            None => None,
        };
        let outputs = self.usable_vocabulary;
        let head = learned.weights.head();
        Ok(TargetLogits { executor: self.executor.direct(), head, input, piece: None, first: 0, outputs })
    }
}

/// The logits of the rows of a batch that have a target: what the head multiplies, `[rows, hidden size]`, and the logits of some of them.
#[derive(Debug)]
pub struct TargetLogits<'a> {
    executor: &'a mut DirectExecutor,
    head: &'a Matrix,
    input: Option<Activations>,
    piece: Option<Activations>,
    /// The row with which the piece begins.
    first: usize,
    outputs: usize,
}

impl TargetLogits<'_> {
    /// Computes the logits of these rows, and forgets others.
    ///
    /// # Errors
    /// [`TensorError::RowOutOfRange`] when there are not so many rows, [`TensorError::OutOfMemory`].
    pub fn compute(&mut self, rows: Range<usize>) -> Result<(), TensorError> {
        if let Some(piece) = self.piece.take() {
            self.executor.discard(piece);
        }
        let Some(input) = &self.input else {
            return Err(TensorError::RowOutOfRange { row: rows.end, rows: 0 });
        };
        self.first = rows.start;
        self.piece = Some(self.executor.row_logits(input, rows, self.head)?);
        Ok(())
    }

    /// The logits of a row that was computed last, for each token that can be used; nothing for another row.
    pub fn row(&self, row: usize) -> &[f32] {
        let piece = self.piece.as_ref().zip(row.checked_sub(self.first));
        let found = piece.filter(|(piece, place)| *place < piece.rows());
        found.map_or(&[], |(piece, place)| &piece.row(place)[..self.outputs])
    }
}

impl Drop for TargetLogits<'_> {
    fn drop(&mut self) {
        for memory in [self.piece.take(), self.input.take()].into_iter().flatten() {
            self.executor.discard(memory);
        }
    }
}
