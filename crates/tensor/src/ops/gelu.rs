//! GELU (Hendrycks & Gimpel 2016): x · Φ(x), with the normal distribution function Φ(x) = ½ · erfc(−x / √2), not an approximation by tanh.
//!
//! It is computed as max(x, 0) − |x| · ½ · erfc(|x| / √2), with erfc(z) = t · e^(−z² + polynomial(t)), t = 1 / (1 + z/2): the Chebyshev
//! fit of Press et al., "Numerical Recipes", whose relative error is at most 1.2·10⁻⁷ for every z ≥ 0. Infinite numbers give NaN.

use std::f32::consts::FRAC_1_SQRT_2;

use super::exponential::{exponential, exponential_of_one};
use crate::lanes::{LANES, LaneKernel, Lanes};

/// Coefficients of t⁹ … t⁰.
const COEFFICIENTS: [f32; 10] = [
    0.170_872_77,
    -0.822_152_23,
    1.488_515_9,
    -1.135_204,
    0.278_868_07,
    -0.186_288_06,
    0.096_784_18,
    0.374_091_96,
    1.000_023_7,
    -1.265_512_2,
];

/// Overwrites every value with its GELU.
pub(crate) struct Gelu<'a> {
    pub(crate) values: &'a mut [f32],
}

impl LaneKernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (values, tail) = self.values.as_chunks_mut::<LANES>();
        for values in values {
            let result = gelu(lanes, lanes.load(values));
            lanes.store(result, values);
        }
        if !tail.is_empty() {
            let result = gelu(lanes, lanes.load_head(tail));
            lanes.store_head(result, tail);
        }
    }

    fn reference(self) {
        for value in self.values {
            *value = gelu_of_one(*value);
        }
    }
}

#[inline(always)]
fn gelu<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
    let magnitude = lanes.at_least(lanes.mul(x, lanes.splat(-1.0)), x);
    let z = lanes.mul(magnitude, lanes.splat(FRAC_1_SQRT_2));
    let half = lanes.div(lanes.splat(1.0), lanes.add(lanes.splat(2.0), z));
    let t = lanes.add(half, half);
    let mut polynomial = lanes.splat(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        polynomial = lanes.fma(polynomial, t, lanes.splat(*coefficient));
    }
    let negated = lanes.mul(z, lanes.splat(-1.0));
    let tail = lanes.mul(half, exponential(lanes, lanes.fma(negated, z, polynomial)));
    let positive = lanes.at_least(lanes.splat(0.0), x);
    lanes.fma(lanes.mul(magnitude, lanes.splat(-1.0)), tail, positive)
}

/// GELU of one number, the definition of the lanes' version.
fn gelu_of_one(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let magnitude = x.abs();
    let z = magnitude * FRAC_1_SQRT_2;
    let half = 1.0 / (2.0 + z);
    let t = half + half;
    let mut polynomial = COEFFICIENTS[0];
    for coefficient in &COEFFICIENTS[1..] {
        polynomial = polynomial.mul_add(t, *coefficient);
    }
    let tail = half * exponential_of_one((-z).mul_add(z, polynomial));
    let positive = if x > 0.0 { x } else { 0.0 };
    (-magnitude).mul_add(tail, positive)
}
