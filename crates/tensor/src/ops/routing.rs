//! Which experts of a mixture a row uses, and how much of each: the softmax of the router's scores, of which the greatest few
//! are kept (Shazeer et al. 2017, arXiv 1701.06538; without noise). And the way back: from what each expert gave to the scores.

use super::exponential_of_one;
use super::rms_norm::{reference_sum, sum_of_products};
use crate::ExpertChoice;
use crate::lanes::{LANES, LaneKernel, Lanes};

/// Chooses a row's experts by their scores: the `selected.len()` greatest, of equal ones those with lower numbers, in
/// ascending order, and their probabilities. A function of the row's scores alone.
pub(crate) fn choose(scores: &[f32], choice: ExpertChoice, selected: &mut [u32], weights: &mut [f32]) {
    for place in 0..selected.len() {
        let (taken, free) = selected.split_at_mut(place);
        let mut best: Option<usize> = None;
        for expert in (0..scores.len()).filter(|expert| !taken.contains(&(*expert as u32))) {
            let is_better = |best: usize| scores[expert].total_cmp(&scores[best]).is_gt();
            if best.is_none_or(is_better) {
                best = Some(expert);
            }
        }
        free[0] = best.unwrap_or(0) as u32;
    }
    selected.sort_unstable();
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |expert: &u32| f64::from(exponential_of_one(scores[*expert as usize] - greatest));
    let sum: f64 = match choice.normalise {
        true => selected.iter().map(exponential).sum(),
        false => (0..scores.len() as u32).map(|expert| exponential(&expert)).sum(),
    };
    for (weight, expert) in weights.iter_mut().zip(&*selected) {
        *weight = (exponential(expert) / sum) as f32;
    }
}

/// The probabilities of all experts by a row's scores, and their entropy in nats.
pub(crate) fn probabilities(scores: &[f32], out: &mut [f64]) -> f64 {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (out, score) in out.iter_mut().zip(scores) {
        *out = f64::from(exponential_of_one(score - greatest));
    }
    let sum: f64 = out.iter().sum();
    let mut mean_score = 0.0;
    for (out, score) in out.iter_mut().zip(scores) {
        *out /= sum;
        mean_score += *out * f64::from(score - greatest);
    }
    sum.ln() - mean_score
}

/// The derivatives of the loss by a row's scores, into `out`, given those by the weights of the experts that it chose
/// (`of_weights`) and, where `slopes` has some, by the probability of every expert. With p the softmax of the scores:
/// p_e · (slope_e − Σ p_i · slope_i), plus for the weights w the same over the chosen experts, or, where weights are not
/// normalised, over all of them with 0 for those not chosen. `probabilities` are p.
pub(crate) fn score_gradient(
    probabilities: &[f64],
    (selected, weights): (&[u32], &[f32]),
    of_weights: &[f32],
    normalise: bool,
    slopes: Option<&[f32]>,
    out: &mut [f32],
) {
    let chosen = || weights.iter().zip(of_weights);
    let mean: f64 = chosen().map(|(weight, slope)| f64::from(*weight) * f64::from(*slope)).sum();
    let mean_slope: f64 = slopes
        .map_or(0.0, |slopes| probabilities.iter().zip(slopes).map(|(p, slope)| p * f64::from(*slope)).sum());
    for (expert, (out, probability)) in out.iter_mut().zip(probabilities).enumerate() {
        let slope = slopes.map_or(0.0, |slopes| f64::from(slopes[expert]));
        let mut sum = probability * (slope - mean_slope);
        match selected.iter().position(|selected| *selected as usize == expert) {
            Some(place) => sum += f64::from(weights[place]) * (f64::from(of_weights[place]) - mean),
            None if normalise => {}
            None => sum -= probability * mean,
        }
        *out = sum as f32;
    }
}

/// The derivatives by an expert's weight, and by what it multiplies. A row's share of the result is `weight · W · a`; given
/// `Wᵀ · g` in `gradient`, for the derivative g of the loss by the result: `of_weights` becomes a · Wᵀ · g (summed in the order
/// of [`super::rms_norm`]), `gradient` the derivative by a, `weight · Wᵀ · g`, and `activated` `weight · a`, which the
/// derivative by W needs.
pub(crate) struct WeightedRows<'a> {
    pub(crate) weights: &'a [f32],
    /// a, `[weights.len(), width]`.
    pub(crate) activated: &'a mut [f32],
    /// Of the same shape.
    pub(crate) gradient: &'a mut [f32],
    pub(crate) of_weights: &'a mut [f32],
}

impl WeightedRows<'_> {
    fn width(&self) -> usize {
        self.activated.len().checked_div(self.weights.len()).unwrap_or(0).max(1)
    }
}

