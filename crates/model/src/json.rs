//! JSON from files that are not trusted: bounded in size and depth, and no field may occur twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::errors::{FormatError, quoted};

/// Parses a whole document of at most `limit` bytes.
///
/// # Errors
/// [`FormatError`] with line and column for text that is not JSON, is nested deeper than 128 levels or names a field
/// twice.
pub(crate) fn parse(bytes: &[u8], limit: usize) -> Result<Value, FormatError> {
    if bytes.len() > limit {
        let problem = format!("has {} bytes; the most that is accepted is {limit}", bytes.len());
        return Err(FormatError::new("JSON", problem));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    UniqueFields
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| FormatError::new("JSON", error.to_string()))
}

/// Builds a [`Value`] and refuses objects that name a field twice, of which `serde_json` would keep the last.
#[derive(Clone, Copy)]
struct UniqueFields;

impl<'de> DeserializeSeed<'de> for UniqueFields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueFields {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element_seed(self)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("the field {} occurs twice", quoted(&name))));
            }
            fields.insert(name, access.next_value_seed(self)?);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn accepts_what_serde_json_accepts() {
        let text = br#" {"a": [1, -2, 3.5, null, true, "\u00e9"], "b": {"a": {}}} "#;
        assert_eq!(parse(text, 1000).unwrap(), serde_json::from_slice::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn refuses_what_is_ambiguous_or_unbounded() {
        let deep = "[".repeat(100_000);
        for (text, limit, problem) in [
            (r#"{"a": 1, "b": {"c": 1, "c": 2}}"#, 1000, "the field `c` occurs twice"),
            ("{} {}", 1000, "trailing characters"),
            ("{}", 1, "has 2 bytes"),
            (deep.as_str(), 1_000_000, "recursion limit"),
        ] {
            let error = parse(text.as_bytes(), limit).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
