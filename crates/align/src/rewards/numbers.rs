//! Numbers in texts, compared exactly: `1,234.50`, `-3/4`, `6.02e23`, `6.02×10^23`, `１２`, `三百二十一`, `2万`.

use serde_json::Value;

use super::{Answer, Reward, RewardFault};
use crate::data::EncodedTask;

/// A fraction in lowest terms, with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    /// `None` for a denominator of 0.
    pub fn new(numerator: i128, denominator: i128) -> Option<Rational> {
        if denominator == 0 || numerator == i128::MIN || denominator == i128::MIN {
            return None;
        }
        let (mut a, mut b) = (numerator.abs(), denominator.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let sign = if denominator < 0 { -1 } else { 1 };
        Some(Rational { numerator: sign * numerator / a, denominator: denominator.abs() / a })
    }

    fn times(self, factor: i128) -> Option<Rational> {
        Rational::new(self.numerator.checked_mul(factor)?, self.denominator)
    }

    /// Times a power of ten, or divided by it; `None` where that has too many digits.
    fn scaled(self, exponent: u32, divides: bool) -> Option<Rational> {
        if self.numerator == 0 {
            return Some(self);
        }
        let power = 10i128.checked_pow(exponent)?;
        if divides {
            return Rational::new(self.numerator, self.denominator.checked_mul(power)?);
        }
        self.times(power)
    }
}

/// The last number of a text; `None` where there is none that has at most about 38 digits.
///
/// Where a text has numbers in digits, most of its Chinese numerals are parts of words (仅此一个, 十分): such a numeral counts only where an
/// answer stands, as in 答案是四十二.
pub fn last_number(text: &str) -> Option<Rational> {
    let characters: Vec<char> = text.chars().map(plain).collect();
    let in_digits =
        if characters.iter().any(char::is_ascii_digit) { last_of(&characters, false) } else { None };
    in_digits.or_else(|| last_of(&characters, true))
}

/// The last number, Chinese numerals inside words among them or not.
fn last_of(characters: &[char], in_words: bool) -> Option<Rational> {
    let mut end = characters.len();
    while end > 0 {
        if !is_digit_like(characters[end - 1]) {
            end -= 1;
            continue;
        }
        let start = start_of_number(characters, end);
        let (start, number) = scientific(characters, start, end).unwrap_or_else(|| {
            let written: String = characters[start..end].iter().collect();
            let counts = in_words
                || written.contains(|character: char| character.is_ascii_digit())
                || is_answer(characters, start, end);
            (start, value_of(&written).filter(|_| counts))
        });
        let is_negative = start > 0
            && matches!(characters[start - 1], '-' | '负' | '負')
            && !(start > 1 && characters[start - 1] == '-' && is_operand(characters[start - 2]));
        if let Some(number) = number {
            return if is_negative { number.times(-1) } else { Some(number) };
        }
        end = start.min(end - 1);
    }
    None
}

/// Where a number with a power of ten begins whose exponent are the digits from `start` to `end`, and its value, nothing where it has too many
/// digits: otherwise the exponent of 6.02e23 would be taken for a number.
fn scientific(characters: &[char], start: usize, end: usize) -> Option<(usize, Option<Rational>)> {
    let exponent = &characters[start..end];
    if !exponent.iter().all(char::is_ascii_digit) {
        return None;
    }
    let (mantissa_end, divides) = end_of_mantissa(&characters[..start])?;
    let mantissa_start = start_of_number(characters, mantissa_end);
    let written: String = characters[mantissa_start..mantissa_end].iter().collect();
    // Letters before it make it a name, such as x1e5, but for 1e3,2e3, where the first digits are another exponent.
    let follows_letter = mantissa_start > 0 && characters[mantissa_start - 1].is_ascii_alphabetic();
    let mantissa = match written.split_once(',') {
        Some((_, behind)) if follows_letter => behind,
        None if follows_letter => return None,
        _ => written.as_str(),
    };
    let exponent: String = exponent.iter().collect();
    let exponent = exponent.parse::<u32>().ok();
    let value = exponent.and_then(|exponent| value_of(mantissa)?.scaled(exponent, divides));
    Some((mantissa_start, value))
}

