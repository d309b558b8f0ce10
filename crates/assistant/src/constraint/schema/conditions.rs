//! `not`, `if`, `oneOf` and the dependent keywords by what the grammar's compiler knows: unions, intersections, and properties
//! that must not stand.

use serde_json::{Map, Value, json};

use super::references::References;
use super::strings::none_of;

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];
/// How deep a schema's negation is followed.
const MAX_DEPTH: usize = 8;
/// The most alternatives of a negation.
const MAX_ALTERNATIVES: usize = 16;

/// A schema that only values satisfy which do not satisfy `schema`: all of them, or some. `None` if there is none that could
/// be written.
pub(crate) fn negation(schema: &Value, references: &References<'_>) -> Option<Value> {
    negate(schema, references, 0)
}

fn negate(schema: &Value, references: &References<'_>, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    let entries = match schema {
        Value::Bool(always) => return Some(Value::Bool(!always)),
        Value::Object(entries) => entries,
        _ => return None,
    };
    let mut ways = Vec::new();
    let mut constrains = false;
    for (keyword, value) in entries {
        constrains = constrains || !is_annotation(keyword);
        ways.extend(ways_around(keyword, value, references, depth));
    }
    match ways.len() {
        0 if !constrains => Some(Value::Bool(false)),
        1 => ways.pop(),
        2..=MAX_ALTERNATIVES => Some(json!({ "anyOf": ways })),
        _ => None,
    }
}

/// Whether a keyword says nothing about what is valid.
pub(crate) fn is_annotation(keyword: &str) -> bool {
    const CONSTRAINTS: [&str; 43] = [
        "type",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "items",
        "prefixItems",
        "additionalItems",
        "unevaluatedItems",
        "contains",
        "minContains",
        "maxContains",
        "minItems",
        "maxItems",
        "uniqueItems",
        "properties",
        "patternProperties",
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "required",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
    ]; // rustfmt would give each a line of its own
    !CONSTRAINTS.contains(&keyword)
}

