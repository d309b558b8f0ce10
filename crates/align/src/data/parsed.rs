//! JSON values of which it is known whether an object in them has a key twice.
//!
//! `serde_json` keeps the last value of such a key: the other one would be gone without a word.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// A value, and the first key that stands twice in one of its objects.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) twice: Option<String>,
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
        let mut twice = None;
        let value = Reader { twice: &mut twice }.deserialize(deserializer)?;
        Ok(Parsed { value, twice })
    }
}

/// Reads a value as `serde_json` does, and remembers a key that stands twice.
struct Reader<'a> {
    twice: &'a mut Option<String>,
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
        let Reader { twice } = self;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Reader { twice: &mut *twice })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let Reader { twice } = self;
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let value = object.next_value_seed(Reader { twice: &mut *twice })?;
            match fields.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    twice.get_or_insert_with(|| entry.key().clone());
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
            assert_eq!(parsed.twice, None);
        }
        for text in ["{", "[1,]", "{\"a\" 1}", "NaN", "1 2", "{\"a\": 01}"] {
            let error = serde_json::from_str::<Parsed>(text).expect_err(text).to_string();
            assert_eq!(error, serde_json::from_str::<Value>(text).expect_err(text).to_string(), "{text}");
        }
        for (text, key) in
            [(r#"{"a": 1, "b": 2, "a": 1}"#, "a"), (r#"{"a": [{"b": {"c": 1, "\u0063": 2}}], "a": 3}"#, "c")]
        {
            let parsed: Parsed = serde_json::from_str(text).expect(text);
            assert_eq!(parsed.twice.as_deref(), Some(key));
        }
        let apart = r#"[{"a": 1}, {"a": 1}]"#;
        assert_eq!(serde_json::from_str::<Parsed>(apart).expect(apart).twice, None);
    }
}
