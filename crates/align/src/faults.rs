//! A step whose numbers are not finite, as a file that can be computed again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use zhenjin_files::{Mapping, NewFile, make_folder};
use zhenjin_train::checkpoint::CheckpointError;

use crate::error::AlignError;
use crate::packed::Packed;

/// Where they are kept in a run's folder.
const FOLDER: &str = "faults";
/// What the text of a critic's fault has always said.
const OF_CRITIC: &str = "the norm of the critic's gradient";

/// Whose numbers are not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultyModel {
    /// The model that learns to answer: scores of the targets.
    Policy,
    /// PPO's critic: values of the rows that have a target.
    Critic,
    /// A reward model: values of the rows that have a target.
    RewardModel,
}

impl FaultyModel {
    /// Whether values of rows are asked for, and not scores of targets.
    pub fn gives_values(self) -> bool {
        self != FaultyModel::Policy
    }

    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            FaultyModel::Policy => "policy",
            FaultyModel::Critic => "critic",
            FaultyModel::RewardModel => "reward model",
        }
    }
}

/// A step that was not made, as it is kept in `faults/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultyStep {
    /// The step, counted from 1.
    pub step: u64,
    /// What was found.
    pub fault: String,
    /// Where it comes from, as a search found that began when the file had been written.
    pub origin: Option<String>,
    /// The last whole checkpoint at that time. A path that is not UTF-8 is one with other characters in its place.
    #[serde(serialize_with = "lossily")]
    pub checkpoint: Option<PathBuf>,
    /// Whose numbers they are. Files of earlier versions do not say it ([`FaultyStep::known_model`]).
    pub model: Option<FaultyModel>,
    /// Updates that the step had made before: the weights are then those of no checkpoint.
    #[serde(default)]
    pub updates: u64,
    /// The run's effective configuration, as TOML; empty in files of earlier versions.
    #[serde(default)]
    pub configuration: String,
    /// Fingerprint of the run's data and model; empty in files of earlier versions.
    #[serde(default)]
    pub data: String,
    /// The documents of all its examples or answers.
    pub documents: Vec<FaultyDocument>,
    /// The texts of the step's piece of the anchor, whose numbers are theirs.
    #[serde(default)]
    pub anchor: Vec<FaultyDocument>,
}

/// A document of a [`FaultyStep`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultyDocument {
    /// The example, or the prompt, that it belongs to: its place in the data that are learnt, counted from 0.
    pub example: usize,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What each row is to predict; where values are asked for, any token at the rows whose values they are.
    pub targets: Vec<Option<u32>>,
}

fn lossily<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(Path::to_string_lossy).serialize(serializer)
}

impl FaultyStep {
    /// What step `step`, counted from 1, read. The run adds the rest.
    pub(crate) fn new(step: u64, model: FaultyModel, documents: Vec<FaultyDocument>) -> FaultyStep {
        FaultyStep {
            step,
            fault: String::new(),
            origin: None,
            checkpoint: None,
            model: Some(model),
            updates: 0,
            configuration: String::new(),
            data: String::new(),
            documents,
            anchor: Vec::new(),
        }
    }

    /// Whose numbers they are, as far as the file tells: one of an earlier version does not where it is no critic's.
    pub fn known_model(&self) -> Option<FaultyModel> {
        self.model.or_else(|| self.fault.contains(OF_CRITIC).then_some(FaultyModel::Critic))
    }

    /// Reads one that was kept.
    ///
    /// # Errors
    /// [`AlignError::Input`] naming the file, when it cannot be read or is no such step.
    pub fn read(path: &Path) -> Result<FaultyStep, AlignError> {
        let problem =
            |what: String| AlignError::Input(format!("{} is not a kept step: {what}", path.display()));
        let text = Mapping::open(path).map_err(|error| problem(error.problem()))?;
        let step: FaultyStep =
            serde_json::from_slice(text.as_ref()).map_err(|error| problem(error.to_string()))?;
        let differs = |document: &&FaultyDocument| document.tokens.len() != document.targets.len();
        match step.documents.iter().chain(&step.anchor).find(differs) {
            None => Ok(step),
            Some(document) => Err(problem(format!(
                "a document of example {} has {} tokens and {} targets",
                document.example,
                document.tokens.len(),
                document.targets.len()
            ))),
        }
    }

