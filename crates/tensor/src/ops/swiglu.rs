//! SwiGLU (Shazeer 2020): silu(gate) · up, with silu(x) = x / (1 + e⁻ˣ).

use super::exponential::{exponential, exponential_of_one};
use crate::lanes::{LANES, LaneKernel, Lanes};

/// Overwrites every `gate` with `silu(gate) · up`. Both have the same length.
pub(crate) struct SwiGlu<'a> {
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a [f32],
}

impl LaneKernel for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (gates, gate_tail) = self.gate.as_chunks_mut::<LANES>();
        let (ups, up_tail) = self.up.as_chunks::<LANES>();
        for (gate, up) in gates.iter_mut().zip(ups) {
            let result = swiglu(lanes, lanes.load(gate), lanes.load(up));
            lanes.store(result, gate);
        }
        if !gate_tail.is_empty() {
            let result = swiglu(lanes, lanes.load_head(gate_tail), lanes.load_head(up_tail));
            lanes.store_head(result, gate_tail);
        }
    }

    fn reference(self) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            *gate = *gate / (1.0 + exponential_of_one(*gate * -1.0)) * up;
        }
    }
}

/// The derivatives of [`SwiGlu`]: with σ = 1 / (1 + e⁻ᵍᵃᵗᵉ) and the derivative g of the loss by the result, every `up` becomes
/// `g · gate · σ`, and every `gate` `g · up · (σ + gate · σ · (1 − σ))`. All have the same length.
pub(crate) struct SwiGluGradient<'a> {
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a mut [f32],
    /// g.
    pub(crate) gradient: &'a [f32],
}

impl LaneKernel for SwiGluGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (gates, gate_tail) = self.gate.as_chunks_mut::<LANES>();
        let (ups, up_tail) = self.up.as_chunks_mut::<LANES>();
        let (gradients, gradient_tail) = self.gradient.as_chunks::<LANES>();
        for ((gate, up), gradient) in gates.iter_mut().zip(ups).zip(gradients) {
            let results = swiglu_gradient(lanes, lanes.load(gate), lanes.load(up), lanes.load(gradient));
            lanes.store(results.0, gate);
            lanes.store(results.1, up);
        }
        if !gate_tail.is_empty() {
            let gradient = lanes.load_head(gradient_tail);
            let results =
                swiglu_gradient(lanes, lanes.load_head(gate_tail), lanes.load_head(up_tail), gradient);
            lanes.store_head(results.0, gate_tail);
            lanes.store_head(results.1, up_tail);
        }
    }

    fn reference(self) {
        for ((gate, up), gradient) in self.gate.iter_mut().zip(self.up).zip(self.gradient) {
            let sigma = 1.0 / (1.0 + exponential_of_one(*gate * -1.0));
            let silu = *gate * sigma;
            let slope = silu.mul_add(1.0 - sigma, sigma);
            (*gate, *up) = (gradient * *up * slope, gradient * silu);
        }
    }
}

#[inline(always)]
fn swiglu_gradient<L: Lanes>(
    lanes: L,
    gate: L::Vector,
    up: L::Vector,
    gradient: L::Vector,
) -> (L::Vector, L::Vector) {
    let (one, minus_one) = (lanes.splat(1.0), lanes.splat(-1.0));
    let sigma = lanes.div(one, lanes.add(one, exponential(lanes, lanes.mul(gate, minus_one))));
    let silu = lanes.mul(gate, sigma);
    let slope = lanes.fma(silu, lanes.add(lanes.mul(sigma, minus_one), one), sigma);
    (lanes.mul(lanes.mul(gradient, up), slope), lanes.mul(gradient, silu))
}

#[inline(always)]
fn swiglu<L: Lanes>(lanes: L, gate: L::Vector, up: L::Vector) -> L::Vector {
    let negated = lanes.mul(gate, lanes.splat(-1.0));
    let divisor = lanes.add(lanes.splat(1.0), exponential(lanes, negated));
    lanes.mul(lanes.div(gate, divisor), up)
}
