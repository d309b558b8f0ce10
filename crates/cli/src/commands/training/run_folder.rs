//! A run's folder: what lies in it, that it is never overwritten, and that one process at a time trains in it.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use zhenjin_files::TEMPORARY_PREFIX;
use zhenjin_tokenizer::MAX_TOKENIZER_JSON_BYTES;
use zhenjin_train::checkpoint::{Checkpoint, Checkpoints};
use zhenjin_train::metrics::{Event, JsonLines, Observer, SyncPolicy};

/// The effective configuration.
const CONFIGURATION: &str = "run.toml";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
/// The tokenizer and shards of a run whose data is text.
const DATA: &str = "data";
/// Locked by the process that trains in the folder.
const LOCK: &str = ".lock";
/// The tokenizer's files that a model's folder has.
const COMPANIONS: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
/// Checkpoints that are looked through; how many are kept is the configuration's.
const ANY_NUMBER: usize = usize::MAX;

pub(crate) struct RunFolder {
    path: PathBuf,
    /// Once it is locked; dropped, it lets go.
    lock: OnceLock<File>,
    /// Set where a checkpoint was named: newer ones are left behind. Newer ones that `auto` passed over are damaged, and are replaced.
    goes_back: OnceLock<()>,
}

/// Whether a file system has no locks, as NFS without its daemon.
fn says_no_locks(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    let is_missing = error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error());
    #[cfg(not(unix))]
    let is_missing = false;
    is_missing || error.kind() == ErrorKind::Unsupported
}

/// What may lie in a run's folder before there is a run: its data, its lock, and the unfinished file of a run that was killed while it wrote
/// its first settings.
fn is_of_no_run(name: &OsStr) -> bool {
    let is_unfinished = name.to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX));
    name == DATA || name == LOCK || is_unfinished
}

impl RunFolder {
    pub(crate) fn new(path: &Path) -> RunFolder {
        RunFolder { path: path.to_owned(), lock: OnceLock::new(), goes_back: OnceLock::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    pub(crate) fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(&self.path.join(CHECKPOINTS), ANY_NUMBER)
    }

    /// Bytes that checkpoints can take: those that are free, and those of checkpoints whose place they take.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        let checkpoints = self.checkpoints();
        Some(checkpoints.free_bytes()?.saturating_add(checkpoints.held_bytes()))
    }

