//! A folder of shards, the tokenizer that made them, and the list that holds them together.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zhenjin_files::{Mapping, write_whole};

use super::format::{Shard, parse_shard};
use crate::CorpusError;
use crate::files::{hexadecimal, read_bounded, sha256_text};

/// The list's name in the folder; it is written last, so that a folder without it is unfinished.
pub const MANIFEST_FILE: &str = "corpus.json";
const FORMAT: u32 = 1;
const MAX_MANIFEST_BYTES: u64 = 256 << 20;
/// More than any vocabulary has.
const MAX_VOCABULARY_SIZE: usize = 4 << 20;

/// What all shards of a folder have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSetDescription {
    /// SHA-256 of the tokenizer's `tokenizer.json`, in hexadecimal digits.
    pub tokenizer_hash: String,
    /// The token that follows a document.
    pub end_of_text: u32,
    /// Bytes of text that each token stands for, in order of ids; 0 for control tokens. Its length is the vocabulary's size.
    pub token_bytes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    tokenizer: ShardSetDescription,
    shards: Vec<ShardEntry>,
    /// How the shards were made, for the program that made them; this file does not read it.
    #[serde(default)]
    origin: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardEntry {
    file: String,
    documents: u64,
    tokens: u64,
    /// The shard's own checksum.
    sha256: String,
}

/// A folder of shards, mapped into memory.
#[derive(Debug)]
pub struct ShardSet {
    folder: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard<Mapping>>,
    /// `first_documents[i]` documents lie in shards before shard `i`.
    first_documents: Vec<u64>,
    documents: u64,
    tokens: u64,
}

impl ShardSet {
    /// Opens a finished folder: reads its list and every shard's header and document table, and checks that they fit
    /// together. Tokens are checked when they are read, checksums by [`ShardSet::verify`].
    ///
    /// # Errors
    /// [`CorpusError::Io`] when something is missing, [`CorpusError::Manifest`] and [`CorpusError::Shard`] when something
    /// is damaged.
    pub fn open(folder: &Path) -> Result<ShardSet, CorpusError> {
        let path = folder.join(MANIFEST_FILE);
        let manifest = read_manifest(&path)?;
        let mut shards = Vec::with_capacity(manifest.shards.len());
        let mut first_documents = Vec::with_capacity(manifest.shards.len());
        let (mut documents, mut tokens) = (0u64, 0u64);
        for entry in &manifest.shards {
            if entry.file.is_empty() || entry.file.contains(['/', '\\']) || entry.file.starts_with('.') {
                let reason = format!("the shard `{}` is not a file in its folder", entry.file);
                return Err(CorpusError::Manifest { path, reason });
            }
            let shard = open_shard(&folder.join(&entry.file), entry, &manifest.tokenizer)?;
            first_documents.push(documents);
            // Each shard lies in memory, so that the sums stay far below what 64 bits hold.
            documents += shard.documents() as u64;
            tokens += shard.tokens() as u64;
            shards.push(shard);
        }
        Ok(ShardSet { folder: folder.to_owned(), manifest, shards, first_documents, documents, tokens })
    }

    /// Writes the list of a folder's shards, after which [`ShardSet::open`] finds them. `shards` are file names in `folder`,
    /// in order.
    ///
    /// # Errors
    /// [`CorpusError::Io`], or [`CorpusError::Shard`] when one of them is damaged or from another tokenizer.
    pub fn finish(
        folder: &Path,
        description: ShardSetDescription,
        shards: &[String],
        origin: serde_json::Value,
    ) -> Result<(), CorpusError> {
        let mut entries = Vec::with_capacity(shards.len());
        for file in shards {
            let path = folder.join(file);
            let shard = parse_shard(Mapping::open(&path)?)
                .map_err(|reason| CorpusError::Shard { path: path.clone(), reason })?;
            let entry = ShardEntry {
                file: file.clone(),
                documents: shard.documents() as u64,
                tokens: shard.tokens() as u64,
                sha256: shard.digest(),
            };
            check_shard(&path, &shard, &entry, &description)?;
            entries.push(entry);
        }
        let manifest = Manifest { format: FORMAT, tokenizer: description, shards: entries, origin };
        let path = folder.join(MANIFEST_FILE);
        let text = serde_json::to_vec(&manifest)
            .map_err(|error| CorpusError::Manifest { path: path.clone(), reason: error.to_string() })?;
        Ok(write_whole(&path, &[&text, b"\n"])?)
    }