    /// Where it is to be kept in the folder of a run. The file of another fault of the same step stays; one of the same fault, which a run that
    /// is begun again and again would find each time, is replaced.
    pub(crate) fn place(&self, run: &Path) -> PathBuf {
        let path = |number: u32| {
            let more = if number == 1 { String::new() } else { format!("-{number}") };
            run.join(FOLDER).join(format!("step-{:08}{more}.json", self.step))
        };
        let mut number = 1;
        while path(number).exists()
            && !FaultyStep::read(&path(number)).is_ok_and(|other| other.is_same_as(self))
        {
            number += 1;
        }
        path(number)
    }

    /// Whether it is the same fault of the same run.
    fn is_same_as(&self, other: &FaultyStep) -> bool {
        (self.step, self.model, self.updates) == (other.step, other.model, other.updates)
            && (&self.fault, &self.configuration, &self.data)
                == (&other.fault, &other.configuration, &other.data)
            && self.documents == other.documents
            && self.anchor == other.anchor
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`AlignError::Checkpoint`] when it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), AlignError> {
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(CheckpointError::from)?;
        }
        // Piece by piece: a step can have millions of tokens, and memory may be short.
        let mut file = NewFile::create(path).map_err(CheckpointError::from)?;
        let io = |error: serde_json::Error| CheckpointError::Io {
            action: "write",
            path: path.to_owned(),
            source: error.into(),
        };
        serde_json::to_writer(&mut file, self).map_err(io)?;
        file.finish().map_err(CheckpointError::from)?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn step(fault: &str) -> FaultyStep {
        let document = FaultyDocument { example: 4, tokens: vec![1, 2], targets: vec![None, Some(3)] };
        FaultyStep { fault: fault.to_owned(), ..FaultyStep::new(7, FaultyModel::Critic, vec![document]) }
    }

    /// A path that is no text once left an empty file, which was called kept.
    #[cfg(unix)]
    #[test]
    fn a_checkpoint_whose_path_is_no_text_does_not_empty_the_file() {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"run-\xff/step-00000006"));
        let folder = tempfile::tempdir().unwrap();
        let step = FaultyStep { checkpoint: Some(path), ..step("a fault") };
        let place = step.place(folder.path());
        step.write(&place).unwrap();
        let read = FaultyStep::read(&place).unwrap();
        let checkpoint = read.checkpoint.clone().unwrap();
        assert_eq!(checkpoint, Path::new("run-\u{fffd}/step-00000006"));
        assert_eq!(FaultyStep { checkpoint: step.checkpoint.clone(), ..read }, step);
    }

    /// A run that went on from another checkpoint replaced what the first one had kept.
    #[test]
    fn another_fault_of_a_step_does_not_replace_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (step("a fault"), step("another fault"));
        let first = one.place(folder.path());
        one.write(&first).unwrap();
        let second = other.place(folder.path());
        other.write(&second).unwrap();
        assert_eq!(first, folder.path().join("faults/step-00000007.json"));
        assert_eq!(second, folder.path().join("faults/step-00000007-2.json"));
        assert_eq!(FaultyStep::read(&first).unwrap(), one);
        // The same one again, whatever was found out about it meanwhile.
        let found = FaultyStep { origin: Some("layer 1".to_owned()), ..other };
        assert_eq!(found.place(folder.path()), second);
    }

    #[test]
    fn files_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        let old = |fault: &str| {
            let text = format!(
                r#"{{"step":3,"fault":"{fault}","checkpoint":null,"documents":[{{"example":0,"tokens":[1],"targets":[2]}}]}}"#
            );
            std::fs::write(&path, text).unwrap();
            FaultyStep::read(&path).unwrap()
        };
        assert_eq!(old("step 3: the loss is NaN").known_model(), None);
        let of_critic = old("step 3: the norm of the critic's gradient is inf");
        assert_eq!(of_critic.known_model(), Some(FaultyModel::Critic));
        assert!(of_critic.anchor.is_empty() && of_critic.configuration.is_empty());
        for text in [
            "",
            "[]",
            r#"{"step":3,"fault":"","checkpoint":null,"documents":[{"example":0,"tokens":[1],"targets":[]}]}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let problem = FaultyStep::read(&path).unwrap_err().to_string();
            assert!(problem.contains("old.json is not a kept step"), "{problem}");
        }
    }
}
