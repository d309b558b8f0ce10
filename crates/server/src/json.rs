//! Strict JSON: read whole, with its place when it is broken, without doubled names, and with a
//! bound on how many values it may hold.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::errors::ApiError;

/// A value takes up to 72 bytes in memory but only two in the text, so the text's own limit bounds memory too loosely.
const MAX_VALUES: usize = 500_000;

/// The number as it is written wherever it stands: as an `f64` whose shortest spelling is that of the `f32`. An `f32` itself has
/// other digits beside other values than within them: serde_json widens the latter first.
pub(crate) fn number(value: f32) -> f64 {
    // What `to_string` writes can be read again, infinities and NaN included.
    value.to_string().parse().unwrap_or(f64::NAN)
}

/// The value that `bytes` spell, or a 400 that says where they do not.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, ApiError> {
    // Some programs put a byte order mark before UTF-8.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let left = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: &left }.deserialize(&mut reader).map_err(|error| broken(&error, bytes))?;
    reader.end().map_err(|error| broken(&error, bytes))?;
    Ok(value)
}

/// The value as a `T`, or a 400 that names the place or the field at fault.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        if path == "." {
            return ApiError::bad_request(format!("the request's body is not as expected: {cause}"));
        }
        ApiError::invalid(path.clone(), format!("`{path}`: {cause}"))
    })
}

fn broken(error: &serde_json::Error, bytes: &[u8]) -> ApiError {
    let message = if bytes.iter().all(u8::is_ascii_whitespace) {
        "the request's body is empty: it must be a JSON object".to_owned()
    } else {
        format!("the request's body is not valid JSON: {error}")
    };
    ApiError::bad_request(message).with_code("invalid_json")
}

/// Reads any value; serde_json itself ends nesting deeper than 128.
#[derive(Clone, Copy)]
struct Strict<'c> {
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom(format_args!("more than {MAX_VALUES} values"))),
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name `{name}` stands twice in one object")));
            }
            let value = entries.next_value_seed(self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        value(text.as_bytes()).expect_err(text).message().to_owned()
    }

    #[test]
    fn broken_text_is_placed() {
        assert!(
            message("{\"a\": 1,\n  \"b\": tru}").contains("line 2 column"),
            "{}",
            message("{\"a\": 1,\n  \"b\": tru}")
        );
        assert!(message("{\"a\": NaN}").contains("line 1 column"));
        assert!(message("{\"a\": 1e999}").contains("out of range"));
        assert!(message("{\"a\": \"\\ud800\"}").contains("line 1 column"));
        assert!(message("{} {}").contains("trailing"));
        assert!(message("").contains("empty"));
    }

    #[test]
    fn doubled_names_depth_and_width_are_bounded() {
        assert!(message(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#).contains("`c` stands twice"));
        assert!(message(&"[".repeat(100_000)).contains("recursion limit"));
        let wide = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(message(&wide).contains("more than 500000 values"));
    }

    #[test]
    fn a_number_has_one_spelling() {
        for value in [-0.1_f32, 0.7, -1.234_567_9e-7, 16_777_216.0, f32::MIN_POSITIVE, -0.0, 3.0e38] {
            let number = number(value);
            assert_eq!(number as f32, value);
            let alone = serde_json::to_string(&number).expect("JSON");
            assert_eq!(alone, serde_json::json!(number).to_string());
            assert!(alone.trim_start_matches('-').trim_end_matches(".0").len() <= 15, "{alone}");
        }
        assert_eq!(serde_json::json!(number(0.7)).to_string(), "0.7");
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        assert_eq!(value(b"\xEF\xBB\xBF{\"a\": 1}").expect("valid"), serde_json::json!({ "a": 1 }));
        assert!(value(b"\xEF\xBB\xBF\xEF\xBB\xBF1").is_err());
        assert!(message("\u{feff}").contains("empty"));
    }

    #[test]
    fn every_kind_of_value_survives() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,0.5,"é\n"],"b":{"c":{}}}"#;
        let expected: Value = serde_json::from_str(text).expect("valid");
        assert_eq!(value(text.as_bytes()).expect("valid"), expected);
    }
}
