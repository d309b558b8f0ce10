//! Python's operators where the engine's differ: `+`, `%`, `~`, `in`, comparisons, subscripts, slices and attributes.
//! This file does not know why functions replace the engine's operators; `rewrite` says so.

use std::cmp::Ordering;

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, formatting};

use super::text::{Text, plain};
use super::values::{DictView, Generator, Method, Range};
use super::{filters, invalid, print, rewrite, type_name, values};
use crate::template::guard::MARK;

/// Items of a list made by `+`.
const MAX_ITEMS: usize = 100_000;
const ITEMS_PER_FUEL: usize = 16;
pub(super) const BYTES_PER_FUEL: usize = 64;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function(rewrite::ADD, add);
    environment.add_function(rewrite::REMAINDER, remainder);
    environment.add_function(rewrite::JOIN, join);
    environment.add_function(rewrite::IN, contains);
    environment.add_function(rewrite::EQUAL, |left: &Value, right: &Value| equal(left, right));
    environment.add_function(rewrite::NOT_EQUAL, |left: &Value, right: &Value| !equal(left, right));
    environment.add_function(rewrite::LESS, |left: &Value, right: &Value| {
        compare("<", left, right).map(Ordering::is_lt)
    });
    environment.add_function(rewrite::LESS_EQUAL, |left: &Value, right: &Value| {
        compare("<=", left, right).map(Ordering::is_le)
    });
    environment.add_function(rewrite::GREATER, |left: &Value, right: &Value| {
        compare(">", left, right).map(Ordering::is_gt)
    });
    environment.add_function(rewrite::GREATER_EQUAL, |left: &Value, right: &Value| {
        compare(">=", left, right).map(Ordering::is_ge)
    });
    environment.add_function(rewrite::SUBSCRIPT, subscript);
    environment.add_function(rewrite::SLICE, slice);
    for &(function, name) in rewrite::attributes() {
        environment.add_function(function, move |receiver: &Value| attribute(receiver, name));
    }
}

/// `left + right`.
fn add(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(first), Some(second)) = (left.as_str(), right.as_str()) {
        state.consume_fuel(((first.len() + second.len()) / BYTES_PER_FUEL) as u64)?;
        return Ok(match (left.is_safe(), right.is_safe()) {
            (false, false) => Value::from([first, second].concat()),
            (true, true) => Value::from_safe_string([first, second].concat()),
            // Text that is marked as safe escapes what it is joined with.
            (true, false) => Value::from_safe_string([first, &filters::escaped(second)].concat()),
            (false, true) => Value::from_safe_string([&filters::escaped(first), second].concat()),
        });
    }
    if left.kind() == ValueKind::Seq && right.kind() == ValueKind::Seq && left.is_tuple() == right.is_tuple()
    {
        return add_lists(state, left, right);
    }
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if is_number(left) && is_number(right) {
        return add_numbers(left, right);
    }
    let (left, right) = (type_name(left), type_name(right));
    Err(invalid(format!("+ cannot add {right} to {left}")))
}

fn add_lists(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    let items = left.len().unwrap_or(0).saturating_add(right.len().unwrap_or(0));
    if items > MAX_ITEMS {
        return Err(invalid(format!("+ makes a list of more than {MAX_ITEMS} items")));
    }
    state.consume_fuel((items / ITEMS_PER_FUEL) as u64)?;
    let both: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).take(MAX_ITEMS).collect();
    Ok(if left.is_tuple() { Value::from(Tuple::from(both)) } else { Value::from(both) })
}

/// The value as an integer, where it is one that fits.
fn integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        _ if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn add_numbers(left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        let sum = left.checked_add(right);
        return sum.map(Value::from).ok_or_else(|| invalid("the sum of two numbers is too large"));
    }
    Ok(Value::from(f64::try_from(left.clone())? + f64::try_from(right.clone())?))
}

