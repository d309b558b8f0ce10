//! The part of a text that shows why a search found it.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;

use crate::fold::{Letters, fold};

/// Characters shown before the first match.
const BEFORE: usize = 40;

/// Characters of a snippet, without the ellipses.
const LENGTH: usize = 160;

/// An excerpt with the places that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The excerpt on one line, with "…" where the text goes on.
    pub text: String,
    /// Where the terms stand in `text`, in Unicode code points, ascending, not overlapping.
    pub matches: Vec<Range<usize>>,
}

impl Snippet {
    /// The surroundings of the first place where one of `terms` occurs in `text`, ignoring case and in which characters letters are written.
    pub(crate) fn around(text: &str, terms: &[String]) -> Snippet {
        let characters: Vec<char> = text.chars().collect();
        let letters = Letters::of(text, &characters);
        let terms: Vec<Vec<char>> = terms.iter().map(|term| term.nfc().map(fold).collect()).collect();
        let is_first = |place: &usize| longest_match(&letters.folded[*place..], &terms).is_some();
        let first = (0..letters.folded.len()).find(is_first).map_or(0, |place| letters.written(place).start);
        let fits = characters.len() <= LENGTH;
        let start = if fits { 0 } else { first.saturating_sub(BEFORE) };
        let end = characters.len().min(start + LENGTH);

        let mut snippet = Snippet { text: String::new(), matches: Vec::new() };
        let mut length = 0;
        if start > 0 {
            snippet.text.push('…');
            length = 1;
        }
        let offset = length;
        let Range { start: mut place, end: last } = letters.within(start..end);
        while place < last {
            let Some(matched) = longest_match(&letters.folded[place..last], &terms) else {
                place += 1;
                continue;
            };
            let (from, to) = (letters.written(place).start, letters.written(place + matched - 1).end);
            let found = from - start + offset..to - start + offset;
            match snippet.matches.last_mut() {
                Some(before) if before.end >= found.start => before.end = before.end.max(found.end),
                _ => snippet.matches.push(found),
            }
            place += matched;
        }
        let shown = characters[start..end].iter();
        snippet.text.extend(shown.map(|&character| if character.is_whitespace() { ' ' } else { character }));
        if end < characters.len() {
            snippet.text.push('…');
        }
        snippet
    }
}

/// Length of the longest of `terms` with which `text` begins.
fn longest_match(text: &[char], terms: &[Vec<char>]) -> Option<usize> {
    terms.iter().filter(|term| !term.is_empty() && text.starts_with(term)).map(Vec::len).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(text: &str, terms: &[&str]) -> Vec<String> {
        let terms: Vec<String> = terms.iter().map(|&term| term.to_owned()).collect();
        let snippet = Snippet::around(text, &terms);
        let characters: Vec<char> = snippet.text.chars().collect();
        snippet.matches.iter().map(|range| characters[range.clone()].iter().collect()).collect()
    }

    #[test]
    fn matches_are_marked_in_any_script_and_case() {
        assert_eq!(marked("Gold and GOLDEN gold", &["gold"]), ["Gold", "GOLD", "gold"]);
        assert_eq!(marked("真金不怕火炼，真金", &["真金"]), ["真金", "真金"]);
        assert_eq!(marked("ok 👍🏽 fine", &["👍🏽"]), ["👍🏽"]);
        assert_eq!(marked("ÄRGER", &["är"]), ["ÄR"]);
        assert!(marked("nothing here", &["absent"]).is_empty());
    }

    /// Regression: only the places that were written as the term is, or without any composed letter, were marked.
    #[test]
    fn letters_are_marked_in_whichever_characters_they_are_written() {
        let text = "người, NGU\u{31B}O\u{31B}\u{300}I, ngươ\u{300}i, ngu\u{31B}ò\u{31B}i; ngươi";
        let expected = ["người", "NGU\u{31B}O\u{31B}\u{300}I", "ngươ\u{300}i", "ngu\u{31B}ò\u{31B}i"];
        for term in ["người", "ngu\u{31B}o\u{300}\u{31B}i", "ngươ\u{300}i"] {
            assert_eq!(marked(text, &[term]), expected, "{term}");
        }
        assert_eq!(marked("x\u{30C} e\u{301}", &["x", "é"]), ["x", "e\u{301}"]);
        let long = format!("{}o\u{31B}\u{300}{}", "a ".repeat(500), " b".repeat(500));
        assert_eq!(marked(&long, &["ờ"]), ["o\u{31B}\u{300}"]);
    }

    #[test]
    fn long_texts_are_cut_around_the_first_match() {
        let text = format!("{}needle{}", "a ".repeat(500), " b".repeat(500));
        let snippet = Snippet::around(&text, &["needle".to_owned()]);
        assert!(snippet.text.starts_with('…') && snippet.text.ends_with('…'));
        assert_eq!(snippet.text.chars().count(), LENGTH + 2);
        assert_eq!(snippet.matches.len(), 1);
        assert_eq!(snippet.matches[0], BEFORE + 1..BEFORE + 7);
    }

    proptest! {
        #[test]
        fn ranges_lie_inside_the_text(text in "(\\PC|[a-e\u{300}-\u{323}]){0,400}", terms in prop::collection::vec("\\PC{0,3}", 0..4)) {
            let snippet = Snippet::around(&text, &terms);
            let length = snippet.text.chars().count();
            let mut before = 0;
            for range in &snippet.matches {
                prop_assert!(before <= range.start && range.start < range.end && range.end <= length);
                before = range.end;
            }
        }
    }
}
