//! What a folder of shards is made from: the hash of every file's contents, the options and the tokenizer.
//!
//! Hashes of contents are remembered with size, times and file number, as version control does it: a file in which none of
//! these has changed is not read again.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{TokenizeOptions, hash_of_texts};
use crate::files::{hexadecimal, read_bounded};
use crate::source::InputFile;
use crate::source::for_each_block;
use crate::{CorpusError, ShardSetDescription};

/// The file that remembers.
const STATE_FILE: &str = "inputs.json";
const MAX_STATE_BYTES: u64 = 1 << 30;

/// A file as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileState {
    pub(super) bytes: u64,
    /// Time of the last change to its contents and to its entry, in nanoseconds, and its number on its disk.
    pub(super) stamps: [i64; 3],
    pub(super) sha256: String,
}

/// A file's name in the list.
pub(super) fn key(input: usize, file: &InputFile) -> String {
    format!("{input}/{}", file.name)
}

/// The state of all files; those that have not changed since the last time are not read.
pub(super) fn hash_inputs(
    folder: &Path,
    inputs: &[Vec<InputFile>],
) -> Result<BTreeMap<String, FileState>, CorpusError> {
    let path = folder.join(STATE_FILE);
    // The file only saves time: one that cannot be read is as good as none.
    let known: BTreeMap<String, FileState> = read_bounded(&path, MAX_STATE_BYTES)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let mut states = BTreeMap::new();
    for (number, file) in
        inputs.iter().enumerate().flat_map(|(number, files)| files.iter().map(move |file| (number, file)))
    {
        let metadata = std::fs::metadata(&file.path).map_err(CorpusError::io(&file.path, "open"))?;
        let (bytes, stamps) = (metadata.len(), stamps(&metadata));
        let key = key(number, file);
        let state = match known.get(&key).filter(|state| state.bytes == bytes && state.stamps == stamps) {
            Some(state) => state.clone(),
            None => FileState { bytes, stamps, sha256: hash(&file.path)? },
        };
        states.insert(key, state);
    }
    if states != known {
        let text = serde_json::to_vec(&states).unwrap_or_default();
        zhenjin_files::write_whole(&path, &[&text])?;
    }
    Ok(states)
}

/// # Errors
/// [`CorpusError::Input`] names a file that was changed while it was read: its tokens may be of both versions.
pub(super) fn check_unchanged(
    inputs: &[Vec<InputFile>],
    states: &BTreeMap<String, FileState>,
) -> Result<(), CorpusError> {
    for (number, file) in
        inputs.iter().enumerate().flat_map(|(number, files)| files.iter().map(move |file| (number, file)))
    {
        let metadata = std::fs::metadata(&file.path).map_err(CorpusError::io(&file.path, "open"))?;
        let now = (metadata.len(), stamps(&metadata));
        if states.get(&key(number, file)).is_none_or(|state| (state.bytes, state.stamps) != now) {
            let reason = "it was changed while it was read; start again when it is finished".to_owned();
            return Err(CorpusError::Input { path: file.path.clone(), reason });
        }
    }
    Ok(())
}

/// A hash of everything on which the shards depend.
pub(super) fn job(
    description: &ShardSetDescription,
    options: &TokenizeOptions,
    inputs: &[Vec<InputFile>],
    states: &BTreeMap<String, FileState>,
) -> String {
    let mut texts = vec![
        description.tokenizer_hash.clone(),
        description.end_of_text.to_string(),
        options.shard_tokens.to_string(),
        format!("{:?}", options.input),
    ];
    for (number, (input, files)) in options.inputs.iter().zip(inputs).enumerate() {
        texts.extend([input.source(), input.licence.clone()]);
        for file in files {
            texts.push(file.name.clone());
            texts.extend(states.get(&key(number, file)).map(|state| state.sha256.clone()));
        }
    }
    hash_of_texts(texts.iter().map(String::as_str))
}

fn hash(path: &Path) -> Result<String, CorpusError> {
    let mut hash = Sha256::new();
    for_each_block(path, |block| hash.update(block)).map_err(CorpusError::io(path, "read"))?;
    Ok(hexadecimal(&hash.finalize()))
}

#[cfg(unix)]
fn stamps(metadata: &Metadata) -> [i64; 3] {
    use std::os::unix::fs::MetadataExt;
    let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
    [
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        metadata.ino() as i64,
    ]
}

#[cfg(not(unix))]
fn stamps(metadata: &Metadata) -> [i64; 3] {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    [modified.map_or(0, |time| time.as_nanos() as i64), 0, 0]
}
