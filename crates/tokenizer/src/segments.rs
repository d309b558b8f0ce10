//! A long text in segments that are encoded one after the other, so that what cannot be encoded without the `tokenizers` library, which records
//! for every byte where it came from, is a segment and not the text.
//!
//! A segment ends where every rule of [`crate::byte_level_encoder`] ends a word, whatever stands farther away, and where normal forms join
//! nothing: in front of a space that no white space stands before and a letter of ASCII behind; behind a line feed between two characters that
//! are not white space; and in front of a mark of Chinese punctuation behind a Chinese character. This file does not know vocabularies.

use std::ops::Range;

use crate::added_tokens::Found;

/// The longest segment, in bytes, of a text that has places to end one.
pub(crate) const SEGMENT_BYTES: usize = 64 << 10;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) text: &'a str,
    /// The added tokens in it, with their places in it.
    pub(crate) found: Vec<Found>,
}

/// The segments of a text with the added tokens `found`, in order; together they are the text. No one is longer than `most` bytes where it can
/// be divided.
pub(crate) fn segments<'a>(
    text: &'a str,
    found: &'a [Found],
    most: usize,
) -> impl Iterator<Item = Segment<'a>> {
    let (mut start, mut left) = (0, found);
    std::iter::from_fn(move || {
        if start == text.len() {
            return None;
        }
        let end = end_of_segment(text, left, start, most);
        let (own, behind) = left.split_at(left.partition_point(|(range, _)| range.end <= end));
        let moved = |range: &Range<usize>| range.start - start..range.end - start;
        let found = own.iter().map(|(range, id)| (moved(range), *id)).collect();
        let segment = Segment { text: &text[start..end], found };
        (start, left) = (end, behind);
        Some(segment)
    })
}

/// The last end within `most` bytes behind `start`, or else the next one.
fn end_of_segment(text: &str, found: &[Found], start: usize, most: usize) -> usize {
    if text.len() - start <= most {
        return text.len();
    }
    let is_end = |place: &usize| ends_word(text, *place) && !is_inside(found, *place);
    let furthest = start + most;
    let before = (start + 1..=furthest).rev().find(is_end);
    before.or_else(|| (furthest + 1..text.len()).find(is_end)).unwrap_or(text.len())
}

fn ends_word(text: &str, place: usize) -> bool {
    let Some((before, behind)) = text.split_at_checked(place) else { return false };
    let Some(last) = before.chars().next_back() else { return false };
    let mut next = behind.chars();
    match next.next() {
        Some(' ') => !last.is_whitespace() && next.next().is_some_and(|letter| letter.is_ascii_alphabetic()),
        Some('，' | '。' | '、' | '；' | '：' | '？' | '！') => {
            matches!(last, '\u{4E00}'..='\u{9FFF}')
        }
        Some(first) if last == '\n' => {
            let of_line = before[..before.len() - 1].chars().next_back();
            !first.is_whitespace() && of_line.is_some_and(|character| !character.is_whitespace())
        }
        _ => false,
    }
}

fn is_inside(found: &[Found], place: usize) -> bool {
    let candidate = found.partition_point(|(range, _)| range.end <= place);
    found.get(candidate).is_some_and(|(range, _)| range.start < place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, found: &[Found], most: usize) -> Vec<String> {
        segments(text, found, most).map(|segment| segment.text.to_owned()).collect()
    }

    #[test]
    fn segments_end_in_front_of_words() {
        assert_eq!(texts("ab cd ef gh", &[], 8), ["ab cd ef", " gh"]);
        assert_eq!(texts("ab  cd\n ef 12 ,gh i", &[], 3), ["ab  cd\n ef 12 ,gh", " i"]);
        assert_eq!(texts("abcdefgh ij kl", &[], 4), ["abcdefgh", " ij", " kl"]);
        assert_eq!(texts("中文 ab", &[], 1), ["中文", " ab"]);
        assert_eq!(texts("", &[], 8), [""; 0]);
        assert_eq!(texts("真金，不怕火。", &[], 1), ["真金", "，不怕火", "。"]);
        assert_eq!(texts("a，真。。金", &[], 1), ["a，真", "。。金"]);
        assert_eq!(texts("真\n金\n\n不\n 怕\r\n火", &[], 1), ["真\n", "金\n\n不\n 怕\r\n火"]);
    }

    #[test]
    fn no_segment_ends_inside_an_added_token() {
        let found = [(0..2, 7), (4..8, 8), (9..10, 9)];
        let cut: Vec<Segment<'_>> = segments("ab cde fg h", &found, 6).collect();
        assert_eq!(
            cut,
            [
                Segment { text: "ab", found: vec![(0..2, 7)] },
                Segment { text: " cde fg", found: vec![(2..6, 8)] },
                Segment { text: " h", found: vec![(0..1, 9)] },
            ]
        );
    }
}
