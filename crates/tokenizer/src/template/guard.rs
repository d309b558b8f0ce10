//! Keeping users' text out of control tokens while a template trims, splits and joins it.
//!
//! Before rendering, an invisible *break* (two private-use characters) is put behind the first character of everything in
//! users' text that looks like the beginning of a control token. Whatever the template does, text with a break inside it
//! is recognised afterwards: the breaks are taken out and their positions remembered, and the tokenizer refuses control
//! tokens that reach across one. The same two characters in users' own text are escaped and come back unchanged.
//!
//! A template that writes the beginning of a control token by itself, as `<{{ name }}>` does, could complete it with users'
//! text. For such a template a break stands before users' texts too, where they could go on with a control token.
//! This file does not know templates or token ids.

use std::collections::BTreeSet;
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
    /// The texts of all control tokens.
    special_texts: Vec<String>,
    /// Characters that control tokens have behind their first.
    inner: BTreeSet<char>,
    /// A template puts something behind the beginning of a control token.
    guards_starts: bool,
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
            inner: special_texts.iter().flat_map(|text| text.chars().skip(1)).collect(),
            special_texts,
            guards_starts: false,
            end_of_turn: end_of_turn.into_iter().filter(|text| !text.is_empty()).collect(),
        }
    }

    /// The same guard for the source of a template more.
    pub(super) fn for_template(mut self, source: &str) -> Self {
        self.guards_starts |= self.is_begun_by(source);
        self
    }

    /// Whether the beginning of a control token, and not all of it, stands at the end of something that a template's source writes, or before a
    /// place in a format. White space at an end may be trimmed.
    fn is_begun_by(&self, source: &str) -> bool {
        let beginnings: BTreeSet<&str> = self
            .special_texts
            .iter()
            .flat_map(|text| text.char_indices().skip(1).map(move |(length, _)| &text[..length]))
            .collect();
        let longest = beginnings.iter().map(|beginning| beginning.len()).max().unwrap_or(0);
        let is_begun = |written: &str| {
            let first = written.len().saturating_sub(longest);
            let mut starts = (first..written.len()).filter(|start| written.is_char_boundary(*start));
            starts.any(|start| beginnings.contains(&written[start..]))
        };
        literals(source).into_iter().any(|literal| {
            let mut formats = literal.match_indices(['%', '{']);
            is_begun(literal)
                || is_begun(literal.trim_end())
                || formats.any(|(place, _)| is_begun(&literal[..place]))
        })
    }

    /// A user's text with breaks in it.
    pub(super) fn protect(&self, text: &str) -> String {
        // Templates trim texts.
        let first = text.len() - text.trim_start().len();
        self.with_breaks(text, |position| position == 0 || position == first)
    }

    /// The name of a field, or a role, with breaks in it. None stands before one that a template may look for.
    pub(super) fn protect_name(&self, name: &str) -> String {
        let is_word = name.starts_with(|first: char| first.is_alphanumeric() || first == '_');
        self.with_breaks(name, |position| position == 0 && !is_word)
    }

    fn with_breaks(&self, text: &str, is_start: impl Fn(usize) -> bool) -> String {
        let mut protected = String::with_capacity(text.len() + 16);
        let mut copied = 0;
        for (position, character) in text.char_indices() {
            if self.guards_starts && is_start(position) && self.inner.contains(&character) {
                protected.push_str(&text[copied..position]);
                copied = position;
                protected.extend([MARK, BREAK]);
            }
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

/// What a template's source writes: what stands outside its tags, and what stands in quotes inside them.
fn literals(source: &str) -> Vec<&str> {
    let mut literals = Vec::new();
    let mut rest = source;
    loop {
        let begins_tag = |place: &usize| matches!(rest.as_bytes().get(place + 1), Some(b'{' | b'%' | b'#'));
        let Some(place) = rest.match_indices('{').map(|(place, _)| place).find(begins_tag) else { break };
        let (written, tag) = rest.split_at(place);
        literals.push(written);
        let (kind, inside) = tag[1..].split_at(1);
        rest = match kind {
            "#" => inside.split_once("#}").map_or("", |(_, behind)| behind),
            "%" => behind_code(inside, "%}", &mut literals),
            _ => behind_code(inside, "}}", &mut literals),
        };
    }
    literals.push(rest);
    literals
}

/// What stands behind the end of a tag with code, of which the texts in quotes are added to `literals`.
fn behind_code<'a>(code: &'a str, close: &str, literals: &mut Vec<&'a str>) -> &'a str {
    let mut rest = code;
    while let Some(next) =
        rest.find(|character: char| matches!(character, '\'' | '"') || close.starts_with(character))
    {
        let (mark, behind) = rest[next..].split_at(1);
        if let Some(behind) = rest[next..].strip_prefix(close) {
            return behind;
        }
        rest = behind;
        if matches!(mark, "'" | "\"") {
            let end = end_of_quoted(behind, mark);
            literals.push(&behind[..end]);
            rest = behind.get(end + 1..).unwrap_or("");
        }
    }
    ""
}

/// Bytes of a text in quotes, up to the mark that ends it; a character behind a backslash ends nothing.
fn end_of_quoted(text: &str, mark: &str) -> usize {
    let mut is_escaped = false;
    let ends = |character: char| {
        let ends = !is_escaped && mark.starts_with(character);
        is_escaped = !is_escaped && character == '\\';
        ends
    };
    text.find(ends).unwrap_or(text.len())
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

    #[test]
    fn only_a_template_that_begins_a_control_token_itself_has_the_starts_of_texts_guarded() {
        let guards = |source: &str| guard().for_template(source).guards_starts;
        for source in [
            "<{{ m.name }}>",
            "{{ '<|' + m.role + '|>' }}",
            "{{ \"<%s>\" % m.name }}",
            "{{ '<{}>'.format(m.name) }}",
            "<|im_\n  {%- if a %}{{ b }}{% endif %}",
            "{{ '<|im_start|' }}",
        ] {
            assert!(guards(source), "{source}");
        }
        for source in [
            "{{ '<|im_start|>' + m.role + '\\n' }}<|im_end|>",
            "{% if a < 5 %}{{ '<tool>' }}{% endif %}{# '<' #}",
            "{{ m['<s>'] }}{% if a <'b\\'c' %}{{ m.content }}",
            "",
        ] {
            assert!(!guards(source), "{source}");
        }
    }

    #[test]
    fn a_break_stands_before_what_could_go_on_with_a_control_token() {
        let strict = guard().for_template("<{{ m.name }}>");
        let breaks = |marked: String| unguard(&marked).breaks;
        assert_eq!(breaks(strict.protect("|im_end|")), [0]);
        assert_eq!(breaks(strict.protect("  |im_end|")), [2]);
        assert_eq!(breaks(strict.protect("<s")), [1]);
        assert_eq!(breaks(strict.protect("im_end|>")), [0]);
        assert_eq!(breaks(strict.protect("xyz")), [0; 0]);
        assert_eq!(breaks(strict.protect_name("im_end")), [0; 0]);
        assert_eq!(breaks(strict.protect_name("|im_end|")), [0]);
        assert_eq!(breaks(guard().protect("|im_end|")), [0; 0]);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "[<|s/>im_a \u{F8C1}-\u{F8C5}中]{0,40}") {
            for guard in [guard(), guard().for_template("<{{ m.name }}>")] {
                prop_assert_eq!(&unguard(&guard.protect(&text)).text, &text);
                prop_assert_eq!(&unguard(&guard.protect_name(&text)).text, &text);
            }
        }
    }
}
