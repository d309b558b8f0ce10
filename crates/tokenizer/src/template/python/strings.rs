//! Python's methods of texts. Positions count characters, and a guarded text is seen without its marks.

use std::ops::Range;

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State, formatting};

use super::arguments::Arguments;
use super::characters::{
    ends_line, is_cased, is_decimal, is_digit, is_letter, is_numeric, is_printable, is_space,
    is_upper_or_title, titled,
};
use super::operators::{BYTES_PER_FUEL, indices};
use super::text::{Text, plain};
use super::{invalid, type_name};
use crate::template::guard::MARK;

/// Spaces that a method may add.
const MAX_WIDTH: i64 = 100_000;

pub(super) fn format(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    formatting::format(formatting::FormatStyle::StrFormat, text, arguments).map(Value::from)
}

pub(super) fn call(
    state: &State<'_, '_>,
    marked: &str,
    method: &str,
    arguments: &Arguments<'_>,
) -> Result<Value, Error> {
    let text = Text::new(marked);
    let value = match method {
        "find" | "rfind" | "index" | "rindex" | "count" => return search(&text, method, arguments),
        "startswith" | "endswith" => return affixed(&text, method == "startswith", arguments),
        "split" | "rsplit" => return split(&text, method == "rsplit", arguments),
        "partition" | "rpartition" => return partition(&text, method == "rpartition", arguments),
        "join" => return join(state, marked, arguments),
        "replace" => {
            let (old, new) = (needed(arguments, 0, "old")?, needed(arguments, 1, "new")?);
            let count = arguments.integer(2, "count")?;
            arguments.finish(3)?;
            return replace(state, &text, &old, &new, count).map(Value::from);
        }
        "strip" | "lstrip" | "rstrip" => {
            let characters = arguments.text(0, "chars")?;
            arguments.finish(1)?;
            Value::from(text.part(stripped(&text, characters.as_deref(), method)))
        }
        "splitlines" => {
            let keep = arguments.flag(0, "keepends")?;
            arguments.finish(1)?;
            Value::from(
                lines(&text, keep).into_iter().map(|line| Value::from(text.part(line))).collect::<Vec<_>>(),
            )
        }
        "removeprefix" | "removesuffix" => {
            let affix = plain(&needed(arguments, 0, "prefix")?).into_owned();
            arguments.finish(1)?;
            let all = text.plain();
            let rest = if method == "removeprefix" {
                all.strip_prefix(affix.as_str()).map(|rest| all.len() - rest.len()..all.len())
            } else {
                all.strip_suffix(affix.as_str()).map(|rest| 0..rest.len())
            };
            Value::from(text.part(rest.unwrap_or(0..all.len())))
        }
        "ljust" | "rjust" | "center" | "zfill" => return padded(state, &text, marked, method, arguments),
        "expandtabs" => return expand_tabs(state, marked, arguments),
        _ => {
            let value = converted(marked, method)
                .map(Value::from)
                .or_else(|| classified(text.plain(), method).map(Value::from));
            let value = value.ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
            arguments.finish(0)?;
            value
        }
    };
    Ok(value)
}

fn needed(arguments: &Arguments<'_>, position: usize, name: &str) -> Result<String, Error> {
    arguments.text(position, name)?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))
}

fn converted(marked: &str, method: &str) -> Option<String> {
    Some(match method {
        "upper" => marked.to_uppercase(),
        "lower" => marked.to_lowercase(),
        "casefold" => marked.to_lowercase().replace('ß', "ss"),
        "capitalize" => {
            words(marked, |first, character| if first { titled(character) } else { lower(character) }, false)
        }
        "title" => {
            words(marked, |first, character| if first { titled(character) } else { lower(character) }, true)
        }
        "swapcase" => marked
            .chars()
            .flat_map(|character| -> Vec<char> {
                if character.is_uppercase() {
                    character.to_lowercase().collect()
                } else {
                    character.to_uppercase().collect()
                }
            })
            .collect(),
        _ => return None,
    })
}

fn lower(character: char) -> String {
    character.to_lowercase().collect()
}

