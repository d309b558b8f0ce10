//! When two texts are the same to a search: the case of letters does not matter, nor in which characters a letter with accents is written.

use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc, is_nfc_quick};

/// The text as searches compare it: composed letters (Unicode's form NFC) in lower case.
pub(crate) fn folded(text: &str) -> String {
    text.nfc().map(fold).collect()
}

/// Lower case of one character, where that is one character. The sigma at the end of words is the sigma.
pub(crate) fn fold(character: char) -> char {
    match single(character.to_lowercase()) {
        Some('ς') => 'σ',
        lower => lower.unwrap_or(character),
    }
}

/// The text in composed letters (Unicode's form NFC), where it is written otherwise.
pub(crate) fn composed(text: &str) -> Option<String> {
    (!is_nfc(text)).then(|| text.nfc().collect())
}

/// A text as searches compare it, character by character, and where each of its characters is written.
pub(crate) struct Letters {
    pub(crate) folded: Vec<char>,
    /// `None` where each character is written as one.
    written: Option<Vec<Range<usize>>>,
}

impl Letters {
    /// The letters of `text`, which has these characters.
    pub(crate) fn of(text: &str, characters: &[char]) -> Letters {
        if is_nfc(text) {
            return Letters { folded: characters.iter().copied().map(fold).collect(), written: None };
        }
        let (mut folded, mut written) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < characters.len() {
            let rest = characters[start + 1..].iter();
            let end = start + 1 + rest.take_while(|character| continues(**character)).count();
            let composed: Vec<char> = characters[start..end].iter().copied().nfc().collect();
            let is_as_written = composed == characters[start..end];
            for (number, character) in composed.into_iter().enumerate() {
                folded.push(fold(character));
                let place = start + number;
                written.push(if is_as_written { place..place + 1 } else { start..end });
            }
            start = end;
        }
        Letters { folded, written: Some(written) }
    }

    /// Where the letter at `place` stands in the text as it is written, in characters.
    pub(crate) fn written(&self, place: usize) -> Range<usize> {
        let written = self.written.as_ref().and_then(|written| written.get(place));
        written.cloned().unwrap_or(place..place + 1)
    }

    /// The places of the letters that are written between these characters.
    pub(crate) fn within(&self, characters: Range<usize>) -> Range<usize> {
        let Some(written) = &self.written else { return characters };
        let start = written.partition_point(|letter| letter.start < characters.start);
        start..written.partition_point(|letter| letter.end <= characters.end)
    }
}

/// Whether a character can be a part of a letter that begins before it.
fn continues(character: char) -> bool {
    // None of the Latin letters and signs up to here can.
    if character < '\u{300}' {
        return false;
    }
    let mut first = None;
    decompose_canonical(character, |part| first = first.or(Some(part)));
    first.is_some_and(|first| {
        canonical_combining_class(first) != 0 || is_nfc_quick(std::iter::once(first)) != IsNormalized::Yes
    })
}

/// The term in every mixture of cases, where SQLite does not see by itself that they are the same: it knows the case of ASCII letters alone.
/// For short terms: each of their letters doubles the number.
pub(crate) fn cases(term: &str) -> Vec<String> {
    term.chars().fold(vec![String::new()], |beginnings, character| {
        let letters = cases_of(character);
        let longer = |beginning: &String| {
            letters.iter().map(|letter| format!("{beginning}{letter}")).collect::<Vec<String>>()
        };
        beginnings.iter().flat_map(longer).collect()
    })
}

fn cases_of(character: char) -> Vec<char> {
    if character.is_ascii() {
        return vec![character];
    }
    let upper = single(character.to_uppercase()).unwrap_or(character);
    let end_of_word = if fold(character) == 'σ' { 'ς' } else { character };
    without_repeats([character, fold(character), upper, end_of_word])
}

fn single(mut characters: impl Iterator<Item = char>) -> Option<char> {
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

fn without_repeats<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for one in all {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_and_normal_form_do_not_matter() {
        assert_eq!(folded("ÄRZTE in МОСКВА"), "ärzte in москва");
        assert_eq!(folded("E\u{301}te\u{301}"), "été");
        assert_eq!(folded("ὈΔΥΣΣΕΎΣ"), folded("ὀδυσσεύς"));
        assert_eq!(folded("真金 İ ß"), "真金 İ ß");
    }

    #[test]
    fn short_terms_are_looked_for_in_every_case() {
        assert_eq!(cases("a1"), ["a1"]);
        assert_eq!(cases("мо"), ["мо", "мО", "Мо", "МО"]);
        assert_eq!(cases("ß"), ["ß"]);
        assert_eq!(cases("Σ"), ["Σ", "σ", "ς"]);
        assert_eq!(cases("金"), ["金"]);
    }

    #[test]
    fn texts_in_composed_letters_are_kept_once() {
        for text in ["gold", "真金不怕火炼", "é người", "x\u{30C}", "👍🏽", ""] {
            assert_eq!(composed(text), None, "{text}");
        }
        for text in
            ["nguo\u{31B}\u{300}i", "nguo\u{300}\u{31B}i", "ng\u{75}\u{1A1}\u{300}i", "ngu\u{F2}\u{31B}i"]
        {
            assert_eq!(composed(text).as_deref(), Some("nguời"), "{text}");
        }
        assert_eq!(composed("\u{1100}\u{1161}\u{11A8}").as_deref(), Some("각"));
    }

    /// Texts of letters that are written in one character and in several, and of signs that stand in no fixed order.
    const WRITTEN: &str =
        "[a-zA-ZéơỜ각\u{300}\u{301}\u{31B}\u{323}\u{344}\u{F73}\u{1100}\u{1161}\u{11A8}\u{F90A}金👍🏽 ]{0,40}";

    proptest! {
        #[test]
        fn letters_are_those_of_the_composed_text(text in WRITTEN) {
            let characters: Vec<char> = text.chars().collect();
            let letters = Letters::of(&text, &characters);
            prop_assert_eq!(letters.folded.iter().collect::<String>(), folded(&text));
            let mut end = 0;
            for place in 0..letters.folded.len() {
                let written = letters.written(place);
                prop_assert!(written.start < written.end && written.end <= characters.len());
                // One behind the other, or parts of one letter.
                prop_assert!(written.start == end || written.end == end);
                end = written.end;
            }
            prop_assert_eq!(end, characters.len());
            prop_assert_eq!(letters.within(0..characters.len()), 0..letters.folded.len());
        }
    }
}
