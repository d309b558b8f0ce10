//! Gated units (Shazeer 2020, "GLU Variants Improve Transformer"): activation(gate) · up. With silu(x) = x / (1 + e⁻ˣ) it is SwiGLU, with
//! GELU GEGLU.

use super::exponential::{exponential, exponential_of_one};
use super::gelu_tanh::GeluTanh;
use crate::GateActivation;
use crate::lanes::{LANES, LaneKernel, Lanes};

/// A function of a gate, in lanes and one number at a time with the same bits.
pub(super) trait Activation {
    fn value<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector;

    /// The function and its derivative.
    fn value_and_slope<L: Lanes>(lanes: L, x: L::Vector) -> (L::Vector, L::Vector);

    fn value_of_one(x: f32) -> f32;

    fn value_and_slope_of_one(x: f32) -> (f32, f32);
}

/// Overwrites every `gate` with `activation(gate) · up`. Both have the same length.
pub(crate) struct Gated<'a> {
    pub(crate) activation: GateActivation,
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a [f32],
}

impl LaneKernel for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match self.activation {
            GateActivation::Silu => gate_all::<L, Silu>(lanes, self.gate, self.up),
            GateActivation::GeluTanh => gate_all::<L, GeluTanh>(lanes, self.gate, self.up),
        }
    }

    fn reference(self) {
        let activation: fn(f32) -> f32 = match self.activation {
            GateActivation::Silu => Silu::value_of_one,
            GateActivation::GeluTanh => GeluTanh::value_of_one,
        };
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            *gate = activation(*gate) * up;
        }
    }
}

#[inline(always)]
fn gate_all<L: Lanes, A: Activation>(lanes: L, gate: &mut [f32], up: &[f32]) {
    let (gates, gate_tail) = gate.as_chunks_mut::<LANES>();
    let (ups, up_tail) = up.as_chunks::<LANES>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        let activated = A::value(lanes, lanes.load(gate));
        lanes.store(lanes.mul(activated, lanes.load(up)), gate);
    }
    if !gate_tail.is_empty() {
        let activated = A::value(lanes, lanes.load_head(gate_tail));
        lanes.store_head(lanes.mul(activated, lanes.load_head(up_tail)), gate_tail);
    }
}

/// The derivatives of [`Gated`]: with the derivative g of the loss by the result, every `up` becomes `g · activation(gate)`, and every
/// `gate` `g · up · activation′(gate)`. All have the same length.
pub(crate) struct GatedGradient<'a> {
    pub(crate) activation: GateActivation,
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a mut [f32],
    /// g.
    pub(crate) gradient: &'a [f32],
}

impl LaneKernel for GatedGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { activation, gate, up, gradient } = self;
        match activation {
            GateActivation::Silu => gradient_of_all::<L, Silu>(lanes, gate, up, gradient),
            GateActivation::GeluTanh => gradient_of_all::<L, GeluTanh>(lanes, gate, up, gradient),
        }
    }

    fn reference(self) {
        let activation: fn(f32) -> (f32, f32) = match self.activation {
            GateActivation::Silu => Silu::value_and_slope_of_one,
            GateActivation::GeluTanh => GeluTanh::value_and_slope_of_one,
        };
        for ((gate, up), gradient) in self.gate.iter_mut().zip(self.up).zip(self.gradient) {
            let (value, slope) = activation(*gate);
            (*gate, *up) = (gradient * *up * slope, gradient * value);
        }
    }
}

#[inline(always)]
fn gradient_of_all<L: Lanes, A: Activation>(lanes: L, gate: &mut [f32], up: &mut [f32], gradient: &[f32]) {
    let (gates, gate_tail) = gate.as_chunks_mut::<LANES>();
    let (ups, up_tail) = up.as_chunks_mut::<LANES>();
    let (gradients, gradient_tail) = gradient.as_chunks::<LANES>();
    for ((gate, up), gradient) in gates.iter_mut().zip(ups).zip(gradients) {
        let operands = [lanes.load(gate), lanes.load(up), lanes.load(gradient)];
        let (of_gate, of_up) = derivatives::<L, A>(lanes, operands);
        lanes.store(of_gate, gate);
        lanes.store(of_up, up);
    }
    if !gate_tail.is_empty() {
        let operands = [lanes.load_head(gate_tail), lanes.load_head(up_tail), lanes.load_head(gradient_tail)];
        let (of_gate, of_up) = derivatives::<L, A>(lanes, operands);
        lanes.store_head(of_gate, gate_tail);
        lanes.store_head(of_up, up_tail);
    }
}

#[inline(always)]
fn derivatives<L: Lanes, A: Activation>(
    lanes: L,
    [gate, up, gradient]: [L::Vector; 3],
) -> (L::Vector, L::Vector) {
    let (value, slope) = A::value_and_slope(lanes, gate);
    (lanes.mul(lanes.mul(gradient, up), slope), lanes.mul(gradient, value))
}

/// silu(x) = x · σ with σ = 1 / (1 + e⁻ˣ), whose derivative is σ + x · σ · (1 − σ).
struct Silu;

impl Activation for Silu {
    #[inline(always)]
    fn value<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
        let negated = lanes.mul(x, lanes.splat(-1.0));
        lanes.div(x, lanes.add(lanes.splat(1.0), exponential(lanes, negated)))
    }

    #[inline(always)]
    fn value_and_slope<L: Lanes>(lanes: L, x: L::Vector) -> (L::Vector, L::Vector) {
        let (one, minus_one) = (lanes.splat(1.0), lanes.splat(-1.0));
        let sigma = lanes.div(one, lanes.add(one, exponential(lanes, lanes.mul(x, minus_one))));
        let silu = lanes.mul(x, sigma);
        (silu, lanes.fma(silu, lanes.add(lanes.mul(sigma, minus_one), one), sigma))
    }

    fn value_of_one(x: f32) -> f32 {
        x / (1.0 + exponential_of_one(-x))
    }

    fn value_and_slope_of_one(x: f32) -> (f32, f32) {
        let sigma = 1.0 / (1.0 + exponential_of_one(-x));
        let silu = x * sigma;
        (silu, silu.mul_add(1.0 - sigma, sigma))
    }
}
