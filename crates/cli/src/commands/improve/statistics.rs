//! Numbers of held-out examples. Each first question weighs the same, however many examples are of it.

use std::collections::{BTreeMap, BTreeSet};
use zhenjin_align::evaluation::{Interval, cluster_interval, correct, mean_interval};
use zhenjin_improve::gate::Measured;

/// Of intervals by resampling and of sampled answers.
pub(super) const SEED: u64 = 1;

/// The mean over first questions, named by `openings`, of the mean of each one's values, with its interval by resampling questions with all that
/// is of them; `None` of no values. A question of a hundred examples would else be a hundred questions of one.
pub(super) fn mean<T: Ord>(values: &[f64], openings: &[T]) -> Option<Measured> {
    let means = question_means(values, openings);
    let found = mean_interval(&means, SEED)?;
    Some(measured(found, values.len(), means.len()))
}

/// The mean of each first question's values, in the order of the questions.
pub(super) fn question_means<T: Ord>(values: &[f64], openings: &[T]) -> Vec<f64> {
    let mut sums: BTreeMap<&T, (f64, usize)> = BTreeMap::new();
    for (value, opening) in values.iter().zip(openings) {
        let (sum, count) = sums.entry(opening).or_default();
        *sum += value;
        *count += 1;
    }
    sums.into_values().map(|(sum, count)| sum / count as f64).collect()
}

/// How often a liked example has a greater value than one that is not, with its interval by resampling first questions; `None` where either kind
/// is missing.
pub(super) fn area<T: Ord>(
    values: &[f64],
    openings: &[T],
    is_liked: &dyn Fn(usize) -> bool,
) -> Option<Measured> {
    let weights = question_parts(openings);
    let of = |indices: &[usize]| area_under_curve(indices, values, &weights, is_liked);
    let found = cluster_interval(openings, SEED, &of)?;
    Some(measured(found, values.len(), count(openings)))
}

/// Of each example its part of its first question.
fn question_parts<T: Ord>(openings: &[T]) -> Vec<f64> {
    let mut counts: BTreeMap<&T, f64> = BTreeMap::new();
    for opening in openings {
        *counts.entry(opening).or_default() += 1.0;
    }
    openings.iter().map(|opening| 1.0 / counts[opening]).collect()
}

/// Of all pairs of a liked and a disliked example, the share whose liked one has the greater value (Mann and Whitney 1947), where a pair weighs
/// as much as the product of its examples' weights; `None` without pairs.
fn area_under_curve(
    indices: &[usize],
    values: &[f64],
    weights: &[f64],
    is_liked: &dyn Fn(usize) -> bool,
) -> Option<f64> {
    let (liked, disliked): (Vec<usize>, Vec<usize>) = indices.iter().partition(|index| is_liked(**index));
    if liked.is_empty() || disliked.is_empty() {
        return None;
    }
    let won = |liked: usize| -> f64 {
        let beside = disliked.iter().map(|other| weights[*other] * correct(values[liked] - values[*other]));
        weights[liked] * beside.sum::<f64>()
    };
    let sum = |of: &[usize]| of.iter().map(|index| weights[*index]).sum::<f64>();
    Some(liked.iter().map(|index| won(*index)).sum::<f64>() / (sum(&liked) * sum(&disliked)))
}

/// How many different ones there are.
pub(super) fn count<T: Ord>(openings: &[T]) -> usize {
    openings.iter().collect::<BTreeSet<_>>().len()
}

pub(super) fn measured(found: Interval, examples: usize, units: usize) -> Measured {
    Measured { mean: found.mean, lower: found.lower, upper: found.upper, examples, units }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One question of 100 answers that disagree once outweighed 40 questions of one answer each that agree.
    #[test]
    fn no_question_outweighs_the_others() {
        let openings: Vec<usize> = (0..40).chain([40; 100]).collect();
        let values: Vec<f64> = openings.iter().map(|opening| f64::from(u8::from(*opening < 40))).collect();
        let found = mean(&values, &openings).expect("values");
        assert!((found.mean - 40.0 / 41.0).abs() < 1e-12 && found.lower > 0.85, "{found:?}");
        assert_eq!((found.examples, found.units), (140, 41));
        // It is what the mean of each question is, in whichever order they come.
        let each: Vec<usize> = (0..41).collect();
        let alone = mean(&question_means(&values, &openings), &each).expect("values");
        assert_eq!((found.mean, found.lower, found.upper), (alone.mean, alone.lower, alone.upper));
        assert!(mean::<usize>(&[], &[]).is_none());
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let values = [3.0, 1.0, 2.0, 0.0];
        let liked = |index: usize| index < 2;
        assert_eq!(area_under_curve(&[0, 1, 2, 3], &values, &[1.0; 4], &liked), Some(0.75));
        assert_eq!(area_under_curve(&[0, 1], &values, &[1.0; 4], &liked), None);
        // The pair that is out of order weighs ½ · ½ of (1 + ½) · (1 + ½).
        let weights = [1.0, 0.5, 0.5, 1.0];
        let weighed = area_under_curve(&[0, 1, 2, 3], &values, &weights, &liked).expect("pairs");
        assert!((weighed - 8.0 / 9.0).abs() < 1e-12, "{weighed}");
    }

    /// The thumbs on one question are those of one question, also where they are compared with those on others.
    #[test]
    fn thumbs_on_one_question_do_not_outweigh_those_on_others() {
        // Of 20 questions with a liked and a disliked answer each, all are in order; of one more with 15 of each, none is.
        let openings: Vec<usize> = (0..40).map(|thumb| thumb / 2).chain([20; 30]).collect();
        let is_liked = |thumb: usize| thumb.is_multiple_of(2);
        let value = |thumb: usize| match (openings[thumb] < 20, is_liked(thumb)) {
            (true, true) => 1.0,
            (true, false) => -1.0,
            (false, true) => -2.0,
            (false, false) => 2.0,
        };
        let values: Vec<f64> = (0..openings.len()).map(value).collect();
        let found = area(&values, &openings, &is_liked).expect("both kinds");
        assert_eq!((found.examples, found.units), (70, 21));
        // (20 / 21)² of the weight is of pairs of the twenty.
        assert!((found.mean - (20.0f64 / 21.0).powi(2)).abs() < 1e-9 && found.lower > 0.5, "{found:?}");
    }
}
