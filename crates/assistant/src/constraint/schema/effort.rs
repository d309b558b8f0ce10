//! How much work a check may be. The library that checks answers has no limits of its own: it tries alternatives inside
//! alternatives one after the other, builds recursive schemas anew for each level of an answer, and goes down as deep as a schema
//! leads it. So a keyword stands first in every schema, which satisfies any value, counts, and ends the work when it is too much.

use std::cell::Cell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::paths::{LazyLocation, Location};
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Value};

use super::deep::STACK_BYTES;
use super::{HOLDS_NAMED, holds_values, pattern_cost};

/// The keyword's name.
pub(super) const KEYWORD: &str = "x-zhenjin-effort";
/// The units for checking one answer: a schema applied to a value is one or a few, some hundred nanoseconds at most.
pub(super) const EFFORT_OF_A_CHECK: u64 = 20_000_000;
/// What is said of a schema or an answer that takes more.
pub(super) const TOO_MUCH: &str = "checking answers against it takes too much work";
/// The stack that a check may use.
const MOST_STACK: usize = STACK_BYTES / 4 * 3;

/// What is left for the work that this thread does.
#[derive(Clone, Copy)]
struct Left {
    units: u64,
    /// Where the stack was when it began.
    stack: usize,
}

thread_local! {
    static LEFT: Cell<Option<Left>> = const { Cell::new(None) };
    /// Whether a whole schema has been met since it was forgotten.
    static HAS_MET_WHOLE: Cell<bool> = const { Cell::new(false) };
}

/// The keyword's value in a whole schema, and elsewhere.
const WHOLE: &str = "whole";
const PART: &str = "part";

/// More than was allowed.
#[derive(Debug)]
pub(super) struct Exhausted;

/// Does something with the library for at most `units`, from which it takes what was used.
///
/// # Errors
/// [`Exhausted`] if that is not enough.
pub(super) fn within<T>(units: &mut u64, work: impl FnOnce() -> T) -> Result<T, Exhausted> {
    let before = LEFT.replace(Some(Left { units: *units, stack: stack_address() }));
    let result = catch_unwind(AssertUnwindSafe(work));
    *units = LEFT.replace(before).map_or(0, |left| left.units);
    match result {
        Ok(result) => Ok(result),
        Err(panic) if panic.is::<Exhausted>() => Err(Exhausted),
        Err(panic) => resume_unwind(panic),
    }
}

/// Takes units from what this thread has left, and ends its work if that is not enough. There is no other way out of the library
/// than to unwind.
fn spend(units: u64) {
    let Some(left) = LEFT.get() else { return };
    let depth = left.stack.abs_diff(stack_address());
    // Some sanitisers keep variables elsewhere; a distance beyond the stack says nothing.
    let is_too_deep = (MOST_STACK..STACK_BYTES).contains(&depth);
    let rest = left.units.checked_sub(units).filter(|_| !is_too_deep);
    LEFT.set(Some(Left { units: rest.unwrap_or(0), ..left }));
    if rest.is_none() {
        resume_unwind(Box::new(Exhausted));
    }
}

/// Roughly where the stack ends now.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0u8;
    std::ptr::from_ref(black_box(&here)) as usize
}

/// Whether what `build` builds comes upon a whole schema, and the result.
pub(super) fn meets_whole<T>(build: impl FnOnce() -> T) -> (bool, T) {
    HAS_MET_WHOLE.set(false);
    let result = build();
    (HAS_MET_WHOLE.get(), result)
}

/// A whole schema with the keyword wherever a schema may stand.
pub(super) fn metered(schema: &Value) -> Value {
    let mut schema = with_keyword(schema);
    if let Some(value) = schema.get_mut(KEYWORD) {
        *value = Value::from(WHOLE);
    }
    schema
}

/// A message of the library's without the keyword, as some quote the schema that was not satisfied.
pub(super) fn unmetered(message: &str) -> String {
    [WHOLE, PART].iter().fold(message.to_owned(), |message, value| {
        let quoted = format!("\"{KEYWORD}\":\"{value}\"");
        message.replace(&format!("{quoted},"), "").replace(&quoted, "")
    })
}

fn with_keyword(schema: &Value) -> Value {
    match schema {
        Value::Object(entries) => {
            let mut all = Map::with_capacity(entries.len() + 1);
            all.insert(KEYWORD.to_owned(), Value::from(PART));
            for (keyword, held) in entries.iter().filter(|(keyword, _)| *keyword != KEYWORD) {
                let held = match held {
                    held if holds_values(keyword, held) => held.clone(),
                    Value::Object(named) if HOLDS_NAMED.contains(&keyword.as_str()) => {
                        named.iter().map(|(name, schema)| (name.clone(), with_keyword(schema))).collect()
                    }
                    held => with_keyword(held),
                };
                all.insert(keyword.clone(), held);
            }
            Value::Object(all)
        }
        Value::Array(items) => items.iter().map(with_keyword).collect(),
        other => other.clone(),
    }
}

