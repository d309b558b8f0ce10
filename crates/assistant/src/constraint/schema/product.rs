//! How large a rewritten schema becomes in the grammar's compiler. It writes intersections out: alternatives of one part times those
//! of another, and a copy of `items` or `additionalProperties` for each item or property that another part names. Its own limit
//! counts how often it does so, not how much it copies. The same is done here with shapes that are shared instead of copied.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::SchemaError;
use super::budget::weight;
use super::conditions::type_of;

/// The most levels of nesting of a schema and of the schemas that its references lead to, all together: the compiler may go down
/// all of them.
const LEVELS: usize = 5_000;
/// The most schemas once intersections are written out; a few hundred bytes each.
const SCHEMAS: u64 = 500_000;
/// The most schemas that are copied on the way.
const COPIES: u64 = 5_000_000;
/// The most intersections, and parts of them; the compiler gives up far earlier.
const STEPS: u64 = 1_000_000;
/// The most levels of intersections inside intersections; where the compiler gives up.
const DEPTH: usize = 128;

/// Checks a rewritten schema.
///
/// # Errors
/// [`SchemaError`] if the grammar's compiler would need too much memory or stack for it.
pub(super) fn check_product(schema: &Value) -> Result<(), SchemaError> {
    let definitions = schema.get("$defs").and_then(Value::as_object);
    let of_definitions: usize = definitions.into_iter().flat_map(Map::values).map(levels).sum();
    if of_definitions + levels(schema) > LEVELS {
        let reason = format!("schemas and what their references lead to have more than {LEVELS} levels");
        return Err(SchemaError::new("", reason));
    }
    let mut products = Products { definitions, known: BTreeMap::new(), copies: COPIES, steps: STEPS };
    products.of_all(schema).ok_or_else(|| {
        let reason = format!(
            "its alternatives and the parts of `allOf` multiply to more than {SCHEMAS} schemas; write fewer of them beside each other"
        );
        SchemaError::new("", reason)
    })
}

/// The levels of nesting of a value.
fn levels(value: &Value) -> usize {
    let mut most = 0;
    let mut unvisited = vec![(value, 1usize)];
    while let Some((value, level)) = unvisited.pop() {
        most = most.max(level);
        match value {
            Value::Array(items) => unvisited.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(entries) => unvisited.extend(entries.values().map(|entry| (entry, level + 1))),
            _ => {}
        }
    }
    most
}

/// What names a part of an object or array, patterns beside each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'v> {
    Property(&'v str),
    Pattern(&'v str),
    Item(usize),
}

/// A schema as the compiler keeps it.
#[derive(Default)]
struct Shape<'v> {
    /// How many schemas it consists of.
    size: u64,
    /// The size without what follows.
    own: u64,
    /// A bit for each type that its values may have.
    types: u8,
    /// Any value satisfies it.
    is_any: bool,
    /// The name of the definition that it stands for.
    reference: Option<&'v str>,
    alternatives: Vec<Rc<Shape<'v>>>,
    parts: BTreeMap<Part<'v>, Rc<Shape<'v>>>,
    items: Option<Rc<Shape<'v>>>,
    additional: Option<Rc<Shape<'v>>>,
}

/// The bits of all types.
const ANY_TYPE: u8 = 0b11_1111;

impl<'v> Shape<'v> {
    fn any() -> Shape<'v> {
        Shape { is_any: true, ..Shape::unknown(None) }
    }

    /// Of any type, but not for any value.
    fn unknown(reference: Option<&'v str>) -> Shape<'v> {
        Shape { size: 1, own: 1, types: ANY_TYPE, reference, ..Shape::default() }
    }

    /// The schema of a part that may not be named here. A property may match any pattern.
    fn part(&self, part: Part<'v>) -> Option<Rc<Shape<'v>>> {
        if let Some(named) = self.parts.get(&part) {
            return Some(Rc::clone(named));
        }
        match part {
            Part::Property(_) => {
                let patterns = self.parts.range(Part::Pattern("")..Part::Item(0)).map(|(_, part)| part);
                patterns.chain(&self.additional).max_by_key(|part| part.size).cloned()
            }
            Part::Pattern(_) => self.additional.clone(),
            Part::Item(_) => self.items.clone(),
        }
    }
}

/// The shapes of one schema. Everywhere, `None` says that they become too large.
struct Products<'v> {
    definitions: Option<&'v Map<String, Value>>,
    /// The definitions' shapes; none while one is being made.
    known: BTreeMap<&'v str, Option<Rc<Shape<'v>>>>,
    /// What is left.
    copies: u64,
    steps: u64,
}

