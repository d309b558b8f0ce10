//! Rhyme groups: the 106 of the Pingshui rhyme book (平水韻), for shi, and the 19 parts of 《詞林正韻》 that they form, for ci.

use std::collections::HashMap;
use std::sync::LazyLock;

use ferrous_opencc::OpenCC;
use ferrous_opencc::config::BuiltinConfig;

use crate::tone::{Pattern, Tone};

/// A rhyme group of the Pingshui rhyme book, such as 上平聲一東.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RhymeGroup(u8);

struct Table {
    names: Vec<(&'static str, Tone)>,
    groups: HashMap<char, Vec<RhymeGroup>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { names: Vec::new(), groups: HashMap::new() };
    for (index, line) in include_str!("../data/pingshui.txt").lines().enumerate() {
        let Some((name, characters)) = line.split_once(' ') else { continue };
        table.names.push((name, tone_of(name)));
        for character in characters.chars() {
            table.groups.entry(character).or_default().push(RhymeGroup(index as u8));
        }
    }
    for line in include_str!("../data/variants.txt").lines() {
        let mut characters = line.chars();
        let known = characters.next_back().and_then(|known| table.groups.get(&known).cloned());
        for variant in characters {
            table.groups.entry(variant).or_insert_with(|| known.clone().unwrap_or_default());
        }
    }
    table
});

fn tone_of(name: &str) -> Tone {
    match name
        .chars()
        .find(|character| "平上去入".contains(*character) && !name.starts_with(&format!("{character}平")))
    {
        Some('上') => Tone::Rising,
        Some('去') => Tone::Departing,
        Some('入') => Tone::Entering,
        _ => Tone::Level,
    }
}

/// The parts of 《詞林正韻》 by the characters that name Pingshui groups. Groups that the book divides between two parts
/// (佳 灰 元 and those of the other tones that go with them) stand in both.
const CI_PARTS: [&str; 19] = [
    "東冬董腫送宋",
    "江陽講養絳漾",
    "支微齊灰紙尾薺賄寘未霽泰隊",
    "魚虞語麌御遇",
    "佳灰蟹賄泰卦隊",
    "真文元軫吻阮震問願",
    "寒刪先元旱潸銑阮翰諫霰願",
    "蕭肴豪篠巧皓嘯效號",
    "歌哿箇",
    "麻佳馬禡卦",
    "庚青蒸梗迥敬徑",
    "尤有宥",
    "侵寢沁",
    "覃鹽咸感琰豏勘豔陷",
    "屋沃",
    "覺藥",
    "質陌錫職緝",
    "物月曷黠屑葉",
    "合洽",
];

impl RhymeGroup {
    /// Its name, such as 上平聲一東.
    pub fn name(self) -> &'static str {
        TABLE.names[usize::from(self.0)].0
    }

    /// Its tone.
    pub fn tone(self) -> Tone {
        TABLE.names[usize::from(self.0)].1
    }

    /// The parts of 《詞林正韻》 to which it belongs, counted from 1.
    pub fn ci_parts(self) -> impl Iterator<Item = u8> {
        let own = self.name().chars().next_back();
        let parts = CI_PARTS.iter().zip(1..);
        parts.filter(move |(part, _)| own.is_some_and(|own| part.contains(own))).map(|(_, number)| number)
    }
}

/// The rhyme groups of a character in traditional form; none when it is in no table.
pub fn groups(character: char) -> &'static [RhymeGroup] {
    TABLE.groups.get(&character).map_or(&[], Vec::as_slice)
}

/// How a character counts in a tone pattern by the rhyme book.
pub fn pattern(character: char) -> Pattern {
    Pattern::of(groups(character).iter().map(|group| group.tone() == Tone::Level))
}

/// The text with simplified characters replaced by traditional ones, where that leaves as many characters as before; else
/// as it is.
pub(crate) fn traditional(text: &str) -> String {
    static CONVERTER: LazyLock<Option<OpenCC>> =
        LazyLock::new(|| OpenCC::from_config(BuiltinConfig::S2t).ok());
    let converted = CONVERTER.as_ref().map(|converter| converter.convert(text));
    let keeps = |converted: &String| converted.chars().count() == text.chars().count();
    converted.filter(keeps).unwrap_or_else(|| text.to_owned())
}

/// The text with traditional characters replaced by simplified ones.
pub fn simplified(text: &str) -> String {
    static CONVERTER: LazyLock<Option<OpenCC>> =
        LazyLock::new(|| OpenCC::from_config(BuiltinConfig::T2s).ok());
    CONVERTER.as_ref().map_or_else(|| text.to_owned(), |converter| converter.convert(text))
}

/// Whether the text is written in simplified characters: none could be simplified further, and some differ from their
/// traditional form.
pub fn is_simplified(text: &str) -> bool {
    simplified(text) == text && traditional(text) != text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_106_groups_in_the_book_order() {
        assert_eq!(TABLE.names.len(), 106);
        let count = |tone| TABLE.names.iter().filter(|(_, other)| *other == tone).count();
        assert_eq!([Tone::Level, Tone::Rising, Tone::Departing, Tone::Entering].map(count), [30, 29, 30, 17]);
        assert_eq!(groups('東')[0].name(), "上平聲一東");
        assert_eq!(groups('東')[0].tone(), Tone::Level);
    }

    #[test]
    fn every_group_belongs_to_a_part_of_the_ci_rhymes() {
        for group in (0..106).map(RhymeGroup) {
            assert!((1..=2).contains(&group.ci_parts().count()), "{}", group.name());
        }
    }

    #[test]
    fn every_variant_leads_to_a_character_of_the_table() {
        for line in include_str!("../data/variants.txt").lines() {
            for character in line.chars() {
                assert!(!groups(character).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn simplified_text_is_read_as_traditional() {
        assert_eq!(traditional("风里来去"), "風裏來去");
        assert_eq!(traditional(""), "");
    }

    #[test]
    fn the_script_of_a_text_is_told_from_its_characters() {
        assert!(is_simplified("欲穷千里目，更上一层楼。"));
        assert!(!is_simplified("欲窮千里目，更上一層樓。"));
        // The same in both.
        assert!(!is_simplified("明月"));
        assert_eq!(simplified("下平聲十一尤"), "下平声十一尤");
    }
}
