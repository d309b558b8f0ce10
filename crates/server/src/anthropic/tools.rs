//! The functions that a model may call, and whether it must, in Anthropic's words.

use serde_json::{Value, json};
use zhenjin_assistant::{Tool, ToolChoice};

use crate::errors::ApiError;
use crate::openai::request::limits;
use crate::openai::request::node::Node;
use crate::openai::request::tools::{
    known_name, name_schema, read_each, read_function_name, read_schema, refuse_others, with_tools,
};

/// Takes `tools` apart.
pub(super) fn read_tools(node: &Node<'_>) -> Result<Vec<Tool>, ApiError> {
    read_each(node, |item| Ok((read_tool(&item)?, item)))
}

fn read_tool(item: &Node<'_>) -> Result<Tool, ApiError> {
    if let Some(kind) = item.entries()?.get("type").filter(|kind| !kind.is_null() && *kind != "custom") {
        let message = format!(
            "is {kind}, which is not supported here: this server runs no tools of its own; describe a function by `name`, \
             `description` and `input_schema`"
        );
        return Err(Node::new(kind, format!("{}.type", item.path))
            .error(message)
            .with_code("unsupported_value"));
    }
    let fields = item.object(&[
        "type",
        "name",
        "description",
        "input_schema",
        "strict",
        "cache_control",
        "eager_input_streaming",
        "allowed_callers",
        "defer_loading",
        "input_examples",
    ])?;
    refuse_others(
        &fields,
        &[
            ("allowed_callers", json!(["direct"])),
            ("defer_loading", json!(false)),
            ("input_examples", json!([])),
        ],
    )?;
    for name in ["strict", "eager_input_streaming"] {
        fields.get(name).map(|node| node.boolean()).transpose()?;
    }
    Ok(Tool {
        name: read_function_name(&fields)?,
        description: fields.get("description").map(|text| text.text().map(str::to_owned)).transpose()?,
        parameters: Some(read_schema(&fields.required("input_schema")?)?),
    })
}

/// Takes `tool_choice` apart: what the model may do, and whether it may make several calls.
pub(super) fn read_tool_choice(
    node: Option<&Node<'_>>,
    tools: &[Tool],
) -> Result<(ToolChoice, bool), ApiError> {
    let Some(node) = node else {
        return Ok((if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto }, true));
    };
    let fields = node.object(&["type", "name", "disable_parallel_tool_use"])?;
    let kind = fields.required("type")?;
    let name = fields.get("name").filter(|_| kind.value != "tool");
    let choice = match kind.text()? {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(known_name(&fields, tools)?),
        other => return Err(kind.error(format!("must be auto, any, tool or none, not `{other}`"))),
    };
    if let Some(name) = name {
        return Err(name.error("belongs to the type `tool` alone: leave it out, or let `type` be `tool`"));
    }
    let choice = with_tools(choice, node, tools)?;
    let single =
        fields.get("disable_parallel_tool_use").map(|node| node.boolean()).transpose()?.unwrap_or(false);
    Ok((choice, !single))
}

pub(super) fn tools_schema() -> Value {
    json!({ "type": "array", "maxItems": limits::TOOLS, "items": {
        "type": "object", "required": ["name", "input_schema"], "additionalProperties": false, "properties": {
            "type": { "enum": ["custom", null] },
            "name": name_schema(),
            "description": { "type": ["string", "null"] },
            "input_schema": { "type": "object", "description": "A JSON schema." },
            "strict": { "type": ["boolean", "null"] },
            "eager_input_streaming": { "type": ["boolean", "null"] },
            "cache_control": {},
            "allowed_callers": { "enum": [["direct"], null] },
            "defer_loading": { "enum": [false, null] },
            "input_examples": { "enum": [[], null] } } } })
}

pub(super) fn tool_choice_schema() -> Value {
    json!({ "type": "object", "required": ["type"], "additionalProperties": false, "properties": {
        "type": { "enum": ["auto", "any", "tool", "none"] }, "name": { "type": "string" },
        "disable_parallel_tool_use": { "type": ["boolean", "null"] } } })
}