/// `left % right`: a text is a format.
fn remainder(left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(format) = left.as_str() {
        let arguments: Vec<Value> = match right.kind() {
            ValueKind::Seq if right.is_tuple() => right.try_iter()?.collect(),
            _ => vec![right.clone()],
        };
        let named = right.kind() == ValueKind::Map;
        let used = conversions(format);
        if !named && used < arguments.len() {
            return Err(invalid("not all values were used by the format of %"));
        }
        return formatting::format(formatting::FormatStyle::Printf, format, &arguments).map(Value::from);
    }
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        return match right {
            0 => Err(invalid("remainder of a division by zero")),
            _ => {
                let remainder = left.wrapping_rem(right);
                let opposite = remainder != 0 && (remainder < 0) != (right < 0);
                Ok(Value::from(if opposite { remainder + right } else { remainder }))
            }
        };
    }
    let number = |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
            .then(|| f64::try_from(value.clone()).ok())
            .flatten()
    };
    match (number(left), number(right)) {
        (Some(_), Some(0.0)) => Err(invalid("remainder of a division by zero")),
        (Some(left), Some(right)) => {
            let remainder = left % right;
            let opposite = remainder != 0.0 && (remainder < 0.0) != (right < 0.0);
            Ok(Value::from(if opposite { remainder + right } else { remainder }))
        }
        _ => Err(invalid(format!("% cannot divide {} by {}", type_name(left), type_name(right)))),
    }
}

/// How many values a `%` format takes.
fn conversions(format: &str) -> usize {
    let mut characters = format.chars();
    let mut count = 0;
    while let Some(character) = characters.next() {
        if character != '%' {
            continue;
        }
        for character in characters.by_ref() {
            match character {
                '%' => break,
                '*' => count += 1,
                character if character.is_ascii_alphabetic() => {
                    count += 1;
                    break;
                }
                _ => {}
            }
        }
    }
    count
}

/// `left ~ right`.
fn join(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<String, Error> {
    let (left, right) = (print::to_text(state, left)?, print::to_text(state, right)?);
    state.consume_fuel(((left.len() + right.len()) / BYTES_PER_FUEL) as u64)?;
    Ok(left + &right)
}

/// `value in container`.
fn contains(state: &mut State<'_, '_>, value: &Value, container: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        state.consume_fuel((text.len() / BYTES_PER_FUEL) as u64)?;
        return match value.as_str() {
            Some(part) => Ok(plain(text).contains(&*plain(part))),
            None => Err(invalid(format!("in: a text holds only texts, not {}", type_name(value)))),
        };
    }
    if matches!(container.kind(), ValueKind::None | ValueKind::Number | ValueKind::Bool | ValueKind::Plain) {
        return Err(invalid(format!("in: {} cannot be searched", type_name(container))));
    }
    // Guarded texts are equal to what they are without their marks.
    let Some(text) = value.as_str().filter(|text| text.contains(MARK)) else {
        return state.perform_test("in", &[value.clone(), container.clone()]);
    };
    if matches!(container.kind(), ValueKind::Seq | ValueKind::Iterable) {
        for item in container.try_iter()? {
            state.consume_fuel(1)?;
            if equal(&item, value) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let plain = Value::from(&*plain(text));
    Ok(state.perform_test("in", &[value.clone(), container.clone()])?
        || state.perform_test("in", &[plain, container.clone()])?)
}

/// `left == right`.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => left == right || plain(left) == plain(right),
        _ => left == right,
    }
}

/// The order of two values, as far as Python knows one.
pub(super) fn compare(operator: &str, left: &Value, right: &Value) -> Result<Ordering, Error> {
    let number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    let both = |kind| left.kind() == kind && right.kind() == kind;
    if both(ValueKind::String) {
        return Ok(plain(left.as_str().unwrap_or_default()).cmp(&plain(right.as_str().unwrap_or_default())));
    }
    if both(ValueKind::Seq) && left.is_tuple() == right.is_tuple() {
        for (left, right) in left.try_iter()?.zip(right.try_iter()?) {
            if !equal(&left, &right) {
                return compare(operator, &left, &right);
            }
        }
        return Ok(left.len().cmp(&right.len()));
    }
    if number(left) && number(right) {
        return left.partial_cmp(right).ok_or_else(|| invalid("two numbers have no order"));
    }
    Err(invalid(format!("{operator} cannot compare {} with {}", type_name(left), type_name(right))))
}

