//! A draft: tokens that may come next, who guessed them and how likely each is.

use super::acceptance::Confidence;

/// The most tokens of a draft.
pub(crate) const LONGEST_DRAFT: usize = 7;

/// The tokens that may come next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Draft {
    /// Empty if nothing was guessed.
    pub(crate) tokens: Vec<u32>,
    /// For each token: how likely it is the next one if those before it were.
    pub(crate) acceptance: Vec<f64>,
    pub(crate) drafted_by: DraftedBy,
}

/// Who guessed a draft.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DraftedBy {
    /// A lookup in the sequence's own tokens, by its number.
    Lookup(usize),
    /// The draft model, with how sure it was of each token.
    Model(Vec<Confidence>),
}

impl Default for DraftedBy {
    fn default() -> Self {
        DraftedBy::Lookup(0)
    }
}

impl Draft {
    /// True if the draft model guessed it.
    pub(crate) fn is_of_model(&self) -> bool {
        matches!(self.drafted_by, DraftedBy::Model(_))
    }
}
