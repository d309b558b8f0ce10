//! Random numbers that are the same on every machine, so that what is made with them depends on a seed alone.

/// The output function of SplitMix64: near numbers have nothing in common afterwards, and no two become the same.
#[inline]
pub const fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): the n-th number is a [`mix`] of the start and n.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// What is added between two numbers: 2⁶⁴ divided by the golden ratio, made odd.
    pub const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The stream that begins here. Streams that begin at near numbers have nothing in common, but those whose beginnings lie some
    /// [`SplitMix64::INCREMENT`]s apart are the same, some numbers later.
    pub const fn new(start: u64) -> SplitMix64 {
        SplitMix64(start)
    }

    /// The stream of one purpose (or the name of a tensor) and place: they can be used in any order, by any number of threads.
    pub fn of(seed: u64, purpose: &str, place: u64) -> SplitMix64 {
        // FNV-1a.
        let hash = purpose.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let mut numbers = SplitMix64(seed);
        numbers.0 = numbers.next_u64() ^ hash;
        numbers.0 = numbers.next_u64() ^ place;
        SplitMix64(numbers.next_u64())
    }

    /// The next number, all equally likely.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(SplitMix64::INCREMENT);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0; all equally likely to within 2⁻³² where it is at most 2³².
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// The same elements in a random order (Fisher and Yates).
    pub fn shuffled<T>(&mut self, mut elements: Vec<T>) -> Vec<T> {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last + 1));
        }
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_published_ones() {
        // The first numbers from 0, as the authors' program prints them.
        let mut numbers = SplitMix64::new(0);
        for expected in [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F] {
            assert_eq!(numbers.next_u64(), expected);
        }
    }

    /// A run that goes on in a later version must go on with the numbers of the earlier one.
    #[test]
    fn the_numbers_of_a_purpose_never_change() {
        let mut numbers = SplitMix64::of(3, "order of examples", 1);
        for expected in [0xF8A9_08BD_2B47_7048, 0x19C5_968D_C412_E70C] {
            assert_eq!(numbers.next_u64(), expected);
        }
        let order = SplitMix64::of(3, "order of examples", 1).shuffled((0..7).collect::<Vec<u32>>());
        assert_eq!(order, [1, 5, 4, 3, 2, 0, 6]);
    }

    #[test]
    fn purposes_and_places_have_streams_of_their_own() {
        let first = |seed, purpose, place| SplitMix64::of(seed, purpose, place).next_u64();
        let all = [first(1, "a", 0), first(1, "a", 1), first(1, "b", 0), first(2, "a", 0)];
        for (index, value) in all.iter().enumerate() {
            assert!(!all[..index].contains(value));
        }
        assert_eq!(first(1, "a", 0), all[0]);
    }
}
