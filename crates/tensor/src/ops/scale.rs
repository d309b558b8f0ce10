//! Multiplication by one number (the multipliers of some families).

use crate::lanes::{LANES, LaneKernel, Lanes};

/// Multiplies every value with `factor`.
pub(crate) struct Scale<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) factor: f32,
}

impl LaneKernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let factor = lanes.splat(self.factor);
        let (values, tail) = self.values.as_chunks_mut::<LANES>();
        for values in values {
            lanes.store(lanes.mul(lanes.load(values), factor), values);
        }
        if !tail.is_empty() {
            lanes.store_head(lanes.mul(lanes.load_head(tail), factor), tail);
        }
    }

    fn reference(self) {
        for value in self.values {
            *value *= self.factor;
        }
    }
}