/// Where the digits end that an exponent directly behind `before` belongs to, and whether the exponent is negative: behind 6.02e, 1E-,
/// 6.02×10^, 6.02 * 10**- and 6.02 \times 10^{.
fn end_of_mantissa(before: &[char]) -> Option<(usize, bool)> {
    let (before, divides) = match before {
        [before @ .., '-'] => (before, true),
        [before @ .., '+'] => (before, false),
        _ => (before, false),
    };
    let mantissa = match before {
        [mantissa @ .., 'e' | 'E'] => mantissa,
        [before @ .., '1', '0', '^', '{']
        | [before @ .., '1', '0', '^']
        | [before @ .., '1', '0', '*', '*'] => match without_spaces(before) {
            [mantissa @ .., '×' | '*' | 'x' | 'X' | '·' | '⋅'] => without_spaces(mantissa),
            [mantissa @ .., '\\', 't', 'i', 'm', 'e', 's'] => without_spaces(mantissa),
            _ => return None,
        },
        _ => return None,
    };
    mantissa.last().filter(|last| last.is_ascii_digit()).map(|_| (mantissa.len(), divides))
}

fn without_spaces(characters: &[char]) -> &[char] {
    let spaces = characters.iter().rev().take_while(|character| character.is_whitespace()).count();
    &characters[..characters.len() - spaces]
}

/// Digits and signs of other widths as the usual ones.
fn plain(character: char) -> char {
    match character {
        '０'..='９' => {
            char::from_u32(u32::from(character) - u32::from('０') + u32::from('0')).unwrap_or(character)
        }
        '−' | '－' | '﹣' => '-',
        '，' => ',',
        '：' => ':',
        '＝' => '=',
        '．' => '.',
        '／' => '/',
        other => other,
    }
}

fn is_operand(character: char) -> bool {
    character.is_alphanumeric() || character == ')'
}

const HAN_DIGITS: &str = "零一二三四五六七八九";

fn han_digit(character: char) -> Option<i128> {
    match character {
        '〇' => Some(0),
        '两' | '兩' => Some(2),
        _ => HAN_DIGITS.chars().position(|digit| digit == character).map(|place| place as i128),
    }
}

fn han_unit(character: char) -> Option<i128> {
    Some(match character {
        '十' => 10,
        '百' => 100,
        '千' => 1000,
        '万' | '萬' => 10_000,
        '亿' | '億' => 100_000_000,
        _ => return None,
    })
}

fn is_han_number(character: char) -> bool {
    han_digit(character).is_some() || han_unit(character).is_some()
}

fn is_digit_like(character: char) -> bool {
    character.is_ascii_digit() || is_han_number(character)
}

/// Where the number that ends before `end` begins. Marks between digits belong to it where digits of one kind stand on both sides; digits
/// of the other kind are those of another number, as in 42，一个.
fn start_of_number(characters: &[char], end: usize) -> usize {
    let mut start = end - 1;
    while start > 0 {
        let (before, here) = (characters[start - 1], characters[start]);
        let joins = match before {
            '.' | ',' | '/' | '点' | '點' => {
                let left = start.checked_sub(2).map(|place| characters[place]);
                left.is_some_and(|left| joins_numbers(left, before, here))
            }
            _ => is_digit_like(before) && !are_of_two_kinds(before, here),
        };
        if !joins {
            break;
        }
        start -= 1;
    }
    start
}

/// Whether a mark between two characters makes them one number. Between Chinese numerals a comma divides.
fn joins_numbers(left: char, mark: char, right: char) -> bool {
    (left.is_ascii_digit() && right.is_ascii_digit())
        || (mark != ',' && is_han_number(left) && is_han_number(right))
}

/// Whether one is a digit and the other a Chinese one; units such as 万 follow both.
fn are_of_two_kinds(one: char, other: char) -> bool {
    (one.is_ascii_digit() && han_digit(other).is_some())
        || (han_digit(one).is_some() && other.is_ascii_digit())
}

