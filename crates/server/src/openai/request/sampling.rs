//! How tokens are chosen and when an answer ends, for both routes.

use serde_json::{Value, json};
use zhenjin_assistant::{GenerationOptions, MAX_COUNT, MAX_PATTERN, RepetitionDetection, SamplingSettings};

use super::limits;
use super::node::Node;
use crate::errors::ApiError;
use crate::openai::fields::CheckedFields;

/// How an answer is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// Every piece reports the usage so far.
    pub(crate) continuous_usage: bool,
}

/// Takes the fields about generating apart, but for those that the two routes call differently.
pub(crate) fn read_options(
    fields: &CheckedFields<'_>,
    max_tokens: Option<usize>,
    logprobs: Option<usize>,
) -> Result<GenerationOptions, ApiError> {
    let stop_token_ids =
        fields.get("stop_token_ids").map(|node| read_token_ids(&node, limits::STOP_TOKENS)).transpose()?;
    Ok(GenerationOptions {
        ignore_end: fields.boolean("ignore_eos").unwrap_or(false),
        min_tokens: fields.count("min_tokens").unwrap_or(0),
        sampling: read_sampling(fields)?,
        max_tokens,
        stop: fields.get("stop").map(|node| read_stop(&node)).transpose()?.unwrap_or_default(),
        stop_token_ids: stop_token_ids.unwrap_or_default(),
        logprobs,
        repetition_detection: fields
            .get("repetition_detection")
            .map(|node| read_repetition_detection(&node))
            .transpose()?,
        ..GenerationOptions::default()
    })
}

fn read_sampling(fields: &CheckedFields<'_>) -> Result<SamplingSettings, ApiError> {
    let number = |name| fields.number(name).map(|value| value as f32);
    Ok(SamplingSettings {
        temperature: number("temperature"),
        top_p: number("top_p"),
        // -1 keeps all, as 0 does.
        top_k: fields.integer("top_k").map(|top_k| usize::try_from(top_k).unwrap_or(0)),
        min_p: number("min_p"),
        repetition_penalty: number(one_name(fields, "repetition_penalty", "repeat_penalty")?),
        presence_penalty: number("presence_penalty"),
        frequency_penalty: number("frequency_penalty"),
        logit_bias: fields
            .get("logit_bias")
            .map(|node| read_logit_bias(&node))
            .transpose()?
            .unwrap_or_default(),
        // Negative seeds are as good as any other: their bits are taken.
        seed: fields.integer("seed").map(|seed| seed as u64),
    })
}

/// Of two names of one field, the one that is given, or the first if none is.
pub(super) fn one_name(
    fields: &CheckedFields<'_>,
    name: &'static str,
    other: &'static str,
) -> Result<&'static str, ApiError> {
    match (fields.get(name), fields.get(other)) {
        (Some(_), Some(_)) => Err(ApiError::invalid(
            name,
            format!("`{name}` and `{other}` are two names of one thing: send one of them"),
        )),
        (None, Some(_)) => Ok(other),
        _ => Ok(name),
    }
}

/// Takes the fields about sending apart.
pub(crate) fn read_delivery(fields: &CheckedFields<'_>) -> Result<Delivery, ApiError> {
    let stream = fields.boolean("stream").unwrap_or(false);
    let (mut include_usage, mut continuous_usage) = (false, false);
    if let Some(node) = fields.get("stream_options") {
        let options = node.object(&["include_usage", "continuous_usage_stats", "include_obfuscation"])?;
        if !stream {
            return Err(node.error("is only allowed when `stream` is true"));
        }
        let switch = |name: &str| options.get(name).map_or(Ok(false), |node| node.boolean());
        include_usage = switch("include_usage")?;
        continuous_usage = switch("continuous_usage_stats")?;
        if continuous_usage && !include_usage {
            return Err(
                node.error("asks for `continuous_usage_stats`, which is only allowed with `include_usage`")
            );
        }
        if let Some(node) = options.get("include_obfuscation")
            && node.boolean()?
        {
            return Err(node
                .error("is not supported here: events are not padded")
                .with_code("unsupported_parameter"));
        }
    }
    Ok(Delivery { stream, include_usage, continuous_usage })
}

