//! The functions that a model may call, and whether it must, as this route writes them: without the object around a function.

use serde_json::{Value, json};
use zhenjin_assistant::{Tool, ToolChoice};

use crate::errors::ApiError;
use crate::openai::request::limits;
use crate::openai::request::node::Node;
use crate::openai::request::tools::{
    known_name, name_schema, read_each, read_function, read_mode, read_word, refuse_others, with_tools,
};

/// Takes `tools` apart: what the model is told, and what the answer repeats.
pub(super) fn read_tools(node: &Node<'_>) -> Result<(Vec<Tool>, Vec<Value>), ApiError> {
    let mut echoes: Vec<Value> = Vec::new();
    let tools = read_each(node, |item| {
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
        refuse_others(&fields, &[("defer_loading", json!(false)), ("allowed_callers", json!(["direct"]))])?;
        let strict = fields.get("strict").map(|node| node.boolean()).transpose()?;
        let tool = read_function(&fields)?;
        echoes.push(json!({ "type": "function", "name": tool.name, "description": tool.description,
            "parameters": tool.parameters, "strict": strict }));
        Ok((tool, item))
    })?;
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
        Value::String(word) => read_word(node, word)?,
        Value::Object(_) => {
            let kind = node.peek("type")?;
            match kind.text()? {
                "function" => ToolChoice::Named(known_name(&node.object(&["type", "name"])?, tools)?),
                "allowed_tools" => {
                    let fields = node.object(&["type", "mode", "tools"])?;
                    let choice = read_mode(&fields.required("mode")?)?;
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
    with_tools(choice, node, tools)
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
