//! The keywords about objects: which properties may and must stand.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::budget::weight;
use super::check::{AnswerCheck, any_object};
use super::rewrite::Rewriter;
use super::strings;
use super::{SchemaError, child};

/// The most patterns of an object's names that tokens are held to: each must be compared with every other.
const MOST_PATTERNS: usize = 32;
/// The most optional properties of which the grammar says that one must stand: it writes all of them out for each.
const MOST_CHOICES: usize = 64;

/// The names of properties that schemas which describe the same object speak of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// In the order in which they stand.
    pub(crate) properties: Vec<String>,
    known: BTreeSet<String>,
    pub(crate) patterns: Vec<String>,
    known_patterns: BTreeSet<String>,
    /// `properties` or `patternProperties` stands somewhere.
    pub(crate) are_described: bool,
    /// The schema says itself which other properties there may be.
    pub(crate) is_explicit: bool,
}

impl Names {
    fn add(&mut self, name: &str) {
        if self.known.insert(name.to_owned()) {
            self.properties.push(name.to_owned());
        }
    }

    fn add_pattern(&mut self, pattern: &str) {
        if self.known_patterns.insert(pattern.to_owned()) {
            self.patterns.push(pattern.to_owned());
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.properties.len() + self.patterns.len()
    }

    /// How many a schema's own keywords name, at most.
    pub(crate) fn count_in(entries: &Map<String, Value>) -> usize {
        let members = |value: &Value| match value {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        };
        let own = ["properties", "patternProperties", "required"].into_iter();
        let own: usize = own.filter_map(|keyword| entries.get(keyword)).map(members).sum();
        let dependent = ["dependentRequired", "dependencies"].into_iter();
        let dependent = dependent.filter_map(|keyword| entries.get(keyword)?.as_object());
        let dependent: usize = dependent.flat_map(Map::values).map(|needed| members(needed) + 1).sum();
        own + dependent
    }

    /// Takes up what a schema's own keywords name.
    pub(crate) fn add_keywords(&mut self, entries: &Map<String, Value>) {
        if let Some(Value::Object(properties)) = entries.get("properties") {
            self.are_described = true;
            properties.keys().for_each(|name| self.add(name));
        }
        if let Some(Value::Object(patterns)) = entries.get("patternProperties") {
            self.are_described = true;
            patterns.keys().for_each(|pattern| self.add_pattern(pattern));
        }
        for name in entries.get("required").and_then(Value::as_array).into_iter().flatten() {
            name.as_str().into_iter().for_each(|name| self.add(name));
        }
        for keyword in ["dependentRequired", "dependencies"] {
            for (name, needed) in entries.get(keyword).and_then(Value::as_object).into_iter().flatten() {
                self.add(name);
                let needed = needed.as_array().into_iter().flatten().filter_map(Value::as_str);
                needed.for_each(|name| self.add(name));
            }
        }
        let says = |keyword: &str| entries.get(keyword).is_some();
        let closes = |keyword: &str| entries.get(keyword) == Some(&Value::Bool(false));
        self.is_explicit = self.is_explicit
            || says("additionalProperties")
            || (says("unevaluatedProperties") && !closes("unevaluatedProperties"));
    }

    pub(crate) fn add_all(&mut self, others: &Names) {
        others.properties.iter().for_each(|name| self.add(name));
        others.patterns.iter().for_each(|pattern| self.add_pattern(pattern));
        self.are_described |= others.are_described;
    }
}

/// An object's keywords on their way into the grammar.
struct Object {
    properties: Map<String, Value>,
    patterns: Map<String, Value>,
    /// `None`: anything.
    additional: Option<Value>,
    required: Vec<String>,
}

impl Object {
    fn is_closed(&self) -> bool {
        self.additional == Some(Value::Bool(false))
    }

