//! Ids → text while they are generated, whole characters only.
//! This file does not know sampling or stop strings.

use crate::{Tokenizer, TokenizerError};

/// What decoding does with control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlText {
    /// They leave no text.
    Hide,
    /// They appear as their names, such as `<|im_end|>`.
    Show,
}

/// Decodes a sequence of ids one at a time. The concatenation of everything returned equals the lossy UTF-8 decoding of
/// all the bytes, however they are split into tokens.
///
/// It continues a text: unlike [`Tokenizer::decode`] it keeps a leading space, which separates words from the prompt.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    control: ControlText,
    utf8: Utf8Stream,
}

impl StreamDecoder {
    /// A decoder at the beginning of a generation.
    pub fn new(tokenizer: &Tokenizer, control: ControlText) -> Self {
        Self { tokenizer: tokenizer.clone(), control, utf8: Utf8Stream::default() }
    }

    /// The characters that `id` completes; empty while a character is unfinished.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] for an id outside the vocabulary; the decoder is unchanged.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        let Some(bytes) = self.tokenizer.token_bytes(id) else {
            return Err(TokenizerError::UnknownToken {
                id,
                vocabulary_size: self.tokenizer.vocabulary_size(),
            });
        };
        if self.control == ControlText::Hide && self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        Ok(self.utf8.push(bytes))
    }

    /// The end of the generation: an unfinished character becomes U+FFFD.
    pub fn finish(self) -> String {
        self.utf8.finish()
    }

    /// Number of bytes of an unfinished character, 0 to 3.
    pub fn pending_bytes(&self) -> usize {
        self.utf8.pending.len()
    }
}

/// Bytes → text with the replacement rule of [`String::from_utf8_lossy`], for input in pieces.
#[derive(Debug, Clone, Default)]
struct Utf8Stream {
    /// The beginning of a character, at most 3 bytes.
    pending: Vec<u8>,
}

impl Utf8Stream {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = invalid;
                    if let Some(length) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[length..];
                        continue;
                    }
                }
            }
            break;
        }
        self.pending = rest.to_vec();
        text
    }

    fn finish(self) -> String {
        if self.pending.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() }
    }
}

/// Lossy UTF-8 without a copy when the bytes are valid.
pub(crate) fn decode_lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that often begin, continue or break characters.
    fn adversarial_bytes() -> impl Strategy<Value = Vec<u8>> {
        let interesting = prop_oneof![
            Just(0xE4u8),
            Just(0xB8),
            Just(0xAD),
            Just(0xF0),
            Just(0x9F),
            Just(0x98),
            Just(0x80),
            Just(0xC3),
            Just(0xED),
            Just(0xA0),
            Just(0xF4),
            Just(0x90),
            Just(0xC0),
            Just(0xFF),
            Just(b'a'),
            any::<u8>(),
        ];
        proptest::collection::vec(interesting, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_split_of_any_bytes_decodes_as_the_whole(
            bytes in adversarial_bytes(),
            cuts in proptest::collection::vec(0usize..60, 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut stream = Utf8Stream::default();
            let mut text = String::new();
            for window in cuts.windows(2) {
                text.push_str(&stream.push(&bytes[window[0]..window[1]]));
                prop_assert!(stream.pending.len() <= 3);
            }
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_split_of_any_text_loses_nothing_and_invents_nothing(text in "\\PC{0,40}", step in 1usize..5) {
            let mut stream = Utf8Stream::default();
            let mut decoded = String::new();
            for piece in text.as_bytes().chunks(step) {
                decoded.push_str(&stream.push(piece));
                prop_assert!(text.starts_with(&decoded));
            }
            prop_assert_eq!(stream.finish(), "");
            prop_assert_eq!(decoded, text);
        }
    }
}
