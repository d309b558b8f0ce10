//! A bounded reader over the bytes of a GGUF file.
//!
//! It does not know what the bytes mean; it only refuses to read beyond their end.

use crate::errors::FormatError;

/// What is wrong, before the caller adds the place.
#[derive(Debug)]
pub(super) struct Problem(pub(super) String);

/// Adds the place to a problem; the place is only formatted when there is one.
pub(super) trait At<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T, FormatError>;
}

impl<T> At<T> for Result<T, Problem> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T, FormatError> {
        self.map_err(|Problem(problem)| FormatError { place: place(), problem })
    }
}

/// A position in bytes that are not trusted.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

macro_rules! little_endian {
    ($($name:ident: $type:ty),*) => {
        $(pub(super) fn $name(&mut self) -> Result<$type, Problem> {
            Ok(<$type>::from_le_bytes(self.array()?))
        })*
    };
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Problem> {
        let remaining = self.remaining();
        match usize::try_from(count) {
            Ok(count) if count <= remaining => {
                let taken = &self.bytes[self.position..self.position + count];
                self.position += count;
                Ok(taken)
            }
            _ => Err(Problem(format!(
                "needs {count} bytes at offset {}, but only {remaining} are left in the file",
                self.position
            ))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    little_endian!(u8: u8, i8: i8, u16: u16, i16: i16, u32: u32, i32: i32, u64: u64, i64: i64, f32: f32, f64: f64);

    /// A GGUF string: a 64-bit length, then that many bytes, which must be UTF-8.
    pub(super) fn string(&mut self) -> Result<&'a str, Problem> {
        let start = self.position;
        let length = self.u64()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|error| Problem(format!("the string at offset {start} is not UTF-8: {error}")))
    }
}
