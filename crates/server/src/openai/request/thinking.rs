//! Whether the model shall think before it answers: one wish, for which servers have different fields.

use serde_json::{Map, Value, json};
use zhenjin_assistant::ThinkingWish;

use super::node::Node;
use crate::errors::ApiError;
use crate::openai::fields::CheckedFields;

/// Efforts that `reasoning_effort` may name.
pub(crate) const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The field in which the assistant names a wish that cannot be fulfilled.
const ASSISTANTS_FIELD: &str = "reasoning_effort";

/// Where a request's wish stands, for complaints about it.
#[derive(Clone, Debug)]
pub(crate) struct ThinkingField(String);

impl ThinkingField {
    /// The same error with the request's own field for it.
    pub(crate) fn rename(&self, error: ApiError) -> ApiError {
        error.with_field_renamed(ASSISTANTS_FIELD, &self.0)
    }
}

/// Takes `reasoning_effort`, `reasoning`, `thinking`, `enable_thinking` and what `chat_template_kwargs` say about thinking
/// apart, and removes the last from `variables`.
pub(crate) fn read(
    fields: &CheckedFields<'_>,
    variables: &mut Map<String, Value>,
) -> Result<(ThinkingWish, ThinkingField), ApiError> {
    let mut wishes: Vec<(String, ThinkingWish)> = Vec::new();
    if let Some(node) = fields.get("reasoning_effort") {
        wishes.push((node.path.clone(), effort(&node)?));
    }
    if let Some(node) = fields.get("enable_thinking") {
        wishes.push((node.path.clone(), switch(&node)?));
    }
    if let Some(node) = fields.get("reasoning") {
        let reasoning = node.object(&["effort", "enabled"])?;
        if let Some(node) = reasoning.get("effort") {
            wishes.push((node.path.clone(), effort(&node)?));
        }
        if let Some(node) = reasoning.get("enabled") {
            wishes.push((node.path.clone(), switch(&node)?));
        }
    }
    if let Some(node) = fields.get("thinking") {
        let kind = node.object(&["type"])?.required("type")?;
        let wish = match kind.text()? {
            "enabled" => ThinkingWish::On,
            "disabled" => ThinkingWish::Off,
            "auto" | "adaptive" => ThinkingWish::ModelsOwn,
            other => return Err(kind.error(format!("must be enabled, disabled or auto, not `{other}`"))),
        };
        wishes.push((kind.path.clone(), wish));
    }
    wishes.extend(wishes_of_variables(variables)?);
    one_of(wishes)
}

/// Takes `reasoning.effort`, which was read already, and what `chat_template_kwargs` say about thinking as one wish, and removes the last
/// from `variables`.
pub(crate) fn of_effort_and_variables(
    effort: Option<&str>,
    variables: &mut Map<String, Value>,
) -> Result<(ThinkingWish, ThinkingField), ApiError> {
    let wish = effort.map(|effort| match effort {
        "none" => ThinkingWish::Off,
        effort => ThinkingWish::Effort(effort.to_owned()),
    });
    let mut wishes: Vec<(String, ThinkingWish)> =
        wish.into_iter().map(|wish| ("reasoning.effort".to_owned(), wish)).collect();
    wishes.extend(wishes_of_variables(variables)?);
    one_of(wishes)
}

fn wishes_of_variables(variables: &mut Map<String, Value>) -> Result<Vec<(String, ThinkingWish)>, ApiError> {
    let mut wishes = Vec::new();
    for name in ["enable_thinking", "thinking", ASSISTANTS_FIELD] {
        let Some(value) = variables.remove(name).filter(|value| !value.is_null()) else { continue };
        let node = Node::new(&value, format!("chat_template_kwargs.{name}"));
        let wish = if name == ASSISTANTS_FIELD { effort(&node)? } else { switch(&node)? };
        wishes.push((node.path.clone(), wish));
    }
    Ok(wishes)
}

fn effort(node: &Node<'_>) -> Result<ThinkingWish, ApiError> {
    match node.text()? {
        "none" => Ok(ThinkingWish::Off),
        effort if EFFORTS.contains(&effort) => Ok(ThinkingWish::Effort(effort.to_owned())),
        other => Err(node.error(format!("must be one of {}, not `{other}`", EFFORTS.join(", ")))),
    }
}

