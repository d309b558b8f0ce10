//! Strict JSON: read whole, with its place when it is broken, without doubled names, and with a
//! bound on how many values it may hold.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::errors::ApiError;

/// A value takes up to 72 bytes in memory but only two in the text, so the text's own limit bounds memory too loosely.
pub(crate) const MAX_VALUES: usize = 500_000;
/// What a value takes in memory, in bytes, with the room that lists keep for more of them.
const VALUE_BYTES: usize = 100;
/// What an object takes beside its values: its table, and its names.
const OBJECT_BYTES: usize = 200;
/// The memory of values is asked for in portions of so many bytes; less than one is not asked for.
const PORTION: usize = 64 << 10;

/// The number as it is written wherever it stands: as an `f64` whose shortest spelling is that of the `f32`. An `f32` itself has
/// other digits beside other values than within them: serde_json widens the latter first.
pub(crate) fn number(value: f32) -> f64 {
    // What `to_string` writes can be read again, infinities and NaN included.
    value.to_string().parse().unwrap_or(f64::NAN)
}

/// The value that `bytes` spell, or a 400 that says where they do not.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, ApiError> {
    value_within(bytes, MAX_VALUES, &|_| Ok(()))
}

/// The value that `bytes` spell, which holds at most `most` values. `hold` is asked, before there are more of them, whether all values may take
/// so many bytes of memory.
///
/// # Errors
/// 400 that says where the text is no JSON; the refusal of `hold`.
pub(crate) fn value_within(
    bytes: &[u8],
    most: usize,
    hold: &dyn Fn(usize) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    // Some programs put a byte order mark before UTF-8.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let budget = Budget {
        most,
        left: Cell::new(most),
        bytes: Cell::new(0),
        granted: Cell::new(PORTION),
        hold,
        refusal: RefCell::new(None),
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict { budget: &budget }.deserialize(&mut reader);
    let whole = parsed.and_then(|value| reader.end().map(|()| value));
    whole.map_err(|error| budget.refusal.take().unwrap_or_else(|| broken(&error, bytes)))
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
    } else if is_lone_surrogate(error) {
        format!(
            "the request's body is not valid JSON: an escape from \\ud800 to \\udfff is half of a character, and its other half does not \
             stand beside it (a lone surrogate), at line {} column {}; send the whole character, or \\ufffd where it is lost",
            error.line(),
            error.column()
        )
    } else {
        format!("the request's body is not valid JSON: {error}")
    };
    ApiError::bad_request(message).with_code("invalid_json")
}

/// Whether the text breaks at half of a surrogate pair. serde_json says so in two ways, one of which nobody understands.
fn is_lone_surrogate(error: &serde_json::Error) -> bool {
    let words = error.to_string();
    ["unexpected end of hex escape", "lone leading surrogate in hex escape"]
        .iter()
        .any(|beginning| words.starts_with(beginning))
}

/// How much is left of what a text may hold.
struct Budget<'h> {
    most: usize,
    /// Values that may still come.
    left: Cell<usize>,
    /// What the values so far take in memory, and what they may take.
    bytes: Cell<usize>,
    granted: Cell<usize>,
    hold: &'h dyn Fn(usize) -> Result<(), ApiError>,
    /// Why they may take no more.
    refusal: RefCell<Option<ApiError>>,
}

impl Budget<'_> {
    fn count_value<E: Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(E::custom(format_args!("more than {} values", self.most))),
        }
        self.take(VALUE_BYTES)
    }

    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let bytes = self.bytes.get() + bytes;
        self.bytes.set(bytes);
        if bytes <= self.granted.get() {
            return Ok(());
        }
        let wanted = bytes + PORTION;
        if let Err(refusal) = (self.hold)(wanted) {
            let error = E::custom(refusal.message());
            *self.refusal.borrow_mut() = Some(refusal);
            return Err(error);
        }
        self.granted.set(wanted);
        Ok(())
    }
}

/// Reads any value; serde_json itself ends nesting deeper than 128.
#[derive(Clone, Copy)]
struct Strict<'c> {
    budget: &'c Budget<'c>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.budget.count_value::<D::Error>()?;
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
        self.budget.take::<A::Error>(OBJECT_BYTES)?;
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

    /// Regression: half of a character was called an "unexpected end of hex escape".
    #[test]
    fn half_of_a_character_is_called_that() {
        for text in
            [r#"{"a": "\ud800 x"}"#, r#"{"a": "\ud800"}"#, r#"{"a": "\udc00 x"}"#, r#"{"a": "\ud800\u0041"}"#]
        {
            let message = message(text);
            assert!(message.contains("half of a character"), "{text}: {message}");
            assert!(message.contains("line 1 column 1"), "{text}: {message}");
        }
        assert!(!message(r#"{"a": "\ux"}"#).contains("half of a character"));
        assert_eq!(value(br#""\ud83d\ude00""#).expect("a pair"), "\u{1f600}");
    }

    /// Regression: many small values take many times the memory of their text, which nobody asked for.
    #[test]
    fn the_memory_of_many_values_is_asked_for_before_there_are_more() {
        let asked = RefCell::new(Vec::new());
        let hold = |bytes: usize| {
            asked.borrow_mut().push(bytes);
            if bytes > 1 << 20 { Err(ApiError::conflict("no more")) } else { Ok(()) }
        };
        let of = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert!(value_within(of(200).as_bytes(), MAX_VALUES, &hold).is_ok());
        assert!(asked.borrow().is_empty(), "a few take little");
        assert!(value_within(of(1000).as_bytes(), MAX_VALUES, &hold).is_ok());
        assert!(
            asked.borrow().iter().all(|bytes| *bytes < 1000 * (VALUE_BYTES + OBJECT_BYTES) + 2 * PORTION)
        );
        assert!(!asked.borrow().is_empty());
        let refused = value_within(of(10_000).as_bytes(), MAX_VALUES, &hold).expect_err("too many");
        assert_eq!((refused.status().as_u16(), refused.message()), (409, "no more"));
        assert!(asked.borrow().iter().all(|bytes| *bytes <= (1 << 20) + 2 * PORTION), "it ends there");
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
