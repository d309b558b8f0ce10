//! Finding added tokens (control tokens and user-defined words) in text, with the rules of the `tokenizers` library
//! (leftmost-longest, `lstrip`, `rstrip`, `single_word`, `normalized`) and one rule that it lacks: a control token is
//! matched only where the caller allows it. This file does not know merges or templates.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{AddedToken, NormalizedString, Normalizer, NormalizerWrapper};

use crate::TokenizerError;

/// An added token and its id.
#[derive(Debug, Clone)]
pub(crate) struct AddedTokenEntry {
    pub(crate) id: u32,
    pub(crate) token: AddedToken,
}

/// Which control tokens may be recognised in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ControlTokens<'a> {
    /// None: their text is ordinary text.
    Never,
    /// All, except where one of these byte positions lies strictly inside the match (ascending order).
    ExceptAcross(&'a [usize]),
    /// Those that lie in one of these byte ranges (ascending, none overlapping another).
    Within(&'a [Range<usize>]),
}

impl ControlTokens<'_> {
    pub(crate) fn allow(self, matched: &Range<usize>) -> bool {
        match self {
            Self::Never => false,
            Self::ExceptAcross(breaks) => {
                let first_after_start = breaks.partition_point(|&position| position <= matched.start);
                breaks.get(first_after_start).is_none_or(|&position| position >= matched.end)
            }
            Self::Within(ranges) => {
                let candidate = ranges.partition_point(|range| range.end < matched.end);
                ranges.get(candidate).is_some_and(|range| range.start <= matched.start)
            }
        }
    }
}

/// One automaton with its tokens.
#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    entries: Vec<AddedTokenEntry>,
}

/// All added tokens of a tokenizer.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    /// Matched in the text as written.
    raw: Option<Matcher>,
    /// Matched in the normalised text.
    normalised: Option<Matcher>,
}

/// A stretch of text with the id of the added token that it is.
pub(crate) type Found = (Range<usize>, u32);

impl AddedTokens {
    /// Builds the automata. Tokens without text are left out.
    ///
    /// # Errors
    /// [`TokenizerError::Part`] when a token's text cannot be normalised or the automaton cannot be built.
    pub(crate) fn new(
        entries: Vec<AddedTokenEntry>,
        normaliser: Option<&NormalizerWrapper>,
    ) -> Result<Self, TokenizerError> {
        let (normalised, raw): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .filter(|entry| !entry.token.content.is_empty())
            .partition(|entry| entry.token.normalized);
        let raw_patterns = raw.iter().map(|entry| entry.token.content.clone()).collect();
        let mut normalised_patterns = Vec::with_capacity(normalised.len());
        for entry in &normalised {
            let mut content = NormalizedString::from(entry.token.content.as_str());
            if let Some(normaliser) = normaliser {
                normaliser.normalize(&mut content).map_err(|error| part_error(error.to_string()))?;
            }
            normalised_patterns.push(content.get().to_owned());
        }
        Ok(Self {
            raw: Matcher::new(raw, raw_patterns)?,
            normalised: Matcher::new(normalised, normalised_patterns)?,
        })
    }

    /// Added tokens in the text as written.
    pub(crate) fn find_raw(&self, text: &str, control: ControlTokens<'_>) -> Vec<Found> {
        self.raw
            .as_ref()
            .map(|matcher| matcher.find(text, |_, range| control.allow(range)))
            .unwrap_or_default()
    }

    /// Added tokens in a normalised stretch; `allow_control` says whether control tokens count there.
    pub(crate) fn find_normalised(
        &self,
        text: &str,
        allow_control: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<Found> {
        self.normalised
            .as_ref()
            .map(|matcher| matcher.find(text, |_, range| allow_control(range)))
            .unwrap_or_default()
    }

    /// Whether any token is matched in normalised text.
    pub(crate) fn has_normalised(&self) -> bool {
        self.normalised.is_some()
    }
}

impl Matcher {
    fn new(entries: Vec<AddedTokenEntry>, patterns: Vec<String>) -> Result<Option<Self>, TokenizerError> {
        if entries.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&patterns)
            .map_err(|error| part_error(error.to_string()))?;
        Ok(Some(Self { automaton, entries }))
    }

