//! Confidence intervals by resampling: how far a mean over these examples may be from the mean over all such examples.

use std::collections::BTreeMap;

use serde::Serialize;
use zhenjin_random::SplitMix64;

/// Resamples of an interval.
pub const RESAMPLES: usize = 10_000;
/// The probability that an interval leaves out, on each side.
const TAIL: f64 = 0.025;

/// A statistic of a sample with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The statistic of the sample itself.
    pub mean: f64,
    /// 2.5 % of the resamples are below.
    pub lower: f64,
    /// 2.5 % of the resamples are above.
    pub upper: f64,
}

/// The mean of `values` with its 95 % interval by the percentile bootstrap (Efron 1979, "Bootstrap methods: another look at the jackknife");
/// `None` of no values. Where each value is the difference of two measures of one example, it is the interval of a paired comparison.
pub fn mean_interval(values: &[f64], seed: u64) -> Option<Interval> {
    interval(values.len(), seed, &|indices| {
        Some(indices.iter().map(|index| values[*index]).sum::<f64>() / indices.len() as f64)
    })
}

/// A statistic of `count` examples with its 95 % interval. `statistic` is given the examples' indices, which repeat in resamples; it is `None`
/// where they do not have what it measures. `None` if that is so of the examples themselves.
///
/// Resamples depend on `count` and `seed` alone, so that two statistics of the same examples are resampled alike.
pub fn interval(count: usize, seed: u64, statistic: &dyn Fn(&[usize]) -> Option<f64>) -> Option<Interval> {
    if count == 0 {
        return None;
    }
    let mut indices: Vec<usize> = (0..count).collect();
    let mean = statistic(&indices)?;
    let mut found = Vec::with_capacity(RESAMPLES);
    for resample in 0..RESAMPLES {
        let mut generator = SplitMix64::of(seed, "bootstrap", resample as u64);
        indices.iter_mut().for_each(|index| *index = generator.below(count));
        found.extend(statistic(&indices));
    }
    found.sort_unstable_by(f64::total_cmp);
    let lower = quantile(&found, TAIL).unwrap_or(mean);
    let upper = quantile(&found, 1.0 - TAIL).unwrap_or(mean);
    Some(Interval { mean, lower, upper })
}

