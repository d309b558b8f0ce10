//! Sums of equal shapes (the residual connection) and of rows with one vector (a bias).

use crate::lanes::{LANES, LaneKernel, Lanes};

/// Adds to every row of `rows` (width `addend.len()`) the vector `addend`. For a residual, one row of everything.
pub(crate) struct AddToRows<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) addend: &'a [f32],
}

impl LaneKernel for AddToRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (addends, addend_tail) = self.addend.as_chunks::<LANES>();
        for row in self.rows.chunks_exact_mut(self.addend.len().max(1)) {
            let (sums, sum_tail) = row.as_chunks_mut::<LANES>();
            for (sum, addend) in sums.iter_mut().zip(addends) {
                lanes.store(lanes.add(lanes.load(sum), lanes.load(addend)), sum);
            }
            if !sum_tail.is_empty() {
                let result = lanes.add(lanes.load_head(sum_tail), lanes.load_head(addend_tail));
                lanes.store_head(result, sum_tail);
            }
        }
    }

    fn reference(self) {
        for row in self.rows.chunks_exact_mut(self.addend.len().max(1)) {
            for (sum, addend) in row.iter_mut().zip(self.addend) {
                *sum += addend;
            }
        }
    }
}
