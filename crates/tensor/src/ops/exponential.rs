//! eˣ, the one transcendental function that softmax and the activations need, in lanes and one at a time with the same bits.
//!
//! Cephes' `expf`: x = n·ln 2 + r with |r| ≤ ½·ln 2, a polynomial of degree 6 in r, times 2ⁿ.
//! Relative error at most 1.3·10⁻⁷ (about one unit in the last place) from −87.33 to 88.37. Below that range the
//! result is 0, above it the value at its end (2.39·10³⁸); NaN stays NaN.

use crate::lanes::Lanes;

/// Below it eˣ is not a normal f32; the result is 0.
pub(super) const LOWEST: f32 = -87.336_54;
/// Above it eˣ comes too near to f32's greatest number; the argument is cut to it.
const HIGHEST: f32 = 88.37;
/// ln 2 in two parts, the first with zeros at its end, so that n·LN2_HIGH is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of r⁶ … r² of the polynomial.
const COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// eˣ in every lane.
#[inline(always)]
pub(crate) fn exponential<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
    let lowest = lanes.splat(LOWEST);
    let inside = lanes.at_most(lanes.splat(HIGHEST), lanes.at_least(lowest, x));
    let n = lanes.round(lanes.mul(inside, lanes.splat(std::f32::consts::LOG2_E)));
    let r = lanes.fma(n, lanes.splat(-LN2_HIGH), inside);
    let r = lanes.fma(n, lanes.splat(-LN2_LOW), r);
    let mut polynomial = lanes.splat(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        polynomial = lanes.fma(polynomial, r, lanes.splat(*coefficient));
    }
    let result = lanes.fma(polynomial, lanes.mul(r, r), lanes.add(r, lanes.splat(1.0)));
    lanes.zero_where_less(lanes.times_power_of_two(result, n), x, lowest)
}

/// eˣ of one number, the definition of [`exponential`].
#[inline]
pub(crate) fn exponential_of_one(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    if x < LOWEST {
        return 0.0;
    }
    let inside = x.min(HIGHEST);
    let n = (inside * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, inside));
    let mut polynomial = COEFFICIENTS[0];
    for coefficient in &COEFFICIENTS[1..] {
        polynomial = polynomial.mul_add(r, *coefficient);
    }
    let result = polynomial.mul_add(r * r, r + 1.0);
    result * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimdLevel;
    use crate::lanes::{LANES, LaneKernel, dispatch};

    struct Exponentials([f32; LANES]);

    impl LaneKernel for Exponentials {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            lanes.store(exponential(lanes, lanes.load(&self.0)), &mut out);
            out
        }

        fn reference(self) -> [f32; LANES] {
            self.0.map(exponential_of_one)
        }
    }

    #[test]
    fn relative_error_is_below_the_stated_bound() {
        let mut worst = 0.0f64;
        for step in 0..2_000_000 {
            let x = (-87.33 + 175.7 * f64::from(step) / 2e6) as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exponential_of_one(x)) - exact).abs() / exact);
        }
        assert!(worst <= 1.3e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(exponential_of_one(0.0), 1.0);
        assert_eq!(exponential_of_one(f32::NEG_INFINITY), 0.0);
        assert_eq!(exponential_of_one(-200.0), 0.0);
        assert!(exponential_of_one(f32::INFINITY).is_finite());
        assert!(exponential_of_one(f32::NAN).is_nan());
    }

    #[test]
    fn every_level_has_the_bits_of_the_reference() {
        let special = [f32::NEG_INFINITY, LOWEST, HIGHEST, f32::INFINITY, -0.0, 1e-40, -87.4, 88.5];
        let values = |step: i32| -> [f32; LANES] {
            std::array::from_fn(|lane| match step {
                0 => special[lane % special.len()],
                _ => (-90.0 + 0.018 * f64::from(step) + 0.001 * lane as f64) as f32,
            })
        };
        for simd in SimdLevel::available() {
            for step in 0..10_000 {
                let bits = |out: [f32; LANES]| out.map(f32::to_bits);
                let expected = Exponentials(values(step)).reference();
                assert_eq!(bits(dispatch(simd, Exponentials(values(step)))), bits(expected), "{simd} {step}");
            }
            assert!(dispatch(simd, Exponentials([f32::NAN; LANES])).iter().all(|value| value.is_nan()));
        }
    }
}