/// What an answer follows directly.
const MARKS: [&str; 10] = ["是", "为", "為", "等于", "等於", "共", "共有", "=", ":", "即"];
/// What ends as they do and is another word.
const OTHER_WORDS: [&str; 14] = [
    "不是", "但是", "可是", "于是", "於是", "还是", "還是", "因为", "因為", "认为", "認為", "以为", "以為",
    "立即",
];
/// What makes a word of a single numeral before it: measure words, and the rest of words such as 三角 and 十分.
const BEHIND_WORDS: &str = "个個种種些次样樣位名只隻条條项項类類组組者点點分角边邊步、";
/// Numerals that most often begin words: 一定, 千万, 百姓.
const BEGINNINGS: &str = "一百千万萬亿億";

/// Whether a Chinese numeral stands where an answer does and is no part of a word.
fn is_answer(characters: &[char], start: usize, end: usize) -> bool {
    let between = characters[..start].iter().rev().take_while(|character| {
        character.is_whitespace() || matches!(**character, '*' | '"' | '“' | '「' | '-' | '负' | '負')
    });
    let before = &characters[..start - between.count()];
    let ends = |word: &&str| before.ends_with(&word.chars().collect::<Vec<char>>());
    if !MARKS.iter().any(ends) || OTHER_WORDS.iter().any(ends) {
        return false;
    }
    let written = &characters[start..end];
    // Numerals of several characters are hardly ever parts of words, so 十二个 is a number and 一个 is not.
    if written.len() > 1 && written.iter().any(|character| han_digit(*character).is_some()) {
        return true;
    }
    let begins_words = BEGINNINGS.contains(characters[start]);
    let is_han = |character: char| ('\u{4e00}'..='\u{9fff}').contains(&character);
    let next = characters.get(end).copied();
    !next.is_some_and(|next| BEHIND_WORDS.contains(next) || (begins_words && is_han(next)))
}

/// The value of digits with marks between them.
fn value_of(written: &str) -> Option<Rational> {
    if let Some((over, under)) = written.rsplit_once('/') {
        // A date such as 3/4/5 is no fraction: its last part counts.
        if over.contains('/') {
            return value_of(under);
        }
        let (over, under) = (value_of(over)?, value_of(under)?);
        let numerator = over.numerator.checked_mul(under.denominator)?;
        return Rational::new(numerator, over.denominator.checked_mul(under.numerator)?);
    }
    if written.contains(is_han_number) {
        return han_value(written);
    }
    let without_groups = ungrouped(written)?;
    decimal(&without_groups)
}

