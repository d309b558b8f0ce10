//! The part of a text that shows why a search found it.

use std::ops::Range;

use crate::fold::fold;

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
    /// The surroundings of the first place where one of `terms` occurs in `text`, ignoring case.
    pub(crate) fn around(text: &str, terms: &[String]) -> Snippet {
        let characters: Vec<char> = text.chars().collect();
        let folded: Vec<char> = characters.iter().copied().map(fold).collect();
        let terms: Vec<Vec<char>> = terms.iter().map(|term| term.chars().map(fold).collect()).collect();
        let first =
            (0..folded.len()).find(|&place| longest_match(&folded[place..], &terms).is_some()).unwrap_or(0);
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
        let mut place = start;
        while place < end {
            let Some(matched) = longest_match(&folded[place..end], &terms) else {
                place += 1;
                continue;
            };
            let found = place - start + offset..place + matched - start + offset;
            match snippet.matches.last_mut() {
                Some(last) if last.end == found.start => last.end = found.end,
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
        fn ranges_lie_inside_the_text(text in "\\PC{0,400}", terms in prop::collection::vec("\\PC{0,3}", 0..4)) {
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
