//! RMSNorm (Zhang & Sennrich 2019): y = x / √(mean(x²) + ε) · weight, row by row.
//!
//! The sum of squares has 64 partial sums: element i goes to partial sum i mod 64, in ascending order;
//! then the four groups of sixteen are added as (0+1)+(2+3) and the sixteen lanes as in `lanes`.

use crate::lanes::{LANES, LaneKernel, Lanes, sum_lanes};

/// Groups of lanes among which the squares are dealt.
pub(super) const GROUPS: usize = 4;

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
            let scale = inverse_root(sum_of_products(lanes, row, row), width, self.epsilon);
            scale_row(lanes, row, scale, self.weight, out);
        }
    }

    fn reference(self) {
        let width = self.weight.len().max(1);
        for (row, out) in self.rows.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let squares = reference_sum(row.iter().map(|value| (*value, *value)));
            let scale = inverse_root(squares, width, self.epsilon);
            for ((out, value), weight) in out.iter_mut().zip(row).zip(self.weight) {
                *out = value * scale * weight;
            }
        }
    }
}

/// The sum of the squares of the values, in the order of the head of this file.
pub(crate) struct SumOfSquares<'a> {
    pub(crate) values: &'a [f32],
}

impl LaneKernel for SumOfSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        sum_of_products(lanes, self.values, self.values)
    }

    fn reference(self) -> f32 {
        reference_sum(self.values.iter().map(|value| (*value, *value)))
    }
}

/// The derivatives of [`RmsNorm`]. With s = 1 / √(mean(x²) + ε) and the derivative g of the loss by y:
/// by x, `s · g · weight − x · s³ / width · Σ g · weight · x`; by the weight, `Σ g · x · s` over the rows, ascending.
pub(crate) struct RmsNormGradient<'a> {
    /// What was normalised.
    pub(crate) rows: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) epsilon: f32,
    /// g.
    pub(crate) gradient: &'a [f32],
    /// Whether the derivative by x is added to `out` or replaces it.
    pub(crate) adds: bool,
    pub(crate) out: &'a mut [f32],
    /// The derivative by the weight is added to it, where the weight learns.
    pub(crate) weight_gradient: Option<&'a mut [f32]>,
}

impl LaneKernel for RmsNormGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let width = self.weight.len().max(1);
        let rows = self.rows.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for ((row, gradient), out) in rows.zip(self.out.chunks_exact_mut(width)) {
            let scale = inverse_root(sum_of_products(lanes, row, row), width, self.epsilon);
            let dot = sum_of_three(lanes, row, gradient, self.weight);
            let factors = (scale, -(scale * scale * scale * (dot / width as f32)));
            gradient_of_row(lanes, [row, gradient, self.weight], factors, self.adds, out);
            if let Some(sums) = &mut self.weight_gradient {
                weight_gradient_of_row(lanes, row, gradient, scale, sums);
            }
        }
    }

    fn reference(mut self) {
        let width = self.weight.len().max(1);
        let rows = self.rows.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for ((row, gradient), out) in rows.zip(self.out.chunks_exact_mut(width)) {
            let squares = reference_sum(row.iter().map(|value| (*value, *value)));
            let scale = inverse_root(squares, width, self.epsilon);
            let weighted = row.iter().zip(gradient).zip(self.weight);
            let dot = reference_sum(weighted.map(|((value, gradient), weight)| (gradient * weight, *value)));
            let of_mean = -(scale * scale * scale * (dot / width as f32));
            for index in 0..width {
                let (value, gradient) = (row[index], gradient[index]);
                if let Some(sums) = &mut self.weight_gradient {
                    sums[index] = gradient.mul_add(value * scale, sums[index]);
                }
                let result = value.mul_add(of_mean, gradient * self.weight[index] * scale);
                out[index] = if self.adds { out[index] + result } else { result };
            }
        }
    }
}

/// Σ a · b in the order of the head of this file.
pub(super) fn reference_sum(pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    let mut sums = [[0.0f32; LANES]; GROUPS];
    for (index, (a, b)) in pairs.enumerate() {
        let sum = &mut sums[index / LANES % GROUPS][index % LANES];
        *sum = a.mul_add(b, *sum);
    }
    sum_lanes(std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane])))
}

#[inline(always)]
pub(super) fn inverse_root(sum_of_squares: f32, width: usize, epsilon: f32) -> f32 {
    1.0 / (sum_of_squares / width as f32 + epsilon).sqrt()
}

