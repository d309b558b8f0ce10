//! One value of a request together with its place, so that every complaint names the field as `messages[0].content`.

use serde_json::{Map, Value};

use super::suggest::suggestion;
use crate::errors::ApiError;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: String,
}

/// An object whose names have been checked.
#[derive(Clone, Debug)]
pub(crate) struct ObjectNode<'a> {
    fields: &'a Map<String, Value>,
    path: String,
}

impl<'a> Node<'a> {
    pub(crate) fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Node { value, path: path.into() }
    }

    /// 400 that names this place: `messages[0].content` + `must be …`.
    pub(crate) fn error(&self, complaint: impl AsRef<str>) -> ApiError {
        ApiError::invalid(&self.path, format!("`{}` {}", self.path, complaint.as_ref()))
    }

    fn wrong_type(&self, expected: &str) -> ApiError {
        self.error(format!("must be {expected}, not {}", kind_of(self.value)))
    }

    pub(crate) fn text(&self) -> Result<&'a str, ApiError> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    pub(crate) fn boolean(&self) -> Result<bool, ApiError> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A finite number within `min..=max`.
    pub(crate) fn number(&self, min: f64, max: f64) -> Result<f64, ApiError> {
        let number = self.value.as_f64().ok_or_else(|| self.wrong_type("a number"))?;
        if !(min..=max).contains(&number) {
            return Err(self.error(format!("must be between {min} and {max}, not {}", self.value)));
        }
        Ok(number)
    }

    /// A whole number within `min..=max`; `2.0` is one, `2.5` is not.
    pub(crate) fn integer(&self, min: i64, max: i64) -> Result<i64, ApiError> {
        let number = self.value.as_number().ok_or_else(|| self.wrong_type("a whole number"))?;
        let whole = number.as_i64().or_else(|| {
            // Beyond 2^53 a float no longer says which whole number was meant.
            let float = number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0);
            float.map(|float| float as i64)
        });
        match whole {
            Some(whole) if (min..=max).contains(&whole) => Ok(whole),
            None if number.as_f64().is_some_and(|float| float.fract() != 0.0) => {
                Err(self.error(format!("must be a whole number, not {number}")))
            }
            _ => Err(self.error(format!("must be a whole number from {min} to {max}, not {number}"))),
        }
    }

    pub(crate) fn list(&self) -> Result<impl ExactSizeIterator<Item = Node<'a>> + use<'a>, ApiError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong_type("a list"))?;
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(index, item)| Node::new(item, format!("{path}[{index}]"))))
    }

    /// An object with any names.
    pub(crate) fn entries(&self) -> Result<&'a Map<String, Value>, ApiError> {
        self.value.as_object().ok_or_else(|| self.wrong_type("an object"))
    }

    /// An object that has no other names than `known`, those whose value is null aside: they say nothing.
    pub(crate) fn object(&self, known: &[&'static str]) -> Result<ObjectNode<'a>, ApiError> {
        let fields = self.entries()?;
        for (name, value) in fields {
            if !value.is_null() && !known.contains(&name.as_str()) {
                let path = format!("{}.{name}", self.path);
                let hint = match suggestion(name, known.iter().copied()) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => format!("; known here: {}", known.join(", ")),
                };
                return Err(ApiError::invalid(&path, format!("`{path}` is not known{hint}"))
                    .with_code("unknown_parameter"));
            }
        }
        Ok(ObjectNode { fields, path: self.path.clone() })
    }

    /// The object's field `name`, before the object's other names are known.
    pub(crate) fn peek(&self, name: &str) -> Result<Node<'a>, ApiError> {
        ObjectNode { fields: self.entries()?, path: self.path.clone() }.required(name)
    }
}

impl<'a> ObjectNode<'a> {
    /// The field `name`, unless it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        Some(Node::new(value, self.path_of(name)))
    }

    /// The field `name`, or a 400 that it is missing.
    pub(crate) fn required(&self, name: &str) -> Result<Node<'a>, ApiError> {
        self.get(name).ok_or_else(|| {
            let path = self.path_of(name);
            ApiError::invalid(&path, format!("`{path}` is missing")).with_code("missing_required_parameter")
        })
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