    /// The folder of the last checkpoint, as its name says.
    pub(crate) fn last_checkpoint(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path.join(CHECKPOINTS)).ok()?.flatten();
        let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"));
        names.map(|entry| entry.path()).max()
    }

    /// Keeps other processes that train out of the folder, which is made if it is missing, until this value is dropped or the process ends
    /// in whatever way.
    pub(crate) fn lock(&self) -> Result<()> {
        if self.lock.get().is_some() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.path).with_context(|| format!("making {}", self.path.display()))?;
        let path = self.path.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("making {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another process is training in this folder; wait until it has ended, stop it, or give another --out",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) if says_no_locks(&error) => eprintln!(
                "{}: this file system has no locks, so a second process would not be noticed; start only one",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        // It was looked at above, and this process has one thread that begins runs.
        let _ = self.lock.set(file);
        Ok(())
    }

    /// The checkpoint that a run is to go on from, as `resume` asks (`auto`: the newest whole one, if there is one). Without `resume` the folder
    /// must be new. A folder that is there is locked, and what a killed run left unfinished is removed; nothing else is changed before
    /// [`RunFolder::begin`].
    pub(crate) fn checkpoint_to_resume(&self, resume: Option<&OsStr>) -> Result<Option<Checkpoint>> {
        match resume {
            None => {
                self.expect_new()?;
                if self.path.is_dir() {
                    self.lock()?;
                }
                Ok(None)
            }
            Some(auto) if auto == "auto" => {
                if self.path.is_dir() {
                    self.lock()?;
                    self.checkpoints().clean()?;
                }
                self.newest_checkpoint()
            }
            Some(path) => {
                let checkpoint = Checkpoint::open(Path::new(path))?;
                // A run that was killed before its first checkpoint is begun again by the same command.
                let has_begun_only = || -> Result<bool> {
                    Ok(self.path.join(CONFIGURATION).is_file() && self.checkpoints().find()?.newest.is_none())
                };
                if self.has_something()? && !self.checkpoints().holds(&checkpoint) && !has_begun_only()? {
                    bail!(
                        "{} is none of the checkpoints of the run in {}, and a run is never overwritten; give the --out that it lies in, or a new one, \
                         or go on with the run that is there by `--resume auto`",
                        checkpoint.path.display(),
                        self.path.display()
                    );
                }
                if self.path.is_dir() {
                    self.lock()?;
                    self.checkpoints().clean()?;
                }
                let _ = self.goes_back.set(());
                Ok(Some(checkpoint))
            }
        }
    }

    /// The same checkpoint for whoever only looks: nothing is changed or locked, and any folder will do.
    pub(crate) fn checkpoint_to_look_at(&self, resume: &OsStr) -> Result<Option<Checkpoint>> {
        match resume == "auto" {
            true => self.newest_checkpoint(),
            false => Ok(Some(Checkpoint::open(Path::new(resume))?)),
        }
    }

    /// The newest whole checkpoint, with a line about every newer one that is damaged.
    fn newest_checkpoint(&self) -> Result<Option<Checkpoint>> {
        let found = self.checkpoints().find()?;
        for (path, error) in &found.passed_over {
            eprintln!("{} is passed over: {error}", path.display());
        }
        match &found.newest {
            Some(checkpoint) => {
                let step = checkpoint.state.step;
                eprintln!("going on from {} (step {step})", checkpoint.path.display());
            }
            None => eprintln!("{} has no whole checkpoint: the run begins anew", self.path.display()),
        }
        Ok(found.newest)
    }

    /// Whether there is more in the folder than data that was made for a run that did not begin.
    pub(crate) fn has_something(&self) -> Result<bool> {
        match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(_) if self.path.is_file() => {
                bail!("{} is a file; --out names the run's folder", self.path.display());
            }
            entries => {
                let mut entries = entries.with_context(|| format!("reading {}", self.path.display()))?;
                Ok(entries.any(|entry| entry.map_or(true, |entry| !is_of_no_run(&entry.file_name()))))
            }
        }
    }

    /// Refuses a folder that has something in it.
    fn expect_new(&self) -> Result<()> {
        if self.has_something()? {
            bail!(
                "{} is not empty, and a run is never overwritten; go on with it by `--resume auto`, or give another --out",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Makes room for a run that was killed before its first checkpoint: its log moves aside.
    fn begin_anew(&self) -> Result<()> {
        let metrics = self.path.join(METRICS);
        if metrics.exists() {
            let aside = (1..).map(|number| self.path.join(format!("metrics.before-{number}.jsonl")));
            if let Some(aside) = aside.into_iter().find(|path| !path.exists()) {
                std::fs::rename(&metrics, &aside)
                    .with_context(|| format!("renaming {}", metrics.display()))?;
                eprintln!("what it had logged is in {}", aside.display());
            }
        }
        Ok(())
    }

    /// Makes the folder ready for a run that goes on from `checkpoint` or begins: the effective configuration, as TOML, which may have
    /// another schedule than before, and the tokenizer. Newer checkpoints than that one move aside.
    pub(crate) fn begin(
        &self,
        checkpoint: Option<&Checkpoint>,
        configuration: &str,
        companions: &[(String, Vec<u8>)],
    ) -> Result<()> {
        self.lock()?;
        match checkpoint {
            Some(checkpoint) if self.checkpoints().holds(checkpoint) => {
                if self.goes_back.get().is_some() {
                    self.leave_newer_ones(checkpoint)?;
                }
                self.write_configuration(configuration)
            }
            _ => {
                // Another process can have begun and ended here between this one's first look and the lock.
                if let Some(checkpoint) = self.checkpoints().find()?.newest {
                    bail!(
                        "{} has appeared meanwhile, and a run is never overwritten; go on with it by `--resume auto`, or give another --out",
                        checkpoint.path.display()
                    );
                }
                self.begin_anew()?;
                self.write_configuration(configuration)?;
                for (name, contents) in companions {
                    zhenjin_files::write_whole(&self.path.join(name), &[contents])?;
                }
                Ok(())
            }
        }
    }

    /// Moves checkpoints aside that are newer than the one that the run goes on from. They would count as the newest ones, and the next
    /// `--resume auto` would take them.
    fn leave_newer_ones(&self, checkpoint: &Checkpoint) -> Result<()> {
        let step = checkpoint.state.step;
        for aside in self.checkpoints().set_aside_after(step)? {
            eprintln!(
                "the run goes on from step {step}: a newer checkpoint is now {}, which is never removed by itself",
                aside.display()
            );
        }
        Ok(())
    }

    fn write_configuration(&self, configuration: &str) -> Result<()> {
        let path = self.path.join(CONFIGURATION);
        let before = zhenjin_files::read_at_most(&path, configuration.len());
        if before.is_ok_and(|before| before == configuration.as_bytes()) {
            return Ok(());
        }
        Ok(zhenjin_files::write_whole(&path, &[configuration.as_bytes()])?)
    }

    /// The log of a run that goes on from `checkpoint`, without lines of later steps; of a new one without.
    pub(crate) fn metrics(&self, checkpoint: Option<&Checkpoint>) -> Result<JsonLines> {
        let path = self.path.join(METRICS);
        let step = checkpoint.map_or(0, |checkpoint| checkpoint.state.step);
        let (mut lines, resumption) = JsonLines::resume(&path, step, SyncPolicy::OnFlush)?;
        if resumption.dropped + resumption.broken > 0 {
            eprintln!(
                "{}: {} lines of later steps and {} broken ones are removed; these steps are made again",
                path.display(),
                resumption.dropped,
                resumption.broken
            );
        }
        // Killed after the checkpoint had become visible and before the log said so.
        if let Some(Checkpoint { path, .. }) = checkpoint
            && !resumption.has_checkpoint
        {
            lines.event(&Event::Checkpoint { step, path: path.clone() })?;
        }
        Ok(lines)
    }
}

/// The tokenizer's files in a folder of shards, to be put beside the weights.
pub(crate) fn companions(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for name in COMPANIONS {
        let path = folder.join(name);
        if path.is_file() {
            let contents = zhenjin_files::read_at_most(&path, MAX_TOKENIZER_JSON_BYTES)?;
            zhenjin_files::check_no_lfs_pointer(&path, &contents)?;
            files.push((name.to_owned(), contents));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a tokenizer was read whole, however long it was, to be refused where it is opened.
    #[test]
    fn a_tokenizer_that_is_longer_than_one_can_be_is_not_put_beside_the_weights() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").expect("a file");
        let found = companions(folder.path()).expect("a short file");
        assert_eq!(found, [("tokenizer.json".to_owned(), b"{}".to_vec())]);
        let file = OpenOptions::new().write(true).open(&path).expect("a file");
        file.set_len(MAX_TOKENIZER_JSON_BYTES as u64 + 1).expect("a file without contents");
        let error = companions(folder.path()).expect_err("a long file").to_string();
        assert!(error.contains("tokenizer.json") && error.contains("more than 67108864 bytes"), "{error}");
    }
}
