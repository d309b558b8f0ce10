//! A step whose numbers are not finite, as a file that can be computed again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zhenjin_train::checkpoint::CheckpointError;

use crate::error::AlignError;
use crate::packed::Packed;

/// A step that was not made, as it is kept in `faults/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultyStep {
    /// The step, counted from 1.
    pub step: u64,
    /// What was found.
    pub fault: String,
    /// The last whole checkpoint at that time.
    pub checkpoint: Option<PathBuf>,
    /// The documents of all its examples or answers.
    pub documents: Vec<FaultyDocument>,
}

/// A document of a [`FaultyStep`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultyDocument {
    /// The example, or the prompt, that it belongs to: its place in the data that are learnt, counted from 0.
    pub example: usize,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What each row is to predict.
    pub targets: Vec<Option<u32>>,
}

impl FaultyStep {
    /// Reads one that was kept.
    ///
    /// # Errors
    /// [`AlignError::Input`] naming the file, when it cannot be read or is no such step.
    pub fn read(path: &Path) -> Result<FaultyStep, AlignError> {
        let problem =
            |what: String| AlignError::Input(format!("{} is not a kept step: {what}", path.display()));
        let text = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
        let step: FaultyStep = serde_json::from_slice(&text).map_err(|error| problem(error.to_string()))?;
        let differs = |document: &&FaultyDocument| document.tokens.len() != document.targets.len();
        match step.documents.iter().find(differs) {
            None => Ok(step),
            Some(document) => Err(problem(format!(
                "a document of example {} has {} tokens and {} targets",
                document.example,
                document.tokens.len(),
                document.targets.len()
            ))),
        }
    }

    /// Keeps it in the folder of a run; where.
    ///
    /// # Errors
    /// [`AlignError::Checkpoint`] when the file cannot be written.
    pub(crate) fn write(&self, run: &Path) -> Result<PathBuf, AlignError> {
        let folder = run.join("faults");
        let path = folder.join(format!("step-{:08}.json", self.step));
        let io = |source| CheckpointError::Io { action: "make the folder of", path: path.clone(), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
        // Texts and whole numbers can always be written.
        let text = serde_json::to_vec(self).unwrap_or_default();
        zhenjin_files::write_whole(&path, &[&text]).map_err(CheckpointError::from)?;
        Ok(path)
    }
}

impl FaultyDocument {
    /// The documents of `packed`, which has as many of each of `examples`, in their order.
    pub(crate) fn of(examples: &[usize], packed: &Packed) -> Vec<FaultyDocument> {
        let of_each = (packed.lengths.len() / examples.len().max(1)).max(1);
        let document = |(place, rows): (usize, std::ops::Range<usize>)| FaultyDocument {
            example: examples.get(place / of_each).copied().unwrap_or_default(),
            tokens: packed.tokens[rows.clone()].to_vec(),
            targets: packed.targets[rows].to_vec(),
        };
        packed.documents().enumerate().map(document).collect()
    }

    /// The document alone.
    pub(crate) fn packed(&self) -> Packed {
        Packed {
            tokens: self.tokens.clone(),
            targets: self.targets.clone(),
            lengths: vec![self.tokens.len()],
        }
    }
}
