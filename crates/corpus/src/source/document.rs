//! A record of a file as a document: checked, put together, and with the hash of its contents.

use sha2::{Digest, Sha256};
use zhenjin_tokenizer::{Specials, Tokenizer};

use super::InputOptions;
use super::records::{Body, Record};

/// A part of a document's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Whether it comes from the format, where control tokens count, and not from the data, where they never do.
    pub is_literal: bool,
}

/// A document's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its parts, in order.
    pub pieces: Vec<Piece>,
    /// The first 64 bits of the SHA-256 of its contents: equal for equal documents.
    pub content_hash: u64,
}

impl Document {
    /// # Errors
    /// Why the record is broken, in words.
    pub(crate) fn of(record: &Record, options: &InputOptions) -> Result<Document, String> {
        let parsed;
        let (pieces, fields) = match &record.body {
            Body::Broken(reason) => return Err(reason.clone()),
            Body::Text(bytes) => (vec![Piece { text: utf8(bytes, record.line)?, is_literal: false }], None),
            Body::Json(line) => {
                parsed = serde_json::from_str(&utf8(line, record.line)?)
                    .map_err(|error| format!("it is not a JSON object: {error}"))?;
                (options.format.fill(&parsed)?, Some(&parsed))
            }
            Body::Row(fields) => (options.format.fill(fields)?, Some(fields)),
        };
        if pieces.iter().filter(|piece| !piece.is_literal).all(|piece| piece.text.trim().is_empty()) {
            return Err("it has no text".to_owned());
        }
        let content_hash = match (&options.identity, fields) {
            (Some(identity), Some(fields)) => hash(&identity.fill(fields)?),
            _ => hash(&pieces),
        };
        Ok(Document { pieces, content_hash })
    }

    /// The document's tokens, without an end of text.
    ///
    /// # Errors
    /// The tokenizer's, in words.
    pub fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, String> {
        let pieces: Vec<(&str, Specials)> = self
            .pieces
            .iter()
            .map(|piece| {
                (piece.text.as_str(), if piece.is_literal { Specials::Parse } else { Specials::AsText })
            })
            .collect();
        tokenizer.encode_pieces(&pieces).map_err(|error| error.to_string())
    }

    /// The stretches of text between control tokens of the format, without empty ones.
    pub fn texts_between(&self, special_tokens: &[String]) -> Vec<String> {
        let mut texts = vec![String::new()];
        for piece in &self.pieces {
            let mut rest = piece.text.as_str();
            while let Some((place, length)) = first_token(rest, special_tokens).filter(|_| piece.is_literal) {
                append(&mut texts, &rest[..place]);
                texts.push(String::new());
                rest = &rest[place + length..];
            }
            append(&mut texts, rest);
        }
        texts.retain(|text| !text.is_empty());
        texts
    }

    /// Bytes of all parts together.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.text.len()).sum()
    }
}

/// Where the first of the tokens begins, the longest of those that begin there, and its length.
fn first_token(text: &str, tokens: &[String]) -> Option<(usize, usize)> {
    let found = tokens.iter().filter_map(|token| text.find(token.as_str()).map(|place| (place, token.len())));
    found.min_by_key(|&(place, length)| (place, std::cmp::Reverse(length)))
}

fn append(texts: &mut [String], text: &str) {
    if let Some(last) = texts.last_mut() {
        last.push_str(text);
    }
}

fn utf8(bytes: &[u8], first_line: u64) -> Result<String, String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = first_line + before.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let column =
                before.len() - before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            Err(format!("it is not UTF-8 text (line {line}, byte {})", column + 1))
        }
    }
}

fn hash(pieces: &[Piece]) -> u64 {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update((piece.text.len() as u64).to_le_bytes());
        hash.update(piece.text.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