    fn optional(&self) -> Vec<String> {
        let required: BTreeSet<&String> = self.required.iter().collect();
        let optional = self
            .properties
            .iter()
            .filter(|(name, schema)| **schema != Value::Bool(false) && !required.contains(name));
        optional.map(|(name, _)| name.clone()).collect()
    }
}

impl Rewriter<'_> {
    /// Rewrites the keywords about objects into `out`. With `close`, there are no other properties than those named there.
    pub(super) fn object_keywords(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        close: Option<&Names>,
        out: &mut Map<String, Value>,
    ) -> Result<(), SchemaError> {
        let mut object = Object {
            properties: Map::new(),
            patterns: Map::new(),
            additional: None,
            required: names_in(entries.get("required")),
        };
        let place = child(pointer, "properties");
        for (name, schema) in entries.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let schema = self.value(schema, &child(&place, name))?;
            object.properties.insert(name.clone(), schema);
        }
        self.patterns(entries, pointer, &mut object)?;
        if let Some(additional) = entries.get("additionalProperties") {
            object.additional = Some(self.value(additional, &child(pointer, "additionalProperties"))?);
        } else if let Some(names) = close {
            self.close(names, pointer, &mut object)?;
        }
        if let Some(names) = entries.get("propertyNames") {
            self.property_names(names, &child(pointer, "propertyNames"), &mut object)?;
        }
        if object.patterns.len() > 1 {
            self.keep_disjoint_patterns(&mut object);
        }
        let limits = self.limit_properties(entries, pointer, &mut object)?;
        out.extend(limits);
        if !object.properties.is_empty() {
            out.insert("properties".to_owned(), Value::Object(object.properties));
        }
        if !object.patterns.is_empty() {
            out.insert("patternProperties".to_owned(), Value::Object(object.patterns));
        }
        if let Some(additional) = object.additional {
            out.insert("additionalProperties".to_owned(), additional);
        }
        if !object.required.is_empty() {
            out.insert("required".to_owned(), json!(object.required));
        }
        Ok(())
    }

    /// No other properties than those named.
    fn close(&mut self, names: &Names, pointer: &str, object: &mut Object) -> Result<(), SchemaError> {
        self.budget.copy_values(names.count(), pointer)?;
        for name in &names.properties {
            object.properties.entry(name.clone()).or_insert(Value::Bool(true));
        }
        for pattern in &names.patterns {
            if object.patterns.len() < MOST_PATTERNS && self.is_plain_pattern(pattern) {
                object.patterns.entry(pattern.clone()).or_insert(Value::Bool(true));
            }
        }
        object.additional = Some(Value::Bool(false));
        Ok(())
    }

    fn patterns(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        object: &mut Object,
    ) -> Result<(), SchemaError> {
        let place = child(pointer, "patternProperties");
        for (pattern, schema) in
            entries.get("patternProperties").and_then(Value::as_object).into_iter().flatten()
        {
            if object.patterns.len() < MOST_PATTERNS && self.is_plain_pattern(pattern) {
                let schema = self.value(schema, &child(&place, pattern))?;
                object.patterns.insert(pattern.clone(), schema);
            } else {
                self.relax();
            }
        }
        Ok(())
    }

    fn is_plain_pattern(&mut self, pattern: &str) -> bool {
        let parts = strings::patterns(pattern);
        let is_plain = !parts.is_relaxed && parts.all.len() <= 1;
        is_plain && self.compiles(json!({ "type": "object", "patternProperties": { pattern: true } })).is_ok()
    }

    /// The compiler knows only patterns that no name matches two of. The later ones of others are left out.
    fn keep_disjoint_patterns(&mut self, object: &mut Object) {
        let mut kept: Map<String, Value> = Map::new();
        for (pattern, schema) in std::mem::take(&mut object.patterns) {
            let is_disjoint = kept.keys().all(|other| {
                let both = json!({ other: true, &pattern: true });
                self.compiles(json!({ "type": "object", "patternProperties": both })).is_ok()
            });
            if is_disjoint {
                kept.insert(pattern, schema);
            } else {
                self.relax();
            }
        }
        object.patterns = kept;
    }

    fn property_names(
        &mut self,
        names: &Value,
        pointer: &str,
        object: &mut Object,
    ) -> Result<(), SchemaError> {
        let names = self.resolved(names, pointer)?;
        self.exclude_properties(names, pointer, object)?;
        if object.is_closed() && object.patterns.is_empty() {
            return Ok(());
        }
        let others = object.additional.clone().unwrap_or(Value::Bool(true));
        let listed = match (names.get("enum"), names.get("const")) {
            (Some(Value::Array(values)), _) => {
                Some(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            (_, Some(Value::String(value))) => Some(vec![value.clone()]),
            _ => None::<Vec<String>>,
        };
        if let Some(listed) = listed {
            self.budget.copy(&others, listed.len(), pointer)?;
            for name in listed {
                object.properties.entry(name).or_insert_with(|| others.clone());
            }
            object.additional = Some(Value::Bool(false));
            return Ok(());
        }
        let mut expressions =
            names.get("pattern").and_then(Value::as_str).map(strings::patterns).unwrap_or_default();
        let lengths = ["minLength", "maxLength"].map(|keyword| names.get(keyword).and_then(Value::as_u64));
        if lengths != [None, None] {
            let most = lengths[1].map(|most| most.to_string()).unwrap_or_default();
            expressions.all.push(format!("^[\\s\\S]{{{},{most}}}$", lengths[0].unwrap_or(0)));
        }
        let is_free = names.as_object().is_some_and(|entries| {
            entries.iter().all(|(keyword, value)| {
                super::conditions::is_annotation(keyword) || (keyword == "type" && value == "string")
            })
        });
        if is_free || *names == Value::Bool(true) {
            return Ok(());
        }
        match expressions.all.as_slice() {
            [expression] if object.patterns.is_empty() && self.is_plain_pattern(expression) => {
                object.patterns.insert(expression.clone(), others);
                object.additional = Some(Value::Bool(false));
            }
            _ => self.relax(),
        }
        Ok(())
    }

    /// Described properties stay away if `names` does not allow their names.
    fn exclude_properties(
        &mut self,
        names: &Value,
        pointer: &str,
        object: &mut Object,
    ) -> Result<(), SchemaError> {
        /// The names that would be compared in the time in which a check is built.
        const BUILDING: usize = 50;
        if object.properties.is_empty() {
            return Ok(());
        }
        self.budget.look(weight(names) + object.properties.len() + BUILDING, pointer)?;
        // By itself it could not be followed, as its references lead to places of the whole schema.
        let has_references = any_object(names, &|entries| {
            ["$ref", "$dynamicRef", "$recursiveRef"].iter().any(|keyword| entries.contains_key(*keyword))
        });
        if has_references {
            self.relax();
            return Ok(());
        }
        let properties: Vec<Value> = object.properties.keys().map(|name| json!(name)).collect();
        let check = AnswerCheck::new(names, &mut self.budget.effort).ok();
        let are_allowed = check.and_then(|check| check.are_valid(&properties, &mut self.budget.effort));
        let Some(are_allowed) = are_allowed else {
            self.relax();
            return Ok(());
        };
        for (schema, is_allowed) in object.properties.values_mut().zip(are_allowed) {
            if !is_allowed {
                *schema = Value::Bool(false);
            }
        }
        Ok(())
    }

    /// `minProperties` and `maxProperties`: the compiler knows them where no described property is optional. Elsewhere the first
    /// optional properties become required, or the last ones are left out: fewer answers than the schema allows.
    fn limit_properties(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        object: &mut Object,
    ) -> Result<Map<String, Value>, SchemaError> {
        let count = |keyword: &str| entries.get(keyword).and_then(Value::as_u64).map(|count| count as usize);
        let (least, most) = (count("minProperties").unwrap_or(0), count("maxProperties"));
        let mut limits = Map::new();
        let is_fixed = object.is_closed() && object.patterns.is_empty();
        if least > object.required.len() {
            let missing = least - object.required.len();
            let optional = object.optional();
            if is_fixed && optional.len() < missing {
                let reason = format!(
                    "{least} properties are asked for, but only {} are described",
                    object.required.len() + optional.len()
                );
                return Err(SchemaError::impossible(child(pointer, "minProperties"), reason));
            }
            if missing == 1 && is_fixed && most.is_none() && optional.len() <= MOST_CHOICES {
                limits.insert("minProperties".to_owned(), json!(least));
            } else {
                object.required.extend(optional.into_iter().take(missing));
                if least > object.required.len() {
                    limits.insert("minProperties".to_owned(), json!(least));
                }
            }
        }
        let Some(most) = most else { return Ok(limits) };
        if object.required.len() > most {
            let reason =
                format!("at most {most} properties are allowed, but {} are required", object.required.len());
            return Err(SchemaError::impossible(child(pointer, "maxProperties"), reason));
        }
        let optional = object.optional();
        if optional.is_empty() {
            if !is_fixed {
                limits.insert("maxProperties".to_owned(), json!(most));
            }
            return Ok(limits);
        }
        for name in optional.iter().skip(most - object.required.len()) {
            object.properties.insert(name.clone(), Value::Bool(false));
        }
        if !is_fixed {
            // Described properties come first; there is no counting on from them.
            object.additional = Some(Value::Bool(false));
            object.patterns.clear();
            limits.shift_remove("minProperties");
        }
        Ok(limits)
    }
}

fn names_in(list: Option<&Value>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| seen.insert(*name)).map(str::to_owned).collect()
}