#[inline(always)]
pub(super) fn sum_of_products<L: Lanes>(lanes: L, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [lanes.splat(0.0); GROUPS];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<GROUPS>(), b.as_chunks::<GROUPS>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = lanes.fma(lanes.load(a), lanes.load(b), *sum);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum = lanes.fma(lanes.load(a), lanes.load(b), *sum);
    }
    if !a_tail.is_empty() {
        let sum = &mut sums[a_rest.len()];
        *sum = lanes.fma(lanes.load_head(a_tail), lanes.load_head(b_tail), *sum);
    }
    lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])))
}

/// Σ (gradient · weight) · value.
#[inline(always)]
fn sum_of_three<L: Lanes>(lanes: L, row: &[f32], gradient: &[f32], weight: &[f32]) -> f32 {
    let mut sums = [lanes.splat(0.0); GROUPS];
    let parts = [row, gradient, weight].map(<[f32]>::as_chunks::<LANES>);
    let [(row, row_tail), (gradient, gradient_tail), (weight, weight_tail)] = parts;
    let quads = row.chunks(GROUPS).zip(gradient.chunks(GROUPS)).zip(weight.chunks(GROUPS));
    for ((row, gradient), weight) in quads {
        for (sum, ((row, gradient), weight)) in sums.iter_mut().zip(row.iter().zip(gradient).zip(weight)) {
            let weighted = lanes.mul(lanes.load(gradient), lanes.load(weight));
            *sum = lanes.fma(weighted, lanes.load(row), *sum);
        }
    }
    if !row_tail.is_empty() {
        let sum = &mut sums[row.len() % GROUPS];
        let weighted = lanes.mul(lanes.load_head(gradient_tail), lanes.load_head(weight_tail));
        *sum = lanes.fma(weighted, lanes.load_head(row_tail), *sum);
    }
    lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])))
}

/// A row of [`RmsNormGradient`], given s and the factor of x.
#[inline(always)]
fn gradient_of_row<L: Lanes>(
    lanes: L,
    [row, gradient, weight]: [&[f32]; 3],
    (scale, of_mean): (f32, f32),
    adds: bool,
    out: &mut [f32],
) {
    let (scale, of_mean) = (lanes.splat(scale), lanes.splat(of_mean));
    let parts = [row, gradient, weight].map(<[f32]>::as_chunks::<LANES>);
    let [(row, row_tail), (gradient, gradient_tail), (weight, weight_tail)] = parts;
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (((row, gradient), weight), out) in row.iter().zip(gradient).zip(weight).zip(out) {
        let (value, gradient) = (lanes.load(row), lanes.load(gradient));
        let direct = lanes.mul(lanes.mul(gradient, lanes.load(weight)), scale);
        let result = lanes.fma(value, of_mean, direct);
        lanes.store(if adds { lanes.add(lanes.load(out), result) } else { result }, out);
    }
    if !out_tail.is_empty() {
        let (value, gradient) = (lanes.load_head(row_tail), lanes.load_head(gradient_tail));
        let direct = lanes.mul(lanes.mul(gradient, lanes.load_head(weight_tail)), scale);
        let result = lanes.fma(value, of_mean, direct);
        let result = if adds { lanes.add(lanes.load_head(out_tail), result) } else { result };
        lanes.store_head(result, out_tail);
    }
}

/// Adds a row's share of the derivative by the weight to `sums`, given s.
#[inline(always)]
fn weight_gradient_of_row<L: Lanes>(lanes: L, row: &[f32], gradient: &[f32], scale: f32, sums: &mut [f32]) {
    let scale = lanes.splat(scale);
    let ((row, row_tail), (gradient, gradient_tail)) =
        (row.as_chunks::<LANES>(), gradient.as_chunks::<LANES>());
    let (sums, sums_tail) = sums.as_chunks_mut::<LANES>();
    for ((row, gradient), sum) in row.iter().zip(gradient).zip(sums) {
        let scaled = lanes.mul(lanes.load(row), scale);
        lanes.store(lanes.fma(lanes.load(gradient), scaled, lanes.load(sum)), sum);
    }
    if !sums_tail.is_empty() {
        let scaled = lanes.mul(lanes.load_head(row_tail), scale);
        lanes.store_head(
            lanes.fma(lanes.load_head(gradient_tail), scaled, lanes.load_head(sums_tail)),
            sums_tail,
        );
    }
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
