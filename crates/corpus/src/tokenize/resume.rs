//! What an earlier run left in a folder.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use zhenjin_files::{Mapping, TEMPORARY_PREFIX};

use super::{Counts, Progress, Summary, TokenizeEvent};
use crate::{CorpusError, MANIFEST_FILE, ShardSet, parse_shard};

pub(super) fn shard_name(number: usize) -> String {
    format!("shard-{number:05}.tokens")
}

/// Keeps other processes out of the folder until it is dropped, or the process ends in whatever way.
///
/// # Errors
/// [`CorpusError::Occupied`] when another process works in it.
pub(super) fn lock(folder: &Path) -> Result<File, CorpusError> {
    let path = folder.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(CorpusError::io(&path, "make"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let holds = "the work of another process that is still running".to_owned();
            Err(CorpusError::Occupied { path: folder.to_owned(), holds })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(CorpusError::io(&path, "lock")(source)),
    }
}

/// Removes temporary files of a run that was killed while it wrote.
pub(super) fn remove_unfinished_files(folder: &Path) -> Result<(), CorpusError> {
    for path in entries(folder)? {
        if file_name(&path).starts_with(TEMPORARY_PREFIX) {
            std::fs::remove_file(&path).map_err(CorpusError::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// What can be kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The shards from the first on, without a gap.
    pub(super) shards: Vec<Progress>,
    /// Everything is finished already.
    pub(super) whole: Option<Summary>,
}

/// Finds the shards that an earlier run for the same job finished, and verifies them.
///
/// # Errors
/// [`CorpusError::Occupied`] when shards of another job are there and may not be replaced.
pub(super) fn finished_shards(
    folder: &Path,
    job: &str,
    replace: bool,
    observe: &mut dyn FnMut(TokenizeEvent<'_>),
) -> Result<Kept, CorpusError> {
    let manifest = folder.join(MANIFEST_FILE);
    if manifest.exists() {
        match ShardSet::open(folder) {
            Ok(set) if set.origin()["job"] == job => {
                return Ok(Kept { shards: Vec::new(), whole: Some(summary_of(&set)) });
            }
            Ok(_) if !replace => return Err(occupied(folder, "shards of other text, options or tokenizer")),
            Ok(_) => {}
            Err(error) => observe(TokenizeEvent::Note(format!("{error}; what is damaged is made again"))),
        }
    }
    let mut shards = Vec::new();
    for number in 0.. {
        let path = folder.join(shard_name(number));
        if !path.exists() {
            break;
        }
        match progress_of(&path) {
            Ok(progress) if progress.job == job && progress.number == number => shards.push(progress),
            Ok(_) if replace => break,
            Ok(_) => return Err(occupied(folder, "unfinished shards of other text, options or tokenizer")),
            Err(reason) => {
                observe(TokenizeEvent::Note(format!("{}: {reason}; it is made again", path.display())));
                break;
            }
        }
    }
    if manifest.exists() {
        std::fs::remove_file(&manifest).map_err(CorpusError::io(&manifest, "remove"))?;
    }
    remove_shards_from(folder, shards.len())?;
    if !shards.is_empty() {
        observe(TokenizeEvent::Note(format!("{} finished shards are kept", shards.len())));
    }
    Ok(Kept { shards, whole: None })
}

/// Removes the shards from this number on.
pub(super) fn remove_shards_from(folder: &Path, first: usize) -> Result<(), CorpusError> {
    for path in entries(folder)? {
        let name = file_name(&path);
        let number = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".tokens")?.parse().ok());
        if number.is_some_and(|number: usize| number >= first) {
            std::fs::remove_file(&path).map_err(CorpusError::io(&path, "remove"))?;
        }
    }
    Ok(())
}

fn progress_of(path: &Path) -> Result<Progress, String> {
    let shard = parse_shard(Mapping::open(path).map_err(|error| error.to_string())?)?;
    shard.verify()?;
    let progress: Progress = serde_json::from_value(shard.metadata().progress.clone())
        .map_err(|_| "it does not say how it was made".to_owned())?;
    Ok(progress)
}

fn summary_of(set: &ShardSet) -> Summary {
    let shards = set.shards().count();
    let counts: Option<Counts> = serde_json::from_value(set.origin()["counts"].clone()).ok();
    let broken = serde_json::from_value(set.origin()["broken"].clone()).unwrap_or_default();
    Summary { counts: counts.unwrap_or_default(), broken, shards, kept_shards: shards, unchanged: true }
}

fn occupied(folder: &Path, holds: &str) -> CorpusError {
    CorpusError::Occupied { path: folder.to_owned(), holds: holds.to_owned() }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let read = std::fs::read_dir(folder).map_err(CorpusError::io(folder, "read"))?;
    read.map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(CorpusError::io(folder, "read"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
