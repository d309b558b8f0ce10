//! The prompts of a completion request: texts or token ids, one or several.

use serde_json::{Value, json};
use zhenjin_assistant::CompletionPrompt;

use super::limits;
use super::node::Node;
use super::sampling::read_token_ids;
use crate::errors::ApiError;

/// Takes `prompt` apart.
pub(crate) fn read(node: &Node<'_>) -> Result<Vec<CompletionPrompt>, ApiError> {
    const EXPECTED: &str =
        "must be a string, a list of strings, a list of token ids, or a list of such lists";
    let prompts: Vec<CompletionPrompt> = match node.value {
        Value::String(text) => vec![CompletionPrompt::Text(text.clone())],
        Value::Array(items) => match items.first() {
            None => return Err(node.error("must not be an empty list")),
            Some(Value::Number(_)) => vec![CompletionPrompt::Tokens(read_tokens(node)?)],
            Some(Value::String(_)) => node
                .list()?
                .map(|item| Ok(CompletionPrompt::Text(item.text()?.to_owned())))
                .collect::<Result<_, ApiError>>()?,
            Some(Value::Array(_)) => node
                .list()?
                .map(|item| Ok(CompletionPrompt::Tokens(read_tokens(&item)?)))
                .collect::<Result<_, ApiError>>()?,
            Some(_) => return Err(node.error(EXPECTED)),
        },
        _ => return Err(node.error(EXPECTED)),
    };
    if prompts.len() > limits::PROMPTS {
        return Err(node.error(format!(
            "must hold at most {} prompts, not {}",
            limits::PROMPTS,
            prompts.len()
        )));
    }
    Ok(prompts)
}

fn read_tokens(node: &Node<'_>) -> Result<Vec<u32>, ApiError> {
    let tokens = read_token_ids(node, usize::MAX)?;
    if tokens.is_empty() {
        return Err(node.error("must not be an empty list"));
    }
    Ok(tokens)
}

pub(crate) fn schema() -> Value {
    let text = json!({ "type": "string" });
    let tokens = json!({ "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX } });
    json!({ "anyOf": [
        text,
        { "type": "array", "items": text, "minItems": 1, "maxItems": limits::PROMPTS },
        tokens,
        { "type": "array", "items": tokens, "minItems": 1, "maxItems": limits::PROMPTS },
    ] })
}
