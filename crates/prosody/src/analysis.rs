//! Which lines rhyme, and how far tones follow the rules of regulated verse.
//!
//! The rules (Wang Li 1977, 《詩詞格律》): in a line the second, fourth and sixth character alternate between level and
//! oblique; the two lines of a couplet oppose each other at the second character; neighbouring couplets agree there; even
//! lines end level and rhyme, odd ones end oblique, except a first line that rhymes. 平平仄平仄 at the end of an odd line
//! counts as 平平平仄仄. Characters with several readings, and those in no table, fit everywhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::poem::{Character, Line, Poem};
use crate::tone::{Pattern, Standard};

/// Which of the lines that should rhyme do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rhymes {
    /// The groups that the greatest number of them share: of the rhyme book for shi, a part of 《詞林正韻》 for ci, a rhyme of
    /// 《中華新韻》 by modern readings.
    pub shared: Option<String>,
    /// Places of the lines that end with it, counted from 0.
    pub lines: Vec<usize>,
    /// Places of the lines that should end with it and do not.
    pub missing: Vec<usize>,
    /// Of the lines that end with it, those whose last character an earlier one of them ends with: a word does not rhyme with itself, and
    /// regulated verse uses none twice (重韻).
    pub repeated: Vec<usize>,
    /// Lines that should rhyme.
    pub expected: usize,
}

impl Rhymes {
    /// Whether all that should rhyme do.
    pub fn is_complete(&self) -> bool {
        self.expected > 1 && self.lines.len() >= self.expected
    }
}

/// A rule about the tones of regulated verse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToneRule {
    /// Two characters of a line, two apart, are of opposite kinds.
    Alternation,
    /// A line ends level.
    LevelEnd,
    /// A line ends oblique.
    ObliqueEnd,
    /// The lines of a couplet are of opposite kinds at the second character (對).
    Opposition,
    /// The last line of a couplet and the first of the next are of one kind at the second character (黏).
    Adhesion,
}

/// Where a character stands in a poem, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character of the line.
    pub character: usize,
}

/// A rule, looked at in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToneCheck {
    /// The rule.
    pub rule: ToneRule,
    /// The one or two characters that it is about.
    pub places: Vec<Place>,
    /// Whether some reading of them keeps it.
    pub holds: bool,
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
}

impl Poem {
    /// The rhymes of a shi by the rhyme book: even lines, and the first if it has the same rhyme.
    pub fn shi_rhymes(&self) -> Rhymes {
        self.shi_rhymes_by(Standard::RhymeBook)
    }

    /// The rhymes of a shi: even lines, and the first if it has the same rhyme.
    pub fn shi_rhymes_by(&self, standard: Standard) -> Rhymes {
        let even: Vec<usize> = (1..self.lines.len()).step_by(2).collect();
        let names = |last: Character| shi_names(last, standard);
        let mut rhymes = self.rhymes(&even, names);
        let ends_so = |line: &Line| {
            rhymes.shared.as_ref().is_some_and(|shared| end_names(line, names).contains(shared))
        };
        if self.lines.first().is_some_and(ends_so) {
            rhymes.lines.insert(0, 0);
            rhymes.expected += 1;
            rhymes.repeated = self.repeated(&rhymes.lines);
        }
        rhymes
    }

    /// The rhymes of a ci by 《詞林正韻》: lines that end a sentence.
    pub fn ci_rhymes(&self) -> Rhymes {
        self.ci_rhymes_by(Standard::RhymeBook)
    }

    /// The rhymes of a ci: lines that end a sentence.
    pub fn ci_rhymes_by(&self, standard: Standard) -> Rhymes {
        let ends: Vec<usize> =
            (0..self.lines.len()).filter(|index| self.lines[*index].ends_sentence).collect();
        self.rhymes(&ends, |last| ci_names(last, standard))
    }

    fn rhymes(&self, expected: &[usize], names: impl Fn(Character) -> Vec<String> + Copy) -> Rhymes {
        let by_line: Vec<(usize, BTreeSet<String>)> =
            expected.iter().map(|index| (*index, end_names(&self.lines[*index], names))).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in by_line.iter().flat_map(|(_, names)| names) {
            *counts.entry(name).or_default() += 1;
        }
        // The first of those that occur equally often.
        let mut shared: Option<&String> = None;
        for name in by_line.iter().flat_map(|(_, names)| names) {
            if shared.is_none_or(|most| counts[name.as_str()] > counts[most.as_str()]) {
                shared = Some(name);
            }
        }
        let rhymes = |names: &BTreeSet<String>| shared.is_some_and(|shared| names.contains(shared));
        let (lines, missing): (Vec<_>, Vec<_>) = by_line.iter().partition(|(_, names)| rhymes(names));
        let lines: Vec<usize> = lines.into_iter().map(|(index, _)| *index).collect();
        Rhymes {
            shared: shared.cloned(),
            repeated: self.repeated(&lines),
            lines,
            missing: missing.into_iter().map(|(index, _)| *index).collect(),
            expected: expected.len(),
        }
    }

