//! What a run needs to go on with the bits of one that was never stopped: every part of its state, and the newest checkpoint that is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::runs::*;
use crate::training::{ONLINE, Wished, endings, online};
use zhenjin_align::AlignError;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::faults::FaultyStep;
use zhenjin_align::methods::Online;
use zhenjin_align::run::{HeldOut, StepOutcome, Training};
use zhenjin_tensor::Dtype;
use zhenjin_train::checkpoint::{Checkpoint, CheckpointError, Checkpoints, FileSums, STATE_FILE};

/// What a run goes on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// What the optimiser remembers of gradients.
    Moments,
    /// How many updates there were.
    Updates,
    /// The number of the step, from which follow the prompts, the minibatches and the seeds that answers are drawn with: there is no other state of
    /// a generator.
    Place,
    /// What the watch remembers of steps.
    Window,
}

/// A run that forgets something when it goes on.
struct Forgetful {
    run: Online,
    left: Left,
    /// Steps before it went on.
    begun: u64,
}

/// Copies a checkpoint's folder.
fn copy(checkpoint: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(checkpoint).unwrap().flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Makes zeros of all numbers in a safetensors file.
fn clear(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap()) as usize;
    assert!(bytes[8 + header..].iter().any(|byte| *byte != 0));
    bytes[8 + header..].fill(0);
    std::fs::write(file, bytes).unwrap();
}

impl Training for Forgetful {
    fn step(&mut self, step: u64, rate_factor: f64) -> Result<StepOutcome, AlignError> {
        let begun = if self.left == Left::Place { self.begun } else { 0 };
        self.run.step(step - begun, rate_factor)
    }

    fn rehearse(&mut self, step: u64) -> Result<Option<usize>, AlignError> {
        self.run.rehearse(step)
    }

    fn held_out(&mut self) -> Result<Option<HeldOut>, AlignError> {
        self.run.held_out()
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>, AlignError> {
        self.run.samples()
    }

    fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError> {
        self.run.write(folder)
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), AlignError> {
        let mut checkpoint = checkpoint.clone();
        self.begun = checkpoint.state.step;
        let folder = tempfile::tempdir().unwrap();
        if self.left == Left::Moments {
            copy(&checkpoint.path, folder.path());
            clear(&folder.path().join("optimiser.safetensors"));
            checkpoint.path = folder.path().to_owned();
        }
        if self.left == Left::Updates {
            checkpoint.state.updates = 0;
        }
        self.run.load(&checkpoint)
    }

    fn updates(&self) -> u64 {
        self.run.updates()
    }

    fn not_finite(&self) -> Option<String> {
        self.run.not_finite()
    }

    fn origin_of_non_finite(&mut self, step: &FaultyStep) -> Result<Option<String>, AlignError> {
        self.run.origin_of_non_finite(step)
    }

    fn memory(&self) -> Vec<[u64; 2]> {
        self.run.memory()
    }

    fn remember(&mut self, memory: &[[u64; 2]]) {
        if self.left != Left::Window {
            self.run.remember(memory);
        }
    }

    fn fingerprint(&self) -> String {
        self.run.fingerprint()
    }
}

/// That runs which go on end with the bits of whole ones would be said of any two runs by a comparison that sees nothing.
#[test]
fn a_run_that_goes_on_without_a_part_of_its_state_ends_with_other_bits() {
    let settings = ["schedule.steps=6", "rollout.answers=4", "policy.epochs=2", "policy.minibatches=2"];
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &settings].concat());
    for left in [Left::Nothing, Left::Moments, Left::Updates, Left::Place, Left::Window] {
        let [whole, parts] = endings(&|folder, until, threads| {
            let run = online(&configuration, Dtype::F32, threads, Box::new(Wished(3)));
            train(&configuration, Forgetful { run, left, begun: 0 }, folder, until).unwrap().0
        });
        assert_eq!((whole.0.step, parts.0.step), (6, 6));
        // Of what the window is for, only a warning would tell.
        let is_told = matches!(left, Left::Nothing | Left::Window);
        assert_eq!(whole.0.files == parts.0.files, is_told, "{left:?}: the files");
        assert_eq!(whole.1 == parts.1, is_told, "{left:?}: what was told");
        if is_told {
            assert_eq!(whole.0.window == parts.0.window, left == Left::Nothing, "{left:?}: the window");
        }
        assert_eq!(whole.0 == parts.0, left == Left::Nothing, "{left:?}");
    }
}

