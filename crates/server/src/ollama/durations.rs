//! Durations as Ollama's clients write them: `5m`, `1h30m`, `-1`, or a number of seconds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::errors::ApiError;
use crate::openai::request::node::Node;

/// How long a model is to stay in memory after an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum KeepAlive {
    /// Until its memory is needed.
    #[default]
    Stay,
    /// It is unloaded after this time, unless it is used again before; at once for 0.
    For(Duration),
}

impl KeepAlive {
    pub(super) const UNLOAD: KeepAlive = KeepAlive::For(Duration::ZERO);
}

/// Takes `keep_alive` apart.
pub(super) fn read_keep_alive(node: &Node<'_>) -> Result<KeepAlive, ApiError> {
    let seconds = match node.value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => seconds_of(text),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds < 0.0 => Ok(KeepAlive::Stay),
        // What is too long for a duration is longer than any program runs.
        Some(seconds) if seconds.is_finite() => {
            Ok(Duration::try_from_secs_f64(seconds).map_or(KeepAlive::Stay, KeepAlive::For))
        }
        _ => Err(node.error("must be a number of seconds, or a duration such as 5m, 1h30m, 0 or -1")),
    }
}

/// A sum of numbers with units, after a sign perhaps; a number alone is of seconds.
fn seconds_of(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_number =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number(rest) {
        return rest.parse::<f64>().ok().map(|seconds| sign * seconds);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    Some(sign * seconds)
}

pub(super) fn schema() -> Value {
    json!({ "type": ["string", "number"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("0", 0.0),
            ("0s", 0.0),
            ("-1", -1.0),
            ("-1m", -60.0),
            ("1.5h", 5400.0),
            ("250ms", 0.25),
        ] {
            assert_eq!(seconds_of(text), Some(seconds), "{text}");
        }
        for text in ["", "m", "5", "5x", "1h x", "five", "-", "1..5s", "5m3"] {
            let expected = (text == "5").then_some(5.0);
            assert_eq!(seconds_of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_model_stays_as_long_as_it_says() {
        let read = |value: Value| read_keep_alive(&Node::new(&value, "keep_alive"));
        for (value, seconds) in [(json!(0), 0.0), (json!("0s"), 0.0), (json!("5m"), 300.0), (json!(1.5), 1.5)]
        {
            assert_eq!(read(value), Ok(KeepAlive::For(Duration::from_secs_f64(seconds))));
        }
        for stay in [json!(-1), json!("-1m"), json!(1e300)] {
            assert_eq!(read(stay), Ok(KeepAlive::Stay));
        }
        for wrong in [json!(true), json!("soon"), json!([])] {
            assert_eq!(read(wrong).expect_err("no duration").status(), 400);
        }
    }
}
