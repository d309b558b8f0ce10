//! What the engine needs of a model: one step over chunks of sequences.

use std::sync::Arc;

use zhenjin_model::{Model, Runner, SequenceChunk, StepOutputs};
use zhenjin_tensor::ThreadTeam;

/// Why a step failed.
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

/// A model that computes steps, with its pages of keys and values.
///
/// A step must be a function of the tokens that its chunks name (and of those computed into their pages
/// before), bit for bit: never of the other chunks, the pages' numbers or the number of threads. After a
/// failed step the pages of its chunks may hold anything; those chunks can be computed again.
pub trait StepModel: Send {
    /// The width of a row of logits: the ids below it can be generated.
    fn usable_vocabulary(&self) -> usize;
    /// The most tokens of one sequence.
    fn context_length(&self) -> usize;
    /// How many pages of keys and values there are.
    fn page_count(&self) -> usize;
    /// The most rows of one step, over all chunks.
    fn max_rows(&self) -> usize;
    /// The most rows of logits of one step, over all chunks.
    fn max_logits_rows(&self) -> usize;
    /// The threads that compute its steps, among which the engine shares what it does with the outputs.
    fn team(&self) -> Option<&Arc<ThreadTeam>> {
        None
    }
    /// The weights that steps are computed with, if they can be replaced.
    fn weights(&self) -> Option<&Arc<Model>> {
        None
    }
    /// Computes further steps with `weights`, which have the same configuration.
    ///
    /// # Errors
    /// If these weights cannot be used; the others stay.
    fn use_weights(&mut self, _weights: &Arc<Model>) -> Result<(), StepError> {
        Err("the weights of this model cannot be replaced".into())
    }
    /// Computes `chunks` and returns what they ask for, in order. A score is the log-probability that
    /// [`crate::sampling::log_softmax::LogSoftmax`] gives for the row of logits, bit for bit.
    ///
    /// # Errors
    /// Whatever keeps the model from computing.
    fn step(&mut self, chunks: &[SequenceChunk<'_>]) -> Result<StepOutputs<'_>, StepError>;
}

impl StepModel for Runner {
    fn usable_vocabulary(&self) -> usize {
        Runner::usable_vocabulary(self)
    }

    fn context_length(&self) -> usize {
        Runner::context_length(self)
    }

    fn page_count(&self) -> usize {
        Runner::page_count(self)
    }

    fn max_rows(&self) -> usize {
        Runner::max_rows(self)
    }

    fn max_logits_rows(&self) -> usize {
        Runner::max_logits_rows(self)
    }

    fn team(&self) -> Option<&Arc<ThreadTeam>> {
        Some(Runner::team(self))
    }

    fn weights(&self) -> Option<&Arc<Model>> {
        Some(Runner::model(self))
    }

    fn use_weights(&mut self, weights: &Arc<Model>) -> Result<(), StepError> {
        Ok(Runner::use_weights(self, weights)?)
    }

    fn step(&mut self, chunks: &[SequenceChunk<'_>]) -> Result<StepOutputs<'_>, StepError> {
        Ok(Runner::step(self, chunks)?)
    }
}
