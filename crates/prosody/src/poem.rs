//! A poem's text taken apart: lines of characters, how many of each, and the name of the form.

use crate::reading::{Reading, modern_pattern, readings};
use crate::rhyme::{RhymeGroup, groups, pattern, traditional};
use crate::tone::{Pattern, Standard};

/// One character of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Character {
    /// As the poem has it.
    pub written: char,
    /// In traditional form, as the rhyme book has it.
    pub traditional: char,
}

impl Character {
    /// Its rhyme groups.
    pub fn groups(self) -> &'static [RhymeGroup] {
        groups(self.traditional)
    }

    /// How it counts in a tone pattern by the rhyme book.
    pub fn pattern(self) -> Pattern {
        pattern(self.traditional)
    }

    /// How it counts in a tone pattern.
    pub fn pattern_by(self, standard: Standard) -> Pattern {
        match standard {
            Standard::RhymeBook => self.pattern(),
            Standard::Modern => modern_pattern(self.modern()),
        }
    }

    /// Its modern readings, the most usual first.
    pub fn readings(self) -> impl Iterator<Item = Reading> {
        readings(self.modern())
    }

    /// The form whose modern readings count: the traditional one, which simplification did not merge with others, unless the
    /// table has only the other.
    fn modern(self) -> char {
        if readings(self.traditional).next().is_some() { self.traditional } else { self.written }
    }
}

/// A line: what stands between two marks of punctuation or line ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its characters, without punctuation.
    pub characters: Vec<Character>,
    /// The mark after it ends a sentence (。！？；) or it is the last one of the text's line.
    pub ends_sentence: bool,
}

/// A poem as lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poem {
    /// The lines in order; none is empty.
    pub lines: Vec<Line>,
}

/// The form of a poem whose lines have equally many characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Number of lines.
    pub lines: usize,
    /// Characters of each line.
    pub characters: usize,
}

impl Form {
    /// Its name by the number of lines: 五言絕句 (4), 七言律詩 (8), 五言排律 (10 and more). Whether the tones are those of
    /// regulated verse is another question.
    pub fn name(self) -> Option<&'static str> {
        Some(match (self.characters, self.lines) {
            (5, 4) => "五言絕句",
            (7, 4) => "七言絕句",
            (5, 8) => "五言律詩",
            (7, 8) => "七言律詩",
            (5, 10..) if self.lines.is_multiple_of(2) => "五言排律",
            (7, 10..) if self.lines.is_multiple_of(2) => "七言排律",
            _ => return None,
        })
    }
}

/// Marks that end a sentence.
const SENTENCE_ENDS: &str = "。！？；.!?;";

/// Whether a character is a Chinese one.
pub fn is_han(character: char) -> bool {
    matches!(u32::from(character), 0x3007 | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

impl Poem {
    /// Takes a text apart. Everything that is no Chinese character divides lines, spaces aside.
    pub fn parse(text: &str) -> Poem {
        let converted = traditional(text);
        let mut lines = Vec::new();
        let mut line = Line::default();
        for (written, traditional) in text.chars().zip(converted.chars()) {
            if is_han(written) {
                line.characters.push(Character { written, traditional });
                continue;
            }
            if written != '\n' && written.is_whitespace() {
                continue;
            }
            line.ends_sentence = written == '\n' || SENTENCE_ENDS.contains(written);
            if !line.characters.is_empty() {
                lines.push(std::mem::take(&mut line));
            } else if let (true, Some(last)) = (line.ends_sentence, lines.last_mut()) {
                last.ends_sentence = true;
            }
        }
        if !line.characters.is_empty() {
            lines.push(Line { ends_sentence: true, ..line });
        }
        if let Some(last) = lines.last_mut() {
            last.ends_sentence = true;
        }
        Poem { lines }
    }

    /// Characters of each line.
    pub fn lengths(&self) -> Vec<usize> {
        self.lines.iter().map(|line| line.characters.len()).collect()
    }

    /// The form, where all lines have equally many characters.
    pub fn form(&self) -> Option<Form> {
        let characters = self.lines.first()?.characters.len();
        let is_even = self.lines.iter().all(|line| line.characters.len() == characters);
        is_even.then_some(Form { lines: self.lines.len(), characters })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quatrain_has_four_lines() {
        let poem = Poem::parse("白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。");
        assert_eq!(poem.lengths(), [5, 5, 5, 5]);
        assert_eq!(poem.form().and_then(Form::name), Some("五言絕句"));
        let ends: Vec<_> = poem.lines.iter().map(|line| line.ends_sentence).collect();
        assert_eq!(ends, [false, true, false, true]);
    }

    #[test]
    fn simplified_characters_are_kept_beside_their_traditional_form() {
        let poem = Poem::parse("东风");
        assert_eq!(poem.lines[0].characters[0], Character { written: '东', traditional: '東' });
    }

    proptest! {
        #[test]
        fn every_chinese_character_is_kept(text in "[東风，。！\n a-c\u{20000}白]{0,40}") {
            let poem = Poem::parse(&text);
            let kept: String = poem.lines.iter().flat_map(|line| &line.characters).map(|one| one.written).collect();
            prop_assert_eq!(kept, text.chars().filter(|character| is_han(*character)).collect::<String>());
            prop_assert!(poem.lines.iter().all(|line| !line.characters.is_empty()));
        }
    }
}
