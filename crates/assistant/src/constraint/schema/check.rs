//! Checks a complete answer against its whole schema.

use jsonschema::{Draft, ValidationError, Validator};
use serde_json::{Value, json};
use std::sync::Arc;

use super::SchemaError;
use super::deep::{with_deep_stack, without_thread};
use super::effort::{self, EFFORT_OF_A_CHECK, Exhausted, TOO_MUCH};
use super::form::check_form;
use super::size::ignores_siblings;

/// What the library knows a schema by that has no absolute name.
const NAME: &str = "json-schema:///zhenjin-answer";
/// Where the library finds the schema, as it is given only a reference: it reads schemas that it is given themselves in a way of its
/// own, see [`super::form`].
const PLACE: &str = "/$ref";

/// A schema, compiled for checking. `format` is an annotation here; the formats that the grammar knows, it enforces.
#[derive(Clone)]
pub(crate) struct AnswerCheck {
    compiled: Arc<Compiled>,
}

/// What the library made of a schema.
struct Compiled {
    /// Until it is taken apart.
    validator: Option<Validator>,
}

impl Drop for Compiled {
    /// Schemas inside schemas are dropped by recursion, as they were compiled.
    fn drop(&mut self) {
        let validator = &mut self.validator;
        if with_deep_stack(|| drop(validator.take())).is_err() {
            std::mem::forget(self.validator.take());
        }
    }
}

impl AnswerCheck {
    /// Compiles a schema without nulls, which takes of `units` what it costs.
    ///
    /// # Errors
    /// [`SchemaError`] at the place that is not as JSON Schema says, or that the library refuses; at no place if it costs too much.
    pub(crate) fn new(schema: &Value, units: &mut u64) -> Result<AnswerCheck, SchemaError> {
        let draft = draft_of(schema);
        check_form(schema, draft)?;
        let build = || effort::meets_whole(|| build(schema, draft));
        let (is_whole, validator) = match with_deep_stack(|| effort::within(units, build)) {
            Ok(Ok(built)) => built,
            Ok(Err(Exhausted)) => return Err(SchemaError::new("", TOO_MUCH)),
            Err(error) => return Err(SchemaError::new("", without_thread(&error))),
        };
        let validator = validator?;
        let is_reference = ignores_siblings(draft) && schema.get("$ref").is_some();
        if !is_whole && schema.is_object() && !is_reference {
            return Err(SchemaError::new("", "a schema inside it has the same name, by `$id`"));
        }
        Ok(AnswerCheck { compiled: Arc::new(Compiled { validator: Some(validator) }) })
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
        let check = |validator: &Validator| validator.validate(value).map_err(|error| described(&error));
        let mut units = EFFORT_OF_A_CHECK;
        self.with_validator(&mut units, check).unwrap_or_else(|reason| {
            Err(format!("the model's answer could not be checked against the schema: {reason}"))
        })
    }

    /// Which of the values satisfy the schema, for at most `units`; `None` if that is not enough.
    pub(super) fn are_valid(&self, values: &[Value], units: &mut u64) -> Option<Vec<bool>> {
        let check = |validator: &Validator| {
            values.iter().map(|value| validator.is_valid(value)).collect::<Vec<bool>>()
        };
        self.with_validator(units, check).ok()
    }

    /// # Errors
    /// Why the work was not done to its end.
    fn with_validator<T: Send>(
        &self,
        units: &mut u64,
        work: impl FnOnce(&Validator) -> T + Send,
    ) -> Result<T, String> {
        let Some(validator) = &self.compiled.validator else { return Err(TOO_MUCH.to_owned()) };
        match with_deep_stack(|| effort::within(units, || work(validator))) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Exhausted)) => Err(TOO_MUCH.to_owned()),
            Err(error) => Err(without_thread(&error)),
        }
    }
}

fn build(schema: &Value, draft: Draft) -> Result<Validator, SchemaError> {
    let resource = draft.create_resource(effort::metered(&without_unknown_draft(schema)));
    // References are relative to the schema's own name, if it is a whole one.
    let name = resource.id().filter(|name| is_absolute(name)).unwrap_or(NAME).to_owned();
    let options = jsonschema::options()
        .with_draft(draft)
        .should_validate_formats(false)
        .with_keyword(effort::KEYWORD, effort::meter)
        .with_resource(NAME, resource);
    options.build(&json!({ "$ref": name })).map_err(|error| {
        let place = error.instance_path.as_str();
        SchemaError::new(place.strip_prefix(PLACE).unwrap_or(place), shortened(&error.to_string()))
    })
}

/// Whether a name begins with a scheme.
fn is_absolute(name: &str) -> bool {
    name.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|other| other.is_ascii_alphanumeric() || "+-.".contains(other))
    })
}

fn described(error: &ValidationError<'_>) -> String {
    let place = error.instance_path.as_str();
    let place = if place.is_empty() { "the whole answer".to_owned() } else { format!("`{place}`") };
    let reason = error.masked().to_string();
    let keyword = error.schema_path.as_str();
    let keyword = keyword.strip_prefix(PLACE).unwrap_or(keyword);
    format!(
        "the model's answer does not satisfy the schema: {place} breaks `{keyword}`: {}",
        shortened(&reason)
    )
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

/// Whether `test` holds for an object anywhere in a value.
pub(super) fn any_object(value: &Value, test: &dyn Fn(&serde_json::Map<String, Value>) -> bool) -> bool {
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

pub(super) fn shortened(reason: &str) -> String {
    const MOST: usize = 400;
    let reason = effort::unmetered(reason);
    match reason.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason,
    }
}
