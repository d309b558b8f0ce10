//! The records of improvements: what each learned from, how, what was measured, and how it ended. One folder each, with its `improvement.json`.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{PromotionError, io};
use crate::json_file;
use crate::weights::{Origin, Promoted};

const RECORD_FILE: &str = "improvement.json";
const PROGRESS_FILE: &str = "progress.json";
const LOCK_FILE: &str = "running.lock";
/// What [`Improvement::compared_with`] says of a model's own weights.
const OWN_WEIGHTS: &str = "base";
/// The longest name of an improvement, in bytes.
const ID_BYTES: usize = 64;
/// How often the right to make improvements is asked for, and the pause in between: who only looks whether one is made has it for an instant.
const TRIES: usize = 10;
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// How an improvement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImprovementState {
    /// It is under way, or was interrupted and goes on when it is asked for again.
    Running,
    /// It ended by an error.
    Failed,
    /// It did not pass the gate.
    Refused,
    /// It passed the gate.
    Passed,
}

/// What an improvement learned from, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataCounts {
    /// Choices between two answers.
    pub pairs: usize,
    /// Thumbs.
    pub ratings: usize,
    /// Answers that a person corrected.
    pub corrections: usize,
    /// Examples that were learned from.
    pub train: usize,
    /// Examples that were only measured.
    pub held_out: usize,
    /// Conversations that all of them come from.
    pub conversations: usize,
    /// People that all of them come from.
    pub owners: usize,
    /// What was not used, and why.
    pub left_out: Vec<LeftOut>,
}

/// Judgements that were not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: usize,
}

/// One criterion of the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its name, such as `preference_accuracy`.
    pub name: String,
    /// What was measured; `None` if it could not be.
    pub value: Option<f64>,
    /// The same of what answers now.
    pub base: Option<f64>,
    /// The lower end of the value's 95 % interval.
    pub lower: Option<f64>,
    /// The upper end of it.
    pub upper: Option<f64>,
    /// What the value, or the end of its interval, has to reach.
    pub limit: f64,
    /// Examples that it was measured on.
    pub examples: usize,
    /// Whether it passed; `None` if it could not be measured, or decides nothing: then `value` is there.
    pub passed: Option<bool>,
    /// What a reader should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The record of an improvement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Improvement {
    /// Its name, which is its folder's.
    pub id: String,
    /// The model that it is for.
    pub model: String,
    /// The method: `dpo`, `kto` or `sft`.
    pub method: String,
    /// When it was begun: milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// How it stands.
    pub state: ImprovementState,
    /// Why it failed.
    pub error: Option<String>,
    /// What it learned from.
    pub data: DataCounts,
    /// What was measured before it could be promoted.
    #[serde(default)]
    pub gate: Vec<Criterion>,
    /// What answered for the model then, with which it was compared: the name of a promotion, or `base` for its own weights. `None` before it
    /// was measured, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// What else makes the same adapter again.
    #[serde(default)]
    pub recipe: Recipe,
}

impl Improvement {
    /// One that was begun at `created_at` (milliseconds since 1970), before anything is known of it.
    pub fn begun(id: &str, model: &str, method: &str, created_at: i64) -> Improvement {
        Improvement {
            id: id.to_owned(),
            model: model.to_owned(),
            method: method.to_owned(),
            created_at,
            finished_at: None,
            state: ImprovementState::Running,
            error: None,
            data: DataCounts::default(),
            gate: Vec::new(),
            compared_with: None,
            recipe: Recipe::default(),
        }
    }

    /// The word for what answers for a model, `None` being the model's own weights, as [`Improvement::compared_with`] says it.
    pub fn word_of(answers: Option<&Promoted>) -> &str {
        answers.map_or(OWN_WEIGHTS, |promoted| &promoted.id)
    }

    /// What it was compared with, if something else answers now: what was measured then says nothing of that. It may be this improvement itself
    /// that answers.
    pub fn was_compared_with_other(&self, now: Option<&Promoted>) -> Option<&str> {
        let is_this = now.is_some_and(|now| now.origin.improvement.as_deref() == Some(&*self.id));
        let then = self.compared_with.as_deref().filter(|_| !is_this);
        then.filter(|then| *then != Improvement::word_of(now))
    }

    /// Refuses to promote unseen what was compared with something else than answers `now`.
    ///
    /// # Errors
    /// [`PromotionError::ComparedWithOther`].
    pub fn expect_compared_with(&self, now: Option<&Promoted>) -> Result<(), PromotionError> {
        let Some(then) = self.was_compared_with_other(now) else { return Ok(()) };
        Err(PromotionError::ComparedWithOther {
            id: self.id.clone(),
            then: Improvement::in_words(then),
            now: Improvement::in_words(Improvement::word_of(now)),
        })
    }

