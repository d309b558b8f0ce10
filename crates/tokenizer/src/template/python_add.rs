//! The operator `+` as Python has it: numbers, texts and lists, nothing else and nothing mixed.
//! This file does not know why it replaces the engine's own operator; `sandbox` says so.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Items of a list made by `+`.
const MAX_ITEMS: usize = 100_000;
const ITEMS_PER_FUEL: usize = 16;
const BYTES_PER_FUEL: usize = 64;

/// `left + right`.
pub(super) fn add(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
        state.consume_fuel(((left.len() + right.len()) / BYTES_PER_FUEL) as u64)?;
        return Ok(Value::from([left, right].concat()));
    }
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(left) && is_list(right) && left.is_tuple() == right.is_tuple() {
        return add_lists(state, left, right);
    }
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if is_number(left) && is_number(right) {
        return add_numbers(left, right);
    }
    let (left, right) = (left.kind(), right.kind());
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("+ cannot add a value of kind {right} to one of kind {left}"),
    ))
}

fn add_lists(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    let items = left.len().unwrap_or(0).saturating_add(right.len().unwrap_or(0));
    if items > MAX_ITEMS {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("+ makes a list of more than {MAX_ITEMS} items"),
        ));
    }
    state.consume_fuel((items / ITEMS_PER_FUEL) as u64)?;
    let both: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).take(MAX_ITEMS).collect();
    if left.is_tuple() { Ok(Value::from(minijinja::value::Tuple::from(both))) } else { Ok(Value::from(both)) }
}

fn add_numbers(left: &Value, right: &Value) -> Result<Value, Error> {
    let integer = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        _ if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    };
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        let sum = left.checked_add(right);
        return sum
            .map(Value::from)
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the sum of two numbers is too large"));
    }
    Ok(Value::from(f64::try_from(left.clone())? + f64::try_from(right.clone())?))
}