/// Digits without thousands separators; where commas do not divide thousands, they divide numbers, and the last one counts.
fn ungrouped(written: &str) -> Option<String> {
    let (whole, fraction) =
        written.split_once('.').map_or((written, ""), |(whole, fraction)| (whole, fraction));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let are_thousands = (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3);
    if whole.contains(',') && (!are_thousands || fraction.contains(',')) {
        return ungrouped(written.rsplit(',').next()?);
    }
    let whole = whole.replace(',', "");
    Some(if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") })
}

fn decimal(text: &str) -> Option<Rational> {
    let (whole, fraction) = match text.matches('.').count() {
        0 => (text, ""),
        1 => text.split_once('.')?,
        // A version or an address such as 1.2.3: its last part counts.
        _ => (text.rsplit('.').next()?, ""),
    };
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    Rational::new(digits, 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)
}

/// Chinese numerals, also behind digits (`2万`) and with a fraction (`三点五`).
fn han_value(written: &str) -> Option<Rational> {
    let (whole, fraction) = written.split_once(['点', '點', '.']).unwrap_or((written, ""));
    let digit = |character: char| character.to_digit(10).map(i128::from).or_else(|| han_digit(character));
    let (fraction, unit) = match fraction.chars().last().and_then(han_unit) {
        Some(unit) => (fraction.trim_end_matches(|last| han_unit(last).is_some()), unit),
        None => (fraction, 1),
    };
    let mut numerator = han_whole(whole)?;
    let mut denominator = 1i128;
    for character in fraction.chars() {
        numerator = numerator.checked_mul(10)?.checked_add(digit(character)?)?;
        denominator = denominator.checked_mul(10)?;
    }
    Rational::new(numerator.checked_mul(unit)?, denominator)
}

fn han_whole(written: &str) -> Option<i128> {
    // Digits one after another, as in a year: 二〇二六.
    if written.chars().count() > 1 && written.chars().all(|one| han_digit(one).is_some()) {
        return written.chars().try_fold(0i128, |sum, one| sum.checked_mul(10)?.checked_add(han_digit(one)?));
    }
    // What 亿 has closed, what 万 has closed since, what stands since then, and the last digits.
    let (mut closed, mut myriads, mut section, mut digits) = (0i128, 0i128, 0i128, None);
    for character in written.chars() {
        if let Some(digit) = character.to_digit(10) {
            digits = Some(digits.unwrap_or(0i128).checked_mul(10)?.checked_add(i128::from(digit))?);
        } else if let Some(digit) = han_digit(character) {
            digits = Some(digit);
        } else if let Some(unit) = han_unit(character) {
            if unit < 10_000 {
                section = section.checked_add(digits.take().unwrap_or(1).checked_mul(unit)?)?;
                continue;
            }
            let before = section.checked_add(digits.take().unwrap_or(0))?;
            section = 0;
            if unit == 10_000 {
                myriads = myriads.checked_add(before.max(1).checked_mul(unit)?)?;
            } else {
                let before = closed.checked_add(myriads)?.checked_add(before)?;
                (closed, myriads) = (before.max(1).checked_mul(unit)?, 0);
            }
        } else if character != ',' {
            return None;
        }
    }
    closed.checked_add(myriads)?.checked_add(section)?.checked_add(digits.unwrap_or(0))
}

/// 1 where the last number of the answer is that of a field, else 0.
pub(super) struct NumberReward {
    pub(super) field: String,
}

impl Reward for NumberReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        let right = |answer: &Answer<'_>| {
            let expected = self.expected(answer.task)?;
            Ok(f64::from(u8::from(last_number(answer.text) == Some(expected))))
        };
        answers.iter().map(right).collect()
    }

    fn check(&self, task: &EncodedTask) -> Result<(), RewardFault> {
        self.expected(task).map(|_| ())
    }
}

