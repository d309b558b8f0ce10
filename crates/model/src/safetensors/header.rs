//! The header of one safetensors file: a 64-bit length, a JSON object of tensors, then their data without gaps.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zhenjin_tensor::Dtype;

use crate::errors::{FormatError, quoted, shape};

/// The longest header that is read. Real headers take about 100 bytes a tensor.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// The most tensors that a file may have.
pub const MAX_TENSORS: usize = 1 << 16;

/// The most dimensions that a tensor may have.
pub const MAX_RANK: usize = 8;

/// The longest tensor name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The element types of the format that hold whole bytes per element: name, bytes, and our type if a weight may have it.
const ELEMENT_TYPES: [(&str, usize, Option<Dtype>); 19] = [
    ("F32", 4, Some(Dtype::F32)),
    ("F16", 2, Some(Dtype::F16)),
    ("BF16", 2, Some(Dtype::Bf16)),
    ("F64", 8, None),
    ("F8_E4M3", 1, None),
    ("F8_E5M2", 1, None),
    ("F8_E8M0", 1, None),
    ("F8_E4M3FNUZ", 1, None),
    ("F8_E5M2FNUZ", 1, None),
    ("C64", 8, None),
    ("BOOL", 1, None),
    ("U8", 1, None),
    ("I8", 1, None),
    ("U16", 2, None),
    ("I16", 2, None),
    ("U32", 4, None),
    ("I32", 4, None),
    ("I64", 8, None),
    ("U64", 8, None),
];

/// An element type of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    /// The name in the file, such as `BF16`.
    pub name: &'static str,
    /// Bytes of one element.
    pub bytes: usize,
    /// The type that a weight of this kind has here; `None` for types that no weight may have.
    pub dtype: Option<Dtype>,
}

impl ElementType {
    fn find(name: &str) -> Option<ElementType> {
        ELEMENT_TYPES.into_iter().find(|(known, ..)| *known == name).map(|(name, bytes, dtype)| ElementType {
            name,
            bytes,
            dtype,
        })
    }
}

/// One tensor of a header.
#[derive(Debug, Clone)]
pub struct TensorRecord {
    /// The name in the file.
    pub name: String,
    /// The type of the elements.
    pub element_type: ElementType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// The data's place in the file.
    pub data: Range<usize>,
}

/// The checked header of one file: its tensors, sorted by name.
#[derive(Debug, Clone)]
pub struct Header {
    tensors: Vec<TensorRecord>,
    metadata: BTreeMap<String, String>,
}

impl Header {
    /// All tensors, sorted by name.
    pub fn tensors(&self) -> &[TensorRecord] {
        &self.tensors
    }

    /// What the file says beside its tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// One tensor by its name in the file.
    pub fn tensor(&self, name: &str) -> Option<&TensorRecord> {
        let place = self.tensors.binary_search_by(|record| record.name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[place])
    }
}

/// Parses and checks the header of a whole safetensors file.
///
/// # Errors
/// [`FormatError`] naming the tensor for anything that is cut off, out of bounds, duplicated, overlapping, of a size that
/// does not fit its type and shape, or beyond the limits of this module.
pub fn parse_header(file: &[u8]) -> Result<Header, FormatError> {
    let fault = |problem: String| FormatError::new("header", problem);
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(fault(format!(
            "a file begins with 8 bytes of header length, but this one has {} bytes",
            file.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(fault(format!("claims {length} bytes; the most that is accepted is {MAX_HEADER_BYTES}")));
    }
    let length = length as usize;
    let Some(text) = rest.get(..length) else {
        return Err(fault(format!(
            "claims {length} bytes, but the file has only {} after the length",
            rest.len()
        )));
    };
    if text.first() != Some(&b'{') {
        return Err(fault("does not begin with `{`; this is not a safetensors file".to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let (mut tensors, metadata) = TensorsVisitor
        .deserialize(&mut deserializer)
        .and_then(|read| deserializer.end().map(|()| read))
        .map_err(|error| fault(error.to_string()))?;
    locate(&mut tensors, 8 + length, file.len())?;
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        None => Ok(Header { tensors, metadata }),
        Some(pair) => {
            Err(FormatError::new(format!("tensor {}", quoted(&pair[0].name)), "the name occurs twice"))
        }
    }
}

/// Checks each tensor's size, turns offsets into places in the file, and checks that the data has no gaps or overlaps.
fn locate(tensors: &mut [TensorRecord], data_start: usize, file_bytes: usize) -> Result<(), FormatError> {
    let section = file_bytes - data_start;
    tensors.sort_unstable_by_key(|tensor| (tensor.data.start, tensor.data.end));
    let mut end = 0;
    for tensor in tensors.iter_mut() {
        let fault = |problem: String| FormatError::new(format!("tensor {}", quoted(&tensor.name)), problem);
        let Range { start, end: stop } = tensor.data;
        let claimed = stop
            .checked_sub(start)
            .ok_or_else(|| fault(format!("data_offsets [{start}, {stop}] end before they begin")))?;
        if stop > section {
            return Err(fault(format!(
                "data_offsets [{start}, {stop}] lie beyond the {section} bytes of data; the file is cut off or its header is wrong"
            )));
        }
        let needed =
            tensor.shape.iter().try_fold(tensor.element_type.bytes, |bytes, size| bytes.checked_mul(*size));
        if needed != Some(claimed) {
            return Err(fault(format!(
                "type {} and shape {} need {} bytes, but data_offsets [{start}, {stop}] span {claimed}",
                tensor.element_type.name,
                shape(&tensor.shape),
                needed.map_or_else(|| "more than 2^64".to_owned(), |needed| needed.to_string()),
            )));
        }
        if start != end {
            let what = if start < end { "overlap other data" } else { "leave a gap" };
            return Err(fault(format!("data_offsets [{start}, {stop}] {what}: they should begin at {end}")));
        }
        end = stop;
        tensor.data = start + data_start..stop + data_start;
    }
    if end != section {
        return Err(FormatError::new(
            "data",
            format!("the file has {section} bytes of data, but its tensors use {end}"),
        ));
    }
    Ok(())
}

/// Walks the header's object: tensors by name, and `__metadata__`.
struct TensorsVisitor;

impl<'de> DeserializeSeed<'de> for TensorsVisitor {
    type Value = (Vec<TensorRecord>, BTreeMap<String, String>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = (Vec<TensorRecord>, BTreeMap<String, String>);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut tensors = Vec::new();
        let mut metadata = BTreeMap::new();
        while let Some(name) = access.next_key::<String>()? {
            if name == "__metadata__" {
                let read = access
                    .next_value_seed(MetadataVisitor)
                    .map_err(|error| A::Error::custom(format!("`__metadata__`: {error}")))?;
                metadata.extend(read);
                continue;
            }
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(A::Error::custom(format!(
                    "tensor {}: a name must have 1 to {MAX_NAME_BYTES} bytes, found {}",
                    quoted(&name),
                    name.len()
                )));
            }
            if tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!(
                    "more than {MAX_TENSORS} tensors, the most that is accepted"
                )));
            }
            let record = access
                .next_value_seed(TensorVisitor { name: &name })
                .map_err(|error| A::Error::custom(format!("tensor {}: {error}", quoted(&name))))?;
            tensors.push(record);
        }
        Ok((tensors, metadata))
    }
}

