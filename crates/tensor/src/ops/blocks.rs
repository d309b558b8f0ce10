//! A row of logits by blocks: the greatest logit of each, and the sum of its weights e^((logit − greatest) · scale). A sampler finds
//! by them what it may draw, and need not look at the other blocks again; a block stays in the first-level cache for both.
//!
//! The weights of a block have 64 partial sums, dealt as in `rms_norm`, each with a relative error of 1.3·10⁻⁷; the sum adds at most
//! 10·6·10⁻⁸.

use super::exponential::{exponential, exponential_of_one};
use crate::SimdLevel;
use crate::lanes::{LANES, LaneKernel, Lanes, dispatch, sum_lanes};

/// Logits of a block; the last one may have fewer.
pub const LOGIT_BLOCK: usize = 256;

/// Groups of lanes among which the weights are dealt.
const GROUPS: usize = 4;

/// Writes the greatest logit of every block into `greatest` [number of blocks]. Returns whether a logit is NaN or +∞.
///
/// # Panics
/// If `greatest` has another length.
pub fn greatest_of_blocks(simd: SimdLevel, logits: &[f32], greatest: &mut [f32]) -> bool {
    assert_eq!(greatest.len(), logits.len().div_ceil(LOGIT_BLOCK), "one greatest logit for each block");
    dispatch(simd, Greatest { logits, greatest })
}

/// As [`greatest_of_blocks`], and writes Σ e^((logit − greatest of the block) · scale) of every block into `sums` [number of blocks]:
/// 0 for a block of −∞ only.
///
/// # Panics
/// If `greatest` or `sums` has another length.
pub fn weights_of_blocks(
    simd: SimdLevel,
    logits: &[f32],
    scale: f32,
    greatest: &mut [f32],
    sums: &mut [f32],
) -> bool {
    let blocks = logits.len().div_ceil(LOGIT_BLOCK);
    assert_eq!(
        (greatest.len(), sums.len()),
        (blocks, blocks),
        "one greatest logit and one sum for each block"
    );
    dispatch(simd, Weights { logits, scale, greatest, sums })
}

/// Overwrites every logit with e^((logit − greatest) · scale), as [`weights_of_blocks`] computes it.
pub fn logit_weights(simd: SimdLevel, logits: &mut [f32], greatest: f32, scale: f32) {
    dispatch(simd, WeightOfEach { logits, greatest, scale });
}

struct WeightOfEach<'a> {
    logits: &'a mut [f32],
    greatest: f32,
    scale: f32,
}

impl LaneKernel for WeightOfEach<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (negated, scale) = (lanes.splat(-self.greatest), lanes.splat(self.scale));
        let (chunks, tail) = self.logits.as_chunks_mut::<LANES>();
        for chunk in chunks {
            lanes.store(weights(lanes, chunk, negated, scale), chunk);
        }
        if !tail.is_empty() {
            lanes.store_head(weights(lanes, &padded(tail), negated, scale), tail);
        }
    }

    fn reference(self) {
        for logit in self.logits {
            *logit = logit_weight(*logit, self.greatest, self.scale);
        }
    }
}

fn logit_weight(logit: f32, greatest: f32, scale: f32) -> f32 {
    exponential_of_one((logit - greatest) * scale)
}

struct Greatest<'a> {
    logits: &'a [f32],
    greatest: &'a mut [f32],
}

impl LaneKernel for Greatest<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let mut broken = lanes.splat(0.0);
        for (block, greatest) in self.logits.chunks(LOGIT_BLOCK).zip(self.greatest) {
            *greatest = greatest_of(lanes, block, &mut broken);
        }
        lanes.sum(broken) > 0.0
    }

    fn reference(self) -> bool {
        for (block, greatest) in self.logits.chunks(LOGIT_BLOCK).zip(self.greatest) {
            *greatest = greatest_of_one(block);
        }
        self.logits.iter().any(is_broken)
    }
}

struct Weights<'a> {
    logits: &'a [f32],
    scale: f32,
    greatest: &'a mut [f32],
    sums: &'a mut [f32],
}

impl LaneKernel for Weights<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let mut broken = lanes.splat(0.0);
        let blocks = self.logits.chunks(LOGIT_BLOCK);
        for ((block, greatest), sum) in blocks.zip(self.greatest).zip(self.sums) {
            *greatest = greatest_of(lanes, block, &mut broken);
            *sum = match *greatest == f32::NEG_INFINITY {
                true => 0.0,
                false => sum_of(lanes, block, *greatest, self.scale),
            };
        }
        lanes.sum(broken) > 0.0
    }

    fn reference(self) -> bool {
        let blocks = self.logits.chunks(LOGIT_BLOCK);
        for ((block, greatest), sum) in blocks.zip(self.greatest).zip(self.sums) {
            *greatest = greatest_of_one(block);
            *sum = match *greatest == f32::NEG_INFINITY {
                true => 0.0,
                false => sum_of_one(block, *greatest, self.scale),
            };
        }
        self.logits.iter().any(is_broken)
    }
}

fn is_broken(logit: &f32) -> bool {
    logit.is_nan() || *logit == f32::INFINITY
}

/// The greatest logit that is a number; −∞ when there is none. `broken` is above 0 once a logit was NaN or +∞.
#[inline(always)]
fn greatest_of<L: Lanes>(lanes: L, block: &[f32], broken: &mut L::Vector) -> f32 {
    let lowest = lanes.splat(f32::NEG_INFINITY);
    let mut greatest = [lowest; GROUPS];
    let (chunks, tail) = block.as_chunks::<LANES>();
    let (quads, rest) = chunks.as_chunks::<GROUPS>();
    for quad in quads {
        for (greatest, chunk) in greatest.iter_mut().zip(quad) {
            compare(lanes, greatest, broken, chunk);
        }
    }
    for chunk in rest {
        compare(lanes, &mut greatest[0], broken, chunk);
    }
    if !tail.is_empty() {
        compare(lanes, &mut greatest[0], broken, &padded(tail));
    }
    let [a, b, c, d] = greatest;
    lanes.greatest(lanes.at_least(lanes.at_least(a, b), lanes.at_least(c, d)))
}

