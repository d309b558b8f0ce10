//! Checkpoints: folders that become visible whole or not at all, whose every byte is checked when they are read.
//!
//! `step-00001000/` holds `model.safetensors` and `config.json` (it opens in the engine as it is, with the tokenizer's files),
//! `optimiser.safetensors`, and `state.json`: where the run is, and the SHA-256 of every other file. A checkpoint is written into
//! a folder whose name begins with a point, its files and the folder are forced to the disk, and then it is renamed. So a run that
//! is killed at any moment leaves whole checkpoints and a rest that the next start removes.

mod optimiser_file;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zhenjin_files::{FileDigest, FileError, read_at_most, sync_folder, write_whole};
use zhenjin_model::ModelError;

pub use optimiser_file::{OptimiserFile, parse_optimiser, write_optimiser};
pub use state::{Best, FileSum, RunState, STATE_FILE, parse_state};

/// The weights in a checkpoint's folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The optimiser's state in a checkpoint's folder.
pub const OPTIMISER_FILE: &str = "optimiser.safetensors";
/// The names of unfinished and replaced folders begin so.
const HIDDEN: &str = ".step-";
const VISIBLE: &str = "step-";
/// Names that are never taken for a checkpoint: what a run left behind when it went back to an older one.
const ABANDONED: &str = "abandoned-";

/// The files of a checkpoint by their names.
pub type FileSums = BTreeMap<String, FileSum>;

/// What can go wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A checkpoint is not what was written.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The checkpoint, or a file in it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Weights or optimiser state could not be written or read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<FileError> for CheckpointError {
    fn from(error: FileError) -> CheckpointError {
        match error {
            FileError::Io { path, action, source } => CheckpointError::Io { action, path, source },
            FileError::NotRegular { ref path } | FileError::LfsPointer { ref path, .. } => {
                CheckpointError::damaged(path, error.problem())
            }
        }
    }
}

impl CheckpointError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
        let path = path.to_owned();
        move |source| CheckpointError::Io { action, path, source }
    }

    fn damaged(path: &Path, problem: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { path: path.to_owned(), problem: problem.into() }
    }
}

/// A whole checkpoint whose files have the sums that its state names.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run was.
    pub state: RunState,
}

impl Checkpoint {
    /// Reads a checkpoint's state and checks every file in it.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] names the first file that is missing, shorter, longer or changed; [`CheckpointError::Io`].
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let state_path = path.join(STATE_FILE);
        let text = read_at_most(&state_path, state::MOST_BYTES)?;
        let state = parse_state(&text).map_err(|problem| CheckpointError::damaged(&state_path, problem))?;
        for (name, sum) in &state.files {
            let path = path.join(name);
            let found = sum_of(&path)?;
            if found != *sum {
                let problem = if found.bytes == sum.bytes {
                    "its SHA-256 is not the one that was written".to_owned()
                } else {
                    format!("it has {} bytes instead of {}", found.bytes, sum.bytes)
                };
                return Err(CheckpointError::damaged(&path, problem));
            }
        }
        Ok(Checkpoint { path: path.to_owned(), state })
    }
}

