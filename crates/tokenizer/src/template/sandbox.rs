//! The engine that runs templates: Jinja as Hugging Face configures it, Python's methods, and a budget of work.
//! This file does not know conversations.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;
use serde_json::Map;
use time::OffsetDateTime;

use super::guard::{GENERATION_END, GENERATION_START, MARK};
use super::{generation_tag, python_format, python_json, strftime};
use crate::TemplateError;

/// Work that every rendering may do, in the engine's units (one instruction, or 64 bytes of data).
const BASE_FUEL: u64 = 100_000;
/// More for every byte of the conversation, so that long chats render.
const FUEL_PER_INPUT_BYTE: u64 = 1;
/// Upper limit of the budget: bounds time and memory for any conversation.
const MAX_FUEL: u64 = 2_000_000;
/// Depth of macros and includes; real templates use fewer than ten.
const RECURSION_LIMIT: usize = 100;
/// Prefix of the error that `raise_exception` raises.
const REFUSAL: &str = "raise_exception: ";

/// An environment without templates.
///
/// # Errors
/// [`TemplateError::Syntax`] when the engine refuses its own configuration.
pub(super) fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| TemplateError::Syntax(describe(&error)))?;
    environment.set_syntax(syntax);
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.set_formatter(python_format::write_value);
    environment.add_filter("tojson", python_json::to_json);
    environment.add_filter("string", python_format::to_text);
    environment.add_filter(generation_tag::FILTER, |text: &str| {
        format!("{MARK}{GENERATION_START}{text}{MARK}{GENERATION_END}")
    });
    environment.add_function("raise_exception", raise_exception);
    Ok(environment)
}

/// Runs a template.
///
/// # Errors
/// See [`super::ChatTemplate::render`].
pub(super) fn render(
    environment: &Environment<'static>,
    name: &str,
    context: &Map<String, serde_json::Value>,
    now: Option<OffsetDateTime>,
) -> Result<String, TemplateError> {
    let input_bytes = context.values().map(size_of_json).sum::<u64>();
    let fuel = input_bytes.saturating_mul(FUEL_PER_INPUT_BYTE).saturating_add(BASE_FUEL).min(MAX_FUEL);
    let mut environment = environment.clone();
    environment.set_fuel(Some(fuel));
    environment.add_function("strftime_now", move |format: &str| strftime_now(now, format));
    let context: Value =
        Value::from_pairs(context.iter().map(|(name, value)| (name.as_str(), value_of(value))));
    let outcome = environment.get_template(name).and_then(|template| template.render(context));
    outcome.map_err(|error| template_error(&error, fuel))
}

/// The engine's message with the line in the template, and what caused it.
pub(super) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn template_error(error: &Error, fuel: u64) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(current) = current.downcast_ref::<Error>() {
            if current.kind() == ErrorKind::OutOfFuel {
                return TemplateError::OutOfFuel { fuel };
            }
            if let Some(reason) = current.detail().and_then(|detail| detail.strip_prefix(REFUSAL)) {
                return TemplateError::Refused(super::guard::unguard(reason).text);
            }
        }
        cause = current.source();
    }
    TemplateError::Failed(super::guard::unguard(&describe(error)).text)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSAL}{message}")))
}

fn strftime_now(now: Option<OffsetDateTime>, format: &str) -> Result<String, Error> {
    let Some(now) = now else {
        return Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: the time is not known here"));
    };
    strftime::format(now, format).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}

/// Python's methods on texts, lists and dictionaries. Each call costs fuel for the text that it looks at, which the engine
/// itself charges only for what a call returns.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let length: usize = value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len);
    let longest_argument = arguments.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0);
    state.consume_fuel(1 + (length + longest_argument) as u64 / 32)?;
    pycompat::unknown_method_callback(state, value, method, arguments)
}

fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => {
            if let Some(integer) = number.as_i64() {
                Value::from(integer)
            } else if let Some(integer) = number.as_u64() {
                Value::from(integer)
            } else {
                Value::from(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(value_of).collect::<Vec<_>>().into(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), value_of(value))))
        }
    }
}

fn size_of_json(json: &serde_json::Value) -> u64 {
    match json {
        serde_json::Value::String(text) => text.len() as u64 + 8,
        serde_json::Value::Array(items) => items.iter().map(size_of_json).sum::<u64>() + 8,
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(key, value)| key.len() as u64 + size_of_json(value)).sum::<u64>() + 8
        }
        _ => 8,
    }
}
