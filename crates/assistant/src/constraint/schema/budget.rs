//! How much work the schemas of one request may cause beyond what their own size explains. What goes beyond is refused, or is left
//! to the check of the complete answer.

use std::collections::BTreeMap;

use serde_json::Value;

use super::SchemaError;

/// The most schemas, references followed, that are rewritten.
const SCHEMAS: usize = 20_000;
/// The most values that are written once more: a schema that stands for several items, names that close several objects.
const COPIES: usize = 200_000;
/// The most names and schemas that are looked at to find out which properties describe the same object.
const LOOKS: usize = 2_000_000;
/// The most small grammars that are compiled to see whether they can be.
const TRIES: usize = 3_000;
/// The most steps of one negation, and of all.
const STEPS_OF_A_NEGATION: usize = 2_000;
const STEPS_OF_NEGATIONS: usize = 1_000_000;
/// The most values of all targets of references that may lead to different places: the library that checks answers copies them.
const TARGETS: usize = 200_000;
/// The most parts of all patterns, written out.
const PATTERNS: u64 = 3_000_000;
/// For building checks and for checking values of the schema itself; in the units of [`super::effort`].
const EFFORT: u64 = 10_000_000;

/// What is left, and what need not be done again.
#[derive(Debug)]
pub(crate) struct Budget {
    schemas: usize,
    copies: usize,
    looks: usize,
    tries: usize,
    negations: usize,
    targets: usize,
    patterns: u64,
    /// What the compiler said of small grammars.
    pub(super) tried: BTreeMap<String, Result<(), String>>,
    /// In the units of [`super::effort`].
    pub(super) effort: u64,
}

impl Default for Budget {
    /// For one request.
    fn default() -> Budget {
        Budget {
            schemas: SCHEMAS,
            copies: COPIES,
            looks: LOOKS,
            tries: TRIES,
            negations: STEPS_OF_NEGATIONS,
            targets: TARGETS,
            patterns: PATTERNS,
            tried: BTreeMap::new(),
            effort: EFFORT,
        }
    }
}

impl Budget {
    /// One more schema is rewritten.
    ///
    /// # Errors
    /// [`SchemaError`] with the limit, as for all below.
    pub(super) fn schema(&mut self, pointer: &str) -> Result<(), SchemaError> {
        let reason = || SchemaError::new(pointer, format!("more than {SCHEMAS} schemas are too many"));
        spend(&mut self.schemas, 1).ok_or_else(reason)
    }

    /// A schema is about to be written `times` more.
    pub(super) fn copy(&mut self, schema: &Value, times: usize, pointer: &str) -> Result<(), SchemaError> {
        if times == 0 { Ok(()) } else { self.copy_values(weight(schema).saturating_mul(times), pointer) }
    }

    /// So many values are about to be written once more.
    pub(super) fn copy_values(&mut self, values: usize, pointer: &str) -> Result<(), SchemaError> {
        let reason = || {
            let reason = format!("what it stands for is more than {COPIES} values once it is written out");
            SchemaError::new(pointer, reason)
        };
        spend(&mut self.copies, values).ok_or_else(reason)
    }

    /// So many names or schemas are about to be looked at.
    pub(super) fn look(&mut self, names: usize, pointer: &str) -> Result<(), SchemaError> {
        let reason = || {
            let reason = format!(
                "too many schemas describe the same objects: more than {LOOKS} names would have to be compared"
            );
            SchemaError::new(pointer, reason)
        };
        spend(&mut self.looks, names).ok_or_else(reason)
    }

    /// Whether another small grammar may be compiled.
    pub(super) fn may_try(&mut self) -> bool {
        spend(&mut self.tries, 1).is_some()
    }

    /// How many steps the next negation may take.
    pub(super) fn steps_of_negation(&self) -> usize {
        self.negations.min(STEPS_OF_A_NEGATION)
    }

    /// It has taken so many.
    pub(super) fn end_negation(&mut self, steps: usize) {
        self.negations = self.negations.saturating_sub(steps);
    }

    /// A reference that may lead to different places leads to so many values.
    pub(super) fn target(&mut self, values: usize, pointer: &str) -> Result<(), SchemaError> {
        let reason = || {
            let reason =
                format!("the schemas that references lead to have more than {TARGETS} values together");
            SchemaError::new(pointer, reason)
        };
        spend(&mut self.targets, values).ok_or_else(reason)
    }

    /// A pattern has so many parts.
    pub(super) fn pattern(&mut self, parts: u64, pointer: &str) -> Result<(), SchemaError> {
        let reason = || SchemaError::new(pointer, "the patterns are too large together");
        self.patterns = self.patterns.checked_sub(parts).ok_or_else(reason)?;
        Ok(())
    }

    /// Roughly how many schemas' worth of work has been done.
    pub(crate) fn work(&self) -> usize {
        let (schemas, copies, tries) = (SCHEMAS - self.schemas, COPIES - self.copies, TRIES - self.tries);
        schemas + copies / 4 + tries * 8
    }
}

/// Takes `cost` from what is left; `None`, and nothing is left, if that is less.
pub(super) fn spend(left: &mut usize, cost: usize) -> Option<()> {
    let rest = left.checked_sub(cost);
    *left = rest.unwrap_or(0);
    rest.map(|_| ())
}

/// How many values a value consists of; long texts count for several.
pub(super) fn weight(value: &Value) -> usize {
    const BYTES: usize = 64;
    let mut weight = 0usize;
    let mut unvisited = vec![value];
    while let Some(value) = unvisited.pop() {
        weight += 1;
        match value {
            Value::String(text) => weight += text.len() / BYTES,
            Value::Array(items) => unvisited.extend(items),
            Value::Object(entries) => {
                weight += entries.keys().map(|name| name.len() / BYTES).sum::<usize>();
                unvisited.extend(entries.values());
            }
            _ => {}
        }
    }
    weight
}
