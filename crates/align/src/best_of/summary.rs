//! What best-of-n gains by the answers that were written, and what is to be known of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Candidate, Unusable};
use crate::evaluation::{Interval, mean_interval};

/// The expectation of the greatest of `k` of `drawn` answers, drawn without putting back: an estimate without bias of the best of k answers by
/// n ≥ k of them. `values` are those of the answers that can be chosen; of draws without such an answer nothing is said. With v_(i) the i-th
/// greatest value, it is Σ C(n − i, k − 1) · v_(i) / Σ C(n − i, k − 1), where C is the binomial coefficient. `None` where there are fewer than k
/// answers, or none can be chosen.
pub fn expected_best(values: &[f64], drawn: usize, k: usize) -> Option<f64> {
    let count = drawn.max(values.len());
    if k == 0 || k > count || values.is_empty() {
        return None;
    }
    let mut descending = values.to_vec();
    descending.sort_unstable_by(|one, other| other.total_cmp(one));
    // The probability that the greatest so far are not drawn and the next one is: the first has k / n, and each following one is
    // C(n − i − 1, k − 1) / C(n − i, k − 1) = (n − i − k + 1) / (n − i) times as likely.
    let mut probability = k as f64 / count as f64;
    let (mut sum, mut all) = (0.0, 0.0);
    for (place, value) in descending.iter().enumerate().take(count - k + 1) {
        sum += probability * value;
        all += probability;
        let left = (count - place - 1) as f64;
        probability *= (left - k as f64 + 1.0) / left.max(1.0);
    }
    Some(sum / all)
}

/// ln n − (n − 1) / n: the divergence, in nats, of the best of n answers from one answer is at most this (Stiennon et al. 2020, arXiv 2009.01325;
/// that it is a bound: Beirami et al. 2024, arXiv 2401.01879).
pub fn kl_bound(n: usize) -> f64 {
    let n = n.max(1) as f64;
    n.ln() - (n - 1.0) / n
}

/// The best of k answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BestOf {
    /// k.
    pub answers: usize,
    /// Its reward: the mean over prompts, with its 95 % interval.
    pub reward: Interval,
    /// Prompts that have an answer to choose.
    pub prompts: usize,
    /// [`kl_bound`].
    pub kl_bound: f64,
}

/// Everything that is said of the answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Prompts.
    pub prompts: usize,
    /// Answers to all of them.
    pub answers: usize,
    /// Mean tokens of an answer.
    pub mean_tokens: f64,
    /// Answers without a reward.
    pub without_reward: usize,
    /// Why the first of them has none.
    pub first_fault: Option<String>,
    /// Answers that cannot be chosen, by reason.
    pub unusable: BTreeMap<Unusable, usize>,
    /// Answers that can be chosen, of which alone the rewards of the best are means.
    pub counted: usize,
    /// Prompts without such an answer, which are in no mean.
    pub prompts_without: usize,
    /// Answers that say what an earlier one to the same prompt says.
    pub duplicates: usize,
    /// Prompts whose answers are all worth the same.
    pub all_equal: usize,
    /// The best of 1, 2, 4 … answers, up to all.
    pub best_of: Vec<BestOf>,
}

