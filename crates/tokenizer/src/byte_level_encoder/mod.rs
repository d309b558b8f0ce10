//! Byte-level BPE straight from text to ids, for the pre-tokenisers that the supported models have.
//!
//! The `tokenizers` library records for every byte where it came from and allocates a text for every token; that is nine
//! tenths of its time. Here neither exists. Whatever this encoder does not cover (another pre-tokeniser, bytes without a
//! token, the places of text that is not in NFC) it leaves to the library, whose ids are the reference: tests compare the two.

mod cache;
mod composed;
mod merges;
#[cfg(test)]
mod tests;
mod words;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ahash::AHashMap;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::added_tokens::Found;
use crate::byte_level;
use cache::WordCache;
use composed::{composed, is_composed};
use merges::{Merges, Scratch};
use words::WordRule;

/// Caches that are kept: as many as threads that encode at once usually. More threads make their own for one text.
const MAX_KEPT_CACHES: usize = 8;

/// What a byte-level tokenizer needs for encoding.
pub(crate) struct ByteLevelEncoder {
    rule: WordRule,
    requires_nfc: bool,
    /// The token of every single byte.
    byte_ids: Box<[Option<u32>; 256]>,
    merges: Merges,
    /// Tokens by their bytes, where whole words that are tokens skip the merges.
    whole_words: Option<AHashMap<Vec<u8>, u32>>,
    /// Bytes of every token.
    lengths: Vec<u16>,
    caches: Mutex<Vec<Buffers>>,
}

/// Memory that one thread at a time uses.
struct Buffers {
    cache: WordCache,
    word: Vec<u32>,
    scratch: Scratch,
}

/// What becomes of text that is not in the normal form that the tokenizer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denormal {
    /// It is brought into it, and places in it are no longer those in the text.
    Composed,
    /// The library must do all of it.
    Left,
}

/// Ids with the bytes of the text that each stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) ids: Vec<u32>,
    pub(crate) ranges: Vec<Range<usize>>,
}

