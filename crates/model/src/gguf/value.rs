//! Metadata values of a GGUF file: their types, how they are skipped and checked, and views of them.
//!
//! Arrays stay in the file's bytes and are decoded while they are walked, so that a vocabulary of any size costs no
//! memory.

use super::cursor::{Cursor, Problem};

/// How deep arrays may lie in arrays. Real files use one level.
pub const MAX_ARRAY_DEPTH: usize = 4;

/// The type of a metadata value, numbered as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueType {
    /// 8 bits, unsigned.
    U8 = 0,
    /// 8 bits, signed.
    I8 = 1,
    /// 16 bits, unsigned.
    U16 = 2,
    /// 16 bits, signed.
    I16 = 3,
    /// 32 bits, unsigned.
    U32 = 4,
    /// 32 bits, signed.
    I32 = 5,
    /// IEEE 754 single precision.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// 64-bit length and UTF-8.
    String = 8,
    /// Element type, 64-bit count, elements.
    Array = 9,
    /// 64 bits, unsigned.
    U64 = 10,
    /// 64 bits, signed.
    I64 = 11,
    /// IEEE 754 double precision.
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<ValueType, Problem> {
        let number = cursor.u32()?;
        ValueType::ALL
            .into_iter()
            .find(|value_type| *value_type as u32 == number)
            .ok_or_else(|| Problem(format!("value type {number} is unknown; the known ones are 0 to 12")))
    }

    /// The bytes of one value, for types whose values are all of one size.
    fn fixed_bytes(self) -> Option<u64> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }
}

/// Moves past one value and checks all that it holds: lengths, UTF-8, booleans, depth.
pub(super) fn check_value(
    cursor: &mut Cursor<'_>,
    value_type: ValueType,
    depth: usize,
) -> Result<(), Problem> {
    match value_type {
        ValueType::Bool => check_bool(cursor.u8()?),
        ValueType::String => cursor.string().map(|_| ()),
        ValueType::Array => check_array(cursor, depth),
        _ => cursor.take(value_type.fixed_bytes().unwrap_or(0)).map(|_| ()),
    }
}

fn check_bool(byte: u8) -> Result<(), Problem> {
    match byte {
        0 | 1 => Ok(()),
        _ => Err(Problem(format!("a bool must be 0 or 1, found {byte}"))),
    }
}

fn check_array(cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Problem> {
    if depth >= MAX_ARRAY_DEPTH {
        return Err(Problem(format!("arrays are nested deeper than {MAX_ARRAY_DEPTH} levels")));
    }
    let element = ValueType::read(cursor)?;
    let count = cursor.u64()?;
    // A string is at least its length, an array at least its type and count.
    let smallest = element.fixed_bytes().unwrap_or(if element == ValueType::String { 8 } else { 12 });
    if count > cursor.remaining() as u64 / smallest {
        return Err(Problem(format!(
            "an array claims {count} elements of type {}, more than the {} bytes left in the file can hold",
            element.name(),
            cursor.remaining()
        )));
    }
    match element {
        ValueType::Bool => {
            for byte in cursor.take(count)? {
                check_bool(*byte)?;
            }
        }
        ValueType::String | ValueType::Array => {
            for index in 0..count {
                check_value(cursor, element, depth + 1)
                    .map_err(|Problem(problem)| Problem(format!("element {index}: {problem}")))?;
            }
        }
        // The product cannot overflow: it was compared with the bytes that are left.
        _ => {
            cursor.take(count * smallest)?;
        }
    }
    Ok(())
}

/// A view of one metadata value.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Any of the unsigned types.
    Unsigned(u64),
    /// Any of the signed types.
    Signed(i64),
    /// Either of the floating-point types; an `f32` is widened.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    String(&'a str),
    /// An array.
    Array(Array<'a>),
}

/// A view of an array that stays in the file's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Array<'a> {
    /// The type of every element.
    pub element: ValueType,
    /// How many elements there are.
    pub count: usize,
    elements: &'a [u8],
}

impl<'a> Value<'a> {
    pub(super) fn decode(value_type: ValueType, bytes: &'a [u8]) -> Result<Value<'a>, Problem> {
        Value::read(&mut Cursor::new(bytes), value_type)
    }

    fn read(cursor: &mut Cursor<'a>, value_type: ValueType) -> Result<Value<'a>, Problem> {
        Ok(match value_type {
            ValueType::U8 => Value::Unsigned(cursor.u8()?.into()),
            ValueType::U16 => Value::Unsigned(cursor.u16()?.into()),
            ValueType::U32 => Value::Unsigned(cursor.u32()?.into()),
            ValueType::U64 => Value::Unsigned(cursor.u64()?),
            ValueType::I8 => Value::Signed(cursor.i8()?.into()),
            ValueType::I16 => Value::Signed(cursor.i16()?.into()),
            ValueType::I32 => Value::Signed(cursor.i32()?.into()),
            ValueType::I64 => Value::Signed(cursor.i64()?),
            ValueType::F32 => Value::Float(cursor.f32()?.into()),
            ValueType::F64 => Value::Float(cursor.f64()?),
            ValueType::Bool => Value::Bool(cursor.u8()? != 0),
            ValueType::String => Value::String(cursor.string()?),
            ValueType::Array => {
                let element = ValueType::read(cursor)?;
                let count = cursor.u64()?;
                let elements = cursor.take(cursor.remaining() as u64)?;
                let count = usize::try_from(count).map_err(|_| Problem(format!("{count} elements")))?;
                Value::Array(Array { element, count, elements })
            }
        })
    }

    /// What the value is, for messages about a wrong type.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Unsigned(_) => "an unsigned integer",
            Value::Signed(_) => "a signed integer",
            Value::Float(_) => "a floating-point number",
            Value::Bool(_) => "a bool",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
        }
    }
}

impl<'a> Array<'a> {
    /// The elements in order, except arrays in arrays, which end the walk: no key of any supported family has them.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.elements);
        let element = self.element;
        (0..self.count).map_while(move |_| {
            if element == ValueType::Array { None } else { Value::read(&mut cursor, element).ok() }
        })
    }
}
