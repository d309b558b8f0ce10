//! GGUF files, versions 2 and 3, little endian.
//!
//! Nothing in the bytes is trusted: every count is compared with what the rest of the file could hold before anything is
//! allocated, and what is kept in memory are places in the file, not copies. Format:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod tensors;
mod value;

use std::ops::Range;

use zhenjin_tensor::Dtype;

use crate::errors::{FormatError, quoted};
use cursor::{At, Cursor, Problem};
pub use tensors::MAX_RANK;
use tensors::TensorRecord;
pub(crate) use tensors::type_number;
pub use value::{Array, MAX_ARRAY_DEPTH, Value, ValueType};

/// The most metadata entries that a file may have. Real files have fewer than 100.
pub const MAX_METADATA_ENTRIES: u64 = 1 << 16;

/// The most tensors that a file may have. Real files have fewer than 10,000.
pub const MAX_TENSORS: u64 = 1 << 16;

/// The most elements of an array that is read as a whole. Llama 3, the largest supported, has 280,147 merges.
pub const MAX_ELEMENTS: usize = 1 << 19;

/// The longest metadata key in bytes, by the specification.
const MAX_KEY_BYTES: usize = 65_535;

/// Alignment of the data section where `general.alignment` does not say otherwise.
const DEFAULT_ALIGNMENT: usize = 32;

/// The largest alignment that is accepted.
const MAX_ALIGNMENT: u64 = 1 << 16;

/// The fewest bytes of a metadata entry: key length, one byte of key, value type and one byte of value.
const MIN_METADATA_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// A parsed GGUF file over its bytes, which may be a slice or a memory map.
#[derive(Debug)]
pub struct Gguf<B> {
    bytes: B,
    version: u32,
    metadata: Vec<MetadataRecord>,
    metadata_by_key: Vec<u32>,
    tensors: Vec<TensorRecord>,
    tensors_by_name: Vec<u32>,
}

#[derive(Debug)]
struct MetadataRecord {
    key: Range<usize>,
    value_type: ValueType,
    value: Range<usize>,
}

/// A view of one tensor of a GGUF file.
#[derive(Debug, Clone, Copy)]
pub struct GgufTensor<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// The type of the elements.
    pub dtype: Dtype,
    /// Outermost dimension first: `[rows, columns]` for a matrix.
    pub shape: &'a [usize],
    /// The data, whole blocks of `dtype`, row after row.
    pub bytes: &'a [u8],
    /// Offset of the data in the file.
    pub offset: usize,
}

/// Parses and checks a whole GGUF file.
///
/// # Errors
/// [`FormatError`] naming the section, metadata key or tensor for anything that is cut off, out of bounds, duplicated,
/// overlapping, of an unknown type or beyond the limits of this module.
pub fn parse<B: AsRef<[u8]>>(bytes: B) -> Result<Gguf<B>, FormatError> {
    let mut cursor = Cursor::new(bytes.as_ref());
    let header = read_header(&mut cursor)?;
    let mut metadata = Vec::with_capacity(header.metadata_entries);
    for index in 0..header.metadata_entries {
        metadata.push(read_metadata(&mut cursor, index)?);
    }
    let metadata_by_key = sorted_index(bytes.as_ref(), metadata.iter().map(|record| &record.key))
        .map_err(|key| FormatError::new(format!("metadata {key}"), "the key occurs twice"))?;
    let mut gguf = Gguf {
        version: header.version,
        metadata,
        metadata_by_key,
        tensors: Vec::new(),
        tensors_by_name: Vec::new(),
        bytes,
    };

    let alignment = gguf.alignment()?;
    let mut cursor = Cursor::new(gguf.bytes.as_ref());
    let metadata_end = gguf.metadata.last().map_or(HEADER_BYTES, |record| record.value.end);
    cursor.take(metadata_end as u64).at(|| "metadata".to_owned())?;
    let mut tensors = Vec::with_capacity(header.tensors);
    for index in 0..header.tensors {
        tensors.push(tensors::read_record(&mut cursor, index as u64, alignment)?);
    }
    let data_start = cursor.position().next_multiple_of(alignment);
    tensors::locate(gguf.bytes.as_ref(), &mut tensors, data_start)?;
    gguf.tensors_by_name = sorted_index(gguf.bytes.as_ref(), tensors.iter().map(|record| &record.name))
        .map_err(|name| FormatError::new(format!("tensor {name}"), "the name occurs twice"))?;
    gguf.tensors = tensors;
    Ok(gguf)
}

