//! Tokens of words that were encoded before.

use ahash::RandomState;

const MAX_BYTES: usize = 30;
const MAX_IDS: usize = 8;
/// A power of two; 64 bytes each.
const SLOTS: usize = 1 << 13;

/// A word and its ids, in one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot {
    ids: [u32; MAX_IDS],
    word: [u8; MAX_BYTES],
    bytes: u8,
    count: u8,
}

/// A table of fixed size (512 KiB) in which a word has one place; the word that was there before is forgotten.
pub(super) struct WordCache {
    slots: Box<[Slot]>,
    hasher: RandomState,
}

impl WordCache {
    pub(super) fn new() -> Self {
        let empty = Slot { ids: [0; MAX_IDS], word: [0; MAX_BYTES], bytes: 0, count: 0 };
        Self { slots: vec![empty; SLOTS].into_boxed_slice(), hasher: RandomState::with_seeds(1, 2, 3, 4) }
    }

    /// The place of a word, or `None` for one that is too long.
    pub(super) fn place_of(&self, word: &[u8]) -> Option<usize> {
        (word.len() <= MAX_BYTES).then(|| self.hasher.hash_one(word) as usize % SLOTS)
    }

    /// The ids of the word, if it was the last one stored at its place.
    pub(super) fn get(&self, place: usize, word: &[u8]) -> Option<&[u32]> {
        let slot = &self.slots[place];
        let stored = &slot.word[..usize::from(slot.bytes)];
        (stored == word && !word.is_empty()).then(|| &slot.ids[..usize::from(slot.count)])
    }

    /// Stores a word of at most [`MAX_BYTES`] unless it has too many ids.
    pub(super) fn insert(&mut self, place: usize, word: &[u8], ids: &[u32]) {
        if ids.len() > MAX_IDS || word.len() > MAX_BYTES {
            return;
        }
        let slot = &mut self.slots[place];
        slot.word[..word.len()].copy_from_slice(word);
        slot.ids[..ids.len()].copy_from_slice(ids);
        (slot.bytes, slot.count) = (word.len() as u8, ids.len() as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_until_another_takes_its_place() {
        let mut cache = WordCache::new();
        let place = cache.place_of(b"word").unwrap();
        assert_eq!(cache.get(place, b"word"), None);
        cache.insert(place, b"word", &[7, 8]);
        assert_eq!(cache.get(place, b"word"), Some(&[7, 8][..]));
        assert_eq!(cache.get(place, b"worm"), None);
        cache.insert(place, b"worms", &[9]);
        assert_eq!(cache.get(place, b"word"), None);
        cache.insert(place, b"many", &[0; MAX_IDS + 1]);
        assert_eq!(cache.get(place, b"many"), None);
        assert_eq!(cache.place_of(&[b'a'; MAX_BYTES + 1]), None);
    }
}
