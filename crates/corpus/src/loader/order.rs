//! The order of an epoch: a shuffle whose random numbers depend on seed and epoch alone.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): the n-th number is a mix of the
/// start and n, the same on every machine.
pub(super) struct Generator {
    state: u64,
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl Generator {
    /// Each pair of seed and epoch begins elsewhere.
    pub(super) fn new(seed: u64, epoch: u64) -> Generator {
        let mut from_seed = Generator { state: seed };
        let start = from_seed.next();
        let mut from_epoch = Generator { state: start ^ epoch.wrapping_mul(GOLDEN_GAMMA) };
        Generator { state: from_epoch.next() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, all equally likely to within 2⁻³² (`limit` is at most 2³²).
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

/// The same elements in a random order (Fisher and Yates).
pub(super) fn shuffled(mut elements: Vec<u32>, generator: &mut Generator) -> Vec<u32> {
    for last in (1..elements.len()).rev() {
        elements.swap(last, generator.below(last + 1));
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        // The first number of SplitMix64 from 0, as its authors' programs print it.
        assert_eq!(Generator { state: 0 }.next(), 0xE220_A839_7B1D_CDAF);
        let order = |seed, epoch| shuffled((0..8).collect(), &mut Generator::new(seed, epoch));
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        let mut sorted = order(3, 4);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<u32>>());
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut counts = [[0u32; 4]; 4];
        for seed in 0..4_000 {
            for (place, element) in
                shuffled((0..4).collect(), &mut Generator::new(seed, 0)).into_iter().enumerate()
            {
                counts[place][element as usize] += 1;
            }
        }
        // 1,000 are expected, with a standard deviation of 27.
        assert!(counts.iter().flatten().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
