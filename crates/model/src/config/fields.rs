//! Typed access to the fields of a JSON object, with errors that name the field.

use serde_json::{Map, Value};

use crate::errors::{FormatError, quoted};

/// Settings of a `config.json` that change no model's numbers: those of training, labels, generation and files.
const WITHOUT_EFFECT_ANYWHERE: [&str; 21] = [
    "_name_or_path",
    "_attn_implementation_autoset",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "use_cache",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "tokenizer_class",
    "task_specific_params",
    "torchscript",
    "transformers.js_config",
    "gradient_checkpointing",
];

/// The fields of one object. A field that is null counts as absent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) object: &'a Map<String, Value>,
    /// What precedes a field's name in messages, such as `rope_scaling.`; empty for the document itself.
    pub(crate) prefix: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The names that are in none of the lists and not without effect anywhere, quoted for display.
    pub(crate) fn unread(&self, known: &[&[&str]]) -> Vec<String> {
        let is_known = |name: &str| {
            known.iter().any(|names| names.contains(&name)) || WITHOUT_EFFECT_ANYWHERE.contains(&name)
        };
        self.object.keys().filter(|name| !is_known(name)).map(|name| quoted(name)).collect()
    }

    pub(crate) fn fault(&self, name: &str, problem: impl Into<String>) -> FormatError {
        FormatError::new(format!("field {}", quoted(&format!("{}{name}", self.prefix))), problem)
    }

    pub(crate) fn missing(&self, name: &str) -> FormatError {
        self.fault(name, "the field is missing")
    }

    pub(crate) fn size(&self, name: &str) -> Result<Option<usize>, FormatError> {
        self.typed(name, "a non-negative whole number", |value| {
            value.as_u64().and_then(|value| usize::try_from(value).ok())
        })
    }

    pub(crate) fn required_size(&self, name: &str) -> Result<usize, FormatError> {
        self.size(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, FormatError> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(crate) fn required_number(&self, name: &str) -> Result<f64, FormatError> {
        self.number(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>, FormatError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, FormatError> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, FormatError> {
        self.typed(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    pub(crate) fn fields(&self, name: &str, prefix: &'static str) -> Result<Option<Fields<'a>>, FormatError> {
        self.typed(name, "an object", |value| value.as_object().map(|object| Fields { object, prefix }))
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => {
                Err(self.fault(name, format!("must be {expected}, found {}", quoted(&value.to_string()))))
            }
        }
    }
}