/// Walks `__metadata__`, whose values must be strings.
struct MetadataVisitor;

impl<'de> DeserializeSeed<'de> for MetadataVisitor {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut metadata = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, String>()? {
            metadata.insert(key, value);
        }
        Ok(metadata)
    }
}

/// Walks one tensor's object.
struct TensorVisitor<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for TensorVisitor<'_> {
    type Value = TensorRecord;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TensorRecord, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorVisitor<'_> {
    type Value = TensorRecord;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<TensorRecord, A::Error> {
        let (mut element_type, mut shape, mut offsets) = (None, None, None);
        while let Some(field) = access.next_key::<String>()? {
            let twice = match field.as_str() {
                "dtype" => {
                    let name: String = access.next_value()?;
                    let found = ElementType::find(&name).ok_or_else(|| {
                        A::Error::custom(format!("type {} is not supported", quoted(&name)))
                    })?;
                    element_type.replace(found).is_some()
                }
                "shape" => shape.replace(access.next_value_seed(Sizes { most: MAX_RANK })?).is_some(),
                "data_offsets" => offsets.replace(access.next_value_seed(Sizes { most: 2 })?).is_some(),
                _ => return Err(A::Error::custom(format!("the field {} is unknown", quoted(&field)))),
            };
            if twice {
                return Err(A::Error::custom(format!("the field `{field}` occurs twice")));
            }
        }
        let missing = |field| A::Error::custom(format!("the field `{field}` is missing"));
        let element_type = element_type.ok_or_else(|| missing("dtype"))?;
        let shape = shape.ok_or_else(|| missing("shape"))?;
        let offsets = offsets.ok_or_else(|| missing("data_offsets"))?;
        let [start, end] = offsets[..] else {
            return Err(A::Error::custom(format!(
                "data_offsets must be two numbers, found {}",
                offsets.len()
            )));
        };
        Ok(TensorRecord { name: self.name.to_owned(), element_type, shape, data: start..end })
    }
}

/// A short list of sizes or offsets.
struct Sizes {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Sizes {
    type Value = Vec<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<usize>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Sizes {
    type Value = Vec<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {} non-negative whole numbers", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<usize>, A::Error> {
        let mut sizes = Vec::with_capacity(self.most.min(4));
        while let Some(size) = sequence.next_element()? {
            if sizes.len() == self.most {
                return Err(A::Error::invalid_length(self.most + 1, &self));
            }
            sizes.push(size);
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a file with a tensor of type U64, which no weight is, was refused as a whole.
    #[test]
    fn types_that_no_weight_has_are_known_with_their_sizes() {
        for (name, bytes) in [("U64", 8), ("I64", 8), ("F64", 8), ("U32", 4), ("U16", 2), ("BOOL", 1)] {
            let text =
                format!(r#"{{"a":{{"dtype":"{name}","shape":[2],"data_offsets":[0,{}]}}}}"#, 2 * bytes);
            let mut file = (text.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(text.as_bytes());
            file.resize(file.len() + 2 * bytes, 0);
            let header = parse_header(&file).expect(name);
            let element = header.tensor("a").expect("a tensor").element_type;
            assert_eq!((element.name, element.bytes, element.dtype), (name, bytes, None));
        }
    }
}
