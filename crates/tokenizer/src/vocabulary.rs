//! The bytes of every token, in one block of memory, and which tokens are control tokens.
//! This file does not know how text becomes ids.

use crate::{TokenizerError, byte_level};

/// Larger than any published vocabulary (the largest have about 260,000 tokens).
pub(crate) const MAX_VOCABULARY_SIZE: usize = 4 << 20;
/// Sum of the bytes of all tokens.
const MAX_VOCABULARY_BYTES: usize = 256 << 20;

/// How a vocabulary writes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenAlphabet {
    /// One printable character per byte (GPT-2).
    ByteLevel,
    /// UTF-8 with `▁` for the space and `<0xNN>` for single bytes (SentencePiece).
    SentencePiece,
}

impl TokenAlphabet {
    /// The bytes that an ordinary token stands for.
    pub(crate) fn bytes_of(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level::bytes_of_token(token),
            Self::SentencePiece => match byte_of_fallback_token(token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }

    /// The bytes that a token stands for that is found in texts as it is: its own text, except that decoders of SentencePiece's vocabularies
    /// turn `▁` into spaces wherever it stands (Gemma's runs of spaces are such tokens).
    pub(crate) fn bytes_of_added(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => token.as_bytes().to_vec(),
            Self::SentencePiece => token.replace('▁', " ").into_bytes(),
        }
    }
}

/// The byte that a token such as `<0xE4>` stands for.
pub(crate) fn byte_of_fallback_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_byte { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Bytes and kind of every id.
#[derive(Debug, Default)]
pub(crate) struct TokenTable {
    bytes: Vec<u8>,
    /// `ends[id]` is where the bytes of `id` end and those of `id + 1` begin.
    ends: Vec<u32>,
    special: Vec<bool>,
}

impl TokenTable {
    /// Builds the table from one entry per id.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] beyond the limits of this file.
    pub(crate) fn new(tokens: impl Iterator<Item = (Vec<u8>, bool)>) -> Result<Self, TokenizerError> {
        let mut table = Self::default();
        for (bytes, special) in tokens {
            table.bytes.extend_from_slice(&bytes);
            if table.bytes.len() > MAX_VOCABULARY_BYTES || table.ends.len() >= MAX_VOCABULARY_SIZE {
                return Err(TokenizerError::TooLarge {
                    what: "the vocabulary's text",
                    size: table.bytes.len(),
                    limit: MAX_VOCABULARY_BYTES,
                });
            }
            table.ends.push(table.bytes.len() as u32);
            table.special.push(special);
        }
        table.bytes.shrink_to_fit();
        Ok(table)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.bytes[start..end])
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    pub(crate) fn special_ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len() as u32).filter(|&id| self.is_special(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hexadecimal_digits_make_a_byte_token() {
        assert_eq!(TokenAlphabet::SentencePiece.bytes_of("<0xE4>"), [0xE4]);
        assert_eq!(TokenAlphabet::SentencePiece.bytes_of("<0x+4>"), b"<0x+4>");
        assert_eq!(TokenAlphabet::SentencePiece.bytes_of("<0xE4F>"), b"<0xE4F>");
        assert_eq!(TokenAlphabet::SentencePiece.bytes_of("▁▁a"), b"  a");
    }

    #[test]
    fn added_tokens_are_their_own_text_with_spaces() {
        assert_eq!(TokenAlphabet::SentencePiece.bytes_of_added("▁▁"), b"  ");
        assert_eq!(TokenAlphabet::SentencePiece.bytes_of_added("<0xE4>"), b"<0xE4>");
        assert_eq!(TokenAlphabet::ByteLevel.bytes_of_added("Ġ▁"), "Ġ▁".as_bytes());
    }
}
