//! The bytes of a shard: reading them from an untrusted file, and putting them together.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"ZJTOKENS";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
const DOCUMENT_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
const MAX_METADATA_BYTES: usize = 16 << 20;

/// How many bytes a stored token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWidth {
    /// Two, for vocabularies of at most 65,536 tokens.
    Two,
    /// Four.
    Four,
}

impl TokenWidth {
    /// The narrowest that holds every id of a vocabulary.
    pub fn of_vocabulary(size: u32) -> TokenWidth {
        if size <= 1 << 16 { TokenWidth::Two } else { TokenWidth::Four }
    }

    /// As a number.
    pub fn bytes(self) -> usize {
        match self {
            TokenWidth::Two => 2,
            TokenWidth::Four => 4,
        }
    }
}

/// One document, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentTokens<'a> {
    /// Its tokens, without an end-of-text token; never empty.
    pub tokens: &'a [u32],
    /// Bytes of its text.
    pub bytes: u64,
    /// Characters of its text.
    pub characters: u64,
    /// A hash of its contents: equal documents have equal hashes, and go to the same side of the validation split.
    pub content_hash: u64,
}

/// What a shard says about itself in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMetadata {
    /// Where the text comes from, as its user named it.
    pub source: String,
    /// The licence of the text, as its user named it; empty where nobody said.
    pub licence: String,
    /// What a resumed run must know; empty in shards that were not made from files.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub progress: serde_json::Value,
}

/// A shard's contents, over any bytes.
#[derive(Debug)]
pub struct Shard<B> {
    bytes: B,
    width: TokenWidth,
    documents: usize,
    tokens: usize,
    vocabulary_size: u32,
    metadata: ShardMetadata,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// The little-endian number at `offset`; the caller has checked the length.
    fn u32(&self, offset: usize) -> u32 {
        self.0.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn u64(&self, offset: usize) -> u64 {
        self.0.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
}

/// Reads a shard's header, document table and metadata, and checks that they hold together and fit the length; tokens are
/// not read (see [`Shard::verify`]).
///
/// Safe on hostile bytes: nothing is allocated but the metadata, which is bounded.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_shard<B: AsRef<[u8]>>(bytes: B) -> Result<Shard<B>, String> {
    let all = bytes.as_ref();
    if all.len() < HEADER_BYTES + DIGEST_BYTES {
        return Err(format!("it has {} bytes, fewer than a header and a checksum", all.len()));
    }
    if &all[..8] != MAGIC {
        return Err("it does not begin with ZJTOKENS".to_owned());
    }
    let header = Reader(all);
    let version = header.u32(8);
    if version != VERSION {
        return Err(format!("its format has the version {version}; this program reads {VERSION}"));
    }
    let width = match header.u32(12) {
        2 => TokenWidth::Two,
        4 => TokenWidth::Four,
        other => return Err(format!("its tokens have {other} bytes; 2 or 4 is possible")),
    };
    if all[44..HEADER_BYTES].iter().any(|&byte| byte != 0) {
        return Err("bytes 44 to 63 of its header are not zero".to_owned());
    }
    let too_large = || "its header counts more than any file can hold".to_owned();
    let count = |offset| usize::try_from(header.u64(offset)).map_err(|_| too_large());
    let (documents, tokens, metadata_bytes) = (count(16)?, count(24)?, count(32)?);
    let table = documents.checked_mul(DOCUMENT_BYTES).ok_or_else(too_large)?;
    let ids = tokens.checked_mul(width.bytes()).ok_or_else(too_large)?;
    let expected = [table, ids, metadata_bytes, DIGEST_BYTES]
        .iter()
        .try_fold(HEADER_BYTES, |sum, part| sum.checked_add(*part))
        .ok_or_else(too_large)?;
    if expected != all.len() {
        return Err(format!("it has {} bytes, and its header says {expected}", all.len()));
    }
    if metadata_bytes > MAX_METADATA_BYTES {
        return Err(format!("its metadata has {metadata_bytes} bytes; at most {MAX_METADATA_BYTES} is read"));
    }
    let metadata = serde_json::from_slice(&all[HEADER_BYTES + table + ids..all.len() - DIGEST_BYTES])
        .map_err(|error| format!("its metadata cannot be read: {error}"))?;
    let vocabulary_size = header.u32(40);
    if TokenWidth::of_vocabulary(vocabulary_size) != width {
        return Err(format!(
            "{} bytes a token do not go with a vocabulary of {vocabulary_size}",
            width.bytes()
        ));
    }
    let shard = Shard { bytes, width, documents, tokens, vocabulary_size, metadata };
    shard.check_table()?;
    Ok(shard)
}

impl<B: AsRef<[u8]>> Shard<B> {
    fn check_table(&self) -> Result<(), String> {
        let mut previous = (0, 0, 0);
        for document in 0..self.documents {
            let ends = (self.entry(document, 0), self.entry(document, 1), self.entry(document, 2));
            if ends.0 <= previous.0 || ends.1 < previous.1 || ends.2 < previous.2 {
                return Err(format!("document {document} ends before it begins, or is empty"));
            }
            previous = ends;
        }
        if previous.0 != self.tokens as u64 {
            return Err(format!(
                "its documents have {} tokens, and its header says {}",
                previous.0, self.tokens
            ));
        }
        Ok(())
    }

    /// Where the contents come from.
    pub(super) fn source(&self) -> &B {
        &self.bytes
    }

