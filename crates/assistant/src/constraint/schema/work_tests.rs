//! Small schemas that ask for work without end: each of these once filled the memory, overflowed a stack or kept a processor busy
//! for minutes. All of them are regression tests.

use llguidance::api::ParserLimits;
use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{Map, Value, json};

use super::rewrite::MAX_CONDITIONS;
use super::strings::{none_of, patterns};
use super::tests::{check_of, is_relaxed, refused, rewritten};
use super::{AnswerCheck, Budget, prepare, rewrite, with_deep_stack, without_nulls};

/// Properties `p0`, `p1` and so on.
fn properties(count: usize, schema: &Value) -> Value {
    (0..count).map(|index| (format!("p{index}"), schema.clone())).collect()
}

/// `outer` of `outer` of …
fn nested(levels: usize, innermost: Value, outer: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(innermost, |inner, _| outer(inner))
}

#[test]
fn long_texts_that_must_not_stand_are_left_to_the_check() {
    let long = "a".repeat(20_000);
    let pattern = patterns(&format!("^(?!{long})"));
    assert!(pattern.is_relaxed && pattern.all.is_empty(), "{pattern:?}");
    assert!(patterns(&format!("^(?!(?:{}b)$)[a-z]+$", "ab|".repeat(1000))).is_relaxed);
    assert_eq!(none_of(&["a".repeat(1999)], true), None);
    assert_eq!(none_of(&vec!["ab".to_owned(); 1001], true), None);
    for forbidden in [json!({ "const": long }), json!({ "enum": ["b", "a".repeat(1999)] })] {
        assert!(is_relaxed(json!({ "type": "string", "not": forbidden })));
    }
    let check = check_of(json!({ "type": "string", "not": { "const": long } }));
    assert!(check.check_value(&json!(long)).is_err());
    assert_eq!(check.check_value(&json!("b")), Ok(()));
}

#[test]
fn only_so_many_look_aheads_are_followed() {
    let pattern = patterns(&format!("^{}b$", "(?=.*a)".repeat(1000)));
    assert!(pattern.is_relaxed);
    assert_eq!(pattern.all.len(), 17);
    assert_eq!(pattern.all.last().map(String::as_str), Some("^b$"));
}

#[test]
fn schemas_for_many_items_or_names_are_refused_once_they_multiply() {
    let contains = |inner: Value| json!({ "type": "array", "contains": inner, "minContains": 64 });
    let items =
        |inner: Value| json!({ "type": "array", "items": inner, "contains": true, "minContains": 64 });
    let names: Vec<String> = (0..300).map(|index| format!("n{index}")).collect();
    let named = |inner: Value| json!({ "type": "object", "propertyNames": { "enum": names }, "additionalProperties": inner });
    for schema in [
        nested(8, json!({ "type": "string" }), contains),
        nested(8, json!({ "type": "string" }), items),
        nested(8, json!({ "type": "string" }), named),
    ] {
        let error = refused(schema);
        assert!(error.reason.contains("once it is written out"), "{error}");
    }
    let two = contains(json!({ "type": "string" }));
    assert_eq!(rewritten(two)["prefixItems"].as_array().map(Vec::len), Some(64));
}

#[test]
fn names_that_close_many_alternatives_are_counted() {
    let alternatives = vec![json!({ "properties": { "a": true } }); 600];
    let schema =
        json!({ "type": "object", "properties": properties(600, &json!(true)), "anyOf": alternatives });
    assert!(refused(schema).reason.contains("once it is written out"));
    let described = json!({ "type": "object", "properties": properties(2000, &json!({ "type": "null" })) });
    let same = vec![json!({ "anyOf": [{ "$ref": "#/$defs/d" }] }); 2000];
    let schema = json!({ "type": "array", "prefixItems": same, "$defs": { "d": described } });
    let error = rewrite(&schema, "", &mut Budget::default()).expect_err("2000 times 2000 names");
    assert!(error.reason.contains("names would have to be compared"), "{error}");
}

