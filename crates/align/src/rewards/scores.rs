//! Scores as processes and services write them; what is no number is a fault of its own answer alone.

use serde_json::Value;

use super::{RewardFault, shortened};

/// Reads JSON in which bare words may stand: several languages write `NaN` and `Infinity`, which JSON does not have. They become texts, and
/// so do numbers too large to compute with.
pub(super) fn lenient(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut json = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, is_word) = match first {
            '"' => (length_of_text(rest), false),
            other if divides(other) => (other.len_utf8(), false),
            _ => (rest.find(divides).unwrap_or(rest.len()), true),
        };
        let (piece, behind) = rest.split_at(length);
        if is_word && serde_json::from_str::<Value>(piece).is_err() {
            json += &Value::from(piece).to_string();
        } else {
            json += piece;
        }
        rest = behind;
    }
    serde_json::from_str(&json).ok()
}

/// Whether a character stands between words.
fn divides(character: char) -> bool {
    matches!(character, '"' | '{' | '}' | '[' | ']' | ':' | ',') || character.is_whitespace()
}

/// The bytes of the text in quotes that begins here, with its quotes.
fn length_of_text(rest: &str) -> usize {
    let mut is_escaped = false;
    for (place, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The score that a value is.
pub(super) fn score_of(value: &Value, who: &str, expected: &'static str) -> Result<f64, RewardFault> {
    let not_finite = |value: &str| RewardFault::NotFinite { who: who.to_owned(), value: shortened(value) };
    let is_not_finite = |text: &str| text.trim().parse::<f64>().is_ok_and(|number| !number.is_finite());
    match value {
        Value::Number(number) => {
            let finite = number.as_f64().filter(|number| number.is_finite());
            finite.ok_or_else(|| not_finite(&number.to_string()))
        }
        // JavaScript writes NaN so.
        Value::Null => Err(not_finite("null")),
        Value::String(text) if is_not_finite(text) => Err(not_finite(text)),
        other => {
            Err(RewardFault::Garbage { who: who.to_owned(), got: shortened(&other.to_string()), expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn bare_words_become_texts_and_nothing_else_does() {
        for (text, expected) in [
            ("[1, NaN, -Infinity, null]", Some(json!([1, "NaN", "-Infinity", null]))),
            ("[1e999,oops]", Some(json!(["1e999", "oops"]))),
            (r#"{"a": "NaN, \" [", "b": NaN}"#, Some(json!({"a": "NaN, \" [", "b": "NaN"}))),
            (r#"{"a": [0.5, true]}"#, Some(json!({"a": [0.5, true]}))),
            ("NaN", Some(json!("NaN"))),
            ("two words", None),
            ("[NaN", None),
            (r#"{"a": "NaN"#, None),
            ("", None),
        ] {
            assert_eq!(lenient(text), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_a_finite_number_or_a_fault() {
        let score = |value: Value| score_of(&value, "a judge", "a number");
        assert_eq!(score(json!(0.5)), Ok(0.5));
        assert_eq!(score(json!(-3)), Ok(-3.0));
        for value in [json!(null), json!("NaN"), json!("-inf"), json!("1e999")] {
            assert!(matches!(score(value.clone()), Err(RewardFault::NotFinite { .. })), "{value}");
        }
        for value in [json!("0.5"), json!("good"), json!([1]), json!(true)] {
            assert!(matches!(score(value.clone()), Err(RewardFault::Garbage { .. })), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_is_too_odd(text in r#"[a-zN0-9.,:"\\ 数\[\]{}-]{0,30}"#) {
            let _ = lenient(&text);
        }
    }
}
