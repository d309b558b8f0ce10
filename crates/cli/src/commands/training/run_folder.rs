//! A run's folder: what lies in it, and that it is never overwritten.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use zhenjin_train::checkpoint::{Checkpoint, Checkpoints};
use zhenjin_train::metrics::{Event, JsonLines, Observer, SyncPolicy};

/// The effective configuration.
const CONFIGURATION: &str = "run.toml";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
/// The tokenizer and shards of a run whose data is text.
const DATA: &str = "data";
/// The tokenizer's files that a model's folder has.
const COMPANIONS: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
/// Checkpoints that are looked through; how many are kept is the configuration's.
const ANY_NUMBER: usize = usize::MAX;

pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    pub(crate) fn new(path: &Path) -> RunFolder {
        RunFolder { path: path.to_owned() }
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

    /// The folder of the last checkpoint, as its name says.
    pub(crate) fn last_checkpoint(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path.join(CHECKPOINTS)).ok()?.flatten();
        let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"));
        names.map(|entry| entry.path()).max()
    }

    /// The checkpoint that `resume` asks for (`auto`: the newest whole one, if there is one), with a line about every newer one that is
    /// damaged. Without `resume` the folder must be new.
    pub(crate) fn checkpoint_to_resume(&self, resume: Option<&OsStr>) -> Result<Option<Checkpoint>> {
        match resume {
            None => {
                self.expect_new()?;
                Ok(None)
            }
            Some(auto) if auto == "auto" => {
                let checkpoints = self.checkpoints();
                checkpoints.clean()?;
                let found = checkpoints.find()?;
                for (path, error) in &found.passed_over {
                    eprintln!("{} is passed over: {error}", path.display());
                }
                match &found.newest {
                    Some(checkpoint) => {
                        let step = checkpoint.state.step;
                        eprintln!("going on from {} (step {step})", checkpoint.path.display());
                    }
                    None => {
                        eprintln!("{} has no whole checkpoint: the run begins anew", self.path.display());
                        self.begin_anew()?;
                    }
                }
                Ok(found.newest)
            }
            Some(path) => Ok(Some(Checkpoint::open(Path::new(path))?)),
        }
    }

    /// Refuses a folder that has something in it; only data that was made for a run that did not begin may be there.
    pub(crate) fn expect_new(&self) -> Result<()> {
        let has_something = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(_) if self.path.is_file() => {
                bail!("{} is a file; --out names the run's folder", self.path.display());
            }
            entries => {
                let mut entries = entries.with_context(|| format!("reading {}", self.path.display()))?;
                entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != DATA))
            }
        };
        if has_something {
            bail!(
                "{} is not empty, and a run is never overwritten; go on with it by `--resume auto`, or give another --out",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Makes room for a run that was killed before its first checkpoint: its log moves aside.
    pub(crate) fn begin_anew(&self) -> Result<()> {
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

    /// Makes the folder with the effective configuration, as TOML, and the tokenizer.
    pub(crate) fn create(&self, configuration: &str, companions: &[(String, Vec<u8>)]) -> Result<()> {
        std::fs::create_dir_all(&self.path).with_context(|| format!("making {}", self.path.display()))?;
        zhenjin_files::write_whole(&self.path.join(CONFIGURATION), &[configuration.as_bytes()])?;
        for (name, contents) in companions {
            zhenjin_files::write_whole(&self.path.join(name), &[contents])?;
        }
        Ok(())
    }

    /// Writes the effective configuration of a run that goes on, which may have another schedule than before.
    pub(crate) fn update(&self, configuration: &str) -> Result<()> {
        let path = self.path.join(CONFIGURATION);
        if std::fs::read_to_string(&path).is_ok_and(|before| before == configuration) {
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
            let contents = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            zhenjin_files::check_no_lfs_pointer(&path, &contents)?;
            files.push((name.to_owned(), contents));
        }
    }
    Ok(files)
}
