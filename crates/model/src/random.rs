//! Random numbers that are the same on every machine: integer arithmetic, and operations that IEEE 754 defines to the bit.

/// SplitMix64 (Steele, Lea & Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// The stream of one row of one tensor: rows can be made in any order, by any number of threads.
    pub(crate) fn of_row(seed: u64, tensor: &str, row: usize) -> SplitMix {
        // FNV-1a.
        let name = tensor.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let mut state = SplitMix(seed);
        state.0 = state.next() ^ name;
        state.0 = state.next() ^ row as u64;
        SplitMix(state.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Even between −1 and 1.
    pub(crate) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Two independent numbers of the standard normal distribution, by Marsaglia's polar method (1964).
    pub(crate) fn normal_pair(&mut self) -> [f64; 2] {
        loop {
            let mut even = || (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            let (x, y) = (even(), even());
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                let factor = (-2.0 * logarithm(square) / square).sqrt();
                return [x * factor, y * factor];
            }
        }
    }
}

/// The natural logarithm of a positive normal number, to about 1e-15. The standard library's may differ between machines.
fn logarithm(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let mut exponent = f64::from((x.to_bits() >> 52) as i32 - 1023);
    let mut mantissa = f64::from_bits(x.to_bits() & MANTISSA | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 artanh z with |z| below 0.172, so that ten terms of its series suffice.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = (0..10).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    2.0 * z * series + exponent * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_standard_library() {
        let mut random = SplitMix(5);
        for _ in 0..10_000 {
            let x = (random.next() >> 11) as f64 / (1u64 << (53 + random.next() % 50)) as f64;
            if x > 0.0 {
                assert!((logarithm(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(0.1), "{x}");
            }
        }
        assert_eq!(logarithm(1.0), 0.0);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut random = SplitMix(11);
        let numbers: Vec<f64> = (0..100_000).flat_map(|_| random.normal_pair()).collect();
        let moment =
            |power: i32| numbers.iter().map(|number| number.powi(power)).sum::<f64>() / numbers.len() as f64;
        // The deviations of these means are √(1, 2, 15, 96) / √200,000.
        assert!(moment(1).abs() < 0.01, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "{}", moment(2));
        assert!(moment(3).abs() < 0.04, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "{}", moment(4));
    }

    #[test]
    fn rows_have_streams_of_their_own() {
        let first = |seed, tensor, row| SplitMix::of_row(seed, tensor, row).next();
        let all = [first(1, "a", 0), first(1, "a", 1), first(1, "b", 0), first(2, "a", 0)];
        for (index, value) in all.iter().enumerate() {
            assert!(!all[..index].contains(value));
        }
        assert_eq!(first(1, "a", 0), all[0]);
    }
}
