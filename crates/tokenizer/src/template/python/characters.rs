//! Classes of characters as Python's `str` methods know them.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// Digits that are no decimal digits: superscripts, circled digits and the like (Unicode's `Numeric_Type=Digit`).
const DIGITS: [(u32, u32); 20] = [
    (178, 179),
    (185, 185),
    (4969, 4977),
    (6618, 6618),
    (8304, 8304),
    (8308, 8313),
    (8320, 8329),
    (9312, 9320),
    (9332, 9340),
    (9352, 9360),
    (9450, 9450),
    (9461, 9469),
    (9471, 9471),
    (10102, 10110),
    (10112, 10120),
    (10122, 10130),
    (68160, 68163),
    (69216, 69224),
    (69714, 69722),
    (127_232, 127_242),
];
/// Chinese characters that are numbers (Unicode's `Numeric_Type=Numeric` outside the number categories).
const CHINESE_NUMBERS: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳貳陆陌陸阡零";

/// Punctuation, symbols, … that `repr` writes as they are are all characters outside these categories, and the space.
static NOT_PRINTABLE: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"[\p{C}\p{Z}]"));
static LETTERS: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"\p{L}"));
static DECIMALS: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"\p{Nd}"));
static TITLE_CASE: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"\p{Lt}"));

/// An empty class where the pattern is none; the tests below show that it is one.
fn class(pattern: &str) -> ClassUnicode {
    match regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class,
        _ => ClassUnicode::empty(),
    }
}

fn is_in(class: &ClassUnicode, character: char) -> bool {
    let ranges = class.ranges();
    let after = ranges.partition_point(|range| range.start() <= character);
    after > 0 && character <= ranges[after - 1].end()
}

pub(super) fn is_printable(character: char) -> bool {
    character == ' ' || !is_in(&NOT_PRINTABLE, character)
}

pub(super) fn is_letter(character: char) -> bool {
    is_in(&LETTERS, character)
}

pub(super) fn is_decimal(character: char) -> bool {
    is_in(&DECIMALS, character)
}

pub(super) fn is_digit(character: char) -> bool {
    let number = character as u32;
    is_decimal(character) || DIGITS.iter().any(|&(first, last)| (first..=last).contains(&number))
}

pub(super) fn is_numeric(character: char) -> bool {
    character.is_numeric() || CHINESE_NUMBERS.contains(character)
}

/// Whether a character has case, as words in title case count them.
pub(super) fn is_cased(character: char) -> bool {
    character.is_lowercase() || character.is_uppercase() || is_in(&TITLE_CASE, character)
}

pub(super) fn is_upper_or_title(character: char) -> bool {
    character.is_uppercase() || is_in(&TITLE_CASE, character)
}

pub(super) fn is_space(character: char) -> bool {
    matches!(character, '\u{1C}'..='\u{1F}') || character.is_whitespace()
}

/// Ends a line for `splitlines`.
pub(super) fn ends_line(character: char) -> bool {
    matches!(
        character,
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{1C}'..='\u{1E}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// A letter in title case: `ǆ` becomes `ǅ`, everything else its upper case with the further letters in lower case.
pub(super) fn titled(character: char) -> String {
    let title = match character {
        '\u{1C4}'..='\u{1C6}' => Some('\u{1C5}'),
        '\u{1C7}'..='\u{1C9}' => Some('\u{1C8}'),
        '\u{1CA}'..='\u{1CC}' => Some('\u{1CB}'),
        '\u{1F1}'..='\u{1F3}' => Some('\u{1F2}'),
        _ => None,
    };
    if let Some(title) = title {
        return title.to_string();
    }
    let mut upper = character.to_uppercase();
    let first = upper.next().into_iter();
    // `ß` becomes `Ss`.
    first.chain(upper.flat_map(char::to_lowercase)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_pythons() {
        assert!(is_printable('a') && is_printable(' ') && is_printable('é') && is_printable('你'));
        assert!(!is_printable('\u{200B}') && !is_printable('\u{A0}') && !is_printable('\u{2028}'));
        assert!(is_letter('你') && !is_letter('1') && !is_letter('\u{301}'));
        assert!(is_decimal('٣') && !is_decimal('²') && is_digit('²') && !is_digit('½') && is_numeric('½'));
        assert!(is_numeric('三') && !is_digit('三'));
        assert!(is_space('\u{1C}') && is_space('\u{3000}') && !is_space('\u{200B}'));
        assert_eq!([titled('ß'), titled('ǆ'), titled('a'), titled('ﬁ')], ["Ss", "ǅ", "A", "Fi"]);
    }
}
