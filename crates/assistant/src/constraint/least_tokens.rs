//! An answer that may not end before it has a number of tokens.

use zhenjin_engine::{ConstraintError, TokenConstraint, TokenMask};

/// Excludes the tokens that end an answer until `left` others have come.
#[derive(Clone, Debug)]
pub(crate) struct LeastTokens {
    left: usize,
    ends: Vec<u32>,
}

impl LeastTokens {
    /// At least `tokens` tokens that are none of `ends`.
    pub(crate) fn new(tokens: usize, ends: Vec<u32>) -> LeastTokens {
        LeastTokens { left: tokens, ends }
    }
}

impl TokenConstraint for LeastTokens {
    fn mask(&mut self, mask: &mut TokenMask) -> Result<(), ConstraintError> {
        mask.clear();
        for token in 0..mask.size() as u32 {
            if self.left == 0 || !self.ends.contains(&token) {
                mask.allow(token);
            }
        }
        Ok(())
    }

    fn accept(&mut self, _token: u32) -> Result<(), ConstraintError> {
        self.left = self.left.saturating_sub(1);
        Ok(())
    }

    fn is_finished(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_excluded_until_enough_has_come() {
        let mut constraint = LeastTokens::new(2, vec![1, 3]);
        let mut mask = TokenMask::none(5);
        let mut allowed = |constraint: &mut LeastTokens| {
            constraint.mask(&mut mask).expect("a mask");
            (0..5).filter(|&token| mask.allows(token)).collect::<Vec<u32>>()
        };
        assert_eq!(allowed(&mut constraint), [0, 2, 4]);
        constraint.accept(0).expect("allowed");
        assert_eq!(allowed(&mut constraint), [0, 2, 4]);
        constraint.accept(4).expect("allowed");
        assert_eq!(allowed(&mut constraint), [0, 1, 2, 3, 4]);
        assert!(!constraint.is_finished());
    }
}
