//! Softmax and its logarithm over one row of logits.
//!
//! ln Σ e^logit is summed in parts of [`LogSumExp::PART`] logits, so that a row can come piece by piece and is read from
//! memory once. In a part, the exponentials of `logit − greatest of the part` have 64 partial sums, dealt as in `rms_norm`;
//! the parts' sums are brought to the greatest logit so far and added in f64, in ascending order (the online normaliser of
//! Milakov & Gimelshein 2018, arXiv 1805.02867, by parts). So the bits depend on the row alone.
//! Each exponential has a relative error of 1.3·10⁻⁷, the sum of a part at most 22·6·10⁻⁸ on top.

use super::exponential::{exponential, exponential_of_one};
use crate::SimdLevel;
use crate::lanes::{LANES, LaneKernel, Lanes, dispatch, sum_lanes};

/// Groups of lanes among which the exponentials are dealt.
const GROUPS: usize = 4;

/// ln Σ e^logit over a row that comes in pieces: the one formula by which logits become log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSumExp {
    /// What logits are multiplied with first.
    inverse_temperature: f32,
    greatest: f32,
    /// Σ e^(logit − greatest); NaN once a logit was NaN or +∞.
    sum: f64,
}

impl Default for LogSumExp {
    fn default() -> LogSumExp {
        LogSumExp::at_temperature(1.0)
    }
}

impl LogSumExp {
    /// Logits that are summed together. All pieces but a row's last have a multiple of it.
    pub const PART: usize = 1024;

    /// Of nothing yet, for logits that are divided by `temperature`, which is greater than 0: multiplied with its inverse, in f32.
    pub fn at_temperature(temperature: f32) -> LogSumExp {
        LogSumExp { inverse_temperature: temperature.recip(), greatest: f32::NEG_INFINITY, sum: 0.0 }
    }

    /// The inverse of the temperature.
    pub(crate) fn inverse_temperature(&self) -> f32 {
        self.inverse_temperature
    }

    /// Takes in the row's next logits.
    pub fn add(&mut self, simd: SimdLevel, logits: &[f32]) {
        let inverse = self.inverse_temperature;
        if inverse == 1.0 {
            return dispatch(simd, AddParts { total: self, logits });
        }
        let mut scaled = [0.0; LogSumExp::PART];
        for part in logits.chunks(LogSumExp::PART) {
            let scaled = &mut scaled[..part.len()];
            scaled.iter_mut().zip(part).for_each(|(scaled, logit)| *scaled = logit * inverse);
            dispatch(simd, AddParts { total: self, logits: scaled });
        }
    }

    /// ln Σ e^(logit / temperature) of what was taken in: −∞ for nothing, or for nothing but −∞; NaN when a logit is NaN or +∞.
    pub fn value(&self) -> f64 {
        f64::from(self.greatest) + self.sum.ln()
    }

    /// The natural logarithm of the probability of the outcome with this logit: `logit / temperature − ln Σ e^(logit / temperature)`,
    /// the difference computed in f64 and rounded once.
    pub fn log_probability(&self, logit: f32) -> f32 {
        (f64::from(logit * self.inverse_temperature) - self.value()) as f32
    }

    /// True when a logit was NaN or +∞.
    pub fn is_broken(&self) -> bool {
        self.sum.is_nan()
    }

    /// Takes in a part whose greatest logit and sum relative to it are given.
    #[inline(always)]
    fn merge(&mut self, greatest: f32, sum: f32) {
        let sum = f64::from(sum);
        if greatest > self.greatest {
            self.sum = self.sum * f64::from(exponential_of_one(self.greatest - greatest)) + sum;
            self.greatest = greatest;
        } else if greatest > f32::NEG_INFINITY {
            self.sum += sum * f64::from(exponential_of_one(greatest - self.greatest));
        } else {
            self.sum += sum;
        }
    }
}

/// ln Σ e^logit of a row, the number to subtract from a logit for its log-probability; see [`LogSumExp::value`].
pub fn log_sum_exp(simd: SimdLevel, logits: &[f32]) -> LogSumExp {
    let mut total = LogSumExp::default();
    total.add(simd, logits);
    total
}

/// Overwrites every logit of a row with its log-probability, [`LogSumExp::log_probability`].
pub fn log_softmax(simd: SimdLevel, logits: &mut [f32]) {
    let value = log_sum_exp(simd, logits).value();
    for logit in logits {
        *logit = (f64::from(*logit) - value) as f32;
    }
}

/// Overwrites every logit of a row with its probability times `factor`, given ln Σ e^logit: the derivative of
/// `factor · ln Σ e^logit` by the logits.
pub(crate) fn scaled_probabilities(simd: SimdLevel, logits: &mut [f32], log_sum_exp: f32, factor: f32) {
    dispatch(simd, Exponentials { logits, greatest: log_sum_exp, factor });
}

struct AddParts<'a> {
    total: &'a mut LogSumExp,
    logits: &'a [f32],
}