#[test]
fn the_negation_of_a_recursive_schema_has_an_end() {
    let recursive = json!({ "properties": properties(180, &json!({ "$ref": "#/$defs/a" })) });
    for condition in ["not", "if"] {
        let schema = json!({ "type": "object", condition: { "$ref": "#/$defs/a" }, "then": { "required": ["p0"] },
            "$defs": { "a": recursive } });
        assert!(is_relaxed(schema));
    }
    let many: Vec<String> = (0..5000).map(|index| format!("n{index}")).collect();
    assert!(is_relaxed(json!({ "type": "object", "not": { "required": many } })));
}

#[test]
fn conditions_inside_what_conditions_became_have_an_end() {
    let inner = json!({ "if": { "$ref": "#/$defs/t" }, "then": { "required": ["x"] } });
    let target = json!({ "properties": { "a": { "not": inner } } });
    let schema = json!({ "type": "object", "if": { "$ref": "#/$defs/t" }, "then": { "required": ["a"] },
        "$defs": { "t": target } });
    let (_, rewritten) = prepare(&schema, &mut Budget::default()).expect("it has an end");
    assert!(rewritten.is_relaxed);
    // What a condition becomes holds the property with the next one. The one behind the last that is written is left to the check.
    let next = |schema: &Value| schema.pointer("/allOf/0/anyOf/1/allOf/0/properties/a").cloned();
    let written = std::iter::successors(Some(rewritten.schema), next).count() - 1;
    assert_eq!(written, MAX_CONDITIONS);
}

#[test]
fn tokens_are_held_to_few_patterns_of_names() {
    let patterns = |count: usize| -> Value {
        (0..count).map(|index| (format!("^a{index}$"), json!({ "type": "null" }))).collect()
    };
    let schema = json!({ "type": "object", "patternProperties": patterns(1000) });
    let kept = rewritten(schema.clone());
    assert_eq!(kept["patternProperties"].as_object().map(Map::len), Some(32));
    assert!(is_relaxed(schema));
    assert!(!is_relaxed(json!({ "type": "object", "patternProperties": patterns(4) })));
    let overlapping =
        json!({ "type": "object", "patternProperties": { "^a": true, "^ab": true, "^b": true } });
    let kept = rewritten(overlapping);
    assert_eq!(kept["patternProperties"], json!({ "^a": true, "^b": true }));
}

#[test]
fn only_so_many_small_grammars_are_tried() {
    let many: Vec<Value> = (0..3500).map(|index| json!({ "type": "number", "minimum": index })).collect();
    assert!(is_relaxed(json!({ "type": "array", "prefixItems": many })));
    let lengths: Vec<Value> =
        (0..3500).map(|index| json!({ "type": "string", "minLength": index })).collect();
    let kept = rewritten(json!({ "type": "array", "prefixItems": lengths }));
    assert_eq!(kept["prefixItems"][3499]["minLength"], 3499);
}

#[test]
fn one_of_many_properties_becomes_the_first() {
    let schema = |count: usize| {
        let properties = properties(count, &json!(true));
        rewritten(json!({ "type": "object", "properties": properties, "minProperties": 1 }))
    };
    assert_eq!((&schema(64)["minProperties"], &schema(64)["required"]), (&json!(1), &Value::Null));
    assert_eq!((&schema(65)["minProperties"], &schema(65)["required"]), (&Value::Null, &json!(["p0"])));
}

#[test]
fn schemas_that_lead_back_to_themselves_for_the_same_value_are_refused() {
    let definitions = [
        json!({ "anyOf": [{ "$ref": "#/$defs/a" }, { "type": "string" }] }),
        json!({ "not": { "$ref": "#/$defs/b" } }),
        json!({ "type": "object", "dependentSchemas": { "x": { "if": { "$ref": "#/$defs/a" } } } }),
    ];
    for definition in definitions {
        let other = json!({ "allOf": [{ "$ref": "#/$defs/a" }] });
        let error = refused(json!({ "$ref": "#/$defs/a", "$defs": { "a": definition, "b": other } }));
        assert!(error.reason.contains("leads back to itself"), "{error}");
    }
    let tree = json!({ "type": "object", "properties": { "left": { "$ref": "#" }, "rest": { "items": { "$ref": "#" } } },
        "propertyNames": { "$ref": "#/$defs/name" }, "$defs": { "name": { "maxLength": 5 } } });
    assert!(prepare(&tree, &mut Budget::default()).is_ok());
}

