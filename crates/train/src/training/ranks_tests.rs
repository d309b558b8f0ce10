//! Ranks that are threads: the same files as a run of one rank, byte for byte, and runs that go on with another number of ranks.

use std::path::Path;
use std::time::Duration;

use super::tests::{Made, configuration, newest, setup};
use super::*;
use crate::checkpoint::{OPTIMISER_FILE, WEIGHTS_FILE};
use crate::communication::Threads;

/// Trains on so many ranks until `stop_after`; whether there is a checkpoint decides whether the run goes on or begins.
pub(super) fn train(folder: &Path, configuration: &Configuration, ranks: usize, stop_after: u64) -> u64 {
    let checkpoint = || Checkpoints::new(&folder.join("checkpoints"), 9).find().expect("a folder").newest;
    let found = checkpoint();
    let sent = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for comm in Threads::group(ranks, Duration::from_secs(60)) {
            let found = &found;
            running.push(scope.spawn(move || {
                let setup = Setup { ranks: Ranks::new(comm), ..setup(folder, Made::plain(), 1) };
                let mut trainer = match found {
                    Some(checkpoint) => Trainer::resume(configuration.clone(), setup, checkpoint),
                    None => Trainer::new(configuration.clone(), setup),
                }
                .expect("a trainer");
                let steps = std::cell::Cell::new(trainer.steps());
                let stop = || {
                    steps.set(steps.get() + 1);
                    steps.get() > stop_after
                };
                trainer.run(&mut [], None, &stop).expect("a run");
                trainer.bytes_sent()
            }));
        }
        running.into_iter().map(|rank| rank.join().expect("a rank")).sum()
    });
    assert!(checkpoint().is_some());
    sent
}

/// Weights and optimiser of the newest checkpoint.
pub(super) fn files(folder: &Path) -> (u64, [Vec<u8>; 2]) {
    let checkpoint = newest(folder);
    let read = |name| std::fs::read(checkpoint.path.join(name)).expect("a file");
    (checkpoint.state.step, [read(WEIGHTS_FILE), read(OPTIMISER_FILE)])
}

#[test]
fn one_two_and_four_ranks_end_with_the_same_bytes() {
    for settings in [
        ["batch.micro_batches=4", "optimiser.kind=adamw", "optimiser.average_decay=0.9"],
        ["batch.micro_batches=4", "optimiser.kind=muon", "optimiser.average_decay=0"],
    ] {
        let configuration = configuration(&settings);
        let ends = [1, 2, 4].map(|ranks| {
            let folder = tempfile::tempdir().expect("a folder");
            train(folder.path(), &configuration, ranks, u64::MAX);
            files(folder.path())
        });
        assert!(ends[0] == ends[1], "2 ranks with {settings:?}");
        assert!(ends[0] == ends[2], "4 ranks with {settings:?}");
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let configuration = configuration(&["batch.micro_batches=4", "optimiser.kind=muon"]);
    let straight = tempfile::tempdir().expect("a folder");
    train(straight.path(), &configuration, 1, u64::MAX);
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), &configuration, 4, 3);
    assert_eq!(files(folder.path()).0, 3);
    train(folder.path(), &configuration, 1, 5);
    assert_eq!(files(folder.path()).0, 5);
    train(folder.path(), &configuration, 2, u64::MAX);
    assert!(files(straight.path()) == files(folder.path()));
}

#[test]
fn numbers_of_ranks_that_do_not_fit_are_refused() {
    let configuration = configuration(&["batch.micro_batches=4"]);
    for (size, fits) in [(1, true), (2, true), (3, false), (4, true), (8, false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let comm = Threads::group(size, Duration::from_secs(1)).swap_remove(0);
        let setup = Setup { ranks: Ranks::new(comm), ..setup(folder.path(), Made::plain(), 1) };
        let trainer = Trainer::new(configuration.clone(), setup);
        assert_eq!(trainer.is_ok(), fits, "{size} ranks");
        if let Err(error) = trainer {
            assert!(error.to_string().contains("power of two"), "{error}");
        }
    }
}
