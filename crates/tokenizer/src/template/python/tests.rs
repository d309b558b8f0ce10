//! Tests that Jinja has and the engine lacks, or has otherwise.

use minijinja::Environment;
use minijinja::value::{Value, ValueKind};

use super::values::{self, Method, Range};
use super::{operators, text};

pub(super) fn add_to(environment: &mut Environment<'static>) {
    // Not in Jinja.
    for name in ["startingwith", "endingwith", "safe"] {
        environment.remove_test(name);
    }
    // Everything that knows its length and gives items by index.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Undefined)
            || values::is_dict(value)
            || value.downcast_object_ref::<Range>().is_some()
    });
    environment.add_test("mapping", values::is_dict);
    // The engine goes through `None` as through an empty list; in Python it is not iterable.
    environment.add_test("iterable", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq
                | ValueKind::String
                | ValueKind::Iterable
                | ValueKind::Undefined
                | ValueKind::Bytes
        ) || (value.kind() == ValueKind::Map && !values::is_namespace(value))
    });
    environment.add_test("callable", |value: &Value| {
        value.downcast_object_ref::<Method>().is_some()
            || value.kind() == ValueKind::Plain
            || value.as_object().is_some_and(|object| object.type_name().ends_with("Macro"))
    });
    for name in ["eq", "equalto", "=="] {
        environment.add_test(name, |left: &Value, right: &Value| operators::equal(left, right));
    }
    for name in ["ne", "!="] {
        environment.add_test(name, |left: &Value, right: &Value| !operators::equal(left, right));
    }
    environment.add_test("lower", |value: &Value| is_cased(value, char::is_lowercase));
    environment.add_test("upper", |value: &Value| is_cased(value, char::is_uppercase));
}

fn is_cased(value: &Value, wanted: fn(char) -> bool) -> bool {
    let value = value.to_string();
    let plain = text::plain(&value);
    let mut cased = plain.chars().filter(|&character| super::characters::is_cased(character)).peekable();
    cased.peek().is_some() && cased.all(wanted)
}