    /// What answers for a model, by its word in [`Improvement::compared_with`], as people read it.
    pub fn in_words(word: &str) -> String {
        match word {
            OWN_WEIGHTS => "the model itself".to_owned(),
            id => format!("the promotion {id}"),
        }
    }

    /// What its promotion says of it.
    pub fn origin(&self) -> Origin {
        let DataCounts { train, held_out, conversations, owners, .. } = self.data;
        let data = format!(
            "{train} examples, {held_out} held out, of {conversations} conversations of {owners} people"
        );
        let measured = |criterion: &Criterion| {
            let value = criterion.value?;
            let number = format!("{} {value:.3}", criterion.name);
            Some(match (criterion.lower, criterion.upper) {
                (Some(lower), Some(upper)) => format!("{number} ({lower:.3} to {upper:.3})"),
                _ => number,
            })
        };
        let gate: Vec<String> = self.gate.iter().filter_map(measured).collect();
        Origin {
            method: Some(self.method.clone()),
            data: Some(data),
            gate: (!gate.is_empty()).then(|| gate.join(", ")),
            improvement: Some(self.id.clone()),
            source: None,
        }
    }
}

/// What makes an improvement's adapter again, bit for bit, as long as nothing that it learned from was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// This program's version.
    pub program: String,
    /// Hash of the base model's weights.
    pub base_fingerprint: String,
    /// The instructions that the kernels used.
    pub simd: String,
    /// The settings of the collection: seed, limits, shares.
    pub settings: std::collections::BTreeMap<String, String>,
    /// Names of the judgements that were used.
    pub rows: Vec<String>,
    /// The word for the rule that held examples out; empty in records of earlier versions, which divided by the names of conversations.
    #[serde(default)]
    pub division: String,
    /// The word for the order of the examples; empty in records of earlier versions, which ordered by time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub order: String,
    /// Names of the examples that the judgements would make as well, and that were not used, such as those beyond a person's share. Records of
    /// earlier versions do not say them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Vec<String>>,
    /// SHA-256 of the examples that were learned from.
    pub train_sha256: String,
    /// SHA-256 of those that were only measured.
    pub held_out_sha256: String,
    /// The configuration of the training run.
    pub configuration: String,
    /// SHA-256 of the adapter's matrices.
    pub adapter_sha256: String,
}

/// How far a running improvement has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `collecting`, `reference` (what the model itself makes of the examples is computed), `training` or `judging`.
    pub phase: String,
    /// Steps made of the phase, where they are counted; of `reference`, examples.
    pub step: Option<u64>,
    /// Its steps.
    pub steps: Option<u64>,
    /// About how many seconds the phase takes from now on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// The folder of improvements.
#[derive(Clone, Debug)]
pub struct Improvements {
    folder: PathBuf,
}

/// Held by the program that makes an improvement; the system lets go of it when the program ends, however it ends.
#[derive(Debug)]
pub struct Running {
    _file: File,
}