    /// Those of the lines whose last character an earlier one of them ends with, in whatever script it is written.
    fn repeated(&self, lines: &[usize]) -> Vec<usize> {
        let mut ends = BTreeSet::new();
        let is_repeated = |line: &usize| {
            let last = self.lines[*line].characters.last();
            last.is_some_and(|last| !ends.insert(last.traditional))
        };
        lines.iter().copied().filter(is_repeated).collect()
    }

    /// How many rules about tones a poem keeps by the rhyme book. For which poems: see [`Poem::tone_checks`].
    pub fn tone_pattern(&self) -> Option<TonePattern> {
        let checks = self.tone_checks(Standard::RhymeBook)?;
        Some(TonePattern { kept: checks.iter().filter(|check| check.holds).count(), checks: checks.len() })
    }

    /// The rules about tones in every place where a poem of an even number of lines, at least four, of five or seven characters
    /// each has to keep them; `None` for other poems.
    pub fn tone_checks(&self, standard: Standard) -> Option<Vec<ToneCheck>> {
        let form = self.form()?;
        if !matches!(form.characters, 5 | 7) || form.lines < 4 || !form.lines.is_multiple_of(2) {
            return None;
        }
        let mut checks = Checks { poem: self, standard, made: Vec::new() };
        let first_rhymes = self.shi_rhymes_by(standard).lines.first() == Some(&0);
        for index in 0..form.lines {
            let is_odd = index % 2 == 0;
            checks.alternation(index, form.characters);
            checks.end(
                Place { line: index, character: form.characters - 1 },
                !is_odd || (index == 0 && first_rhymes),
            );
            if index + 1 < form.lines {
                checks.second_characters(index, is_odd);
            }
        }
        Some(checks.made)
    }
}

/// The names of a shi's rhymes that a last character may have.
fn shi_names(last: Character, standard: Standard) -> Vec<String> {
    match standard {
        Standard::RhymeBook => last.groups().iter().map(|group| group.name().to_owned()).collect(),
        Standard::Modern => {
            let toned = last.readings().filter(|reading| reading.tone > 0);
            let kind = |tone: u8| if tone <= 2 { "平" } else { "仄" };
            toned.map(|reading| format!("{}{}聲", reading.rhyme_name(), kind(reading.tone))).collect()
        }
    }
}

/// The names of a ci's rhymes that a last character may have.
fn ci_names(last: Character, standard: Standard) -> Vec<String> {
    match standard {
        Standard::RhymeBook => {
            let parts = last.groups().iter().flat_map(|group| group.ci_parts());
            parts.map(|part| format!("詞林正韻第{part}部")).collect()
        }
        Standard::Modern => last.readings().map(|reading| reading.rhyme_name().to_owned()).collect(),
    }
}

/// The names of a line's last character.
fn end_names(line: &Line, names: impl Fn(Character) -> Vec<String>) -> BTreeSet<String> {
    line.characters.last().into_iter().flat_map(|last| names(*last)).collect()
}

/// The checks of a poem as they are made.
struct Checks<'a> {
    poem: &'a Poem,
    standard: Standard,
    made: Vec<ToneCheck>,
}

