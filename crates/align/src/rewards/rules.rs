//! Rewards that are a rule about the answer's text: equal, matching, JSON of a schema, of some length.

use jsonschema::Validator;
use regex::Regex;
use serde_json::Value;

use super::{Answer, Reward, RewardFault, shortened};
use crate::data::EncodedTask;

/// 1 where the answer is a field's text, white space at the ends aside, else 0.
pub(super) struct ExactReward {
    pub(super) field: String,
}

impl Reward for ExactReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        let equal = |answer: &Answer<'_>| {
            let expected = self.expected(answer.task)?;
            Ok(f64::from(u8::from(answer.text.trim() == expected.trim())))
        };
        answers.iter().map(equal).collect()
    }

    fn check(&self, task: &EncodedTask) -> Result<(), RewardFault> {
        self.expected(task).map(|_| ())
    }
}

impl ExactReward {
    fn expected(&self, task: &EncodedTask) -> Result<String, RewardFault> {
        match task.fields.get(&self.field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            found => {
                let problem =
                    if found.is_none() { "is missing; `exact` compares with it" } else { "is no text" };
                Err(RewardFault::Field { field: self.field.clone(), problem: problem.to_owned() })
            }
        }
    }
}

/// 1 where the expression matches somewhere in the answer, else 0.
pub(super) struct RegexReward {
    pub(super) expression: Regex,
}

impl Reward for RegexReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        answers.iter().map(|answer| Ok(f64::from(u8::from(self.expression.is_match(answer.text))))).collect()
    }
}

/// 1 where the answer is JSON that a schema describes, ½ where it is other JSON, else 0.
pub(super) struct JsonReward {
    /// Without one, the schema is the example's field `schema`, and where it has none, any JSON has 1.
    pub(super) schema: Option<Validator>,
}

impl Reward for JsonReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        answers.iter().map(|answer| self.of_answer(answer)).collect()
    }
}

impl JsonReward {
    fn of_answer(&self, answer: &Answer<'_>) -> Result<f64, RewardFault> {
        let own;
        let schema = match (&self.schema, answer.task.fields.get("schema")) {
            (Some(schema), _) => Some(schema),
            (None, Some(schema)) => {
                own = schema_of(schema)
                    .map_err(|problem| RewardFault::Field { field: "schema".to_owned(), problem })?;
                Some(&own)
            }
            (None, None) => None,
        };
        let Ok(value) = serde_json::from_str::<Value>(unfenced(answer.text)) else { return Ok(0.0) };
        Ok(if schema.is_none_or(|schema| schema.is_valid(&value)) { 1.0 } else { 0.5 })
    }
}

/// Compiles a schema.
pub(super) fn schema_of(schema: &Value) -> Result<Validator, String> {
    let parsed;
    let schema = match schema {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).map_err(|error| format!("is not JSON: {error}"))?;
            &parsed
        }
        other => other,
    };
    // Without the option, drafts from 2019-09 on take `format` for a note that nothing has to keep.
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| format!("is no JSON schema: {}", shortened(&error.to_string())))
}

/// The text inside a fence of three backquotes, if all of it is one.
pub(super) fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inside.and_then(|inside| inside.split_once('\n')).map_or(text, |(_, body)| body.trim())
}

/// What a length is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Characters,
    Tokens,
}

/// What a length should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtMost,
    AtLeast,
    Target,
}

/// How near the answer's length is to what it should be: 1 where it is kept; beyond, less by the share that is over or missing,
/// down to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LengthReward {
    unit: Unit,
    bound: Bound,
    length: u32,
}

impl LengthReward {
    /// Reads `tokens<=64`, `characters>=10`, `characters=140`.
    pub(super) fn parse(text: &str) -> Result<LengthReward, String> {
        let expected = || {
            format!("`{text}` is no length; expected is such as tokens<=64, characters>=10, characters=140")
        };
        let place = text.find(['<', '>', '=']).ok_or_else(expected)?;
        let unit = match text[..place].trim() {
            "characters" => Unit::Characters,
            "tokens" => Unit::Tokens,
            _ => return Err(expected()),
        };
        let rest = &text[place..];
        let bounds = [("<=", Bound::AtMost), (">=", Bound::AtLeast), ("=", Bound::Target)];
        let found =
            bounds.iter().find_map(|(sign, bound)| rest.strip_prefix(sign).map(|rest| (*bound, rest)));
        let (bound, number) = found.ok_or_else(expected)?;
        let length = number.trim().parse().ok().filter(|length| *length > 0).ok_or_else(expected)?;
        Ok(LengthReward { unit, bound, length })
    }

    fn of_length(self, length: usize) -> f64 {
        let (length, wanted) = (length as f64, f64::from(self.length));
        let off = match self.bound {
            Bound::AtMost => length - wanted,
            Bound::AtLeast => wanted - length,
            Bound::Target => (length - wanted).abs(),
        };
        (1.0 - off.max(0.0) / wanted).max(0.0)
    }
}

impl Reward for LengthReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        let length = |answer: &Answer<'_>| match self.unit {
            Unit::Characters => answer.text.trim().chars().count(),
            Unit::Tokens => answer.tokens.len(),
        };
        answers.iter().map(|answer| Ok(self.of_length(length(answer)))).collect()
    }
}
