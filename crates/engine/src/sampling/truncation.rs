//! Which tokens stay in the draw: top-k, top-p and min-p, found by partial selection; the whole vocabulary is never
//! sorted.

use std::cmp::Ordering;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its (penalised, biased) logit, by which candidates are ordered.
    pub logit: f32,
    /// Its token id, the lower first among equal logits.
    pub id: u32,
}

/// Highest logit first, lowest id first among equals: a total order, so every selection has one result.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Writes the `count` highest of `logits` into `out`, in order. Tokens at -∞ are left out.
///
/// The `count`-th highest of the blocks' maxima is a lower bound of the `count`-th highest logit, so one pass
/// over the maxima leaves few candidates to order.
pub fn highest_candidates(logits: &[f32], count: usize, out: &mut Vec<Candidate>) {
    const BLOCK: usize = 64;
    out.clear();
    if count == 0 {
        return;
    }
    let blocks = logits.len().div_ceil(BLOCK);
    let mut bound = f32::NEG_INFINITY;
    if count < blocks {
        let mut maxima: Vec<f32> = logits
            .chunks(BLOCK)
            .map(|block| block.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m }))
            .collect();
        let (_, nth, _) = maxima.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        bound = *nth;
    }
    for (id, &logit) in logits.iter().enumerate() {
        if logit >= bound && logit > f32::NEG_INFINITY {
            out.push(Candidate { logit, id: id as u32 });
        }
    }
    if count < out.len() {
        out.select_nth_unstable_by(count - 1, by_likelihood);
        out.truncate(count);
    }
    out.sort_unstable_by(by_likelihood);
}

/// Writes into `out`, in order, the most likely tokens whose weights reach `mass`, and perhaps some more.
///
/// `weights[id]` is the probability of `logits[id]`, up to a common factor. Tokens of weight 0 are left out.
pub fn candidates_of_mass(logits: &[f32], weights: &[f32], mass: f64, out: &mut Vec<Candidate>) {
    /// Below this fraction of the most likely token's weight, a token rarely matters to top-p.
    const LIKELY: f32 = 1.0 / 1024.0;
    let gather = |lowest: f32, out: &mut Vec<Candidate>| {
        out.clear();
        let mut sum = 0.0f64;
        for (id, &weight) in weights.iter().enumerate() {
            if weight > lowest {
                sum += f64::from(weight);
                out.push(Candidate { logit: logits[id], id: id as u32 });
            }
        }
        sum
    };
    let highest = weights.iter().copied().fold(0.0, f32::max);
    if gather(LIKELY * highest, out) < mass {
        gather(0.0, out);
    }
    let mut sorted = 0;
    let mut step = 256;
    let mut sum = 0.0f64;
    // A mass of 0 keeps the most likely token all the same.
    while sorted < out.len() && (sorted == 0 || sum < mass) {
        let end = (sorted + step).min(out.len());
        if end < out.len() {
            out[sorted..].select_nth_unstable_by(end - sorted - 1, by_likelihood);
        }
        out[sorted..end].sort_unstable_by(by_likelihood);
        sum +=
            out[sorted..end].iter().map(|candidate| f64::from(weights[candidate.id as usize])).sum::<f64>();
        sorted = end;
        step *= 2;
    }
    out.truncate(sorted);
}

/// How many of `candidates` (in order, with their weights) top-p and min-p keep: at least one.
///
/// top-p keeps the shortest beginning whose weights reach `top_p · total`; min-p then drops weights below
/// `min_p` times the first.
pub fn kept_count(weights: impl Iterator<Item = f32> + Clone, total: f64, top_p: f32, min_p: f32) -> usize {
    let mut kept = weights.clone().count();
    if top_p < 1.0 {
        let mut sum = 0.0f64;
        for (index, weight) in weights.clone().enumerate() {
            sum += f64::from(weight);
            if sum >= f64::from(top_p) * total {
                kept = index + 1;
                break;
            }
        }
    }
    if min_p > 0.0 {
        let mut weights = weights;
        let first = weights.next().unwrap_or(0.0);
        let likely = 1 + weights.take_while(|&weight| weight >= min_p * first).count();
        kept = kept.min(likely);
    }
    kept.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn partial_selection_equals_sorting(
            logits in proptest::collection::vec(prop_oneof![(-40i32..40).prop_map(|i| i as f32 / 4.0), Just(f32::NEG_INFINITY)], 1..700),
            count in 0usize..80,
            top_p in 0.0f64..1.0,
        ) {
            let mut all: Vec<Candidate> =
                logits.iter().enumerate().filter(|(_, l)| **l > f32::NEG_INFINITY).map(|(id, &logit)| Candidate { logit, id: id as u32 }).collect();
            all.sort_by(by_likelihood);
            let mut found = Vec::new();
            highest_candidates(&logits, count, &mut found);
            prop_assert_eq!(&found[..], &all[..count.min(all.len())]);

            let weights: Vec<f32> = logits.iter().map(|&l| (l - 10.0).exp()).collect();
            let mass = top_p * weights.iter().map(|&w| f64::from(w)).sum::<f64>();
            candidates_of_mass(&logits, &weights, mass, &mut found);
            prop_assert_eq!(&found[..], &all[..found.len()]);
            let sum = found.iter().map(|c| f64::from(weights[c.id as usize])).sum::<f64>();
            prop_assert!(sum >= mass * (1.0 - 1e-9) || found.len() == all.len());
        }
    }

    #[test]
    fn a_mass_of_zero_keeps_the_most_likely_token() {
        let mut out = Vec::new();
        candidates_of_mass(&[0.0, 2.0, 1.0], &[0.1, 0.6, 0.3], 0.0, &mut out);
        assert_eq!(out.first().map(|candidate| candidate.id), Some(1));
    }

    #[test]
    fn top_p_and_min_p_keep_a_beginning() {
        let weights = [1.0f32, 0.5, 0.25, 0.25];
        let kept = |top_p, min_p| kept_count(weights.iter().copied(), 2.0, top_p, min_p);
        assert_eq!(kept(1.0, 0.0), 4);
        assert_eq!(kept(0.5, 0.0), 1);
        assert_eq!(kept(0.51, 0.0), 2);
        assert_eq!(kept(0.0, 0.0), 1);
        assert_eq!(kept(1.0, 0.3), 2);
        assert_eq!(kept(1.0, 1.0), 1);
    }
}
