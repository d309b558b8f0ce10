//! Which lines rhyme, and how far tones follow the rules of regulated verse.
//!
//! The rules (Wang Li 1977, 《詩詞格律》): in a line the second, fourth and sixth character alternate between level and
//! oblique; the two lines of a couplet oppose each other at the second character; neighbouring couplets agree there; even
//! lines end level and rhyme, odd ones end oblique, except a first line that rhymes. 平平仄平仄 at the end of an odd line
//! counts as 平平平仄仄. Characters with several readings, and those in no table, fit everywhere.

use crate::poem::{Line, Poem};
use crate::rhyme::RhymeGroup;

/// Which of the lines that should rhyme do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rhymes {
    /// The groups that the greatest number of them share: one of the rhyme book for shi, a part of 《詞林正韻》 for ci.
    pub shared: Option<String>,
    /// Places of the lines that end with it, counted from 0.
    pub lines: Vec<usize>,
    /// Lines that should rhyme.
    pub expected: usize,
}

impl Rhymes {
    /// Whether all that should rhyme do.
    pub fn is_complete(&self) -> bool {
        self.expected > 1 && self.lines.len() >= self.expected
    }
}

/// How many checks of the rules of regulated verse hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TonePattern {
    /// Checks that hold.
    pub kept: usize,
    /// All checks.
    pub checks: usize,
}

impl TonePattern {
    /// Whether the poem is regulated verse.
    pub fn is_regulated(self) -> bool {
        self.checks > 0 && self.kept == self.checks
    }

    fn check(&mut self, holds: bool) {
        self.checks += 1;
        self.kept += usize::from(holds);
    }
}

impl Poem {
    /// The rhymes of a shi: even lines, and the first if it has the same rhyme.
    pub fn shi_rhymes(&self) -> Rhymes {
        let even: Vec<usize> = (1..self.lines.len()).step_by(2).collect();
        let mut rhymes = self.rhymes(&even, |group| vec![group.name().to_owned()]);
        let shared = rhymes.shared.clone();
        let ends_so = |line: &Line| end_groups(line).any(|group| Some(group.name()) == shared.as_deref());
        if self.lines.first().is_some_and(ends_so) {
            rhymes.lines.insert(0, 0);
            rhymes.expected += 1;
        }
        rhymes
    }

    /// The rhymes of a ci: lines that end a sentence.
    pub fn ci_rhymes(&self) -> Rhymes {
        let ends: Vec<usize> =
            (0..self.lines.len()).filter(|index| self.lines[*index].ends_sentence).collect();
        self.rhymes(&ends, |group| group.ci_parts().map(|part| format!("詞林正韻第{part}部")).collect())
    }

    fn rhymes(&self, expected: &[usize], names: impl Fn(RhymeGroup) -> Vec<String>) -> Rhymes {
        let of_line = |index: &usize| -> Vec<String> {
            let mut of_line: Vec<String> = end_groups(&self.lines[*index]).flat_map(&names).collect();
            of_line.sort();
            of_line.dedup();
            of_line
        };
        let by_line: Vec<(usize, Vec<String>)> =
            expected.iter().map(|index| (*index, of_line(index))).collect();
        let count = |name: &String| by_line.iter().filter(|(_, names)| names.contains(name)).count();
        // The first of those that occur equally often.
        let mut shared: Option<(&String, usize)> = None;
        for name in by_line.iter().flat_map(|(_, names)| names) {
            if shared.is_none_or(|(_, most)| count(name) > most) {
                shared = Some((name, count(name)));
            }
        }
        let Some((shared, _)) = shared else {
            return Rhymes { expected: expected.len(), ..Rhymes::default() };
        };
        let lines = by_line.iter().filter(|(_, names)| names.contains(shared)).map(|(index, _)| *index);
        Rhymes { shared: Some(shared.clone()), lines: lines.collect(), expected: expected.len() }
    }

