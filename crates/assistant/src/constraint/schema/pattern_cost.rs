//! What a pattern costs the library of regular expressions, estimated before the library is given it.

/// A set of Unicode's letters, and sets that are written with few ranges of bytes.
const LETTERS: u64 = 300;
const RANGES: u64 = 30;

/// How many parts a pattern has with its counts written out, as automata have them; a set of characters counts for several.
pub(super) fn size(pattern: &str) -> u64 {
    parts(pattern, true)
}

/// How many of its parts may have to be tried at one place of a text: all of them, or those of a linear pattern without its count, of which each
/// place of a text has reached one number.
pub(super) fn width(pattern: &str) -> u64 {
    parts(pattern, !is_linear(pattern))
}

fn parts(pattern: &str, writes_counts_out: bool) -> u64 {
    let words = if is_backtracking(pattern) { LETTERS } else { RANGES };
    let mut groups: Vec<u64> = Vec::new();
    // Of the innermost group: all but its last part, and that part.
    let (mut before, mut last) = (0u64, 0u64);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let part = match character {
            '(' => {
                groups.push(before.saturating_add(last));
                (before, last) = (0, 0);
                continue;
            }
            ')' => {
                last = before.saturating_add(last).saturating_add(1);
                before = groups.pop().unwrap_or(0);
                continue;
            }
            '{' => match count(characters.as_str()) {
                Some((times, rest)) => {
                    last = last.saturating_mul(if writes_counts_out { times } else { 1 });
                    characters = rest.chars();
                    continue;
                }
                None => 1,
            },
            '[' => {
                let (part, rest) = class(characters.as_str(), words);
                characters = rest.chars();
                part
            }
            '\\' => {
                let escaped = characters.next().unwrap_or('\\');
                if matches!(escaped, 'p' | 'P' | 'x' | 'u') {
                    characters = after_braces(characters.as_str()).chars();
                }
                escape(escaped, words)
            }
            '.' => RANGES,
            _ => 1,
        };
        before = before.saturating_add(last);
        last = part;
    }
    groups.into_iter().fold(before.saturating_add(last), u64::saturating_add)
}

/// Whether a pattern goes through a text once, from its beginning: one with a single repetition and no alternatives.
fn is_linear(pattern: &str) -> bool {
    let Some(rest) = pattern.strip_prefix('^') else { return false };
    let mut repetitions = 0;
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '(' | '|' => return false,
            '{' | '*' | '+' | '?' => repetitions += 1,
            '[' => characters = class(characters.as_str(), RANGES).1.chars(),
            '\\' => match characters.next() {
                Some('p' | 'P' | 'x' | 'u') => characters = after_braces(characters.as_str()).chars(),
                // What was matched before.
                Some('1'..='9' | 'k' | 'g' | 'K' | 'G') => return false,
                _ => {}
            },
            _ => {}
        }
    }
    repetitions <= 1
}

/// Whether the library searches for its matches by trying, which may take time exponential in the text's length.
pub(super) fn is_backtracking(pattern: &str) -> bool {
    const MARKS: [&str; 10] = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "(?(", "++", "*+", "?+", "}+"];
    let mut is_escaped = false;
    let has_reference = pattern.chars().any(|character| {
        let is_reference = is_escaped && matches!(character, '1'..='9' | 'k' | 'g' | 'K' | 'G');
        is_escaped = character == '\\' && !is_escaped;
        is_reference
    });
    has_reference || MARKS.iter().any(|mark| pattern.contains(mark))
}

fn escape(escaped: char, words: u64) -> u64 {
    match escaped {
        'p' | 'P' => LETTERS,
        'w' | 'W' => words,
        'd' | 'D' | 's' | 'S' => RANGES,
        _ => 1,
    }
}

/// The most that a count `{n,m}` repeats, and what follows it.
fn count(rest: &str) -> Option<(u64, &str)> {
    /// No count has more digits.
    const BYTES: usize = 24;
    let end = rest.bytes().take(BYTES).position(|byte| byte == b'}')?;
    let (counts, rest) = (rest.get(..end)?, rest.get(end + 1..)?);
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let least: u64 = if least.is_empty() { 0 } else { least.trim().parse().ok()? };
    let most: u64 = if most.is_empty() { least.saturating_add(1) } else { most.trim().parse().ok()? };
    Some((least.max(most).max(1), rest))
}

/// The size of a set `[…]` whose bracket has been opened, and what follows it.
fn class(rest: &str, words: u64) -> (u64, &str) {
    let mut part = if rest.starts_with('^') { RANGES } else { 1 };
    let mut characters = rest.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next().map_or('\\', |(_, escaped)| escaped);
                part = part.max(escape(escaped, words));
            }
            ']' if index > 0 => return (part, rest.get(index + 1..).unwrap_or_default()),
            other if !other.is_ascii() => part = part.saturating_add(2),
            _ => {}
        }
    }
    (part, "")
}

/// What follows the name in braces behind `\p`, or all where there is none.
fn after_braces(rest: &str) -> &str {
    const BYTES: usize = 64;
    if !rest.starts_with('{') {
        return rest;
    }
    let end = rest.bytes().take(BYTES).position(|byte| byte == b'}');
    end.and_then(|end| rest.get(end + 1..)).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_with_one_repetition_from_the_beginning_are_linear() {
        for pattern in ["^", "^abc$", "^.{1,5000}$", r"^[\s\S]{1,5000}$", r"^\p{L}+$", r"^a[{(|]\{\(b*"] {
            assert!(is_linear(pattern), "{pattern}");
        }
        for pattern in
            ["", ".{1,5000}", "^.{1,50}a.{1,50}$", "^(a|b){1,50}$", "^a*b*$", r"^(?=a).*", r"^a\1*", "^a++b"]
        {
            assert!(!is_linear(pattern), "{pattern}");
        }
    }

    /// What follows the repetition is begun at every place of a text.
    #[test]
    fn linear_patterns_are_as_wide_as_their_parts_without_counts() {
        assert_eq!(size("^.{1,5000}$"), 1 + 5000 * RANGES + 1);
        assert_eq!(width("^.{1,5000}$"), 1 + RANGES + 1);
        assert_eq!(width(&format!("^.*{}$", "a".repeat(5000))), 1 + RANGES + 1 + 5000 + 1);
        assert_eq!(width(".{1,5000}$"), size(".{1,5000}$"));
    }

    #[test]
    fn counts_multiply_and_sets_weigh_more() {
        assert_eq!(size("abc"), 3);
        assert_eq!(size("a{10}b"), 11);
        assert_eq!(size("(ab){10}"), 30);
        assert_eq!(size("((a{3}){4,5}){6,}"), ((3 + 1) * 5 + 1) * 7);
        assert_eq!(size(r"\p{L}{2}"), 2 * LETTERS);
        assert_eq!(size(r"[a-z]{3}\{x"), 3 + 2);
        assert_eq!(size("{{{"), 3);
        assert_eq!(size("((a{4000000000}){4000000000}){4000000000}"), u64::MAX);
        for odd in ["", ")", "(", "[", "[]", "\\", "a{", "a{,}", "\\p{", "好{2}[好]"] {
            assert!(size(odd) < 1000, "{odd:?}");
        }
    }

    #[test]
    fn what_is_matched_by_trying_is_known() {
        for pattern in ["^(?=a)b", r"(a)\1", "a++", "(?<!a)b"] {
            assert!(is_backtracking(pattern), "{pattern}");
        }
        for pattern in [r"^\w+\\1$", "(?:a|b)+", "(?<name>a)*"] {
            assert!(!is_backtracking(pattern), "{pattern}");
        }
    }
}
