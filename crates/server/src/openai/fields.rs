//! What a request's field may hold and what becomes of it. One table per route ([`CHAT`](super::field_tables::CHAT),
//! [`COMPLETION`](super::field_tables::COMPLETION)) is the only source of the checks, the OpenAPI schema, `docs/api.md`
//! and the boundary tests.

use serde_json::{Map, Value, json};

use super::request::node::Node;
use super::request::suggest::suggestion;
use crate::errors::ApiError;

/// One field of a request's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) treatment: Treatment,
    /// What the field does here, in one or two sentences.
    pub(crate) note: &'static str,
    /// Whose field it is.
    pub(crate) origin: Origin,
}

/// What a field may hold. `null` always means "not given".
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// A whole number within bounds, or -1 for no limit.
    Limit {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// At most `max` characters.
    Text {
        max: usize,
    },
    OneOf(&'static [&'static str]),
    /// At most so many pairs of texts with at most so many characters.
    TextMap {
        pairs: usize,
        key: usize,
        value: usize,
    },
    /// Taken apart by code of its own, which also describes it.
    Structured(fn() -> Value),
    /// Anything, because nothing here looks at it.
    Anything,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Treatment {
    /// It does what OpenAI says that it does.
    Honoured,
    /// The request is refused without it.
    Required,
    /// Taken, checked and without effect here.
    NoEffect,
    /// Refused, except for these values (as JSON), which ask for nothing that is not so anyway.
    Refused { except: &'static [&'static str] },
}

/// Where a field comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    OpenAi,
    Extension,
    Ollama,
    Anthropic,
    /// The web chat's own API, which has no other.
    WebChat,
}

/// A request's fields, each known, of the right kind and within its range. Structured ones are still to be taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedFields<'a> {
    values: &'a Map<String, Value>,
    /// What stands before the fields' names in complaints: empty, or as `options.`.
    prefix: &'static str,
}

/// Checks a request's body against its route's table.
pub(crate) fn check<'a>(table: &[&'static [Field]], body: &'a Value) -> Result<CheckedFields<'a>, ApiError> {
    if !body.is_object() {
        return Err(
            ApiError::bad_request("the request's body must be a JSON object").with_code("invalid_type")
        );
    }
    check_within("", table, body)
}

/// Checks an object inside a request against a table; `prefix` is its place and a dot.
pub(crate) fn check_within<'a>(
    prefix: &'static str,
    table: &[&'static [Field]],
    object: &'a Value,
) -> Result<CheckedFields<'a>, ApiError> {
    let values = Node::new(object, prefix.trim_end_matches('.')).entries()?;
    let fields = || table.iter().copied().flatten();
    // A field that is null is not given, whoever knows it.
    for (name, value) in values.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("{prefix}{name}");
        let Some(field) = fields().find(|field| field.name == name) else {
            let hint = match suggestion(name, fields().map(|field| field.name)) {
                Some(near) => format!("did you mean `{prefix}{near}`?"),
                None => "docs/api.md lists every field".to_owned(),
            };
            return Err(ApiError::invalid(&path, format!("the field `{path}` is not known: {hint}"))
                .with_code("unknown_parameter"));
        };
        field.check_at(&Node::new(value, path))?;
    }
    for field in fields().filter(|field| matches!(field.treatment, Treatment::Required)) {
        if values.get(field.name).is_none_or(Value::is_null) {
            let path = format!("{prefix}{}", field.name);
            return Err(ApiError::invalid(&path, format!("`{path}` is missing"))
                .with_code("missing_required_parameter"));
        }
    }
    Ok(CheckedFields { values, prefix })
}

impl<'a> CheckedFields<'a> {
    /// The field `name`, unless it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.values.get(name).filter(|value| !value.is_null())?;
        Some(Node::new(value, format!("{}{name}", self.prefix)))
    }

    /// A field whose kind is [`Kind::Boolean`].
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name)?.value.as_bool()
    }

    /// A field whose kind is [`Kind::Number`].
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.value.as_f64()
    }

    /// A field whose kind is [`Kind::Integer`].
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.integer(i64::MIN, i64::MAX).ok()
    }

    /// A field whose kind is [`Kind::Integer`] or [`Kind::Limit`] with a minimum of at least 0; `None` for a limit of -1.
    pub(crate) fn count(&self, name: &str) -> Option<usize> {
        self.integer(name).and_then(|value| usize::try_from(value).ok())
    }

    /// A field whose kind is [`Kind::Text`].
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.value.as_str()
    }
}

