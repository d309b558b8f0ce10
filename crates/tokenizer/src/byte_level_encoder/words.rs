//! Splitting text into the words that byte-level pre-tokenisers define, without a regular expression engine.
//!
//! The rules are the published expressions (GPT-2, Llama 3, Qwen2); their character classes come from the tables of the
//! same library that would run the expressions, so that no character can be of another class here.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};
use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::pre_tokenizers::{LLAMA3_WORDS, QWEN2_WORDS, matches_everything};

/// How text is split into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordRule {
    /// GPT-2's expression.
    Gpt2,
    /// Every numeric character alone, GPT-2's expression on what lies between.
    DigitsThenGpt2,
    /// Llama 3's expression with this many digits in a word (Qwen2's has one).
    Llama3 { digits: usize },
}

/// What the expressions tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s` without the next
    Space,
    /// `[\r\n]`
    Newline,
    Other,
}

impl Kind {
    fn is_space(self) -> bool {
        matches!(self, Kind::Space | Kind::Newline)
    }
}

/// One entry per character of the basic multilingual plane, and ranges beyond it.
struct Kinds {
    basic: Vec<Kind>,
    beyond: Vec<(u32, u32, Kind)>,
}

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    let mut kinds = Kinds { basic: vec![Kind::Other; 1 << 16], beyond: Vec::new() };
    for (expression, kind) in
        [(r"\p{L}", Kind::Letter), (r"\p{N}", Kind::Number), (r"\s", Kind::Space), (r"[\r\n]", Kind::Newline)]
    {
        for (first, last) in ranges_of(expression) {
            for code in first..=last.min(0xFFFF) {
                kinds.basic[code as usize] = kind;
            }
            if last > 0xFFFF {
                kinds.beyond.push((first.max(0x1_0000), last, kind));
            }
        }
    }
    kinds.beyond.sort_unstable_by_key(|&(first, _, _)| first);
    kinds
});

