//! How often the answer that people preferred is preferred: by a policy, by what it began as, or by a reward model.

use std::sync::Arc;

use serde::Serialize;
use zhenjin_model::Adapter;
use zhenjin_tokenizer::EncodedDialogue;

use super::bootstrap::{Interval, interval, mean_interval};
use super::scorer::Scorer;
use crate::data::EncodedPair;
use crate::error::AlignError;
use crate::losses::sigmoid;

/// What two models say of a pair's answers; first that of the chosen answer, then that of the rejected one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairMargin {
    /// log π: the sum over the answer's tokens, its end included.
    pub policy: [f64; 2],
    /// log π_ref, likewise.
    pub reference: [f64; 2],
    /// The answers' tokens.
    pub tokens: [usize; 2],
}

impl PairMargin {
    /// The implicit reward of the chosen answer less that of the rejected one, over β: Δ (log π − log π_ref) (Rafailov et al. 2023, arXiv
    /// 2305.18290, section 4).
    pub fn implicit_reward(&self) -> f64 {
        (self.policy[0] - self.reference[0]) - (self.policy[1] - self.reference[1])
    }

    /// Δ log π.
    pub fn policy_sum(&self) -> f64 {
        self.policy[0] - self.policy[1]
    }

    /// Δ (log π / tokens).
    pub fn policy_per_token(&self) -> f64 {
        self.per_token(self.policy)
    }

    /// Δ log π_ref.
    pub fn reference_sum(&self) -> f64 {
        self.reference[0] - self.reference[1]
    }

    /// Δ (log π_ref / tokens).
    pub fn reference_per_token(&self) -> f64 {
        self.per_token(self.reference)
    }

    fn per_token(&self, of: [f64; 2]) -> f64 {
        of[0] / self.tokens[0].max(1) as f64 - of[1] / self.tokens[1].max(1) as f64
    }
}

/// Scores both answers of all pairs by the model of `scorer` with the adapter `policy`, and with the adapter `reference` (`None` is the model
/// itself). `progress` is told how many documents of how many are scored.
///
/// # Errors
/// [`AlignError::Model`]; [`AlignError::Input`] for a log-probability that is not finite.
pub fn pair_margins(
    scorer: &mut Scorer,
    policy: Option<&Arc<Adapter>>,
    reference: Option<&Arc<Adapter>>,
    pairs: &[EncodedPair],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<PairMargin>, AlignError> {
    let all = 4 * pairs.len();
    let of_reference = scorer.pair_scores(reference, pairs, &mut |done| progress(done, all))?;
    let of_policy = scorer.pair_scores(policy, pairs, &mut |done| progress(2 * pairs.len() + done, all))?;
    Ok(margins(pairs, &of_policy, &of_reference))
}

/// Margins of pairs whose log-probabilities by the policy and by the reference are known.
pub fn margins(pairs: &[EncodedPair], policy: &[[f64; 2]], reference: &[[f64; 2]]) -> Vec<PairMargin> {
    let scores = policy.iter().zip(reference);
    pairs
        .iter()
        .zip(scores)
        .map(|(pair, (policy, reference))| PairMargin {
            policy: *policy,
            reference: *reference,
            tokens: answer_tokens(pair),
        })
        .collect()
}

/// Tokens of the chosen and of the rejected answer.
pub fn answer_tokens(pair: &EncodedPair) -> [usize; 2] {
    [&pair.chosen, &pair.rejected].map(learned_tokens)
}

/// Tokens of a dialogue that the assistant wrote and that have a probability: nothing stands before the first.
pub fn learned_tokens(dialogue: &EncodedDialogue) -> usize {
    dialogue.assistant_mask.iter().skip(1).filter(|is_answer| **is_answer).count()
}

/// The share of pairs whose chosen answer is preferred; a margin of exactly 0 counts half.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairAccuracy {
    /// All pairs.
    pub pairs: usize,
    /// Of them, with a margin of 0.
    pub ties: usize,
    /// The share of all.
    pub accuracy: Interval,
    /// Pairs whose chosen answer has fewer tokens, and the share of them.
    pub chosen_shorter: Option<Group>,
    /// Pairs whose chosen answer has more tokens, and the share of them.
    pub chosen_longer: Option<Group>,
    /// The mean of these two shares: what merely prefers longer answers, or shorter ones, has ½.
    pub length_controlled: Option<Interval>,
}

/// Some of the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Group {
    /// How many.
    pub pairs: usize,
    /// The share of them.
    pub accuracy: Interval,
}