    fn find(
        &self,
        text: &str,
        allow_control: impl Fn(&AddedTokenEntry, &Range<usize>) -> bool,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        let mut search_from = 0;
        let mut previous_end = 0;
        while let Some(hit) =
            self.automaton.find(aho_corasick::Input::new(text).span(search_from..text.len()))
        {
            let entry = &self.entries[hit.pattern().as_usize()];
            let matched = hit.range();
            if matched.is_empty() {
                break;
            }
            if entry.token.special && !allow_control(entry, &matched) {
                // A shorter or later token may still begin inside the text that was refused.
                search_from = next_char_boundary(text, matched.start);
                continue;
            }
            search_from = matched.end;
            if entry.token.single_word && !stands_alone(text, &matched) {
                continue;
            }
            let mut range = matched;
            if entry.token.lstrip {
                range.start = text[..range.start].trim_end().len().max(previous_end);
            }
            if entry.token.rstrip {
                range.end = text.len() - text[range.end..].trim_start().len();
            }
            if range.start < previous_end {
                continue;
            }
            previous_end = range.end;
            found.push((range, entry.id));
        }
        found
    }
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    !text[..range.start].chars().next_back().is_some_and(is_word)
        && !text[range.end..].chars().next().is_some_and(is_word)
}

fn next_char_boundary(text: &str, position: usize) -> usize {
    position + text[position..].chars().next().map_or(1, char::len_utf8)
}

fn part_error(reason: String) -> TokenizerError {
    TokenizerError::Part { part: "list of added tokens", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(entries: &[(&str, bool)]) -> AddedTokens {
        let entries = entries
            .iter()
            .enumerate()
            .map(|(id, &(content, special))| AddedTokenEntry {
                id: id as u32,
                token: AddedToken::from(content, special).normalized(false),
            })
            .collect();
        AddedTokens::new(entries, None).unwrap()
    }

    #[test]
    fn the_longest_token_at_the_leftmost_place_wins() {
        let tokens = tokens(&[("<a", false), ("<a>", false), ("a>", false)]);
        assert_eq!(tokens.find_raw("x<a>", ControlTokens::Never), [(1..4, 1)]);
    }

    #[test]
    fn a_refused_control_token_does_not_hide_a_word_inside_it() {
        let tokens = tokens(&[("<|end|>", true), ("end", false)]);
        assert_eq!(tokens.find_raw("<|end|>", ControlTokens::Never), [(2..5, 1)]);
        assert_eq!(tokens.find_raw("<|end|>", ControlTokens::ExceptAcross(&[])), [(0..7, 0)]);
        assert_eq!(
            tokens.find_raw("<|end|><|end|>", ControlTokens::ExceptAcross(&[1])),
            [(2..5, 1), (7..14, 0)]
        );
    }

    #[test]
    fn a_break_at_the_edge_of_a_token_does_not_forbid_it() {
        let tokens = tokens(&[("<e>", true)]);
        assert_eq!(tokens.find_raw("a<e>b", ControlTokens::ExceptAcross(&[1, 4])), [(1..4, 0)]);
        assert_eq!(tokens.find_raw("a<e>b", ControlTokens::ExceptAcross(&[2])), []);
    }

    #[test]
    fn a_control_token_counts_only_inside_one_of_the_ranges() {
        let tokens = tokens(&[("<e>", true)]);
        let found = |ranges: &[Range<usize>]| tokens.find_raw("<e><e>x<e>", ControlTokens::Within(ranges));
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[0..3, 7..10]), [(0..3, 0), (7..10, 0)]);
        assert_eq!(found(&[0..6, 8..9]), [(0..3, 0), (3..6, 0)]);
        assert_eq!(found(&[0..2, 2..6]), [(3..6, 0)]);
    }
}
