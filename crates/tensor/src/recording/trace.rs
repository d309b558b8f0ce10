//! Looks for the first NaN or infinity, and says which operation of which layer made it.

use crate::Activations;

/// Which way through the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// From tokens to the loss.
    Forward,
    /// From the loss to the gradients.
    Backward,
}

/// Where the first number that is NaN or infinite came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// In the forward pass an operation's output, in the backward pass the gradient of its inputs.
    pub pass: Pass,
    /// The operation, by the name of its method of [`crate::Executor`]; `head` for the head with its loss.
    pub operation: &'static str,
    /// The layer, counted from 0; `None` for the embedding, the last norm and the head.
    pub layer: Option<usize>,
    /// The row of the batch (of the rows that the operation was given).
    pub row: usize,
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.pass {
            Pass::Forward => "the output",
            Pass::Backward => "the gradient",
        };
        write!(formatter, "{what} of `{}`", self.operation)?;
        if let Some(layer) = self.layer {
            write!(formatter, " in layer {layer}")?;
        }
        write!(formatter, ", row {}, is not a finite number", self.row)
    }
}

/// Checks tensors while it is switched on, and keeps the first finding.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) is_on: bool,
    pub(super) found: Option<NonFinite>,
}

impl Trace {
    pub(super) fn check(
        &mut self,
        pass: Pass,
        operation: &'static str,
        layer: Option<usize>,
        values: &Activations,
    ) {
        if !self.is_on || self.found.is_some() {
            return;
        }
        let place = values.values().iter().position(|value| !value.is_finite());
        self.found = place.map(|index| NonFinite { pass, operation, layer, row: index / values.width() });
    }
}

impl super::RecordingExecutor {
    /// Switches the search for numbers that are not finite on or off, and forgets what it found. While it is on, every operation's
    /// results are read once more.
    pub fn set_trace(&mut self, is_on: bool) {
        self.trace = Trace { is_on, found: None };
    }

    /// The first number found that is not finite.
    pub fn non_finite(&self) -> Option<&NonFinite> {
        self.trace.found.as_ref()
    }
}