impl<'v> Products<'v> {
    fn of_all(&mut self, schema: &'v Value) -> Option<()> {
        let mut size = self.of(schema)?.size;
        for name in self.definitions.into_iter().flat_map(Map::keys) {
            size = size.saturating_add(self.definition(name)?.size);
        }
        (size <= SCHEMAS).then_some(())
    }

    fn definition(&mut self, name: &'v str) -> Option<Rc<Shape<'v>>> {
        match self.known.get(name) {
            Some(Some(shape)) => return Some(Rc::clone(shape)),
            Some(None) => return Some(Rc::new(Shape::unknown(None))),
            None => {}
        }
        let definition = self.definitions.and_then(|definitions| definitions.get(name));
        let Some(definition) = definition else { return Some(Rc::new(Shape::unknown(None))) };
        self.known.insert(name, None);
        let shape = self.of(definition)?;
        self.known.insert(name, Some(Rc::clone(&shape)));
        Some(shape)
    }

    fn of(&mut self, schema: &'v Value) -> Option<Rc<Shape<'v>>> {
        let entries = match schema {
            Value::Object(entries) => entries,
            Value::Bool(false) => return self.any_of(Vec::new()),
            _ => return Some(Rc::new(Shape::any())),
        };
        if let Some(Value::String(reference)) = entries.get("$ref") {
            return Some(Rc::new(Shape::unknown(reference.strip_prefix("#/$defs/"))));
        }
        let mut shape = self.of_own_keywords(entries)?;
        if let Some(Value::Array(members)) = entries.get("anyOf") {
            let mut alternatives = Vec::with_capacity(members.len());
            for member in members {
                alternatives.push(self.of(member)?);
            }
            let group = self.any_of(alternatives)?;
            shape = self.meet(&shape, &group, 0)?;
        }
        for member in entries.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            let member = self.of(member)?;
            shape = self.meet(&shape, &member, 0)?;
        }
        Some(shape)
    }

    fn of_own_keywords(&mut self, entries: &'v Map<String, Value>) -> Option<Rc<Shape<'v>>> {
        const OTHERS: [&str; 4] = ["anyOf", "allOf", "$defs", "x-guidance"];
        if entries.keys().all(|keyword| OTHERS.contains(&keyword.as_str())) {
            return Some(Rc::new(Shape::any()));
        }
        if let Some(Value::Array(values)) = entries.get("enum") {
            let values = values.iter().map(|value| {
                let size = weight(value) as u64;
                Rc::new(Shape { size, own: size, types: bit_of(type_of(value)), ..Shape::default() })
            });
            return self.any_of(values.collect());
        }
        let mut shape =
            Shape { own: own_size(entries), types: types_of(entries.get("type")), ..Shape::default() };
        let mut of_patterns = 0u64;
        for (pattern, schema) in
            entries.get("patternProperties").and_then(Value::as_object).into_iter().flatten()
        {
            let part = self.of(schema)?;
            of_patterns = of_patterns.max(part.size);
            shape.parts.insert(Part::Pattern(pattern), part);
        }
        let properties = entries.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let part = self.of(schema)?;
            shape.parts.insert(Part::Property(name), part);
        }
        // A property gets a copy of the schema of the pattern that its name matches.
        let matched = of_patterns.saturating_mul(properties.map_or(0, Map::len) as u64);
        shape.own = shape.own.saturating_add(matched);
        let first = entries.get("prefixItems").and_then(Value::as_array).into_iter().flatten();
        for (index, schema) in first.enumerate() {
            let part = self.of(schema)?;
            shape.parts.insert(Part::Item(index), part);
        }
        if let Some(items) = entries.get("items") {
            shape.items = Some(self.of(items)?);
        }
        if let Some(additional) = entries.get("additionalProperties") {
            shape.additional = Some(self.of(additional)?);
        }
        measured(shape)
    }

    fn any_of(&self, mut alternatives: Vec<Rc<Shape<'v>>>) -> Option<Rc<Shape<'v>>> {
        if alternatives.len() == 1 {
            return alternatives.pop();
        }
        let types = alternatives.iter().fold(0, |types, alternative| types | alternative.types);
        measured(Shape { own: 1, types, alternatives, ..Shape::default() })
    }

    /// What satisfies both.
    fn meet(&mut self, left: &Rc<Shape<'v>>, right: &Rc<Shape<'v>>, depth: usize) -> Option<Rc<Shape<'v>>> {
        self.steps = self.steps.checked_sub(1)?;
        if left.is_any || depth > DEPTH {
            return Some(Rc::clone(right));
        }
        if right.is_any {
            return Some(Rc::clone(left));
        }
        if let Some(name) = left.reference {
            let left = self.definition(name)?;
            return self.meet(&left, right, depth + 1);
        }
        if let Some(name) = right.reference {
            let right = self.definition(name)?;
            return self.meet(left, &right, depth + 1);
        }
        if left.types & right.types == 0 {
            return self.any_of(Vec::new());
        }
        match (left.alternatives.is_empty(), right.alternatives.is_empty()) {
            (false, _) => self.meet_each(&left.alternatives, right, depth),
            (true, false) => self.meet_each(&right.alternatives, left, depth),
            (true, true) => self.meet_parts(left, right, depth),
        }
    }

    fn meet_each(
        &mut self,
        alternatives: &[Rc<Shape<'v>>],
        other: &Rc<Shape<'v>>,
        depth: usize,
    ) -> Option<Rc<Shape<'v>>> {
        let copied = other.size.saturating_mul(alternatives.len() as u64);
        self.copies = self.copies.checked_sub(copied)?;
        let mut met = Vec::with_capacity(alternatives.len());
        for alternative in alternatives {
            let both = self.meet(alternative, other, depth + 1)?;
            if both.types != 0 {
                met.push(both);
            }
        }
        self.any_of(met)
    }

    fn meet_parts(&mut self, left: &Shape<'v>, right: &Shape<'v>, depth: usize) -> Option<Rc<Shape<'v>>> {
        let own = left.own.saturating_add(right.own);
        let mut shape = Shape { own, types: left.types & right.types, ..Shape::default() };
        let mut size = own;
        for (one, other) in [(left, right), (right, left)] {
            for (&name, part) in &one.parts {
                if shape.parts.contains_key(&name) {
                    continue;
                }
                let part = match other.part(name) {
                    Some(other) => self.meet(part, &other, depth + 1)?,
                    None => Rc::clone(part),
                };
                size = size.saturating_add(part.size);
                self.steps = self.steps.checked_sub(1).filter(|_| size <= SCHEMAS)?;
                shape.parts.insert(name, part);
            }
        }
        shape.items = self.meet_optional(left.items.as_ref(), right.items.as_ref(), depth)?;
        shape.additional = self.meet_optional(left.additional.as_ref(), right.additional.as_ref(), depth)?;
        measured(shape)
    }

