//! Regular expressions of schemas in the grammar's dialect, which knows no look-around and no back references.

/// The most look-aheads of a pattern that tokens are held to.
const MOST_LOOK_AHEADS: usize = 16;
/// The most characters of a text whose complement is written, and the most bytes of several: the expression is nested once for
/// each character.
const MOST_CHARACTERS: usize = 100;
const MOST_BYTES: usize = 2000;

/// What a pattern becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns {
    /// Expressions that must all match somewhere in the text.
    pub(crate) all: Vec<String>,
    /// Something of the pattern is not among them.
    pub(crate) is_relaxed: bool,
}

/// Takes a pattern apart: look-aheads at its beginning become expressions of their own.
pub(crate) fn patterns(pattern: &str) -> Patterns {
    let mut patterns = Patterns::default();
    let Some(mut rest) = pattern.strip_prefix('^') else {
        return whole(pattern, patterns);
    };
    while let Some((is_positive, inner, after)) = leading_look_ahead(rest) {
        if has_look_around(inner) || patterns.all.len() >= MOST_LOOK_AHEADS {
            patterns.is_relaxed = true;
        } else if is_positive {
            patterns.all.push(with_plain_spaces(&format!("^(?:{inner})")));
        } else {
            match literals(inner).and_then(|(texts, is_whole)| none_of(&texts, is_whole)) {
                Some(expression) => patterns.all.push(expression),
                None => patterns.is_relaxed = true,
            }
        }
        rest = after;
    }
    if patterns.all.is_empty() && !patterns.is_relaxed {
        return whole(pattern, patterns);
    }
    whole(&format!("^{rest}"), patterns)
}

fn whole(pattern: &str, mut patterns: Patterns) -> Patterns {
    if has_look_around(pattern) {
        patterns.is_relaxed = true;
    } else if !matches!(pattern, "" | "^" | ".*" | "^.*$" | "^.*") {
        patterns.all.push(with_plain_spaces(pattern));
    }
    patterns
}

/// `\s` is other characters in every dialect; the four that JSON itself knows are in all of them.
fn with_plain_spaces(pattern: &str) -> String {
    let (mut plain, mut in_class, mut escaped) = (String::with_capacity(pattern.len()), false, false);
    for character in pattern.chars() {
        match character {
            's' if escaped && !in_class => {
                plain.pop();
                plain.push_str("[ \\t\\n\\r]");
            }
            other => plain.push(other),
        }
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
    }
    plain
}

fn has_look_around(pattern: &str) -> bool {
    ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|mark| pattern.contains(mark))
}

/// `(?=inner)` or `(?!inner)` at the beginning: whether it must match, the inner expression, and what follows.
fn leading_look_ahead(pattern: &str) -> Option<(bool, &str, &str)> {
    let is_positive = pattern.starts_with("(?=");
    if !is_positive && !pattern.starts_with("(?!") {
        return None;
    }
    let (mut depth, mut in_class, mut escaped) = (0usize, false, false);
    for (index, character) in pattern.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' if in_class => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Some((is_positive, &pattern[3..index], &pattern[index + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// The texts of `a|b|c`, if it is that, and whether `$` ends every one.
fn literals(expression: &str) -> Option<(Vec<String>, bool)> {
    let mut expression = expression;
    let mut is_whole = false;
    if let Some(inner) = expression.strip_suffix('$') {
        (expression, is_whole) = (inner, true);
        if let Some(inner) = inner.strip_prefix("(?:").or_else(|| inner.strip_prefix('(')) {
            expression = inner.strip_suffix(')')?;
        } else if inner.contains('|') && !inner.split('|').rev().skip(1).all(|text| text.ends_with('$')) {
            return None;
        }
    }
    let texts: Option<Vec<String>> =
        expression.split('|').map(|text| literal(text.strip_suffix('$').unwrap_or(text))).collect();
    let texts = texts?;
    (texts.iter().all(|text| !text.is_empty()) && (is_whole || !expression.contains('$')))
        .then_some((texts, is_whole))
}

/// The text that an expression without operators matches.
fn literal(expression: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next()?;
                if escaped.is_ascii_alphanumeric() {
                    return None;
                }
                text.push(escaped);
            }
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

/// An expression that matches every text but those (`is_whole`), or but those that begin with one of them. `None` if they are too
/// long.
pub(crate) fn none_of(texts: &[String], is_whole: bool) -> Option<String> {
    if texts.iter().map(String::len).sum::<usize>() > MOST_BYTES {
        return None;
    }
    let texts: Vec<Vec<char>> = texts.iter().map(|text| text.chars().collect()).collect();
    if texts.iter().any(|text| text.len() > MOST_CHARACTERS) {
        return None;
    }
    let rests: Vec<&[char]> = texts.iter().map(Vec::as_slice).collect();
    let expression = different(&rests, is_whole).unwrap_or_else(|| "[^\\s\\S]".to_owned());
    Some(format!("^(?:{expression})$"))
}

/// What may follow where `rests` would complete the forbidden texts; `None` if nothing may.
fn different(rests: &[&[char]], is_whole: bool) -> Option<String> {
    let ends_here = rests.iter().any(|rest| rest.is_empty());
    if ends_here && !is_whole {
        return None;
    }
    let mut heads: Vec<char> = rests.iter().filter_map(|rest| rest.first().copied()).collect();
    heads.sort_unstable();
    heads.dedup();
    if heads.is_empty() {
        // The forbidden text is complete: any longer one is another.
        return Some("[\\s\\S]+".to_owned());
    }
    let class: String = heads.iter().map(|&head| in_class(head)).collect();
    let mut ways = vec![format!("[^{class}][\\s\\S]*")];
    for &head in &heads {
        let after: Vec<&[char]> =
            rests.iter().filter(|rest| rest.first() == Some(&head)).map(|rest| &rest[1..]).collect();
        if let Some(rest) = different(&after, is_whole) {
            ways.push(format!("[{}](?:{rest})", in_class(head)));
        }
    }
    let ways = ways.join("|");
    Some(if ends_here { ways } else { format!("(?:{ways})?") })
}

fn in_class(character: char) -> String {
    format!("\\x{{{:x}}}", u32::from(character))
}