    /// The tones of a poem of an even number of lines of five or seven characters each; `None` for others.
    pub fn tone_pattern(&self) -> Option<TonePattern> {
        let form = self.form()?;
        if !matches!(form.characters, 5 | 7) || form.lines < 4 || !form.lines.is_multiple_of(2) {
            return None;
        }
        let mut tones = TonePattern::default();
        let first_rhymes = self.shi_rhymes().lines.first() == Some(&0);
        for (index, line) in self.lines.iter().enumerate() {
            let is_odd = index % 2 == 0;
            check_alternation(line, is_odd, &mut tones);
            let ends_level = !is_odd || (index == 0 && first_rhymes);
            tones.check(line.characters[form.characters - 1].pattern().may_be_level(ends_level));
            if let Some(next) = self.lines.get(index + 1) {
                let (own, next) = (line.characters[1].pattern(), next.characters[1].pattern());
                tones.check(own.may_agree(next, !is_odd));
            }
        }
        Some(tones)
    }
}

/// The rhyme groups of a line's last character.
fn end_groups(line: &Line) -> impl Iterator<Item = RhymeGroup> {
    line.characters.last().into_iter().flat_map(|last| last.groups().iter().copied())
}

/// The second, fourth and sixth character alternate.
fn check_alternation(line: &Line, is_odd: bool, tones: &mut TonePattern) {
    let length = line.characters.len();
    let pattern = |index: usize| line.characters[index].pattern();
    for index in (1..length - 2).step_by(2) {
        let mut holds = pattern(index).may_agree(pattern(index + 2), false);
        // The last two of these places, in an odd line: 平平仄平仄.
        if !holds && is_odd && index + 4 == length {
            let levels = [true, true, false, true, false];
            holds = levels
                .iter()
                .enumerate()
                .all(|(place, level)| pattern(length - 5 + place).may_be_level(*level));
        }
        tones.check(holds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPRING: &str =
        "國破山河在，城春草木深。感時花濺淚，恨別鳥驚心。烽火連三月，家書抵萬金。白頭搔更短，渾欲不勝簪。";

    #[test]
    fn a_regulated_poem_keeps_every_rule() {
        let poem = Poem::parse(SPRING);
        let tones = poem.tone_pattern().unwrap();
        assert!(tones.is_regulated(), "{tones:?}");
        let rhymes = poem.shi_rhymes();
        assert_eq!(rhymes.shared.as_deref(), Some("下平聲十二侵"));
        assert_eq!((rhymes.lines, rhymes.expected), (vec![1, 3, 5, 7], 4));
    }

    #[test]
    fn the_same_lines_in_another_order_break_rules() {
        let poem = Poem::parse("城春草木深，國破山河在。恨別鳥驚心，感時花濺淚。");
        assert!(!poem.tone_pattern().unwrap().is_regulated());
        assert!(!poem.shi_rhymes().is_complete());
    }

    #[test]
    fn a_first_line_that_rhymes_may_end_level() {
        let poem = Poem::parse("朝辭白帝彩雲間，千里江陵一日還。兩岸猿聲啼不住，輕舟已過萬重山。");
        assert!(poem.tone_pattern().unwrap().is_regulated());
        assert_eq!(poem.shi_rhymes().lines, [0, 1, 3]);
    }

    #[test]
    fn a_ci_rhymes_by_parts() {
        let poem = Poem::parse("簾外雨潺潺，春意闌珊。羅衾不耐五更寒。夢裏不知身是客，一晌貪歡。");
        let rhymes = poem.ci_rhymes();
        assert_eq!(rhymes.shared.as_deref(), Some("詞林正韻第7部"));
        assert!(rhymes.is_complete());
    }

    #[test]
    fn texts_that_are_no_poems_have_no_pattern() {
        for text in ["", "hello", "一", "一二三。", "一二三四五，一二三四。"] {
            assert_eq!(Poem::parse(text).tone_pattern(), None, "{text}");
            assert!(!Poem::parse(text).shi_rhymes().is_complete(), "{text}");
        }
    }
}
