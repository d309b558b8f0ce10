//! Metadata values of a GGUF file that is written.

use crate::gguf::ValueType;

/// A value as the file spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataValue {
    value_type: ValueType,
    payload: Vec<u8>,
}

impl MetadataValue {
    /// A value that another file spells so; see [`crate::gguf::Gguf::spelled`].
    pub fn spelled(value_type: ValueType, payload: &[u8]) -> MetadataValue {
        MetadataValue { value_type, payload: payload.to_vec() }
    }

    /// An unsigned number.
    pub fn u32(value: u32) -> MetadataValue {
        MetadataValue::spelled(ValueType::U32, &value.to_le_bytes())
    }

    /// A signed number.
    pub fn i32(value: i32) -> MetadataValue {
        MetadataValue::spelled(ValueType::I32, &value.to_le_bytes())
    }

    /// A number in single precision.
    pub fn f32(value: f32) -> MetadataValue {
        MetadataValue::spelled(ValueType::F32, &value.to_le_bytes())
    }

    /// A boolean.
    pub fn bool(value: bool) -> MetadataValue {
        MetadataValue::spelled(ValueType::Bool, &[u8::from(value)])
    }

    /// A text.
    pub fn string(value: &str) -> MetadataValue {
        let mut payload = Vec::new();
        put_string(&mut payload, value);
        MetadataValue { value_type: ValueType::String, payload }
    }

    /// A list of texts.
    pub fn strings<S: AsRef<str>>(values: &[S]) -> MetadataValue {
        MetadataValue::array(ValueType::String, values, |payload, value| put_string(payload, value.as_ref()))
    }

    /// A list of signed numbers.
    pub fn i32s(values: &[i32]) -> MetadataValue {
        MetadataValue::array(ValueType::I32, values, |payload, value| payload.extend(value.to_le_bytes()))
    }

    /// A list of numbers in single precision.
    pub fn f32s(values: &[f32]) -> MetadataValue {
        MetadataValue::array(ValueType::F32, values, |payload, value| payload.extend(value.to_le_bytes()))
    }

    fn array<T>(element: ValueType, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) -> MetadataValue {
        let mut payload = (element as u32).to_le_bytes().to_vec();
        payload.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| put(&mut payload, value));
        MetadataValue { value_type: ValueType::Array, payload }
    }

    /// Appends type and value.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend((self.value_type as u32).to_le_bytes());
        out.extend(&self.payload);
    }
}

/// A text with its length before it.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