/// The keyword's check, made for the schema that it stands in.
#[allow(clippy::result_large_err, reason = "the library asks for this error")]
pub(super) fn meter<'a>(
    schema: &'a Map<String, Value>,
    value: &'a Value,
    place: Location,
) -> Result<Box<dyn Keyword>, ValidationError<'a>> {
    /// The bytes of a unit, those that the library keeps for each keyword, and the units of a part of a pattern.
    const BYTES_OF_A_UNIT: usize = 8;
    const BYTES_OF_A_KEYWORD: usize = 300;
    const UNITS_OF_A_PART: u64 = 2;
    if value == WHOLE {
        HAS_MET_WHOLE.set(true);
    }
    let meter = Meter::new(schema);
    // Each keyword keeps the whole way that led to it.
    let bytes = (schema.len() + 1).saturating_mul(BYTES_OF_A_KEYWORD + place.as_str().len());
    let parts = meter.name_patterns.iter().chain(&meter.pattern).map(|pattern| pattern.size);
    let patterns = parts.fold(0, u64::saturating_add).saturating_mul(UNITS_OF_A_PART);
    spend(patterns.saturating_add((bytes / BYTES_OF_A_UNIT) as u64));
    Ok(Box::new(meter))
}

/// What a schema costs for each value.
struct Meter {
    units: u64,
    pattern: Option<PatternCost>,
    name_patterns: Vec<PatternCost>,
}

struct PatternCost {
    /// Its parts, all of which are built.
    size: u64,
    /// Those that may be tried at one place of a text.
    width: u64,
    is_backtracking: bool,
}

impl Meter {
    fn new(schema: &Map<String, Value>) -> Meter {
        /// Names and values that are compared within one unit.
        const LISTED: usize = 16;
        let listed = schema.values().map(|held| match held {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        });
        let names =
            schema.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        Meter {
            units: 1 + (listed.sum::<usize>() / LISTED) as u64,
            pattern: schema.get("pattern").and_then(Value::as_str).map(PatternCost::new),
            name_patterns: names.map(|name| PatternCost::new(name)).collect(),
        }
    }

    fn units_for(&self, value: &Value) -> u64 {
        let patterns = match value {
            Value::String(text) => self.pattern.as_ref().map_or(0, |pattern| pattern.units_for(text)),
            Value::Object(entries) => {
                let mut units = 0u64;
                for pattern in &self.name_patterns {
                    for name in entries.keys() {
                        units = units.saturating_add(pattern.units_for(name));
                    }
                }
                units
            }
            _ => 0,
        };
        patterns.saturating_add(self.units)
    }
}

impl PatternCost {
    fn new(pattern: &str) -> PatternCost {
        PatternCost {
            size: pattern_cost::size(pattern),
            width: pattern_cost::width(pattern),
            is_backtracking: pattern_cost::is_backtracking(pattern),
        }
    }

    fn units_for(&self, text: &str) -> u64 {
        /// Parts times bytes that are one unit.
        const STEPS: u64 = 64;
        /// Trying ends here: the library gives up after a million steps.
        const MOST_DOUBLINGS: usize = 14;
        let trying = if self.is_backtracking { 1u64 << text.len().min(MOST_DOUBLINGS) } else { 0 };
        self.width.saturating_mul(text.len() as u64) / STEPS + trying
    }
}

impl Keyword for Meter {
    fn validate<'i>(
        &self,
        instance: &'i Value,
        _location: &LazyLocation<'_, '_>,
    ) -> Result<(), ValidationError<'i>> {
        spend(self.units_for(instance));
        Ok(())
    }

    fn is_valid(&self, instance: &Value) -> bool {
        spend(self.units_for(instance));
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_keyword_stands_in_schemas_only() {
        let schema = json!({ "properties": { "const": { "const": { "a": 1 } } }, "items": [{}, true],
            "dependentRequired": { "a": ["b"] }, "enum": [{}], "types": { "enum": { "a": {} } } });
        let expected = json!({ KEYWORD: "whole",
            "properties": { "const": { KEYWORD: "part", "const": { "a": 1 } } },
            "items": [{ KEYWORD: "part" }, true], "dependentRequired": { "a": ["b"] }, "enum": [{}],
            "types": { KEYWORD: "part", "enum": { KEYWORD: "part", "a": { KEYWORD: "part" } } } });
        assert_eq!(metered(&schema), expected);
    }

    #[test]
    fn work_ends_when_its_units_are_used_up() {
        let mut units = 10;
        assert_eq!(within(&mut units, || spend(4)).map_err(|_| "exhausted"), Ok(()));
        assert_eq!(units, 6);
        assert!(within(&mut units, || spend(7)).is_err());
        assert_eq!(units, 0);
        // Outside of such work nothing is counted.
        spend(1000);
    }
}
