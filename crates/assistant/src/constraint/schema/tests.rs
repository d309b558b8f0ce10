//! Rewritten schemas, checks, and where errors point.

use serde_json::{Value, json};

use super::strings::{none_of, patterns};
use super::{AnswerCheck, Budget, SchemaError, prepare, rewrite, without_nulls};

pub(super) fn rewritten(schema: Value) -> Value {
    rewrite(&without_nulls(&schema), "", &mut Budget::default()).expect("it can be rewritten").schema
}

pub(super) fn is_relaxed(schema: Value) -> bool {
    rewrite(&without_nulls(&schema), "", &mut Budget::default()).expect("it can be rewritten").is_relaxed
}

pub(super) fn check_of(schema: Value) -> AnswerCheck {
    AnswerCheck::new(&schema, &mut Budget::default().effort).expect("a schema")
}

pub(super) fn refused(schema: Value) -> SchemaError {
    let schema = without_nulls(&schema);
    match prepare(&schema, &mut Budget::default()) {
        Err(error) => error,
        Ok((_, rewritten)) => {
            rewritten.impossible.unwrap_or_else(|| panic!("{schema} became {}", rewritten.schema))
        }
    }
}

#[test]
fn described_objects_are_closed() {
    let open = json!({ "type": "object", "properties": { "a": { "type": "object", "properties": { "b": true } } }, "required": ["c"] });
    let expected = json!({ "type": "object", "additionalProperties": false, "required": ["c"], "properties": {
        "a": { "type": "object", "properties": { "b": true }, "additionalProperties": false }, "c": true } });
    assert_eq!(rewritten(open), expected);
    for explicit in [json!(true), json!({ "type": "string" }), json!(false)] {
        let schema =
            json!({ "type": "object", "properties": { "a": true }, "additionalProperties": explicit });
        assert_eq!(rewritten(schema.clone()), schema);
    }
    let map = json!({ "type": "object" });
    assert_eq!(rewritten(map.clone()), map);
}

#[test]
fn schemas_for_the_same_object_are_closed_together() {
    let schema = json!({ "type": "object", "allOf": [{ "$ref": "#/$defs/base" }, { "properties": { "b": true } }],
        "$defs": { "base": { "type": "object", "properties": { "a": true } } } });
    let closed = rewritten(schema);
    assert_eq!(closed["properties"], json!({ "a": true, "b": true }));
    assert_eq!(closed["additionalProperties"], false);
    assert_eq!(closed["$defs"]["0"]["additionalProperties"], Value::Null);
    let union = json!({ "anyOf": [{ "$ref": "#/$defs/cat" }, { "type": "null" }],
        "$defs": { "cat": { "type": "object", "properties": { "purrs": { "type": "boolean" } } } } });
    let closed = rewritten(union);
    assert_eq!(closed["anyOf"][0], json!({ "$ref": "#/$defs/0" }));
    assert_eq!(closed["$defs"]["0"]["additionalProperties"], false);
    let variants = json!({ "type": "object", "properties": { "kind": { "type": "string" } },
        "oneOf": [{ "properties": { "a": true }, "required": ["a"] }, { "properties": { "b": true }, "required": ["b"] }] });
    let closed = rewritten(variants);
    assert_eq!(closed["additionalProperties"], Value::Null);
    let first = &closed["anyOf"][0]["allOf"][0];
    assert_eq!(
        (&first["properties"], &first["additionalProperties"]),
        (&json!({ "a": true, "kind": true }), &json!(false))
    );
}