impl Improvements {
    /// The improvements in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Improvements {
        Improvements { folder }
    }

    /// The folder of all of them.
    pub(crate) fn root(&self) -> &Path {
        &self.folder
    }

    /// The folder of the improvement `id`.
    ///
    /// # Errors
    /// [`PromotionError::BadId`] for what cannot be a name, so that no path leads out of the folder.
    pub fn folder_of(&self, id: &str) -> Result<PathBuf, PromotionError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(allowed) {
            return Ok(self.folder.join(id));
        }
        Err(PromotionError::BadId { id: id.to_owned() })
    }

    /// Where its trained adapter lies.
    ///
    /// # Errors
    /// As for [`Improvements::folder_of`].
    pub fn adapter_of(&self, id: &str) -> Result<PathBuf, PromotionError> {
        Ok(self.folder_of(id)?.join("adapter"))
    }

    /// The name of the improvement to make next: of one of the model, and of the method if one is named, that was interrupted; else a new
    /// one, made of the time in milliseconds since 1970.
    ///
    /// # Errors
    /// As for [`Improvements::list`].
    pub fn next_id(&self, model: &str, method: Option<&str>, now: i64) -> Result<String, PromotionError> {
        let records = self.list()?;
        let goes_on = |record: &&Improvement| {
            record.state == ImprovementState::Running
                && record.model == model
                && method.is_none_or(|method| method == record.method)
        };
        if let Some(interrupted) = records.iter().find(goes_on) {
            return Ok(interrupted.id.clone());
        }
        let at = time::OffsetDateTime::from_unix_timestamp(now.div_euclid(1000))
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (date, time) = (at.date(), at.time());
        let id = format!(
            "{:04}{:02}{:02}-{:02}{:02}{:02}",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        let is_taken = |id: &str| records.iter().any(|record| record.id == id);
        let numbered = (2..).map(|number| format!("{id}-{number}"));
        let mut ids = std::iter::once(id.clone()).chain(numbered);
        Ok(ids.find(|id| !is_taken(id)).unwrap_or(id))
    }

    /// All records, the newest first.
    ///
    /// # Errors
    /// [`PromotionError::Damaged`] when one is not a record, [`PromotionError::Io`] when one cannot be read.
    pub fn list(&self) -> Result<Vec<Improvement>, PromotionError> {
        let mut found = Vec::new();
        for folder in self.folders()? {
            found.extend(read_record(&folder)?);
        }
        found.sort_by(|left, right| (right.created_at, &right.id).cmp(&(left.created_at, &left.id)));
        Ok(found)
    }

    /// The folders of all improvements, and of what was begun and has no record.
    pub(crate) fn folders(&self) -> Result<Vec<PathBuf>, PromotionError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io("read the folder", &self.folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(io("read the folder", &self.folder))?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// The record of the improvement `id`.
    ///
    /// # Errors
    /// [`PromotionError::BadId`], [`PromotionError::Unknown`], and as for [`Improvements::list`].
    pub fn read(&self, id: &str) -> Result<Improvement, PromotionError> {
        let record = read_record(&self.folder_of(id)?)?;
        record.ok_or_else(|| PromotionError::Unknown { id: id.to_owned() })
    }

    /// Writes a record, in the place of an earlier one of the same improvement.
    ///
    /// # Errors
    /// [`PromotionError::BadId`], [`PromotionError::Io`], [`PromotionError::File`].
    pub fn write(&self, improvement: &Improvement) -> Result<(), PromotionError> {
        let folder = self.folder_of(&improvement.id)?;
        std::fs::create_dir_all(&folder).map_err(io("make the folder", &folder))?;
        json_file::write(&folder.join(RECORD_FILE), improvement)
    }

    /// Says how far an improvement has come.
    ///
    /// # Errors
    /// As for [`Improvements::write`].
    pub fn tell(&self, id: &str, progress: &Progress) -> Result<(), PromotionError> {
        json_file::write(&self.folder_of(id)?.join(PROGRESS_FILE), progress)
    }

    /// How far it has come, as it said last.
    pub fn progress(&self, id: &str) -> Option<Progress> {
        json_file::read(&self.folder_of(id).ok()?.join(PROGRESS_FILE)).ok()?
    }

    /// The right to make improvements, which one program at a time has.
    ///
    /// # Errors
    /// [`PromotionError::Busy`] while another program makes one.
    pub fn begin(&self) -> Result<Running, PromotionError> {
        for _ in 1..TRIES {
            match self.try_begin() {
                Err(PromotionError::Busy) => std::thread::sleep(TRY_INTERVAL),
                begun => return begun,
            }
        }
        self.try_begin()
    }

    /// The same without waiting for a program that is about to end.
    ///
    /// # Errors
    /// As for [`Improvements::begin`].
    pub fn try_begin(&self) -> Result<Running, PromotionError> {
        let file = json_file::open_lock(&self.folder, LOCK_FILE)?;
        match file.try_lock() {
            Ok(()) => Ok(Running { _file: file }),
            Err(TryLockError::WouldBlock) => Err(PromotionError::Busy),
            Err(TryLockError::Error(error)) => Err(io("lock", &self.folder.join(LOCK_FILE))(error)),
        }
    }

    /// Whether a program makes an improvement now.
    pub fn is_running(&self) -> bool {
        matches!(self.try_begin(), Err(PromotionError::Busy))
    }
}

/// The record in an improvement's folder; `None` if there is none.
pub(crate) fn read_record(folder: &Path) -> Result<Option<Improvement>, PromotionError> {
    let path = folder.join(RECORD_FILE);
    let record: Option<Improvement> = json_file::read(&path)?;
    match &record {
        Some(record) if folder.file_name().and_then(|name| name.to_str()) != Some(&record.id) => {
            let problem = format!("it is the record of `{}`", record.id);
            Err(PromotionError::Damaged { path, problem })
        }
        _ => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, created_at: i64) -> Improvement {
        Improvement::begun(id, "smollm2", "dpo", created_at)
    }

    #[test]
    fn records_are_listed_the_newest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        assert_eq!(improvements.list().expect("a list"), []);
        let [old, new] = [record("a", 1), record("b", 2)];
        improvements.write(&old).expect("written");
        improvements.write(&new).expect("written");
        assert_eq!(improvements.list().expect("a list"), [new, old.clone()]);
        assert_eq!(improvements.read("a").expect("a record"), old);
        assert!(matches!(improvements.read("c"), Err(PromotionError::Unknown { .. })));
        assert!(matches!(improvements.read("../a"), Err(PromotionError::BadId { .. })));
        assert_eq!(improvements.next_id("smollm2", None, 0).expect("an id"), "b");
        assert_eq!(improvements.next_id("smollm2", Some("kto"), 0).expect("an id"), "19700101-000000");
        improvements
            .write(&Improvement { model: "other".to_owned(), ..record("19700101-000000", 0) })
            .expect("written");
        assert_eq!(improvements.next_id("third", None, 999).expect("an id"), "19700101-000000-2");
        let progress =
            Progress { phase: "training".to_owned(), step: Some(3), steps: Some(9), seconds_left: Some(60) };
        improvements.tell("a", &progress).expect("told");
        assert_eq!(improvements.progress("a"), Some(progress.clone()));
        // As an earlier version wrote it.
        let earlier = r#"{"phase":"training","step":3,"steps":9}"#;
        std::fs::write(folder.path().join("improvements/a").join(PROGRESS_FILE), earlier).expect("a file");
        assert_eq!(improvements.progress("a"), Some(Progress { seconds_left: None, ..progress }));
        std::fs::write(folder.path().join("improvements/a").join(RECORD_FILE), "{").expect("a file");
        let error = improvements.list().expect_err("damaged").to_string();
        assert!(error.contains(RECORD_FILE), "{error}");
    }

    /// Records of earlier versions have neither a rule nor examples that were not used.
    #[test]
    fn earlier_recipes_are_read() {
        let earlier = r#"{"program":"0.1.0","base_fingerprint":"","simd":"","settings":{},"rows":["a"],"train_sha256":"b",
            "held_out_sha256":"c","configuration":"","adapter_sha256":""}"#;
        let recipe: Recipe = serde_json::from_str(earlier).expect("a recipe");
        assert_eq!((recipe.division.as_str(), recipe.order.as_str(), recipe.without.len()), ("", "", 0));
        let recipe = Recipe {
            division: "opening".to_owned(),
            order: "name".to_owned(),
            without: vec![vec!["a".to_owned(), "liked".to_owned()]],
            ..recipe
        };
        let text = serde_json::to_string(&recipe).expect("JSON");
        assert_eq!(serde_json::from_str::<Recipe>(&text).expect("a recipe"), recipe);
    }

    /// Something else may answer by the time that what passed is promoted, and then nothing was measured against that.
    #[test]
    fn what_was_compared_with_something_else_than_answers_now() {
        let promoted = |id: &str, improvement: Option<&str>| Promoted {
            id: id.to_owned(),
            kind: crate::WeightsKind::Adapter,
            since: 1,
            origin: Origin { improvement: improvement.map(str::to_owned), ..Origin::default() },
        };
        let [one, other] = ["0123456789abcdef", "fedcba9876543210"].map(|id| promoted(id, None));
        let compared = |with: Option<&Promoted>| Improvement {
            compared_with: Some(Improvement::word_of(with).to_owned()),
            ..record("a", 1)
        };
        for (record, now, other_than) in [
            (record("a", 1), None, None),
            (record("a", 1), Some(&one), None),
            (compared(None), None, None),
            (compared(None), Some(&one), Some("base")),
            (compared(Some(&one)), Some(&one), None),
            (compared(Some(&one)), Some(&other), Some("0123456789abcdef")),
            (compared(Some(&one)), None, Some("0123456789abcdef")),
            (compared(Some(&one)), Some(&promoted("fedcba9876543210", Some("a"))), None),
        ] {
            assert_eq!(record.was_compared_with_other(now), other_than, "{record:?} {now:?}");
            assert_eq!(record.expect_compared_with(now).is_err(), other_than.is_some(), "{record:?} {now:?}");
            let text = serde_json::to_string(&record).expect("JSON");
            assert_eq!(serde_json::from_str::<Improvement>(&text).expect("a record"), record);
        }
    }

    #[test]
    fn one_program_at_a_time_makes_improvements() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().to_owned());
        assert!(!improvements.is_running());
        let running = improvements.begin().expect("nobody else");
        assert!(improvements.is_running());
        assert!(matches!(improvements.begin(), Err(PromotionError::Busy)));
        drop(running);
        assert!(!improvements.is_running());
    }
}