#[test]
fn references_that_multiply_their_targets_are_refused() {
    let recursive = json!({ "$schema": "https://json-schema.org/draft/2019-09/schema", "type": "object",
        "properties": properties(1000, &json!({ "$recursiveRef": "#" })) });
    assert!(refused(recursive).reason.contains("that references lead to"));
    let error = refused(json!({ "enum": [{ "anyOf": [] }], "anyOf": [{ "$ref": "#/enum/0" }] }));
    assert!(error.reason.contains("no schema") && error.pointer == "/anyOf/0/$ref", "{error}");
}

/// A folder of schemas that is called as a keyword was taken for one, and refused. There are no values in it, and its schemas are metered.
#[test]
fn references_lead_into_a_folder_that_is_called_enum() {
    let schema = json!({ "type": "object", "properties": { "color": { "$ref": "#/types/enum/Color" } },
        "types": { "enum": { "Color": { "type": "string", "pattern": "^#", "format": null } } } });
    let schema = without_nulls(&schema);
    let (check, rewritten) = prepare(&schema, &mut Budget::default()).expect("it leads to a schema");
    assert_eq!(rewritten.schema["$defs"]["0"], json!({ "type": "string", "pattern": "^#" }));
    assert_eq!(check.check_value(&json!({ "color": "#f00" })), Ok(()));
    assert!(check.check_value(&json!({ "color": "red" })).is_err());
    let listed = json!({ "$ref": "#/types/enum/0", "types": { "enum": [{ "type": "string" }] } });
    assert!(refused(listed).reason.contains("no schema"));
    let value = json!({ "$ref": "#/$defs/a/const/b", "$defs": { "a": { "const": { "b": {} } } } });
    assert!(refused(value).reason.contains("no schema"));
}

#[test]
fn names_and_patterns_that_are_too_large_are_refused() {
    let name = "n".repeat(5000);
    let long = json!({ "properties": { name: { "enum": vec![1; 5000] } } });
    assert!(refused(long).reason.contains("names inside names"));
    let letters: Vec<Value> =
        (0..100).map(|index| json!({ "pattern": format!("^\\p{{L}}{{400}}{index}") })).collect();
    let error = refused(json!({ "type": "string", "anyOf": letters }));
    assert!(error.reason.contains("patterns are too large"), "{error}");
    let error = refused(json!({ "type": "string", "pattern": r"\cA".repeat(100) }));
    assert!(error.reason.contains("control letters") && error.pointer == "/pattern", "{error}");
}

#[test]
fn names_of_properties_are_not_checked_against_references_out_of_place() {
    let names = json!({ "anyOf": [{ "$ref": "#" }, { "maxLength": 1 }] });
    let schema =
        json!({ "type": "object", "properties": { "long": true, "a": true }, "propertyNames": names });
    assert!(is_relaxed(schema));
    let schema = json!({ "type": "object", "properties": { "long": true, "a": true }, "propertyNames": { "maxLength": 1 } });
    assert_eq!(rewritten(schema)["properties"], json!({ "long": false, "a": true }));
}

#[test]
fn listed_values_are_checked_in_proportion_to_their_number() {
    let values: Vec<usize> = (0..10_000).collect();
    let kept = rewritten(json!({ "type": "integer", "enum": values, "maximum": 99 }));
    assert_eq!(kept["enum"].as_array().map(Vec::len), Some(100));
    let kept = rewritten(json!({ "const": 3, "enum": values }));
    assert_eq!(kept, json!({ "enum": [3] }));
}