impl Field {
    /// Checks the value of a field, whose place the node knows.
    pub(crate) fn check_at(&self, node: &Node<'_>) -> Result<(), ApiError> {
        let value = node.value;
        if let Treatment::Refused { except } = self.treatment {
            let is_neutral =
                except.iter().any(|text| serde_json::from_str(text).ok().as_ref() == Some(value));
            if is_neutral {
                return Ok(());
            }
            let instead = match except {
                [] => "Leave it out.".to_owned(),
                _ => format!("Leave it out, or send {}.", except.join(" or ")),
            };
            let name = &node.path;
            return Err(ApiError::invalid(
                name,
                format!("`{name}` is not supported here: {} {instead}", self.note),
            )
            .with_code("unsupported_parameter"));
        }
        match self.kind {
            Kind::Boolean => node.boolean().map(drop),
            Kind::Integer { min, max } => node.integer(min, max).map(drop),
            Kind::Limit { .. } if node.integer(-1, -1).is_ok() => Ok(()),
            Kind::Limit { min, max } => node.integer(min, max).map(drop),
            Kind::Number { min, max } => node.number(min, max).map(drop),
            Kind::Text { max } => bounded_text(node, max),
            Kind::OneOf(choices) => match node.text()? {
                text if choices.contains(&text) => Ok(()),
                text => Err(node.error(format!("must be one of {}, not `{text}`", choices.join(", ")))),
            },
            Kind::TextMap { pairs, key, value } => bounded_map(node, pairs, key, value),
            Kind::Structured(_) | Kind::Anything => Ok(()),
        }
    }

    /// The field's part of the OpenAPI document.
    pub(crate) fn schema(&self) -> Value {
        let mut schema = match (self.treatment, self.kind) {
            (Treatment::Refused { except }, _) => {
                let neutral = except.iter().filter_map(|text| serde_json::from_str(text).ok());
                json!({ "enum": neutral.chain([Value::Null]).collect::<Vec<Value>>(), "deprecated": true })
            }
            (Treatment::Required, Kind::Structured(describe)) => describe(),
            (_, Kind::Structured(describe)) => json!({ "anyOf": [describe(), { "type": "null" }] }),
            (Treatment::Required, Kind::Text { max }) => {
                json!({ "type": "string", "minLength": 1, "maxLength": max })
            }
            (Treatment::Required, Kind::Boolean) => json!({ "type": "boolean" }),
            (_, Kind::Boolean) => json!({ "type": ["boolean", "null"] }),
            (_, Kind::Integer { min, max }) => {
                json!({ "type": ["integer", "null"], "minimum": min, "maximum": max })
            }
            (_, Kind::Limit { min, max }) => json!({ "anyOf": [
                { "type": ["integer", "null"], "minimum": min, "maximum": max }, { "type": "integer", "enum": [-1] } ] }),
            (_, Kind::Number { min, max }) => {
                json!({ "type": ["number", "null"], "minimum": min, "maximum": max })
            }
            (_, Kind::Text { max }) => json!({ "type": ["string", "null"], "maxLength": max }),
            (_, Kind::OneOf(choices)) => {
                json!({ "type": ["string", "null"], "enum": choices.iter().map(|text| json!(text)).chain([Value::Null]).collect::<Vec<Value>>() })
            }
            (_, Kind::TextMap { pairs, key, value }) => json!({
                "type": ["object", "null"],
                "maxProperties": pairs,
                "propertyNames": { "maxLength": key },
                "additionalProperties": { "type": "string", "maxLength": value },
            }),
            (_, Kind::Anything) => json!({}),
        };
        let extension = if self.origin == Origin::Extension { " Not part of OpenAI's API." } else { "" };
        schema["description"] =
            json!(format!("{}{}{extension}", self.treatment.prefix(), sentence(self.note)));
        schema
    }
}

impl Treatment {
    fn prefix(self) -> &'static str {
        match self {
            Treatment::Honoured | Treatment::Required => "",
            Treatment::NoEffect => "No effect here. ",
            Treatment::Refused { .. } => "Refused. ",
        }
    }
}

/// A request's body as a JSON schema.
pub(crate) fn body_schema(table: &[&'static [Field]]) -> Value {
    let fields = || table.iter().copied().flatten();
    let required: Vec<&str> = fields()
        .filter(|field| matches!(field.treatment, Treatment::Required))
        .map(|field| field.name)
        .collect();
    let properties: Map<String, Value> =
        fields().map(|field| (field.name.to_owned(), field.schema())).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn bounded_text(node: &Node<'_>, max: usize) -> Result<(), ApiError> {
    match node.text()?.chars().count() {
        length if length > max => {
            Err(node.error(format!("must have at most {max} characters, not {length}")))
        }
        _ => Ok(()),
    }
}

fn bounded_map(node: &Node<'_>, pairs: usize, key: usize, value: usize) -> Result<(), ApiError> {
    let entries = node.entries()?;
    if entries.len() > pairs {
        return Err(node.error(format!("must have at most {pairs} entries, not {}", entries.len())));
    }
    for (name, content) in entries {
        if name.chars().count() > key {
            return Err(node.error(format!("must have names of at most {key} characters")));
        }
        bounded_text(&Node::new(content, format!("{}.{name}", node.path)), value)?;
    }
    Ok(())
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