impl LaneKernel for WeightedRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.width();
        let rows = self.activated.chunks_exact_mut(width).zip(self.gradient.chunks_exact_mut(width));
        for ((weight, of_weight), (activated, gradient)) in self.weights.iter().zip(self.of_weights).zip(rows)
        {
            *of_weight = sum_of_products(lanes, activated, gradient);
            multiply(lanes, activated, *weight);
            multiply(lanes, gradient, *weight);
        }
    }

    fn reference(self) {
        let width = self.width();
        let rows = self.activated.chunks_exact_mut(width).zip(self.gradient.chunks_exact_mut(width));
        for ((weight, of_weight), (activated, gradient)) in self.weights.iter().zip(self.of_weights).zip(rows)
        {
            *of_weight = reference_sum(activated.iter().copied().zip(gradient.iter().copied()));
            activated.iter_mut().chain(gradient).for_each(|value| *value *= weight);
        }
    }
}

#[inline(always)]
fn multiply<L: Lanes>(lanes: L, values: &mut [f32], factor: f32) {
    let factor = lanes.splat(factor);
    let (values, tail) = values.as_chunks_mut::<LANES>();
    for values in values {
        lanes.store(lanes.mul(lanes.load(values), factor), values);
    }
    if !tail.is_empty() {
        lanes.store_head(lanes.mul(lanes.load_head(tail), factor), tail);
    }
}

/// Adds `weight · row` to `sum`: one expert's share of a row.
pub(crate) fn add_weighted(sum: &mut [f32], row: &[f32], weight: f32) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against central differences of the formula.
    #[test]
    fn scores_get_the_derivatives_of_weights_and_probabilities() {
        let scores = [0.3f32, -0.2, 1.1, 0.9, -0.7];
        let (selected, of_weights) = ([2u32, 3], [0.8f32, -0.3]);
        let slopes = [0.5f32, -0.1, 0.25, 0.3, 0.9];
        for normalise in [false, true] {
            let loss = |scores: &[f64]| {
                let all: f64 = scores.iter().map(|score| score.exp()).sum();
                let chosen: f64 = selected.iter().map(|expert| scores[*expert as usize].exp()).sum();
                let of = |expert: usize| scores[expert].exp();
                let divisor = if normalise { chosen } else { all };
                let gates = selected.iter().zip(of_weights);
                gates.map(|(expert, slope)| of(*expert as usize) / divisor * f64::from(slope)).sum::<f64>()
                    + (0..5).map(|expert| of(expert) / all * f64::from(slopes[expert])).sum::<f64>()
            };
            let mut weights = [0.0; 2];
            let mut found_selected = [0; 2];
            choose(&scores, ExpertChoice { active: 2, normalise }, &mut found_selected, &mut weights);
            assert_eq!(found_selected, selected);
            let mut p = [0.0; 5];
            let entropy = probabilities(&scores, &mut p);
            let expected_entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
            assert!((entropy - expected_entropy).abs() < 1e-9 && (p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let mut found = [0.0; 5];
            score_gradient(&p, (&selected, &weights), &of_weights, normalise, Some(&slopes), &mut found);
            for expert in 0..5 {
                let mut moved = scores.map(f64::from);
                moved[expert] += 1e-5;
                let above = loss(&moved);
                moved[expert] -= 2e-5;
                let expected = (above - loss(&moved)) / 2e-5;
                assert!(
                    (f64::from(found[expert]) - expected).abs() < 1e-6,
                    "{expert}: {found:?}, {expected}"
                );
            }
            let mut without = [1.0; 5];
            score_gradient(&p, (&selected, &weights), &[0.0; 2], normalise, None, &mut without);
            assert_eq!(without, [0.0; 5]);
        }
    }

    fn chosen(scores: &[f32], active: usize, normalise: bool) -> (Vec<u32>, Vec<f32>) {
        let (mut selected, mut weights) = (vec![0; active], vec![0.0; active]);
        choose(scores, ExpertChoice { active, normalise }, &mut selected, &mut weights);
        (selected, weights)
    }

    #[test]
    fn the_greatest_are_kept_with_their_probabilities() {
        let scores = [2.0_f32.ln(), 0.0, 5.0_f32.ln(), 0.0];
        let (selected, weights) = chosen(&scores, 2, false);
        assert_eq!(selected, [0, 2]);
        assert!(
            (weights[0] - 2.0 / 9.0).abs() < 1e-6 && (weights[1] - 5.0 / 9.0).abs() < 1e-6,
            "{weights:?}"
        );
        let (_, weights) = chosen(&scores, 2, true);
        assert!(
            (weights[0] - 2.0 / 7.0).abs() < 1e-6 && (weights[1] - 5.0 / 7.0).abs() < 1e-6,
            "{weights:?}"
        );
        // Of equals the first.
        assert_eq!(chosen(&scores, 3, true).0, [0, 1, 2]);
        assert_eq!(chosen(&scores, 4, true).1.iter().sum::<f32>(), 1.0);
        assert_eq!(chosen(&[-1e30, 1e30], 1, false), (vec![1], vec![1.0]));
    }
}
