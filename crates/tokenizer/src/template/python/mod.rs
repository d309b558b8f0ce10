//! Python's values, operators, methods, filters and tests, where the engine's own differ from what Jinja gives under Python.
//! This folder does not know conversations.

mod arguments;
mod characters;
mod filters;
mod json;
mod lists;
mod loops;
mod methods;
mod operators;
mod print;
mod rewrite;
mod strings;
mod tests;
mod text;
mod values;

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

pub(super) use methods::call as call_method;
pub(super) use print::write_value;
pub(super) use rewrite::replace_instructions;

/// Puts filters, tests, functions and operators into an environment.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    filters::add_to(environment);
    tests::add_to(environment);
    operators::add_to(environment);
    loops::add_to(environment);
    values::add_to(environment);
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// How Python calls a value's type in its messages.
fn type_name(value: &Value) -> String {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::Undefined => "an undefined value".to_owned(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => "bool".to_owned(),
        ValueKind::Number if value.is_integer() => "int".to_owned(),
        ValueKind::Number => "float".to_owned(),
        ValueKind::String => "str".to_owned(),
        ValueKind::Seq if value.is_tuple() => "tuple".to_owned(),
        ValueKind::Seq => "list".to_owned(),
        ValueKind::Map => "dict".to_owned(),
        other => other.to_string(),
    }
}
