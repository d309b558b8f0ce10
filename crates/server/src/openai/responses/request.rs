//! A request to `/v1/responses`, each field known to be fine by itself and beside the others.

use serde_json::{Value, json};
use zhenjin_assistant::{ChatRequest, Message, OutputFormat, Role, ToolChoice};
use zhenjin_store::Owner;

use super::echo::Echo;
use super::fields::TABLE;
use super::recent::RecentItems;
use super::{items, tools};
use crate::errors::ApiError;
use crate::openai::fields::{CheckedFields, check};
use crate::openai::request::messages::read_template_variables;
use crate::openai::request::node::Node;
use crate::openai::request::sampling::read_options;
use crate::openai::request::thinking::{self, EFFORTS};
use crate::openai::request::tools::{read_function_name, read_schema};

/// What is asked for.
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) request: ChatRequest,
    pub(super) echo: Echo,
    pub(super) stream: bool,
    /// Whether the answer's items may be referred to for a while.
    pub(super) remembers: bool,
}

/// What `include` may name.
const INCLUDABLE: [&str; 8] = [
    LOGPROBS,
    ENCRYPTED,
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
const LOGPROBS: &str = "message.output_text.logprobs";
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// Takes a request's body apart.
pub(super) fn read(body: &Value, recent: &RecentItems, owner: &Owner) -> Result<Asked, ApiError> {
    let fields = check(TABLE, body)?;
    let mut messages = Vec::new();
    if let Some(instructions) = fields.text("instructions").filter(|text| !text.is_empty()) {
        messages.push(Message::new(Role::System, instructions));
    }
    if let Some(input) = fields.get("input") {
        messages.extend(items::read(&input, recent, owner)?);
    }
    let (mut offered, tool_echo) = match fields.get("tools") {
        Some(node) => tools::read_tools(&node)?,
        None => (Vec::new(), Vec::new()),
    };
    let tool_choice = tools::read_tool_choice(fields.get("tool_choice").as_ref(), &mut offered)?;
    let (output_format, format_echo) = read_text(&fields)?;
    let include = read_include(&fields)?;
    let top = fields.count("top_logprobs");
    let logprobs = top.filter(|top| *top > 0).or(include.contains(&LOGPROBS).then_some(0));
    let allows_several = !matches!(tool_choice, ToolChoice::Named(_));
    let effort = read_reasoning(&fields)?;
    let mut template_variables = fields
        .get("chat_template_kwargs")
        .map(|node| read_template_variables(&node))
        .transpose()?
        .unwrap_or_default();
    let (thinking, _) = thinking::of_effort_and_variables(effort.as_deref(), &mut template_variables)?;
    let parallel = fields.boolean("parallel_tool_calls").unwrap_or(true);
    let request = ChatRequest {
        tools: offered,
        tool_choice,
        parallel_tool_calls: parallel && allows_several,
        output_format,
        thinking,
        template_variables,
        options: read_options(&fields, fields.count("max_output_tokens"), logprobs)?,
        ..ChatRequest::new(messages)
    };
    let given = |name| fields.get(name).map(|node| node.value.clone()).unwrap_or(Value::Null);
    let echo = Echo {
        tools: tool_echo,
        tool_choice: fields.get("tool_choice").map_or_else(|| json!("auto"), |node| node.value.clone()),
        parallel_tool_calls: parallel,
        text: json!({ "format": format_echo, "verbosity": "medium" }),
        effort,
        instructions: given("instructions"),
        max_output_tokens: fields.count("max_output_tokens"),
        max_tool_calls: fields.count("max_tool_calls"),
        metadata: fields.get("metadata").map_or_else(|| json!({}), |node| node.value.clone()),
        user: given("user"),
        safety_identifier: given("safety_identifier"),
        prompt_cache_key: given("prompt_cache_key"),
        top_logprobs: top.unwrap_or(0),
        reports_logprobs: logprobs.is_some(),
        encrypts: include.contains(&ENCRYPTED),
        ..Echo::default()
    };
    Ok(Asked {
        model: fields.text("model").unwrap_or_default().to_owned(),
        request,
        echo,
        stream: read_stream(&fields)?,
        remembers: fields.boolean("store").is_none(),
    })
}

fn read_stream(fields: &CheckedFields<'_>) -> Result<bool, ApiError> {
    let stream = fields.boolean("stream").unwrap_or(false);
    if let Some(node) = fields.get("stream_options") {
        let options = node.object(&["include_obfuscation", "include_usage"])?;
        if !stream {
            return Err(node.error("is only allowed when `stream` is true"));
        }
        // The last event has the usage either way.
        options.get("include_usage").map(|node| node.boolean()).transpose()?;
        if let Some(node) = options.get("include_obfuscation")
            && node.boolean()?
        {
            return Err(node
                .error("is not supported here: events are not padded")
                .with_code("unsupported_parameter"));
        }
    }
    Ok(stream)
}

/// The format of the answer, and how the answer repeats it.
fn read_text(fields: &CheckedFields<'_>) -> Result<(OutputFormat, Value), ApiError> {
    let plain = || (OutputFormat::Text, json!({ "type": "text" }));
    let Some(node) = fields.get("text") else { return Ok(plain()) };
    let text = node.object(&["format", "verbosity"])?;
    if let Some(verbosity) = text.get("verbosity").filter(|verbosity| verbosity.value != "medium") {
        return Err(verbosity
            .error("is not supported here: models here know no such switch; ask for it in a message")
            .with_code("unsupported_parameter"));
    }
    let Some(format) = text.get("format") else { return Ok(plain()) };
    let kind = format.peek("type")?;
    match kind.text()? {
        "text" => format.object(&["type"]).map(|_| plain()),
        "json_object" => {
            format.object(&["type"]).map(|_| (OutputFormat::JsonObject, json!({ "type": "json_object" })))
        }
        "json_schema" => {
            let values = format.object(&["type", "name", "description", "schema", "strict"])?;
            let name = read_function_name(&values)?;
            let description = values.get("description").map(|text| text.text()).transpose()?;
            let strict = values.get("strict").map(|strict| strict.boolean()).transpose()?;
            let schema = read_schema(&values.required("schema")?)?;
            let echo = json!({ "type": "json_schema", "name": name, "description": description, "schema": schema,
                "strict": strict.unwrap_or(true) });
            Ok((OutputFormat::JsonSchema(schema), echo))
        }
        other => Err(kind.error(format!("must be text, json_object or json_schema, not `{other}`"))),
    }
}

fn read_include<'a>(fields: &CheckedFields<'a>) -> Result<Vec<&'a str>, ApiError> {
    let Some(node) = fields.get("include") else { return Ok(Vec::new()) };
    node.list()?
        .map(|item: Node<'a>| match item.text()? {
            name if INCLUDABLE.contains(&name) => Ok(name),
            other => Err(item.error(format!("must be one of {}, not `{other}`", INCLUDABLE.join(", ")))),
        })
        .collect()
}

