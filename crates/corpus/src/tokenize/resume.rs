//! What an earlier run left in a folder.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use zhenjin_files::{Mapping, TEMPORARY_PREFIX};

use super::{Counts, Progress, Summary, TokenizeEvent};
use crate::shard::read_origin;
use crate::{BrokenRecord, CorpusError, MANIFEST_FILE, ShardSet, parse_shard};

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
    /// The folder was made by this job, also where nothing of it can be kept.
    pub(super) is_same_job: bool,
}

impl Kept {
    /// Checks that the runs that made what is kept left no record out.
    ///
    /// # Errors
    /// [`CorpusError::Broken`] with the first record that they left out.
    pub(super) fn check_nothing_was_left_out(
        &self,
        folder: &Path,
        observe: &mut dyn FnMut(TokenizeEvent<'_>),
    ) -> Result<(), CorpusError> {
        let (count, first) = match &self.whole {
            Some(summary) => (summary.counts.broken, summary.broken.first()),
            None => {
                let count: u64 = self.shards.iter().map(|progress| progress.counts.broken).sum();
                (count, self.shards.iter().flat_map(|progress| &progress.broken).next())
            }
        };
        if count == 0 {
            return Ok(());
        }
        let note = format!("{}: an earlier run left out {count} broken records", folder.display());
        observe(TokenizeEvent::Note(note));
        // All are counted, but a list that was changed may name none of them.
        let unnamed = || BrokenRecord {
            file: folder.join(MANIFEST_FILE).display().to_string(),
            line: 1,
            reason: format!("it counts {count} broken records that were left out"),
        };
        let record = first.cloned().unwrap_or_else(unnamed);
        observe(TokenizeEvent::Broken(&record));
        Err(CorpusError::Broken(Box::new(record)))
    }
}

/// Finds the shards that an earlier run for the same job finished, and verifies them.
///
/// # Errors
/// [`CorpusError::Occupied`] when shards of another job, or of nobody knows which, are there and may not be replaced.
pub(super) fn finished_shards(
    folder: &Path,
    job: &str,
    replace: bool,
    observe: &mut dyn FnMut(TokenizeEvent<'_>),
) -> Result<Kept, CorpusError> {
    let manifest = folder.join(MANIFEST_FILE);
    let mut is_same_job = false;
    if manifest.exists() {
        match ShardSet::open(folder) {
            Ok(set) if set.origin()["job"] == job => {
                let whole = Some(summary_of(&set));
                return Ok(Kept { shards: Vec::new(), whole, is_same_job: true });
            }
            Ok(_) if !replace => return Err(occupied(folder, "shards of other text, options or tokenizer")),
            Ok(_) => {}
            Err(error) => {
                // A shard that is damaged or missing does not hide whose shards the list names.
                let origin = read_origin(folder).ok();
                is_same_job = origin.as_ref().is_some_and(|origin| origin["job"] == job);
                if origin.is_some() && !is_same_job && !replace {
                    return Err(occupied(folder, "shards of other text, options or tokenizer, some damaged"));
                }
                observe(TokenizeEvent::Note(format!("{error}; what is damaged is made again")));
            }
        }
    }
    let mut found = Vec::new();
    for path in numbered_shards(folder)? {
        let one = Found::at(path, job);
        // What may be replaced need not be read.
        let is_end = replace && !one.is_ours();
        found.push(one);
        if is_end {
            break;
        }
    }
    is_same_job |= found.iter().any(Found::is_ours);
    if !replace {
        check_all_are_ours(folder, &found, is_same_job, manifest.exists())?;
    }
    let shards = first_without_gap(found, observe);
    if manifest.exists() {
        std::fs::remove_file(&manifest).map_err(CorpusError::io(&manifest, "remove"))?;
    }
    remove_shards_from(folder, shards.len())?;
    if !shards.is_empty() {
        observe(TokenizeEvent::Note(format!("{} finished shards are kept", shards.len())));
    }
    Ok(Kept { shards, whole: None, is_same_job })
}

/// A file that has the name of a shard.
struct Found {
    path: PathBuf,
    state: State,
}

enum State {
    Ours(Progress),
    OfAnotherJob,
    /// It cannot be read, and nobody knows whose it is.
    Damaged(String),
}

impl Found {
    fn at(path: PathBuf, job: &str) -> Found {
        let state = match progress_of(&path) {
            Ok(progress) if progress.job == job && file_name(&path) == shard_name(progress.number) => {
                State::Ours(progress)
            }
            Ok(_) => State::OfAnotherJob,
            Err(reason) => State::Damaged(reason),
        };
        Found { path, state }
    }

    fn is_ours(&self) -> bool {
        matches!(self.state, State::Ours(_))
    }
}

/// What is not kept is removed: without leave to replace, that must have been made by this job.
fn check_all_are_ours(
    folder: &Path,
    found: &[Found],
    is_same_job: bool,
    has_list: bool,
) -> Result<(), CorpusError> {
    if found.iter().any(|found| matches!(found.state, State::OfAnotherJob)) {
        return Err(occupied(folder, "unfinished shards of other text, options or tokenizer"));
    }
    match is_same_job {
        true => Ok(()),
        false if has_list => Err(occupied(folder, "a list of shards, corpus.json, that cannot be read")),
        false if !found.is_empty() => {
            Err(occupied(folder, "damaged shards, of which nothing says what they were made from"))
        }
        false => Ok(()),
    }
}

/// The shards of this job from the first on.
fn first_without_gap(found: Vec<Found>, observe: &mut dyn FnMut(TokenizeEvent<'_>)) -> Vec<Progress> {
    let mut shards = Vec::new();
    for Found { path, state } in found {
        match state {
            State::Ours(progress) if progress.number == shards.len() => shards.push(progress),
            State::Damaged(reason) => {
                observe(TokenizeEvent::Note(format!("{}: {reason}; it is made again", path.display())));
                break;
            }
            State::Ours(_) | State::OfAnotherJob => break,
        }
    }
    shards
}

/// Removes the shards from this number on.
pub(super) fn remove_shards_from(folder: &Path, first: usize) -> Result<(), CorpusError> {
    for path in entries(folder)? {
        if shard_number(&path).is_some_and(|number| number >= first) {
            std::fs::remove_file(&path).map_err(CorpusError::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// The files that have names of shards, in the order of their numbers.
fn numbered_shards(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let mut numbered: Vec<(usize, PathBuf)> = entries(folder)?
        .into_iter()
        .filter_map(|path| shard_number(&path).map(|number| (number, path)))
        .collect();
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

fn shard_number(path: &Path) -> Option<usize> {
    file_name(path).strip_prefix("shard-")?.strip_suffix(".tokens")?.parse().ok()
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
