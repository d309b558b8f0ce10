//! The order of an epoch: a shuffle whose random numbers depend on seed and epoch alone.

use crate::random::Generator;

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
    fn an_order_depends_on_seed_and_epoch_alone() {
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
