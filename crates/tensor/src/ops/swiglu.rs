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

#[inline(always)]
fn swiglu<L: Lanes>(lanes: L, gate: L::Vector, up: L::Vector) -> L::Vector {
    let negated = lanes.mul(gate, lanes.splat(-1.0));
    let divisor = lanes.add(lanes.splat(1.0), exponential(lanes, negated));
    lanes.mul(lanes.div(gate, divisor), up)
}
