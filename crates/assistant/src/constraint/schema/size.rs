//! What is refused of a schema before any library is given it: names that make every place in it long, patterns whose automata
//! would fill the memory, references that lead back to themselves or multiply what they lead to.

use std::collections::BTreeMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::budget::{Budget, weight};
use super::check::draft_of;
use super::references::References;
use super::{HOLDS_NAMED, SchemaError, child, holds_values, pattern_cost};

/// The most bytes of a place's JSON pointer, and of the pointers of all places.
const POINTER_BYTES: usize = 4096;
const POINTERS_BYTES: usize = 16 << 20;
/// The most control letters (`\cA`) of a pattern: the library reads it anew for each.
const CONTROL_LETTERS: usize = 64;

/// A place where a schema stands, and its keywords.
type Placed<'s> = (String, &'s Map<String, Value>);

/// Checks a schema without nulls.
///
/// # Errors
/// [`SchemaError`] with the limit exceeded.
pub(super) fn check_size(schema: &Value, budget: &mut Budget) -> Result<(), SchemaError> {
    check_names(schema)?;
    let references = References::new(schema);
    references.check_size()?;
    let schemas = schemas_in(schema);
    check_patterns(&schemas, budget)?;
    check_targets(schema, &schemas, &references, budget)?;
    check_loops(&schemas, &references, ignores_siblings(draft_of(schema)))
}

/// Whether what stands beside `$ref` has no meaning.
pub(super) fn ignores_siblings(draft: Draft) -> bool {
    matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7)
}