impl Summary {
    /// A summary of the answers to each prompt, up to `n` of them. `seed` is of the intervals.
    pub fn of(answers: &[Vec<Candidate>], n: usize, seed: u64) -> Summary {
        let all = || answers.iter().flatten();
        let count = all().count();
        let mut summary = Summary {
            prompts: answers.len(),
            answers: count,
            mean_tokens: all().map(|answer| answer.tokens as f64).sum::<f64>() / count.max(1) as f64,
            without_reward: all().filter(|answer| answer.reward.is_none()).count(),
            first_fault: all().find_map(|answer| answer.fault.clone()),
            ..Summary::default()
        };
        for reason in all().filter_map(|answer| answer.unusable) {
            *summary.unusable.entry(reason).or_default() += 1;
        }
        let mut worths: Vec<(Vec<f64>, usize)> = Vec::new();
        for of_prompt in answers {
            let repeats = |(place, answer): &(usize, &Candidate)| {
                of_prompt[..*place].iter().any(|earlier| earlier.is_same(answer))
            };
            summary.duplicates += of_prompt.iter().enumerate().filter(repeats).count();
            let worth: Vec<f64> = of_prompt.iter().filter_map(Candidate::worth).collect();
            summary.counted += worth.len();
            summary.prompts_without += usize::from(worth.is_empty());
            let is_equal = worth.len() > 1 && worth.iter().all(|one| *one == worth[0]);
            summary.all_equal += usize::from(is_equal);
            worths.push((worth, of_prompt.len()));
        }
        let powers = std::iter::successors(Some(1usize), |k| k.checked_mul(2));
        let ks = powers.take_while(|k| *k < n).chain([n]);
        for k in ks {
            let best = worths.iter().filter_map(|(worth, drawn)| expected_best(worth, *drawn, k));
            let best: Vec<f64> = best.collect();
            if let Some(reward) = mean_interval(&best, seed) {
                let (prompts, kl_bound) = (best.len(), kl_bound(k));
                summary.best_of.push(BestOf { answers: k, reward, prompts, kl_bound });
            }
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of the greatest of every k of the answers, of which the first ones have these values and the others cannot be chosen.
    fn by_all_draws(values: &[f64], drawn: usize, k: usize) -> f64 {
        let (mut sum, mut draws) = (0.0, 0.0);
        for subset in 0u32..1 << drawn {
            let taken = values.iter().enumerate().filter(|(place, _)| subset >> place & 1 == 1);
            let greatest = taken.map(|(_, value)| *value).reduce(f64::max);
            if let Some(greatest) = greatest.filter(|_| subset.count_ones() as usize == k) {
                sum += greatest;
                draws += 1.0;
            }
        }
        sum / draws
    }

    #[test]
    fn the_best_of_k_is_the_mean_over_all_draws_of_k() {
        let values = [0.3, -1.0, 0.3, 2.5, 0.0, 1.75, -0.5];
        for drawn in [7, 8, 11] {
            let mut before = f64::NEG_INFINITY;
            for k in 1..=drawn {
                let found = expected_best(&values, drawn, k).unwrap();
                assert!((found - by_all_draws(&values, drawn, k)).abs() < 1e-12, "{drawn}, {k}: {found}");
                assert!(found >= before - 1e-12, "{drawn}, {k}");
                before = found;
            }
        }
        assert_eq!(expected_best(&values, 7, 8), None);
        assert_eq!(expected_best(&values, 7, 0), None);
        assert_eq!(expected_best(&[], 7, 1), None);
        assert_eq!(expected_best(&[4.0; 1000], 1000, 500).map(|best| (best * 1e9).round()), Some(4e9));
    }

    #[test]
    fn the_bound_of_the_divergence() {
        assert_eq!(kl_bound(1), 0.0);
        assert!((kl_bound(2) - 0.193_147_180_559_945).abs() < 1e-12);
        assert!((kl_bound(8) - 1.204_441_541_679_836).abs() < 1e-12);
    }

    #[test]
    fn what_is_told_of_answers() {
        let answer = |text: &str, reward: Option<f64>| Candidate {
            text: text.to_owned(),
            tokens: 4,
            reward,
            fault: reward.is_none().then(|| "no time".to_owned()),
            ..Candidate::default()
        };
        let cut = Candidate { unusable: Some(Unusable::Cut), ..answer("z", Some(9.0)) };
        let answers = [
            vec![answer("a", Some(0.0)), answer("a", Some(0.0)), answer("b", Some(1.0)), cut],
            vec![answer("a", Some(1.0)), answer("b", Some(1.0)), answer("c", None), answer("d", Some(1.0))],
        ];
        let summary = Summary::of(&answers, 4, 1);
        assert_eq!((summary.prompts, summary.answers, summary.mean_tokens), (2, 8, 4.0));
        assert_eq!((summary.without_reward, summary.first_fault.as_deref()), (1, Some("no time")));
        assert_eq!(summary.unusable, BTreeMap::from([(Unusable::Cut, 1)]));
        assert_eq!((summary.duplicates, summary.all_equal), (1, 1));
        assert_eq!((summary.counted, summary.prompts_without), (6, 0));
        let best: Vec<(usize, usize)> =
            summary.best_of.iter().map(|best| (best.answers, best.prompts)).collect();
        assert_eq!(best, [(1, 2), (2, 2), (4, 2)]);
        assert!((summary.best_of[0].reward.mean - (1.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        // Prompts without an answer that can be chosen were outside the means without a word.
        let cut = Candidate { unusable: Some(Unusable::Cut), ..answer("z", Some(9.0)) };
        let with_cut = [&answers[..], &[vec![cut.clone(), cut], vec![answer("c", None)]]].concat();
        let with_cut = Summary::of(&with_cut, 4, 1);
        assert_eq!((with_cut.answers, with_cut.counted), (11, 6));
        assert_eq!((with_cut.prompts, with_cut.prompts_without, with_cut.best_of[0].prompts), (4, 2, 2));
        // The 1 is in three of the six draws of two, each of which has an answer that can be chosen.
        assert!((summary.best_of[1].reward.mean - (0.5 + 1.0) / 2.0).abs() < 1e-12);
    }
}
