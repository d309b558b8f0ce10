//! Where `$ref` points: within the schema only. Nothing is ever fetched.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{SchemaError, child};

/// The named places of a schema.
pub(crate) struct References<'s> {
    root: &'s Value,
    /// Absolute and relative names (`$id`, `$anchor`, and draft 4's `id`), with the place that each names.
    names: BTreeMap<String, String>,
    /// The same without anchors, each name's bytes in reverse, to find names by how they end.
    endings: BTreeMap<Vec<u8>, String>,
}

impl<'s> References<'s> {
    /// Of `root`.
    pub(crate) fn new(root: &'s Value) -> References<'s> {
        let mut names = BTreeMap::new();
        let mut unvisited = vec![(root, String::new())];
        while let Some((value, pointer)) = unvisited.pop() {
            match value {
                Value::Object(entries) => {
                    for (keyword, is_anchor) in [("$id", false), ("id", false), ("$anchor", true)] {
                        if let Some(Value::String(name)) = entries.get(keyword) {
                            let name = if is_anchor { format!("#{name}") } else { name.clone() };
                            names.entry(name).or_insert_with(|| pointer.clone());
                        }
                    }
                    unvisited.extend(entries.iter().map(|(name, value)| (value, child(&pointer, name))));
                }
                Value::Array(items) => {
                    let items = items.iter().enumerate();
                    unvisited.extend(items.map(|(index, item)| (item, child(&pointer, &index.to_string()))));
                }
                _ => {}
            }
        }
        let names_of_schemas = names.iter().filter(|(name, _)| !name.starts_with('#'));
        let endings =
            names_of_schemas.map(|(name, place)| (name.bytes().rev().collect(), place.clone())).collect();
        References { root, names, endings }
    }

    /// The place of a schema whose name ends in `/base`.
    fn named_with_ending(&self, base: &str) -> Option<&String> {
        let ending: Vec<u8> = base.bytes().rev().chain([b'/']).collect();
        let (name, place) = self.endings.range(ending.clone()..).next()?;
        name.starts_with(&ending).then_some(place)
    }

    /// The place that `reference`, which stands at `pointer`, points to, and what is there.
    ///
    /// # Errors
    /// [`SchemaError`] if there is no such place in this schema.
    pub(crate) fn resolve(&self, reference: &str, pointer: &str) -> Result<(String, &'s Value), SchemaError> {
        let missing = |why: &str| SchemaError::new(pointer, format!("{reference:?} {why}"));
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let start = match base {
            "" => String::new(),
            base => self
                .names
                .get(base)
                .or_else(|| self.names.get(&format!("{base}#")))
                .or_else(|| self.named_with_ending(base))
                .cloned()
                .ok_or_else(|| missing("is not in this schema, and schemas are not fetched from elsewhere: put it under `$defs`"))?,
        };
        let place = if fragment.is_empty() {
            start
        } else if let Some(rest) = fragment.strip_prefix('/') {
            format!("{start}/{}", percent_decoded(rest))
        } else {
            let named = self.names.get(&format!("#{fragment}")).or_else(|| self.names.get(reference));
            named.cloned().ok_or_else(|| missing("names no place in this schema"))?
        };
        let found = self.root.pointer(&place).ok_or_else(|| missing("points to nothing in this schema"))?;
        Ok((place, found))
    }
}

impl References<'_> {
    /// Checks how large the schema is once every reference is replaced by what it leads to, but for those inside their own target.
    ///
    /// # Errors
    /// [`SchemaError`] with the limit exceeded.
    pub(crate) fn check_size(&self) -> Result<(), SchemaError> {
        let mut sizes = Sizes { references: self, known: BTreeMap::new() };
        sizes.of(self.root, "", 0).map(|_| ())
    }
}

/// The most values of a schema, references followed.
const MAX_VALUES: usize = 100_000;
/// The most levels of nesting of a schema, references followed.
const MAX_LEVELS: usize = 200;

/// The sizes of references' targets by their places; `None` while one is being measured.
struct Sizes<'r, 's> {
    references: &'r References<'s>,
    known: BTreeMap<String, Option<usize>>,
}

impl Sizes<'_, '_> {
    fn of(&mut self, value: &Value, pointer: &str, level: usize) -> Result<usize, SchemaError> {
        if level > MAX_LEVELS {
            let reason =
                format!("it is nested more than {MAX_LEVELS} levels deep once references are followed");
            return Err(SchemaError::new(pointer, reason));
        }
        let mut size = 1usize;
        match value {
            Value::Array(items) => {
                for item in items {
                    size = size.saturating_add(self.of(item, pointer, level + 1)?);
                }
            }
            Value::Object(entries) => {
                for entry in entries.values() {
                    size = size.saturating_add(self.of(entry, pointer, level + 1)?);
                }
                let target = entries.get("$ref").and_then(Value::as_str);
                if let Some(Ok((place, target))) =
                    target.map(|target| self.references.resolve(target, pointer))
                {
                    size = size.saturating_add(self.of_target(place, target, level)?);
                }
            }
            _ => {}
        }
        // Right here, as it could take long to come to the end.
        if size > MAX_VALUES {
            let reason = format!("it has more than {MAX_VALUES} values once its references are followed");
            return Err(SchemaError::new("", reason));
        }
        Ok(size)
    }

    fn of_target(&mut self, place: String, target: &Value, level: usize) -> Result<usize, SchemaError> {
        match self.known.get(&place) {
            Some(size) => Ok(size.unwrap_or(1)),
            None => {
                self.known.insert(place.clone(), None);
                let size = self.of(target, &place, level + 1)?;
                self.known.insert(place, Some(size));
                Ok(size)
            }
        }
    }
}

/// A fragment's text: `%25` stands for `%`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
