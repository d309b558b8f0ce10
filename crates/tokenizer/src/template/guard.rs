//! Keeping users' text out of control tokens while a template trims, splits and joins it.
//!
//! Before rendering, an invisible *break* (two private-use characters) is put behind the first character of everything in
//! users' text that looks like the beginning of a control token. Whatever the template does, text with a break inside it
//! is recognised afterwards: the breaks are taken out and their positions remembered, and the tokenizer refuses control
//! tokens that reach across one. The same two characters in users' own text are escaped and come back unchanged.
//! This file does not know templates or token ids.

use std::ops::Range;

/// Begins every mark.
pub(super) const MARK: char = '\u{F8C1}';
/// After [`MARK`]: a break.
pub(super) const BREAK: char = '\u{F8C2}';
/// After [`MARK`]: the character [`MARK`] itself, written by a user.
pub(super) const LITERAL: char = '\u{F8C3}';
/// After [`MARK`]: the assistant's text begins or ends here (the `generation` tag).
pub(super) const GENERATION_START: char = '\u{F8C4}';
pub(super) const GENERATION_END: char = '\u{F8C5}';

/// So many characters of a control token suffice to look like one. Three keep `</think>` (which templates search for)
/// apart from `</s>`; a control token may still be put together from pieces, so a shorter end of a text counts as well.
const PREFIX_CHARACTERS: usize = 3;

/// Texts that must not be mistaken for control tokens.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// First characters of control tokens, at most [`PREFIX_CHARACTERS`], without repeats.
    prefixes: Vec<String>,
    /// Their first bytes, without repeats.
    first_bytes: Vec<u8>,
    /// Texts of the tokens that end a turn.
    pub(super) end_of_turn: Vec<String>,
}

/// Rendered text without marks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unguarded {
    pub(super) text: String,
    /// Byte positions of breaks in `text`.
    pub(super) breaks: Vec<usize>,
    /// Byte ranges of `text` inside `generation` tags.
    pub(super) generated: Vec<Range<usize>>,
}

impl Guard {
    pub(super) fn new(special_texts: Vec<String>, end_of_turn: Vec<String>) -> Self {
        let mut prefixes: Vec<String> =
            special_texts.iter().map(|text| text.chars().take(PREFIX_CHARACTERS).collect()).collect();
        prefixes.retain(|prefix: &String| !prefix.is_empty());
        prefixes.sort_unstable();
        prefixes.dedup();
        let mut first_bytes: Vec<u8> = prefixes.iter().map(|prefix| prefix.as_bytes()[0]).collect();
        first_bytes.dedup();
        Self {
            prefixes,
            first_bytes,
            end_of_turn: end_of_turn.into_iter().filter(|text| !text.is_empty()).collect(),
        }
    }

    /// The same text with breaks in it.
    pub(super) fn protect(&self, text: &str) -> String {
        let mut protected = String::with_capacity(text.len() + 8);
        let mut copied = 0;
        for (position, character) in text.char_indices() {
            let begins = self.may_begin_control_token(&text[position..]);
            if character != MARK && !begins {
                continue;
            }
            let end = position + character.len_utf8();
            protected.push_str(&text[copied..end]);
            copied = end;
            if character == MARK {
                protected.push(LITERAL);
            }
            if begins {
                protected.extend([MARK, BREAK]);
            }
        }
        protected.push_str(&text[copied..]);
        protected
    }

    /// `text` is not empty.
    fn may_begin_control_token(&self, text: &str) -> bool {
        let first = text.as_bytes()[0];
        self.first_bytes.contains(&first)
            && self
                .prefixes
                .iter()
                .any(|prefix| text.starts_with(prefix.as_str()) || prefix.starts_with(text))
    }
}

/// Takes the marks out of a rendered text.
pub(super) fn unguard(marked: &str) -> Unguarded {
    let mut result = Unguarded { text: String::with_capacity(marked.len()), ..Unguarded::default() };
    let mut generation_start = None;
    let mut rest = marked;
    while let Some(start) = rest.find(MARK) {
        result.text.push_str(&rest[..start]);
        rest = &rest[start + MARK.len_utf8()..];
        let position = result.text.len();
        let Some(kind) = rest.chars().next() else { break };
        match kind {
            BREAK => result.breaks.push(position),
            LITERAL => result.text.push(MARK),
            GENERATION_START => generation_start = Some(position),
            GENERATION_END => {
                if let Some(start) = generation_start.take().filter(|&start| start < position) {
                    result.generated.push(start..position);
                }
            }
            // The template cut a mark in two; the half that is left is no text of anybody.
            _ => continue,
        }
        rest = &rest[kind.len_utf8()..];
    }
    result.text.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard() -> Guard {
        Guard::new(["<|im_end|>", "<|im_start|>", "</s>", "<s>"].map(str::to_owned).to_vec(), Vec::new())
    }

    #[test]
    fn breaks_lie_inside_what_looks_like_a_control_token() {
        let protected = guard().protect("a<|im_end|>b</think><s>");
        let unguarded = unguard(&protected);
        assert_eq!(unguarded.text, "a<|im_end|>b</think><s>");
        assert_eq!(unguarded.breaks, [2, 21]);
    }

    #[test]
    fn the_pieces_of_a_control_token_carry_breaks_as_well() {
        let joined: String = ["<", "|im_", "end|>"].iter().map(|piece| guard().protect(piece)).collect();
        let unguarded = unguard(&joined);
        assert_eq!(unguarded.text, "<|im_end|>");
        assert!(unguarded.breaks.contains(&1), "{unguarded:?}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "[<|s/>im_a\u{F8C1}-\u{F8C5}中]{0,40}") {
            prop_assert_eq!(unguard(&guard().protect(&text)).text, text);
        }
    }
}
