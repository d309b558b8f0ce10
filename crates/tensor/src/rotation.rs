//! The rotation of query and key heads before they are rounded to 8 bits.
//!
//! Keys of real models have a few dimensions that are far larger than the others, and what shares a scale with such a
//! dimension is rounded coarsely. An orthogonal matrix H spreads every dimension over all of them and changes no score,
//! since (H q)·(H k) = q·k (Ashkboos et al. 2024, "QuaRot", arXiv:2404.00456).
//!
//! A head of m · 2^n dimensions, m odd, is multiplied by the Walsh–Hadamard matrix of size 2^n in each of its m parts, in
//! n steps of sums and differences; where m > 1, the parts are mixed by the reflection I − (2/m)·11ᵀ. The division by
//! √2^n that would make the matrix orthogonal is left to [`normalisation`].

use crate::lanes::{LANES, Lanes};

/// Dimensions of the widest head that is rotated.
pub(crate) const WIDEST: usize = 256;

/// 2^n: the dimensions of a part.
fn part_of(head_dim: usize) -> usize {
    1 << head_dim.trailing_zeros()
}

/// What the product of two rotated heads has to be multiplied with: 2^−n, which is exact.
pub(crate) fn normalisation(head_dim: usize) -> f32 {
    1.0 / part_of(head_dim) as f32
}

/// Rotates a head, whose width is a multiple of 16 and at most [`WIDEST`].
#[inline(always)]
pub(crate) fn rotate<L: Lanes>(lanes: L, head: &mut [f32]) {
    let part = part_of(head.len());
    for part in head.chunks_exact_mut(part) {
        let vectors = part.as_chunks_mut::<LANES>().0;
        match vectors.len() {
            1 => transform::<L, 1>(lanes, vectors),
            2 => transform::<L, 2>(lanes, vectors),
            4 => transform::<L, 4>(lanes, vectors),
            8 => transform::<L, 8>(lanes, vectors),
            _ => transform::<L, { WIDEST / LANES }>(lanes, vectors),
        }
    }
    if part < head.len() {
        mix_parts(lanes, head, part);
    }
}

/// The Walsh–Hadamard transform of `N` vectors, which stay in registers from the first step to the last.
#[inline(always)]
fn transform<L: Lanes, const N: usize>(lanes: L, vectors: &mut [[f32; LANES]]) {
    let minus_one = lanes.splat(-1.0);
    let mut values = [minus_one; N];
    for (value, vector) in values.iter_mut().zip(vectors.iter()) {
        let near = lanes.butterfly::<2>(lanes.butterfly::<1>(lanes.load(vector)));
        *value = lanes.butterfly::<8>(lanes.butterfly::<4>(near));
    }
    let mut half = 1;
    while half < N {
        for first in 0..N {
            if first & half == 0 {
                let (a, b) = (values[first], values[first + half]);
                values[first] = lanes.add(a, b);
                values[first + half] = lanes.fma(b, minus_one, a);
            }
        }
        half *= 2;
    }
    for (value, vector) in values.iter().zip(vectors) {
        lanes.store(*value, vector);
    }
}

#[inline(always)]
fn mix_parts<L: Lanes>(lanes: L, head: &mut [f32], part: usize) {
    let factor = lanes.splat(reflection(head.len() / part));
    let vectors = head.as_chunks_mut::<LANES>().0;
    for place in 0..part / LANES {
        let mut sum = lanes.splat(0.0);
        for vector in vectors.iter().skip(place).step_by(part / LANES) {
            sum = lanes.add(sum, lanes.load(vector));
        }
        for vector in vectors.iter_mut().skip(place).step_by(part / LANES) {
            lanes.store(lanes.fma(sum, factor, lanes.load(vector)), vector);
        }
    }
}

/// What the sum of the same place of all parts is multiplied with before it is added to each.
fn reflection(parts: usize) -> f32 {
    -2.0 / parts as f32
}

/// The definition of [`rotate`].
pub(crate) fn rotate_reference(head: &mut [f32]) {
    let part = part_of(head.len());
    let mut distance = 1;
    while distance < part {
        for pair in head.chunks_exact_mut(2 * distance) {
            let (first, second) = pair.split_at_mut(distance);
            for (first, second) in first.iter_mut().zip(second) {
                (*first, *second) = (*first + *second, *first - *second);
            }
        }
        distance *= 2;
    }
    let parts = head.len() / part;
    if parts > 1 {
        for place in 0..part {
            let sum = (0..parts).fold(0.0, |sum, index| sum + head[index * part + place]);
            for index in 0..parts {
                head[index * part + place] = sum.mul_add(reflection(parts), head[index * part + place]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimdLevel;
    use crate::lanes::{LaneKernel, dispatch};

    struct Rotated(Vec<f32>);

    impl LaneKernel for Rotated {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<L: Lanes>(mut self, lanes: L) -> Vec<f32> {
            rotate(lanes, &mut self.0);
            self.0
        }

        fn reference(mut self) -> Vec<f32> {
            rotate_reference(&mut self.0);
            self.0
        }
    }

    fn head(head_dim: usize, seed: usize) -> Vec<f32> {
        (0..head_dim).map(|i| ((i * i + 7 * i + seed) % 101) as f32 / 50.0 - 1.0).collect()
    }

    const WIDTHS: [usize; 8] = [16, 32, 64, 80, 96, 128, 160, 256];

    #[test]
    fn every_level_has_the_bits_of_the_reference() {
        for head_dim in WIDTHS {
            let expected = Rotated(head(head_dim, 3)).reference();
            for simd in SimdLevel::available() {
                assert_eq!(dispatch(simd, Rotated(head(head_dim, 3))), expected, "{head_dim} at {simd}");
            }
        }
    }

    #[test]
    fn products_of_heads_stay_what_they_are() {
        for head_dim in WIDTHS {
            let (a, b) = (head(head_dim, 5), head(head_dim, 11));
            let product = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            let rotated = product(&Rotated(a.clone()).reference(), &Rotated(b.clone()).reference());
            let rotated = rotated * f64::from(normalisation(head_dim));
            assert!((rotated - product(&a, &b)).abs() < 1e-4, "{head_dim}: {rotated}");
        }
    }

    #[test]
    fn one_large_dimension_is_spread_over_all() {
        for head_dim in WIDTHS {
            let mut spike = vec![0.0; head_dim];
            spike[head_dim / 3] = 150.0;
            let rotated = Rotated(spike).reference();
            // The rotated head is √2^n times as long; so no dimension has more than 1/√2^n of its length.
            let largest = rotated.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(largest <= 150.0, "{head_dim}: {largest}");
            assert!(rotated[0].abs() > 0.0 && normalisation(head_dim) <= 1.0 / 16.0);
        }
    }
}
