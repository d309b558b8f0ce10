//! The functions that a model may call, and whether it must.

use serde_json::{Value, json};
use zhenjin_assistant::{Tool, ToolChoice};

use super::limits;
use super::node::{Node, ObjectNode};
use crate::errors::ApiError;

/// Takes `tools` apart.
pub(crate) fn read_tools(node: &Node<'_>) -> Result<Vec<Tool>, ApiError> {
    read_each(node, |item| {
        let function = function_of(&item)?;
        let fields = function.object(&["name", "description", "parameters", "strict"])?;
        if let Some(strict) = fields.get("strict") {
            strict.boolean()?;
        }
        Ok((read_function(&fields)?, function))
    })
}

/// Takes a list of tools apart, whatever a dialect's tools look like: `read` does it for one of them, and gives the place
/// where a repeated name is complained of.
pub(crate) fn read_each<'a>(
    node: &Node<'a>,
    mut read: impl FnMut(Node<'a>) -> Result<(Tool, Node<'a>), ApiError>,
) -> Result<Vec<Tool>, ApiError> {
    let items = node.list()?;
    if items.len() > limits::TOOLS {
        return Err(node.error(format!("must hold at most {} tools, not {}", limits::TOOLS, items.len())));
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(items.len());
    for item in items {
        let (tool, place) = read(item)?;
        if tools.iter().any(|earlier| earlier.name == tool.name) {
            return Err(place.error(format!("repeats the name `{}`", tool.name)));
        }
        tools.push(tool);
    }
    Ok(tools)
}

/// A function's `name`, `description` and `parameters`.
pub(crate) fn read_function(fields: &ObjectNode<'_>) -> Result<Tool, ApiError> {
    Ok(Tool {
        name: read_function_name(fields)?,
        description: fields.get("description").map(|text| text.text().map(str::to_owned)).transpose()?,
        parameters: fields.get("parameters").map(|schema| read_schema(&schema)).transpose()?,
    })
}

/// Refuses fields of tools that have another value than the one that changes nothing.
pub(crate) fn refuse_others(fields: &ObjectNode<'_>, neutral: &[(&str, Value)]) -> Result<(), ApiError> {
    match neutral.iter().find_map(|(name, neutral)| fields.get(name).filter(|given| given.value != neutral)) {
        Some(given) => {
            Err(given.error("is not supported here: leave it out").with_code("unsupported_parameter"))
        }
        None => Ok(()),
    }
}

/// The `function` of `{"type": "function", "function": …}`.
fn function_of<'a>(node: &Node<'a>) -> Result<Node<'a>, ApiError> {
    let kind = node.peek("type")?;
    match kind.text()? {
        // The mark is a hint to caches; here shared beginnings are found by their content.
        "function" => node.object(&["type", "function", "cache_control"])?.required("function"),
        "custom" => Err(kind
            .error("`custom` is not supported here: describe a `function`")
            .with_code("unsupported_value")),
        other => Err(kind.error(format!("must be `function`, not `{other}`"))),
    }
}

/// A name that every template and grammar can carry.
pub(crate) fn read_function_name(fields: &ObjectNode<'_>) -> Result<String, ApiError> {
    let node = fields.required("name")?;
    let name = node.text()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > limits::NAME_CHARACTERS || !name.bytes().all(is_plain) {
        return Err(node.error(format!(
            "must be 1 to {} letters (a-z, A-Z), digits, underscores or dashes",
            limits::NAME_CHARACTERS
        )));
    }
    Ok(name.to_owned())
}

/// A JSON schema: an object of bounded size.
pub(crate) fn read_schema(node: &Node<'_>) -> Result<Value, ApiError> {
    node.entries()?;
    let length = node.value.to_string().len();
    if length > limits::CONSTRAINT_CHARACTERS {
        return Err(node.error(format!(
            "must be at most {} bytes of JSON, not {length}",
            limits::CONSTRAINT_CHARACTERS
        )));
    }
    Ok(node.value.clone())
}

