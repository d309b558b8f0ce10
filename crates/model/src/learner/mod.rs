//! Learning from whole documents: log-probabilities of targets, and the gradients of all parameters.
//!
//! The forward pass is the one that serves ([`Transformer`]), on the recording executor; for weights in f32 its log-probabilities
//! are those of a [`crate::Runner`] over the same tokens, bit for bit, whatever the documents are packed with. What the loss is
//! made of is the caller's: this file asks for its derivative by each target's score. It does not know optimisers.

mod learned;
mod logits;
mod pass;
mod prefixes;

use std::collections::BTreeMap;
use std::sync::Arc;

use zhenjin_tensor::{
    Activations, Executor, Gradients, Matrix, NonFinite, RecordingExecutor, RotaryFrequencies,
    RouterStatistics, ScoreGradient, TensorError, ThreadTeam, TokenScore, row_values,
};

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::forward::{AdapterRows, Transformer, attention_shape, times};
use crate::names::Naming;
use crate::rope;
use crate::tensor_source::WeightName;
use crate::weights::LoadOptions;
pub use learned::Learned;
pub use logits::TargetLogits;
use pass::{Finish, Head, Step, TargetRows, go_back};
use prefixes::ComputedRows;

/// Documents one after the other, one row per token.
#[derive(Clone, Copy, Debug)]
pub struct TokenBatch<'a> {
    /// The tokens of all documents.
    pub tokens: &'a [u32],
    /// Tokens of each document. Attention never crosses from one to another.
    pub document_lengths: &'a [usize],
    /// The token that each row is to predict; rows without one do not count.
    pub targets: &'a [Option<u32>],
}

/// What is wrong with a [`TokenBatch`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenBatchError {
    /// The numbers of rows differ.
    #[error(
        "batch: {tokens} tokens, {targets} targets and documents of {rows} rows in all; there must be as many of each"
    )]
    Rows {
        /// Tokens.
        tokens: usize,
        /// Targets.
        targets: usize,
        /// Sum of the documents' lengths.
        rows: usize,
    },
    /// A token or target that the model does not have.
    #[error(
        "batch: {what} {token} at row {row} is not below {vocabulary_size}, the model's number of tokens"
    )]
    UnknownToken {
        /// Token or target.
        what: &'static str,
        /// Its place.
        row: usize,
        /// The number.
        token: u32,
        /// The model's tokens.
        vocabulary_size: usize,
    },
    /// A document longer than the model's context.
    #[error(
        "batch: document {document} has {length} tokens, but the model has {context_length} positions; cut it"
    )]
    DocumentTooLong {
        /// Its place among the documents.
        document: usize,
        /// Its tokens.
        length: usize,
        /// The model's positions.
        context_length: usize,
    },
}

/// How a [`Learner`] computes.
#[derive(Clone, Debug)]
pub struct LearnerOptions {
    /// The instruction set and the threads; those for which the weights are packed.
    pub load: LoadOptions,
    /// Keep only each layer's input, and compute the layer again on the way back: less memory, a third more work, the same bits.
    pub recompute: bool,
}

/// Where a number that is not finite comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NonFiniteOrigin {
    /// A parameter itself, at this place of its packed order.
    Parameter(WeightName, usize),
    /// The result of an operation on finite parameters.
    Operation(NonFinite),
    /// The gradient of a parameter, at this place of its packed order, though every activation and its gradient are finite.
    Gradient(WeightName, usize),
}

impl std::fmt::Display for NonFiniteOrigin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NonFiniteOrigin::Parameter(name, index) => {
                let name = Naming::HuggingFace.spell(*name);
                write!(formatter, "element {index} of parameter `{name}` is not a finite number")
            }
            NonFiniteOrigin::Operation(found) => found.fmt(formatter),
            NonFiniteOrigin::Gradient(name, index) => {
                let name = Naming::HuggingFace.spell(*name);
                write!(formatter, "element {index} of the gradient of `{name}` is not a finite number")
            }
        }
    }
}

/// Asks the loss for its derivatives by the score of a row.
type RowGradient<'a> = dyn Fn(usize, TokenScore) -> ScoreGradient + Sync + 'a;

/// Is told the number of a layer when nothing more is added to the gradients of its parameters, and may take them out.
pub type FinishedLayer<'a> = dyn FnMut(usize, &mut Gradients) + 'a;