/// A statistic of examples that depend on each other, with its 95 % interval: `clusters` says of each example to which cluster it belongs, and
/// whole clusters are resampled, each with all its examples (the cluster bootstrap: Field & Welsh 2007, "Bootstrapping clustered data"; Cameron,
/// Gelbach & Miller 2008, "Bootstrap-based improvements for inference with clustered errors", who also show that with five to thirty clusters
/// such intervals are still somewhat too narrow). Where each example is a cluster of its own, it is [`interval`].
///
/// A single cluster has an interval without width, which says nothing: whoever decides by it asks for several.
pub fn cluster_interval<T: Ord>(
    clusters: &[T],
    seed: u64,
    statistic: &dyn Fn(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    let members = members(clusters);
    interval(members.len(), seed, &|drawn| {
        let examples: Vec<usize> =
            drawn.iter().flat_map(|cluster| members[*cluster].iter().copied()).collect();
        statistic(&examples)
    })
}

/// The mean of `values`, which belong to `clusters`, with its 95 % interval as by [`cluster_interval`]. Each value weighs the same, so that a
/// large cluster weighs more than a small one.
pub fn cluster_mean_interval<T: Ord>(values: &[f64], clusters: &[T], seed: u64) -> Option<Interval> {
    let clusters = &clusters[..clusters.len().min(values.len())];
    cluster_interval(clusters, seed, &|indices| {
        Some(indices.iter().map(|index| values[*index]).sum::<f64>() / indices.len() as f64)
    })
}

/// The examples of each cluster; the clusters in the order in which they come first.
fn members<T: Ord>(clusters: &[T]) -> Vec<Vec<usize>> {
    let mut places: BTreeMap<&T, usize> = BTreeMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (example, cluster) in clusters.iter().enumerate() {
        let place = *places.entry(cluster).or_insert(members.len());
        if place == members.len() {
            members.push(Vec::new());
        }
        members[place].push(example);
    }
    members
}

/// A quantile of ascending values, between two of them on a line.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    let part = place - below as f64;
    Some(if part == 0.0 { values[below] } else { values[below] * (1.0 - part) + values[above] * part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_on_lines_between_values() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.975), Some(3.0));
        assert_eq!(quantile(&[0.0, 1.0, 2.0, 3.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[0.0, 10.0], 0.25), Some(2.5));
    }

    #[test]
    fn intervals_of_samples_whose_resamples_can_be_counted() {
        assert_eq!(mean_interval(&[], 1), None);
        // Sums of equal numbers are rounded alike.
        let equal = mean_interval(&[0.7; 9], 1).unwrap();
        assert!(equal.lower == equal.mean && equal.upper == equal.mean && (equal.mean - 0.7).abs() < 1e-15);
        // The means of two of {0, 1} are 0, ½, 1 with the probabilities ¼, ½, ¼.
        let of_two = mean_interval(&[0.0, 1.0], 1).unwrap();
        assert_eq!(of_two, Interval { mean: 0.5, lower: 0.0, upper: 1.0 });
        // 50 of 100: the binomial distribution has its 2.5 % points at 40 and 60.
        let values: Vec<f64> = (0..100).map(|number| f64::from(number % 2)).collect();
        let of_hundred = mean_interval(&values, 1).unwrap();
        assert_eq!(of_hundred.mean, 0.5);
        assert!(
            (of_hundred.lower - 0.40).abs() < 0.011 && (of_hundred.upper - 0.60).abs() < 0.011,
            "{of_hundred:?}"
        );
        // 0 to 99: the mean of a resample has the standard deviation √((100² − 1) / 12 / 100) = 2.8866.
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let of_numbers = mean_interval(&values, 3).unwrap();
        assert!((of_numbers.lower - (49.5 - 1.96 * 2.8866)).abs() < 0.2, "{of_numbers:?}");
        assert!((of_numbers.upper - (49.5 + 1.96 * 2.8866)).abs() < 0.2, "{of_numbers:?}");
    }

    #[test]
    fn the_seed_decides_every_bit() {
        let values: Vec<f64> = (0..57).map(|number| f64::from(number).sin()).collect();
        assert_eq!(mean_interval(&values, 5), mean_interval(&values, 5));
        assert_ne!(mean_interval(&values, 5), mean_interval(&values, 6));
    }

    #[test]
    fn pairing_makes_an_interval_narrower() {
        let ours: Vec<f64> = (0..200).map(|number| f64::from(number % 3 != 0)).collect();
        // The other model is right wherever ours is, and in two cases more.
        let theirs: Vec<f64> = ours
            .iter()
            .enumerate()
            .map(|(place, value)| if place == 3 || place == 6 { 1.0 } else { *value })
            .collect();
        let differences: Vec<f64> = theirs.iter().zip(&ours).map(|(one, other)| one - other).collect();
        let paired = mean_interval(&differences, 1).unwrap();
        let alone = mean_interval(&theirs, 1).unwrap();
        assert!((paired.mean - 0.01).abs() < 1e-12);
        assert!(paired.upper - paired.lower < (alone.upper - alone.lower) / 3.0, "{paired:?} {alone:?}");
    }

    /// Eight examples that always agree say as much as one of them, and their interval is that of one of each.
    #[test]
    fn examples_that_always_agree_count_once() {
        let values: Vec<f64> = (0..30).map(|number| f64::from(u8::from(number % 3 != 0))).collect();
        let eightfold: Vec<f64> = values.iter().flat_map(|value| [*value; 8]).collect();
        let clusters: Vec<usize> = (0..eightfold.len()).map(|example| example / 8).collect();
        let alone = mean_interval(&values, 1).unwrap();
        assert_eq!(cluster_mean_interval(&eightfold, &clusters, 1), Some(alone));
        // Nor does it matter in which order they come.
        let mixed_clusters: Vec<usize> = (0..eightfold.len()).map(|example| example % 30).collect();
        let mixed: Vec<f64> = mixed_clusters.iter().map(|cluster| values[*cluster]).collect();
        assert_eq!(cluster_mean_interval(&mixed, &mixed_clusters, 1), Some(alone));
        let independent = mean_interval(&eightfold, 1).unwrap();
        assert!(
            (alone.upper - alone.lower) > 2.0 * (independent.upper - independent.lower),
            "{independent:?}"
        );
        let each: Vec<usize> = (0..values.len()).collect();
        assert_eq!(cluster_mean_interval(&values, &each, 1), Some(alone));
        let one = cluster_mean_interval(&[1.0; 16], &[0; 16], 1);
        assert_eq!(one, Some(Interval { mean: 1.0, lower: 1.0, upper: 1.0 }));
        assert_eq!(cluster_mean_interval::<usize>(&[], &[], 1), None);
    }

    /// 24 fair coins, each counted eight times. The interval by coins has the truth where 8 to 16 of them show heads, in 93.6 % of all cases; that by
    /// examples, as if there were 192 coins, only where 11 to 13 do, in 45.9 %.
    #[test]
    fn intervals_by_clusters_have_the_truth_as_often_as_they_say() {
        let (mut by_clusters, mut by_examples) = (0, 0);
        let clusters: Vec<usize> = (0..24 * 8).map(|example| example / 8).collect();
        for experiment in 0..50 {
            let mut coins = SplitMix64::of(7, "coins", experiment);
            let values: Vec<f64> = (0..24).flat_map(|_| [coins.below(2) as f64; 8]).collect();
            let has_truth = |found: Interval| usize::from(found.lower <= 0.5 && 0.5 <= found.upper);
            by_clusters += has_truth(cluster_mean_interval(&values, &clusters, experiment).unwrap());
            by_examples += has_truth(mean_interval(&values, experiment).unwrap());
        }
        assert!(by_clusters >= 41, "{by_clusters} of 50");
        assert!(by_examples <= 34, "{by_examples} of 50");
    }

    #[test]
    fn a_statistic_that_some_resamples_do_not_have_is_that_of_the_others() {
        // The mean of the examples above 0, of which there is one in three.
        let values = [0.0, 0.0, 6.0];
        let above = |indices: &[usize]| {
            let found: Vec<f64> =
                indices.iter().map(|index| values[*index]).filter(|value| *value > 0.0).collect();
            (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
        };
        assert_eq!(interval(3, 1, &above), Some(Interval { mean: 6.0, lower: 6.0, upper: 6.0 }));
        assert_eq!(interval(2, 1, &above), None);
    }
}
