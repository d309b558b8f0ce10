//! A schema in the subset that the grammar's compiler knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jsonschema::Draft;
use llguidance::api::ParserLimits;
use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{Map, Value, json};

use super::budget::{Budget, weight};
use super::check::draft_of;
use super::conditions::{conditions, is_annotation, negation};
use super::objects::Names;
use super::references::References;
use super::size::ignores_siblings;
use super::{SchemaError, child, product};

/// The most levels of schemas inside schemas that describe the same value.
const MAX_LEVELS: usize = 64;
/// The most levels of schemas inside schemas: those that conditions become lie inside the schema's own.
const MAX_NESTING: usize = 200;
/// The most conditions inside what other conditions became; a recursive schema can have them without end.
pub(super) const MAX_CONDITIONS: usize = 32;
/// What [`Rewriter::compiles`] says where it may not try any more.
pub(super) const NOT_TRIED: &str = "too many numbers, texts and patterns differ";

/// A rewritten schema.
#[derive(Clone, Debug)]
pub(crate) struct Rewritten {
    /// For the compiler.
    pub(crate) schema: Value,
    /// Answers may satisfy it that do not satisfy the original.
    pub(crate) is_relaxed: bool,
    /// The places of the schemas that were rewritten.
    pub(crate) places: BTreeSet<String>,
    /// The first schema inside it that no value satisfies.
    pub(crate) impossible: Option<SchemaError>,
}

/// Rewrites the schema that stands at `place` of `root`, which holds no nulls and is known to be a schema.
///
/// # Errors
/// [`SchemaError`] for what no answer can satisfy, a reference that leads nowhere, and a schema that is too large once its
/// references are followed and its alternatives combined.
pub(crate) fn rewrite(root: &Value, place: &str, budget: &mut Budget) -> Result<Rewritten, SchemaError> {
    let start = root.pointer(place).ok_or_else(|| SchemaError::new(place, "there is nothing here"))?;
    let mut rewriter = Rewriter {
        references: References::new(root),
        root,
        draft: draft_of(root),
        definitions: BTreeMap::new(),
        pending: VecDeque::new(),
        is_relaxed: false,
        budget: std::mem::take(budget),
        level: 0,
        nesting: 0,
        conditions: 0,
        places: BTreeSet::new(),
        impossible: None,
    };
    let schema = rewriter.with_definitions(start, place);
    *budget = std::mem::take(&mut rewriter.budget);
    let schema = schema?;
    product::check_product(&schema)?;
    Ok(Rewritten {
        schema,
        is_relaxed: rewriter.is_relaxed,
        places: rewriter.places,
        impossible: rewriter.impossible,
    })
}

/// A schema that is being rewritten.
pub(super) struct Rewriter<'s> {
    references: References<'s>,
    root: &'s Value,
    draft: Draft,
    /// The name of a definition by its place, and whether objects are closed there.
    definitions: BTreeMap<(String, bool), String>,
    pending: VecDeque<(String, String, bool)>,
    is_relaxed: bool,
    pub(super) budget: Budget,
    level: usize,
    nesting: usize,
    conditions: usize,
    places: BTreeSet<String>,
    impossible: Option<SchemaError>,
}

impl<'s> Rewriter<'s> {
    /// A schema, with those that its references lead to.
    fn with_definitions(&mut self, start: &Value, place: &str) -> Result<Value, SchemaError> {
        let root = self.root;
        let mut schema = self.value(start, place)?;
        let mut definitions = Map::new();
        while let Some((name, place, is_closed)) = self.pending.pop_front() {
            let Some(target) = root.pointer(&place) else { continue };
            let names = Names::default();
            let target = self.schema(target, &place, is_closed.then_some(&names));
            let target = self.or_nothing(target)?;
            definitions.insert(name, target);
        }
        if let Value::Object(entries) = &mut schema
            && !definitions.is_empty()
        {
            entries.insert("$defs".to_owned(), Value::Object(definitions));
        }
        Ok(schema)
    }

    /// Something of the schema is left out, and only the check of the answer knows it.
    pub(super) fn relax(&mut self) {
        self.is_relaxed = true;
    }

