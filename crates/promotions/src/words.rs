//! What people wrote, in the folders of improvements: copies that are there only while a program learns from them. They go when it ends, and when
//! what they were made of is erased or withdrawn.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zhenjin_files::{TEMPORARY_PREFIX, sync_folder};

use crate::error::{PromotionError, io};
use crate::improvements::{Improvement, ImprovementState, Improvements, Running, read_record};

/// The examples that are learned from.
pub const TRAIN_FILE: &str = "train.jsonl";
/// Those that are only measured.
pub const HELD_OUT_FILE: &str = "held_out.jsonl";
/// The text that stays as probable as it is.
pub const ANCHOR_FILE: &str = "anchor.txt";
/// The folder in which an improvement is trained once more, to compare.
pub const AGAIN_FOLDER: &str = "again";

/// The reward model that judges answers, with its own run.
const JUDGE_FOLDER: &str = "judge";
/// What the program says that makes an improvement for a server.
pub const LOG_FILE: &str = "log.txt";
/// What is there only while an improvement is made.
const COPIES: [&str; 5] = [TRAIN_FILE, HELD_OUT_FILE, ANCHOR_FILE, JUDGE_FOLDER, AGAIN_FOLDER];
/// Checkpoints, which nobody needs any more when the adapter is there.
const CHECKPOINTS: &str = "run/checkpoints";
/// What an unfinished improvement has computed.
const COMPUTED: [&str; 2] = ["adapter", "run"];

/// Why an improvement is given up whose judgements may no longer be learned from.
const WITHDRAWN: &str = "what it learned from was erased, changed or put into the trash before it had ended, or is no longer allowed; all that it had \
     computed is removed: begin a new one";

/// Why an improvement is given up that somebody discarded.
const DISCARDED: &str =
    "it was discarded before it had ended; all that it had computed is removed: begin a new one";

impl Improvements {
    /// Removes what holds people's words from the folder of an improvement that has ended, and its checkpoints.
    ///
    /// # Errors
    /// [`PromotionError::BadId`], [`PromotionError::Io`], [`PromotionError::File`].
    pub fn forget_words(&self, id: &str) -> Result<(), PromotionError> {
        forget(&self.folder_of(id)?, &[CHECKPOINTS])
    }

    /// Removes what holds people's words from the folder of an improvement that is given up, and all that it had computed. Its record stays.
    ///
    /// # Errors
    /// As for [`Improvements::forget_words`].
    pub fn forget_all(&self, id: &str) -> Result<(), PromotionError> {
        forget(&self.folder_of(id)?, &COMPUTED)
    }

