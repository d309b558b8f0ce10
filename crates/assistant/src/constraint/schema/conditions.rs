//! `not`, `if`, `oneOf` and the dependent keywords by what the grammar's compiler knows: unions, intersections, and properties
//! that must not stand.

use serde_json::{Map, Value, json};

use super::budget::{Budget, spend, weight};
use super::references::References;
use super::strings::none_of;

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];
/// How deep a schema's negation is followed.
const MAX_DEPTH: usize = 8;
/// The most alternatives of a negation.
const MAX_ALTERNATIVES: usize = 16;

/// A schema that only values satisfy which do not satisfy `schema`: all of them, or some. `None` if there is none that could
/// be written, or if writing it takes more than `budget` allows.
pub(crate) fn negation(schema: &Value, references: &References<'_>, budget: &mut Budget) -> Option<Value> {
    let granted = budget.steps_of_negation();
    let mut negation = Negation { references, left: granted };
    let negated = negation.of(schema, 0);
    budget.end_negation(granted - negation.left);
    negated
}

/// A negation that is being written. References are followed as often as they stand somewhere, so its steps are counted.
struct Negation<'r, 's> {
    references: &'r References<'s>,
    /// The steps that are left.
    left: usize,
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

impl Negation<'_, '_> {
    fn of(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        spend(&mut self.left, 1)?;
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
            spend(&mut self.left, 1)?;
            constrains = constrains || !is_annotation(keyword);
            ways.extend(self.ways_around(keyword, value, depth));
            if ways.len() > MAX_ALTERNATIVES {
                return None;
            }
        }
        match ways.len() {
            0 if !constrains => Some(Value::Bool(false)),
            0 => None,
            1 => ways.pop(),
            _ => Some(json!({ "anyOf": ways })),
        }
    }

    /// Schemas of values that break one keyword. No more of them are collected than tell that there are too many.
    fn ways_around(&mut self, keyword: &str, value: &Value, depth: usize) -> Vec<Value> {
        const ENOUGH: usize = MAX_ALTERNATIVES + 1;
        match keyword {
            "required" => {
                let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.take(ENOUGH).map(without_property).collect()
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let broken = properties.filter_map(|(name, schema)| {
                    let broken = self.of(schema, depth + 1).filter(|schema| *schema != Value::Bool(false))?;
                    Some(json!({ "type": "object", "required": [name], "properties": { name: broken } }))
                });
                broken.take(ENOUGH).collect()
            }
            "allOf" => {
                let members = value.as_array().into_iter().flatten();
                members.filter_map(|member| self.of(member, depth + 1)).take(ENOUGH).collect()
            }
            "anyOf" | "oneOf" => {
                let members = value.as_array().into_iter().flatten();
                let all: Option<Vec<Value>> = members.map(|member| self.of(member, depth + 1)).collect();
                all.map(|all| json!({ "allOf": all })).into_iter().collect()
            }
            "not" => spend(&mut self.left, weight(value)).map(|()| value.clone()).into_iter().collect(),
            "enum" => match value.as_array() {
                Some(values) if spend(&mut self.left, values.len() / 16).is_some() => other_values(values),
                _ => Vec::new(),
            },
            "$ref" => {
                let references = self.references;
                let target = value.as_str().and_then(|reference| references.resolve(reference, "").ok());
                target.and_then(|(_, target)| self.of(target, depth + 1)).into_iter().collect()
            }
            _ => ways_around_limit(keyword, value),
        }
    }
}

/// The same for keywords without schemas or lists.
fn ways_around_limit(keyword: &str, value: &Value) -> Vec<Value> {
    let opposite = |kind: &str, keyword: &str, value: Value| vec![json!({ "type": kind, keyword: value })];
    let count = |step: i64| {
        value.as_u64().and_then(|count| (count as i64).checked_add(step)).filter(|&count| count >= 0)
    };
    match keyword {
        "type" => other_types(value).into_iter().collect(),
        "const" => other_values(std::slice::from_ref(value)),
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

/// Schemas of values that are none of `values`: of other types, and of the same type where that can be written. None at all where
/// texts are too long for that: other types alone would exclude every other text.
fn other_values(values: &[Value]) -> Vec<Value> {
    let mut ways = Vec::new();
    let texts: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let other_texts = none_of(&texts, true);
    if other_texts.is_none() {
        return ways;
    }
    let named: Vec<&str> = values.iter().map(type_of).collect();
    let others: Vec<&str> = TYPES.into_iter().filter(|name| !named.contains(name)).collect();
    if !others.is_empty() {
        ways.push(json!({ "type": others }));
    }
    if !texts.is_empty() {
        ways.push(json!({ "type": "string", "pattern": other_texts }));
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
    budget: &mut Budget,
) -> (Vec<(&'static str, Value)>, bool) {
    let mut parts = Vec::new();
    let mut is_relaxed = false;
    if let Some(forbidden) = entries.get("not") {
        match negation(forbidden, references, budget) {
            Some(schema) => parts.push(("not", schema)),
            None => is_relaxed = true,
        }
    }
    if let Some(condition) = entries.get("if") {
        let always = Value::Bool(true);
        let then = entries.get("then").unwrap_or(&always);
        let otherwise = entries.get("else").unwrap_or(&always);
        if *then != always || *otherwise != always {
            let unless = negation(condition, references, budget);
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
