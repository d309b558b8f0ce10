//! Which examples a step has: a function of seed and position alone.

/// SplitMix64 (Steele, Lea & Flood 2014): numbers that are the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Generator(u64);

impl Generator {
    /// The stream of one purpose and place.
    pub(crate) fn of(seed: u64, purpose: &str, place: u64) -> Generator {
        // FNV-1a.
        let hash = purpose.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let mut generator = Generator(seed);
        generator.0 = generator.next() ^ hash;
        generator.0 = generator.next() ^ place;
        Generator(generator.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// The numbers below `count` in a random order (Fisher and Yates).
    pub(crate) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

/// The endless series of examples: one epoch after the other, each in an order of its own.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    seed: u64,
    examples: usize,
    /// The epoch whose order is known, and the order.
    known: Option<(u64, Vec<usize>)>,
}

impl Order {
    /// The series of `examples` examples.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn new(seed: u64, examples: usize) -> Order {
        assert!(examples > 0, "a series of no examples");
        Order { seed, examples, known: None }
    }

    /// The examples at the places `first..first + count` of the series.
    pub(crate) fn examples(&mut self, first: u64, count: usize) -> Vec<usize> {
        (first..first + count as u64).map(|place| self.example(place)).collect()
    }

    fn example(&mut self, place: u64) -> usize {
        let (epoch, within) = (place / self.examples as u64, (place % self.examples as u64) as usize);
        match &self.known {
            Some((known, order)) if *known == epoch => order[within],
            _ => {
                let order = Generator::of(self.seed, "order of examples", epoch).shuffled(self.examples);
                let example = order[within];
                self.known = Some((epoch, order));
                example
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_example_once_in_an_order_of_its_own() {
        let mut order = Order::new(3, 7);
        let epochs: Vec<Vec<usize>> = (0..4).map(|epoch| order.examples(epoch * 7, 7)).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..7).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        // Steps across an epoch's end, and a series that begins in the middle, have the same examples.
        let whole = epochs.concat();
        for first in 0..20 {
            assert_eq!(Order::new(3, 7).examples(first, 5), whole[first as usize..first as usize + 5]);
        }
        assert_ne!(Order::new(4, 7).examples(0, 7), epochs[0]);
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut counts = [[0u32; 4]; 4];
        for seed in 0..4_000 {
            for (place, element) in Order::new(seed, 4).examples(0, 4).into_iter().enumerate() {
                counts[place][element] += 1;
            }
        }
        // 1,000 are expected, with a standard deviation of 27.
        assert!(counts.iter().flatten().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
