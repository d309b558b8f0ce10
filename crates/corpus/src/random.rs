//! Random numbers that are the same on every machine.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): the n-th number is a mix of the
/// start and n, the same on every machine.
pub(crate) struct Generator {
    state: u64,
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl Generator {
    /// Each pair of numbers begins elsewhere.
    pub(crate) fn new(seed: u64, number: u64) -> Generator {
        let mut from_seed = Generator { state: seed };
        let start = from_seed.next();
        let mut from_number = Generator { state: start ^ number.wrapping_mul(GOLDEN_GAMMA) };
        Generator { state: from_number.next() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, all equally likely to within 2⁻³² (`limit` is at most 2³²).
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_published_ones() {
        // The first number of SplitMix64 from 0, as its authors' program prints it.
        assert_eq!(Generator { state: 0 }.next(), 0xE220_A839_7B1D_CDAF);
    }
}