fn switch(node: &Node<'_>) -> Result<ThinkingWish, ApiError> {
    Ok(if node.boolean()? { ThinkingWish::On } else { ThinkingWish::Off })
}

/// The most definite of several wishes, which must not contradict each other.
fn one_of(wishes: Vec<(String, ThinkingWish)>) -> Result<(ThinkingWish, ThinkingField), ApiError> {
    let mut chosen = (ThinkingWish::ModelsOwn, ThinkingField(ASSISTANTS_FIELD.to_owned()));
    for (field, wish) in wishes {
        let (earlier, place) = &chosen;
        let agrees = match (earlier, &wish) {
            (ThinkingWish::ModelsOwn, _) | (_, ThinkingWish::ModelsOwn) => true,
            (ThinkingWish::Effort(left), ThinkingWish::Effort(right)) => left == right,
            (left, right) => (*left == ThinkingWish::Off) == (*right == ThinkingWish::Off),
        };
        if !agrees {
            let message = format!("`{}` and `{field}` contradict each other: send one of them", place.0);
            return Err(ApiError::invalid(field, message));
        }
        let is_more_definite = matches!(
            (earlier, &wish),
            (ThinkingWish::ModelsOwn, _) | (ThinkingWish::On, ThinkingWish::Effort(_))
        );
        if is_more_definite {
            chosen = (wish, ThinkingField(field));
        }
    }
    Ok(chosen)
}

pub(crate) fn reasoning_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "effort": { "enum": EFFORTS.iter().map(|effort| json!(effort)).chain([Value::Null]).collect::<Vec<Value>>() },
        "enabled": { "type": ["boolean", "null"] } } })
}

pub(crate) fn thinking_schema() -> Value {
    json!({ "type": "object", "required": ["type"], "additionalProperties": false,
        "properties": { "type": { "enum": ["enabled", "disabled", "auto", "adaptive"] } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request::chat;

    fn wish(fields: Value) -> Result<(ThinkingWish, Map<String, Value>), String> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let fields = chat::read(&body).map_err(|error| error.message().to_owned())?;
        Ok((fields.request.thinking, fields.request.template_variables))
    }

    #[test]
    fn every_name_of_the_wish_is_understood() {
        for (fields, expected) in [
            (json!({}), ThinkingWish::ModelsOwn),
            (json!({"reasoning_effort": "none"}), ThinkingWish::Off),
            (json!({"reasoning_effort": "high"}), ThinkingWish::Effort("high".to_owned())),
            (json!({"enable_thinking": true}), ThinkingWish::On),
            (json!({"reasoning": {"effort": "low"}}), ThinkingWish::Effort("low".to_owned())),
            (json!({"reasoning": {"enabled": false}}), ThinkingWish::Off),
            (json!({"thinking": {"type": "disabled"}}), ThinkingWish::Off),
            (json!({"chat_template_kwargs": {"enable_thinking": false}}), ThinkingWish::Off),
            (json!({"chat_template_kwargs": {"thinking": true}}), ThinkingWish::On),
            (
                json!({"enable_thinking": true, "reasoning_effort": "low", "chat_template_kwargs": {"thinking": true}}),
                ThinkingWish::Effort("low".to_owned()),
            ),
        ] {
            assert_eq!(wish(fields.clone()), Ok((expected, Map::new())), "{fields}");
        }
    }

    #[test]
    fn contradictions_and_wrong_words_are_refused() {
        for (fields, complaint) in [
            (
                json!({"reasoning_effort": "none", "enable_thinking": true}),
                "`reasoning_effort` and `enable_thinking` contradict",
            ),
            (json!({"reasoning_effort": "low", "reasoning": {"effort": "high"}}), "contradict"),
            (json!({"reasoning_effort": "much"}), "must be one of none, minimal"),
            (
                json!({"chat_template_kwargs": {"enable_thinking": "no"}}),
                "`chat_template_kwargs.enable_thinking` must be true or false",
            ),
            (json!({"reasoning": {"exclude": true}}), "`reasoning.exclude` is not known"),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": 5}}),
                "`thinking.budget_tokens` is not known",
            ),
        ] {
            let message = wish(fields.clone()).expect_err("refused");
            assert!(message.contains(complaint), "{fields}: {message}");
        }
    }
}