#[test]
fn conditions_become_alternatives() {
    let needs = json!({ "type": "object", "properties": { "a": true, "b": true }, "dependentRequired": { "a": ["b"] } });
    let part = json!({ "anyOf": [{ "properties": { "a": false } }, { "required": ["a", "b"] }] });
    assert_eq!(rewritten(needs)["allOf"], json!([part]));
    let without = json!({ "type": "object", "properties": { "a": true }, "not": { "required": ["a"] } });
    assert_eq!(rewritten(without)["allOf"], json!([{ "type": "object", "properties": { "a": false } }]));
    let no_null = json!({ "type": ["string", "null"], "not": { "type": "null" } });
    let types = json!({ "type": ["boolean", "number", "string", "array", "object"] });
    assert_eq!(rewritten(no_null)["allOf"], json!([types]));
    let condition = json!({ "type": "object", "properties": { "k": { "enum": ["x", "y"] }, "v": true },
        "if": { "properties": { "k": { "const": "x" } }, "required": ["k"] }, "then": { "required": ["v"] } });
    assert!(!is_relaxed(condition));
    assert!(is_relaxed(json!({ "type": "string", "not": { "pattern": "a" } })));
    assert!(is_relaxed(json!({ "type": "array", "items": { "type": "integer" }, "uniqueItems": true })));
}

#[test]
fn counts_of_properties_hold() {
    let schema = |more: Value| {
        let mut schema =
            json!({ "type": "object", "properties": { "a": true, "b": true, "c": true }, "required": ["b"] });
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        rewritten(schema)
    };
    assert_eq!(schema(json!({ "minProperties": 3 }))["required"], json!(["b", "a", "c"]));
    let most = schema(json!({ "maxProperties": 2 }));
    assert_eq!(most["properties"], json!({ "a": true, "b": true, "c": false }));
    assert_eq!(schema(json!({ "minProperties": 2 }))["minProperties"], 2);
}

#[test]
fn look_aheads_become_patterns_of_their_own() {
    let password = patterns(r"^(?=.*[A-Z])(?=.*\d).{8,}$");
    assert_eq!(password.all, [r"^(?:.*[A-Z])", r"^(?:.*\d)", r"^.{8,}$"]);
    assert!(!password.is_relaxed);
    let no = none_of(&["no".to_owned()], true).expect("a short text");
    assert_eq!(patterns("^(?!no$)[a-z]+$").all, [no, "^[a-z]+$".to_owned()]);
    assert!(patterns(r"^(?!.*\.\.).+$").is_relaxed);
    assert!(patterns("a(?=b)").is_relaxed);
    assert_eq!(patterns("a[bc]").all, ["a[bc]"]);
    assert_eq!(patterns(r"^\s*[\s\d]\\s$").all, [r"^[ \t\n\r]*[\s\d]\\s$"]);
}

#[test]
fn the_complement_of_texts_is_exact() {
    let texts = ["no".to_owned(), "not".to_owned(), "好".to_owned()];
    let check = |is_whole: bool| check_of(json!({ "pattern": none_of(&texts, is_whole) }));
    let (whole, beginning) = (check(true), check(false));
    for text in ["", "n", "no", "not", "nota", "nob", "好", "好的", "x", "no\n"] {
        assert_eq!(whole.check_value(&json!(text)).is_ok(), !texts.contains(&text.to_owned()), "{text:?}");
        let begins = texts.iter().any(|other| text.starts_with(other.as_str()));
        assert_eq!(beginning.check_value(&json!(text)).is_ok(), !begins, "{text:?}");
    }
}

#[test]
fn errors_point_to_the_keyword() {
    let pointer = |schema: Value| refused(schema).pointer;
    assert_eq!(pointer(json!({ "type": "objekt" })), "/type");
    assert_eq!(pointer(json!({ "properties": { "a": { "required": 3 } } })), "/properties/a/required");
    assert_eq!(pointer(json!({ "properties": { "a/b": { "$ref": "#/$defs/x" } } })), "/properties/a~1b/$ref");
    assert_eq!(pointer(json!({ "$ref": "https://example.com/a.json" })), "/$ref");
    assert_eq!(pointer(json!({ "$ref": "#" })), "/$ref");
    assert_eq!(pointer(json!({ "items": { "enum": [1, 2], "type": "string" } })), "/items/enum");
    assert_eq!(pointer(json!({ "type": "array", "minItems": 3, "maxItems": 2 })), "/maxItems");
    assert_eq!(pointer(json!({ "type": "integer", "minimum": 3, "maximum": 2 })), "/minimum");
    assert_eq!(pointer(json!({ "type": "string", "pattern": "^ab$", "maxLength": 1 })), "/pattern");
}

