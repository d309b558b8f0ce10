//! `model.safetensors.index.json`: which file of a split model holds which tensor.
//!
//! It does not open the files that it names.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::header::{MAX_HEADER_BYTES, MAX_TENSORS};
use crate::errors::{FormatError, quoted};

/// The most files that a model may be split into.
pub const MAX_SHARDS: usize = 1024;

/// Which file holds which tensor.
#[derive(Debug, Clone, Default)]
pub struct ShardIndex {
    /// File names in the order of their first mention.
    pub files: Vec<String>,
    /// Tensor names with the position of their file in `files`, sorted by name.
    pub tensors: Vec<(String, usize)>,
}

/// Parses the index of a split model.
///
/// # Errors
/// [`FormatError`] for anything that is not such an index, names a tensor twice, or names a file outside its own folder.
pub fn parse_index(text: &[u8]) -> Result<ShardIndex, FormatError> {
    let fault = |problem: String| FormatError::new("index", problem);
    if text.len() as u64 > MAX_HEADER_BYTES {
        return Err(fault(format!(
            "has {} bytes; the most that is accepted is {MAX_HEADER_BYTES}",
            text.len()
        )));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut index = IndexVisitor
        .deserialize(&mut deserializer)
        .and_then(|index| deserializer.end().map(|()| index))
        .map_err(|error| fault(error.to_string()))?;
    index.tensors.sort_unstable();
    match index.tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(index),
        Some(pair) => Err(fault(format!("tensor {} occurs twice", quoted(&pair[0].0)))),
    }
}

/// Walks the whole document, of which only `weight_map` matters.
struct IndexVisitor;

impl<'de> DeserializeSeed<'de> for IndexVisitor {
    type Value = ShardIndex;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ShardIndex, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IndexVisitor {
    type Value = ShardIndex;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<ShardIndex, A::Error> {
        let mut index = None;
        while let Some(field) = access.next_key::<String>()? {
            if field != "weight_map" {
                access.next_value::<IgnoredAny>()?;
            } else if index.replace(access.next_value_seed(WeightMapVisitor)?).is_some() {
                return Err(A::Error::custom("the field `weight_map` occurs twice"));
            }
        }
        index.ok_or_else(|| A::Error::custom("the field `weight_map` is missing"))
    }
}

/// Walks `weight_map`: tensor name to file name.
struct WeightMapVisitor;

impl<'de> DeserializeSeed<'de> for WeightMapVisitor {
    type Value = ShardIndex;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ShardIndex, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = ShardIndex;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("weight_map as an object of file names by tensor name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<ShardIndex, A::Error> {
        let mut index = ShardIndex::default();
        while let Some((tensor, file)) = access.next_entry::<String, String>()? {
            if index.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!(
                    "more than {MAX_TENSORS} tensors, the most that is accepted"
                )));
            }
            if file.contains(['/', '\\', '\0']) || !file.ends_with(".safetensors") {
                return Err(A::Error::custom(format!(
                    "tensor {} is said to be in {}, which is not the name of a .safetensors file in the same folder",
                    quoted(&tensor),
                    quoted(&file)
                )));
            }
            let place = match index.files.iter().position(|known| *known == file) {
                Some(place) => place,
                None if index.files.len() == MAX_SHARDS => {
                    return Err(A::Error::custom(format!(
                        "more than {MAX_SHARDS} files, the most that is accepted"
                    )));
                }
                None => {
                    index.files.push(file);
                    index.files.len() - 1
                }
            };
            index.tensors.push((tensor, place));
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_index;

    #[test]
    fn maps_tensors_to_files() {
        let index = parse_index(
            br#"{"metadata": {"total_size": 8}, "weight_map": {"b": "2.safetensors", "a": "1.safetensors", "c": "2.safetensors"}}"#,
        )
        .unwrap();
        assert_eq!(index.files, ["2.safetensors", "1.safetensors"]);
        assert_eq!(index.tensors, [("a".to_owned(), 1), ("b".to_owned(), 0), ("c".to_owned(), 0)]);
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, problem) in [
            (r#"{}"#, "`weight_map` is missing"),
            (r#"{"weight_map": {"a": "../1.safetensors"}}"#, "tensor `a`"),
            (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "tensor `a`"),
            (r#"{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}"#, "tensor `a` occurs twice"),
            (r#"{"weight_map": {"a": 1}}"#, "line 1"),
            (r#"{"weight_map": {}, "weight_map": {}}"#, "`weight_map` occurs twice"),
        ] {
            let error = parse_index(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