/// The accuracy of `margins` with 95 % intervals by resampling pairs; `tokens` are the answers' lengths. `None` without pairs.
pub fn pair_accuracy(margins: &[f64], tokens: &[[usize; 2]], seed: u64) -> Option<PairAccuracy> {
    let correct: Vec<f64> = margins.iter().map(|margin| correct(*margin)).collect();
    let group = |has: fn(&[usize; 2]) -> bool| -> Option<Group> {
        let of: Vec<f64> =
            correct.iter().zip(tokens).filter(|(_, tokens)| has(tokens)).map(|(value, _)| *value).collect();
        Some(Group { pairs: of.len(), accuracy: mean_interval(&of, seed)? })
    };
    Some(PairAccuracy {
        pairs: margins.len(),
        ties: margins.iter().filter(|margin| **margin == 0.0).count(),
        accuracy: mean_interval(&correct, seed)?,
        chosen_shorter: group(|[chosen, rejected]| chosen < rejected),
        chosen_longer: group(|[chosen, rejected]| chosen > rejected),
        length_controlled: length_controlled(&correct, tokens, seed),
    })
}

/// By how much one accuracy is greater than another on the same pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AccuracyDifference {
    /// Over all pairs.
    pub accuracy: Interval,
    /// Of the length-controlled accuracies.
    pub length_controlled: Option<Interval>,
}

/// Accuracy of `ours` less that of `theirs`, with 95 % intervals by resampling pairs. `None` without pairs.
pub fn accuracy_difference(
    ours: &[f64],
    theirs: &[f64],
    tokens: &[[usize; 2]],
    seed: u64,
) -> Option<AccuracyDifference> {
    let differences: Vec<f64> =
        ours.iter().zip(theirs).map(|(ours, theirs)| correct(*ours) - correct(*theirs)).collect();
    Some(AccuracyDifference {
        accuracy: mean_interval(&differences, seed)?,
        length_controlled: length_controlled(&differences, tokens, seed),
    })
}

/// 1 for a margin above 0, ½ for one of exactly 0, else 0.
pub fn correct(margin: f64) -> f64 {
    match margin {
        margin if margin > 0.0 => 1.0,
        0.0 => 0.5,
        _ => 0.0,
    }
}

/// The mean of the means over pairs whose chosen answer is shorter and over those whose chosen answer is longer.
pub(super) fn length_controlled(values: &[f64], tokens: &[[usize; 2]], seed: u64) -> Option<Interval> {
    interval(values.len(), seed, &|indices| {
        let mut sums = [(0.0, 0usize); 2];
        for index in indices {
            let [first, second] = tokens[*index];
            if first != second {
                let (sum, count) = &mut sums[usize::from(first > second)];
                *sum += values[*index];
                *count += 1;
            }
        }
        let [(shorter, of_shorter), (longer, of_longer)] = sums;
        (of_shorter > 0 && of_longer > 0)
            .then(|| (shorter / of_shorter as f64 + longer / of_longer as f64) / 2.0)
    })
}

/// Whether a reward model's margins mean what they say: that the answer with the greater reward is the preferred one with the probability
/// σ(|margin|).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The mean of σ(|margin|): the accuracy that the model expects of itself.
    pub confidence: f64,
    /// The accuracy that it has.
    pub accuracy: f64,
    /// The mean distance of the two over the bins, weighted by pairs (Naeini et al. 2015, expected calibration error).
    pub expected_error: f64,
    /// The mean of (1 − σ(margin))²; ¼ for one that always says ½ (Brier 1950).
    pub brier: f64,
    /// Bins of confidence that have pairs, ascending.
    pub bins: Vec<CalibrationBin>,
}

/// Pairs of similar confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// The least confidence.
    pub from: f64,
    /// The greatest confidence.
    pub to: f64,
    /// How many pairs.
    pub pairs: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// Their accuracy.
    pub accuracy: f64,
}

/// Bins between a confidence of ½ and 1.
const BINS: usize = 10;