#[test]
fn what_no_value_satisfies_stays_away_where_it_may() {
    let optional =
        json!({ "type": "object", "properties": { "a": { "enum": ["x"], "type": "object" }, "b": true } });
    assert_eq!(rewritten(optional)["properties"], json!({ "a": false, "b": true }));
    let alternative =
        json!({ "anyOf": [{ "type": "array", "minItems": 2, "maxItems": 1 }, { "type": "null" }] });
    assert_eq!(rewritten(alternative)["anyOf"][0], false);
}

#[test]
fn references_that_double_are_refused_by_their_size() {
    let mut definitions = serde_json::Map::new();
    for level in 0..40 {
        let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
        definitions.insert(level.to_string(), json!({ "allOf": [next, next] }));
    }
    definitions.insert("40".to_owned(), json!({ "type": "string" }));
    let error = refused(json!({ "$ref": "#/$defs/0", "$defs": definitions }));
    assert!(error.reason.contains("100000 values"), "{error}");
}

#[test]
fn nulls_are_absent_keywords() {
    let schema = json!({ "type": "object", "required": null, "additionalProperties": null, "properties": {
        "a": { "const": null }, "default": { "default": null, "pattern": null } } });
    let expected =
        json!({ "type": "object", "properties": { "a": { "const": null }, "default": { "default": null } } });
    assert_eq!(without_nulls(&schema), expected);
}

#[test]
fn answers_are_checked_with_their_places() {
    let check = check_of(json!({ "properties": { "a": { "uniqueItems": true } } }));
    assert_eq!(check.check(r#"{"a": [1, 2]}"#), Ok(()));
    let reason = check.check(r#"{"a": [1, 1]}"#).expect_err("not unique");
    assert!(reason.contains("`/a` breaks `/properties/a/uniqueItems`"), "{reason}");
    let draft_4 = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "type": "integer" });
    assert_eq!(check_of(draft_4).check("-0"), Ok(()));
    // What the library quotes of a schema is as it was written.
    let quoted = check_of(json!({ "not": { "not": {} , "type": "string" } })).check("\"a\"");
    assert!(quoted.is_ok(), "{quoted:?}");
    let quoted = check_of(json!({ "not": { "type": "string" } })).check("\"a\"").expect_err("a text");
    assert!(quoted.contains(r#"{"type":"string"} is not allowed"#), "{quoted}");
    assert!(check.check("{").expect_err("no JSON").contains("is not JSON"));
}

#[test]
fn answers_are_checked_whatever_a_schema_is_named() {
    for name in [json!("https://example.com/root.json"), json!("root.json"), Value::Null] {
        let schema = without_nulls(
            &json!({ "$id": name, "items": { "$ref": "#/$defs/i" }, "$defs": { "i": { "type": "string" } } }),
        );
        let check = check_of(schema);
        assert_eq!(check.check(r#"["a"]"#), Ok(()), "{name}");
        let reason = check.check("[1]").expect_err("no text");
        assert!(reason.contains("`/0` breaks `/items/$ref/type`"), "{reason}");
    }
    let relative = json!({ "$id": "https://example.com/root.json", "$ref": "item.json",
        "$defs": { "i": { "$id": "item.json", "type": "string" } } });
    assert!(check_of(relative).check("1").is_err());
    let twice = json!({ "$id": "https://example.com/a.json", "type": "string",
        "$defs": { "b": { "$id": "https://example.com/a.json", "type": "null" } } });
    assert!(AnswerCheck::new(&twice, &mut Budget::default().effort).is_err());
    let old = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a",
        "definitions": { "a": { "type": "string" } } });
    let check = check_of(old);
    assert_eq!((check.check("\"a\""), check.check("1").is_err()), (Ok(()), true));
}
