//! Modern readings (Hanyu Pinyin): their tones, and the fourteen rhymes of 中華新韻 by their finals.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::tone::Pattern;

static READINGS: LazyLock<HashMap<char, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("../data/readings.txt").lines().filter_map(|line| line.split_once(' '));
    lines
        .flat_map(|(readings, characters)| characters.chars().map(move |character| (character, readings)))
        .collect()
});

/// The vowels with tone marks: plain form and tone.
const MARKED: [(char, char, u8); 24] = [
    ('ā', 'a', 1),
    ('á', 'a', 2),
    ('ǎ', 'a', 3),
    ('à', 'a', 4),
    ('ē', 'e', 1),
    ('é', 'e', 2),
    ('ě', 'e', 3),
    ('è', 'e', 4),
    ('ī', 'i', 1),
    ('í', 'i', 2),
    ('ǐ', 'i', 3),
    ('ì', 'i', 4),
    ('ō', 'o', 1),
    ('ó', 'o', 2),
    ('ǒ', 'o', 3),
    ('ò', 'o', 4),
    ('ū', 'u', 1),
    ('ú', 'u', 2),
    ('ǔ', 'u', 3),
    ('ù', 'u', 4),
    ('ǖ', 'ü', 1),
    ('ǘ', 'ü', 2),
    ('ǚ', 'ü', 3),
    ('ǜ', 'ü', 4),
];

/// One modern reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// As it is written, with the tone mark.
    pub pinyin: &'static str,
    /// The tone, 1 to 4; 0 is neutral.
    pub tone: u8,
    /// The rhyme of 中華新韻, named by a character.
    pub rhyme: char,
}

/// The rhymes of 中華新韻 in its order, with their numbers.
const RHYMES: [&str; 14] = [
    "一麻",
    "二波",
    "三皆",
    "四開",
    "五微",
    "六豪",
    "七尤",
    "八寒",
    "九文",
    "十唐",
    "十一庚",
    "十二齊",
    "十三支",
    "十四姑",
];

impl Reading {
    /// The name of its rhyme with the number in 中華新韻, such as 十唐.
    pub fn rhyme_name(&self) -> &'static str {
        RHYMES.into_iter().find(|name| name.ends_with(self.rhyme)).unwrap_or_default()
    }
}

/// The modern readings of a character, the most usual first; none when it is in no table.
pub fn readings(character: char) -> impl Iterator<Item = Reading> {
    READINGS.get(&character).into_iter().flat_map(|readings| readings.split(',')).filter_map(reading)
}

/// How a character counts in a tone pattern by its modern readings: first and second tone are level.
pub fn modern_pattern(character: char) -> Pattern {
    Pattern::of(readings(character).filter(|reading| reading.tone > 0).map(|reading| reading.tone <= 2))
}

fn reading(pinyin: &'static str) -> Option<Reading> {
    let mut tone = 0;
    let plain: String = pinyin
        .chars()
        .map(|character| match MARKED.iter().find(|(marked, ..)| *marked == character) {
            Some((_, plain, marked)) => {
                tone = *marked;
                *plain
            }
            None => character,
        })
        .collect();
    Some(Reading { pinyin, tone, rhyme: rhyme(&plain)? })
}

/// The rhyme of a syllable without tone mark.
fn rhyme(syllable: &str) -> Option<char> {
    let initial = ["zh", "ch", "sh"].into_iter().find(|initial| syllable.starts_with(initial));
    let consonant = syllable.chars().next().filter(|first| "bpmfdtnlgkhjqxrzcsyw".contains(*first));
    let start = initial.map_or(consonant.map_or(0, char::len_utf8), str::len);
    let (initial, last) = (&syllable[..start], &syllable[start..]);
    // u after j, q, x and y is ü.
    let rounded = matches!(initial, "j" | "q" | "x" | "y");
    Some(match last {
        "a" | "ia" | "ua" => '麻',
        "o" | "uo" => '波',
        // ye, yue and yu-an are written without the vowel that begins them.
        "e" if initial == "y" => '皆',
        "e" => '波',
        "ie" | "ue" | "üe" | "ê" => '皆',
        "ai" | "uai" => '開',
        "ei" | "ui" => '微',
        "ao" | "iao" => '豪',
        "ou" | "iu" => '尤',
        "an" | "ian" | "uan" | "üan" => '寒',
        "en" | "in" | "un" | "ün" => '文',
        "ang" | "iang" | "uang" => '唐',
        "eng" | "ing" | "ong" | "iong" => '庚',
        "i" if matches!(initial, "zh" | "ch" | "sh" | "r" | "z" | "c" | "s") => '支',
        "i" | "er" | "ü" => '齊',
        "u" if rounded => '齊',
        "u" => '姑',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_and_rhymes_of_known_syllables() {
        let first = |character| {
            let reading = readings(character).next().unwrap();
            (reading.pinyin, reading.tone, reading.rhyme)
        };
        assert_eq!(first('光'), ("guāng", 1, '唐'));
        assert_eq!(first('月'), ("yuè", 4, '皆'));
        assert_eq!(first('雨'), ("yǔ", 3, '齊'));
        assert_eq!(first('知'), ("zhī", 1, '支'));
        assert_eq!(first('樓'), ("lóu", 2, '尤'));
        assert_eq!(first('雙'), ("shuāng", 1, '唐'));
    }

    #[test]
    fn nearly_every_reading_has_a_rhyme() {
        let all = READINGS.values().flat_map(|readings| readings.split(',')).count();
        let known: usize = READINGS.keys().map(|character| readings(*character).count()).sum();
        let named = READINGS.keys().flat_map(|character| readings(*character));
        assert!(named.map(|reading| reading.rhyme_name()).all(|name| !name.is_empty()));
        // Syllables without a vowel (嗯 ńg, 呣 m̀) have none.
        assert!(known * 1000 >= all * 998, "{known} of {all}");
    }

    #[test]
    fn an_entering_tone_can_be_level_today() {
        assert_eq!(crate::pattern('白'), Pattern::Oblique);
        assert_eq!(modern_pattern('國'), Pattern::Level);
    }

    #[test]
    fn readings_of_old_dictionaries_alone_do_not_count() {
        for character in ['春', '家', '金'] {
            assert_eq!(modern_pattern(character), Pattern::Level, "{character}");
        }
        assert_eq!(modern_pattern('草'), Pattern::Oblique);
        assert_eq!(modern_pattern('更'), Pattern::Either);
    }
}
