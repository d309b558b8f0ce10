//! What an answer must look like: JSON, a schema, a regular expression, a grammar.

use serde_json::{Value, json};
use zhenjin_assistant::OutputFormat;

use super::node::Node;
use super::tools::{read_function_name, read_schema};
use crate::errors::ApiError;
use crate::openai::fields::CheckedFields;

/// Takes `response_format`, `regex` and `grammar` apart, of which at most one may ask for anything.
pub(crate) fn read(fields: &CheckedFields<'_>) -> Result<OutputFormat, ApiError> {
    let mut formats = Vec::new();
    if let Some(node) = fields.get("response_format") {
        match read_response_format(&node)? {
            OutputFormat::Text => {}
            format => formats.push(("response_format", format)),
        }
    }
    for (name, wrap) in
        [("regex", OutputFormat::Regex as fn(String) -> OutputFormat), ("grammar", OutputFormat::Lark)]
    {
        if let Some(text) = fields.text(name) {
            if text.is_empty() {
                return Err(ApiError::invalid(name, format!("`{name}` must not be empty")));
            }
            formats.push((name, wrap(text.to_owned())));
        }
    }
    match formats.as_slice() {
        [] => Ok(OutputFormat::Text),
        [(_, format)] => Ok(format.clone()),
        [(first, _), (second, _), ..] => Err(ApiError::invalid(
            *second,
            format!("`{first}` and `{second}` both say what the answer must look like: send one of them"),
        )),
    }
}

fn read_response_format(node: &Node<'_>) -> Result<OutputFormat, ApiError> {
    let kind = node.peek("type")?;
    match kind.text()? {
        "text" => node.object(&["type"]).map(|_| OutputFormat::Text),
        "json_object" => node.object(&["type"]).map(|_| OutputFormat::JsonObject),
        "json_schema" => {
            let wrapped = node.object(&["type", "json_schema"])?.required("json_schema")?;
            let fields = wrapped.object(&["name", "description", "schema", "strict"])?;
            read_function_name(&fields)?;
            if let Some(description) = fields.get("description") {
                description.text()?;
            }
            if let Some(strict) = fields.get("strict") {
                strict.boolean()?;
            }
            match fields.get("schema") {
                Some(schema) => read_schema(&schema).map(OutputFormat::JsonSchema),
                None => Ok(OutputFormat::JsonObject),
            }
        }
        other => Err(kind.error(format!("must be text, json_object or json_schema, not `{other}`"))),
    }
}

pub(crate) fn schema() -> Value {
    let wrapped = json!({ "type": "object", "required": ["name"], "additionalProperties": false, "properties": {
        "name": { "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$" }, "description": { "type": ["string", "null"] },
        "schema": { "type": ["object", "null"], "description": "A JSON schema." },
        "strict": { "type": ["boolean", "null"], "description": "The schema holds either way." } } });
    json!({ "oneOf": [
        { "type": "object", "required": ["type"], "additionalProperties": false,
            "properties": { "type": { "enum": ["text", "json_object"] } } },
        { "type": "object", "required": ["type", "json_schema"], "additionalProperties": false,
            "properties": { "type": { "const": "json_schema" }, "json_schema": wrapped } } ] })
}
