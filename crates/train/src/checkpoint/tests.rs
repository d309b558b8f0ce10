//! Checkpoints that are damaged, cut off, replaced and removed.

use super::*;

fn state(step: u64) -> RunState {
    RunState {
        step,
        updates: step,
        window: vec![[1.5f64.to_bits(), f64::NAN.to_bits()]],
        ..RunState::new("depth = 1\n".to_owned(), "data".to_owned())
    }
}

fn save_state(checkpoints: &Checkpoints, state: RunState) -> PathBuf {
    let contents = format!("weights of step {}", state.step);
    let mut write = |folder: &Path| {
        let mut files = BTreeMap::new();
        files.insert("weights".to_owned(), write_file(folder, "weights", contents.as_bytes())?);
        files.insert("empty".to_owned(), write_file(folder, "empty", b"")?);
        Ok(files)
    };
    checkpoints.save(state, &mut write, &mut || Ok(())).expect("a checkpoint")
}

fn save(checkpoints: &Checkpoints, step: u64) -> PathBuf {
    save_state(checkpoints, state(step))
}

fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
    checkpoints.list().expect("a list").into_iter().map(|(step, _)| step).collect()
}

#[test]
fn the_newest_is_found_and_has_what_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(&folder.path().join("checkpoints"), 2);
    assert!(checkpoints.find().expect("nothing").newest.is_none());
    assert_eq!(checkpoints.held_bytes(), 0);
    for step in [5, 10, 100_000_000] {
        save(&checkpoints, step);
    }
    // Two are left, each with its state.
    assert!(
        checkpoints.held_bytes() > ("weights of step 10".len() + "weights of step 100000000".len()) as u64
    );
    assert_eq!(steps(&checkpoints), [10, 100_000_000]);
    let found = checkpoints.find().expect("checkpoints");
    let newest = found.newest.expect("a checkpoint");
    assert!(found.passed_over.is_empty());
    assert_eq!(RunState { files: BTreeMap::new(), ..newest.state }, state(100_000_000));
}

#[test]
fn the_best_stays_beside_the_last_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 2);
    for step in 1..=6 {
        let best = Some(Best { step: step.min(2), loss_bits: 2.5f64.to_bits() });
        save_state(&checkpoints, RunState { best, ..state(step) });
    }
    assert_eq!(steps(&checkpoints), [2, 5, 6]);
}

#[test]
fn every_changed_cut_or_missing_file_is_noticed_and_the_one_before_it_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 5);
    let older = save(&checkpoints, 1);
    let newer = save(&checkpoints, 2);
    for name in ["weights", "empty", STATE_FILE] {
        let path = newer.join(name);
        let whole = std::fs::read(&path).expect("a file");
        let mut damages: Vec<Option<Vec<u8>>> = vec![None, Some([&whole[..], b" "].concat())];
        damages.extend((0..whole.len()).map(|cut| Some(whole[..cut].to_vec())));
        damages.extend((0..whole.len()).map(|place| {
            let mut flipped = whole.clone();
            flipped[place] ^= 4;
            Some(flipped)
        }));
        for (number, damage) in damages.into_iter().enumerate() {
            match &damage {
                None => std::fs::remove_file(&path).expect("removed"),
                Some(bytes) => std::fs::write(&path, bytes).expect("damaged"),
            }
            let found = checkpoints.find().expect("a folder");
            // White space around the state's JSON, and the end of its line, mean nothing.
            let harmless = damage.as_ref().is_some_and(|bytes| bytes.trim_ascii() == whole.trim_ascii());
            if !(harmless && name == STATE_FILE) {
                assert_eq!(found.newest.expect("the older one").path, older, "{name}, damage {number}");
                let (path, error) = &found.passed_over[0];
                assert!(*path == newer && error.to_string().contains(name), "{error}");
            }
        }
        std::fs::write(&path, whole).expect("mended");
    }
    assert_eq!(checkpoints.find().expect("a folder").newest.expect("the newer one").path, newer);
}

/// Regression: a state was read whole, however long it was, before its length was looked at.
#[test]
fn of_a_state_that_is_too_long_no_more_is_read_than_a_state_can_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 5);
    let older = save(&checkpoints, 1);
    let newer = save(&checkpoints, 2);
    let state = std::fs::File::options().write(true).open(newer.join(STATE_FILE)).expect("a state");
    state.set_len(1 << 23).expect("a file without contents");
    let error = Checkpoint::open(&newer).expect_err("a long state").to_string();
    assert!(error.contains(STATE_FILE) && error.contains("it has more than 4194304 bytes"), "{error}");
    assert_eq!(checkpoints.find().expect("a folder").newest.expect("the older one").path, older);
}

