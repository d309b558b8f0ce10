//! Where weights came from, by the files around them: the record of the improvement that made them, or the configuration of their run.

use std::path::Path;

use serde::Deserialize;

use crate::improvements::read_record;
use crate::weights::Origin;

/// A run's configuration, in the folder around its checkpoints.
const RUN_FILE: &str = "run.toml";
/// A longer one is not ours.
const MOST_BYTES: u64 = 1 << 20;
/// The longest name of a method.
const METHOD_BYTES: usize = 32;
/// What a run is called whose configuration names no method: it trained from scratch.
const FROM_SCRATCH: &str = "pretrain";

/// What is read of a run's configuration.
#[derive(Deserialize)]
struct RunFile {
    method: Option<String>,
}

impl Origin {
    /// What the files around a folder of weights, or around one of its files, say. What they do not say is `None`, and so is `source`.
    pub fn around(weights: &Path) -> Origin {
        // A relative path need not name the folders around it, and a link leads into them.
        let Ok(weights) = weights.canonicalize() else { return Origin::default() };
        let folder = if weights.is_dir() { Some(&*weights) } else { weights.parent() };
        let Some(around) = folder.and_then(Path::parent) else { return Origin::default() };
        if let Ok(Some(record)) = read_record(around) {
            return record.origin();
        }
        // Checkpoints have a folder of their own in that of the run.
        let method = method_of(around).or_else(|| method_of(around.parent()?));
        Origin { method, ..Origin::default() }
    }
}

/// The method of the run in `folder`, if there is one.
fn method_of(folder: &Path) -> Option<String> {
    let path = folder.join(RUN_FILE);
    if std::fs::metadata(&path).ok()?.len() > MOST_BYTES {
        return None;
    }
    let run: RunFile = toml::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
    let method = run.method.unwrap_or_else(|| FROM_SCRATCH.to_owned());
    let is_word = (1..=METHOD_BYTES).contains(&method.len())
        && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_word.then_some(method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataCounts, Improvement, ImprovementState, Improvements, Recipe};

    #[test]
    fn a_checkpoint_is_of_the_method_of_its_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run");
        let checkpoint = run.join("checkpoints/step-00000001");
        std::fs::create_dir_all(&checkpoint).expect("a folder");
        let weights = checkpoint.join("adapter_model.safetensors");
        std::fs::write(&weights, "weights").expect("a file");
        assert_eq!(Origin::around(&checkpoint), Origin::default());
        for (text, method) in [
            ("method = \"dpo\"\nseed = 1\n\n[tuning]\nkind = \"lora\"\n", Some("dpo")),
            ("seed = 1\n\n[model]\ndepth = 4\n", Some("pretrain")),
            ("method = \"a b\"\n", None),
            ("method = 1\n", None),
            ("method = \n", None),
        ] {
            std::fs::write(run.join(RUN_FILE), text).expect("a file");
            for path in [&checkpoint, &weights] {
                assert_eq!(Origin::around(path).method.as_deref(), method, "{text}");
            }
        }
        assert_eq!(Origin::around(&folder.path().join("nowhere")), Origin::default());
    }

    #[test]
    fn the_adapter_of_an_improvement_has_its_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        let record = Improvement {
            id: "one".to_owned(),
            model: "smollm2".to_owned(),
            method: "kto".to_owned(),
            created_at: 1,
            finished_at: Some(2),
            state: ImprovementState::Passed,
            error: None,
            data: DataCounts {
                train: 30,
                held_out: 8,
                conversations: 12,
                owners: 2,
                ..DataCounts::default()
            },
            gate: Vec::new(),
            compared_with: None,
            recipe: Recipe::default(),
        };
        improvements.write(&record).expect("written");
        let adapter = improvements.adapter_of("one").expect("a path");
        std::fs::create_dir(&adapter).expect("a folder");
        let found = Origin::around(&adapter);
        assert_eq!(found, record.origin());
        assert_eq!((found.method.as_deref(), found.improvement.as_deref()), (Some("kto"), Some("one")));
    }
}
