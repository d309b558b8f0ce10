//! Follows one answer through its grammar, for the engine.

use llguidance::Matcher;
use zhenjin_engine::{ConstraintError, TokenConstraint, TokenMask};

/// A compiled grammar and how far the answer has come in it. Cloned for each of several answers to the same
/// request.
#[derive(Clone)]
pub(crate) struct GrammarConstraint {
    matcher: Matcher,
}

impl GrammarConstraint {
    pub(crate) fn new(matcher: Matcher) -> GrammarConstraint {
        GrammarConstraint { matcher }
    }
}

impl TokenConstraint for GrammarConstraint {
    fn mask(&mut self, mask: &mut TokenMask) -> Result<(), ConstraintError> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        mask.copy_from_words(allowed.as_slice());
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.matcher.consume_token(token).map_err(|error| error.to_string().into())
    }

    fn is_finished(&self) -> bool {
        self.matcher.is_stopped()
    }
}