/// Changes every character, knowing whether it begins the text or, with `each_word`, a word. Marks stay as they are.
fn words(marked: &str, change: impl Fn(bool, char) -> String, each_word: bool) -> String {
    let mut changed = String::with_capacity(marked.len());
    let mut first = true;
    let mut characters = marked.chars();
    while let Some(character) = characters.next() {
        if character == MARK {
            changed.push(character);
            changed.extend(characters.next());
            continue;
        }
        changed.push_str(&change(first, character));
        first = each_word && !is_cased(character);
    }
    changed
}

fn classified(text: &str, method: &str) -> Option<bool> {
    let all = |holds: fn(char) -> bool| !text.is_empty() && text.chars().all(holds);
    let cased = |holds: fn(char) -> bool, other: fn(char) -> bool| {
        text.chars().any(holds) && !text.chars().any(other)
    };
    Some(match method {
        "isdigit" => all(is_digit),
        "isdecimal" => all(is_decimal),
        "isnumeric" => all(is_numeric),
        "isalpha" => all(is_letter),
        "isalnum" => all(|character| is_letter(character) || is_digit(character) || is_numeric(character)),
        "isspace" => all(is_space),
        "isascii" => text.is_ascii(),
        "isprintable" => text.chars().all(is_printable),
        "islower" => cased(char::is_lowercase, is_upper_or_title),
        "isupper" => cased(char::is_uppercase, |character| is_cased(character) && !character.is_uppercase()),
        "istitle" => {
            let mut inside = false;
            let ordered = text.chars().all(|character| {
                let fits = !is_cased(character) || inside != is_upper_or_title(character);
                inside = is_cased(character);
                fits
            });
            ordered && text.chars().any(is_cased)
        }
        "isidentifier" => {
            let begins = |character: char| character == '_' || is_letter(character);
            text.chars().next().is_some_and(begins)
                && text
                    .chars()
                    .all(|character| begins(character) || is_decimal(character) || character == '\u{301}')
        }
        _ => return None,
    })
}

/// The bytes of the part of a text that the arguments `start` and `end` name; `None` when `start` lies beyond the end.
fn window(text: &Text<'_>, arguments: &Arguments<'_>) -> Result<Option<Range<usize>>, Error> {
    let (start, end) = (arguments.integer(1, "start")?, arguments.integer(2, "end")?);
    arguments.finish(3)?;
    let length = text.length();
    if start.is_some_and(|start| start > length as i64) {
        return Ok(None);
    }
    let (first, count) = indices(length, start, end, 1);
    Ok(Some(text.byte_of(first)..text.byte_of(first + count)))
}

