//! Drafts of one answer, and how often it keeps to them.

use super::draft::{Draft, DraftedBy};
use super::ngram_index::NgramIndex;

/// The n-grams looked up, the longest first, and the acceptance rate that is assumed before
/// any draft was checked. Lengths and likelihoods are the best of those tried on quoting, editing and chatting.
const LOOKUPS: [(usize, f64); 2] = [(4, 0.8), (2, 0.5)];
const WEIGHT_OF_LATEST: f64 = 1.0 / 8.0;
/// Of the drafts that do not pay, one in so many is tried all the same, since the answer may have become predictable.
const TRY_AGAIN_AFTER: u32 = 16;

/// Drafts by what followed earlier occurrences, and learns from whether they were accepted.
#[derive(Debug)]
pub(crate) struct Drafter {
    lookups: [Lookup; LOOKUPS.len()],
}

/// One length of n-grams. Drafts by long ones are accepted more often, so each length has its own acceptance rate.
#[derive(Debug)]
struct Lookup {
    index: NgramIndex,
    acceptance: f64,
    passed_over: u32,
}

impl Default for Drafter {
    /// For a sequence of which nothing is known yet.
    fn default() -> Drafter {
        let lookup = |(n, acceptance)| Lookup { index: NgramIndex::new(n), acceptance, passed_over: 0 };
        Drafter { lookups: LOOKUPS.map(lookup) }
    }
}

impl Drafter {
    /// A draft of what follows `tokens`, which begin with those of the call before.
    pub(crate) fn draft(&mut self, tokens: &[u32], most: usize) -> Draft {
        for lookup in &mut self.lookups {
            lookup.index.extend(tokens);
        }
        let found = |(number, lookup): (usize, &Lookup)| Some((number, lookup.index.find(tokens)?));
        let Some((number, follower)) = self.lookups.iter().enumerate().find_map(found) else {
            return Draft::default();
        };
        // An occurrence that reaches the end goes on with the draft itself, as a repetition does.
        let period = tokens.len() - follower;
        let draft = (0..most).map(|offset| tokens[follower + offset % period]).collect();
        let acceptance = vec![self.lookups[number].acceptance; most];
        Draft { tokens: draft, acceptance, drafted_by: DraftedBy::Lookup(number) }
    }

    /// `draft` was left out because it does not pay. True if its first token should be tried all the same.
    pub(crate) fn pass_over(&mut self, draft: &Draft) -> bool {
        let DraftedBy::Lookup(number) = draft.drafted_by else { return false };
        let lookup = &mut self.lookups[number];
        lookup.passed_over += 1;
        let is_due = lookup.passed_over >= TRY_AGAIN_AFTER;
        if is_due {
            lookup.passed_over = 0;
        }
        is_due
    }

    /// The answer went on with the first `accepted` tokens of `draft`, and then, if `was_refuted`, with
    /// another one than the draft's.
    pub(crate) fn learn(&mut self, draft: &Draft, accepted: usize, was_refuted: bool) {
        let DraftedBy::Lookup(number) = draft.drafted_by else { return };
        let acceptance = &mut self.lookups[number].acceptance;
        for _ in 0..accepted {
            *acceptance += WEIGHT_OF_LATEST * (1.0 - *acceptance);
        }
        if was_refuted {
            *acceptance -= WEIGHT_OF_LATEST * *acceptance;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_follows_the_latest_occurrence_of_the_longest_ngram() {
        let mut drafter = Drafter::default();
        let mut tokens = vec![1, 2, 3, 4, 50, 51, 9, 3, 4, 60, 61, 8];
        assert!(drafter.draft(&tokens, 3).tokens.is_empty());
        tokens.extend([3, 4]);
        assert_eq!(drafter.draft(&tokens, 3).tokens, [60, 61, 8]);
        tokens.extend([7, 1, 2, 3, 4]);
        assert_eq!(drafter.draft(&tokens, 3).tokens, [50, 51, 9]);
        assert!(drafter.draft(&tokens, 0).tokens.is_empty());
    }

    #[test]
    fn a_repetition_is_drafted_beyond_its_end() {
        let mut drafter = Drafter::default();
        assert_eq!(drafter.draft(&[5, 5, 5], 4).tokens, [5, 5, 5, 5]);
        let mut drafter = Drafter::default();
        assert_eq!(drafter.draft(&[1, 2, 3, 1, 2, 3, 1, 2], 5).tokens, [3, 1, 2, 3, 1]);
    }

    #[test]
    fn experience_raises_and_lowers_the_likelihood_within_its_range() {
        let mut drafter = Drafter::default();
        let tokens = [5, 6, 5, 6];
        let draft = drafter.draft(&tokens, 2);
        drafter.learn(&draft, 2, false);
        assert!(drafter.draft(&tokens, 2).acceptance[0] > draft.acceptance[0]);
        for _ in 0..100 {
            drafter.learn(&draft, 0, true);
        }
        let low = drafter.draft(&tokens, 2).acceptance[0];
        assert!(low > 0.0 && low < 0.01);
        let tries = (0..160).filter(|_| drafter.pass_over(&draft)).count();
        assert_eq!(tries, 10);
    }
}