/// Schemas of values that break one keyword.
fn ways_around(keyword: &str, value: &Value, references: &References<'_>, depth: usize) -> Vec<Value> {
    let opposite = |kind: &str, keyword: &str, value: Value| vec![json!({ "type": kind, keyword: value })];
    let count = |step: i64| {
        value.as_u64().and_then(|count| (count as i64).checked_add(step)).filter(|&count| count >= 0)
    };
    match keyword {
        "type" => other_types(value).into_iter().collect(),
        "const" => other_values(std::slice::from_ref(value)),
        "enum" => value.as_array().map_or_else(Vec::new, |values| other_values(values)),
        "minimum" if value.is_number() => opposite("number", "exclusiveMaximum", value.clone()),
        "maximum" if value.is_number() => opposite("number", "exclusiveMinimum", value.clone()),
        "exclusiveMinimum" if value.is_number() => opposite("number", "maximum", value.clone()),
        "exclusiveMaximum" if value.is_number() => opposite("number", "minimum", value.clone()),
        "minLength" => count(-1).map_or_else(Vec::new, |most| opposite("string", "maxLength", json!(most))),
        "maxLength" => count(1).map_or_else(Vec::new, |least| opposite("string", "minLength", json!(least))),
        "minItems" => count(-1).map_or_else(Vec::new, |most| opposite("array", "maxItems", json!(most))),
        "maxItems" => count(1).map_or_else(Vec::new, |least| opposite("array", "minItems", json!(least))),
        "minProperties" => {
            count(-1).map_or_else(Vec::new, |most| opposite("object", "maxProperties", json!(most)))
        }
        "maxProperties" => {
            count(1).map_or_else(Vec::new, |least| opposite("object", "minProperties", json!(least)))
        }
        "required" => {
            let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            names.map(without_property).collect()
        }
        "properties" => {
            let properties = value.as_object().into_iter().flatten();
            let broken = properties.filter_map(|(name, schema)| {
                let broken =
                    negate(schema, references, depth + 1).filter(|schema| *schema != Value::Bool(false))?;
                Some(json!({ "type": "object", "required": [name], "properties": { name: broken } }))
            });
            broken.collect()
        }
        "allOf" => {
            let members = value.as_array().into_iter().flatten();
            members.filter_map(|member| negate(member, references, depth + 1)).collect()
        }
        "anyOf" | "oneOf" => {
            let members = value.as_array().into_iter().flatten();
            let all: Option<Vec<Value>> =
                members.map(|member| negate(member, references, depth + 1)).collect();
            all.map(|all| json!({ "allOf": all })).into_iter().collect()
        }
        "not" => vec![value.clone()],
        "$ref" => {
            let target = value.as_str().and_then(|reference| references.resolve(reference, "").ok());
            target.and_then(|(_, target)| negate(target, references, depth + 1)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// An object without the property.
pub(crate) fn without_property(name: &str) -> Value {
    json!({ "type": "object", "properties": { name: false } })
}

fn other_types(types: &Value) -> Option<Value> {
    let named: Vec<&str> = match types {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let is_named = |name: &&str| named.contains(name) || (*name == "number" && named.contains(&"integer"));
    let others: Vec<&str> = TYPES.into_iter().filter(|name| !is_named(name)).collect();
    (!others.is_empty()).then(|| json!({ "type": others }))
}

/// Schemas of values that are none of `values`: of other types, and of the same type where that can be written.
fn other_values(values: &[Value]) -> Vec<Value> {
    let mut ways = Vec::new();
    let named: Vec<&str> = values.iter().map(type_of).collect();
    let others: Vec<&str> = TYPES.into_iter().filter(|name| !named.contains(name)).collect();
    if !others.is_empty() {
        ways.push(json!({ "type": others }));
    }
    let texts: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if !texts.is_empty() && texts.iter().map(String::len).sum::<usize>() <= 2000 {
        ways.push(json!({ "type": "string", "pattern": none_of(&texts, true) }));
    }
    if named.contains(&"boolean") {
        let unnamed = [true, false].into_iter().filter(|value| !values.contains(&Value::Bool(*value)));
        ways.extend(unnamed.map(|value| json!({ "const": value })));
    }
    let numbers = || values.iter().filter_map(Value::as_f64);
    if named.contains(&"number") {
        let (least, most) = (numbers().fold(f64::MAX, f64::min), numbers().fold(f64::MIN, f64::max));
        ways.push(json!({ "type": "number", "exclusiveMaximum": least }));
        ways.push(json!({ "type": "number", "exclusiveMinimum": most }));
    }
    ways
}

pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What `not`, `if`, `dependentRequired`, `dependentSchemas` and `dependencies` ask for, each as a schema beside the others, and
/// whether something of it is left out.
pub(crate) fn conditions(
    entries: &Map<String, Value>,
    references: &References<'_>,
) -> (Vec<(&'static str, Value)>, bool) {
    let mut parts = Vec::new();
    let mut is_relaxed = false;
    if let Some(forbidden) = entries.get("not") {
        match negation(forbidden, references) {
            Some(schema) => parts.push(("not", schema)),
            None => is_relaxed = true,
        }
    }
    if let Some(condition) = entries.get("if") {
        let always = Value::Bool(true);
        let then = entries.get("then").unwrap_or(&always);
        let otherwise = entries.get("else").unwrap_or(&always);
        if *then != always || *otherwise != always {
            let unless = negation(condition, references);
            is_relaxed = is_relaxed || unless.is_none();
            let unless = unless.unwrap_or(Value::Bool(true));
            let mut ways = vec![json!({ "allOf": [condition, then] })];
            if unless != Value::Bool(false) {
                ways.push(json!({ "allOf": [unless, otherwise] }));
            }
            parts.push(("if", json!({ "anyOf": ways })));
        }
    }
    for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
        for (name, needed) in entries.get(keyword).and_then(Value::as_object).into_iter().flatten() {
            let with = match needed {
                Value::Array(names) if names.is_empty() => continue,
                Value::Array(names) => {
                    let mut all = vec![json!(name)];
                    all.extend(names.iter().filter(|needed| needed.as_str() != Some(name)).cloned());
                    json!({ "required": all })
                }
                schema => json!({ "required": [name], "allOf": [schema] }),
            };
            let without = json!({ "properties": { name: false } });
            parts.push((keyword, json!({ "anyOf": [without, with] })));
        }
    }
    (parts, is_relaxed)
}