    /// A field of the document table: 0 tokens' end, 1 bytes' end, 2 characters' end, 3 hash.
    fn entry(&self, document: usize, field: usize) -> u64 {
        Reader(self.bytes.as_ref()).u64(HEADER_BYTES + document * DOCUMENT_BYTES + field * 8)
    }

    fn span(&self, document: usize, field: usize) -> Range<u64> {
        let start = if document == 0 { 0 } else { self.entry(document - 1, field) };
        start..self.entry(document, field)
    }

    /// Documents in the shard.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes of all documents' text.
    pub fn text_bytes(&self) -> u64 {
        self.documents.checked_sub(1).map_or(0, |last| self.entry(last, 1))
    }

    /// Characters of all documents' text.
    pub fn text_characters(&self) -> u64 {
        self.documents.checked_sub(1).map_or(0, |last| self.entry(last, 2))
    }

    /// Every token is below this number.
    pub fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// What the shard says about itself.
    pub fn metadata(&self) -> &ShardMetadata {
        &self.metadata
    }

    /// The checksum that the shard carries, as hexadecimal digits.
    pub fn digest(&self) -> String {
        let all = self.bytes.as_ref();
        crate::files::hexadecimal(&all[all.len() - DIGEST_BYTES..])
    }

    /// Number of tokens of a document (below [`Shard::documents`]).
    pub fn document_tokens(&self, document: usize) -> u64 {
        let span = self.span(document, 0);
        span.end - span.start
    }

    /// Bytes and characters of a document's text.
    pub fn document_text(&self, document: usize) -> (u64, u64) {
        let (bytes, characters) = (self.span(document, 1), self.span(document, 2));
        (bytes.end - bytes.start, characters.end - characters.start)
    }

    /// The hash of a document's contents.
    pub fn content_hash(&self, document: usize) -> u64 {
        self.entry(document, 3)
    }

    /// Appends the tokens `range` (counted in the document) of a document to `tokens`.
    ///
    /// # Errors
    /// A range outside the document, or a token outside the vocabulary, which means that the file has been changed.
    pub fn read_tokens(
        &self,
        document: usize,
        range: Range<u64>,
        tokens: &mut Vec<u32>,
    ) -> Result<(), String> {
        if document >= self.documents || range.start > range.end || range.end > self.document_tokens(document)
        {
            return Err(format!("document {document} has no tokens {} to {}", range.start, range.end));
        }
        let start = self.span(document, 0).start;
        let ids = self.ids((start + range.start) as usize..(start + range.end) as usize);
        let first = tokens.len();
        match self.width {
            TokenWidth::Two => {
                tokens.extend(ids.chunks_exact(2).map(|id| u32::from(u16::from_le_bytes([id[0], id[1]]))));
            }
            TokenWidth::Four => {
                tokens.extend(ids.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])));
            }
        }
        match tokens[first..].iter().find(|&&id| id >= self.vocabulary_size) {
            Some(id) => Err(format!(
                "document {document} holds the token {id}, outside its vocabulary of {}",
                self.vocabulary_size
            )),
            None => Ok(()),
        }
    }

    fn ids(&self, range: Range<usize>) -> &[u8] {
        let start = HEADER_BYTES + self.documents * DOCUMENT_BYTES;
        let width = self.width.bytes();
        &self.bytes.as_ref()[start + range.start * width..start + range.end * width]
    }

    /// Reads the whole shard once: its checksum, and every token against the vocabulary.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn verify(&self) -> Result<(), String> {
        let all = self.bytes.as_ref();
        let (contents, digest) = all.split_at(all.len() - DIGEST_BYTES);
        if Sha256::digest(contents).as_slice() != digest {
            return Err("its contents do not have its checksum".to_owned());
        }
        let mut tokens = Vec::new();
        for document in 0..self.documents {
            tokens.clear();
            self.read_tokens(document, 0..self.document_tokens(document), &mut tokens)?;
        }
        Ok(())
    }
}

/// The parts of a shard's file: header, document table, metadata and checksum; tokens go between table and metadata.
pub(super) struct Assembled {
    pub(super) header: Vec<u8>,
    pub(super) metadata: Vec<u8>,
    pub(super) digest: [u8; 32],
}

/// Puts a shard together. `table` holds four numbers for each document, `tokens` the stored ids.
pub(super) fn assemble(
    table: &[[u64; 4]],
    tokens: &[u8],
    vocabulary_size: u32,
    metadata: &ShardMetadata,
) -> Result<Assembled, String> {
    let width = TokenWidth::of_vocabulary(vocabulary_size);
    let metadata = serde_json::to_vec(metadata).map_err(|error| error.to_string())?;
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(format!("the shard's metadata has {} bytes, over {MAX_METADATA_BYTES}", metadata.len()));
    }
    let mut header = Vec::with_capacity(HEADER_BYTES + table.len() * DOCUMENT_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(width.bytes() as u32).to_le_bytes());
    for count in [table.len(), tokens.len() / width.bytes(), metadata.len()] {
        header.extend_from_slice(&(count as u64).to_le_bytes());
    }
    header.extend_from_slice(&vocabulary_size.to_le_bytes());
    header.resize(HEADER_BYTES, 0);
    header.extend(table.iter().flatten().flat_map(|number| number.to_le_bytes()));
    let mut digest = Sha256::new();
    for part in [&header[..], tokens, &metadata[..]] {
        digest.update(part);
    }
    Ok(Assembled { header, metadata, digest: digest.finalize().into() })
}