/// What a folder of checkpoints holds.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest whole checkpoint.
    pub newest: Option<Checkpoint>,
    /// Newer ones that are damaged, and why, newest first.
    pub passed_over: Vec<(PathBuf, CheckpointError)>,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Those in `folder`, of which the newest `keep` stay, and the best.
    pub fn new(folder: &Path, keep: usize) -> Checkpoints {
        Checkpoints { folder: folder.to_owned(), keep: keep.max(1) }
    }

    /// The newest checkpoint whose files are whole. Nothing is changed.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] when the folder cannot be read. A missing folder has no checkpoints.
    pub fn find(&self) -> Result<Found, CheckpointError> {
        let mut found = Found::default();
        for (_, path) in self.list()?.into_iter().rev() {
            match Checkpoint::open(&path) {
                Ok(checkpoint) => {
                    found.newest = Some(checkpoint);
                    break;
                }
                Err(error) => found.passed_over.push((path, error)),
            }
        }
        Ok(found)
    }

    /// Bytes that are free where the checkpoints go, if the system tells.
    pub fn free_bytes(&self) -> Option<u64> {
        let existing = self.folder.ancestors().find(|folder| folder.exists())?;
        let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        let system = rustix::fs::statvfs(existing).ok()?;
        system.f_bavail.checked_mul(system.f_frsize)
    }

    /// Bytes of the checkpoints that are there: room for those that take their place.
    pub fn held_bytes(&self) -> u64 {
        let files = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let size =
            |path: &Path| -> u64 { files(path).filter_map(|entry| Some(entry.metadata().ok()?.len())).sum() };
        self.list().unwrap_or_default().iter().map(|(_, path)| size(path)).sum()
    }

    /// Whether `checkpoint` is one of these, under its own name.
    pub fn holds(&self, checkpoint: &Checkpoint) -> bool {
        let own = std::fs::canonicalize(self.folder.join(name_of(checkpoint.state.step))).ok();
        own.is_some() && own == std::fs::canonicalize(&checkpoint.path).ok()
    }

    /// Removes what a killed run left unfinished. A checkpoint that was being replaced comes back where nothing had taken its place.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn clean(&self) -> Result<(), CheckpointError> {
        for path in self.entries(HIDDEN)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let replaced = name.strip_prefix('.').and_then(|name| name.strip_suffix(".replaced"));
            match replaced.map(|name| self.folder.join(name)).filter(|visible| !visible.exists()) {
                Some(visible) => {
                    // Killed between two renames: it may be the only checkpoint that there is.
                    std::fs::rename(&path, &visible).map_err(CheckpointError::io("rename", &path))?;
                    sync_folder(&self.folder)?;
                }
                None => std::fs::remove_dir_all(&path).map_err(CheckpointError::io("remove", &path))?,
            }
        }
        Ok(())
    }

    /// Gives every checkpoint after `step` a name that is never taken for one, and returns the new paths. A run that goes on from an
    /// older checkpoint must not be mixed up with what it leaves behind.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn set_aside_after(&self, step: u64) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut moved = Vec::new();
        // The newest first: killed in between, what is left is a run that was stopped earlier.
        for (newer, path) in self.list()?.into_iter().rev().filter(|(newer, _)| *newer > step) {
            let mut number = 1;
            let mut aside = self.abandoned(number, newer);
            while aside.exists() {
                number += 1;
                aside = self.abandoned(number, newer);
            }
            std::fs::rename(&path, &aside).map_err(CheckpointError::io("rename", &path))?;
            sync_folder(&self.folder)?;
            moved.push(aside);
        }
        Ok(moved)
    }

    fn abandoned(&self, number: u64, step: u64) -> PathBuf {
        self.folder.join(format!("{ABANDONED}{number}-{}", name_of(step)))
    }

    /// Writes a checkpoint: `write` puts files into the folder that it is given and returns their sums. Then the checkpoint
    /// becomes visible, after `before_visible` has succeeded, and older ones are removed.
    ///
    /// # Errors
    /// What `write` and `before_visible` report, and [`CheckpointError::Io`]; the folder of checkpoints is then as it was.
    pub fn save(
        &self,
        mut state: RunState,
        write: &mut dyn FnMut(&Path) -> Result<FileSums, CheckpointError>,
        before_visible: &mut dyn FnMut() -> Result<(), CheckpointError>,
    ) -> Result<PathBuf, CheckpointError> {
        std::fs::create_dir_all(&self.folder).map_err(CheckpointError::io("make", &self.folder))?;
        let name = name_of(state.step);
        let unfinished = self.folder.join(format!(".{name}.unfinished"));
        let remove = |path: &Path| match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointError::io("remove", path)(error))
            }
            _ => Ok(()),
        };
        remove(&unfinished)?;
        let visible = self.folder.join(&name);
        let mut attempt = || -> Result<(), CheckpointError> {
            std::fs::create_dir(&unfinished).map_err(CheckpointError::io("make", &unfinished))?;
            state.files = write(&unfinished)?;
            write_file(&unfinished, STATE_FILE, state.to_json().as_bytes())?;
            sync_folder(&unfinished)?;
            before_visible()?;
            // A checkpoint of the same step can be there: a damaged one that was passed over.
            let replaced = self.folder.join(format!(".{name}.replaced"));
            let is_replacement = visible.exists();
            if is_replacement {
                remove(&replaced)?;
                std::fs::rename(&visible, &replaced).map_err(CheckpointError::io("rename", &visible))?;
            }
            if let Err(error) = std::fs::rename(&unfinished, &visible) {
                if is_replacement {
                    // The first error is the one that is told.
                    let _ = std::fs::rename(&replaced, &visible);
                }
                return Err(CheckpointError::io("rename", &unfinished)(error));
            }
            sync_folder(&self.folder)?;
            remove(&replaced)
        };
        if let Err(error) = attempt() {
            // What was written so far is of no use, and a full disk needs the room.
            let _ = std::fs::remove_dir_all(&unfinished);
            return Err(error);
        }
        self.remove_old(state.step, state.best.map(|best| best.step))?;
        Ok(visible)
    }

    /// Removes all but the newest checkpoints and the best. The one that was just written always stays.
    fn remove_old(&self, written: u64, best: Option<u64>) -> Result<(), CheckpointError> {
        let mut list = self.list()?;
        // Later ones are damaged and were passed over: none to go on from, so they count for nothing. Their steps come again.
        list.retain(|(step, _)| *step <= written);
        let old = list.len().saturating_sub(self.keep);
        for (step, path) in &list[..old] {
            if Some(*step) != best {
                // Under another name first, so that nobody opens a folder of which half is gone.
                let removed = self.folder.join(format!("{HIDDEN}{step:08}.removed"));
                std::fs::rename(path, &removed).map_err(CheckpointError::io("rename", path))?;
                std::fs::remove_dir_all(&removed).map_err(CheckpointError::io("remove", &removed))?;
            }
        }
        Ok(())
    }

    /// Steps and folders of the checkpoints, oldest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix(VISIBLE)?.parse().ok();
        let folders = self.entries(VISIBLE)?.into_iter();
        let mut list: Vec<_> = folders.filter_map(|path| Some((step(&path)?, path))).collect();
        list.sort();
        Ok(list)
    }

    fn entries(&self, prefix: &str) -> Result<Vec<PathBuf>, CheckpointError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(CheckpointError::io("read", &self.folder))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(CheckpointError::io("read", &self.folder))?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
                && entry.path().is_dir()
            {
                paths.push(entry.path());
            }
        }
        Ok(paths)
    }
}

/// The name of the checkpoint after `step`.
fn name_of(step: u64) -> String {
    format!("{VISIBLE}{step:08}")
}

/// Writes a small file into a checkpoint's folder, forces it to the disk and gives its sum.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<FileSum, CheckpointError> {
    let path = folder.join(name);
    write_whole(&path, &[bytes])?;
    Ok(FileSum { bytes: bytes.len() as u64, sha256: hexadecimal(&Sha256::digest(bytes)) })
}

fn sum_of(path: &Path) -> Result<FileSum, CheckpointError> {
    let digest = FileDigest::of(path)?;
    Ok(FileSum { bytes: digest.bytes, sha256: digest.hexadecimal() })
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
