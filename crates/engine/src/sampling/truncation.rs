//! Which tokens stay in the draw: top-k, top-p and min-p, found by partial selection; the whole vocabulary is never
//! sorted.

use std::cmp::Ordering;

use zhenjin_tensor::LOGIT_BLOCK;

use super::blocks::Row;

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

/// Writes the `count` highest of `logits` into `out`, in order. Tokens at −∞ are left out. `greatest` holds the greatest logit of each
/// block of [`LOGIT_BLOCK`].
///
/// The `count`-th highest of these is a lower bound of the `count`-th highest logit, so few blocks are looked at and few
/// candidates are left to order.
pub fn highest_candidates(logits: &[f32], greatest: &[f32], count: usize, out: &mut Vec<Candidate>) {
    out.clear();
    if count == 0 {
        return;
    }
    let mut bound = f32::NEG_INFINITY;
    if count < greatest.len() {
        let mut sorted = greatest.to_vec();
        let (_, nth, _) = sorted.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        bound = *nth;
    }
    gather(logits, greatest, |logit| logit >= bound && logit > f32::NEG_INFINITY, out);
    if count < out.len() {
        out.select_nth_unstable_by(count - 1, by_likelihood);
        out.truncate(count);
    }
    out.sort_unstable_by(by_likelihood);
}

/// Writes the tokens that `is_wanted` into `out`, by their ids: it says yes to every logit above one that it says yes to.
fn gather(logits: &[f32], greatest: &[f32], is_wanted: impl Fn(f32) -> bool, out: &mut Vec<Candidate>) {
    out.clear();
    for (block, (logits, &greatest)) in logits.chunks(LOGIT_BLOCK).zip(greatest).enumerate() {
        if !is_wanted(greatest) {
            continue;
        }
        let start = block * LOGIT_BLOCK;
        let wanted = logits.iter().enumerate().filter(|(_, logit)| is_wanted(**logit));
        out.extend(wanted.map(|(place, &logit)| Candidate { logit, id: (start + place) as u32 }));
    }
}

/// Of the tokens in `found`, keeps the shortest beginning, in order of likelihood, whose weights reach `mass`: at least one. Leaves them
/// in any order.
///
/// Only those around the end of it are sorted: the others are counted by how far they are below the highest logit.
fn keep_mass(row: &Row<'_>, highest: f32, mass: f64, weights: &[f32], found: &mut Vec<Candidate>) {
    /// Classes of tokens whose weights differ by less than e^(1/64).
    const CLASSES_PER_UNIT: f32 = 64.0;
    const CLASSES: usize = 1024;
    let class = |logit: f32| (((highest - logit) * row.scale * CLASSES_PER_UNIT) as usize).min(CLASSES - 1);
    let mut masses = [0.0f64; CLASSES];
    for (candidate, &weight) in found.iter().zip(weights) {
        masses[class(candidate.logit)] += f64::from(weight);
    }
    let mut sum = 0.0;
    let reached = masses.iter().position(|class_mass| {
        sum += class_mass;
        sum >= mass
    });
    let Some(reached) = reached else { return };
    let weighed = found.iter().copied().zip(weights.iter().copied());
    let mut last: Vec<(Candidate, f32)> =
        weighed.filter(|(candidate, _)| class(candidate.logit) == reached).collect();
    last.sort_unstable_by(|(a, _), (b, _)| by_likelihood(a, b));
    found.retain(|candidate| class(candidate.logit) < reached);
    let mut sum: f64 = masses[..reached].iter().sum();
    for (candidate, weight) in last {
        // A mass of 0 keeps the most likely token all the same.
        if sum >= mass && !found.is_empty() {
            break;
        }
        sum += f64::from(weight);
        found.push(candidate);
    }
}

/// Writes into `out`, in any order, what top-p and then min-p keep: the shortest list of most likely tokens whose weights reach `mass`,
/// without those below `min_p` times the most likely one's. At least one. `greatest` holds the greatest logit of each block, `highest`
/// that of all; `weights` is scratch space.
pub fn nucleus(
    row: &Row<'_>,
    highest: f32,
    greatest: &[f32],
    mass: f64,
    min_p: f32,
    weights: &mut Vec<f32>,
    out: &mut Vec<Candidate>,
) {
    /// Logits so far below the highest are looked at only if those above do not suffice: ln 2⁻¹⁰, ln 2⁻²⁰, and all.
    const DISTANCES: [f32; 3] = [-6.931_472, -13.862_944, f32::NEG_INFINITY];
    for distance in DISTANCES {
        let bound = highest + distance / row.scale;
        gather(row.logits, greatest, |logit| logit > bound, out);
        row.weigh(out.iter().map(|candidate| candidate.logit), highest, weights);
        if weights.iter().copied().map(f64::from).sum::<f64>() >= mass && !out.is_empty() {
            break;
        }
    }
    keep_mass(row, highest, mass, weights, out);
    keep_likely(row, highest, min_p, weights, out);
}