#[inline(always)]
fn compare<L: Lanes>(lanes: L, greatest: &mut L::Vector, broken: &mut L::Vector, chunk: &[f32; LANES]) {
    let logits = lanes.load(chunk);
    // A logit that is NaN takes the place of the bound, which `at_least` does not return then.
    *greatest = lanes.at_least(logits, *greatest);
    let one_where_broken = lanes.zero_where_less(lanes.splat(1.0), logits, lanes.splat(f32::INFINITY));
    *broken = lanes.add(*broken, one_where_broken);
}

fn greatest_of_one(block: &[f32]) -> f32 {
    block.iter().fold(f32::NEG_INFINITY, |greatest, logit| if *logit > greatest { *logit } else { greatest })
}

#[inline(always)]
fn padded(tail: &[f32]) -> [f32; LANES] {
    let mut padded = [f32::NEG_INFINITY; LANES];
    padded[..tail.len()].copy_from_slice(tail);
    padded
}

#[inline(always)]
fn sum_of<L: Lanes>(lanes: L, block: &[f32], greatest: f32, scale: f32) -> f32 {
    let mut sums = [lanes.splat(0.0); GROUPS];
    let (negated, scale) = (lanes.splat(-greatest), lanes.splat(scale));
    let (chunks, tail) = block.as_chunks::<LANES>();
    let (quads, rest) = chunks.as_chunks::<GROUPS>();
    for quad in quads {
        for (sum, chunk) in sums.iter_mut().zip(quad) {
            *sum = lanes.add(*sum, weights(lanes, chunk, negated, scale));
        }
    }
    for (sum, chunk) in sums.iter_mut().zip(rest) {
        *sum = lanes.add(*sum, weights(lanes, chunk, negated, scale));
    }
    if !tail.is_empty() {
        let sum = &mut sums[rest.len()];
        *sum = lanes.add(*sum, weights(lanes, &padded(tail), negated, scale));
    }
    lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])))
}

#[inline(always)]
fn weights<L: Lanes>(lanes: L, chunk: &[f32; LANES], negated: L::Vector, scale: L::Vector) -> L::Vector {
    exponential(lanes, lanes.mul(lanes.add(lanes.load(chunk), negated), scale))
}

fn sum_of_one(block: &[f32], greatest: f32, scale: f32) -> f32 {
    let mut sums = [[0.0f32; LANES]; GROUPS];
    for (index, logit) in block.iter().enumerate() {
        sums[index / LANES % GROUPS][index % LANES] += logit_weight(*logit, greatest, scale);
    }
    sum_lanes(std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bits of the greatest logits, of the sums and of all weights, and whether a logit is broken.
    fn computed(simd: SimdLevel, logits: &[f32], scale: f32) -> (Vec<u32>, Vec<u32>, Vec<u32>, bool) {
        let blocks = logits.len().div_ceil(LOGIT_BLOCK);
        let (mut greatest, mut sums) = (vec![9.0; blocks], vec![9.0; blocks]);
        let broken = weights_of_blocks(simd, logits, scale, &mut greatest, &mut sums);
        let mut alone = vec![9.0; blocks];
        assert_eq!(greatest_of_blocks(simd, logits, &mut alone), broken);
        assert_eq!(alone, greatest);
        let bits = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
        let mut weights = logits.to_vec();
        logit_weights(simd, &mut weights, greatest[0].max(-30.0), scale);
        (bits(greatest), bits(sums), bits(weights), broken)
    }

    proptest! {
        #[test]
        fn all_levels_equal_the_reference(
            logits in proptest::collection::vec(prop_oneof![20 => -30.0f32..30.0, 1 => Just(f32::NEG_INFINITY)], 1..1500),
            scale in prop_oneof![0.2f32..20.0, Just(1e30f32)],
        ) {
            let expected = computed(SimdLevel::Scalar, &logits, scale);
            for simd in SimdLevel::available() {
                prop_assert_eq!(&computed(simd, &logits, scale), &expected, "{}", simd);
            }
            for (block, (greatest, sum)) in logits.chunks(LOGIT_BLOCK).zip(expected.0.iter().zip(&expected.1)) {
                let (greatest, sum) = (f64::from(f32::from_bits(*greatest)), f64::from(f32::from_bits(*sum)));
                let exact: f64 = match greatest == f64::NEG_INFINITY {
                    true => 0.0,
                    false => block.iter().map(|&logit| ((f64::from(logit) - greatest) * f64::from(scale)).exp()).sum(),
                };
                prop_assert!((sum - exact).abs() <= 1e-5 * exact, "{sum}, exactly {exact}");
            }
        }
    }

    #[test]
    fn broken_logits_are_noticed_wherever_they_stand() {
        for simd in SimdLevel::available() {
            for at in [0, 17, 255, 256, 300, 511, 512, 519] {
                for value in [f32::NAN, f32::INFINITY] {
                    let mut logits = vec![0.5f32; 520];
                    logits[at] = value;
                    assert!(computed(simd, &logits, 1.0).3, "{simd}: {value} at {at}");
                }
            }
            assert!(!computed(simd, &[f32::NEG_INFINITY; 520], 1.0).3);
        }
    }
}
