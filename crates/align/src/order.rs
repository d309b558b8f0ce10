//! Which examples a step has: a function of seed and position alone.

use zhenjin_random::SplitMix64;

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
                let order = SplitMix64::of(self.seed, "order of examples", epoch)
                    .shuffled((0..self.examples).collect::<Vec<usize>>());
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
