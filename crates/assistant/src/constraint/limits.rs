//! How large an output format may be. The library has limits of its own on the work of compiling and
//! matching; these come first, because they can say which number was exceeded.

use serde_json::Value;

use crate::error::AssistantError;

/// The most bytes of a schema, an expression or a grammar.
const MAX_BYTES: usize = 256 << 10;
/// The most levels of nesting of a schema.
const MAX_DEPTH: usize = 64;
/// The most values of a schema.
const MAX_VALUES: usize = 20_000;

/// Checks a schema's size and depth.
///
/// # Errors
/// [`AssistantError::Invalid`] for `field`, with the number.
pub(crate) fn check_schema(field: &'static str, schema: &Value) -> Result<(), AssistantError> {
    let mut values = 0usize;
    let mut unvisited = vec![(schema, 1usize)];
    while let Some((value, depth)) = unvisited.pop() {
        values += 1;
        if depth > MAX_DEPTH {
            return Err(AssistantError::invalid(
                field,
                format!("the schema is nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        if values > MAX_VALUES {
            return Err(AssistantError::invalid(
                field,
                format!("the schema has more than {MAX_VALUES} values"),
            ));
        }
        match value {
            Value::Array(items) => unvisited.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(entries) => unvisited.extend(entries.values().map(|entry| (entry, depth + 1))),
            _ => {}
        }
    }
    // Only now, as writing a value out is recursive.
    check_text(field, &schema.to_string())
}

/// Checks the size of an expression or a grammar.
///
/// # Errors
/// [`AssistantError::Invalid`] for `field`, with the number.
pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), AssistantError> {
    if text.len() > MAX_BYTES {
        return Err(AssistantError::invalid(
            field,
            format!("{} bytes are more than the {MAX_BYTES} allowed", text.len()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn large_and_deep_schemas_are_refused() {
        assert!(check_schema("response_format", &json!({"type": "object"})).is_ok());
        let deep = (0..100).fold(json!(true), |inner, _| json!({"items": inner}));
        let wide = Value::from((0..30_000).collect::<Vec<u32>>());
        let long = json!({"pattern": "x".repeat(300_000)});
        for schema in [deep, wide, long] {
            assert!(check_schema("response_format", &schema).is_err());
        }
    }
}