/// Calibration of a reward model by its margins; `None` without pairs.
pub fn calibration(margins: &[f64]) -> Option<Calibration> {
    let mut sums = [(0usize, 0.0, 0.0); BINS];
    let mut brier = 0.0;
    for margin in margins {
        let confidence = sigmoid(margin.abs());
        let bin = (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
        let (pairs, of_confidence, of_correct) = &mut sums[bin];
        *pairs += 1;
        *of_confidence += confidence;
        *of_correct += correct(*margin);
        brier += sigmoid(-margin).powi(2);
    }
    let count = margins.len() as f64;
    let mean = |of: fn(&(usize, f64, f64)) -> f64| sums.iter().map(of).sum::<f64>() / count;
    (!margins.is_empty()).then(|| Calibration {
        confidence: mean(|(_, confidence, _)| *confidence),
        accuracy: mean(|(_, _, correct)| *correct),
        expected_error: mean(|(_, confidence, correct)| (confidence - correct).abs()),
        brier: brier / count,
        bins: sums
            .iter()
            .enumerate()
            .filter(|(_, (pairs, ..))| *pairs > 0)
            .map(|(bin, (pairs, confidence, correct))| CalibrationBin {
                from: 0.5 + bin as f64 / (2 * BINS) as f64,
                to: 0.5 + (bin + 1) as f64 / (2 * BINS) as f64,
                pairs: *pairs,
                confidence: confidence / *pairs as f64,
                accuracy: correct / *pairs as f64,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_those_of_the_formulas() {
        let margin = PairMargin { policy: [-10.0, -4.0], reference: [-11.0, -3.5], tokens: [5, 2] };
        assert_eq!(margin.implicit_reward(), 1.5);
        assert_eq!(margin.policy_sum(), -6.0);
        assert_eq!(margin.reference_sum(), -7.5);
        assert_eq!(margin.policy_per_token(), 0.0);
        assert!((margin.reference_per_token() - (-2.2 + 1.75)).abs() < 1e-12);
    }

    /// What prefers the shorter answer is right where the chosen one is shorter: 80 % of these pairs, and ½ with the length controlled.
    #[test]
    fn a_preference_for_short_answers_is_no_accuracy_once_length_is_controlled() {
        let tokens: Vec<[usize; 2]> =
            (0..100).map(|number| if number % 5 == 0 { [9, 4] } else { [3, 7] }).collect();
        let margins: Vec<f64> =
            tokens.iter().map(|[chosen, rejected]| *rejected as f64 - *chosen as f64).collect();
        let of = pair_accuracy(&margins, &tokens, 1).unwrap();
        assert_eq!((of.pairs, of.ties, of.accuracy.mean), (100, 0, 0.8));
        assert!(
            (0.71..0.75).contains(&of.accuracy.lower) && (0.85..0.89).contains(&of.accuracy.upper),
            "{of:?}"
        );
        let [shorter, longer] = [of.chosen_shorter, of.chosen_longer].map(|group| group.unwrap());
        assert_eq!((shorter.pairs, shorter.accuracy.mean), (80, 1.0));
        assert_eq!((longer.pairs, longer.accuracy.mean), (20, 0.0));
        assert_eq!(of.length_controlled, Some(Interval { mean: 0.5, lower: 0.5, upper: 0.5 }));
    }

    #[test]
    fn ties_count_half_and_equal_lengths_are_in_neither_group() {
        let of = pair_accuracy(&[1.0, 0.0, -1.0, 2.0], &[[1, 2], [2, 1], [3, 3], [3, 3]], 1).unwrap();
        assert_eq!((of.accuracy.mean, of.ties), (0.625, 1));
        assert_eq!(of.chosen_shorter.unwrap().pairs, 1);
        assert_eq!(of.chosen_longer.unwrap().pairs, 1);
        assert_eq!(of.length_controlled.unwrap().mean, 0.75);
        let alike = pair_accuracy(&[1.0, -1.0], &[[3, 3], [3, 3]], 1).unwrap();
        assert_eq!((alike.chosen_shorter, alike.length_controlled), (None, None));
        assert_eq!(pair_accuracy(&[], &[], 1), None);
    }

    #[test]
    fn differences_are_paired() {
        let tokens = vec![[1, 2]; 40].into_iter().chain(vec![[2, 1]; 40]).collect::<Vec<_>>();
        let theirs: Vec<f64> = (0..80).map(|number| if number % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let ours: Vec<f64> =
            (0..80).map(|number| if number % 2 == 0 || number % 8 == 1 { 1.0 } else { -1.0 }).collect();
        let of = accuracy_difference(&ours, &theirs, &tokens, 1).unwrap();
        assert_eq!(of.accuracy.mean, 0.125);
        assert!(of.accuracy.lower > 0.05 && of.accuracy.upper < 0.21, "{of:?}");
        assert_eq!(of.length_controlled.unwrap().mean, 0.125);
        let same = accuracy_difference(&ours, &ours, &tokens, 1).unwrap();
        assert_eq!(same.accuracy, Interval { mean: 0.0, lower: 0.0, upper: 0.0 });
    }

    #[test]
    fn calibration_compares_what_is_said_with_what_is() {
        // σ(ln 3) = ¾: right in three cases of four is what it says.
        let margin = 3f64.ln();
        let calibrated = calibration(&[margin, margin, margin, -margin]).unwrap();
        assert!((calibrated.confidence - 0.75).abs() < 1e-12 && calibrated.expected_error < 1e-12);
        assert_eq!(calibrated.accuracy, 0.75);
        assert!((calibrated.brier - (3.0 * 0.0625 + 0.5625) / 4.0).abs() < 1e-12);
        assert_eq!(calibrated.bins.len(), 1);
        let boastful = calibration(&[100.0, -100.0]).unwrap();
        assert_eq!((boastful.confidence, boastful.accuracy, boastful.expected_error), (1.0, 0.5, 0.5));
        let modest = calibration(&[0.0]).unwrap();
        assert_eq!(
            (modest.confidence, modest.accuracy, modest.expected_error, modest.brier),
            (0.5, 0.5, 0.0, 0.25)
        );
        assert_eq!(calibration(&[]), None);
    }
}