fn search(text: &Text<'_>, method: &str, arguments: &Arguments<'_>) -> Result<Value, Error> {
    let wanted = plain(&needed(arguments, 0, "sub")?).into_owned();
    let window = window(text, arguments)?;
    if method == "count" {
        return Ok(Value::from(window.map_or(0, |window| text.plain()[window].matches(&*wanted).count())));
    }
    let found = window.and_then(|window| {
        let part = &text.plain()[window.clone()];
        let found = if method.starts_with('r') { part.rfind(&*wanted) } else { part.find(&*wanted) };
        found.map(|byte| text.character_of(window.start + byte))
    });
    match found {
        Some(position) => Ok(Value::from(position)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(invalid(format!("{method}: the text was not found"))),
    }
}

fn affixed(text: &Text<'_>, at_start: bool, arguments: &Arguments<'_>) -> Result<Value, Error> {
    let wanted = arguments.get(0, "")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    let Some(window) = window(text, arguments)? else { return Ok(Value::from(false)) };
    let part = &text.plain()[window];
    let holds = |affix: &str| {
        let affix = plain(affix);
        if at_start { part.starts_with(&*affix) } else { part.ends_with(&*affix) }
    };
    if let Some(affix) = wanted.as_str() {
        return Ok(Value::from(holds(affix)));
    }
    if !wanted.is_tuple() {
        return Err(invalid(format!(
            "the beginning or end must be a text or a tuple, not {}",
            type_name(&wanted)
        )));
    }
    for affix in wanted.try_iter()? {
        match affix.as_str() {
            Some(affix) if holds(affix) => return Ok(Value::from(true)),
            Some(_) => {}
            None => return Err(invalid(format!("the tuple must hold texts, not {}", type_name(&affix)))),
        }
    }
    Ok(Value::from(false))
}

/// The part of a text that `strip` and its relatives leave.
pub(super) fn stripped(text: &Text<'_>, characters: Option<&str>, method: &str) -> Range<usize> {
    let characters = characters.map(|characters| plain(characters).into_owned());
    let goes = |character: char| match &characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let all = text.plain();
    let start = if method == "rstrip" { 0 } else { all.len() - all.trim_start_matches(goes).len() };
    let end = if method == "lstrip" { all.len() } else { all.trim_end_matches(goes).len() };
    start..end.max(start)
}

/// The lines of a text, as `splitlines` finds them.
pub(super) fn lines(text: &Text<'_>, keep_ends: bool) -> Vec<Range<usize>> {
    let all = text.plain();
    let (mut lines, mut start) = (Vec::new(), 0);
    let mut characters = all.char_indices().peekable();
    while let Some((position, character)) = characters.next() {
        if !ends_line(character) {
            continue;
        }
        let mut end = position + character.len_utf8();
        if character == '\r' && characters.peek().is_some_and(|&(_, next)| next == '\n') {
            characters.next();
            end += 1;
        }
        lines.push(start..if keep_ends { end } else { position });
        start = end;
    }
    if start < all.len() {
        lines.push(start..all.len());
    }
    lines
}

fn split(text: &Text<'_>, from_end: bool, arguments: &Arguments<'_>) -> Result<Value, Error> {
    let separator = arguments.text(0, "sep")?;
    let most = arguments.integer(1, "maxsplit")?.unwrap_or(-1);
    arguments.finish(2)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts = match separator {
        None => split_at_spaces(text.plain(), most, from_end),
        Some(separator) => {
            let separator = plain(&separator).into_owned();
            if separator.is_empty() {
                return Err(invalid("split: the separator is empty"));
            }
            split_at(text.plain(), &separator, most, from_end)
        }
    };
    Ok(Value::from(parts.into_iter().map(|part| Value::from(text.part(part))).collect::<Vec<_>>()))
}

fn split_at(all: &str, separator: &str, most: usize, from_end: bool) -> Vec<Range<usize>> {
    let found: Vec<usize> = if from_end {
        let mut found: Vec<usize> =
            all.rmatch_indices(separator).take(most).map(|(start, _)| start).collect();
        found.reverse();
        found
    } else {
        all.match_indices(separator).take(most).map(|(start, _)| start).collect()
    };
    let (mut parts, mut start) = (Vec::new(), 0);
    for position in found {
        parts.push(start..position);
        start = position + separator.len();
    }
    parts.push(start..all.len());
    parts
}

fn split_at_spaces(all: &str, most: usize, from_end: bool) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (position, character) in all.char_indices() {
        match (is_space(character), start) {
            (true, Some(begun)) => {
                words.push(begun..position);
                start = None;
            }
            (false, None) => start = Some(position),
            _ => {}
        }
    }
    words.extend(start.map(|start| start..all.len()));
    if words.len() <= most {
        return words;
    }
    // The rest stays one piece, with the spaces inside it and at its far end.
    if from_end {
        let kept = words.len() - most;
        let end = words[kept - 1].end;
        let mut parts: Vec<Range<usize>> = words.split_off(kept);
        parts.insert(0, 0..end);
        parts
    } else {
        let start = words[most].start;
        words.truncate(most);
        words.push(start..all.len());
        words
    }
}

fn partition(text: &Text<'_>, from_end: bool, arguments: &Arguments<'_>) -> Result<Value, Error> {
    let separator = plain(&needed(arguments, 0, "sep")?).into_owned();
    arguments.finish(1)?;
    if separator.is_empty() {
        return Err(invalid("partition: the separator is empty"));
    }
    let all = text.plain();
    let found = if from_end { all.rfind(&separator) } else { all.find(&separator) };
    let (first, second) = match found {
        Some(start) => (start, start + separator.len()),
        None if from_end => (0, 0),
        None => (all.len(), all.len()),
    };
    let parts = [0..first, first..second, second..all.len()];
    Ok(Value::from(Tuple::from(parts.map(|part| Value::from(text.part(part))))))
}