    /// A schema that describes a value of its own.
    pub(super) fn value(&mut self, schema: &Value, pointer: &str) -> Result<Value, SchemaError> {
        let level = std::mem::replace(&mut self.level, 0);
        let rewritten = self.schema(schema, pointer, Some(&Names::default()));
        self.level = level;
        self.or_nothing(rewritten)
    }

    /// Where no value satisfies a schema, there is none: an optional property stays away, an alternative is not taken.
    fn or_nothing(&mut self, rewritten: Result<Value, SchemaError>) -> Result<Value, SchemaError> {
        match rewritten {
            Err(error) if error.is_impossible => {
                self.impossible.get_or_insert(error);
                Ok(Value::Bool(false))
            }
            other => other,
        }
    }

    /// A schema; with `inherited`, objects are closed, and the properties named there may stand as well.
    fn schema(
        &mut self,
        schema: &Value,
        pointer: &str,
        inherited: Option<&Names>,
    ) -> Result<Value, SchemaError> {
        self.budget.schema(pointer)?;
        if self.level > MAX_LEVELS {
            return Err(too_deep(pointer));
        }
        if self.nesting > MAX_NESTING {
            return Err(SchemaError::new(pointer, "schemas inside schemas are nested too deep"));
        }
        let Value::Object(entries) = schema else { return Ok(schema.clone()) };
        if self.root.pointer(pointer).is_some_and(|there| std::ptr::eq(there, schema)) {
            self.places.insert(pointer.to_owned());
        }
        if let Some(reference) = self.plain_reference(entries)
            && inherited.is_none_or(|names| !names.are_described)
        {
            return self.reference(reference, &child(pointer, "$ref"), inherited.is_some());
        }
        self.level += 1;
        self.nesting += 1;
        let rewritten = self.keywords(entries, pointer, inherited);
        self.nesting -= 1;
        self.level -= 1;
        rewritten.map(Value::Object)
    }