fn check_names(schema: &Value) -> Result<(), SchemaError> {
    let mut all = 0usize;
    let mut unvisited = vec![(schema, 0usize)];
    while let Some((value, bytes)) = unvisited.pop() {
        all = all.saturating_add(bytes);
        if bytes > POINTER_BYTES || all > POINTERS_BYTES {
            let reason = format!(
                "names inside names are too long: more than {POINTER_BYTES} bytes lead to one place, or {POINTERS_BYTES} to all"
            );
            return Err(SchemaError::new("", reason));
        }
        match value {
            Value::Object(entries) => {
                unvisited.extend(entries.iter().map(|(name, value)| (value, bytes + name.len() + 1)));
            }
            Value::Array(items) => {
                /// Of an index.
                const BYTES: usize = 6;
                unvisited.extend(items.iter().map(|item| (item, bytes + BYTES)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every place where a schema may stand, each before those inside it. Annotations count as well: references may lead into them.
fn schemas_in(schema: &Value) -> Vec<Placed<'_>> {
    let mut found = Vec::new();
    let mut unvisited = vec![(String::new(), schema)];
    while let Some((place, value)) = unvisited.pop() {
        match value {
            Value::Object(entries) => {
                for (keyword, held) in entries {
                    let below = child(&place, keyword);
                    match held {
                        held if holds_values(keyword, held) => {}
                        Value::Object(named) if HOLDS_NAMED.contains(&keyword.as_str()) => {
                            unvisited
                                .extend(named.iter().map(|(name, schema)| (child(&below, name), schema)));
                        }
                        held => unvisited.push((below, held)),
                    }
                }
                found.push((place, entries));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                unvisited.extend(items.map(|(index, item)| (child(&place, &index.to_string()), item)));
            }
            _ => {}
        }
    }
    found
}

fn check_patterns(schemas: &[Placed<'_>], budget: &mut Budget) -> Result<(), SchemaError> {
    for (place, entries) in schemas {
        let own = entries.get("pattern").and_then(Value::as_str).map(|pattern| ("pattern", pattern));
        let of_names =
            entries.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let of_names = of_names.map(|pattern| ("patternProperties", pattern.as_str()));
        for (keyword, pattern) in own.into_iter().chain(of_names) {
            let place = child(place, keyword);
            if pattern.matches("\\c").count() > CONTROL_LETTERS {
                let reason = format!("the pattern has more than {CONTROL_LETTERS} control letters");
                return Err(SchemaError::new(place, reason));
            }
            budget.pattern(pattern_cost::size(pattern), &place)?;
        }
    }
    Ok(())
}

/// Checks where references lead. The library keeps a copy of its target for each of those that may lead to different places, and
/// [`References::check_size`] counts only the others.
fn check_targets(
    root: &Value,
    schemas: &[Placed<'_>],
    references: &References<'_>,
    budget: &mut Budget,
) -> Result<(), SchemaError> {
    let all = weight(root);
    for (place, entries) in schemas {
        if let Some(reference) = entries.get("$ref").and_then(Value::as_str) {
            let place = child(place, "$ref");
            let target = references.resolve(reference, &place);
            if target.is_ok_and(|(target, _)| leads_into_value(root, &target)) {
                let reason = format!(
                    "{reference:?} leads into the value of `const` or `enum`, which is no schema; schemas that are shared stand under `$defs`"
                );
                return Err(SchemaError::new(place, reason));
            }
        }
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if entries.contains_key(keyword) {
                budget.target(all, &child(place, keyword))?;
            }
        }
    }
    Ok(())
}

/// Whether a place of `root` is inside `const` or `enum`, where no effort is metered.
fn leads_into_value(root: &Value, place: &str) -> bool {
    let mut steps = place.split('/').skip(1);
    let mut here = Some(root);
    while let Some(step) = steps.next() {
        here = here.and_then(|value| one_step_below(value, step));
        if here.is_some_and(|held| holds_values(step, held)) {
            return true;
        }
        if HOLDS_NAMED.contains(&step)
            && let Some(name) = steps.next()
        {
            here = here.and_then(|named| one_step_below(named, name));
        }
    }
    false
}

/// What a step of a JSON pointer leads to.
fn one_step_below<'v>(value: &'v Value, step: &str) -> Option<&'v Value> {
    value.pointer(&format!("/{step}"))
}

/// A schema whose parts are being followed.
struct Followed<'s> {
    address: usize,
    /// The parts that are left, with their places.
    parts: Vec<(String, &'s Value)>,
}

/// Refuses schemas that lead back to themselves without going on to a property or an item: no check of an answer could follow them.
fn check_loops<'s>(
    schemas: &[Placed<'s>],
    references: &References<'s>,
    ignores_siblings: bool,
) -> Result<(), SchemaError> {
    // Whether all parts of a schema have been followed, by its address.
    let mut known: BTreeMap<usize, bool> = BTreeMap::new();
    for &(ref place, entries) in schemas {
        if known.contains_key(&address(entries)) {
            continue;
        }
        known.insert(address(entries), false);
        let parts = same_value_parts(place, entries, references, ignores_siblings);
        let mut open = vec![Followed { address: address(entries), parts }];
        while let Some(followed) = open.last_mut() {
            let Some((place, part)) = followed.parts.pop() else {
                known.insert(followed.address, true);
                open.pop();
                continue;
            };
            let Value::Object(entries) = part else { continue };
            match known.get(&address(entries)) {
                Some(true) => {}
                Some(false) => return Err(SchemaError::new(place, "this reference leads back to itself")),
                None => {
                    known.insert(address(entries), false);
                    let parts = same_value_parts(&place, entries, references, ignores_siblings);
                    open.push(Followed { address: address(entries), parts });
                }
            }
        }
    }
    Ok(())
}

/// The schemas that a schema applies to the same value as its own.
fn same_value_parts<'s>(
    place: &str,
    entries: &'s Map<String, Value>,
    references: &References<'s>,
    ignores_siblings: bool,
) -> Vec<(String, &'s Value)> {
    let mut parts = Vec::new();
    if let Some(reference) = entries.get("$ref").and_then(Value::as_str) {
        let place = child(place, "$ref");
        if let Ok((_, target)) = references.resolve(reference, &place) {
            parts.push((place, target));
        }
        if ignores_siblings {
            return parts;
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let place = child(place, keyword);
        let members = entries.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate();
        parts.extend(members.map(|(index, member)| (child(&place, &index.to_string()), member)));
    }
    for keyword in ["not", "if", "then", "else"] {
        parts.extend(entries.get(keyword).map(|part| (child(place, keyword), part)));
    }
    for keyword in ["dependentSchemas", "dependencies"] {
        let place = child(place, keyword);
        let named = entries.get(keyword).and_then(Value::as_object).into_iter().flatten();
        parts.extend(named.map(|(name, part)| (child(&place, name), part)));
    }
    parts
}

/// Tells schemas apart that are equal.
fn address(entries: &Map<String, Value>) -> usize {
    std::ptr::from_ref(entries) as usize
}
