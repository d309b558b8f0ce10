//! LayerNorm (Ba et al. 2016): y = (x − mean(x)) / √(mean((x − mean(x))²) + ε) · weight + bias, row by row.
//!
//! Both sums have the order of [`super::rms_norm`]: 64 partial sums, then four groups, then lanes. The differences are rounded to f32
//! before they are squared.

use super::rms_norm::{GROUPS, inverse_root, reference_sum, sum_of_products};
use crate::lanes::{LANES, LaneKernel, Lanes};

/// Normalises every row of `rows` (width `weight.len()`) into `out` of the same shape. The bias is as long as the weight.
pub(crate) struct LayerNorm<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) out: &'a mut [f32],
}

impl LaneKernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.weight.len().max(1);
        for (row, out) in self.rows.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            add_to_all(lanes, row, -(sum_of(lanes, row) / width as f32), out);
            let scale = inverse_root(sum_of_products(lanes, out, out), width, self.epsilon);
            scale_and_add(lanes, scale, self.weight, self.bias, out);
        }
    }

    fn reference(self) {
        let width = self.weight.len().max(1);
        for (row, out) in self.rows.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let mean = reference_sum(row.iter().map(|value| (*value, 1.0))) / width as f32;
            for (out, value) in out.iter_mut().zip(row) {
                *out = value - mean;
            }
            let squares = reference_sum(out.iter().map(|value| (*value, *value)));
            let scale = inverse_root(squares, width, self.epsilon);
            for ((out, weight), bias) in out.iter_mut().zip(self.weight).zip(self.bias) {
                *out = (*out * scale).mul_add(*weight, *bias);
            }
        }
    }
}

/// The sum of the values, in the order of the head of this file.
#[inline(always)]
fn sum_of<L: Lanes>(lanes: L, values: &[f32]) -> f32 {
    let mut sums = [lanes.splat(0.0); GROUPS];
    let (values, tail) = values.as_chunks::<LANES>();
    for quad in values.chunks(GROUPS) {
        for (sum, values) in sums.iter_mut().zip(quad) {
            *sum = lanes.add(lanes.load(values), *sum);
        }
    }
    if !tail.is_empty() {
        let sum = &mut sums[values.len() % GROUPS];
        *sum = lanes.add(lanes.load_head(tail), *sum);
    }
    lanes.sum(lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])))
}

/// `out = row + addend`.
#[inline(always)]
fn add_to_all<L: Lanes>(lanes: L, row: &[f32], addend: f32, out: &mut [f32]) {
    let addend = lanes.splat(addend);
    let (row, row_tail) = row.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (row, out) in row.iter().zip(out) {
        lanes.store(lanes.add(lanes.load(row), addend), out);
    }
    if !out_tail.is_empty() {
        lanes.store_head(lanes.add(lanes.load_head(row_tail), addend), out_tail);
    }
}

/// `out = out · scale · weight + bias`.
#[inline(always)]
fn scale_and_add<L: Lanes>(lanes: L, scale: f32, weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let scale = lanes.splat(scale);
    let ((weight, weight_tail), (bias, bias_tail)) = (weight.as_chunks::<LANES>(), bias.as_chunks::<LANES>());
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for ((out, weight), bias) in out.iter_mut().zip(weight).zip(bias) {
        let scaled = lanes.mul(lanes.load(out), scale);
        lanes.store(lanes.fma(scaled, lanes.load(weight), lanes.load(bias)), out);
    }
    if !out_tail.is_empty() {
        let scaled = lanes.mul(lanes.load_head(out_tail), scale);
        lanes.store_head(
            lanes.fma(scaled, lanes.load_head(weight_tail), lanes.load_head(bias_tail)),
            out_tail,
        );
    }
}