    /// The `$ref` of a schema that says nothing else. Before draft 2019-09 what stands beside it has no meaning.
    fn plain_reference<'e>(&self, entries: &'e Map<String, Value>) -> Option<&'e str> {
        let reference = entries.get("$ref")?.as_str()?;
        let is_alone = || entries.keys().all(|keyword| keyword == "$ref" || is_annotation(keyword));
        (ignores_siblings(self.draft) || is_alone()).then_some(reference)
    }

    fn reference(&mut self, reference: &str, pointer: &str, is_closed: bool) -> Result<Value, SchemaError> {
        let mut followed = BTreeSet::new();
        let (mut place, mut target) = self.references.resolve(reference, pointer)?;
        while let Some(next) = target.as_object().and_then(|entries| self.plain_reference(entries)) {
            if !followed.insert(place.clone()) {
                return Err(SchemaError::new(pointer, "this reference leads back to itself"));
            }
            (place, target) = self.references.resolve(next, pointer)?;
        }
        let known = self.definitions.get(&(place.clone(), is_closed)).cloned();
        let name = known.unwrap_or_else(|| {
            let name = self.definitions.len().to_string();
            self.definitions.insert((place.clone(), is_closed), name.clone());
            self.pending.push_back((name.clone(), place, is_closed));
            name
        });
        Ok(json!({ "$ref": format!("#/$defs/{name}") }))
    }

    /// The schema that a reference leads to in the end, or the schema itself.
    pub(super) fn resolved<'v>(&self, schema: &'v Value, pointer: &str) -> Result<&'v Value, SchemaError>
    where
        's: 'v,
    {
        let mut schema = schema;
        for _ in 0..MAX_LEVELS {
            let Some(reference) = schema.as_object().and_then(|entries| self.plain_reference(entries)) else {
                return Ok(schema);
            };
            schema = self.references.resolve(reference, pointer)?.1;
        }
        Err(SchemaError::new(pointer, "this reference leads back to itself"))
    }

    fn keywords(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        inherited: Option<&Names>,
    ) -> Result<Map<String, Value>, SchemaError> {
        let mut own = Names::default();
        self.names_of(entries, false, &mut Walk::at(pointer), &mut own)?;
        let groups: Vec<(&str, &Vec<Value>)> = ["anyOf", "oneOf"]
            .into_iter()
            .filter_map(|keyword| Some((keyword, entries.get(keyword)?.as_array()?)))
            .collect();
        let mut all = own.clone();
        if let Some(inherited) = inherited {
            self.budget.look(inherited.count(), pointer)?;
            all.add_all(inherited);
        }
        let group_names: Result<Vec<Names>, SchemaError> =
            groups.iter().map(|(_, members)| self.names_of_all(members, pointer)).collect();
        let group_names = group_names?;
        let closes = inherited.is_some() && !own.is_explicit;
        let closes_members = closes && group_names.iter().any(|names| names.are_described);
        if closes && !closes_members {
            self.budget.look(group_names.iter().map(Names::count).sum(), pointer)?;
            group_names.iter().for_each(|names| all.add_all(names));
        }
        let close = (closes && !closes_members && all.are_described).then_some(&all);

        let mut out = Map::new();
        let more = self.scalar_keywords(entries, pointer, inherited.is_some(), &mut out)?;
        self.array_keywords(entries, pointer, &mut out)?;
        self.object_keywords(entries, pointer, close, &mut out)?;
        let mut parts = self.members(entries, pointer)?;
        parts.extend(more);
        for (index, (keyword, members)) in groups.iter().enumerate() {
            let mut names = Names::default();
            if closes_members {
                self.budget
                    .look(all.count() + group_names.iter().map(Names::count).sum::<usize>(), pointer)?;
                names = all.clone();
                let others = group_names.iter().enumerate().filter(|(other, _)| *other != index);
                others.for_each(|(_, others)| names.add_all(others));
                names.are_described = own.are_described || inherited.is_some_and(|names| names.are_described);
            }
            let inherited = closes_members.then_some(&names);
            let group =
                self.alternatives(members, &child(pointer, keyword), inherited, *keyword == "oneOf")?;
            if out.contains_key("anyOf") {
                parts.push(single("anyOf", group));
            } else {
                out.insert("anyOf".to_owned(), group);
            }
        }
        if !parts.is_empty() {
            out.insert("allOf".to_owned(), Value::Array(parts));
        }
        Ok(out)
    }

    /// What must hold beside a schema's own keywords: `allOf`, a reference, and conditions.
    fn members(&mut self, entries: &Map<String, Value>, pointer: &str) -> Result<Vec<Value>, SchemaError> {
        let mut parts = Vec::new();
        if let Some(reference) = entries.get("$ref").and_then(Value::as_str) {
            parts.push(self.reference(reference, &child(pointer, "$ref"), false)?);
        }
        for (index, member) in
            entries.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let place = child(&child(pointer, "allOf"), &index.to_string());
            parts.push(self.schema(member, &place, None)?);
        }
        let (conditions, is_relaxed) = conditions(entries, &self.references, &mut self.budget);
        self.is_relaxed |= is_relaxed;
        for (keyword, condition) in conditions {
            if self.conditions < MAX_CONDITIONS {
                parts.push(self.condition(&condition, &child(pointer, keyword))?);
            } else {
                self.relax();
            }
        }
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if entries.contains_key(keyword) {
                let reason = format!("`{keyword}` is not supported here; use `$ref`");
                return Err(SchemaError::new(child(pointer, keyword), reason));
            }
        }
        Ok(parts)
    }

    /// A schema that stands nowhere, but has been made of parts of others.
    fn condition(&mut self, condition: &Value, pointer: &str) -> Result<Value, SchemaError> {
        self.budget.copy(condition, 1, pointer)?;
        self.conditions += 1;
        let rewritten = self.schema(condition, pointer, None);
        self.conditions -= 1;
        rewritten
    }

    /// The members of `anyOf` or `oneOf`. A value must satisfy exactly one of the latter: where the others' negations can be
    /// written in a few words, they are.
    fn alternatives(
        &mut self,
        members: &[Value],
        pointer: &str,
        inherited: Option<&Names>,
        is_exclusive: bool,
    ) -> Result<Value, SchemaError> {
        const MOST_EXCLUSIVE: usize = 6;
        let mut group = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            let place = child(pointer, &index.to_string());
            let member = self.schema(member, &place, inherited);
            let mut parts = vec![self.or_nothing(member)?];
            let others = members.iter().enumerate().filter(|(other, _)| *other != index && is_exclusive);
            if members.len() <= MOST_EXCLUSIVE && self.conditions < MAX_CONDITIONS {
                for (_, other) in others {
                    let unless = negation(other, &self.references, &mut self.budget);
                    if let Some(unless) = unless.filter(is_short) {
                        parts.push(self.condition(&unless, &place)?);
                    }
                }
            }
            let is_alone = parts.len() == 1;
            group.push(if is_alone { parts.swap_remove(0) } else { single("allOf", Value::Array(parts)) });
        }
        self.is_relaxed |= is_exclusive && members.len() > 1;
        Ok(Value::Array(group))
    }

    /// The names that a schema's keywords name, and those of the schemas beside them; with `in_groups`, also those of alternatives.
    fn names_of(
        &mut self,
        entries: &Map<String, Value>,
        in_groups: bool,
        walk: &mut Walk<'_>,
        names: &mut Names,
    ) -> Result<(), SchemaError> {
        self.budget.look(1, walk.pointer)?;
        if walk.level > MAX_LEVELS {
            return Err(too_deep(walk.pointer));
        }
        walk.level += 1;
        let is_reference_only = self.plain_reference(entries).is_some();
        if let Some(reference) = entries.get("$ref").and_then(Value::as_str)
            && let Ok((place, Value::Object(target))) = self.references.resolve(reference, "")
            && walk.visited.insert(place)
        {
            self.names_of(target, true, walk, names)?;
        }
        if !is_reference_only {
            self.names_beside(entries, in_groups, walk, names)?;
        }
        walk.level -= 1;
        Ok(())
    }

    fn names_beside(
        &mut self,
        entries: &Map<String, Value>,
        in_groups: bool,
        walk: &mut Walk<'_>,
        names: &mut Names,
    ) -> Result<(), SchemaError> {
        self.budget.look(Names::count_in(entries), walk.pointer)?;
        names.add_keywords(entries);
        let groups: &[&str] = if in_groups { &["allOf", "anyOf", "oneOf"] } else { &["allOf"] };
        let listed = groups.iter().filter_map(|keyword| entries.get(*keyword)?.as_array()).flatten();
        let single = ["if", "then", "else"].iter().filter_map(|keyword| entries.get(*keyword));
        let dependent = ["dependentSchemas", "dependencies"].iter();
        let dependent =
            dependent.filter_map(|keyword| entries.get(*keyword)?.as_object()).flat_map(Map::values);
        for member in listed.chain(single).chain(dependent) {
            if let Value::Object(entries) = member {
                self.names_of(entries, true, walk, names)?;
            }
        }
        Ok(())
    }

    fn names_of_all(&mut self, members: &[Value], pointer: &str) -> Result<Names, SchemaError> {
        let mut names = Names::default();
        for member in members {
            if let Value::Object(entries) = member {
                self.names_of(entries, true, &mut Walk::at(pointer), &mut names)?;
            }
        }
        Ok(names)
    }

    fn array_keywords(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        out: &mut Map<String, Value>,
    ) -> Result<(), SchemaError> {
        /// The most items that tokens are held to contain.
        const MOST_CONTAINED: usize = 64;
        let place = child(pointer, "items");
        let (first, first_place, others, others_place) = match entries.get("items") {
            Some(Value::Array(first)) => {
                (Some(first), place, entries.get("additionalItems"), child(pointer, "additionalItems"))
            }
            others => {
                let first = entries.get("prefixItems").and_then(Value::as_array);
                (first, child(pointer, "prefixItems"), others, place)
            }
        };
        let mut prefix = Vec::new();
        for (index, schema) in first.into_iter().flatten().enumerate() {
            prefix.push(self.value(schema, &child(&first_place, &index.to_string()))?);
        }
        let others =
            match others.or_else(|| entries.get("unevaluatedItems").filter(|value| value.is_boolean())) {
                Some(schema) => Some(self.value(schema, &others_place)?),
                None => None,
            };
        let count = |keyword: &str| entries.get(keyword).and_then(Value::as_u64).map(|count| count as usize);
        let (mut least, most) = (count("minItems"), count("maxItems"));
        if let Some(contained) = entries.get("contains") {
            // The first items are what must be contained: fewer answers than the schema allows.
            let needed = count("minContains").unwrap_or(1);
            let held_to = needed.min(MOST_CONTAINED);
            let place = child(pointer, "contains");
            let contained = self.schema(contained, &place, None)?;
            self.budget.copy(&contained, held_to, &place)?;
            if let Some(others) = &others {
                self.budget.copy(others, held_to.saturating_sub(prefix.len()), &place)?;
            }
            prefix.resize_with(prefix.len().max(held_to), || others.clone().unwrap_or(Value::Bool(true)));
            for item in prefix.iter_mut().take(held_to) {
                let both = vec![std::mem::take(item), contained.clone()];
                *item = single("allOf", Value::Array(both));
            }
            least = Some(least.unwrap_or(0).max(held_to));
            self.is_relaxed |= entries.contains_key("maxContains") || needed > held_to;
        }
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            let reason = format!("at most {most} items are allowed, but {least} are asked for");
            return Err(SchemaError::impossible(child(pointer, "maxItems"), reason));
        }
        if entries.get("uniqueItems") == Some(&Value::Bool(true)) {
            self.is_relaxed |= most.is_none_or(|most| most > 1);
        }
        if let Some(least) = least.filter(|least| *least > 0) {
            out.insert("minItems".to_owned(), json!(least));
        }
        let most = most.or_else(|| distinct_values(entries));
        if let Some(most) = most {
            out.insert("maxItems".to_owned(), json!(most));
        }
        if !prefix.is_empty() {
            out.insert("prefixItems".to_owned(), Value::Array(prefix));
        }
        if let Some(others) = others {
            out.insert("items".to_owned(), others);
        }
        Ok(())
    }

    /// What the compiler says of a schema of its own subset.
    pub(super) fn compiles(&mut self, schema: Value) -> Result<(), String> {
        let text = schema.to_string();
        if let Some(known) = self.budget.tried.get(&text) {
            return known.clone();
        }
        if !self.budget.may_try() {
            return Err(NOT_TRIED.to_owned());
        }
        let tried = std::panic::AssertUnwindSafe(|| {
            let builder = GrammarBuilder::new(None, ParserLimits::default());
            JsonCompileOptions::default().json_to_llg_no_validate(builder, schema).map(|_| ())
        });
        let result = llguidance::panic_utils::catch_unwind(tried).map_err(|error| error.to_string());
        self.budget.tried.insert(text, result.clone());
        result
    }
}

/// What has been visited on the way to all schemas that describe one object.
struct Walk<'p> {
    pointer: &'p str,
    /// References' targets.
    visited: BTreeSet<String>,
    level: usize,
}

impl<'p> Walk<'p> {
    fn at(pointer: &'p str) -> Walk<'p> {
        Walk { pointer, visited: BTreeSet::new(), level: 0 }
    }
}

fn too_deep(pointer: &str) -> SchemaError {
    SchemaError::new(pointer, "schemas inside schemas for the same value are nested too deep")
}

/// A schema of one keyword.
fn single(keyword: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(keyword.to_owned(), value)]))
}

fn is_short(schema: &Value) -> bool {
    const BYTES: usize = 400;
    weight(schema) <= BYTES && schema.to_string().len() <= BYTES
}

/// How many different items an array of different ones can have.
fn distinct_values(entries: &Map<String, Value>) -> Option<usize> {
    if entries.get("uniqueItems") != Some(&Value::Bool(true)) || entries.contains_key("prefixItems") {
        return None;
    }
    let items = entries.get("items")?.as_object()?;
    let values = items.get("enum").and_then(Value::as_array)?;
    Some(values.len())
}
