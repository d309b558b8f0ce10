//! How often the guesses of a draft model are right, by how sure it is of them.

use super::draft::{Draft, DraftedBy};

/// Bounds between the classes of probability that the draft model gives its own guess.
const BOUNDS: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 0.95];
/// What is assumed of each class before any guess was checked.
const ASSUMED: [f64; BOUNDS.len() + 1] = [0.1, 0.25, 0.45, 0.65, 0.8, 0.95];
/// What is assumed of a guess that is not made yet.
const ASSUMED_OF_NEXT: f64 = 0.6;
/// So many observations weigh as much as what is assumed.
const OBSERVATIONS_ASSUMED: f64 = 8.0;
/// The weight of the latest observation: at least this for one sequence, whose text may change, and for all.
const WEIGHT_IN_SEQUENCE: f64 = 1.0 / 8.0;
const WEIGHT_OF_ALL: f64 = 1.0 / 64.0;

/// The class of the probability that the draft model gave its guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confidence(usize);

impl Confidence {
    /// For a probability from 0 to 1.
    pub(crate) fn of(probability: f64) -> Confidence {
        Confidence(BOUNDS.iter().filter(|bound| probability >= **bound).count())
    }
}

/// A running average of what was right (1) and wrong (0).
#[derive(Clone, Copy, Debug)]
struct Rate {
    mean: f64,
    seen: f64,
}

impl Rate {
    fn assumed(mean: f64) -> Rate {
        Rate { mean, seen: 0.0 }
    }

    fn note(&mut self, value: f64, least_weight: f64) {
        let weight = (1.0 / (OBSERVATIONS_ASSUMED + self.seen)).max(least_weight);
        self.mean += weight * (value - self.mean);
        self.seen += 1.0;
    }
}

/// Acceptance rates of a draft model, in one sequence or over all.
#[derive(Clone, Debug)]
pub(crate) struct Acceptance {
    least_weight: f64,
    /// Of a guess that is not made yet.
    next: Rate,
    by_confidence: [Rate; ASSUMED.len()],
}

impl Default for Acceptance {
    /// Over all sequences, before any guess was checked.
    fn default() -> Acceptance {
        Acceptance {
            least_weight: WEIGHT_OF_ALL,
            next: Rate::assumed(ASSUMED_OF_NEXT),
            by_confidence: ASSUMED.map(Rate::assumed),
        }
    }
}

impl Acceptance {
    /// For a new sequence, of which no more is known than of all.
    pub(crate) fn of_sequence(&self) -> Acceptance {
        Acceptance { least_weight: WEIGHT_IN_SEQUENCE, ..self.clone() }
    }

    /// How likely the next guess will be right, if it is made.
    pub(crate) fn next(&self) -> f64 {
        self.next.mean
    }

    /// How likely a guess is right of which the draft model was so sure.
    pub(crate) fn of(&self, confidence: Confidence) -> f64 {
        self.by_confidence[confidence.0].mean
    }

    /// Of the draft model's `draft`, the first `checked` tokens were checked: the answer went on with the first `accepted` of
    /// them, and then, if `was_refuted`, with another one than the draft's.
    pub(crate) fn learn(&mut self, draft: &Draft, checked: usize, accepted: usize, was_refuted: bool) {
        let DraftedBy::Model(confidences) = &draft.drafted_by else { return };
        for confidence in confidences.iter().take(accepted) {
            self.next.note(1.0, self.least_weight);
            self.by_confidence[confidence.0].note(1.0, self.least_weight);
        }
        let Some(confidence) = confidences.get(accepted) else { return };
        if was_refuted {
            self.next.note(0.0, self.least_weight);
            self.by_confidence[confidence.0].note(0.0, self.least_weight);
        } else if accepted == checked {
            // It was guessed at the model's cost and not checked, because it was unlikely: that is what the next one is likely to bring
            // as well.
            self.next.note(self.of(*confidence), self.least_weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(probabilities: &[f64]) -> Draft {
        let confidences = probabilities.iter().map(|probability| Confidence::of(*probability)).collect();
        Draft {
            tokens: vec![1; probabilities.len()],
            acceptance: vec![0.5; probabilities.len()],
            drafted_by: DraftedBy::Model(confidences),
        }
    }

    #[test]
    fn classes_cover_all_probabilities() {
        let classes = [0.0, 0.2, 0.5, 0.7, 0.8, 0.94, 0.95, 1.0].map(|p| Confidence::of(p).0);
        assert_eq!(classes, [0, 1, 2, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn sure_and_unsure_guesses_are_told_apart() {
        let mut all = Acceptance::default();
        for _ in 0..400 {
            all.learn(&draft(&[0.99, 0.3]), 2, 1, true);
        }
        assert!(all.of(Confidence::of(0.99)) > 0.99 && all.of(Confidence::of(0.3)) < 0.02, "{all:?}");
        assert!((0.4..0.6).contains(&all.next()), "{all:?}");
        // A sequence begins with what is known of all, and learns faster.
        let mut sequence = all.of_sequence();
        assert_eq!(sequence.next(), all.next());
        for _ in 0..16 {
            sequence.learn(&draft(&[0.99]), 1, 0, true);
            all.learn(&draft(&[0.99]), 1, 0, true);
        }
        assert!(sequence.next() < 0.1 && all.next() > 0.3, "{sequence:?} {all:?}");
    }

    #[test]
    fn guesses_that_are_not_worth_checking_make_the_next_one_less_likely() {
        let mut all = Acceptance::default();
        for _ in 0..200 {
            all.learn(&draft(&[0.1]), 0, 0, false);
        }
        assert!((all.next() - ASSUMED[0]).abs() < 0.02, "{all:?}");
        // The answer ended within the draft: nothing is known of what is behind.
        let before = all.next();
        all.learn(&draft(&[0.99, 0.99]), 2, 0, false);
        assert_eq!(all.next(), before);
    }
}
