//! Records as JSON values, of which it is known whether an object in them has a key twice.
//!
//! `serde_json` keeps the last value of such a key: the other one would be gone without a word.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::formats;

/// A record, and what stands twice in one of its objects.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) twice: Twice,
}

/// Keys that stand twice in one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Twice {
    /// The first of them in an object that is read: the record's own, all of whose fields a reward may read, and what a field that formats
    /// read holds.
    pub(super) where_read: Option<String>,
    /// Whether there is one elsewhere, such as in metadata. Its last value counts there.
    pub(super) elsewhere: bool,
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
        let mut twice = Twice::default();
        let value = Reader { twice: &mut twice, place: Place::Record }.deserialize(deserializer)?;
        Ok(Parsed { value, twice })
    }
}

/// Where in a record a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the record.
    Record,
    /// In a field that formats read, or in a list of messages that is a record.
    Read,
    Elsewhere,
}

/// Reads a value as `serde_json` does, and remembers a key that stands twice.
struct Reader<'a> {
    twice: &'a mut Twice,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let Reader { twice, place } = self;
        let place = if place == Place::Record { Place::Read } else { place };
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Reader { twice: &mut *twice, place })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let Reader { twice, place } = self;
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let of_value = match place {
                Place::Record if formats::reads(&key) => Place::Read,
                Place::Record => Place::Elsewhere,
                other => other,
            };
            let value = object.next_value_seed(Reader { twice: &mut *twice, place: of_value })?;
            match fields.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(mut entry) => {
                    if place == Place::Elsewhere {
                        twice.elsewhere = true;
                    } else {
                        twice.where_read.get_or_insert_with(|| entry.key().clone());
                    }
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second parser must read what the first one did.
    #[test]
    fn values_are_those_of_serde_json() {
        for text in [
            r#"{"a": [1, -2, 3.5, 1e30, 18446744073709551615, true, null, "\u00e9\n诗"], "b": {"c": {}, "d": []}}"#,
            "5",
            "\"text\"",
        ] {
            let parsed: Parsed = serde_json::from_str(text).expect(text);
            assert_eq!(parsed.value, serde_json::from_str::<Value>(text).expect(text));
            assert_eq!(parsed.twice, Twice::default());
        }
        for text in ["{", "[1,]", "{\"a\" 1}", "NaN", "1 2", "{\"a\": 01}"] {
            let error = serde_json::from_str::<Parsed>(text).expect_err(text).to_string();
            assert_eq!(error, serde_json::from_str::<Value>(text).expect_err(text).to_string(), "{text}");
        }
    }

    /// Metadata that nobody reads once made bad records of good ones.
    #[test]
    fn keys_that_stand_twice_are_told_apart_by_who_reads_them() {
        for (text, where_read, elsewhere) in [
            (r#"{"a": 1, "b": 2, "a": 1}"#, Some("a"), false),
            (r#"{"messages": [{"x": {"c": 1, "\u0063": 2}}], "messages": 3}"#, Some("c"), false),
            (r#"{"tools": [{"parameters": {"c": {"d": 1, "d": 2}}}]}"#, Some("d"), false),
            (r#"{"chosen": {"content": "a", "content": "b"}}"#, Some("content"), false),
            (r#"[{"role": "user", "role": "assistant"}]"#, Some("role"), false),
            (r#"[{"a": 1}, {"a": 1}]"#, None, false),
            (r#"{"metadata": {"a": 1, "a": 2}}"#, None, true),
            // Fields of such a name are read in the record itself alone.
            (r#"{"metadata": [{"messages": {"a": 1, "a": 2}}]}"#, None, true),
            (r#"{"metadata": {"a": 1, "a": 2}, "label": 1, "label": 0}"#, Some("label"), true),
        ] {
            let parsed: Parsed = serde_json::from_str(text).expect(text);
            let expected = Twice { where_read: where_read.map(str::to_owned), elsewhere };
            assert_eq!(parsed.twice, expected, "{text}");
            // The last value counts, as for other readers.
            assert_eq!(parsed.value, serde_json::from_str::<Value>(text).expect(text));
        }
    }
}