/// Writes into `out`, in any order, the tokens whose weights are at least `min_p` (above 0) of the most likely one's.
pub fn likely_candidates(
    row: &Row<'_>,
    highest: f32,
    greatest: &[f32],
    min_p: f32,
    weights: &mut Vec<f32>,
    out: &mut Vec<Candidate>,
) {
    // A little lower, because logarithms and weights are rounded.
    let bound = highest + (min_p.ln() - 1e-3) / row.scale;
    gather(row.logits, greatest, |logit| logit >= bound, out);
    keep_likely(row, highest, min_p, weights, out);
}

fn keep_likely(row: &Row<'_>, highest: f32, min_p: f32, weights: &mut Vec<f32>, out: &mut Vec<Candidate>) {
    if min_p == 0.0 {
        return;
    }
    row.weigh(out.iter().map(|candidate| candidate.logit), highest, weights);
    let mut weight = weights.iter();
    out.retain(|_| weight.next().is_some_and(|weight| *weight >= min_p));
}

/// How many of candidates with these weights, in order, top-p and min-p keep: at least one.
///
/// top-p keeps the shortest beginning whose weights reach `top_p` of them all; min-p then drops weights below `min_p` times the
/// first.
pub fn kept_count(weights: &[f32], top_p: f32, min_p: f32) -> usize {
    let mut kept = weights.len();
    if top_p < 1.0 {
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let mut sum = 0.0f64;
        let reached = weights.iter().position(|&weight| {
            sum += f64::from(weight);
            sum >= f64::from(top_p) * total
        });
        kept = reached.map_or(kept, |last| last + 1);
    }
    let least = min_p * weights.first().copied().unwrap_or(0.0);
    let likely = weights.iter().take_while(|&&weight| weight >= least).count();
    kept.min(likely).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zhenjin_tensor::SimdLevel;

    fn greatest_by_block(logits: &[f32]) -> Vec<f32> {
        let greatest = |block: &[f32]| block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        logits.chunks(LOGIT_BLOCK).map(greatest).collect()
    }

    proptest! {
        #[test]
        fn partial_selection_equals_sorting(
            logits in proptest::collection::vec(prop_oneof![(-40i32..40).prop_map(|i| i as f32 / 4.0), Just(f32::NEG_INFINITY)], 1..2000),
            count in 0usize..80,
            top_p in 0.0f64..1.0,
            scale in prop_oneof![0.05f32..4.0, Just(1e30f32)],
        ) {
            let mut all: Vec<Candidate> =
                logits.iter().enumerate().filter(|(_, l)| **l > f32::NEG_INFINITY).map(|(id, &logit)| Candidate { logit, id: id as u32 }).collect();
            all.sort_by(by_likelihood);
            let mut found = Vec::new();
            let greatest = greatest_by_block(&logits);
            highest_candidates(&logits, &greatest, count, &mut found);
            prop_assert_eq!(&found[..], &all[..count.min(all.len())]);

            let Some(highest) = all.first().map(|candidate| candidate.logit) else { return Ok(()) };
            let row = Row { logits: &logits, scale, simd: SimdLevel::detect() };
            let mut scratch = Vec::new();
            let mut weights = Vec::new();
            row.weigh(all.iter().map(|candidate| candidate.logit), highest, &mut weights);
            let mass = top_p * weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
            nucleus(&row, highest, &greatest, mass, 0.0, &mut scratch, &mut found);
            found.sort_by(by_likelihood);
            prop_assert_eq!(&found[..], &all[..found.len()]);
            let sum = |count: usize| weights[..count].iter().map(|&weight| f64::from(weight)).sum::<f64>();
            prop_assert!(!found.is_empty() && sum(found.len()) >= mass * (1.0 - 1e-9));
            prop_assert!(found.len() == 1 || sum(found.len() - 1) < mass * (1.0 + 1e-9));

            let min_p = top_p.max(1e-6) as f32;
            likely_candidates(&row, highest, &greatest, min_p, &mut scratch, &mut found);
            found.sort_by(by_likelihood);
            let likely = all.iter().zip(&weights).filter(|(_, weight)| **weight >= min_p);
            prop_assert_eq!(&found[..], likely.map(|(candidate, _)| *candidate).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_mass_of_zero_keeps_the_most_likely_token() {
        let mut out = Vec::new();
        let row = Row { logits: &[0.0, 2.0, 1.0], scale: 1.0, simd: SimdLevel::detect() };
        nucleus(&row, 2.0, &[2.0], 0.0, 0.0, &mut Vec::new(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out.first().map(|candidate| candidate.id), Some(1));
    }

    #[test]
    fn top_p_and_min_p_keep_a_beginning() {
        let weights = [1.0f32, 0.5, 0.25, 0.25];
        let kept = |top_p, min_p| kept_count(&weights, top_p, min_p);
        assert_eq!(kept(1.0, 0.0), 4);
        assert_eq!(kept(0.5, 0.0), 1);
        assert_eq!(kept(0.51, 0.0), 2);
        assert_eq!(kept(0.0, 0.0), 1);
        assert_eq!(kept(1.0, 0.3), 2);
        assert_eq!(kept(1.0, 1.0), 1);
    }
}