    fn meet_optional(
        &mut self,
        left: Option<&Rc<Shape<'v>>>,
        right: Option<&Rc<Shape<'v>>>,
        depth: usize,
    ) -> Option<Option<Rc<Shape<'v>>>> {
        match (left, right) {
            (Some(left), Some(right)) => self.meet(left, right, depth + 1).map(Some),
            (one, other) => Some(one.or(other).cloned()),
        }
    }
}

/// A shape with its size, unless that is too large.
fn measured(mut shape: Shape<'_>) -> Option<Rc<Shape<'_>>> {
    let held = shape.alternatives.iter().chain(shape.parts.values());
    let held = held.chain(&shape.items).chain(&shape.additional).map(|part| part.size);
    shape.size = held.fold(shape.own, u64::saturating_add);
    (shape.size <= SCHEMAS).then(|| Rc::new(shape))
}

/// The size of the keywords that hold no schemas.
fn own_size(entries: &Map<String, Value>) -> u64 {
    /// A schema for each type where not one is named.
    const TYPES: usize = 6;
    let types = if entries.get("type").is_some_and(Value::is_string) { 1 } else { TYPES };
    let required = entries.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let pattern = entries.get("pattern").map_or(0, weight);
    (types + required + pattern) as u64
}

fn types_of(types: Option<&Value>) -> u8 {
    match types {
        Some(Value::String(name)) => bit_of(name),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).fold(0, |types, name| types | bit_of(name))
        }
        _ => ANY_TYPE,
    }
}

