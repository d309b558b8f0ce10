//! When two texts are the same to a search: the case of letters does not matter, nor whether an accent is a character of its own.

use unicode_normalization::UnicodeNormalization;

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

/// How a text may have written the term: as it stands, composed, and with each accent as a character of its own. The index holds texts as
/// they were written.
pub(crate) fn spellings(term: &str) -> Vec<String> {
    without_repeats([term.to_owned(), term.nfc().collect(), term.nfd().collect()])
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

    #[test]
    fn case_and_normal_form_do_not_matter() {
        assert_eq!(folded("ÄRZTE in МОСКВА"), "ärzte in москва");
        assert_eq!(folded("E\u{301}te\u{301}"), "été");
        assert_eq!(folded("ὈΔΥΣΣΕΎΣ"), folded("ὀδυσσεύς"));
        assert_eq!(folded("真金 İ ß"), "真金 İ ß");
    }

    #[test]
    fn a_term_is_looked_for_in_every_spelling() {
        assert_eq!(spellings("gold"), ["gold"]);
        assert_eq!(spellings("ét"), ["ét", "e\u{301}t"]);
        assert_eq!(spellings("e\u{301}t"), ["e\u{301}t", "ét"]);
        assert_eq!(cases("a1"), ["a1"]);
        assert_eq!(cases("мо"), ["мо", "мО", "Мо", "МО"]);
        assert_eq!(cases("ß"), ["ß"]);
        assert_eq!(cases("Σ"), ["Σ", "σ", "ς"]);
        assert_eq!(cases("金"), ["金"]);
    }
}