impl ByteLevelEncoder {
    /// `None` when the parts do something that is not covered here. `vocabulary` and `merges` are those of the model, in
    /// the alphabet of byte-level BPE; the model has no unknown token and no byte fallback.
    pub(crate) fn new(
        pre_tokeniser: Option<&PreTokenizerWrapper>,
        normaliser: Option<&NormalizerWrapper>,
        vocabulary: &AHashMap<String, u32>,
        merges: &[(String, String)],
        ignore_merges: bool,
    ) -> Option<Self> {
        let rule = WordRule::of(pre_tokeniser?)?;
        let requires_nfc = match normaliser {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return None,
        };
        let mut table = Merges::with_capacity(merges.len());
        let mut union = String::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            union.clear();
            union.push_str(left);
            union.push_str(right);
            let id = |token: &str| vocabulary.get(token).copied();
            table.insert(id(left)?, id(right)?, u32::try_from(rank).ok()?, id(&union)?);
        }
        let mut byte_ids = Box::new([None; 256]);
        for byte in 0..=255 {
            let text = byte_level::char_of_byte(byte).to_string();
            byte_ids[usize::from(byte)] = vocabulary.get(&text).copied();
        }
        let highest = vocabulary.values().copied().max()? as usize;
        let mut lengths = vec![0; highest + 1];
        let mut whole_words = ignore_merges.then(AHashMap::new);
        // Every token has its own place in these tables, so that the map's order has no effect.
        #[allow(clippy::iter_over_hash_type, reason = "see above")]
        for (token, &id) in vocabulary {
            lengths[id as usize] = u16::try_from(token.chars().count()).ok()?;
            if let Some(words) = &mut whole_words
                && let Some(bytes) = token.chars().map(byte_level::byte_of_char).collect::<Option<Vec<u8>>>()
            {
                words.insert(bytes, id);
            }
        }
        let caches = Mutex::new(Vec::new());
        Some(Self { rule, requires_nfc, byte_ids, merges: table, whole_words, lengths, caches })
    }

    /// The ids of `text`, in which the added tokens `found` are already known; `None` when the library must do it.
    pub(crate) fn ids(&self, text: &str, found: &[Found]) -> Option<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + found.len());
        self.encode(text, found, Denormal::Composed, |id, _| ids.push(id))?;
        Some(ids)
    }

    /// As [`ByteLevelEncoder::ids`], with every id's place in the text.
    pub(crate) fn ids_and_ranges(&self, text: &str, found: &[Found]) -> Option<Encoded> {
        let mut encoded = Encoded {
            ids: Vec::with_capacity(text.len() / 3 + found.len()),
            ranges: Vec::with_capacity(text.len() / 3 + found.len()),
        };
        let mut end = 0;
        self.encode(text, found, Denormal::Left, |id, length| {
            encoded.ids.push(id);
            encoded.ranges.push(end..end + length);
            end += length;
        })?;
        Some(encoded)
    }

    /// Calls `take` with every id and the number of bytes it stands for, of text in the tokenizer's normal form.
    fn encode(
        &self,
        text: &str,
        found: &[Found],
        denormal: Denormal,
        mut take: impl FnMut(u32, usize),
    ) -> Option<()> {
        let mut buffers = self.caches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut fresh = None;
        let buffers_in_use = match &mut buffers {
            Some(buffers) => buffers,
            None => fresh.insert(Buffers::new()),
        };
        let outcome = self.encode_pieces(text, found, denormal, buffers_in_use, &mut take);
        if let Some(buffers) = buffers.or(fresh) {
            let mut kept = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_KEPT_CACHES {
                kept.push(buffers);
            }
        }
        outcome
    }

    fn encode_pieces(
        &self,
        text: &str,
        found: &[Found],
        denormal: Denormal,
        buffers: &mut Buffers,
        take: &mut impl FnMut(u32, usize),
    ) -> Option<()> {
        let mut position = 0;
        for (range, id) in found {
            self.encode_piece(&text[position..range.start], denormal, buffers, take)?;
            take(*id, range.len());
            position = range.end;
        }
        self.encode_piece(&text[position..], denormal, buffers, take)
    }

    fn encode_piece(
        &self,
        text: &str,
        denormal: Denormal,
        buffers: &mut Buffers,
        take: &mut impl FnMut(u32, usize),
    ) -> Option<()> {
        let text = match denormal {
            Denormal::Composed if self.requires_nfc => composed(text),
            Denormal::Left if self.requires_nfc && !is_composed(text) => return None,
            Denormal::Composed | Denormal::Left => Cow::Borrowed(text),
        };
        let mut outcome = Some(());
        self.rule.for_each_word(&text, |word| {
            if outcome.is_some() {
                outcome = self.encode_word(word.as_bytes(), buffers, take);
            }
        });
        outcome
    }

    fn encode_word(
        &self,
        word: &[u8],
        buffers: &mut Buffers,
        take: &mut impl FnMut(u32, usize),
    ) -> Option<()> {
        if let Some(&id) = self.whole_words.as_ref().and_then(|words| words.get(word)) {
            take(id, word.len());
            return Some(());
        }
        let place = buffers.cache.place_of(word);
        let mut give =
            |ids: &[u32]| ids.iter().for_each(|&id| take(id, usize::from(self.lengths[id as usize])));
        if let Some(ids) = place.and_then(|place| buffers.cache.get(place, word)) {
            give(ids);
            return Some(());
        }
        let ids = &mut buffers.word;
        ids.clear();
        for &byte in word {
            ids.push(self.byte_ids[usize::from(byte)]?);
        }
        self.merges.merge(ids, &mut buffers.scratch);
        give(ids);
        if let Some(place) = place {
            buffers.cache.insert(place, word, ids);
        }
        Some(())
    }
}

impl Buffers {
    fn new() -> Self {
        Self { cache: WordCache::new(), word: Vec::new(), scratch: Scratch::default() }
    }
}

/// Calls `take` with every word of `text`, split as the pre-tokeniser `smollm` does.
pub(crate) fn for_each_trained_word(text: &str, take: impl FnMut(&str)) {
    WordRule::DigitsThenGpt2.for_each_word(text, take);
}