/// Computes scores and gradients for models of one configuration. See the head of this file.
#[derive(Debug)]
pub struct Learner {
    config: ModelConfig,
    /// See [`rope::tables`].
    rotary: Vec<RotaryFrequencies>,
    executor: RecordingExecutor,
    /// So many layers, the first ones, are computed again on the way back.
    recomputed_layers: usize,
    usable_vocabulary: usize,
    shares_beginnings: bool,
    team: Arc<ThreadTeam>,
}

impl Learner {
    /// A learner that has taken no memory yet.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] when the heads cannot be computed, or the processor lacks the instructions.
    pub fn new(config: &ModelConfig, options: LearnerOptions) -> Result<Learner, ModelError> {
        let LearnerOptions { load: LoadOptions { simd, team }, recompute } = options;
        Ok(Learner {
            team: Arc::clone(&team),
            rotary: rope::tables(config),
            executor: RecordingExecutor::new(attention_shape(config), simd, team)?,
            recomputed_layers: if recompute { usize::MAX } else { 0 },
            usable_vocabulary: config.vocabulary_size,
            shares_beginnings: false,
            config: config.clone(),
        })
    }

    /// Lets softmax range over the first `tokens` outputs only: those that the tokenizer has, where the model has more.
    #[must_use]
    pub fn with_usable_vocabulary(self, tokens: usize) -> Learner {
        let usable_vocabulary = tokens.min(self.config.vocabulary_size);
        Learner { usable_vocabulary, ..self }
    }

    /// Computes what documents of a batch begin with in common only once. Scores have the same bits; the gradient of a shared row is a sum over
    /// its documents, in their order, so that gradients are rounded in other places.
    #[must_use]
    pub fn with_shared_beginnings(self) -> Learner {
        Learner { shares_beginnings: true, ..self }
    }

    /// From now on, scores are those of logits divided by `temperature`, which is greater than 0 (1 at first), as an answer's tokens are drawn; losses
    /// of whole rows ([`Learner::accumulate_logits`]) get the logits as they are.
    pub fn set_score_temperature(&mut self, temperature: f32) {
        self.executor.direct().set_score_temperature(temperature);
    }

    /// Computes only the first `layers` layers again on the way back, and keeps the activations of the others: memory between that of
    /// `recompute` and that without. The bits are the same.
    #[must_use]
    pub fn with_recomputed_layers(self, layers: usize) -> Learner {
        Learner { recomputed_layers: layers, ..self }
    }