/// Takes `tool_choice` apart. `allowed_tools` leaves only the named ones in `tools`.
pub(crate) fn read_tool_choice(
    node: Option<&Node<'_>>,
    tools: &mut Vec<Tool>,
) -> Result<ToolChoice, ApiError> {
    let Some(node) = node else {
        return Ok(if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto });
    };
    let choice = match node.value {
        Value::String(word) => read_word(node, word)?,
        Value::Object(_) if node.peek("type")?.value == "allowed_tools" => read_allowed_tools(node, tools)?,
        Value::Object(_) => {
            let function = function_of(node)?.object(&["name"])?;
            ToolChoice::Named(known_name(&function, tools)?)
        }
        _ => return Err(node.error("must be none, auto, required or an object")),
    };
    with_tools(choice, node, tools)
}

/// `tool_choice` as a word.
pub(crate) fn read_word(node: &Node<'_>, word: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "none" => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        other => Err(node.error(format!("must be none, auto, required or an object, not `{other}`"))),
    }
}

/// The `mode` of `allowed_tools`.
pub(crate) fn read_mode(node: &Node<'_>) -> Result<ToolChoice, ApiError> {
    match node.text()? {
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        other => Err(node.error(format!("must be auto or required, not `{other}`"))),
    }
}

/// The choice that is left with these tools.
pub(crate) fn with_tools(
    choice: ToolChoice,
    node: &Node<'_>,
    tools: &[Tool],
) -> Result<ToolChoice, ApiError> {
    match choice {
        ToolChoice::Auto if tools.is_empty() => Ok(ToolChoice::None),
        ToolChoice::Required if tools.is_empty() => {
            Err(node.error("asks for a call, but there are no `tools`"))
        }
        choice => Ok(choice),
    }
}

fn read_allowed_tools(node: &Node<'_>, tools: &mut Vec<Tool>) -> Result<ToolChoice, ApiError> {
    let allowed = node.object(&["type", "allowed_tools"])?.required("allowed_tools")?;
    let fields = allowed.object(&["mode", "tools"])?;
    let choice = read_mode(&fields.required("mode")?)?;
    let names = fields
        .required("tools")?
        .list()?
        .map(|item| known_name(&function_of(&item)?.object(&["name"])?, tools))
        .collect::<Result<Vec<String>, ApiError>>()?;
    tools.retain(|tool| names.contains(&tool.name));
    Ok(choice)
}

/// The `name` of one of the tools.
pub(crate) fn known_name(fields: &ObjectNode<'_>, tools: &[Tool]) -> Result<String, ApiError> {
    let node = fields.required("name")?;
    let name = node.text()?;
    match tools.iter().find(|tool| tool.name == name) {
        Some(tool) => Ok(tool.name.clone()),
        None => Err(node.error(format!("names `{name}`, which is not among `tools`"))),
    }
}

fn function_schema(function: Value) -> Value {
    json!({ "type": "object", "required": ["type", "function"], "additionalProperties": false,
        "properties": { "type": { "const": "function" }, "function": function } })
}

pub(crate) fn name_schema() -> Value {
    json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$" })
}

pub(crate) fn tools_schema() -> Value {
    let function = json!({ "type": "object", "required": ["name"], "additionalProperties": false, "properties": {
        "name": name_schema(), "description": { "type": ["string", "null"] },
        "parameters": { "type": ["object", "null"], "description": "A JSON schema." },
        "strict": { "type": ["boolean", "null"] } } });
    json!({ "type": "array", "maxItems": limits::TOOLS, "items": function_schema(function) })
}

pub(crate) fn tool_choice_schema() -> Value {
    let named = || {
        function_schema(json!({ "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": { "name": name_schema() } }))
    };
    let allowed = json!({ "type": "object", "required": ["type", "allowed_tools"], "additionalProperties": false, "properties": {
        "type": { "const": "allowed_tools" },
        "allowed_tools": { "type": "object", "required": ["mode", "tools"], "additionalProperties": false, "properties": {
            "mode": { "enum": ["auto", "required"] }, "tools": { "type": "array", "items": named() } } } } });
    json!({ "anyOf": [{ "enum": ["none", "auto", "required"] }, named(), allowed] })
}
