//! Whether a schema is written as JSON Schema says.
//!
//! The library that checks answers has the standard's own schemas of schemas for that, but follows them by building them anew for
//! each way through nested keywords that it meets, and keeps what it has built for as long as the program runs. So each schema inside
//! a schema is checked here by itself, against a form that says nothing about those inside it.

use std::sync::LazyLock;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::check::shortened;
use super::{SchemaError, child};

/// Keywords that hold a schema, lists of schemas, and schemas by names.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

static DRAFT_4: LazyLock<Option<Validator>> = LazyLock::new(|| form(true, true));
static UNTIL_2019: LazyLock<Option<Validator>> = LazyLock::new(|| form(false, true));
static SINCE_2020: LazyLock<Option<Validator>> = LazyLock::new(|| form(false, false));

/// Checks a schema without nulls and all schemas inside it.
///
/// # Errors
/// [`SchemaError`] at the keyword that is wrong.
pub(super) fn check_form(schema: &Value, draft: Draft) -> Result<(), SchemaError> {
    let form = match draft {
        Draft::Draft4 => &*DRAFT_4,
        Draft::Draft6 | Draft::Draft7 | Draft::Draft201909 => &*UNTIL_2019,
        _ => &*SINCE_2020,
    };
    let Some(form) = form else { return Err(SchemaError::new("", "schemas cannot be read here")) };
    let mut unvisited = vec![(String::new(), schema)];
    while let Some((place, schema)) = unvisited.pop() {
        form.validate(schema).map_err(|error| {
            let place = format!("{place}{}", error.instance_path.as_str());
            SchemaError::new(place, shortened(&error.to_string()))
        })?;
        for (keyword, held) in schema.as_object().into_iter().flatten() {
            let below = child(&place, keyword);
            match (keyword.as_str(), held) {
                ("items", Value::Array(items)) => add_items(&below, items, &mut unvisited),
                (keyword, Value::Array(items)) if LISTS.contains(&keyword) => {
                    add_items(&below, items, &mut unvisited);
                }
                (keyword, Value::Object(named)) if NAMED.contains(&keyword) => {
                    unvisited.extend(named.iter().map(|(name, schema)| (child(&below, name), schema)));
                }
                ("dependencies", Value::Object(named)) => {
                    let schemas = named.iter().filter(|(_, needed)| !needed.is_array());
                    unvisited.extend(schemas.map(|(name, schema)| (child(&below, name), schema)));
                }
                // The form of the whole has seen booleans, which in draft 4 are schemas under two keywords only.
                (keyword, held) if ONE.contains(&keyword) && !held.is_boolean() => {
                    unvisited.push((below, held))
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn add_items<'s>(place: &str, items: &'s [Value], unvisited: &mut Vec<(String, &'s Value)>) {
    let items = items.iter().enumerate();
    unvisited.extend(items.map(|(index, item)| (child(place, &index.to_string()), item)));
}

/// The form of one schema.
fn form(is_draft_4: bool, has_lists_of_items: bool) -> Option<Validator> {
    let schema =
        if is_draft_4 { json!({ "type": "object" }) } else { json!({ "type": ["object", "boolean"] }) };
    let either = json!({ "type": ["object", "boolean"] });
    let list = json!({ "type": "array", "minItems": 1, "items": schema });
    let named = json!({ "type": "object", "additionalProperties": schema });
    let names = json!({ "type": "array", "items": { "type": "string" }, "uniqueItems": true });
    let one_or_list = json!({ "anyOf": [schema, list] });
    let items = if has_lists_of_items { &one_or_list } else { &schema };
    let limit = json!({ "type": if is_draft_4 { "boolean" } else { "number" } });
    let mut forms = Map::new();
    let mut add = |keywords: &[&str], form: &Value| {
        forms.extend(keywords.iter().map(|keyword| ((*keyword).to_owned(), form.clone())));
    };
    add(&ONE, &schema);
    add(&["additionalItems", "additionalProperties"], &either);
    add(&["items"], items);
    add(&LISTS, &list);
    add(&NAMED, &named);
    add(&["patternProperties"], &json!({ "allOf": [named], "propertyNames": { "format": "regex" } }));
    let needed = json!({ "type": ["object", "boolean", "array"], "items": { "type": "string" } });
    add(&["dependencies"], &json!({ "type": "object", "additionalProperties": needed }));
    add(&["dependentRequired"], &json!({ "type": "object", "additionalProperties": names }));
    add(&["required"], &names);
    add(&["type"], &types());
    add(&["enum"], &json!({ "type": "array" }));
    add(&["minimum", "maximum"], &json!({ "type": "number" }));
    add(&["exclusiveMinimum", "exclusiveMaximum"], &limit);
    add(&["multipleOf"], &json!({ "type": "number", "exclusiveMinimum": 0 }));
    add(&["pattern"], &json!({ "type": "string", "format": "regex" }));
    add(&["uniqueItems"], &json!({ "type": "boolean" }));
    add(&COUNTS, &json!({ "type": "integer", "minimum": 0 }));
    add(&TEXTS, &json!({ "type": "string" }));
    let form = json!({ "allOf": [schema], "properties": forms });
    jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true).build(&form).ok()
}

const COUNTS: [&str; 8] = [
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
];
const TEXTS: [&str; 11] = [
    "$anchor",
    "$comment",
    "$dynamicRef",
    "$id",
    "$recursiveRef",
    "$ref",
    "contentEncoding",
    "contentMediaType",
    "description",
    "format",
    "title",
];

fn types() -> Value {
    let name = json!({ "enum": ["array", "boolean", "integer", "null", "number", "object", "string"] });
    json!({ "anyOf": [name, { "type": "array", "items": name, "minItems": 1, "uniqueItems": true }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: each new way through nested keywords took memory for as long as the server ran.
    #[test]
    fn what_is_wrong_is_found_at_any_depth() {
        let place = |schema: Value, draft: Draft| check_form(&schema, draft).err().map(|error| error.pointer);
        let wrong = [
            (json!({ "type": "strnig" }), "/type"),
            (json!({ "type": ["string", "string"] }), "/type"),
            (
                json!({ "properties": { "a/b": { "items": { "minItems": -1 } } } }),
                "/properties/a~1b/items/minItems",
            ),
            (json!({ "allOf": [true, { "pattern": "(" }] }), "/allOf/1/pattern"),
            (json!({ "patternProperties": { "(": true } }), "/patternProperties"),
            (json!({ "not": { "anyOf": [] } }), "/not/anyOf"),
            (json!({ "dependencies": { "a": ["b", 1] } }), "/dependencies/a/1"),
            (json!({ "dependentSchemas": { "a": { "then": 3 } } }), "/dependentSchemas/a/then"),
            (json!({ "multipleOf": 0 }), "/multipleOf"),
            (json!(3), ""),
        ];
        for (schema, pointer) in wrong {
            assert_eq!(place(schema.clone(), Draft::Draft202012).as_deref(), Some(pointer), "{schema}");
        }
        let right = json!({ "type": ["string", "null"], "enum": [{ "type": 3 }], "const": { "items": 3 }, "default": { "not": 3 },
            "x-note": { "type": 3 }, "additionalProperties": false, "maxLength": 2.0, "dependencies": { "a": ["b"], "c": {} } });
        assert_eq!(place(right, Draft::Draft202012), None);
    }

    #[test]
    fn drafts_differ() {
        let has_form = |schema: Value, draft: Draft| check_form(&schema, draft).is_ok();
        for (draft, lists, limits, schemas) in [
            (Draft::Draft4, true, true, false),
            (Draft::Draft7, true, false, true),
            (Draft::Draft202012, false, false, true),
        ] {
            assert_eq!(has_form(json!({ "items": [{}] }), draft), lists, "{draft:?}");
            assert_eq!(
                has_form(json!({ "minimum": 1, "exclusiveMinimum": true }), draft),
                limits,
                "{draft:?}"
            );
            assert_eq!(has_form(json!({ "properties": { "a": true } }), draft), schemas, "{draft:?}");
            assert!(has_form(json!({ "additionalProperties": false }), draft), "{draft:?}");
        }
    }
}
