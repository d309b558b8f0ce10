//! The random number of a position: a function of (seed, position) and nothing else, so that interrupting, batching or
//! repeating a request never shifts its numbers.

use zhenjin_random::{SplitMix64, mix};

/// A number in [0, 1) with 53 random bits: output `position + 1` of the SplitMix64 stream that starts at
/// `mix(seed)`.
pub fn uniform(seed: u64, position: u64) -> f64 {
    let state = mix(seed).wrapping_add(position.wrapping_add(1).wrapping_mul(SplitMix64::INCREMENT));
    (mix(state) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// The seed of choice `index` of a request that asks for several answers: choice 0 keeps the request's own
/// seed.
pub fn seed_of_choice(seed: u64, index: u64) -> u64 {
    if index == 0 { seed } else { mix(seed ^ mix(index.wrapping_mul(SplitMix64::INCREMENT))) }
}

/// An unpredictable seed, from the operating system's randomness by way of the standard library's
/// hash keys.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_never_change() {
        // These values must never change: a saved (seed, position) must give the same answer in every version.
        let bits = |seed, position| (uniform(seed, position) * (1u64 << 53) as f64) as u64;
        assert_eq!(bits(0, 0), 0x1c4415072f63b9);
        assert_eq!(bits(42, 7), 0x4e4809414724c);
        assert_eq!(seed_of_choice(42, 1), 0x4579b960bb007f46);
        assert_eq!(seed_of_choice(42, 0), 42);
        assert_ne!(seed_of_choice(42, 1), seed_of_choice(42, 2));
    }

    #[test]
    fn uniform_in_its_range() {
        let mut buckets = [0u32; 16];
        for position in 0..16_000 {
            let value = uniform(7, position);
            assert!((0.0..1.0).contains(&value));
            buckets[(value * 16.0) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| (850..1150).contains(&count)), "{buckets:?}");
    }
}