#[test]
fn a_damaged_checkpoint_is_replaced_when_its_step_comes_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 5);
    save(&checkpoints, 1);
    let newer = save(&checkpoints, 2);
    std::fs::write(newer.join("weights"), b"damage").expect("damaged");
    assert_eq!(save(&checkpoints, 2), newer);
    assert_eq!(checkpoints.find().expect("a folder").newest.expect("a checkpoint").path, newer);
    assert!(checkpoints.entries(HIDDEN).expect("a folder").is_empty());
}

#[test]
fn what_a_killed_run_left_is_never_taken_and_removed_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 2);
    let whole = save(&checkpoints, 3);
    let rest = folder.path().join(".step-00000004.unfinished");
    std::fs::create_dir(&rest).expect("a folder");
    std::fs::copy(whole.join(STATE_FILE), rest.join(STATE_FILE)).expect("a file");
    assert_eq!(checkpoints.find().expect("a folder").newest.expect("a checkpoint").path, whole);
    checkpoints.clean().expect("a clean folder");
    assert!(!rest.exists() && whole.exists());
}

/// Regression: killed between the two renames of a replacement, the only checkpoint was hidden, and the next start removed it.
#[test]
fn a_checkpoint_that_was_being_replaced_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 1);
    let visible = save(&checkpoints, 3);
    let [replaced, unfinished] =
        ["replaced", "unfinished"].map(|end| folder.path().join(format!(".step-00000003.{end}")));
    std::fs::rename(&visible, &replaced).expect("hidden");
    std::fs::create_dir(&unfinished).expect("a folder");
    assert!(checkpoints.find().expect("a folder").newest.is_none());
    checkpoints.clean().expect("a clean folder");
    assert_eq!(checkpoints.find().expect("a folder").newest.expect("a checkpoint").path, visible);
    assert!(!replaced.exists() && !unfinished.exists());
    // Killed after the second one, the old one goes.
    std::fs::create_dir(&replaced).expect("a folder");
    checkpoints.clean().expect("a clean folder");
    assert!(!replaced.exists() && visible.exists());
}

/// Regression: beside newer checkpoints, damaged or of another branch, the one that was just written was removed at once.
#[test]
fn what_was_just_written_is_never_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 1);
    save(&checkpoints, 1);
    std::fs::rename(folder.path().join("step-00000001"), folder.path().join("step-00000009")).expect("newer");
    for step in 2..=4 {
        let written = save(&checkpoints, step);
        assert!(written.exists());
        assert_eq!(steps(&checkpoints), [step, 9]);
    }
}

#[test]
fn newer_checkpoints_are_set_aside_under_names_that_no_checkpoint_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 5);
    for step in 1..=3 {
        save(&checkpoints, step);
    }
    assert!(checkpoints.set_aside_after(3).expect("a folder").is_empty());
    let name = |number: u64, step: u64| folder.path().join(format!("abandoned-{number}-step-{step:08}"));
    assert_eq!(checkpoints.set_aside_after(1).expect("a folder"), [name(1, 3), name(1, 2)]);
    assert_eq!(steps(&checkpoints), [1]);
    let again = save(&checkpoints, 2);
    assert_eq!(checkpoints.set_aside_after(1).expect("a folder"), [name(2, 2)]);
    assert!(!again.exists() && name(1, 2).join(STATE_FILE).exists());
    checkpoints.clean().expect("a clean folder");
    assert!(name(1, 3).exists());
    let [own, left] = [folder.path().join("step-00000001"), name(1, 3)];
    assert!(checkpoints.holds(&Checkpoint::open(&own).expect("a checkpoint")));
    assert!(!checkpoints.holds(&Checkpoint::open(&left).expect("a checkpoint")));
}

#[test]
fn a_save_that_fails_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), 1);
    let whole = save(&checkpoints, 3);
    let full =
        |_: &Path| Err(CheckpointError::io("write", Path::new("x"))(std::io::ErrorKind::StorageFull.into()));
    checkpoints.save(state(4), &mut { full }, &mut || Ok(())).expect_err("no room");
    let refuse = || Err(CheckpointError::damaged(Path::new("metrics.jsonl"), "no room"));
    checkpoints.save(state(4), &mut |_| Ok(BTreeMap::new()), &mut { refuse }).expect_err("no room");
    assert_eq!(checkpoints.find().expect("a folder").newest.expect("a checkpoint").path, whole);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn states_that_name_files_outside_of_their_folder_or_another_format_are_refused() {
    for name in ["../weights", ".hidden", "a\\b"] {
        let files = [(name.to_owned(), FileSum { bytes: 0, sha256: String::new() })].into();
        let text = RunState { files, ..state(1) }.to_json();
        assert!(parse_state(text.as_bytes()).expect_err("refused").contains("not a file in its folder"));
    }
    let text = RunState { format: 2, ..state(1) }.to_json();
    assert!(parse_state(text.as_bytes()).expect_err("refused").contains("format 2"));
    assert!(parse_state(&vec![b' '; 5 << 20]).is_err());
    assert_eq!(parse_state(state(7).to_json().as_bytes()), Ok(state(7)));
}
