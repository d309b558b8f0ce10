//! GELU as models approximate it by tanh (Hendrycks & Gimpel 2016): ½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).
//!
//! Since 1 + tanh(u) = 2 / (1 + e⁻²ᵘ), it is x · σ with σ = 1 / (1 + e⁻ᵛ) and v = 2u = x · (LINEAR + CUBIC · x²): no tanh is computed, and
//! nothing cancels where it would come near to −1. The relative error is at most 2.5·10⁻⁷ from −1 on; below it grows with v, to 3·10⁻⁶ at −5,
//! where the result is −2·10⁻⁷. Below v = −87.3 (x = −10.0) the result and the derivative are 0. No finite x gives NaN or an infinity.
//!
//! The derivative is σ + x · v′ · σ · (1 − σ), where 1 − σ is e⁻ᵛ · σ. Beyond ±16 σ is 0 or 1, and the derivative is that at ±16: x · v′
//! would overflow.

use super::exponential::{LOWEST, exponential, exponential_of_one};
use super::gated::Activation;
use crate::lanes::Lanes;

/// 2 · √(2/π).
const LINEAR: f32 = 1.595_769_2;
/// 0.044715 · 2 · √(2/π).
const CUBIC: f32 = 0.071_354_814;
/// v′ = LINEAR + CUBIC_SLOPE · x².
const CUBIC_SLOPE: f32 = 0.214_064_45;
/// Where the derivative has been a constant for long.
const FARTHEST: f32 = 16.0;

/// See the head of this file.
pub(super) struct GeluTanh;

/// v.
#[inline(always)]
fn exponent<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
    let square = lanes.mul(x, x);
    lanes.mul(x, lanes.fma(square, lanes.splat(CUBIC), lanes.splat(LINEAR)))
}

/// v of one number.
fn exponent_of_one(x: f32) -> f32 {
    x * (x * x).mul_add(CUBIC, LINEAR)
}

/// See [`Lanes::zero_where_less`].
fn zero_where_less(value: f32, test: f32, bound: f32) -> f32 {
    if test < bound { 0.0 } else { value }
}

impl Activation for GeluTanh {
    #[inline(always)]
    fn value<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
        let v = exponent(lanes, x);
        let growth = exponential(lanes, lanes.mul(v, lanes.splat(-1.0)));
        let value = lanes.div(x, lanes.add(lanes.splat(1.0), growth));
        lanes.zero_where_less(value, v, lanes.splat(LOWEST))
    }

    #[inline(always)]
    fn value_and_slope<L: Lanes>(lanes: L, x: L::Vector) -> (L::Vector, L::Vector) {
        let (one, lowest) = (lanes.splat(1.0), lanes.splat(LOWEST));
        let near = lanes.at_most(lanes.splat(FARTHEST), lanes.at_least(lanes.splat(-FARTHEST), x));
        let v = exponent(lanes, near);
        let growth = exponential(lanes, lanes.mul(v, lanes.splat(-1.0)));
        let sigma = lanes.div(one, lanes.add(one, growth));
        let rest = lanes.mul(growth, sigma);
        let of_exponent = lanes.fma(lanes.mul(near, near), lanes.splat(CUBIC_SLOPE), lanes.splat(LINEAR));
        let slope = lanes.fma(lanes.mul(lanes.mul(near, of_exponent), rest), sigma, sigma);
        let value = lanes.mul(x, sigma);
        (lanes.zero_where_less(value, v, lowest), lanes.zero_where_less(slope, v, lowest))
    }

    fn value_of_one(x: f32) -> f32 {
        let v = exponent_of_one(x);
        zero_where_less(x / (1.0 + exponential_of_one(-v)), v, LOWEST)
    }

    fn value_and_slope_of_one(x: f32) -> (f32, f32) {
        let near = x.clamp(-FARTHEST, FARTHEST);
        let v = exponent_of_one(near);
        let growth = exponential_of_one(-v);
        let sigma = 1.0 / (1.0 + growth);
        let rest = growth * sigma;
        let of_exponent = (near * near).mul_add(CUBIC_SLOPE, LINEAR);
        let slope = (near * of_exponent * rest).mul_add(sigma, sigma);
        (zero_where_less(x * sigma, v, LOWEST), zero_where_less(slope, v, LOWEST))
    }
}
