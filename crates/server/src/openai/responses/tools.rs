//! The functions that a model may call, and whether it must, as this route writes them: without the object around a function.

use serde_json::{Value, json};
use zhenjin_assistant::{Tool, ToolChoice};

use crate::errors::ApiError;
use crate::openai::request::limits;
use crate::openai::request::node::{Node, ObjectNode};
use crate::openai::request::tools::{read_function_name, read_schema};

/// Takes `tools` apart: what the model is told, and what the answer repeats.
pub(super) fn read_tools(node: &Node<'_>) -> Result<(Vec<Tool>, Vec<Value>), ApiError> {
    let items = node.list()?;
    if items.len() > limits::TOOLS {
        return Err(node.error(format!("must hold at most {} tools, not {}", limits::TOOLS, items.len())));
    }
    let (mut tools, mut echoes): (Vec<Tool>, Vec<Value>) = (Vec::new(), Vec::new());
    for item in items {
        let kind = item.peek("type")?;
        if kind.value != "function" {
            let message = format!(
                "is {}, which is not supported here: this server runs no tools of its own; describe a `function`",
                kind.value
            );
            return Err(kind.error(message).with_code("unsupported_value"));
        }
        let fields = item.object(&[
            "type",
            "name",
            "description",
            "parameters",
            "strict",
            "defer_loading",
            "allowed_callers",
            "output_schema",
        ])?;
        for (name, neutral) in [("defer_loading", json!(false)), ("allowed_callers", json!(["direct"]))] {
            if let Some(given) = fields.get(name).filter(|given| *given.value != neutral) {
                return Err(given
                    .error("is not supported here: leave it out")
                    .with_code("unsupported_parameter"));
            }
        }
        let strict = fields.get("strict").map(|node| node.boolean()).transpose()?;
        let tool = Tool {
            name: read_function_name(&fields)?,
            description: fields.get("description").map(|text| text.text().map(str::to_owned)).transpose()?,
            parameters: fields.get("parameters").map(|schema| read_schema(&schema)).transpose()?,
        };
        if tools.iter().any(|earlier| earlier.name == tool.name) {
            return Err(item.error(format!("repeats the name `{}`", tool.name)));
        }
        echoes.push(json!({ "type": "function", "name": tool.name, "description": tool.description,
            "parameters": tool.parameters, "strict": strict }));
        tools.push(tool);
    }
    Ok((tools, echoes))
}

/// Takes `tool_choice` apart. `allowed_tools` leaves only the named ones in `tools`.
pub(super) fn read_tool_choice(
    node: Option<&Node<'_>>,
    tools: &mut Vec<Tool>,
) -> Result<ToolChoice, ApiError> {
    let Some(node) = node else {
        return Ok(if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto });
    };
    let choice = match node.value {
        Value::String(word) => read_mode(node, word, true)?,
        Value::Object(_) => {
            let kind = node.peek("type")?;
            match kind.text()? {
                "function" => ToolChoice::Named(known_name(&node.object(&["type", "name"])?, tools)?),
                "allowed_tools" => {
                    let fields = node.object(&["type", "mode", "tools"])?;
                    let mode = fields.required("mode")?;
                    let choice = read_mode(&mode, mode.text()?, false)?;
                    let names = fields.required("tools")?.list()?;
                    let names = names.map(|item| known_name(&item.object(&["type", "name"])?, tools));
                    let names = names.collect::<Result<Vec<String>, ApiError>>()?;
                    tools.retain(|tool| names.contains(&tool.name));
                    choice
                }
                other => {
                    return Err(kind
                        .error(format!(
                            "`{other}` is not supported here: name a `function`, or `allowed_tools`"
                        ))
                        .with_code("unsupported_value"));
                }
            }
        }
        _ => return Err(node.error("must be none, auto, required or an object")),
    };
    match choice {
        ToolChoice::Auto if tools.is_empty() => Ok(ToolChoice::None),
        ToolChoice::Required if tools.is_empty() => {
            Err(node.error("asks for a call, but there are no `tools`"))
        }
        choice => Ok(choice),
    }
}

fn read_mode(node: &Node<'_>, word: &str, may_be_none: bool) -> Result<ToolChoice, ApiError> {
    match word {
        "none" if may_be_none => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        other => Err(node.error(format!("must be none, auto, required or an object, not `{other}`"))),
    }
}

fn known_name(fields: &ObjectNode<'_>, tools: &[Tool]) -> Result<String, ApiError> {
    let node = fields.required("name")?;
    let name = node.text()?;
    match tools.iter().find(|tool| tool.name == name) {
        Some(tool) => Ok(tool.name.clone()),
        None => Err(node.error(format!("names `{name}`, which is not among `tools`"))),
    }
}

fn name_schema() -> Value {
    json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$" })
}

pub(super) fn tools_schema() -> Value {
    json!({ "type": "array", "maxItems": limits::TOOLS, "items": {
        "type": "object", "required": ["type", "name"], "additionalProperties": false, "properties": {
            "type": { "const": "function" }, "name": name_schema(), "description": { "type": ["string", "null"] },
            "parameters": { "type": ["object", "null"], "description": "A JSON schema." },
            "strict": { "type": ["boolean", "null"] }, "defer_loading": { "enum": [false, null] },
            "allowed_callers": { "enum": [["direct"], null] }, "output_schema": {} } } })
}

pub(super) fn tool_choice_schema() -> Value {
    let named = json!({ "type": "object", "required": ["type", "name"], "additionalProperties": false,
        "properties": { "type": { "const": "function" }, "name": name_schema() } });
    let allowed = json!({ "type": "object", "required": ["type", "mode", "tools"], "additionalProperties": false, "properties": {
        "type": { "const": "allowed_tools" }, "mode": { "enum": ["auto", "required"] }, "tools": { "type": "array", "items": named } } });
    json!({ "anyOf": [{ "enum": ["none", "auto", "required"] }, named, allowed] })
}
