//! The fields of a record: read by name, and those that nobody read are known afterwards.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::errors::{BadKind, Fault};

/// A record's fields. Those that are `null` count as missing.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { map, read: RefCell::default() }
    }

    /// A field, which then counts as read.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.map.get_key_value(name)?;
        self.read.borrow_mut().insert(name);
        Some(value).filter(|value| !value.is_null())
    }

    /// A field that somebody else reads: it does not count as read.
    pub(super) fn peek(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The first of several names that is there, with its value.
    pub(super) fn first(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text", other)),
        }
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(name, "a number", value)),
        }
    }

    /// The fields that nobody read and that are not `null`.
    pub(super) fn unread(&self) -> Vec<(&'a String, &'a Value)> {
        let read = self.read.borrow();
        self.map.iter().filter(|(name, value)| !read.contains(name.as_str()) && !value.is_null()).collect()
    }

    /// What a reward may read, in the record's order: the fields that nobody read, and some that somebody did.
    pub(super) fn for_rewards(&self, read_as_well: &[&str]) -> Map<String, Value> {
        let read = self.read.borrow();
        let is_kept = |name: &str| !read.contains(name) || read_as_well.contains(&name);
        let kept = self.map.iter().filter(|(name, value)| is_kept(name.as_str()) && !value.is_null());
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// A field that holds something else than it should.
pub(super) fn wrong(name: &str, expected: &str, found: &Value) -> Fault {
    Fault::new(BadKind::WrongField, format!("`{name}` must be {expected}, not {}", shape(found)))
}

/// What a value is, shortly.
pub(in crate::data) fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.is_empty() => "an empty text".to_owned(),
        Value::String(text) => format!("the text `{}`", shortened(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).take(12).collect();
            format!(
                "an object with {}",
                if names.is_empty() { "no field".to_owned() } else { names.join(", ") }
            )
        }
    }
}

/// The beginning of a text, in one line.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    let line: String = text.chars().take(MOST).map(|one| if one.is_control() { ' ' } else { one }).collect();
    if text.chars().count() > MOST { line + "…" } else { line }
}

/// The known word that somebody may have meant: one that is written nearly so, or with other capitals.
pub(super) fn meant<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = word.to_lowercase();
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&lower, known);
    known
        .iter()
        .copied()
        .map(|known| (likeness(known), known))
        .filter(|(likeness, known)| *likeness >= 0.6 && *known != word)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
