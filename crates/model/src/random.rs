//! Random numbers that are the same on every machine: integer arithmetic, and operations that IEEE 754 defines to the bit.

use zhenjin_random::SplitMix64;

/// Numbers of an even and of the normal distribution.
pub(crate) trait Floats {
    /// Even between −1 and 1.
    fn symmetric(&mut self) -> f32;

    /// Fills `out` with independent numbers of the normal distribution of mean 0, by Marsaglia's polar method (1964), in pairs; of the last
    /// pair of an odd number, one is drawn for nothing.
    fn fill_normal(&mut self, deviation: f64, out: &mut [f32]);
}

impl Floats for SplitMix64 {
    fn symmetric(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn fill_normal(&mut self, deviation: f64, out: &mut [f32]) {
        /// Pairs that are computed together: their logarithms and roots do not wait for each other.
        const PAIRS: usize = 16;
        for out in out.chunks_mut(2 * PAIRS) {
            let pairs = out.len().div_ceil(2);
            let (mut points, mut factors) = ([[0.0; 2]; PAIRS], [1.0; PAIRS]);
            for (point, square) in points.iter_mut().zip(&mut factors).take(pairs) {
                (*point, *square) = point_in_circle(self);
            }
            for square in &mut factors {
                *square = (-2.0 * logarithm(*square) / *square).sqrt();
            }
            for (pair, (point, factor)) in out.chunks_mut(2).zip(points.iter().zip(factors)) {
                for (value, coordinate) in pair.iter_mut().zip(point) {
                    *value = (deviation * (coordinate * factor)) as f32;
                }
            }
        }
    }
}

/// A point in the circle of radius 1 without its middle, and the square of its distance from there.
fn point_in_circle(numbers: &mut SplitMix64) -> ([f64; 2], f64) {
    loop {
        let mut even = || (numbers.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let (x, y) = (even(), even());
        let square = x * x + y * y;
        if square < 1.0 && square > 0.0 {
            return ([x, y], square);
        }
    }
}

/// 1, 1/3, 1/5 …: the terms of the inverse hyperbolic tangent's series.
const SERIES: [f64; 10] = {
    let mut terms = [0.0; 10];
    let mut term = 0;
    while term < 10 {
        terms[term] = 1.0 / (2 * term + 1) as f64;
        term += 1;
    }
    terms
};

/// The natural logarithm of a positive normal number, to about 1e-15. The standard library's may differ between machines.
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let exponent = f64::from((x.to_bits() >> 52) as i32 - 1023);
    let mantissa = f64::from_bits(x.to_bits() & MANTISSA | 1023 << 52);
    // Without a branch, so that several are computed together.
    let is_large = mantissa > std::f64::consts::SQRT_2;
    let mantissa = if is_large { mantissa * 0.5 } else { mantissa };
    let exponent = if is_large { exponent + 1.0 } else { exponent };
    // ln m = 2 artanh z with |z| below 0.172, so that ten terms of its series suffice.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = SERIES.iter().rev().fold(0.0, |sum, term| sum * square + term);
    2.0 * z * series + exponent * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_standard_library() {
        let mut random = SplitMix64::new(5);
        for _ in 0..10_000 {
            let x = (random.next_u64() >> 11) as f64 / 2f64.powi(53 + (random.next_u64() % 50) as i32);
            if x > 0.0 {
                assert!((logarithm(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(0.1), "{x}");
            }
        }
        assert_eq!(logarithm(1.0), 0.0);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut random = SplitMix64::new(11);
        let mut numbers = vec![0.0; 200_000];
        random.fill_normal(1.0, &mut numbers);
        let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
        let moment =
            |power: i32| numbers.iter().map(|number| number.powi(power)).sum::<f64>() / numbers.len() as f64;
        // The deviations of these means are √(1, 2, 15, 96) / √200,000.
        assert!(moment(1).abs() < 0.01, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "{}", moment(2));
        assert!(moment(3).abs() < 0.04, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "{}", moment(4));
    }

    #[test]
    fn a_short_row_has_the_numbers_of_a_long_one() {
        let mut long = vec![0.0; 77];
        SplitMix64::new(3).fill_normal(0.5, &mut long);
        for length in [0, 1, 2, 31, 32, 33, 64, 76] {
            let mut short = vec![0.0; length];
            SplitMix64::new(3).fill_normal(0.5, &mut short);
            assert_eq!(short, long[..length]);
        }
    }
}
