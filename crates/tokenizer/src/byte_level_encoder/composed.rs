//! Text in NFC, chunk by chunk: of a text that NFC changes somewhere, only the chunks around those places are given to the `tokenizers`
//! library's own normaliser, which takes several times their memory. It stays the library's, as newer tables of Unicode know more marks.

use std::borrow::Cow;

use tokenizers::NormalizedString;
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick};

/// The longest chunk, in bytes, of a text that has places to end one.
const CHUNK_BYTES: usize = 512;

/// The text in NFC.
pub(super) fn composed(text: &str) -> Cow<'_, str> {
    if is_composed(text) { Cow::Borrowed(text) } else { Cow::Owned(composed_by_chunks(text, CHUNK_BYTES)) }
}

/// Whether NFC leaves a text as it is; `false` may also mean that this is not known.
pub(super) fn is_composed(text: &str) -> bool {
    // Nothing below U+0300 composes with what comes before it, nor do Chinese characters.
    let plain = |character| matches!(character, '\0'..'\u{300}' | '\u{4E00}'..='\u{9FFF}' | '\u{3000}'..='\u{3002}' | '，');
    text.chars().all(plain) || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

fn composed_by_chunks(text: &str, most: usize) -> String {
    let mut composed = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(end_of_chunk(rest, most));
        if is_composed(chunk) {
            composed.push_str(chunk);
        } else {
            let mut normalised = NormalizedString::from(chunk);
            normalised.nfc();
            composed.push_str(normalised.get());
        }
        rest = behind;
    }
    composed
}

/// The last end of a chunk among the first `most` bytes, or else the next one.
fn end_of_chunk(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let is_end = |&(place, character): &(usize, char)| place > 0 && is_stable(character);
    let (within, behind) = text.split_at(text.floor_char_boundary(most));
    let before = within.char_indices().rev().find(is_end).map(|(place, _)| place);
    let mut others = behind.char_indices().map(|(place, character)| (within.len() + place, character));
    before.or_else(|| others.find(is_end).map(|(place, _)| place)).unwrap_or(text.len())
}

/// Whether NFC never joins a character to those before it, nor moves it before them.
fn is_stable(character: char) -> bool {
    canonical_combining_class(character) == 0 && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_the_library(text: &str) -> String {
        let mut normalised = NormalizedString::from(text);
        normalised.nfc();
        normalised.get().to_owned()
    }

    proptest! {
        #[test]
        fn chunks_together_are_the_whole_text_in_nfc(
            text in "([a-eE<\u{4e2d}\u{304b}\u{ac00}\u{1100}\n ]|[\u{301}\u{323}\u{338}\u{3099}\u{1161}\u{11a8}\u{f900}\u{212b}\u{e47}]|\\PC){0,40}",
            most in 1..24_usize,
        ) {
            let expected = of_the_library(&text);
            prop_assert_eq!(&composed_by_chunks(&text, most), &expected, "{:?}", text);
            prop_assert_eq!(composed(&text).into_owned(), expected, "{:?}", text);
        }
    }

    #[test]
    fn chunks_end_in_front_of_what_nothing_is_joined_to() {
        for (text, most, end) in [
            ("abc", 8, 3),
            ("中文中文", 4, 3),
            ("ae\u{301}\u{323}b", 3, 1),
            ("e\u{301}\u{323}b", 3, 5),
            ("\u{301}\u{301}", 1, 4),
            ("\u{304b}\u{3099}\u{304b}", 3, 6),
            ("\u{ac00}\u{11a8}\u{ac00}", 3, 6),
        ] {
            assert_eq!(end_of_chunk(text, most), end, "{text:?}");
        }
    }
}