const SUMMARIES: [&str; 3] = ["auto", "concise", "detailed"];

/// How much the model is to think.
fn read_reasoning(fields: &CheckedFields<'_>) -> Result<Option<String>, ApiError> {
    let Some(node) = fields.get("reasoning") else { return Ok(None) };
    let values = node.object(&["effort", "summary", "generate_summary"])?;
    let one_of = |name: &str, choices: &[&str]| match values.get(name) {
        None => Ok(None),
        Some(node) => match node.text()? {
            word if choices.contains(&word) => Ok(Some(word.to_owned())),
            other => Err(node.error(format!("must be one of {}, not `{other}`", choices.join(", ")))),
        },
    };
    for name in ["summary", "generate_summary"] {
        one_of(name, &SUMMARIES)?;
    }
    one_of("effort", EFFORTS)
}

pub(super) fn text_schema() -> Value {
    let plain = json!({ "type": "object", "required": ["type"], "additionalProperties": false,
        "properties": { "type": { "enum": ["text", "json_object"] } } });
    let schema = json!({ "type": "object", "required": ["type", "name", "schema"], "additionalProperties": false, "properties": {
        "type": { "const": "json_schema" }, "name": { "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$" },
        "description": { "type": ["string", "null"] }, "schema": { "type": "object", "description": "A JSON schema." },
        "strict": { "type": ["boolean", "null"] } } });
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "format": { "anyOf": [plain, schema, { "type": "null" }] }, "verbosity": { "enum": ["medium", null] } } })
}

pub(super) fn reasoning_schema() -> Value {
    let with_null = |choices: &[&str]| {
        let words = choices.iter().map(|word| json!(word)).chain([Value::Null]);
        json!({ "enum": words.collect::<Vec<Value>>() })
    };
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "effort": with_null(EFFORTS), "summary": with_null(&SUMMARIES), "generate_summary": with_null(&SUMMARIES) } })
}

pub(super) fn include_schema() -> Value {
    json!({ "type": "array", "items": { "enum": INCLUDABLE } })
}

pub(super) fn stream_options_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "include_usage": { "type": ["boolean", "null"] }, "include_obfuscation": { "enum": [false, null] } } })
}
