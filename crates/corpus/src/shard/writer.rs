//! Collecting documents into one shard, and writing it whole or not at all.

use std::path::Path;

use super::format::{DocumentTokens, ShardMetadata, TokenWidth, assemble};
use crate::CorpusError;

/// The documents of one shard, in memory until it is written.
#[derive(Debug)]
pub struct ShardWriter {
    vocabulary_size: u32,
    table: Vec<[u64; 4]>,
    tokens: Vec<u8>,
}

impl ShardWriter {
    /// An empty shard for tokens below `vocabulary_size`.
    pub fn new(vocabulary_size: u32) -> ShardWriter {
        ShardWriter { vocabulary_size, table: Vec::new(), tokens: Vec::new() }
    }

    /// Adds a document.
    ///
    /// # Errors
    /// [`CorpusError::Document`] when it has no token, or one outside the vocabulary; the shard is as it was before.
    pub fn push(&mut self, document: &DocumentTokens<'_>) -> Result<(), CorpusError> {
        if document.tokens.is_empty() {
            return Err(CorpusError::Document("it has no tokens".to_owned()));
        }
        if let Some(id) = document.tokens.iter().find(|&&id| id >= self.vocabulary_size) {
            return Err(CorpusError::Document(format!(
                "it holds the token {id}, outside the vocabulary of {}",
                self.vocabulary_size
            )));
        }
        match TokenWidth::of_vocabulary(self.vocabulary_size) {
            TokenWidth::Two => {
                self.tokens.extend(document.tokens.iter().flat_map(|&id| (id as u16).to_le_bytes()));
            }
            TokenWidth::Four => self.tokens.extend(document.tokens.iter().flat_map(|id| id.to_le_bytes())),
        }
        let [tokens, bytes, characters, _] = self.table.last().copied().unwrap_or_default();
        self.table.push([
            tokens + document.tokens.len() as u64,
            bytes + document.bytes,
            characters + document.characters,
            document.content_hash,
        ]);
        Ok(())
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u64 {
        self.table.last().map_or(0, |ends| ends[0])
    }

    /// Documents so far.
    pub fn documents(&self) -> usize {
        self.table.len()
    }

    /// Writes the shard to `path` (temporary file, fsync, rename, fsync of the folder) and is empty again.
    ///
    /// # Errors
    /// [`CorpusError::Io`]; there is no file at `path` then, or the one that was there before.
    pub fn write(&mut self, path: &Path, metadata: &ShardMetadata) -> Result<(), CorpusError> {
        let shard = assemble(&self.table, &self.tokens, self.vocabulary_size, metadata)
            .map_err(CorpusError::Document)?;
        zhenjin_files::write_whole(path, &[&shard.header, &self.tokens, &shard.metadata, &shard.digest])?;
        self.table.clear();
        self.tokens.clear();
        Ok(())
    }
}
