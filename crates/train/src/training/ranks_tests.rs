//! Ranks that are threads: the same files as a run of one rank, byte for byte, and runs that go on with another number of ranks.

use std::path::Path;
use std::time::Duration;

use zhenjin_model::Weight;

use super::tests::{Kept, Made, configuration, newest, setup};
use super::*;
use crate::checkpoint::{OPTIMISER_FILE, WEIGHTS_FILE};
use crate::communication::{Comm, CommError, Incoming, Outgoing, Threads, Traffic};
use crate::metrics::StepMetrics;

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
                trainer.traffic().bytes_sent
            }));
        }
        running.into_iter().map(|rank| rank.join().expect("a rank")).sum()
    });
    assert!(checkpoint().is_some());
    sent
}

/// The steps' metrics of the first rank, without what depends on clocks.
fn metrics(configuration: &Configuration, ranks: usize, overlap: bool) -> Vec<StepMetrics> {
    let folder = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        let running: Vec<_> = Threads::group(ranks, Duration::from_secs(60))
            .into_iter()
            .map(|comm| {
                let folder = folder.path();
                scope.spawn(move || {
                    let setup = Setup { ranks: Ranks::new(comm), overlap, ..setup(folder, Made::plain(), 1) };
                    let mut trainer = Trainer::new(configuration.clone(), setup).expect("a trainer");
                    let kept = Kept::default();
                    trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect("a run");
                    kept.steps()
                })
            })
            .collect();
        let mut all: Vec<_> = running.into_iter().map(|rank| rank.join().expect("a rank")).collect();
        all.swap_remove(0)
    })
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
fn losses_and_norms_do_not_depend_on_the_number_of_ranks_or_on_overlap() {
    let configuration = configuration(&["batch.micro_batches=8", "schedule.steps=4", "model.layers=3"]);
    let alone = metrics(&configuration, 1, true);
    assert_eq!(alone.len(), 4);
    for (ranks, overlap) in [(2, true), (2, false), (4, true), (8, true)] {
        assert_eq!(metrics(&configuration, ranks, overlap), alone, "{ranks} ranks, overlap {overlap}");
    }
}

/// Gradients once to their owners, weights once from them: 2 (P − 1) copies of the model in all, and little else.
#[test]
fn a_step_sends_every_gradient_and_every_weight_once_to_each_other_rank() {
    for kind in ["optimiser.kind=adamw", "optimiser.kind=muon"] {
        let sent = |steps: u64, ranks: usize| {
            let folder = tempfile::tempdir().expect("a folder");
            let steps = format!("schedule.steps={steps}");
            let configuration = configuration(&[
                "batch.micro_batches=4",
                "intervals.checkpoint=0",
                "intervals.validation=0",
                kind,
                &steps,
            ]);
            let sent = train(folder.path(), &configuration, ranks, u64::MAX);
            (sent, configuration.model_config().parameters() as u64)
        };
        for ranks in [2, 4] {
            let ((less, parameters), (more, _)) = (sent(5, ranks), sent(9, ranks));
            let step = (more - less) as f64 / 4.0;
            let least = (2 * (ranks as u64 - 1) * parameters * 4) as f64;
            assert!(
                step >= least && step < 1.01 * least + 1500.0 * ranks as f64,
                "{step} of {least}, {kind}"
            );
        }
    }
}

/// A connection that changes one bit of what it receives with the message of number `wrong`, counted from 1.
struct Flawed {
    comm: Threads,
    received: u64,
    wrong: u64,
}

impl Comm for Flawed {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.size()
    }

    fn send(&mut self, to: usize, message: Outgoing<'_>) -> Result<(), CommError> {
        self.comm.send(to, message)
    }

    fn receive(&mut self, from: usize, message: Incoming<'_>) -> Result<(), CommError> {
        self.comm.receive(from, message)
    }

    fn exchange(
        &mut self,
        to: usize,
        outgoing: Outgoing<'_>,
        from: usize,
        incoming: Incoming<'_>,
    ) -> Result<(), CommError> {
        let Incoming::Floats(values) = incoming else {
            return self.comm.exchange(to, outgoing, from, incoming);
        };
        self.comm.exchange(to, outgoing, from, Incoming::Floats(values))?;
        self.received += 1;
        if self.received == self.wrong {
            values[5] = f32::from_bits(values[5].to_bits() ^ 1);
        }
        Ok(())
    }

    fn abort(&self, message: &str) {
        self.comm.abort(message);
    }

    fn traffic(&self) -> Traffic {
        self.comm.traffic()
    }
}

/// In a step, two ranks exchange the gradients of two layers and the new weights: three messages (everything else belongs to the second rank alone). A weight that was received wrongly
/// makes a rank differ until its owner sends it anew with the next step, so that it is found where a comparison lies between.
#[test]
fn ranks_that_drift_apart_are_found_by_the_comparison() {
    for (wrong, found_after) in [(3 * 6, Some(6)), (3 * 12, Some(12)), (3 * 5, None)] {
        let configuration = configuration(&["intervals.checkpoint=0", "intervals.compare_ranks=3"]);
        let folder = tempfile::tempdir().expect("a folder");
        let errors = std::thread::scope(|scope| {
            let mut running = Vec::new();
            for comm in Threads::group(2, Duration::from_secs(60)) {
                let (folder, configuration) = (folder.path(), &configuration);
                running.push(scope.spawn(move || {
                    let ranks = match comm.rank() {
                        0 => Ranks::new(comm),
                        _ => Ranks::new(Flawed { comm, received: 0, wrong }),
                    };
                    let setup = Setup { ranks, ..setup(folder, Made::plain(), 1) };
                    let mut trainer = Trainer::new(configuration.clone(), setup).expect("a trainer");
                    trainer.run(&mut [], None, &|| false).err()
                }));
            }
            running.into_iter().map(|rank| rank.join().expect("a rank")).collect::<Vec<_>>()
        });
        for error in errors {
            match error {
                Some(TrainError::RanksDiffer { rank: 1, step }) => assert_eq!(Some(step), found_after),
                None => assert_eq!(found_after, None, "message {wrong}"),
                other => panic!("message {wrong}: {other:?}"),
            }
        }
    }
}

/// One bit of a weight of the second rank is another one after loading.
#[test]
fn ranks_that_begin_with_different_weights_make_no_step() {
    let configuration = configuration(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), &configuration, 2, 4);
    let checkpoint = newest(folder.path());
    let errors = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for comm in Threads::group(2, Duration::from_secs(60)) {
            let (folder, configuration, checkpoint) = (folder.path(), &configuration, &checkpoint);
            running.push(scope.spawn(move || {
                let is_second = comm.rank() == 1;
                let setup = Setup { ranks: Ranks::new(comm), ..setup(folder, Made::plain(), 1) };
                let mut trainer =
                    Trainer::resume(configuration.clone(), setup, checkpoint).expect("a trainer");
                if is_second {
                    let weights = &mut trainer.model_mut().expect("nobody else has it").weights;
                    let Some((_, Weight::Vector(norm))) = weights.parameters_mut().last() else {
                        panic!("the last parameter is the last norm");
                    };
                    norm[5] = f32::from_bits(norm[5].to_bits() ^ 1);
                }
                trainer.run(&mut [], None, &|| false).err()
            }));
        }
        running.into_iter().map(|rank| rank.join().expect("a rank")).collect::<Vec<_>>()
    });
    for error in errors {
        assert!(matches!(error, Some(TrainError::RanksDiffer { rank: 1, step: 4 })), "{error:?}");
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