/// A run of two checkpoints, after two steps and after four.
fn two_checkpoints(tuning: TuningKind, folder: &Path) -> Configuration {
    let settings =
        ["schedule.steps=4", "rollout.answers=2", "intervals.checkpoint=2", "intervals.held_out=0"];
    let configuration = configuration(Method::Ppo, tuning, &[&ONLINE[..], &settings].concat());
    go_on(&configuration, folder);
    configuration
}

fn go_on(configuration: &Configuration, folder: &Path) {
    let training = online(configuration, Dtype::F32, 1, Box::new(Wished(3)));
    train(configuration, training, folder, 99).unwrap();
}

/// A checkpoint's files and their contents; the last one that is written is the last.
fn contents(checkpoint: &Path) -> Vec<(String, Vec<u8>)> {
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    let mut files: BTreeMap<String, Vec<u8>> =
        std::fs::read_dir(checkpoint).unwrap().flatten().map(file).collect();
    let state = files.remove_entry(STATE_FILE).unwrap();
    files.into_iter().chain([state]).collect()
}

fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) {
    std::fs::create_dir_all(folder).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
}

/// What a process that ended in the middle of a save leaves on the disk: whole files, and one up to some byte.
#[test]
fn ended_in_any_file_of_a_save_the_newest_whole_checkpoint_is_taken() {
    for tuning in [TuningKind::Lora, TuningKind::Full] {
        let folder = tempfile::tempdir().unwrap();
        let configuration = two_checkpoints(tuning, folder.path());
        let whole = newest(folder.path());
        assert_eq!(whole.state.step, 4);
        let files = contents(&whole.path);
        let weights = match tuning {
            TuningKind::Lora => ["adapter_model.safetensors", "critic-adapter_model.safetensors"],
            TuningKind::Full => ["model.safetensors", "critic-weights.safetensors"],
        };
        let of_both = ["optimiser.safetensors", "critic-optimiser.safetensors", "critic-score.safetensors"];
        for name in weights.iter().chain(&of_both) {
            assert!(files.iter().any(|(file, _)| file == name), "there is no {name}");
        }
        let visible = whole.path.clone();
        let unfinished = visible.with_file_name(".step-00000004.unfinished");
        let found = || Checkpoints::new(&folder.path().join("checkpoints"), 9).find().unwrap();
        for (number, (name, bytes)) in files.iter().enumerate() {
            // The last byte of a state is the end of its line, which is no part of it.
            for length in [0, 1, bytes.len() / 2, bytes.len() - 2] {
                // Killed: nothing of it is visible.
                std::fs::remove_dir_all(&visible).unwrap();
                write_all(&unfinished, &files[..number]);
                write_all(&unfinished, &[(name.clone(), bytes[..length].to_vec())]);
                assert_eq!(found().newest.unwrap().state.step, 2, "{name} up to {length}");
                std::fs::remove_dir_all(&unfinished).unwrap();
                // The machine ended, and what was written had not come to the disk.
                write_all(&visible, &files);
                std::fs::write(visible.join(name), &bytes[..length]).unwrap();
                let damaged = found();
                assert_eq!(damaged.newest.unwrap().state.step, 2, "{name} up to {length}");
                let [(path, error)] = &damaged.passed_over[..] else { panic!("{:?}", damaged.passed_over) };
                assert!(*path == visible && error.to_string().contains(name), "{error}");
                std::fs::write(visible.join(name), bytes).unwrap();
                assert_eq!(found().newest.unwrap().state, whole.state);
            }
        }
        // Both go on to the same bits.
        let cut = |to: PathBuf, name: &str| {
            write_all(&to, &files);
            let (_, bytes) = files.iter().find(|(file, _)| file == name).unwrap();
            std::fs::write(to.join(name), &bytes[..bytes.len() / 2]).unwrap();
        };
        std::fs::remove_dir_all(&visible).unwrap();
        cut(unfinished, "critic-score.safetensors");
        go_on(&configuration, folder.path());
        assert_eq!(newest(folder.path()).state, whole.state);
        cut(visible, weights[1]);
        go_on(&configuration, folder.path());
        assert_eq!(newest(folder.path()).state, whole.state);
    }
}
