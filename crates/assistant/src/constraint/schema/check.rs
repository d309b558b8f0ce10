//! Checks a complete answer against its whole schema.

use jsonschema::{Draft, Validator};
use serde_json::Value;
use std::sync::Arc;

use super::SchemaError;

/// A schema, compiled for checking. `format` is an annotation here; the formats that the grammar knows, it enforces.
#[derive(Clone)]
pub(crate) struct AnswerCheck {
    validator: Arc<Validator>,
}

impl AnswerCheck {
    /// Compiles a schema without nulls.
    ///
    /// # Errors
    /// [`SchemaError`] at the place that is not as JSON Schema says, or that the library refuses.
    pub(crate) fn new(schema: &Value) -> Result<AnswerCheck, SchemaError> {
        let options = jsonschema::options().with_draft(draft_of(schema)).should_validate_formats(false);
        let validator = options.build(&without_unknown_draft(schema)).map_err(|error| {
            let reason = error.to_string();
            SchemaError::new(error.instance_path.as_str(), shortened(&reason))
        })?;
        Ok(AnswerCheck { validator: Arc::new(validator) })
    }

    /// Checks the text of a complete answer.
    ///
    /// # Errors
    /// What is wrong, with the places in the answer and in the schema.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("the model's answer is not JSON: {error}"))?;
        self.check_value(&with_one_zero(value))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// As [`AnswerCheck::check`].
    pub(crate) fn check_value(&self, value: &Value) -> Result<(), String> {
        self.validator.validate(value).map_err(|error| {
            let place = error.instance_path.as_str();
            let place = if place.is_empty() { "the whole answer".to_owned() } else { format!("`{place}`") };
            let reason = error.masked().to_string();
            let keyword = error.schema_path.as_str();
            format!(
                "the model's answer does not satisfy the schema: {place} breaks `{keyword}`: {}",
                shortened(&reason)
            )
        })
    }
}

impl std::fmt::Debug for AnswerCheck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AnswerCheck").finish_non_exhaustive()
    }
}

/// The draft that the schema names, or seems to be written in.
pub(super) fn draft_of(schema: &Value) -> Draft {
    let named = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    if named.contains("draft-04") || named.contains("draft-03") {
        Draft::Draft4
    } else if named.contains("draft-06") {
        Draft::Draft6
    } else if named.contains("draft-07") {
        Draft::Draft7
    } else if named.contains("2019-09") {
        Draft::Draft201909
    } else if is_written_in_draft_4(schema) {
        Draft::Draft4
    } else if is_written_before_2020(schema) {
        Draft::Draft7
    } else {
        Draft::Draft202012
    }
}

fn is_written_in_draft_4(schema: &Value) -> bool {
    any_object(schema, &|entries| {
        let is_boolean = |name: &str| entries.get(name).is_some_and(Value::is_boolean);
        is_boolean("exclusiveMinimum") || is_boolean("exclusiveMaximum")
    })
}

fn is_written_before_2020(schema: &Value) -> bool {
    any_object(schema, &|entries| {
        entries.get("items").is_some_and(Value::is_array)
            && entries
                .get("items")
                .and_then(Value::as_array)
                .is_some_and(|items| items.iter().all(|item| item.is_object() || item.is_boolean()))
    })
}

fn any_object(value: &Value, test: &dyn Fn(&serde_json::Map<String, Value>) -> bool) -> bool {
    match value {
        Value::Object(entries) => test(entries) || entries.values().any(|value| any_object(value, test)),
        Value::Array(items) => items.iter().any(|item| any_object(item, test)),
        _ => false,
    }
}

/// A `$schema` that is no draft of JSON Schema says nothing that could be followed; it is an annotation then.
fn without_unknown_draft(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(entries) = &mut schema {
        entries.shift_remove("$schema");
    }
    schema
}

/// `-0` is a whole number like `0`; the JSON library reads it as a float, which draft 4 does not take for one.
fn with_one_zero(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => Value::from(0),
        Value::Array(items) => items.into_iter().map(with_one_zero).collect(),
        Value::Object(entries) => {
            entries.into_iter().map(|(name, value)| (name, with_one_zero(value))).collect()
        }
        other => other,
    }
}

fn shortened(reason: &str) -> String {
    const MOST: usize = 400;
    match reason.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}