const HEADER_BYTES: usize = 4 + 4 + 8 + 8;

struct Header {
    version: u32,
    tensors: usize,
    metadata_entries: usize,
}

fn read_header(cursor: &mut Cursor<'_>) -> Result<Header, FormatError> {
    let place = || "header".to_owned();
    let magic = cursor.take(4).at(place)?;
    if magic != b"GGUF" {
        return Err(FormatError::new(
            "header",
            format!(
                "the file does not begin with `GGUF` but with {}",
                quoted(&String::from_utf8_lossy(magic))
            ),
        ));
    }
    let version = cursor.u32().at(place)?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Err(FormatError::new(
                "header",
                "the file is big-endian; only little-endian files are supported",
            ));
        }
        _ => {
            return Err(FormatError::new(
                "header",
                format!("GGUF version {version} is not supported; supported are versions 2 and 3"),
            ));
        }
    }
    let tensors = cursor.u64().at(place)?;
    let metadata_entries = cursor.u64().at(place)?;
    let remaining = cursor.remaining();
    let limits = [
        ("tensors", tensors, MAX_TENSORS, tensors::MIN_ENTRY_BYTES),
        ("metadata entries", metadata_entries, MAX_METADATA_ENTRIES, MIN_METADATA_ENTRY_BYTES),
    ];
    for (what, count, most, bytes) in limits {
        if count > most {
            return Err(FormatError::new(
                "header",
                format!("claims {count} {what}; the most that is accepted is {most}"),
            ));
        }
        if count > remaining as u64 / bytes {
            return Err(FormatError::new(
                "header",
                format!("claims {count} {what}, more than the {remaining} bytes after it can hold"),
            ));
        }
    }
    // Both fit: they were compared with the limits above.
    Ok(Header { version, tensors: tensors as usize, metadata_entries: metadata_entries as usize })
}

fn read_metadata(cursor: &mut Cursor<'_>, index: usize) -> Result<MetadataRecord, FormatError> {
    let key = cursor.string().at(|| format!("key of metadata entry {index}"))?;
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(FormatError::new(
            format!("key of metadata entry {index}"),
            format!("must have 1 to {MAX_KEY_BYTES} bytes, found {}", key.len()),
        ));
    }
    let key_range = cursor.position() - key.len()..cursor.position();
    let place = || format!("metadata {}", quoted(key));
    let value_type = ValueType::read(cursor).at(place)?;
    let start = cursor.position();
    value::check_value(cursor, value_type, 0).at(place)?;
    Ok(MetadataRecord { key: key_range, value_type, value: start..cursor.position() })
}

/// The order of the named records by name, or the first name that occurs twice.
fn sorted_index<'a>(bytes: &[u8], names: impl Iterator<Item = &'a Range<usize>>) -> Result<Vec<u32>, String> {
    let names: Vec<&Range<usize>> = names.collect();
    let name = |index: u32| &bytes[names[index as usize].clone()];
    let mut order: Vec<u32> = (0..).take(names.len()).collect();
    order.sort_unstable_by_key(|index| name(*index));
    match order.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        None => Ok(order),
        Some(pair) => Err(quoted(&String::from_utf8_lossy(name(pair[0])))),
    }
}