impl Checks<'_> {
    fn pattern(&self, place: Place) -> Pattern {
        self.poem.lines[place.line].characters[place.character].pattern_by(self.standard)
    }

    /// The second, fourth and sixth character alternate.
    fn alternation(&mut self, line: usize, length: usize) {
        for character in (1..length - 2).step_by(2) {
            let [first, second] = [character, character + 2].map(|character| Place { line, character });
            let mut holds = self.pattern(first).may_agree(self.pattern(second), false);
            // The last two of these places, in an odd line: 平平仄平仄.
            if !holds && line.is_multiple_of(2) && character + 4 == length {
                let levels = [true, true, false, true, false];
                holds = (length - 5..)
                    .zip(levels)
                    .all(|(character, level)| self.pattern(Place { line, character }).may_be_level(level));
            }
            self.made.push(ToneCheck { rule: ToneRule::Alternation, places: vec![first, second], holds });
        }
    }

    fn end(&mut self, place: Place, level: bool) {
        let rule = if level { ToneRule::LevelEnd } else { ToneRule::ObliqueEnd };
        let holds = self.pattern(place).may_be_level(level);
        self.made.push(ToneCheck { rule, places: vec![place], holds });
    }

    /// The second characters of a line and the next, which are a couplet or not.
    fn second_characters(&mut self, line: usize, is_couplet: bool) {
        let [own, next] = [line, line + 1].map(|line| Place { line, character: 1 });
        let rule = if is_couplet { ToneRule::Opposition } else { ToneRule::Adhesion };
        let holds = self.pattern(own).may_agree(self.pattern(next), !is_couplet);
        self.made.push(ToneCheck { rule, places: vec![own, next], holds });
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

    fn broken(poem: &str, standard: Standard) -> Vec<(ToneRule, Vec<(usize, usize)>)> {
        let checks = Poem::parse(poem).tone_checks(standard).unwrap();
        let broken = checks.into_iter().filter(|check| !check.holds);
        broken
            .map(|check| {
                (check.rule, check.places.iter().map(|place| (place.line, place.character)).collect())
            })
            .collect()
    }

    #[test]
    fn broken_rules_are_named_with_their_places() {
        assert_eq!(broken("白日依山盡，黃河入海流。欲窮千里目，更上一層樓。", Standard::RhymeBook), []);
        // 高 is level where 盡 was oblique; 天 is level where 海 was oblique.
        assert_eq!(
            broken("白日依山高，黃河入天流。欲窮千里目，更上一層樓。", Standard::RhymeBook),
            [(ToneRule::ObliqueEnd, vec![(0, 4)]), (ToneRule::Alternation, vec![(1, 1), (1, 3)])]
        );
        // 春 is level: the third line neither agrees with the second nor opposes the fourth in the same way as before.
        let turned = broken("白日依山盡，黃河入海流。千月窮春目，更上一層樓。", Standard::RhymeBook);
        assert_eq!(
            turned,
            [(ToneRule::Adhesion, vec![(1, 1), (2, 1)]), (ToneRule::Opposition, vec![(2, 1), (3, 1)])]
        );
    }

    #[test]
    fn modern_readings_judge_otherwise_than_the_rhyme_book() {
        // 白 and 一 were entering tones; 國 too, and is level today.
        let spring = broken(SPRING, Standard::Modern);
        assert!(!spring.is_empty() && broken(SPRING, Standard::RhymeBook).is_empty());
        let poem = Poem::parse("床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。");
        let rhymes = poem.shi_rhymes_by(Standard::Modern);
        assert_eq!(rhymes.shared.as_deref(), Some("十唐平聲"));
        assert_eq!((rhymes.lines, rhymes.missing), (vec![0, 1, 3], vec![]));
        let ci = Poem::parse("簾外雨潺潺，春意闌珊。羅衾不耐五更寒。夢裏不知身是客，一晌貪歡。");
        assert_eq!(ci.ci_rhymes_by(Standard::Modern).shared.as_deref(), Some("八寒"));
    }

    #[test]
    fn lines_that_should_rhyme_and_do_not_are_named() {
        let rhymes = Poem::parse("白日依山盡，黃河入海流。欲窮千里目，更上一層山。青山橫北郭，白水遠孤舟。")
            .shi_rhymes();
        assert_eq!(rhymes.shared.as_deref(), Some("下平聲十一尤"));
        assert_eq!((rhymes.lines, rhymes.missing, rhymes.expected), (vec![1, 5], vec![3], 3));
    }

    #[test]
    fn a_character_that_ends_several_lines_is_named() {
        let repeated = |text: &str| Poem::parse(text).shi_rhymes().repeated;
        assert!(repeated("白日依山盡，黃河入海流。欲窮千里目，更上一層樓。").is_empty());
        // 樓 in both scripts, and in the first line.
        assert_eq!(repeated("白日依山盡，黃河入海樓。欲窮千里目，更上一層楼。"), [3]);
        assert_eq!(repeated("白日依山樓，黃河入海流。欲窮千里目，更上一層樓。"), [3]);
        // Lines that do not rhyme repeat no rhyme.
        assert!(repeated("白日依山盡，黃河入海流。欲窮千里盡，更上一層樓。").is_empty());
        let ci = Poem::parse("東風。東風。落花中。").ci_rhymes();
        assert_eq!((ci.lines, ci.repeated), (vec![0, 1, 2], vec![1]));
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