fn bit_of(name: &str) -> u8 {
    match name {
        "null" => 1,
        "boolean" => 1 << 1,
        "number" | "integer" => 1 << 2,
        "string" => 1 << 3,
        "array" => 1 << 4,
        "object" => 1 << 5,
        _ => ANY_TYPE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(count: usize) -> Value {
        (0..count).map(|index| (format!("p{index}"), json!({ "type": "string" }))).collect()
    }

    #[test]
    fn schemas_that_only_add_up_are_taken() {
        let object = json!({ "type": "object", "properties": named(2000),
            "anyOf": [{ "required": ["p1"] }, { "required": ["p2"] }], "allOf": [{ "required": ["p3"] }] });
        assert_eq!(check_product(&object), Ok(()));
        let listed = json!({ "enum": (0..5000).collect::<Vec<u32>>(), "anyOf": [{ "type": "string" }, { "type": "number" }] });
        assert_eq!(check_product(&listed), Ok(()));
        let tree = json!({ "$ref": "#/$defs/0", "$defs": { "0": { "type": "object",
            "properties": { "left": { "$ref": "#/$defs/0" }, "right": { "$ref": "#/$defs/0" } },
            "allOf": [{ "required": ["left"] }] } } });
        assert_eq!(check_product(&tree), Ok(()));
        assert_eq!(check_product(&json!(true)), Ok(()));
    }

    /// Regression: alternatives and copies multiplied inside the grammar's compiler until the memory was full.
    #[test]
    fn schemas_that_multiply_are_refused() {
        let alternatives = json!({ "anyOf": (0..100).map(|index| json!({ "required": [format!("p{index}")] })).collect::<Vec<_>>() });
        let anything = json!({ "anyOf": vec![json!({}); 1000] });
        let open = json!({ "additionalProperties": { "properties": named(1000) } });
        let refused = [
            json!({ "allOf": [alternatives, alternatives, alternatives] }),
            json!({ "type": "object", "properties": named(1000), "allOf": [anything] }),
            json!({ "allOf": [{ "properties": named(1000) }, open] }),
            json!({ "allOf": [{ "prefixItems": vec![json!(true); 1000] }, { "items": { "properties": named(1000) } }] }),
            json!({ "properties": named(1000), "patternProperties": { "^": { "properties": named(1000) } } }),
            json!({ "allOf": [{ "properties": named(1000) }, { "patternProperties": { "^": { "properties": named(1000) } } }] }),
        ];
        for schema in refused {
            assert!(check_product(&schema).is_err(), "{schema}");
        }
    }

    /// Regression: a chain of references went deeper than any stack.
    #[test]
    fn references_that_lead_too_deep_are_refused() {
        let next = |index: usize| json!({ "properties": { "a": { "$ref": format!("#/$defs/{index}") } } });
        let chain = |count: usize| {
            let definitions: Value = (0..count).map(|index| (index.to_string(), next(index + 1))).collect();
            check_product(&json!({ "$ref": "#/$defs/0", "$defs": definitions }))
        };
        assert_eq!(chain(300), Ok(()));
        assert!(chain(3000).is_err());
    }
}
