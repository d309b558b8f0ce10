//! What an answer must look like: JSON, a schema, a regular expression, a grammar.

use serde_json::{Value, json};
use zhenjin_assistant::OutputFormat;

use super::limits;
use super::node::Node;
use super::tools::{read_function_name, read_schema};
use crate::errors::ApiError;
use crate::openai::fields::CheckedFields;

/// What the answer must look like, and the field that says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedFormat {
    pub(crate) format: OutputFormat,
    /// Empty for plain text.
    pub(crate) field: String,
}

/// Takes every field apart that says what the answer must look like, of which at most one may ask for anything.
pub(crate) fn read(fields: &CheckedFields<'_>) -> Result<WantedFormat, ApiError> {
    let mut formats: Vec<WantedFormat> = Vec::new();
    let mut add = |field: &str, format: OutputFormat| {
        if format != OutputFormat::Text {
            formats.push(WantedFormat { format, field: field.to_owned() });
        }
    };
    if let Some(node) = fields.get("response_format") {
        add("response_format", read_response_format(&node)?);
    }
    for name in ["regex", "guided_regex"] {
        if let Some(node) = fields.get(name) {
            add(name, OutputFormat::Regex(full_text(&node)?));
        }
    }
    if let Some(node) = fields.get("grammar") {
        add("grammar", OutputFormat::Lark(full_text(&node)?));
    }
    for name in ["json_schema", "guided_json"] {
        if let Some(node) = fields.get(name) {
            add(name, read_schema_or_its_text(&node)?);
        }
    }
    if let Some(node) = fields.get("guided_choice") {
        add("guided_choice", read_choice(&node)?);
    }
    if let Some(node) = fields.get("structured_outputs") {
        let wanted = node.object(&["json", "regex", "choice", "json_object"])?;
        if let Some(node) = wanted.get("json") {
            add(&node.path, read_schema_or_its_text(&node)?);
        }
        if let Some(node) = wanted.get("regex") {
            add(&node.path, OutputFormat::Regex(full_text(&node)?));
        }
        if let Some(node) = wanted.get("choice") {
            add(&node.path, read_choice(&node)?);
        }
        if let Some(node) = wanted.get("json_object")
            && node.boolean()?
        {
            add(&node.path, OutputFormat::JsonObject);
        }
    }
    match formats.as_slice() {
        [] => Ok(WantedFormat::default()),
        [wanted] => Ok(wanted.clone()),
        [first, second, ..] => Err(ApiError::invalid(
            &second.field,
            format!(
                "`{}` and `{}` both say what the answer must look like: send one of them",
                first.field, second.field
            ),
        )),
    }
}

impl WantedFormat {
    /// The same error with the request's own field for the format.
    pub(crate) fn rename(&self, error: ApiError) -> ApiError {
        let assistants = match self.format {
            OutputFormat::Regex(_) => "regex",
            OutputFormat::Lark(_) => "grammar",
            _ => "response_format",
        };
        if self.field.is_empty() { error } else { error.with_field_renamed(assistants, &self.field) }
    }
}

fn full_text(node: &Node<'_>) -> Result<String, ApiError> {
    let text = node.text()?;
    if text.is_empty() {
        return Err(node.error("must not be empty"));
    }
    if text.chars().count() > limits::CONSTRAINT_CHARACTERS {
        return Err(node.error(format!("must have at most {} characters", limits::CONSTRAINT_CHARACTERS)));
    }
    Ok(text.to_owned())
}

/// A schema as an object, or as its JSON text.
fn read_schema_or_its_text(node: &Node<'_>) -> Result<OutputFormat, ApiError> {
    let Some(text) = node.value.as_str() else { return read_schema(node).map(OutputFormat::JsonSchema) };
    let schema: Value =
        serde_json::from_str(text).map_err(|error| node.error(format!("is not valid JSON: {error}")))?;
    read_schema(&Node::new(&schema, node.path.clone())).map(OutputFormat::JsonSchema)
}

/// One of some texts.
fn read_choice(node: &Node<'_>) -> Result<OutputFormat, ApiError> {
    let choices = node.list()?.map(|choice| full_text(&choice)).collect::<Result<Vec<String>, ApiError>>()?;
    if choices.is_empty() {
        return Err(node.error("must not be an empty list"));
    }
    let quoted: Vec<String> = choices.into_iter().map(|choice| Value::from(choice).to_string()).collect();
    Ok(OutputFormat::Lark(format!("start: {}", quoted.join(" | "))))
}

fn read_response_format(node: &Node<'_>) -> Result<OutputFormat, ApiError> {
    let kind = node.peek("type")?;
    match kind.text()? {
        "text" => node.object(&["type"]).map(|_| OutputFormat::Text),
        "json_object" => match node.object(&["type", "schema"])?.get("schema") {
            Some(schema) => read_schema(&schema).map(OutputFormat::JsonSchema),
            None => Ok(OutputFormat::JsonObject),
        },
        "json_schema" => {
            let fields = node.object(&["type", "json_schema", "schema"])?;
            if let (None, Some(schema)) = (fields.get("json_schema"), fields.get("schema")) {
                return read_schema(&schema).map(OutputFormat::JsonSchema);
            }
            if let Some(schema) = fields.get("schema") {
                return Err(schema.error("stands beside `json_schema`: send one of them"));
            }
            let wrapped = fields.required("json_schema")?;
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
            "properties": { "type": { "const": "text" } } },
        { "type": "object", "required": ["type"], "additionalProperties": false,
            "properties": { "type": { "const": "json_object" }, "schema": { "type": ["object", "null"] } } },
        { "type": "object", "required": ["type", "json_schema"], "additionalProperties": false,
            "properties": { "type": { "const": "json_schema" }, "json_schema": wrapped } } ] })
}

pub(crate) fn choice_schema() -> Value {
    json!({ "type": "array", "minItems": 1, "items": { "type": "string", "minLength": 1 } })
}

pub(crate) fn schema_schema() -> Value {
    json!({ "anyOf": [{ "type": "object" }, { "type": "string" }] })
}

pub(crate) fn structured_outputs_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "json": { "anyOf": [schema_schema(), { "type": "null" }] },
        "regex": { "type": ["string", "null"], "minLength": 1 },
        "choice": { "anyOf": [choice_schema(), { "type": "null" }] },
        "json_object": { "type": ["boolean", "null"] } } })
}
