//! Confidence intervals by resampling: how far a mean over these examples may be from the mean over all such examples.

use serde::Serialize;

use crate::order::Generator;

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
        let mut generator = Generator::of(seed, "bootstrap", resample as u64);
        indices.iter_mut().for_each(|index| *index = generator.below(count));
        found.extend(statistic(&indices));
    }
    found.sort_unstable_by(f64::total_cmp);
    let lower = quantile(&found, TAIL).unwrap_or(mean);
    let upper = quantile(&found, 1.0 - TAIL).unwrap_or(mean);
    Some(Interval { mean, lower, upper })
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
