//! A set of allowed token ids, and the trait by which a grammar (or anything else) constrains an answer.

/// A set of token ids, one bit for each id of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    size: usize,
}

impl TokenMask {
    /// The empty set over ids `0..size`.
    pub fn none(size: usize) -> TokenMask {
        TokenMask { words: vec![0; size.div_ceil(32)], size }
    }

    /// How many ids the set ranges over.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Removes every id.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Adds `token`; an id outside the range is left out.
    pub fn allow(&mut self, token: u32) {
        if (token as usize) < self.size {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    /// True if `token` is in the set.
    pub fn allows(&self, token: u32) -> bool {
        (token as usize) < self.size && self.words[token as usize / 32] & (1 << (token % 32)) != 0
    }

    /// Becomes the set whose bits stand in `words`, 32 ids in each, the lowest bit first. Ids outside the
    /// range are left out; ids that `words` does not reach are not allowed.
    pub fn copy_from_words(&mut self, words: &[u32]) {
        self.words.fill(0);
        let shared = words.len().min(self.words.len());
        self.words[..shared].copy_from_slice(&words[..shared]);
        let used_bits = self.size % 32;
        if used_bits != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << used_bits) - 1;
        }
    }

    /// Sets the logit of every token that is not in the set to -∞, ids beyond the set's range included.
    pub(crate) fn exclude_others(&self, logits: &mut [f32]) {
        for (word, logits) in self.words.iter().zip(logits.chunks_mut(32)) {
            match *word {
                u32::MAX => continue,
                0 => {
                    logits.fill(f32::NEG_INFINITY);
                    continue;
                }
                _ => {}
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word & (1 << bit) == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        if logits.len() > self.size {
            logits[self.size..].fill(f32::NEG_INFINITY);
        }
    }
}

/// Why a constraint cannot go on.
pub type ConstraintError = Box<dyn std::error::Error + Send + Sync>;

/// Limits an answer to what a grammar allows, token by token. One value serves one answer.
///
/// The engine calls [`mask`](Self::mask), samples, then [`accept`](Self::accept) with the choice, and again.
pub trait TokenConstraint: Send {
    /// Writes the set of tokens that may come next, stop tokens included where the answer may end.
    ///
    /// # Errors
    /// Whatever keeps the constraint from telling; the request then fails with it.
    fn mask(&mut self, mask: &mut TokenMask) -> Result<(), ConstraintError>;

    /// Takes note of the token that was chosen.
    ///
    /// # Errors
    /// If the token was not allowed; the request then fails with it.
    fn accept(&mut self, token: u32) -> Result<(), ConstraintError>;

    /// True if the answer is complete and nothing may follow.
    fn is_finished(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_all_others() {
        let mut mask = TokenMask::none(70);
        mask.allow(3);
        mask.allow(69);
        mask.allow(70);
        let mut logits = vec![1.0f32; 75];
        mask.exclude_others(&mut logits);
        let left: Vec<usize> = (0..75).filter(|&i| logits[i] == 1.0).collect();
        assert_eq!(left, [3, 69]);
        mask.copy_from_words(&[u32::MAX, u32::MAX, u32::MAX, u32::MAX]);
        assert!(mask.allows(69) && !mask.allows(70));
        mask.copy_from_words(&[1]);
        assert!(mask.allows(0) && !mask.allows(32));
    }
}