    /// Reads everything once: checksums, and every token against the vocabulary.
    ///
    /// # Errors
    /// [`CorpusError::Shard`] names the first damaged file.
    pub fn verify(&self) -> Result<(), CorpusError> {
        for (shard, entry) in self.shards.iter().zip(&self.manifest.shards) {
            shard.verify().map_err(|reason| self.shard_error(entry, reason))?;
        }
        Ok(())
    }

    /// The folder that was opened; beside the shards it holds the tokenizer's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = &Shard<impl AsRef<[u8]>>> {
        self.shards.iter()
    }

    /// Documents of all shards.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Tokens of all shards.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Bytes of all documents' text.
    pub fn text_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::text_bytes).sum()
    }

    /// Characters of all documents' text.
    pub fn text_characters(&self) -> u64 {
        self.shards.iter().map(Shard::text_characters).sum()
    }

    /// SHA-256 of the `tokenizer.json` that made the tokens.
    pub fn tokenizer_hash(&self) -> &str {
        &self.manifest.tokenizer.tokenizer_hash
    }

    /// Every token is below this number.
    pub fn vocabulary_size(&self) -> u32 {
        self.manifest.tokenizer.token_bytes.len() as u32
    }

    /// The token that follows every document.
    pub fn end_of_text(&self) -> u32 {
        self.manifest.tokenizer.end_of_text
    }

    /// Bytes of text that a token stands for; 0 for control tokens.
    pub fn token_bytes(&self, token: u32) -> u64 {
        self.manifest.tokenizer.token_bytes.get(token as usize).copied().unwrap_or(0).into()
    }

    /// How the shards were made, as the program that made them wrote it.
    pub fn origin(&self) -> &serde_json::Value {
        &self.manifest.origin
    }

    /// A hash of the data: it changes when any token, the order of documents or the tokenizer changes.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.manifest.tokenizer.tokenizer_hash.as_bytes());
        hash.update(self.end_of_text().to_le_bytes());
        for entry in &self.manifest.shards {
            hash.update(entry.sha256.as_bytes());
        }
        hexadecimal(&hash.finalize())
    }

    /// Checks that the set's tokens are those of a tokenizer and fit a model.
    ///
    /// # Errors
    /// [`CorpusError::Manifest`] says which of the two does not fit, and both numbers.
    pub fn check_fit(&self, tokenizer_json: &[u8], model_vocabulary: usize) -> Result<(), CorpusError> {
        let error = |reason| Err(CorpusError::Manifest { path: self.folder.join(MANIFEST_FILE), reason });
        let hash = sha256_text(tokenizer_json);
        if hash != self.tokenizer_hash() {
            return error(format!(
                "its tokens were made by another tokenizer: SHA-256 {} there, {hash} here; tokenise the text again",
                self.tokenizer_hash()
            ));
        }
        if self.vocabulary_size() as usize > model_vocabulary {
            return error(format!(
                "its vocabulary has {} tokens, and the model's only {model_vocabulary}; \
                 give the model as many or tokenise with a smaller tokenizer",
                self.vocabulary_size()
            ));
        }
        Ok(())
    }

    /// The shard that holds a document (below [`ShardSet::documents`]) and its number there.
    fn place(&self, document: u64) -> Option<(usize, usize)> {
        let shard = self.first_documents.partition_point(|&first| first <= document).checked_sub(1)?;
        let inside = (document - self.first_documents[shard]) as usize;
        (inside < self.shards[shard].documents()).then_some((shard, inside))
    }

    /// Tokens of a document; 0 for one that does not exist.
    pub fn document_tokens(&self, document: u64) -> u64 {
        self.place(document).map_or(0, |(shard, inside)| self.shards[shard].document_tokens(inside))
    }

    /// The hash of a document's contents.
    pub fn content_hash(&self, document: u64) -> u64 {
        self.place(document).map_or(0, |(shard, inside)| self.shards[shard].content_hash(inside))
    }

    /// Appends the tokens `range` of a document to `tokens`.
    ///
    /// # Errors
    /// [`CorpusError::Shard`] when there are none, or when the file has been changed.
    pub fn read_tokens(
        &self,
        document: u64,
        range: std::ops::Range<u64>,
        tokens: &mut Vec<u32>,
    ) -> Result<(), CorpusError> {
        let Some((shard, inside)) = self.place(document) else {
            let reason = format!("there is no document {document} of {}", self.documents);
            return Err(CorpusError::Manifest { path: self.folder.join(MANIFEST_FILE), reason });
        };
        self.shards[shard]
            .read_tokens(inside, range, tokens)
            .map_err(|reason| self.shard_error(&self.manifest.shards[shard], reason))
    }

    /// Gives back the memory of the pages that were read; they are read from the file again when they are needed.
    pub(crate) fn release(&self) {
        for shard in &self.shards {
            let mapping = shard.source();
            mapping.release(0..mapping.as_ref().len());
        }
    }

    fn shard_error(&self, entry: &ShardEntry, reason: String) -> CorpusError {
        CorpusError::Shard { path: self.folder.join(&entry.file), reason }
    }
}

