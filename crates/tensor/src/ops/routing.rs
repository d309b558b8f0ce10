//! Which experts of a mixture a row uses, and how much of each: the softmax of the router's scores, of which the greatest few
//! are kept (Shazeer et al. 2017, arXiv 1701.06538; without noise).

use super::exponential_of_one;
use crate::ExpertChoice;

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

#[cfg(test)]
mod tests {
    use super::*;

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