#[test]
fn checks_that_try_without_end_are_ended() {
    let node = json!({ "anyOf": [
        { "properties": { "c": { "$ref": "#/$defs/n" } }, "required": ["x"] },
        { "properties": { "c": { "$ref": "#/$defs/n" } } } ] });
    let check = check_of(json!({ "$ref": "#/$defs/n", "$defs": { "n": node } }));
    let chain = |levels: usize| nested(levels, json!({}), |inner: Value| json!({ "c": inner }));
    let mut units = 100_000;
    assert_eq!(check.are_valid(&[chain(3), json!({ "c": { "c": 1 } })], &mut units), Some(vec![true, true]));
    assert_eq!(check.are_valid(&[chain(60)], &mut units), None);
    assert_eq!(units, 0);
    // The same check goes on to work.
    assert_eq!(check.check_value(&chain(4)), Ok(()));
}

/// A right answer of 2,845 Chinese characters was once thrown away: the parts of the pattern times its bytes were too many.
#[test]
fn long_texts_are_checked_against_a_pattern_that_goes_through_them_once() {
    let text = "金".repeat(5000);
    for pattern in ["^.{1,5000}$", r"^[\s\S]{1,5000}$"] {
        let check = check_of(json!({ "type": "string", "pattern": pattern }));
        assert_eq!(check.check_value(&json!(text)), Ok(()), "{pattern}");
        assert!(check.check_value(&json!(format!("{text}金"))).is_err(), "{pattern}");
    }
    let check = check_of(json!({ "type": "string", "pattern": "金.{1,4000}不.{1,4000}$" }));
    assert!(check.check_value(&json!(text)).unwrap_err().contains("too much work"));
}

/// What goes through a text once is built whole all the same, and a long end of it is tried at every place.
#[test]
fn linear_patterns_cost_what_is_built_and_what_is_tried() {
    let mut units = 1_000_000;
    let check = AnswerCheck::new(&json!({ "pattern": "^.{1,5000}$" }), &mut units);
    assert!(check.is_ok() && units < 700_000, "{units} are left");
    let check = check_of(json!({ "pattern": format!("^.*{}$", "a".repeat(20_000)) }));
    assert!(check.check_value(&json!("a".repeat(80_000))).unwrap_err().contains("too much work"));
}

#[test]
fn checks_that_are_built_without_end_are_refused() {
    let schema = nested(
        40,
        json!({ "type": "object" }),
        |inner: Value| json!({ "anyOf": [inner], "unevaluatedProperties": false }),
    );
    let error = AnswerCheck::new(&schema, &mut 100_000).expect_err("built anew for each level");
    assert!(error.reason.contains("too much work"), "{error}");
    let ordinary = json!({ "allOf": [{ "properties": { "a": true } }], "unevaluatedProperties": false });
    let check = check_of(ordinary);
    assert_eq!(check.check(r#"{"a": 1}"#), Ok(()));
    assert!(check.check(r#"{"b": 1}"#).is_err());
}

#[test]
fn long_lists_of_properties_find_the_stack_that_they_need() {
    let names: Vec<String> = (0..10_000).map(|index| format!("n{index}")).collect();
    let schema = json!({ "type": "object", "required": names, "additionalProperties": { "type": "null" } });
    let compiled = with_deep_stack(|| {
        let schema = rewritten(schema);
        let builder = GrammarBuilder::new(None, ParserLimits::default());
        JsonCompileOptions::default()
            .json_to_llg_no_validate(builder, schema)
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
    assert!(compiled.is_ok(), "{compiled:?}");
}

#[test]
fn relative_names_of_schemas_are_found_by_their_ends() {
    let schema = json!({ "$ref": "b.json", "$defs": {
        "a": { "$id": "https://example.com/x/ab.json", "type": "null" },
        "b": { "$id": "https://example.com/x/b.json", "type": "string" } } });
    let rewritten = rewrite(&schema, "", &mut Budget::default()).expect("it can be rewritten").schema;
    assert_eq!(rewritten["$defs"]["0"], json!({ "type": "string" }));
}
