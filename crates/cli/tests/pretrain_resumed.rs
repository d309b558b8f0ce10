//! `zhenjin pretrain` that goes on from an older checkpoint, in a folder that another process uses, or without training at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shards::{TINY, make_shards};
use zhenjin_train::checkpoint::{Checkpoint, Checkpoints};

/// Beside those of the tiny model.
const SETTINGS: [&str; 3] = ["schedule.steps=12", "intervals.checkpoint=2", "intervals.samples=0"];

struct Place {
    _folder: tempfile::TempDir,
    data: PathBuf,
    out: PathBuf,
}

impl Place {
    /// Shards, and a run on them that has ended and kept so many checkpoints.
    fn trained(keep: &str) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let data = make_shards(&folder.path().join("data"), 200);
        let place = Place { out: folder.path().join("out"), data, _folder: folder };
        let mut options = vec!["--depth", "1", "--set", keep];
        TINY.iter().chain(&SETTINGS).for_each(|setting| options.extend(["--set", setting]));
        place.succeed(&options);
        place
    }

    fn run_in(&self, out: &Path, options: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        command.env_remove("ZHENJIN_LOG").stdin(Stdio::null());
        command.args(["pretrain", "--plain", "--data"]).arg(&self.data).arg("--out").arg(out).args(options);
        let output = command.output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn run(&self, options: &[&str]) -> (Option<i32>, String) {
        self.run_in(&self.out, options)
    }

    fn succeed(&self, options: &[&str]) -> String {
        let (code, text) = self.run(options);
        assert_eq!(code, Some(0), "{text}");
        text
    }

    fn checkpoint(&self, step: u64) -> String {
        let path = self.out.join("checkpoints").join(format!("step-{step:08}"));
        path.to_str().expect("a name in UTF-8").to_owned()
    }

    fn newest(&self) -> Checkpoint {
        let found = Checkpoints::new(&self.out.join("checkpoints"), 9).find().expect("a folder");
        found.newest.expect("a checkpoint")
    }

    /// Every file of the run, with its contents.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.out.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(files.insert(path.clone(), std::fs::read(&path).expect("a file"))),
                }
            }
        }
        files
    }

    /// The lock that a process holds while it trains.
    fn locked(&self) -> File {
        let file = OpenOptions::new().write(true).open(self.out.join(".lock")).expect("the lock's file");
        file.try_lock().expect("nobody trains");
        file
    }
}

/// Regression: what was saved after an older checkpoint was removed at once, and the next `auto` went on with the abandoned branch.
#[test]
fn a_run_that_goes_on_from_an_older_checkpoint_leaves_the_newer_ones_aside() {
    let place = Place::trained("intervals.keep=2");
    let before = place.newest().state;
    let text = place.succeed(&["--resume", &place.checkpoint(10)]);
    assert!(text.contains("the run goes on from step 10"), "{text}");
    let aside = place.out.join("checkpoints/abandoned-1-step-00000012");
    assert!(text.contains("abandoned-1-step-00000012") && aside.is_dir(), "{text}");
    assert!(text.contains(&format!("the model is in {}", place.checkpoint(12))), "{text}");
    let after = place.newest().state;
    assert_eq!((after.step, after.files), (12, before.files));
    let text = place.succeed(&["--resume", "auto"]);
    assert!(text.contains("step-00000012 (step 12)"), "{text}");
    assert!(aside.is_dir(), "it is never removed");
}

/// Regression: with room for one checkpoint, a damaged newer one drove out every one that was saved after the one before it.
#[test]
fn beside_a_damaged_newer_checkpoint_what_is_saved_stays() {
    let place = Place::trained("intervals.keep=3");
    std::fs::write(Path::new(&place.checkpoint(12)).join("model.safetensors"), b"damage").expect("damaged");
    std::fs::write(Path::new(&place.checkpoint(10)).join("model.safetensors"), b"damage").expect("damaged");
    let text = place.succeed(&["--resume", "auto", "--set", "intervals.keep=1"]);
    assert!(text.contains("step-00000008 (step 8)"), "{text}");
    assert!(text.contains("step-00000012 is passed over"), "{text}");
    assert_eq!(place.newest().state.step, 12);
}

/// Regression: the configuration of another run was replaced.
#[test]
fn a_checkpoint_of_another_run_is_not_continued_in_a_folder_that_has_a_run() {
    let [place, other] = [Place::trained("intervals.keep=2"), Place::trained("intervals.keep=2")];
    let before = place.files();
    let (code, text) = place.run(&["--resume", &other.checkpoint(10)]);
    assert!(code == Some(1) && text.contains("is none of the checkpoints of the run in"), "{text}");
    assert!(place.files() == before);
    // A new folder takes it.
    let new = place.out.with_file_name("new");
    let (code, text) = place.run_in(&new, &["--resume", &other.checkpoint(10)]);
    assert_eq!(code, Some(0), "{text}");
    assert!(new.join("run.toml").is_file() && new.join("checkpoints/step-00000012").is_dir());
}

/// Regression: two processes trained in one folder and removed each other's checkpoints.
#[test]
fn a_second_process_is_refused_and_a_dry_run_changes_nothing() {
    let place = Place::trained("intervals.keep=2");
    let unfinished = place.out.join("checkpoints/.step-00000013.unfinished");
    std::fs::create_dir(&unfinished).expect("a folder");
    std::fs::write(unfinished.join("model.safetensors"), b"half").expect("a file");
    let before = place.files();
    let lock = place.locked();
    let older = place.checkpoint(10);
    for resume in ["auto", &older] {
        let (code, text) = place.run(&["--resume", resume]);
        assert!(code == Some(1) && text.contains("another process is training in this folder"), "{text}");
        place.succeed(&["--resume", resume, "--dry-run"]);
        assert!(place.files() == before, "{resume}");
    }
    drop(lock);
    place.succeed(&["--resume", "auto"]);
    assert!(!unfinished.exists());
}

/// Regression: a dry run in the folder of a run that was killed before its first checkpoint moved its log aside.
#[test]
fn a_dry_run_leaves_the_log_of_a_run_without_checkpoints() {
    let place = Place::trained("intervals.keep=1");
    std::fs::remove_dir_all(place.out.join("checkpoints")).expect("removed");
    let before = place.files();
    place.succeed(&["--resume", "auto", "--dry-run"]);
    assert!(place.files() == before);
}

/// Regression: with token shards, options with a default value were taken and had no effect.
#[test]
fn token_shards_refuse_every_option_of_text() {
    let place = Place::trained("intervals.keep=1");
    let new = place.out.with_file_name("new");
    for (option, value) in [("--split", "line"), ("--split", "file"), ("--max-document", "1MiB")] {
        let (code, text) = place.run_in(&new, &[option, value]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("token shards already, and {option} says")), "{text}");
        assert!(!new.exists());
    }
}
