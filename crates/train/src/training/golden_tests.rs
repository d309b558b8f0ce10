//! Loss curves of both optimisers beside PyTorch's (`tests/golden/make.py`): same weights, same data, 50 steps.

use serde::Deserialize;
use zhenjin_model::Weight;

use super::tests::{Kept, Made, VOCABULARY, configuration, setup};
use super::*;

#[derive(Deserialize)]
struct Golden {
    adamw: Vec<f64>,
    muon: Vec<f64>,
}

/// Even between −1 and 1; the same integers as in the script.
fn noise(seed: u64, index: u64) -> f64 {
    let mut mixed = (seed << 32 | index).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

fn losses(kind: &str) -> Vec<f64> {
    let configuration = configuration(&[
        kind,
        "batch.sequences=4",
        "schedule.steps=50",
        "schedule.warmup_steps=0",
        "schedule.decay_share=0",
        "schedule.final_share=1",
        "optimiser.learning_rate=3e-3",
        "optimiser.embedding_learning_rate=6e-3",
        "optimiser.muon_learning_rate=0.02",
        "optimiser.weight_decay=0.1",
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = Trainer::new(configuration, setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    for (number, (_, weight)) in
        trainer.model_mut().expect("the weights").weights.parameters_mut().enumerate()
    {
        let value =
            |centre: f64| move |index: usize| (centre + 0.1 * noise(number as u64, index as u64)) as f32;
        match weight {
            Weight::Matrix(matrix) => {
                let values: Vec<f32> = (0..matrix.rows() * matrix.columns()).map(value(0.0)).collect();
                matrix.write_f32(&values).expect("f32");
            }
            Weight::Vector(vector) => {
                (0..vector.len())
                    .map(value(1.0))
                    .zip(vector.iter_mut())
                    .for_each(|(value, place)| *place = value);
            }
        }
    }
    let kept = Kept::default();
    trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect("a run");
    kept.steps().into_iter().map(|step| step.loss).collect()
}

#[test]
fn fifty_steps_have_the_losses_of_pytorch() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/optimisers.json")).expect("the golden file");
    for (kind, golden) in [("optimiser.kind=adamw", golden.adamw), ("optimiser.kind=muon", golden.muon)] {
        let losses = losses(kind);
        assert_eq!((losses.len(), golden.len()), (50, 50));
        assert!((golden[0] - (VOCABULARY as f64).ln()).abs() < 0.3 && golden[49] < golden[0] - 1.0);
        let largest =
            losses.iter().zip(&golden).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max);
        assert!(largest < 1e-3, "{kind}: off by {largest}\n{losses:?}\n{golden:?}");
    }
}
