//! Outputs of a projection that are multiplied with factors of their own and get an addend: what magnitudes (Liu et al. 2024, "DoRA",
//! arXiv 2402.09353) and biases of an adapter do to some rows.

use crate::lanes::{LANES, LaneKernel, Lanes};

/// `out = out · factor + shift` for every row of `rows`, with one rounding; an empty vector changes nothing.
pub(crate) struct ChangeOutputs<'a> {
    /// `[rows, outputs]`.
    pub(crate) rows: &'a mut [f32],
    pub(crate) outputs: usize,
    /// `[outputs]`, or empty.
    pub(crate) factors: &'a [f32],
    /// `[outputs]`, or empty.
    pub(crate) shifts: &'a [f32],
}

impl LaneKernel for ChangeOutputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (one, zero) = (lanes.splat(1.0), lanes.splat(0.0));
        for row in self.rows.chunks_exact_mut(self.outputs.max(1)) {
            for (index, out) in row.chunks_mut(LANES).enumerate() {
                let of = |values: &'_ [f32], absent| match values.get(index * LANES..) {
                    Some(rest) if !rest.is_empty() => match rest.as_chunks::<LANES>() {
                        ([first, ..], _) => lanes.load(first),
                        ([], tail) => lanes.load_head(tail),
                    },
                    _ => absent,
                };
                let (factor, shift) = (of(self.factors, one), of(self.shifts, zero));
                match out.as_chunks_mut::<LANES>() {
                    ([whole], _) => lanes.store(lanes.fma(lanes.load(whole), factor, shift), whole),
                    (_, tail) => lanes.store_head(lanes.fma(lanes.load_head(tail), factor, shift), tail),
                }
            }
        }
    }

    fn reference(self) {
        for row in self.rows.chunks_exact_mut(self.outputs.max(1)) {
            for (index, out) in row.iter_mut().enumerate() {
                let factor = self.factors.get(index).copied().unwrap_or(1.0);
                *out = out.mul_add(factor, self.shifts.get(index).copied().unwrap_or(0.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimdLevel;
    use crate::lanes::dispatch;

    #[test]
    fn every_level_has_the_bits_of_the_reference() {
        const ROWS: usize = 3;
        for outputs in [1, 15, 16, 17, 40] {
            let values = |count: usize, seed: usize| -> Vec<f32> {
                (0..count).map(|index| ((index * 37 + seed * 11) % 101) as f32 / 7.0 - 6.0).collect()
            };
            let (before, factors, shifts) =
                (values(ROWS * outputs, 1), values(outputs, 2), values(outputs, 3));
            for (factors, shifts) in [
                (&factors[..], &shifts[..]),
                (&factors[..], &[][..]),
                (&[][..], &shifts[..]),
                (&[][..], &[][..]),
            ] {
                let mut expected = before.clone();
                ChangeOutputs { rows: &mut expected, outputs, factors, shifts }.reference();
                let first = before[0] * factors.first().unwrap_or(&1.0) + shifts.first().unwrap_or(&0.0);
                assert!((expected[0] - first).abs() <= 1e-5 * first.abs().max(1.0));
                for simd in SimdLevel::available() {
                    let mut rows = before.clone();
                    dispatch(simd, ChangeOutputs { rows: &mut rows, outputs, factors, shifts });
                    assert_eq!(rows, expected, "{simd}, {outputs}");
                }
            }
        }
    }
}
