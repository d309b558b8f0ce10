//! JSON schemas as people and generators write them: made into what the grammar's compiler knows, and into a check of the
//! complete answer.
//!
//! * [`references`]: where `$ref` points.
//! * [`rewrite`]: a schema in the compiler's subset. What the subset cannot say is narrowed (fewer answers than the schema
//!   allows, all of them right), or else left out; then only the check can tell whether an answer is right.
//! * [`objects`], [`scalars`], [`conditions`], [`strings`]: the parts of that about objects, about single values, about `not`, `if`
//!   and their relatives, and about patterns.
//! * [`form`], [`check`]: whether it is a schema, and the complete answer against the whole of it, by the `jsonschema` crate.
//! * [`size`], [`budget`], [`product`], [`effort`]: a schema of a few kilobytes can ask for work without end, as it may lead back
//!   to itself and multiply what it holds. They bound it: before a library sees the schema, while it is rewritten, what the grammar's
//!   compiler makes of it, and while answers are checked. [`deep`]: the stack for what recursion is left.
//!
//! One rule is not JSON Schema's: an object with `properties` or `patternProperties` and no `additionalProperties` has no other
//! properties. Models go on with further keys for ever where nothing forbids it.

mod budget;
mod check;
mod conditions;
mod deep;
mod effort;
mod form;
mod objects;
mod pattern_cost;
mod product;
mod references;
mod rewrite;
mod scalars;
mod size;
mod strings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod work_tests;

use serde_json::Value;

pub(crate) use budget::Budget;
pub(crate) use check::AnswerCheck;
pub(crate) use deep::{with_deep_stack, without_thread};
pub(crate) use rewrite::{Rewritten, rewrite};

/// Keywords whose value is compared with answers and holds no schemas.
const HOLDS_VALUES: [&str; 2] = ["const", "enum"];
/// Keywords whose value maps names to schemas or lists; no name there is a keyword.
const HOLDS_NAMED: [&str; 8] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "$vocabulary",
];

/// Whether a keyword's value is compared with answers. Lists of values are arrays: an object that is called `enum` is a folder of schemas.
fn holds_values(keyword: &str, held: &Value) -> bool {
    HOLDS_VALUES.contains(&keyword) && !(keyword == "enum" && held.is_object())
}

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {}: {reason}", shown(pointer))]
pub(crate) struct SchemaError {
    /// The keyword's place: a JSON pointer (RFC 6901).
    pub(crate) pointer: String,
    /// What is wrong there.
    pub(crate) reason: String,
    /// It is a schema, but no value satisfies it.
    pub(crate) is_impossible: bool,
}

impl SchemaError {
    pub(crate) fn new(pointer: impl Into<String>, reason: impl Into<String>) -> SchemaError {
        SchemaError { pointer: pointer.into(), reason: reason.into(), is_impossible: false }
    }

    /// No value satisfies the schema, by the keyword at `pointer`.
    pub(crate) fn impossible(pointer: impl Into<String>, reason: impl Into<String>) -> SchemaError {
        SchemaError { is_impossible: true, ..SchemaError::new(pointer, reason) }
    }
}

/// Compiles a schema without nulls for checking, and rewrites it.
///
/// # Errors
/// [`SchemaError`] at the keyword that is wrong, or that no answer can satisfy, or with the limit that the schema exceeds.
pub(crate) fn prepare(schema: &Value, budget: &mut Budget) -> Result<(AnswerCheck, Rewritten), SchemaError> {
    let prepared = with_deep_stack(|| {
        size::check_size(schema, budget)?;
        match AnswerCheck::new(schema, &mut budget.effort) {
            Ok(check) => Ok((check, rewrite(schema, "", budget)?)),
            // The library does not say where a reference stands that leads nowhere.
            Err(error) if error.pointer.is_empty() => Err(rewrite(schema, "", budget).err().unwrap_or(error)),
            Err(error) => Err(error),
        }
    });
    prepared.unwrap_or_else(|error| Err(SchemaError::new("", without_thread(&error))))
}

fn shown(pointer: &str) -> String {
    if pointer.is_empty() { "the schema itself".to_owned() } else { format!("`{pointer}`") }
}

/// `pointer` and one more step.
pub(crate) fn child(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// The schema without the keywords that are null, as some generators write absent ones.
pub(crate) fn without_nulls(schema: &Value) -> Value {
    /// More keywords whose value is no schema and may hold null.
    const VALUES: [&str; 3] = ["default", "examples", "example"];
    /// Keywords whose value maps names to schemas; no name is a keyword.
    const MAPS: [&str; 6] =
        ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
    let is_value = |name: &str, held: &Value| VALUES.contains(&name) || holds_values(name, held);
    match schema {
        Value::Object(entries) => {
            let kept = entries.iter().filter(|(name, value)| !value.is_null() || is_value(name, value));
            let kept = kept.map(|(name, value)| {
                let value = match value {
                    value if is_value(name, value) => value.clone(),
                    Value::Object(map) if MAPS.contains(&name.as_str()) => {
                        map.iter().map(|(name, schema)| (name.clone(), without_nulls(schema))).collect()
                    }
                    value => without_nulls(value),
                };
                (name.clone(), value)
            });
            kept.collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}