impl<B: AsRef<[u8]>> Gguf<B> {
    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The bytes that were parsed.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    /// All metadata in the file's order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.metadata.iter().filter_map(|record| Some((self.text(&record.key), self.view(record).ok()?)))
    }

    /// All metadata in the file's order as the file spells them, for a writer that passes them on: type and bytes.
    pub fn spelled(&self) -> impl Iterator<Item = (&str, ValueType, &[u8])> {
        let bytes = self.bytes.as_ref();
        self.metadata
            .iter()
            .map(|record| (self.text(&record.key), record.value_type, &bytes[record.value.clone()]))
    }

    /// The value of one key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let place = self
            .metadata_by_key
            .binary_search_by_key(&key, |index| self.text(&self.metadata[*index as usize].key))
            .ok()?;
        self.view(&self.metadata[self.metadata_by_key[place] as usize]).ok()
    }

    /// All tensors in the directory's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = GgufTensor<'_>> {
        self.tensors.iter().map(|record| self.tensor_view(record))
    }

    /// One tensor by its name in the file.
    pub fn tensor(&self, name: &str) -> Option<GgufTensor<'_>> {
        let place = self
            .tensors_by_name
            .binary_search_by_key(&name, |index| self.text(&self.tensors[*index as usize].name))
            .ok()?;
        Some(self.tensor_view(&self.tensors[self.tensors_by_name[place] as usize]))
    }

    /// An unsigned integer of any width that fits.
    ///
    /// # Errors
    /// The value has another type, or is negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(value)),
            Some(Value::Signed(value)) => u64::try_from(value).map(Some).map_err(|_| {
                FormatError::new(format!("metadata `{key}`"), format!("must not be negative, found {value}"))
            }),
            Some(other) => Err(wrong_type(key, "an unsigned integer", other)),
        }
    }

    /// A floating-point number; integers are not accepted.
    ///
    /// # Errors
    /// The value has another type.
    pub fn float(&self, key: &str) -> Result<Option<f64>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(key, "a floating-point number", other)),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// The value has another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(key, "a bool", other)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// The value has another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(key, "a string", other)),
        }
    }

    /// An array.
    ///
    /// # Errors
    /// The value has another type.
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(key, "an array", other)),
        }
    }

    /// An array of strings, without copying them.
    ///
    /// # Errors
    /// The value has another type, or more than [`MAX_ELEMENTS`] elements.
    pub fn strings(&self, key: &str) -> Result<Option<impl Iterator<Item = &str>>, FormatError> {
        let Some(array) = self.array(key)? else { return Ok(None) };
        if array.element != ValueType::String {
            return Err(wrong_element(key, "strings", array));
        }
        if array.count > MAX_ELEMENTS {
            let problem =
                format!("has {} elements; the most that is accepted is {MAX_ELEMENTS}", array.count);
            return Err(FormatError::new(format!("metadata `{key}`"), problem));
        }
        Ok(Some(array.iter().filter_map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })))
    }

    /// An array of integers of any width that fit into 64 signed bits.
    ///
    /// # Errors
    /// The value or an element has another type, or there are more than [`MAX_ELEMENTS`] elements.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, FormatError> {
        self.numbers(key, "integers", |value| match value {
            Value::Unsigned(number) => i64::try_from(number).ok(),
            Value::Signed(number) => Some(number),
            _ => None,
        })
    }

    /// An array of floating-point numbers.
    ///
    /// # Errors
    /// The value or an element has another type, or there are more than [`MAX_ELEMENTS`] elements.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, FormatError> {
        self.numbers(key, "floating-point numbers", |value| match value {
            Value::Float(number) => Some(number as f32),
            _ => None,
        })
    }

    fn numbers<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(Value<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, FormatError> {
        let Some(array) = self.array(key)? else { return Ok(None) };
        if array.count > MAX_ELEMENTS {
            let problem =
                format!("has {} elements; the most that is accepted is {MAX_ELEMENTS}", array.count);
            return Err(FormatError::new(format!("metadata `{key}`"), problem));
        }
        let numbers: Vec<T> = array.iter().map_while(read).collect();
        if numbers.len() == array.count {
            Ok(Some(numbers))
        } else {
            Err(wrong_element(key, expected, array))
        }
    }

    fn alignment(&self) -> Result<usize, FormatError> {
        const KEY: &str = "general.alignment";
        match self.unsigned(KEY)? {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(value) if value.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&value) => {
                Ok(value as usize)
            }
            Some(value) => Err(FormatError::new(
                format!("metadata `{KEY}`"),
                format!("must be a power of two from 8 to {MAX_ALIGNMENT}, found {value}"),
            )),
        }
    }

    /// Text whose UTF-8 was checked by [`parse`]; empty if the file has been overwritten since.
    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes.as_ref()[range.clone()]).unwrap_or_default()
    }

    fn view(&self, record: &MetadataRecord) -> Result<Value<'_>, Problem> {
        Value::decode(record.value_type, &self.bytes.as_ref()[record.value.clone()])
    }

    fn tensor_view<'a>(&'a self, record: &'a TensorRecord) -> GgufTensor<'a> {
        GgufTensor {
            name: self.text(&record.name),
            dtype: record.dtype,
            shape: record.shape(),
            bytes: &self.bytes.as_ref()[record.data.clone()],
            offset: record.data.start,
        }
    }
}

fn wrong_element(key: &str, expected: &str, found: Array<'_>) -> FormatError {
    FormatError::new(
        format!("metadata `{key}`"),
        format!("must be an array of {expected}, found an array of {}", found.element.name()),
    )
}

fn wrong_type(key: &str, expected: &str, found: Value<'_>) -> FormatError {
    FormatError::new(format!("metadata `{key}`"), format!("must be {expected}, found {}", found.kind()))
}
