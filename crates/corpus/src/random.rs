//! The random numbers of a place in the data.

use zhenjin_random::SplitMix64;

/// The stream of each pair of numbers, the same on every machine: a seed, and a place in what is made with it.
pub(crate) fn numbers_of(seed: u64, place: u64) -> SplitMix64 {
    let start = SplitMix64::new(seed).next_u64();
    let mut from_place = SplitMix64::new(start ^ place.wrapping_mul(SplitMix64::INCREMENT));
    SplitMix64::new(from_place.next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_depends_on_seed_and_epoch_alone() {
        let order = |seed, epoch| numbers_of(seed, epoch).shuffled((0..8).collect::<Vec<u32>>());
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        let mut sorted = order(3, 4);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<u32>>());
    }

    /// A run that goes on in a later version must find its data in the same order.
    #[test]
    fn the_numbers_never_change() {
        let mut numbers = numbers_of(3, 4);
        assert_eq!([numbers.next_u64(), numbers.next_u64()], [0x4EB7_9536_53DA_9D77, 0xACD7_06F8_2BEB_5C1B]);
        assert_eq!(numbers_of(3, 4).shuffled((0..8).collect::<Vec<u32>>()), [0, 6, 1, 5, 7, 3, 4, 2]);
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut counts = [[0u32; 4]; 4];
        for seed in 0..4_000 {
            let order: Vec<usize> = numbers_of(seed, 0).shuffled((0..4).collect());
            for (place, element) in order.into_iter().enumerate() {
                counts[place][element] += 1;
            }
        }
        // 1,000 are expected, with a standard deviation of 27.
        assert!(counts.iter().flatten().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