/// `receiver[key]`.
fn subscript(receiver: &Value, key: &Value) -> Result<Value, Error> {
    if receiver.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no items"));
    }
    if let (Some(text), true) = (receiver.as_str(), key.is_integer()) {
        let text = Text::new(text);
        let length = text.length() as i64;
        let index = i64::try_from(key.clone())?;
        let index = if index < 0 { index + length } else { index };
        if !(0..length).contains(&index) {
            return Ok(Value::UNDEFINED);
        }
        let start = text.byte_of(index as usize);
        let end = start + text.plain()[start..].chars().next().map_or(0, char::len_utf8);
        return Ok(Value::from(text.part(start..end)));
    }
    let is_list = matches!(receiver.kind(), ValueKind::Seq);
    let no_items = receiver.downcast_object_ref::<DictView>().is_some()
        || receiver.downcast_object_ref::<Generator>().is_some()
        || (is_list && key.kind() == ValueKind::Number && !key.is_integer());
    if no_items {
        return Ok(Value::UNDEFINED);
    }
    let key = match key.kind() {
        ValueKind::Bool if is_list => Value::from(i64::from(key.is_true())),
        _ => key.clone(),
    };
    let mut item = receiver.get_item(&key)?;
    if item.is_undefined()
        && let Some(text) = key.as_str().filter(|text| text.contains(MARK))
    {
        item = receiver.get_item(&Value::from(&*plain(text)))?;
    }
    if item.is_undefined()
        && let Some(method) = key.as_str().and_then(|name| values::method(receiver, name))
    {
        return Ok(method);
    }
    Ok(item)
}

/// `receiver.name` for a name that is a method's in Python: a dictionary's method hides its field.
fn attribute(receiver: &Value, name: &'static str) -> Result<Value, Error> {
    if receiver.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            format!("an undefined value has no attribute {name}"),
        ));
    }
    match values::method(receiver, name) {
        Some(method) => Ok(method),
        None => Ok(receiver.get_attr(name).unwrap_or(Value::UNDEFINED)),
    }
}

/// `value[start:stop:step]`.
fn slice(
    state: &State<'_, '_>,
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
) -> Result<Value, Error> {
    let bound = |bound: &Value| -> Result<Option<i64>, Error> {
        if bound.is_none() {
            return Ok(None);
        }
        match integer(bound) {
            Some(bound) => Ok(Some(bound.clamp(i128::from(i64::MIN / 4), i128::from(i64::MAX / 4)) as i64)),
            None => Err(invalid(format!("the bounds of a slice must be integers, not {}", type_name(bound)))),
        }
    };
    let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
    if step == 0 {
        return Err(invalid("the step of a slice must not be zero"));
    }
    if let Some(text) = value.as_str() {
        state.consume_fuel((text.len() / BYTES_PER_FUEL) as u64)?;
        let text = Text::new(text);
        let indices = indices(text.length(), start, stop, step);
        if step == 1 {
            let (first, end) = (text.byte_of(indices.0), text.byte_of(indices.0 + indices.1));
            return Ok(Value::from(text.part(first..end)));
        }
        // Characters are collected one by one here.
        state.consume_fuel((text.length() / 4) as u64)?;
        let characters = text.characters();
        let parts = (0..indices.1)
            .map(|index| text.part(characters[(indices.0 as i64 + index as i64 * step) as usize].clone()));
        return Ok(Value::from(parts.collect::<String>()));
    }
    let range = value.downcast_object_ref::<Range>().is_some();
    if value.kind() != ValueKind::Seq && !range {
        return Err(invalid(format!("{} cannot be sliced", type_name(value))));
    }
    let length = value.len().unwrap_or(0);
    let (first, count) = indices(length, start, stop, step);
    state.consume_fuel((count / ITEMS_PER_FUEL) as u64)?;
    let mut items = Vec::new();
    for index in 0..count {
        items.push(value.get_item(&Value::from(first as i64 + index as i64 * step))?);
    }
    Ok(if value.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
}

/// The first index of a slice and the number of its items.
pub(super) fn indices(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> (usize, usize) {
    let length = length as i64;
    let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let within = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(least, most.max(least));
    let start = start.map_or(if step > 0 { least } else { most }, within);
    let stop = stop.map_or(if step > 0 { most } else { least }, within);
    let distance = if step > 0 { stop - start } else { start - stop };
    let count = if distance <= 0 { 0 } else { (distance - 1) / step.abs() + 1 };
    (start.max(0) as usize, count as usize)
}

/// Whether a value is one of Python's that cannot be written as text the same way twice.
pub(super) fn has_no_text(value: &Value) -> Option<&'static str> {
    if value.downcast_object_ref::<Generator>().is_some() {
        return Some("a generator (write `| list` behind it)");
    }
    if value.downcast_object_ref::<Method>().is_some() {
        return Some("a method that is not called");
    }
    None
}