    /// Computes the scores of a batch's targets, asks `row_gradient` for the derivatives of the loss by each, and adds the derivatives
    /// of the loss by all parameters to `gradients`. One score per row; rows without a target have zeros.
    ///
    /// # Errors
    /// [`ModelError::TokenBatch`], before anything is computed; [`ModelError::Tensor`] when a matrix is not in f32, `gradients`
    /// is for other parameters, or memory is short: some gradients may have been added to then.
    pub fn accumulate<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        row_gradient: &RowGradient<'_>,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenScore>, ModelError> {
        self.accumulate_by_layer(learned, batch, row_gradient, gradients, &mut |_, _| {})
    }

    /// As [`Learner::accumulate`]; `finished` is called for each layer, from the last to the first, while the layers below it are still to be
    /// computed. It is not called when no row has a target.
    ///
    /// # Errors
    /// As for [`Learner::accumulate`].
    pub fn accumulate_by_layer<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        row_gradient: &RowGradient<'_>,
        gradients: &mut Gradients,
        finished: &mut FinishedLayer<'_>,
    ) -> Result<Vec<TokenScore>, ModelError> {
        let mut scores = Vec::new();
        self.pass(learned.into(), batch, gradients, finished, &mut |head, gradients| {
            scores = head.score(row_gradient, gradients)?;
            Ok(())
        })?;
        Ok(scores)
    }

    /// As [`Learner::accumulate`], for a loss whose derivatives depend on all scores of the batch: `slopes` is given one score for each row and
    /// says the derivatives of the loss by each. A head that learns is computed twice, with the same bits; one that does not
    /// learn is computed once, and the gradients are rounded in another place.
    ///
    /// # Errors
    /// As for [`Learner::accumulate`].
    pub fn accumulate_together<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        slopes: &mut dyn FnMut(&[TokenScore]) -> Vec<ScoreGradient>,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenScore>, ModelError> {
        let mut scores = Vec::new();
        self.pass(learned.into(), batch, gradients, &mut |_, _| {}, &mut |head, gradients| {
            scores = head.score_together(slopes, gradients)?;
            Ok(())
        })?;
        Ok(scores)
    }

    /// The values of a batch's rows that have a target (which one does not matter), in their order, under the head [`Learned::values`].
    /// `slopes` is given all of them and says the derivative of the loss by each; the derivatives by all parameters are added to `gradients`.
    ///
    /// # Errors
    /// As for [`Learner::accumulate`]; without a head for values [`TensorError::NotAParameter`].
    pub fn accumulate_values<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        slopes: &mut dyn FnMut(&[f32]) -> Vec<f32>,
        gradients: &mut Gradients,
    ) -> Result<Vec<f32>, ModelError> {
        let mut values = Vec::new();
        self.pass(learned.into(), batch, gradients, &mut |_, _| {}, &mut |head, gradients| {
            values = head.values(slopes, gradients)?;
            Ok(())
        })?;
        Ok(values)
    }

    /// The values of a batch, with the bits that [`Learner::accumulate_values`] gives them.
    ///
    /// # Errors
    /// As for [`Learner::accumulate_values`].
    pub fn values<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        let learned = learned.into();
        let Some(rows) = self.begin(batch)? else { return Ok(Vec::new()) };
        let normalised = self.normalised(learned, &rows)?;
        let head = learned.values.ok_or(TensorError::NotAParameter { what: "head for values" })?;
        let values = row_values(&normalised, head)?;
        self.executor.direct().discard(normalised);
        Ok(values)
    }

    /// A forward pass on the tape, what `finish` does with its end, and the way back.
    fn pass(
        &mut self,
        learned: Learned<'_>,
        batch: &TokenBatch<'_>,
        gradients: &mut Gradients,
        finished: &mut FinishedLayer<'_>,
        finish: &mut Finish<'_>,
    ) -> Result<(), ModelError> {
        let rows = self.begin(batch)?;
        let Some(rows) = rows else {
            let nothing = TargetRows::default();
            let mut head = Head::Nothing { rows: batch.tokens.len(), of: &nothing };
            return Ok(finish(&mut head, gradients)?);
        };
        let table = learned.table();
        let adapters: Vec<AdapterRows<'_, Matrix>> = learned.rows(rows.tokens.len());
        let first_learning = learned.first_learning(gradients);
        self.executor.set_learning(gradients);
        let step = Step {
            learned,
            table: &table,
            adapters: &adapters,
            batch,
            rows: &rows,
            first_learning,
            logits_factor: self.config.multipliers.logits,
        };
        let outcome = match self.recomputed_layers {
            0 => self.recorded(&step, gradients, finished, finish),
            _ => self.recomputed(&step, gradients, finished, finish),
        };
        self.executor.clear_tape();
        Ok(outcome?)
    }

    /// The normalised hidden states of the rows that have a target, without a record.
    fn normalised(&mut self, learned: Learned<'_>, rows: &TargetRows) -> Result<Activations, TensorError> {
        let adapters = learned.rows(rows.tokens.len());
        let transformer = Transformer { config: &self.config, weights: learned.weights, adapters: &adapters };
        let executor = self.executor.direct();
        let hidden = transformer.hidden_states(executor, &rows.tokens, &rows.computed)?;
        let normalised = transformer.final_norm(executor, &hidden)?;
        executor.discard(hidden);
        rows.with_targets(executor, normalised)
    }

    /// What the head multiplies for the rows that have a target, without a record.
    fn head_input(&mut self, learned: Learned<'_>, rows: &TargetRows) -> Result<Activations, TensorError> {
        let normalised = self.normalised(learned, rows)?;
        times(self.executor.direct(), normalised, self.config.multipliers.logits)
    }

    /// Adds to the loss of coming batches, in each layer named here, Σ slope_e · p_e for every row with a target, over the
    /// probabilities of the layer's experts: a loss for their balance is linear in them
    /// ([`RecordingExecutor::set_router_slopes`]). It holds until the next call.
    pub fn set_router_slopes(&mut self, slopes: BTreeMap<usize, Vec<f32>>) {
        self.executor.set_router_slopes(slopes);
    }

    /// What the routers chose for the rows with a target in the last [`Learner::accumulate`], by layer; empty without experts.
    pub fn take_router_statistics(&mut self) -> BTreeMap<usize, RouterStatistics> {
        self.executor.take_router_statistics()
    }

    /// The scores of a batch's targets, with the bits that [`Learner::accumulate`] gives them.
    ///
    /// # Errors
    /// As for [`Learner::accumulate`].
    pub fn score<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
    ) -> Result<Vec<TokenScore>, ModelError> {
        let learned = learned.into();
        let Some(rows) = self.begin(batch)? else {
            return Ok(vec![TokenScore::default(); batch.tokens.len()]);
        };
        let input = self.head_input(learned, &rows)?;
        let (executor, head) = (self.executor.direct(), learned.weights.head());
        let scores = rows.scores(executor, &input, head, self.usable_vocabulary)?;
        executor.discard(input);
        Ok(rows.scatter(scores, batch.tokens.len()))
    }

    /// Computes a batch once more as [`Learner::accumulate`] does, and says where the first number that is NaN or infinite comes from:
    /// a parameter, or which operation of which layer. What is in `gradients` is overwritten.
    ///
    /// # Errors
    /// As for [`Learner::accumulate`].
    pub fn find_non_finite<'a>(
        &mut self,
        learned: impl Into<Learned<'a>>,
        batch: &TokenBatch<'_>,
        row_gradient: &RowGradient<'_>,
        gradients: &mut Gradients,
    ) -> Result<Option<NonFiniteOrigin>, ModelError> {
        let learned = learned.into();
        let weights = learned.weights;
        if let Some((name, index)) = weights.first_non_finite() {
            return Ok(Some(NonFiniteOrigin::Parameter(name, index)));
        }
        // Layers are visited in order only without recomputation.
        let recomputed_layers = std::mem::take(&mut self.recomputed_layers);
        gradients.clear(&self.team);
        self.executor.set_trace(true);
        let outcome = self.accumulate(learned, batch, row_gradient, gradients);
        let found = self.executor.non_finite().cloned();
        self.executor.set_trace(false);
        self.recomputed_layers = recomputed_layers;
        outcome?;
        if let Some(found) = found {
            return Ok(Some(NonFiniteOrigin::Operation(found)));
        }
        let name = |id: usize| weights.parameters().nth(id).map(|(name, _)| name);
        let found = gradients.first_non_finite();
        Ok(found.and_then(|(id, index)| Some(NonFiniteOrigin::Gradient(name(id.0 as usize)?, index))))
    }

    /// Bytes of memory that have been taken for activations and their gradients.
    pub fn workspace_bytes_taken(&self) -> usize {
        self.executor.workspace_bytes_taken()
    }

    /// Checks a batch and tells the executor of it; the rows that have a target, if there are any.
    fn begin(&mut self, batch: &TokenBatch<'_>) -> Result<Option<TargetRows>, ModelError> {
        self.check(batch)?;
        let has_target = |row: &usize| batch.targets[*row].is_some();
        let selected: Vec<usize> = (0..batch.tokens.len()).filter(has_target).collect();
        if selected.is_empty() {
            return Ok(None);
        }
        let computed = match self.shares_beginnings {
            true => ComputedRows::of_beginnings(batch)?,
            false => ComputedRows::of_all(batch)?,
        };
        self.executor.begin_documents(&computed.documents, &self.rotary)?;
        let rows = TargetRows::new(batch, selected, computed);
        let mut counted = vec![false; rows.tokens.len()];
        rows.computed.iter().for_each(|row| counted[*row] = true);
        self.executor.set_counted_rows(counted);
        Ok(Some(rows))
    }

    fn check(&self, batch: &TokenBatch<'_>) -> Result<(), TokenBatchError> {
        let (tokens, targets) = (batch.tokens.len(), batch.targets.len());
        let rows = batch.document_lengths.iter().fold(0usize, |sum, length| sum.saturating_add(*length));
        if tokens != targets || tokens != rows {
            return Err(TokenBatchError::Rows { tokens, targets, rows });
        }
        let unknown = |what, row, token, vocabulary_size| TokenBatchError::UnknownToken {
            what,
            row,
            token,
            vocabulary_size,
        };
        let (size, usable) = (self.config.vocabulary_size, self.usable_vocabulary);
        if let Some((row, token)) =
            batch.tokens.iter().enumerate().find(|(_, token)| **token as usize >= size)
        {
            return Err(unknown("token", row, *token, size));
        }
        for (row, target) in batch.targets.iter().enumerate() {
            if let Some(target) = target.filter(|target| *target as usize >= usable) {
                return Err(unknown("target", row, target, usable));
            }
        }
        let context_length = self.config.context_length;
        let too_long = |(_, length): &(usize, &usize)| **length > context_length;
        match batch.document_lengths.iter().enumerate().find(too_long) {
            Some((document, length)) => {
                Err(TokenBatchError::DocumentTooLong { document, length: *length, context_length })
            }
            None => Ok(()),
        }
    }

    /// The whole forward pass on the tape, then the way back.
    fn recorded(
        &mut self,
        step: &Step<'_>,
        gradients: &mut Gradients,
        finished: &mut FinishedLayer<'_>,
        finish: &mut Finish<'_>,
    ) -> Result<(), TensorError> {
        let transformer = step.transformer(&self.config);
        let executor = &mut self.executor;
        let mut hidden = transformer.embed(executor, &step.rows.tokens)?;
        for index in 0..step.learned.weights.layers.len() {
            executor.set_layer(Some(index));
            hidden = transformer.layer(executor, index, hidden, step.selected(index))?;
        }
        executor.set_layer(None);
        let normalised = transformer.final_norm(executor, &hidden)?;
        executor.discard(hidden);
        let normalised = step.rows.with_targets(executor, normalised)?;
        let outputs = self.usable_vocabulary;
        finish(&mut Head::Rows { executor, normalised: Some(normalised), outputs, step }, gradients)?;
        executor.backward_by_layer(step.table, gradients, finished)
    }

    /// The first layers without a record but for their inputs, the others on the tape; on the way back, the first layers once more,
    /// one by one, on the tape, last one first.
    fn recomputed(
        &mut self,
        step: &Step<'_>,
        gradients: &mut Gradients,
        finished: &mut FinishedLayer<'_>,
        finish: &mut Finish<'_>,
    ) -> Result<(), TensorError> {
        let transformer = step.transformer(&self.config);
        let executor = &mut self.executor;
        let layers = step.learned.weights.layers.len();
        let recomputed = self.recomputed_layers.min(layers);
        let mut inputs: Vec<(usize, Activations)> = Vec::with_capacity(recomputed);
        let mut hidden = transformer.embed(executor.direct(), &step.rows.tokens)?;
        for index in 0..recomputed {
            // Below, nothing learns.
            if step.first_learning <= index + 1 {
                inputs.push((index, executor.direct().copy(&hidden)?));
            }
            hidden = transformer.layer(executor.direct(), index, hidden, step.selected(index))?;
        }
        let (mut hidden, wanted) = step.input(executor, recomputed, hidden);
        for index in recomputed..layers {
            executor.set_layer(Some(index));
            hidden = transformer.layer(executor, index, hidden, step.selected(index))?;
        }
        executor.set_layer(None);
        let normalised = transformer.final_norm(executor, &hidden)?;
        executor.discard(hidden);
        let normalised = step.rows.with_targets(executor, normalised)?;
        let outputs = self.usable_vocabulary;
        finish(&mut Head::Rows { executor, normalised: Some(normalised), outputs, step }, gradients)?;
        let mut gradient = go_back(executor, step, wanted, gradients, finished)?;
        while let Some((index, values)) = inputs.pop() {
            let Some(of_output) = gradient.take() else { break };
            executor.set_layer(Some(index));
            let (input, wanted) = step.input(executor, index, values);
            let out = transformer.layer(executor, index, input, step.selected(index))?;
            executor.set_gradient(out, of_output)?;
            gradient = go_back(executor, step, wanted, gradients, finished)?;
        }
        executor.set_layer(None);
        let Some(gradient) = gradient else { return Ok(()) };
        let out = transformer.embed(executor, &step.rows.tokens)?;
        executor.set_gradient(out, gradient)?;
        executor.backward(step.table, gradients)
    }
}