    /// Whether [`Improvements::forget_withdrawn`] may find something: the folder of an improvement holds people's words, or one has not ended.
    /// Of the latter the words may be gone already, if a program ended before the rest was.
    ///
    /// # Errors
    /// [`PromotionError::Io`].
    pub fn may_hold_withdrawn(&self) -> Result<bool, PromotionError> {
        for folder in self.folders()? {
            if !copies_in(&folder)?.is_empty() || unfinished_in(&folder)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names of the improvements that have begun and not ended, by their records. A damaged record says neither, and nobody can go on with it.
    ///
    /// # Errors
    /// [`PromotionError::Io`].
    pub fn unfinished(&self) -> Result<Vec<String>, PromotionError> {
        let mut names = Vec::new();
        for folder in self.folders()? {
            names.extend(unfinished_in(&folder)?.map(|record| record.id));
        }
        Ok(names)
    }

    /// Removes people's words wherever nobody may learn from them any more: from improvements that have ended or have no record, and from
    /// interrupted ones if `may_be_learned` says no to the name of a judgement of theirs. The latter lose all that they computed, and are
    /// returned: [`Improvements::end_withdrawn`] ends each once the note of what it learned from is gone. Until then they are found again.
    /// Whoever has the right to make improvements knows that nobody learns from them now.
    ///
    /// # Errors
    /// [`PromotionError::Io`], [`PromotionError::File`].
    pub fn forget_withdrawn(
        &self,
        _making: &Running,
        may_be_learned: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Improvement>, PromotionError> {
        let mut given_up = Vec::new();
        for folder in self.folders()? {
            // Nobody can go on with a damaged one: nothing says what it learned from.
            match unfinished_in(&folder)? {
                Some(record) if record.recipe.rows.iter().all(|row| may_be_learned(row)) => {}
                Some(record) => {
                    self.forget_all(&record.id)?;
                    given_up.push(record);
                }
                None => forget(&folder, &[CHECKPOINTS])?,
            }
        }
        Ok(given_up)
    }

    /// Writes down that an improvement was given up which [`Improvements::forget_withdrawn`] has returned. Nothing may be left of it by then, the
    /// note of what it learned from neither: nobody looks at what has failed any more. `now` is the time in milliseconds since 1970.
    ///
    /// # Errors
    /// As for [`Improvements::give_up`].
    pub fn end_withdrawn(
        &self,
        _making: &Running,
        record: &mut Improvement,
        now: i64,
    ) -> Result<(), PromotionError> {
        self.give_up(record, WITHDRAWN, now)
    }

    /// Writes down that an interrupted improvement was discarded, after what it had copied and computed is removed. The note of what it learned from
    /// has to be gone by then. `now` is the time in milliseconds since 1970.
    ///
    /// # Errors
    /// As for [`Improvements::give_up`].
    pub fn end_discarded(
        &self,
        _making: &Running,
        record: &mut Improvement,
        now: i64,
    ) -> Result<(), PromotionError> {
        self.give_up(record, DISCARDED, now)
    }

    /// Removes the folder of an improvement that was begun and left no record, so that nobody can go on with it. One that has a record stays,
    /// whatever it says.
    ///
    /// # Errors
    /// [`PromotionError::BadId`], [`PromotionError::Io`].
    pub fn forget_unbegun(&self, id: &str) -> Result<(), PromotionError> {
        let folder = self.folder_of(id)?;
        if has_record(&folder)? { Ok(()) } else { remove(&folder) }
    }

    /// The same for all of which nothing is left but what their programs said: those that ended with the machine. Whoever has the right to make
    /// improvements knows that none of them runs.
    ///
    /// # Errors
    /// [`PromotionError::Io`].
    pub fn forget_all_unbegun(&self, _making: &Running) -> Result<(), PromotionError> {
        for folder in self.folders()? {
            if !has_record(&folder)? && has_only_log(&folder)? {
                remove(&folder)?;
            }
        }
        Ok(())
    }

    /// Gives an unfinished improvement up: what it had copied and computed is removed, and its record says that it failed for this
    /// `reason`.
    ///
    /// # Errors
    /// [`PromotionError::BadId`], [`PromotionError::Io`], [`PromotionError::File`].
    pub fn give_up(&self, record: &mut Improvement, reason: &str, now: i64) -> Result<(), PromotionError> {
        // The record last: what is left after a crash in between is found again, as it still says that it may go on.
        self.forget_all(&record.id)?;
        record.state = ImprovementState::Failed;
        record.finished_at = Some(now);
        record.error = Some(reason.to_owned());
        self.write(record)
    }
}

/// Whether there is a record in an improvement's folder, a damaged one too.
fn has_record(folder: &Path) -> Result<bool, PromotionError> {
    match read_record(folder) {
        Err(PromotionError::Damaged { .. }) => Ok(true),
        record => Ok(record?.is_some()),
    }
}

/// The record in an improvement's folder, if it says that it may go on. A damaged one says nothing.
fn unfinished_in(folder: &Path) -> Result<Option<Improvement>, PromotionError> {
    match read_record(folder) {
        Err(PromotionError::Damaged { .. }) => Ok(None),
        record => Ok(record?.filter(|record| record.state == ImprovementState::Running)),
    }
}

/// Whether an improvement's folder holds nothing but what its program said.
fn has_only_log(folder: &Path) -> Result<bool, PromotionError> {
    for entry in std::fs::read_dir(folder).map_err(io("read the folder", folder))? {
        if entry.map_err(io("read the folder", folder))?.file_name() != LOG_FILE {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What holds people's words in an improvement's folder, unfinished files of a killed program too.
fn copies_in(folder: &Path) -> Result<Vec<PathBuf>, PromotionError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("read the folder", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("read the folder", folder))?;
        let name = entry.file_name();
        let is_copy =
            name.to_str().is_some_and(|name| COPIES.contains(&name) || name.starts_with(TEMPORARY_PREFIX));
        if is_copy {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes people's words from an improvement's folder, and what else is named.
fn forget(folder: &Path, more: &[&str]) -> Result<(), PromotionError> {
    // The words last: as long as some are left, the folder is looked at again.
    for name in more {
        remove(&folder.join(name))?;
    }
    let copies = copies_in(folder)?;
    copies.iter().try_for_each(|path| remove(path))?;
    if !copies.is_empty() {
        sync_folder(folder)?;
    }
    Ok(())
}

/// Removes a file or a folder, which need not be there. Of a link, what it leads to stays.
fn remove(path: &Path) -> Result<(), PromotionError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    /// An improvement that learned from `rows`, with people's words and what it had computed in its folder.
    fn make(improvements: &Improvements, id: &str, state: ImprovementState, rows: &[&str]) -> PathBuf {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        let recipe = Recipe { rows, ..Recipe::default() };
        let record = Improvement { state, recipe, ..Improvement::begun(id, "smollm2", "dpo", 1) };
        improvements.write(&record).expect("written");
        let folder = improvements.folder_of(id).expect("a folder");
        fill(&folder);
        folder
    }

    fn fill(folder: &Path) {
        for name in ["adapter", "run/checkpoints/step-1", "judge", "again"] {
            std::fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        for name in [TRAIN_FILE, HELD_OUT_FILE, ANCHOR_FILE, "again/train.jsonl", ".writing-x", "log.txt"] {
            std::fs::write(folder.join(name), "words").expect("a file");
        }
    }

    /// One damaged record once kept everybody from seeing and erasing what is kept of them.
    #[test]
    fn a_damaged_record_is_not_unfinished_and_hides_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().to_owned());
        make(&improvements, "20261127-000001", ImprovementState::Running, &["a"]);
        make(&improvements, "20261127-000002", ImprovementState::Passed, &["a"]);
        let damaged = make(&improvements, "20261127-000003", ImprovementState::Running, &["a"]);
        std::fs::write(damaged.join("improvement.json"), "{").expect("a file");
        assert_eq!(improvements.unfinished().expect("read"), ["20261127-000001"]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// People's words once stayed in the folder of an improvement that was interrupted, erased or not.
    #[test]
    fn words_of_interrupted_improvements_go_when_they_are_withdrawn() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        assert!(!improvements.may_hold_withdrawn().expect("no folder"));
        let [kept, withdrawn] = [("kept", ["a", "b"]), ("withdrawn", ["b", "c"])]
            .map(|(id, rows)| make(&improvements, id, ImprovementState::Running, &rows));
        let ended = make(&improvements, "ended", ImprovementState::Passed, &["c"]);
        let orphan = improvements.folder_of("orphan").expect("a folder");
        fill(&orphan);
        assert!(improvements.may_hold_withdrawn().expect("folders"));
        let making = improvements.begin().expect("nobody else");
        let mut given_up = improvements.forget_withdrawn(&making, &|row| row != "c").expect("removed");
        assert_eq!(given_up.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["withdrawn"]);
        improvements.end_withdrawn(&making, &mut given_up[0], 5).expect("written");
        let record = improvements.read("withdrawn").expect("a record");
        assert_eq!(record, given_up[0]);
        assert_eq!((record.state, record.finished_at), (ImprovementState::Failed, Some(5)));
        assert_eq!(record.error.as_deref(), Some(WITHDRAWN));
        assert_eq!(names(&withdrawn), ["improvement.json", "log.txt"]);
        // What may still be learned from goes on, with all that it has.
        assert!(
            names(&kept).contains(&TRAIN_FILE.to_owned()) && kept.join("run/checkpoints/step-1").is_dir()
        );
        assert_eq!(improvements.read("kept").expect("a record").state, ImprovementState::Running);
        assert_eq!(names(&ended), ["adapter", "improvement.json", "log.txt", "run"]);
        assert_eq!(names(&orphan), ["adapter", "log.txt", "run"]);
        for mut record in improvements.forget_withdrawn(&making, &|_| false).expect("removed") {
            improvements.end_withdrawn(&making, &mut record, 6).expect("written");
        }
        assert!(!improvements.may_hold_withdrawn().expect("folders"));
        assert_eq!(names(&kept), ["improvement.json", "log.txt"]);
    }

    /// Regression: the record said that it had failed before the note of what it had learned from was gone. After a crash in between, nobody
    /// looked at it any more, and the note stayed.
    #[test]
    fn what_is_withdrawn_is_found_again_until_its_note_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        let withdrawn = make(&improvements, "withdrawn", ImprovementState::Running, &["a"]);
        let making = improvements.begin().expect("nobody else");
        for _crash in 0..2 {
            assert!(improvements.may_hold_withdrawn().expect("folders"));
            let found = improvements.forget_withdrawn(&making, &|_| false).expect("removed");
            let [record] = &found[..] else { panic!("{found:?}") };
            assert_eq!((record.id.as_str(), record.state), ("withdrawn", ImprovementState::Running));
            assert_eq!(improvements.read("withdrawn").expect("a record"), *record);
            assert_eq!(names(&withdrawn), ["improvement.json", "log.txt"]);
        }
        let mut record = improvements.read("withdrawn").expect("a record");
        improvements.end_withdrawn(&making, &mut record, 5).expect("written");
        assert!(!improvements.may_hold_withdrawn().expect("folders"));
        assert_eq!(improvements.forget_withdrawn(&making, &|_| false).expect("nothing"), []);
    }

    /// Regression: an empty folder with a log stayed of an improvement that was killed before it had written its record.
    #[test]
    fn what_was_begun_and_has_no_record_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        let begun = |id: &str| {
            let folder = improvements.folder_of(id).expect("a path");
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(LOG_FILE), "").expect("a file");
            folder
        };
        let recorded = make(&improvements, "recorded", ImprovementState::Running, &["a"]);
        let damaged = begun("damaged");
        std::fs::write(damaged.join("improvement.json"), "{").expect("a file");
        let [one, other, adapted] = ["one", "other", "adapted"].map(begun);
        std::fs::create_dir(adapted.join("adapter")).expect("a folder");
        for id in ["one", "recorded", "damaged", "never"] {
            improvements.forget_unbegun(id).expect("removed");
        }
        assert!(!one.exists() && other.exists());
        let making = improvements.begin().expect("nobody else");
        improvements.forget_all_unbegun(&making).expect("removed");
        assert!(!other.exists() && adapted.exists() && recorded.exists() && damaged.exists());
    }

    #[test]
    fn words_of_an_improvement_with_a_damaged_record_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        let damaged = make(&improvements, "damaged", ImprovementState::Running, &["a"]);
        std::fs::write(damaged.join("improvement.json"), "{").expect("a file");
        let making = improvements.begin().expect("nobody else");
        assert_eq!(improvements.forget_withdrawn(&making, &|_| true).expect("removed"), []);
        assert_eq!(names(&damaged), ["adapter", "improvement.json", "log.txt", "run"]);
    }
}
