//! Runs of models with experts: the loss for their balance does not depend on how a batch is split, and does what it is for.

use zhenjin_model::Weight;
use zhenjin_tensor::ParameterId;

use super::ranks_tests::{files, train};
use super::tests::{Kept, Made, configuration, everything, newest, run, setup, stopped};
use super::*;

/// A strong loss for balance, so that it decides bits.
const EXPERTS: [&str; 4] =
    ["model.experts=4", "model.active_experts=2", "model.expert_intermediate_size=24", "loss.balance=0.3"];

fn with_experts(settings: &[&str]) -> Configuration {
    configuration(&[&EXPERTS[..], settings].concat())
}

fn trainer(configuration: Configuration, threads: usize) -> (tempfile::TempDir, Trainer) {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = setup(folder.path(), Made::plain(), threads);
    let trainer = Trainer::new(configuration, setup).expect("a trainer");
    (folder, trainer)
}

#[test]
fn every_split_of_a_batch_gives_the_same_update_of_experts_and_routers() {
    // The second step's gradient has the loss for balance, with the first step's choices.
    let second_gradient = |micro_batches: usize, sequences: usize, balance: &str| {
        let split = [format!("batch.micro_batches={micro_batches}"), format!("batch.sequences={sequences}")];
        let (_folder, mut trainer) =
            trainer(with_experts(&[&split[0], &split[1], "optimiser.clip=0", balance]), 1);
        let first = trainer.gradient(0, false).expect("a gradient");
        trainer.state.choices = first.routers.choices();
        let second = trainer.gradient(16, false).expect("a gradient");
        let values: Vec<f32> = (0..second.gradients.len() as u32)
            .flat_map(|id| second.gradients.get(ParameterId(id)).to_vec())
            .map(|value| value / second.targets as f32)
            .collect();
        (values, first.routers.choices(), first.targets)
    };
    let distance = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
            / a.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    };
    let (whole, choices, targets) = second_gradient(1, 16, "loss.balance=0.3");
    // Two layers, two choices for each row with a target.
    assert_eq!(choices.iter().flatten().sum::<u64>(), 2 * 2 * targets);
    for (micro_batches, sequences) in [(2, 8), (4, 4), (16, 1)] {
        let (split, same_choices, _) = second_gradient(micro_batches, sequences, "loss.balance=0.3");
        assert_eq!(same_choices, choices);
        assert!(
            distance(&whole, &split) < 1e-6,
            "{micro_batches} × {sequences}: {}",
            distance(&whole, &split)
        );
    }
    let (without, ..) = second_gradient(1, 16, "loss.balance=0");
    assert!(distance(&whole, &without) > 1e-3, "the loss for balance has no gradient");
}

#[test]
fn ranks_and_interruptions_leave_the_bytes_of_experts_alone() {
    for kind in ["optimiser.kind=adamw", "optimiser.kind=muon"] {
        let configuration = with_experts(&["batch.micro_batches=4", kind]);
        let ends = [1, 2, 4].map(|ranks| {
            let folder = tempfile::tempdir().expect("a folder");
            train(folder.path(), &configuration, ranks, u64::MAX);
            files(folder.path())
        });
        assert!(ends[0] == ends[1] && ends[0] == ends[2], "ranks with {kind}");
        let folder = tempfile::tempdir().expect("a folder");
        for (ranks, stop_after) in [(4, 3), (1, 5), (2, u64::MAX)] {
            train(folder.path(), &configuration, ranks, stop_after);
        }
        assert!(files(folder.path()) == ends[0], "other numbers of ranks with {kind}");
    }
}

#[test]
fn a_stopped_run_with_experts_goes_on_to_the_same_bits_and_needs_their_choices() {
    let configuration = with_experts(&["optimiser.kind=muon"]);
    let (_folder, mut undisturbed) = trainer(configuration.clone(), 1);
    run(&mut undisturbed).expect("a run");
    let folder = tempfile::tempdir().expect("a folder");
    stopped(folder.path(), &configuration, 5, 2);
    for (forgets, recomputed_layers) in [(false, 0), (false, 2), (true, 0)] {
        let copy = tempfile::tempdir().expect("a folder");
        let setup = Setup { recomputed_layers, ..setup(copy.path(), Made::plain(), 2) };
        let checkpoint = newest(folder.path());
        assert_eq!(checkpoint.state.choices.len(), 2);
        let mut resumed = Trainer::resume(configuration.clone(), setup, &checkpoint).expect("a trainer");
        if forgets {
            resumed.state.choices.clear();
        }
        run(&mut resumed).expect("a run");
        assert_eq!(
            everything(&undisturbed) != everything(&resumed),
            forgets,
            "{recomputed_layers} layers recomputed"
        );
    }
}

#[test]
fn the_loss_for_balance_takes_from_busy_experts_and_gives_to_idle_ones() {
    let (_folder, mut trainer) = trainer(with_experts(&[]), 2);
    let sums = |trainer: &mut Trainer, choices: &[Vec<u64>]| {
        trainer.state.choices = choices.to_vec();
        let gradient = trainer.gradient(0, false).expect("a gradient");
        (gradient.gradients, gradient.routers.layers)
    };
    let busy_first = vec![vec![90, 10, 10, 10]; 2];
    let (without, before) = sums(&mut trainer, &[]);
    let (with, same) = sums(&mut trainer, &busy_first);
    assert_eq!(before, same, "the loss changed what was chosen");
    // A step of the routers against the loss's own gradient.
    let weights = trainer.model_mut().expect("the weights").weights.parameters_mut();
    for (id, (name, weight)) in weights.enumerate() {
        if let (true, Weight::Matrix(matrix)) = (format!("{name:?}").contains("Router"), weight) {
            let id = ParameterId(id as u32);
            let slopes = with.get(id).iter().zip(without.get(id)).map(|(with, without)| with - without);
            let values = matrix.f32_packed_mut().expect("f32").iter_mut();
            values.zip(slopes).for_each(|(value, slope)| *value -= 0.03 * slope);
        }
    }
    let (_, after) = sums(&mut trainer, &[]);
    for (before, after) in before.iter().zip(&after) {
        let fell = before.probabilities[0] - after.probabilities[0];
        assert!(fell > 1e-3 * before.rows as f64, "{before:?}, {after:?}");
        assert!((1..4).all(|expert| after.probabilities[expert] > before.probabilities[expert]));
    }
}

#[test]
fn every_step_says_what_routers_chose() {
    let (_folder, mut trainer) = trainer(with_experts(&[]), 1);
    let kept = Kept::default();
    trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect("a run");
    for step in kept.steps() {
        let routers = step.routers.expect("routers");
        assert_eq!(routers.shares.len(), 2);
        for shares in &routers.shares {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-3, "{shares:?}");
        }
        let greatest = routers.shares.iter().flatten().copied().fold(0.0, f64::max);
        assert!((routers.imbalance - 4.0 * greatest).abs() < 1e-3 && routers.imbalance >= 1.0, "{routers:?}");
        assert!((0.0..=4f64.ln() + 1e-6).contains(&routers.entropy), "{routers:?}");
        assert!((0.5..2.0).contains(&routers.balance), "{routers:?}");
    }
}