/// A switch, or a rule in the shape that vLLM gives it.
fn read_repetition_detection(node: &Node<'_>) -> Result<RepetitionDetection, ApiError> {
    if let Value::Bool(is_on) = node.value {
        return Ok(if *is_on { RepetitionDetection::Standard } else { RepetitionDetection::Off });
    }
    if !node.value.is_object() {
        return Err(node.error("must be true, false or an object"));
    }
    let fields = node.object(&["max_pattern_size", "min_pattern_size", "min_count"])?;
    let count = |name: &str, to: usize| {
        fields.get(name).map_or(Ok(0), |node| Ok::<_, ApiError>(node.integer(0, to as i64)? as usize))
    };
    let max_pattern = count("max_pattern_size", MAX_PATTERN)?;
    let min_pattern = count("min_pattern_size", MAX_PATTERN)?.max(1);
    let min_count = count("min_count", MAX_COUNT)?;
    if max_pattern == 0 {
        return Ok(RepetitionDetection::Off);
    }
    if min_pattern > max_pattern {
        return Err(node.error("must have a `min_pattern_size` that is at most its `max_pattern_size`"));
    }
    if min_count < 2 {
        return Err(node.error("must have a `min_count` of 2 or more"));
    }
    Ok(RepetitionDetection::Pattern { min_pattern, max_pattern, min_count })
}

pub(crate) fn repetition_detection_schema() -> Value {
    let size = || json!({ "type": ["integer", "null"], "minimum": 0, "maximum": MAX_PATTERN });
    json!({ "anyOf": [{ "type": "boolean" }, { "type": "object", "additionalProperties": false, "properties": {
        "max_pattern_size": size(), "min_pattern_size": size(),
        "min_count": { "type": ["integer", "null"], "minimum": 0, "maximum": MAX_COUNT } } }] })
}

fn read_logit_bias(node: &Node<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let entries = node.entries()?;
    if entries.len() > limits::BIASES {
        return Err(node.error(format!("must hold at most {} ids, not {}", limits::BIASES, entries.len())));
    }
    let mut biases: Vec<(u32, f32)> = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let place = Node::new(value, format!("logit_bias.{name}"));
        // "01" would be a second name of 1.
        let id = name.parse::<u32>().ok().filter(|id| id.to_string() == *name);
        let id = id.ok_or_else(|| place.error("is named by something that is not a token id"))?;
        biases.push((id, place.number(-100.0, 100.0)? as f32));
    }
    Ok(biases)
}

pub(crate) fn read_stop(node: &Node<'_>) -> Result<Vec<String>, ApiError> {
    let texts = match node.value {
        Value::String(_) => vec![node.clone()],
        Value::Array(_) => node.list()?.collect(),
        _ => return Err(node.error("must be a string or a list of strings")),
    };
    if texts.len() > limits::STOPS {
        return Err(node.error(format!("must hold at most {} texts, not {}", limits::STOPS, texts.len())));
    }
    let mut stops: Vec<String> = Vec::with_capacity(texts.len());
    for place in texts {
        let text = place.text()?;
        if text.is_empty() {
            return Err(place.error("must not be empty"));
        }
        if text.len() > limits::STOP_BYTES {
            return Err(place.error(format!("must have at most {} bytes", limits::STOP_BYTES)));
        }
        stops.push(text.to_owned());
    }
    Ok(stops)
}

/// A list of token ids; whether the model has them is checked once the model is known.
pub(crate) fn read_token_ids(node: &Node<'_>, max: usize) -> Result<Vec<u32>, ApiError> {
    let items = node.list()?;
    if items.len() > max {
        return Err(node.error(format!("must hold at most {max} token ids, not {}", items.len())));
    }
    items.map(|item| item.integer(0, i64::from(u32::MAX)).map(|id| id as u32)).collect()
}

pub(crate) fn logit_bias_schema() -> Value {
    json!({ "type": "object", "maxProperties": limits::BIASES, "propertyNames": { "pattern": "^(0|[1-9][0-9]{0,9})$" },
        "additionalProperties": { "type": "number", "minimum": -100, "maximum": 100 } })
}

pub(crate) fn stop_schema() -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": limits::STOP_BYTES });
    json!({ "anyOf": [text, { "type": "array", "items": text, "maxItems": limits::STOPS }] })
}

pub(crate) fn stop_token_ids_schema() -> Value {
    json!({ "type": "array", "maxItems": limits::STOP_TOKENS,
        "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX } })
}

pub(crate) fn stream_options_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "include_usage": { "type": ["boolean", "null"] }, "continuous_usage_stats": { "type": ["boolean", "null"] }, "include_obfuscation": { "enum": [false, null] } } })
}