/// Replaces occurrences, all of them without a count; the result is paid for before it is made.
pub(super) fn replace(
    state: &State<'_, '_>,
    text: &Text<'_>,
    old: &str,
    new: &str,
    count: Option<i64>,
) -> Result<String, Error> {
    let old = plain(old);
    let all = text.plain();
    let most = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    super::methods::charge_search(state, all.len())?;
    let inserted = all.matches(&*old).take(most).count().saturating_mul(new.len());
    super::methods::charge_search(state, inserted)?;
    let (mut replaced, mut start) = (String::with_capacity(all.len() + inserted), 0);
    for (position, _) in all.match_indices(&*old).take(most) {
        replaced.push_str(text.part(start..position));
        replaced.push_str(new);
        start = position + old.len();
    }
    replaced.push_str(text.part(start..all.len()));
    Ok(replaced)
}

fn join(state: &State<'_, '_>, separator: &str, arguments: &Arguments<'_>) -> Result<Value, Error> {
    let items = arguments.get(0, "")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    arguments.finish(1)?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let Some(text) = item.as_str() else {
            return Err(invalid(format!("join: item {index} is {} and not a text", type_name(&item))));
        };
        let separator = if index == 0 { "" } else { separator };
        state.consume_fuel(1 + ((separator.len() + text.len()) / BYTES_PER_FUEL) as u64)?;
        joined.push_str(separator);
        joined.push_str(text);
    }
    Ok(Value::from(joined))
}

fn padded(
    state: &State<'_, '_>,
    text: &Text<'_>,
    marked: &str,
    method: &str,
    arguments: &Arguments<'_>,
) -> Result<Value, Error> {
    let width = arguments.integer(0, "width")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    let fill = if method == "zfill" { None } else { arguments.text(1, "fillchar")? };
    arguments.finish(if method == "zfill" { 1 } else { 2 })?;
    if width > MAX_WIDTH {
        return Err(invalid(format!("{method}: the width is larger than {MAX_WIDTH}")));
    }
    let fill = fill.unwrap_or_else(|| if method == "zfill" { "0" } else { " " }.to_owned());
    if fill.chars().count() != 1 {
        return Err(invalid(format!("{method}: the filling must be one character")));
    }
    let missing = usize::try_from(width - text.length() as i64).unwrap_or(0);
    state.consume_fuel((missing / BYTES_PER_FUEL) as u64)?;
    let (left, right) = match method {
        "ljust" => (0, missing),
        "center" => centred(missing, width as usize),
        _ => (missing, 0),
    };
    let (sign, digits) = match marked.strip_prefix(['+', '-']) {
        Some(rest) if method == "zfill" => marked.split_at(marked.len() - rest.len()),
        _ => ("", marked),
    };
    Ok(Value::from(format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(right))))
}

/// The odd space is on the left when the width is odd.
pub(super) fn centred(missing: usize, width: usize) -> (usize, usize) {
    let left = missing / 2 + (missing & width & 1);
    (left, missing - left)
}

fn expand_tabs(state: &State<'_, '_>, marked: &str, arguments: &Arguments<'_>) -> Result<Value, Error> {
    let size = arguments.integer(0, "tabsize")?.unwrap_or(8);
    arguments.finish(1)?;
    if size > MAX_WIDTH {
        return Err(invalid(format!("expandtabs: the size is larger than {MAX_WIDTH}")));
    }
    let size = usize::try_from(size).unwrap_or(0);
    let tabs = marked.matches('\t').count();
    state.consume_fuel((tabs.saturating_mul(size) / BYTES_PER_FUEL) as u64)?;
    let (mut expanded, mut column) = (String::new(), 0);
    for character in marked.chars() {
        match character {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                expanded.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                expanded.push(character);
                column = 0;
            }
            _ => {
                expanded.push(character);
                column += 1;
            }
        }
    }
    Ok(Value::from(expanded))
}

/// Whether a value is a text, as filters that take any value turn it into one.
pub(super) fn soft_text(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        _ => super::print::to_text(state, value),
    }
}
