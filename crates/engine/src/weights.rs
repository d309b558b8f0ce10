//! Which weights a request is computed with: those that were in force when it was submitted. Does not compute.

use std::sync::Arc;

use zhenjin_model::{Fingerprint, Model};

/// A version of the engine's weights. Requests keep theirs to their end.
#[derive(Clone, Debug)]
pub(crate) struct WeightsVersion {
    /// Counts the replacements.
    pub(crate) number: u64,
    /// `None` for a [`crate::StepModel`] whose weights cannot be replaced.
    pub(crate) model: Option<Arc<Model>>,
}

impl WeightsVersion {
    /// The weights that an engine begins with.
    pub(crate) fn first(model: Option<Arc<Model>>) -> WeightsVersion {
        WeightsVersion { number: 0, model }
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.model.as_ref().map(|model| model.fingerprint)
    }
}
