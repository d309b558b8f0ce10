//! Values as Python prints them: `True`, `None`, `1.0`, `['a', {'b': 1}]`.
//! This file does not know JSON.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, Output, State};

use super::values::{DictView, Range};
use super::{characters, invalid, operators, values};
use crate::template::guard::{BREAK, LITERAL, MARK};

/// Lists inside lists that are written; deeper ones are refused before the stack runs out.
pub(super) const MAX_DEPTH: usize = 64;

/// The engine's formatter for `{{ value }}`.
pub(in crate::template) fn write_value(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => output.write_str(text).map_err(Error::from),
        None => output.write_str(&to_text(state, value)?).map_err(Error::from),
    }
}

/// Python's `str(value)`; also the filter `string`.
pub(super) fn to_text(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if value.is_undefined() {
        return Ok(String::new());
    }
    let mut text = String::new();
    write_repr(state, value, 0, &mut text)?;
    Ok(text)
}

fn write_repr(state: &State<'_, '_>, value: &Value, depth: usize, text: &mut String) -> Result<(), Error> {
    check_depth(depth)?;
    let before = text.len();
    if let Some(what) = operators::has_no_text(value) {
        return Err(invalid(format!("{what} cannot be printed")));
    }
    if let Some(range) = value.downcast_object_ref::<Range>() {
        text.push_str(&range.to_string());
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined => text.push_str("Undefined"),
        ValueKind::None => text.push_str("None"),
        ValueKind::Bool => text.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => {
            text.push_str(&f64::try_from(value.clone()).map(float_text)?);
        }
        ValueKind::String => write_string_repr(value.as_str().unwrap_or_default(), text),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ("(", ")") } else { ("[", "]") };
            let view = value.downcast_object_ref::<DictView>();
            text.push_str(view.map_or("", |view| view.name));
            text.push_str(if view.is_some() { "([" } else { open });
            // Lists can be views of lists and far longer than the memory that they take, so every item is paid for at once.
            for (index, item) in value.try_iter()?.enumerate() {
                state.consume_fuel(1)?;
                text.push_str(if index == 0 { "" } else { ", " });
                write_repr(state, &item, depth + 1, text)?;
            }
            // A tuple of one item has a comma.
            text.push_str(if value.is_tuple() && value.len() == Some(1) { "," } else { "" });
            text.push_str(if view.is_some() { "])" } else { close });
        }
        ValueKind::Map => {
            let namespace = values::is_namespace(value);
            text.push_str(if namespace { "<Namespace {" } else { "{" });
            for (index, key) in value.try_iter()?.enumerate() {
                state.consume_fuel(1)?;
                text.push_str(if index == 0 { "" } else { ", " });
                write_repr(state, &key, depth + 1, text)?;
                text.push_str(": ");
                write_repr(state, &value.get_item(&key)?, depth + 1, text)?;
            }
            text.push_str(if namespace { "}>" } else { "}" });
        }
        _ => write!(text, "{value}").map_err(Error::from)?,
    }
    state.consume_fuel(1 + (text.len() - before) as u64 / 64)
}

/// Python quotes with `'` unless the text has one and no `"`.
fn write_string_repr(value: &str, text: &mut String) {
    let quote = if value.contains('\'') && !value.contains('"') { '"' } else { '\'' };
    text.push(quote);
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // Marks of the guard are not text: a break passes as it is, an escaped character is written once.
            MARK if characters.peek() == Some(&LITERAL) => {
                text.push_str("\\uf8c1");
                characters.next();
            }
            MARK => {
                text.push(MARK);
                text.extend(characters.next_if_eq(&BREAK));
            }
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            other if !characters::is_printable(other) => text.push_str(&match other as u32 {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
            same if same == quote => text.extend(['\\', quote]),
            other => text.push(other),
        }
    }
    text.push(quote);
}

/// Python's `repr` of a float: the shortest digits that read back, an exponent below 1e-4 and from 1e16.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{value}");
    if text.contains('.') { text } else { text + ".0" }
}

/// # Errors
/// When a value is nested deeper than [`MAX_DEPTH`].
pub(super) fn check_depth(depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("a value is nested deeper than {MAX_DEPTH}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
        ];
        for (value, expected) in cases {
            assert_eq!(float_text(value), expected);
        }
    }
}