/// The code points of a class such as `\p{L}`.
fn ranges_of(expression: &str) -> Vec<(u32, u32)> {
    let parsed = regex_syntax::parse(expression).map(|parsed| parsed.into_kind());
    let Ok(HirKind::Class(class)) = parsed else { return Vec::new() };
    match class {
        Class::Unicode(class) => {
            class.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
        Class::Bytes(class) => {
            class.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
    }
}

fn kind_of(character: char) -> Kind {
    let kinds = &*KINDS;
    let code = u32::from(character);
    if let Some(&kind) = kinds.basic.get(code as usize) {
        return kind;
    }
    let after = kinds.beyond.partition_point(|&(first, _, _)| first <= code);
    match after.checked_sub(1).map(|index| kinds.beyond[index]) {
        Some((_, last, kind)) if code <= last => kind,
        _ => Kind::Other,
    }
}

impl WordRule {
    /// The rule that does what a pre-tokeniser does before bytes become characters, or `None` when there is no such rule.
    pub(super) fn of(pre_tokeniser: &PreTokenizerWrapper) -> Option<Self> {
        match pre_tokeniser {
            PreTokenizerWrapper::ByteLevel(bytes) if splits(bytes) => Some(Self::Gpt2),
            PreTokenizerWrapper::Sequence(sequence) => match sequence.as_ref() {
                [PreTokenizerWrapper::Digits(digits), PreTokenizerWrapper::ByteLevel(bytes)]
                    if digits.individual_digits && splits(bytes) =>
                {
                    Some(Self::DigitsThenGpt2)
                }
                [PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)]
                    if !bytes.use_regex && !bytes.add_prefix_space =>
                {
                    Self::of_split(split)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn of_split(split: &Split) -> Option<Self> {
        let SplitPattern::Regex(expression) = &split.pattern else { return None };
        let keeps_matches = match split.behavior {
            SplitDelimiterBehavior::Isolated => !split.invert,
            // What lies between matches is taken away, and nothing does.
            SplitDelimiterBehavior::Removed => split.invert && matches_everything(expression),
            _ => false,
        };
        if !keeps_matches {
            return None;
        }
        match expression.as_str() {
            LLAMA3_WORDS => Some(Self::Llama3 { digits: 3 }),
            QWEN2_WORDS => Some(Self::Llama3 { digits: 1 }),
            _ => None,
        }
    }

    /// Calls `take` with every word of `text`, in order; together they are the text.
    pub(super) fn for_each_word(self, text: &str, mut take: impl FnMut(&str)) {
        match self {
            Self::Gpt2 => split_by(text, gpt2_word, &mut take),
            Self::Llama3 { digits } => split_by(text, |rest| llama3_word(rest, digits), &mut take),
            Self::DigitsThenGpt2 => {
                let mut start = 0;
                for (position, digit) in text.match_indices(char::is_numeric) {
                    split_by(&text[start..position], gpt2_word, &mut take);
                    take(digit);
                    start = position + digit.len();
                }
                split_by(&text[start..], gpt2_word, &mut take);
            }
        }
    }
}

fn splits(bytes: &ByteLevel) -> bool {
    bytes.use_regex && !bytes.add_prefix_space
}

fn split_by(text: &str, first_word: impl Fn(&str) -> usize, take: &mut impl FnMut(&str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(first_word(rest));
        take(word);
        rest = after;
    }
}

/// Bytes of the first word by
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. The text is not empty.
fn gpt2_word(text: &str) -> usize {
    let mut characters = text.chars();
    let first = characters.next().unwrap_or_default();
    if first == '\''
        && let Some(ending) =
            ["s", "t", "re", "ve", "m", "ll", "d"].into_iter().find(|ending| text[1..].starts_with(ending))
    {
        return 1 + ending.len();
    }
    let (start, kind) = match characters.next() {
        Some(second) if first == ' ' => (1, kind_of(second)),
        _ => (0, kind_of(first)),
    };
    if kind.is_space() { white_space(text) } else { end_of_run(text, start, |other| other == kind) }
}

/// Bytes of the first word by `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|`
/// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`. The text is not empty.
fn llama3_word(text: &str, digits: usize) -> usize {
    let mut characters = text.chars();
    let first = characters.next().unwrap_or_default();
    if first == '\''
        && let Some(length) = contraction(&text[1..])
    {
        return 1 + length;
    }
    let kind = kind_of(first);
    let next = characters.next().map(kind_of);
    match kind {
        Kind::Letter => end_of_run(text, 0, |kind| kind == Kind::Letter),
        Kind::Number => {
            text.chars().take(digits).take_while(|&c| kind_of(c) == Kind::Number).map(char::len_utf8).sum()
        }
        Kind::Other | Kind::Space if next == Some(Kind::Letter) => {
            end_of_run(text, first.len_utf8(), |kind| kind == Kind::Letter)
        }
        Kind::Other => with_newlines(text, 0),
        Kind::Space if first == ' ' && next == Some(Kind::Other) => with_newlines(text, 1),
        Kind::Space | Kind::Newline => {
            let run = &text[..end_of_run(text, 0, Kind::is_space)];
            match run.rfind(['\r', '\n']) {
                Some(last) => last + 1,
                None => white_space(text),
            }
        }
    }
}

/// Bytes of the ending after an apostrophe, capital or not; `ſ` is an `s` where case does not count.
fn contraction(text: &str) -> Option<usize> {
    if text.starts_with('ſ') {
        return Some('ſ'.len_utf8());
    }
    ["s", "t", "re", "ve", "m", "ll", "d"]
        .into_iter()
        .map(str::len)
        .zip(["s", "t", "re", "ve", "m", "ll", "d"])
        .find_map(|(length, ending)| {
            text.get(..length).filter(|start| start.eq_ignore_ascii_case(ending)).map(|_| length)
        })
}

/// The end of `[^\s\p{L}\p{N}]+[\r\n]*` from `start` on.
fn with_newlines(text: &str, start: usize) -> usize {
    let end = end_of_run(text, start, |kind| kind == Kind::Other);
    end_of_run(text, end, |kind| kind == Kind::Newline)
}

/// `\s+(?!\S)|\s+`: white space, without its last character when something follows that may take it along.
fn white_space(text: &str) -> usize {
    let end = end_of_run(text, 0, Kind::is_space);
    if end == text.len() {
        return end;
    }
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end > last { end - last } else { end }
}

/// The first byte from `start` on whose character is not `wanted`.
fn end_of_run(text: &str, start: usize, wanted: impl Fn(Kind) -> bool) -> usize {
    let rest = &text[start..];
    start + rest.find(|character| !wanted(kind_of(character))).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(rule: WordRule, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        rule.for_each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn words_end_where_the_expressions_end_them() {
        let text = "I'll  say:\n\n 12345 你好，世界!\r\n'S x";
        assert_eq!(
            words(WordRule::Gpt2, text),
            [
                "I", "'ll", " ", " say", ":", "\n\n", " 12345", " 你好", "，", "世界", "!", "\r", "\n", "'",
                "S", " x"
            ]
        );
        assert_eq!(words(WordRule::DigitsThenGpt2, "a  12"), ["a", "  ", "1", "2"]);
        assert_eq!(
            words(WordRule::Llama3 { digits: 3 }, text),
            ["I", "'ll", " ", " say", ":\n\n", " ", "123", "45", " 你好", "，世界", "!\r\n", "'S", " x"]
        );
        assert_eq!(words(WordRule::Llama3 { digits: 1 }, "12\n \n "), ["1", "2", "\n \n", " "]);
    }
}
