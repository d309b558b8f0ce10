//! RMSNorm (Zhang & Sennrich 2019): y = x / √(mean(x²) + ε) · weight, row by row.
//!
//! The sum of squares has 64 partial sums: element i goes to partial sum i mod 64, in ascending order;
//! then the four groups of sixteen are added as (0+1)+(2+3) and the sixteen lanes as in `lanes`.

use crate::lanes::{LANES, LaneKernel, Lanes, sum_lanes};

/// Groups of lanes among which the squares are dealt.
const GROUPS: usize = 4;

/// Normalises every row of `rows` (width `weight.len()`) into `out` of the same shape.
pub(crate) struct RmsNorm<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) out: &'a mut [f32],
}

impl LaneKernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.weight.len().max(1);
        for (row, out) in self.rows.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let scale = inverse_root(sum_of_squares(lanes, row), width, self.epsilon);
            scale_row(lanes, row, scale, self.weight, out);
        }
    }

    fn reference(self) {
        let width = self.weight.len().max(1);
        for (row, out) in self.rows.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let mut sums = [[0.0f32; LANES]; GROUPS];
            for (index, value) in row.iter().enumerate() {
                let sum = &mut sums[index / LANES % GROUPS][index % LANES];
                *sum = value.mul_add(*value, *sum);
            }
            let lanes =
                std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]));
            let scale = inverse_root(sum_lanes(lanes), width, self.epsilon);
            for ((out, value), weight) in out.iter_mut().zip(row).zip(self.weight) {
                *out = value * scale * weight;
            }
        }
    }
}

#[inline(always)]
fn inverse_root(sum_of_squares: f32, width: usize, epsilon: f32) -> f32 {
    1.0 / (sum_of_squares / width as f32 + epsilon).sqrt()
}

#[inline(always)]
fn sum_of_squares<L: Lanes>(lanes: L, row: &[f32]) -> f32 {
    let mut sums = [lanes.splat(0.0); GROUPS];
    let (chunks, tail) = row.as_chunks::<LANES>();
    let (quads, rest) = chunks.as_chunks::<GROUPS>();
    for quad in quads {
        for (sum, chunk) in sums.iter_mut().zip(quad) {
            let values = lanes.load(chunk);
            *sum = lanes.fma(values, values, *sum);
        }
    }
    for (sum, chunk) in sums.iter_mut().zip(rest) {
        let values = lanes.load(chunk);
        *sum = lanes.fma(values, values, *sum);
    }
    if !tail.is_empty() {
        let values = lanes.load_head(tail);
        let sum = &mut sums[rest.len()];
        *sum = lanes.fma(values, values, *sum);
    }
    lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])))
}

#[inline(always)]
fn scale_row<L: Lanes>(lanes: L, row: &[f32], scale: f32, weight: &[f32], out: &mut [f32]) {
    let scale = lanes.splat(scale);
    let (row, row_tail) = row.as_chunks::<LANES>();
    let (weight, weight_tail) = weight.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for ((row, weight), out) in row.iter().zip(weight).zip(out) {
        lanes.store(lanes.mul(lanes.mul(lanes.load(row), scale), lanes.load(weight)), out);
    }
    if !out_tail.is_empty() {
        let scaled = lanes.mul(lanes.load_head(row_tail), scale);
        lanes.store_head(lanes.mul(scaled, lanes.load_head(weight_tail)), out_tail);
    }
}