impl NumberReward {
    fn expected(&self, task: &EncodedTask) -> Result<Rational, RewardFault> {
        let field =
            |problem: &str| RewardFault::Field { field: self.field.clone(), problem: problem.to_owned() };
        let expected = match task.fields.get(&self.field) {
            None => return Err(field("is missing; `number` compares with it")),
            Some(Value::String(text)) => last_number(text),
            Some(Value::Number(number)) => last_number(&number.to_string()),
            Some(_) => return Err(field("is neither a text nor a number")),
        };
        expected.ok_or_else(|| field("holds no number"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Option<(i128, i128)> {
        last_number(text).map(|number| (number.numerator, number.denominator))
    }

    #[test]
    fn the_last_number_of_a_text_is_read_as_people_write_it() {
        for (text, expected) in [
            ("#### 18", Some((18, 1))),
            ("It costs $1,234.50.", Some((2469, 2))),
            ("so x = -3/4", Some((-3, 4))),
            ("5-3", Some((3, 1))),
            ("from 5 to −7", Some((-7, 1))),
            ("3.0", Some((3, 1))),
            ("1,2,3", Some((3, 1))),
            ("12,345,678", Some((12_345_678, 1))),
            ("答案是１２。", Some((12, 1))),
            ("一共三百二十一个", Some((321, 1))),
            ("十二", Some((12, 1))),
            ("两千零五", Some((2005, 1))),
            ("一万二千", Some((12_000, 1))),
            ("三亿五千万", Some((350_000_000, 1))),
            ("2万人", Some((20_000, 1))),
            ("3.5万", Some((35_000, 1))),
            ("三点五", Some((7, 2))),
            ("负八", Some((-8, 1))),
            ("二〇二六年", Some((2026, 1))),
            ("十，二十", Some((20, 1))),
            ("none", None),
            ("1/0", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!(last_number("0.5"), last_number("1/2"));
        assert_eq!(number(&"9".repeat(60)), None);
    }

    /// The exponent was taken for the number: 6.02e23 was 23, and equal to it.
    #[test]
    fn powers_of_ten_belong_to_their_numbers() {
        for (text, expected) in [
            ("6.02e23 atoms", Some((602 * 10i128.pow(21), 1))),
            ("6.02E+23", Some((602 * 10i128.pow(21), 1))),
            ("about 1E-6.", Some((1, 1_000_000))),
            ("-2.5e-3", Some((-1, 400))),
            ("5-3e2", Some((300, 1))),
            ("答案是１．５e３。", Some((1500, 1))),
            ("1,200e1", Some((12_000, 1))),
            ("1e3,2e3", Some((2000, 1))),
            ("[1e3,200e3]", Some((200_000, 1))),
            ("0e300", Some((0, 1))),
            ("6.02×10^23", Some((602 * 10i128.pow(21), 1))),
            ("6.02*10^23", Some((602 * 10i128.pow(21), 1))),
            ("2 x 10^-3 m", Some((1, 500))),
            ("2 * 10**3", Some((2000, 1))),
            (r"$3 \times 10^{-2}$", Some((3, 100))),
            (r"−3 \times 10^{2}", Some((-300, 1))),
            // More digits than a number may have: neither the exponent nor what stands before it.
            ("1e300", None),
            ("1e-300", None),
            ("1e99999999999999999999", None),
            ("7, or 1e999", Some((7, 1))),
            // These are no powers of ten.
            ("variable x1e5", Some((5, 1))),
            ("the e2", Some((2, 1))),
            ("2^10", Some((10, 1))),
            ("3×4", Some((4, 1))),
            ("step 3*110^2", Some((2, 1))),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!(last_number("6.02e23"), last_number("602000000000000000000000"));
        assert_ne!(last_number("6.02e23"), last_number("23"));
        // As JSON spells numbers of examples.
        for (value, text) in [(1e-7, "0.0000001"), (6.02e23, "6.02×10^23")] {
            let value = Value::from(value).to_string();
            assert_eq!(last_number(&value), last_number(text), "{value}");
        }
    }

    /// The numeral in 仅此一个 was taken for the answer, 1.
    #[test]
    fn chinese_numerals_inside_words_are_no_answers_beside_digits() {
        for (text, expected) in [
            ("答案是42，仅此一个", 42),
            ("答案是42，一个都不能少。", 42),
            ("42.一个不多", 42),
            ("答案是42。这是一个很好的结果", 42),
            ("答案是42，这是一种巧合，十分有趣", 42),
            ("答案是42，是千万不能忘的", 42),
            ("答案是42，不是八", 42),
            ("答案是42，因为三天前就这样", 42),
            ("42。这是三角形的面积", 42),
            ("答案：42。理由：一、它对", 42),
            ("The answer is 42, 一次就对.", 42),
            ("The answer is 42 (not 十二).", 42),
            ("It is 3万, 十分 large", 30_000),
            ("共有3个盒子，每盒14个，所以答案是四十二。", 42),
            ("6×7＝四十二", 42),
            ("6乘7等于 **四十二**", 42),
            ("每盒3个，4盒，一共十二个", 12),
            ("5元加3元等于八元", 8),
            ("第1步：略。答案：负八", -8),
            ("Not 8. In Chinese: 七", 7),
            // Without digits every numeral counts.
            ("一共三百二十一个", 321),
            ("答案是八，还有两种", 2),
        ] {
            assert_eq!(number(text), Some((expected, 1)), "{text}");
        }
        // What stands in digits and is no number leaves the numerals.
        assert_eq!(number("1/0 十二"), Some((12, 1)));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[0-9,./一十百千万亿点负 aeE^*×{+-]{0,30}") {
            let _ = last_number(&text);
        }

        #[test]
        fn whole_numbers_come_back(value in -1_000_000_000i128..1_000_000_000) {
            prop_assert_eq!(number(&format!("is {value}.")), Some((value, 1)));
        }
    }
}