/// The sum of a part without any logit above −∞: 0, or NaN when there is a NaN.
fn sum_without_greatest(part: &[f32]) -> f32 {
    if part.iter().any(|logit| logit.is_nan()) { f32::NAN } else { 0.0 }
}

impl LaneKernel for AddParts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for part in self.logits.chunks(LogSumExp::PART) {
            let greatest = Greatest { logits: part }.run(lanes);
            let sum = if greatest == f32::NEG_INFINITY {
                sum_without_greatest(part)
            } else {
                SumOfExponentials { logits: part, greatest }.run(lanes)
            };
            self.total.merge(greatest, sum);
        }
    }

    fn reference(self) {
        for part in self.logits.chunks(LogSumExp::PART) {
            let greatest = Greatest { logits: part }.reference();
            let sum = if greatest == f32::NEG_INFINITY {
                sum_without_greatest(part)
            } else {
                SumOfExponentials { logits: part, greatest }.reference()
            };
            self.total.merge(greatest, sum);
        }
    }
}

/// Overwrites every logit of a row with its probability. A row of only −∞ becomes NaN: it has no probabilities.
pub fn softmax(simd: SimdLevel, logits: &mut [f32]) {
    let greatest = dispatch(simd, Greatest { logits });
    let sum = dispatch(simd, SumOfExponentials { logits, greatest });
    dispatch(simd, Exponentials { logits, greatest, factor: 1.0 / sum });
}

/// The greatest logit that is a number; −∞ when there is none.
struct Greatest<'a> {
    logits: &'a [f32],
}

impl LaneKernel for Greatest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let lowest = lanes.splat(f32::NEG_INFINITY);
        let mut greatest = [lowest; GROUPS];
        let (chunks, tail) = self.logits.as_chunks::<LANES>();
        let (quads, rest) = chunks.as_chunks::<GROUPS>();
        for quad in quads {
            for (greatest, chunk) in greatest.iter_mut().zip(quad) {
                // A logit that is NaN takes the place of the bound, which `at_least` does not return then.
                *greatest = lanes.at_least(lanes.load(chunk), *greatest);
            }
        }
        for chunk in rest {
            greatest[0] = lanes.at_least(lanes.load(chunk), greatest[0]);
        }
        let [a, b, c, d] = greatest;
        let of_lanes = lanes.greatest(lanes.at_least(lanes.at_least(a, b), lanes.at_least(c, d)));
        tail.iter().fold(of_lanes, |greatest, logit| if *logit > greatest { *logit } else { greatest })
    }

    fn reference(self) -> f32 {
        let larger = |greatest: f32, logit: &f32| if *logit > greatest { *logit } else { greatest };
        self.logits.iter().fold(f32::NEG_INFINITY, larger)
    }
}

struct SumOfExponentials<'a> {
    logits: &'a [f32],
    greatest: f32,
}

impl LaneKernel for SumOfExponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let mut sums = [lanes.splat(0.0); GROUPS];
        let negated = lanes.splat(-self.greatest);
        let (chunks, tail) = self.logits.as_chunks::<LANES>();
        let (quads, rest) = chunks.as_chunks::<GROUPS>();
        for quad in quads {
            for (sum, chunk) in sums.iter_mut().zip(quad) {
                *sum = lanes.add(*sum, exponential(lanes, lanes.add(lanes.load(chunk), negated)));
            }
        }
        for (sum, chunk) in sums.iter_mut().zip(rest) {
            *sum = lanes.add(*sum, exponential(lanes, lanes.add(lanes.load(chunk), negated)));
        }
        if !tail.is_empty() {
            let mut padded = [f32::NEG_INFINITY; LANES];
            padded[..tail.len()].copy_from_slice(tail);
            let sum = &mut sums[rest.len()];
            *sum = lanes.add(*sum, exponential(lanes, lanes.add(lanes.load(&padded), negated)));
        }
        lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])))
    }

    fn reference(self) -> f32 {
        let mut sums = [[0.0f32; LANES]; GROUPS];
        for (index, logit) in self.logits.iter().enumerate() {
            sums[index / LANES % GROUPS][index % LANES] += exponential_of_one(logit - self.greatest);
        }
        sum_lanes(std::array::from_fn(|lane| {
            (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane])
        }))
    }
}

struct Exponentials<'a> {
    logits: &'a mut [f32],
    greatest: f32,
    factor: f32,
}

impl LaneKernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (negated, factor) = (lanes.splat(-self.greatest), lanes.splat(self.factor));
        let (chunks, tail) = self.logits.as_chunks_mut::<LANES>();
        for chunk in chunks {
            let power = exponential(lanes, lanes.add(lanes.load(chunk), negated));
            lanes.store(lanes.mul(power, factor), chunk);
        }
        if !tail.is_empty() {
            let power = exponential(lanes, lanes.add(lanes.load_head(tail), negated));
            lanes.store_head(lanes.mul(power, factor), tail);
        }
    }

    fn reference(self) {
        for logit in self.logits {
            *logit = exponential_of_one(*logit - self.greatest) * self.factor;
        }
    }
}
