//! A text with the guard's marks, as the template sees it: without them. What is cut out of it keeps its marks.

use std::borrow::Cow;
use std::ops::Range;

use crate::template::guard::{BREAK, GENERATION_END, GENERATION_START, LITERAL, MARK};

/// A text that may have marks in it.
pub(super) struct Text<'a> {
    marked: &'a str,
    plain: Cow<'a, str>,
    /// Where plain and marked text part, ascending.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    /// Where it stands in the plain text.
    plain: usize,
    /// Bytes that only the marked text has.
    bytes: usize,
    /// The same of all marks before it, so that a part is found in few steps.
    before: usize,
    /// A character of the text, which the mark only escapes.
    literal: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(marked: &'a str) -> Self {
        if !marked.contains(MARK) {
            return Self { marked, plain: Cow::Borrowed(marked), marks: Vec::new() };
        }
        let (mut plain, mut marks) = (String::with_capacity(marked.len()), Vec::<Mark>::new());
        let mut characters = marked.chars().peekable();
        while let Some(character) = characters.next() {
            if character != MARK {
                plain.push(character);
                continue;
            }
            let before = marks.last().map_or(0, |mark| mark.before + mark.bytes);
            let mark = |bytes, literal| Mark { plain: plain.len(), bytes, before, literal };
            match characters.peek() {
                Some(&LITERAL) => {
                    marks.push(mark(LITERAL.len_utf8(), true));
                    plain.push(MARK);
                    characters.next();
                }
                Some(&kind @ (BREAK | GENERATION_START | GENERATION_END)) => {
                    marks.push(mark(MARK.len_utf8() + kind.len_utf8(), false));
                    characters.next();
                }
                // A half of a mark is no text of anybody.
                _ => marks.push(mark(MARK.len_utf8(), false)),
            }
        }
        Self { marked, plain: Cow::Owned(plain), marks }
    }

    /// The text without marks.
    pub(super) fn plain(&self) -> &str {
        &self.plain
    }

    /// A part, given by its bytes in the plain text, with its marks and those at its ends: text that was cut and is put
    /// together again is still guarded.
    pub(super) fn part(&self, plain: Range<usize>) -> &'a str {
        let extra = |counts: &dyn Fn(&Mark) -> bool| -> usize {
            let count = self.marks.partition_point(|mark| counts(mark));
            self.marks[..count].last().map_or(0, |mark| mark.before + mark.bytes)
        };
        let start = plain.start + extra(&|mark| mark.plain < plain.start);
        let end = plain.end
            + extra(&|mark| if mark.literal { mark.plain < plain.end } else { mark.plain <= plain.end });
        &self.marked[start..end.max(start)]
    }

    /// Byte ranges of characters in the plain text.
    pub(super) fn characters(&self) -> Vec<Range<usize>> {
        self.plain.char_indices().map(|(start, character)| start..start + character.len_utf8()).collect()
    }

    /// The byte at which a character of the plain text begins; the end of the text beyond it.
    pub(super) fn byte_of(&self, character: usize) -> usize {
        if self.plain.is_ascii() {
            return character.min(self.plain.len());
        }
        self.plain.char_indices().nth(character).map_or(self.plain.len(), |(byte, _)| byte)
    }

    /// The character that begins at a byte of the plain text.
    pub(super) fn character_of(&self, byte: usize) -> usize {
        self.plain[..byte].chars().count()
    }

    pub(super) fn length(&self) -> usize {
        if self.plain.is_ascii() { self.plain.len() } else { self.plain.chars().count() }
    }
}

/// A text without marks.
pub(super) fn plain(marked: &str) -> Cow<'_, str> {
    Text::new(marked).plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::template::guard::{Guard, unguard};

    #[test]
    fn parts_keep_the_marks_at_their_ends() {
        let guard = Guard::new(vec!["<|im_end|>".to_owned()], Vec::new());
        let marked = guard.protect("a<|im_end|>b");
        let text = Text::new(&marked);
        assert_eq!(text.plain(), "a<|im_end|>b");
        let parts = [text.part(0..2), text.part(2..12)].concat();
        assert_eq!(unguard(&parts).text, "a<|im_end|>b");
        assert!(unguard(text.part(0..2)).breaks == [2] && unguard(text.part(2..12)).breaks == [0]);
    }

    proptest! {
        #[test]
        fn any_parts_are_the_text(text in "[<|s/>im_a\u{F8C1}-\u{F8C5}中]{0,30}", cut in 0..30_usize) {
            let guard = Guard::new(["<|im_end|>", "</s>"].map(str::to_owned).to_vec(), Vec::new());
            let marked = guard.protect(&text);
            let view = Text::new(&marked);
            prop_assert_eq!(view.plain(), &text);
            let cut = view.byte_of(cut);
            let (left, right) = (view.part(0..cut), view.part(cut..text.len()));
            prop_assert_eq!(plain(left), &text[..cut]);
            prop_assert_eq!(plain(right), &text[cut..]);
        }
    }
}
