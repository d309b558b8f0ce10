//! Where this machine's user keeps models, conversations and keys.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The folders below one root (`--home`, `ZHENJIN_HOME`, or the platform's data folder).
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// Takes the given root, or the platform's data folder; makes it where it is missing.
    pub(crate) fn open(given: Option<&Path>) -> Result<Self> {
        let root = match given {
            Some(path) => path.to_owned(),
            None => dirs::data_dir()
                .context("this machine has no data folder for its user; set ZHENJIN_HOME or give --home")?
                .join("zhenjin"),
        };
        std::fs::create_dir_all(&root).with_context(|| format!("making the folder {}", root.display()))?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What was promoted to answer under models' names.
    pub(crate) fn promoted(&self) -> PathBuf {
        self.root.join("promoted")
    }

    /// The records of improvements.
    pub(crate) fn improvements(&self) -> PathBuf {
        self.root.join("improvements")
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Adapters that may be loaded while the server runs, each in a folder of its own.
    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    /// Examples of earlier runs in tokens. They can be made anew at any time.
    pub(crate) fn examples(&self) -> PathBuf {
        self.root.join("examples")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("zhenjin.sqlite")
    }

    pub(crate) fn chat_history(&self) -> PathBuf {
        self.root.join("chat-history.txt")
    }
}