/// How a folder's shards were made, as its list says it, whether or not they are there and undamaged.
///
/// # Errors
/// [`CorpusError::Io`] and [`CorpusError::Manifest`] when the list cannot be read.
pub(crate) fn read_origin(folder: &Path) -> Result<serde_json::Value, CorpusError> {
    Ok(read_manifest(&folder.join(MANIFEST_FILE))?.origin)
}

fn read_manifest(path: &Path) -> Result<Manifest, CorpusError> {
    parse_manifest(&read_bounded(path, MAX_MANIFEST_BYTES)?)
        .map_err(|reason| CorpusError::Manifest { path: path.to_owned(), reason })
}

/// Checks a folder's list of shards by itself.
///
/// # Errors
/// What is wrong, in words.
pub fn check_manifest(bytes: &[u8]) -> Result<(), String> {
    parse_manifest(bytes).map(drop)
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest, String> {
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not a list of token shards: {error}"))?;
    if manifest.format != FORMAT {
        return Err(format!("its format is {}; this program reads {FORMAT}", manifest.format));
    }
    let size = manifest.tokenizer.token_bytes.len();
    if size == 0 || size > MAX_VOCABULARY_SIZE || manifest.tokenizer.end_of_text as usize >= size {
        return Err(format!(
            "a vocabulary of {size} tokens with the end of text {} cannot be",
            manifest.tokenizer.end_of_text
        ));
    }
    Ok(manifest)
}

fn open_shard(
    path: &Path,
    entry: &ShardEntry,
    description: &ShardSetDescription,
) -> Result<Shard<Mapping>, CorpusError> {
    let shard = parse_shard(Mapping::open(path)?)
        .map_err(|reason| CorpusError::Shard { path: path.to_owned(), reason })?;
    check_shard(path, &shard, entry, description)?;
    Ok(shard)
}

fn check_shard(
    path: &Path,
    shard: &Shard<Mapping>,
    entry: &ShardEntry,
    description: &ShardSetDescription,
) -> Result<(), CorpusError> {
    let bad = |reason| Err(CorpusError::Shard { path: path.to_owned(), reason });
    if shard.vocabulary_size() as usize != description.token_bytes.len() {
        return bad(format!(
            "it was made for a vocabulary of {}, the others for {}",
            shard.vocabulary_size(),
            description.token_bytes.len()
        ));
    }
    let counts = (shard.documents() as u64, shard.tokens() as u64, shard.digest());
    if counts != (entry.documents, entry.tokens, entry.sha256.clone()) {
        return bad("it is not the file that the folder's list names".to_owned());
    }
    Ok(())
}
