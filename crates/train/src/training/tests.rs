//! Runs of a tiny model: exact resumption, splits of a batch, batches without targets, and faults with each policy.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use zhenjin_corpus::{CorpusError, PackedSequence};
use zhenjin_model::{FeedForward, Weight};
use zhenjin_tensor::{SimdLevel, ThreadTeam};

use super::*;
use crate::checkpoint::STATE_FILE;
use crate::configuration::Overrides;
use crate::metrics::{MetricsError, StepMetrics};

const LENGTH: usize = 24;
pub(super) const VOCABULARY: usize = 64;

/// Sequences of two documents in which every token follows from the one before it, but for some noise.
pub(super) struct Made {
    /// Sequences without any target.
    without_targets: std::ops::Range<u64>,
    /// Sequences of nothing but noise.
    noise: std::ops::Range<u64>,
    name: &'static str,
}

impl Made {
    pub(super) fn plain() -> Made {
        Made { without_targets: 0..0, noise: 0..0, name: "made" }
    }
}

impl SequenceSource for Made {
    fn sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        let mut state = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5555;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as u32
        };
        let noise = self.noise.contains(&index);
        let mut tokens = vec![random() % VOCABULARY as u32];
        while tokens.len() <= LENGTH {
            let last = tokens[tokens.len() - 1];
            let is_noise = noise || random() % 4 == 0;
            tokens.push(if is_noise { random() } else { 5 * last + 3 } % VOCABULARY as u32);
        }
        let mut targets: Vec<Option<u32>> = tokens[1..].iter().copied().map(Some).collect();
        // Uneven numbers of targets, as documents of several lengths have them.
        targets.iter_mut().skip(LENGTH - index as usize % 7).for_each(|target| *target = None);
        if self.without_targets.contains(&index) {
            targets.fill(None);
        }
        tokens.truncate(LENGTH);
        Ok(PackedSequence { tokens, targets, document_lengths: vec![10, LENGTH - 10], bytes: LENGTH as u64 })
    }

    fn validation_sequences(&self) -> u64 {
        5
    }

    fn validation_sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        Made::plain().sequence(1_000_000 + index)
    }

    fn fingerprint(&self) -> String {
        self.name.to_owned()
    }
}

pub(super) fn configuration(settings: &[&str]) -> Configuration {
    let mut overrides = Overrides::new();
    let tiny = [
        "model.hidden_size=32",
        "model.intermediate_size=48",
        "model.heads=2",
        "model.kv_heads=1",
        "model.head_dim=16",
        "data.sequence_length=24",
        "batch.sequences=2",
        "batch.micro_batches=2",
        "schedule.steps=12",
        "intervals.checkpoint=4",
        "intervals.validation=3",
        "faults.spike_deviations=0",
    ];
    for setting in tiny.iter().chain(settings) {
        overrides.add_assignment(setting).expect("a setting");
    }
    Configuration::resolve(2, VOCABULARY, &overrides).expect("a configuration")
}

pub(super) fn setup(folder: &Path, source: Made, threads: usize) -> Setup {
    let team = Arc::new(ThreadTeam::new(threads).expect("threads"));
    Setup {
        ranks: Ranks::alone(),
        folder: folder.to_owned(),
        source: Arc::new(source),
        load: LoadOptions { simd: SimdLevel::detect(), team },
        overlap: true,
        recomputed_layers: 0,
        usable_vocabulary: VOCABULARY,
        companions: vec![("tokenizer.json".to_owned(), b"{}".to_vec())],
        gauges: Gauges { peak_flops: Some(1e11), ..Gauges::default() },
    }
}

/// Keeps events.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<Event>>>);

impl Observer for Kept {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        self.0.lock().expect("a lock").push(event.reproducible());
        Ok(())
    }
}

impl Kept {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().expect("a lock"))
    }

    pub(super) fn steps(&self) -> Vec<StepMetrics> {
        let step = |event: Event| match event {
            Event::Step(metrics) => Some(metrics),
            _ => None,
        };
        self.take().into_iter().filter_map(step).collect()
    }
}

fn notes(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Note { text, .. } => format!("{text}\n"),
        _ => String::new(),
    };
    events.iter().map(text).collect()
}

/// All weights and the optimiser's whole state, as bits with their names.
pub(super) fn everything(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let weights = trainer.model.weights.parameters().map(|(name, weight)| match weight {
        Weight::Matrix(matrix) => (format!("{name:?}"), bits(matrix.f32_packed().expect("f32"))),
        Weight::Vector(vector) => (format!("{name:?}"), bits(vector)),
    });
    let state = trainer.optimiser.state().map(|tensor| (tensor.name, bits(tensor.values)));
    weights.chain(state).collect()
}

pub(super) fn run(trainer: &mut Trainer) -> Result<(Outcome, Vec<Event>), TrainError> {
    let kept = Kept::default();
    let outcome = trainer.run(&mut [Box::new(kept.clone())], None, &|| false)?;
    Ok((outcome, kept.take()))
}

pub(super) fn newest(folder: &Path) -> Checkpoint {
    let found = Checkpoints::new(&folder.join("checkpoints"), 9).find().expect("a folder");
    found.newest.expect("a checkpoint")
}

/// Trains until `stop_after` steps are made, and forgets the trainer.
pub(super) fn stopped(
    folder: &Path,
    configuration: &Configuration,
    stop_after: u64,
    threads: usize,
) -> Vec<Event> {
    let mut trainer =
        Trainer::new(configuration.clone(), setup(folder, Made::plain(), threads)).expect("a trainer");
    let kept = Kept::default();
    let steps = Arc::new(Mutex::new(0));
    struct Count(Arc<Mutex<u64>>);
    impl Observer for Count {
        fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
            *self.0.lock().expect("a lock") = event.step();
            Ok(())
        }
    }
    let observers: &mut [Box<dyn Observer>] =
        &mut [Box::new(kept.clone()), Box::new(Count(Arc::clone(&steps)))];
    let outcome =
        trainer.run(observers, None, &|| *steps.lock().expect("a lock") >= stop_after).expect("a run");
    assert_eq!(outcome, Outcome::Stopped { step: stop_after });
    kept.take()
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits_whatever_the_threads() {
    for kind in ["optimiser.kind=muon", "optimiser.kind=adamw"] {
        let settings = [
            kind,
            "optimiser.average_decay=0.9",
            "loss.z_loss=1e-3",
            "faults.spike_deviations=6",
            "faults.spike_window=8",
        ];
        let configuration = configuration(&settings);
        let straight = tempfile::tempdir().expect("a folder");
        let mut undisturbed =
            Trainer::new(configuration.clone(), setup(straight.path(), Made::plain(), 1)).expect("a trainer");
        let (outcome, events) = run(&mut undisturbed).expect("a run");
        assert_eq!(outcome, Outcome::Finished);
        for (stop_after, threads) in [(1, 1), (5, 2), (8, 1), (11, 2)] {
            let folder = tempfile::tempdir().expect("a folder");
            let before = stopped(folder.path(), &configuration, stop_after, 2);
            let mut resumed = Trainer::resume(
                configuration.clone(),
                setup(folder.path(), Made::plain(), threads),
                &newest(folder.path()),
            )
            .expect("a whole checkpoint");
            assert_eq!(resumed.steps(), stop_after);
            let (_, after) = run(&mut resumed).expect("a run");
            assert_eq!(everything(&undisturbed), everything(&resumed), "{kind} after {stop_after}");
            // What is said is the same as well, but for the checkpoint of the stop and the folders' names.
            let said = |events: &[Event]| -> Vec<Event> {
                let is_other = |event: &&Event| !matches!(event, Event::Checkpoint { .. });
                events.iter().filter(is_other).cloned().collect()
            };
            assert_eq!(said(&events), said(&[before, after].concat()));
        }
    }
}

#[test]
fn every_part_of_the_state_is_needed_for_the_same_bits() {
    let configuration = configuration(&["optimiser.kind=muon"]);
    let straight = tempfile::tempdir().expect("a folder");
    let mut undisturbed =
        Trainer::new(configuration.clone(), setup(straight.path(), Made::plain(), 1)).expect("a trainer");
    run(&mut undisturbed).expect("a run");
    let folder = tempfile::tempdir().expect("a folder");
    stopped(folder.path(), &configuration, 6, 1);
    type Forget = fn(&mut Trainer);
    let forget: [(&str, Forget); 5] = [
        ("nothing", |_| ()),
        ("the place in the data", |trainer| trainer.state.next_sequence = 0),
        ("the step", |trainer| trainer.state.step -= 1),
        ("the optimiser's moments", |trainer| {
            trainer.optimiser =
                Optimiser::new(&trainer.config, &trainer.configuration.optimiser).expect("memory");
        }),
        ("the weights", |trainer| {
            let fresh = Trainer::new(trainer.configuration.clone(), setup(Path::new(""), Made::plain(), 1));
            trainer.model = fresh.expect("a trainer").model;
        }),
    ];
    for (what, forget) in forget {
        let checkpoint = newest(folder.path());
        let copy = tempfile::tempdir().expect("a folder");
        let setup = setup(copy.path(), Made::plain(), 1);
        let mut resumed = Trainer::resume(configuration.clone(), setup, &checkpoint).expect("a trainer");
        forget(&mut resumed);
        run(&mut resumed).expect("a run");
        assert_eq!(
            everything(&undisturbed) == everything(&resumed),
            what == "nothing",
            "{what} was forgotten"
        );
    }
}

/// The weights after one step without clipping, rounding or decay in the way: the update shows the gradient.
fn after_one_step(micro_batches: usize, sequences: usize) -> Vec<f32> {
    let [first, second] =
        [format!("batch.micro_batches={micro_batches}"), format!("batch.sequences={sequences}")];
    let configuration = configuration(&[&first, &second, "optimiser.clip=0"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = Trainer::new(configuration, setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let gradient = trainer.gradient(0, false).expect("a gradient");
    let ids = 0..gradient.gradients.len() as u32;
    let count = gradient.targets as f32;
    ids.flat_map(|id| gradient.gradients.get(zhenjin_tensor::ParameterId(id)).to_vec())
        .map(|value| value / count)
        .collect()
}

#[test]
fn every_split_of_a_batch_with_uneven_targets_gives_the_same_update() {
    let whole = after_one_step(1, 16);
    let norm = whole.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    for (micro_batches, sequences) in [(2, 8), (4, 4), (8, 2), (16, 1)] {
        let split = after_one_step(micro_batches, sequences);
        let difference =
            whole.iter().zip(&split).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt() / norm;
        assert!(difference < 1e-6, "{micro_batches} × {sequences}: {difference}");
    }
}

#[test]
fn a_batch_without_targets_is_a_finite_step_that_is_counted_and_said() {
    let configuration = configuration(&["optimiser.kind=adamw"]);
    let folder = tempfile::tempdir().expect("a folder");
    let source = Made { without_targets: 8..12, ..Made::plain() };
    let mut trainer = Trainer::new(configuration, setup(folder.path(), source, 1)).expect("a trainer");
    let kept = Kept::default();
    trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect("a run");
    let steps = kept.steps();
    assert_eq!(steps.len(), 12);
    assert!(steps.iter().all(|step| step.loss.is_finite() && step.gradient_norm.is_finite()));
    assert_eq!((steps[2].targets, steps[2].loss), (0, 0.0));
    assert_eq!(steps[2].skipped.as_deref(), Some("the batch has no targets"));
    assert!(steps.iter().filter(|step| step.skipped.is_some()).count() == 1);
    assert_eq!(trainer.optimiser.updates(), 11);
    let values = everything(&trainer);
    assert!(values.iter().all(|(_, values)| values.iter().all(|bits| f32::from_bits(*bits).is_finite())));
}

/// A trainer whose layer 1 has an infinite weight.
fn with_infinity(folder: &Path, settings: &[&str]) -> Trainer {
    let mut trainer =
        Trainer::new(configuration(settings), setup(folder, Made::plain(), 1)).expect("a trainer");
    let weights = &mut trainer.model_mut().expect("the weights").weights;
    let FeedForward::Dense { up, .. } = &mut weights.layers[1].feed_forward else { panic!("a dense layer") };
    up.matrix.f32_packed_mut().expect("f32")[20] = f32::INFINITY;
    trainer
}

#[test]
fn an_infinity_in_a_layer_is_named_with_step_sequences_and_a_batch_that_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = with_infinity(folder.path(), &[]);
    let error = run(&mut trainer).expect_err("an infinity").to_string();
    for part in [
        "step 1:",
        "sequences 0 to 3",
        "model.layers.1.mlp.up_proj.weight",
        "faults/step-00000001.json",
        "checkpoint is none",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let kept = std::fs::read(folder.path().join("faults/step-00000001.json")).expect("the batch");
    let batch: faults::FaultyBatch = serde_json::from_slice(&kept).expect("a batch");
    let (loss, origin) = trainer.replay(&batch).expect("a replay");
    assert!(!loss.is_finite() && origin.expect("an origin").contains("model.layers.1.mlp.up_proj.weight"));
    let mut healthy =
        Trainer::new(configuration(&[]), setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let (loss, origin) = healthy.replay(&batch).expect("a replay");
    assert!((loss - (VOCABULARY as f64).ln()).abs() < 0.2 && origin.is_none(), "{loss}");
}

#[test]
fn skipping_ends_after_some_faults_in_a_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = with_infinity(folder.path(), &["faults.non_finite=skip", "faults.most_in_a_row=3"]);
    let kept = Kept::default();
    let error = trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect_err("three in a row");
    assert!(error.to_string().contains("fault 3 in a row"), "{error}");
    let events = kept.take();
    assert!(
        notes(&events).contains("step 1 changed nothing")
            && notes(&events).contains("step 2 changed nothing")
    );
}

#[test]
fn a_leap_of_the_loss_is_skipped_or_rolled_back() {
    let settings = [
        "schedule.steps=60",
        "intervals.checkpoint=10",
        "optimiser.kind=adamw",
        "optimiser.learning_rate=1e-2",
        "faults.spike_deviations=6",
        "faults.spike_window=12",
    ];
    let noise = || Made { noise: 4 * 47..4 * 48, ..Made::plain() };
    let folder = tempfile::tempdir().expect("a folder");
    let setup_of = |folder: &Path| setup(folder, noise(), 1);
    let mut trainer = Trainer::new(configuration(&settings), setup_of(folder.path())).expect("a trainer");
    let kept = Kept::default();
    trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect("a run");
    let events = kept.take();
    assert!(notes(&events).contains("step 48 changed nothing: the loss leapt"), "{}", notes(&events));
    assert_eq!(trainer.optimiser.updates(), 59, "{}", notes(&events));

    let folder = tempfile::tempdir().expect("a folder");
    let back = [&settings[..], &["faults.spike=roll-back"]].concat();
    let mut trainer = Trainer::new(configuration(&back), setup_of(folder.path())).expect("a trainer");
    let (_, events) = run(&mut trainer).expect("a run");
    let said = notes(&events);
    assert!(
        said.contains("step 48: the loss leapt")
            && said.contains("back to")
            && said.contains("step-00000040"),
        "{said}"
    );
    assert_eq!((trainer.state.step, trainer.optimiser.updates()), (60, 60));
    // 60 steps, and at least the 8 that were undone.
    assert!(trainer.state.next_sequence >= 4 * 68, "{}", trainer.state.next_sequence);
    // Killed and resumed, it goes the same way back and on.
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Trainer::new(configuration(&back), setup_of(folder.path())).expect("a trainer");
    for _ in 0..4 {
        first.step(&|| false).expect("a step");
    }
    first.save(&mut [], true).expect("a checkpoint");
    let mut resumed = Trainer::resume(configuration(&back), setup_of(folder.path()), &newest(folder.path()))
        .expect("a trainer");
    run(&mut resumed).expect("a run");
    assert_eq!(everything(&trainer), everything(&resumed));
}

#[test]
fn a_checkpoint_of_another_run_is_refused_with_the_keys_that_differ() {
    let folder = tempfile::tempdir().expect("a folder");
    stopped(folder.path(), &configuration(&[]), 2, 1);
    let other = configuration(&["optimiser.beta2=0.99", "model.intermediate_size=64"]);
    let error = Trainer::resume(other, setup(folder.path(), Made::plain(), 1), &newest(folder.path()))
        .expect_err("another run")
        .to_string();
    for part in ["optimiser.beta2 is 0.99, there 0.95", "model.intermediate_size is 64, there 48"] {
        assert!(error.contains(part), "{error}");
    }
    let data = Made { name: "other", ..Made::plain() };
    let error = Trainer::resume(configuration(&[]), setup(folder.path(), data, 1), &newest(folder.path()));
    assert!(error.expect_err("other data").to_string().contains("fingerprint made, now other"));
}

#[test]
fn a_run_is_made_shorter_or_longer_while_its_learning_rate_is_constant() {
    let long = configuration(&["schedule.steps=20"]);
    let folder = tempfile::tempdir().expect("a folder");
    // Six of twenty steps: the rate falls from step 12 on, and from step 6 on in a run of ten.
    stopped(folder.path(), &long, 6, 1);
    let short = configuration(&["schedule.steps=10", "intervals.validation=5"]);
    let mut resumed =
        Trainer::resume(short.clone(), setup(folder.path(), Made::plain(), 1), &newest(folder.path()))
            .expect("a trainer");
    run(&mut resumed).expect("a run");
    let whole = tempfile::tempdir().expect("a folder");
    let mut straight = Trainer::new(short, setup(whole.path(), Made::plain(), 1)).expect("a trainer");
    run(&mut straight).expect("a run");
    assert_eq!(everything(&resumed), everything(&straight));

    let folder = tempfile::tempdir().expect("a folder");
    stopped(folder.path(), &long, 14, 1);
    for (steps, reason) in
        [("schedule.steps=16", "after its rate has begun to fall"), ("schedule.steps=12", "too few")]
    {
        let other = configuration(&[steps]);
        let refused = Trainer::resume(other, setup(folder.path(), Made::plain(), 1), &newest(folder.path()));
        let error = refused.expect_err(reason).to_string();
        assert!(error.contains("schedule.steps is 1"), "{error}");
    }
}

/// Regression: checkpoints of a resumed run kept the schedule of the run before, so that the next plain resume went back to it.
#[test]
fn a_schedule_that_is_changed_at_a_resume_stays_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    stopped(folder.path(), &configuration(&["schedule.steps=20"]), 6, 1);
    let resume = |configuration: Configuration| {
        let setup = setup(folder.path(), Made::plain(), 1);
        Trainer::resume(configuration, setup, &newest(folder.path())).expect("a trainer")
    };
    let stops_after = |trainer: &mut Trainer, steps: u64| {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == steps;
        trainer.run(&mut [], None, &stop).expect("a run")
    };
    // Asked to stop at once, the run has the new schedule as well.
    let mut shorter = resume(configuration(&["schedule.steps=10"]));
    assert_eq!(stops_after(&mut shorter, 0), Outcome::Stopped { step: 6 });
    let kept = |path: &Path| {
        let state = newest(path).state;
        Configuration::from_toml(&state.configuration, path).expect("a configuration")
    };
    assert_eq!(kept(folder.path()).schedule.steps, 10);
    // In the decay of ten steps, where a change back would be refused.
    let mut shorter = resume(kept(folder.path()));
    assert_eq!(stops_after(&mut shorter, 2), Outcome::Stopped { step: 8 });
    let mut plain = resume(kept(folder.path()));
    run(&mut plain).expect("a run");
    assert_eq!(plain.steps(), 10);
}

/// Regression: a stop at a step that was due for saving saved it twice, and the second save hid the first for a moment.
#[test]
fn a_step_that_is_saved_is_not_saved_again_when_the_run_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let is_save = |event: &&Event| matches!(event, Event::Checkpoint { .. });
    let saves = |events: &[Event]| events.iter().filter(is_save).count();
    assert_eq!(saves(&stopped(folder.path(), &configuration(&[]), 4, 1)), 1);
    assert_eq!(saves(&stopped(folder.path(), &configuration(&[]), 5, 1)), 2);
}

#[test]
fn a_save_that_fails_is_said_and_the_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    // A file where the folder of checkpoints should be.
    std::fs::write(folder.path().join("checkpoints"), b"").expect("a file");
    let mut trainer =
        Trainer::new(configuration(&[]), setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let kept = Kept::default();
    let error =
        trainer.run(&mut [Box::new(kept.clone())], None, &|| false).expect_err("the last one is needed");
    assert!(matches!(error, TrainError::Checkpoint(_)), "{error}");
    let events = kept.take();
    let said = notes(&events);
    assert!(said.contains("no checkpoint was saved") && said.contains("there is none before it"), "{said}");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Step(_))).count(), 12);
}

#[test]
fn a_checkpoint_opens_as_a_model_with_the_same_log_probabilities_and_its_average_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = configuration(&["optimiser.average_decay=0.5"]);
    let mut trainer = Trainer::new(configuration, setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let (_, events) = run(&mut trainer).expect("a run");
    let checkpoint = newest(folder.path());
    assert_eq!(std::fs::read(checkpoint.path.join("tokenizer.json")).expect("the companion"), b"{}");
    let loaded = Model::load(&checkpoint.path, &trainer.setup.load).expect("a model");
    assert_eq!(loaded.config, trainer.config);
    for ((_, ours), (_, theirs)) in trainer.model.weights.parameters().zip(loaded.weights.parameters()) {
        if let (Weight::Matrix(ours), Weight::Matrix(theirs)) = (ours, theirs) {
            assert_eq!(ours.f32_packed(), theirs.f32_packed());
        }
    }
    assert!(trainer.write_average(&folder.path().join("average")).expect("written"));
    let average = Model::load(&folder.path().join("average"), &trainer.setup.load).expect("a model");
    let [ours, average] = [&trainer.model.weights, &average.weights].map(|weights| {
        weights.embedding.f32_packed().expect("f32").iter().map(|value| f64::from(*value)).sum::<f64>()
    });
    assert!(ours != average && (ours - average).abs() < 0.2 * ours.abs().max(1.0), "{ours} {average}");
    // The loss falls, and validation sees it.
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Validation(metrics) => Some(metrics.loss),
            _ => None,
        })
        .collect();
    assert!(losses.len() == 4 && losses[3] < losses[0], "{losses:?}");
    let best = newest(folder.path()).state.best.expect("a best checkpoint");
    assert_eq!(best.step, 12);
    assert!(checkpoint.path.join(STATE_FILE).exists());
}

#[test]
fn samples_see_the_weights_and_may_not_keep_them() {
    struct Greedy(Option<Arc<Model>>, bool);
    impl Sampler for Greedy {
        fn samples(&mut self, model: &Arc<Model>, step: u64) -> Result<Vec<SampleText>, String> {
            if self.1 {
                self.0 = Some(Arc::clone(model));
            }
            match step {
                3 => Err("out of words".to_owned()),
                _ => Ok(vec![SampleText { step, prompt: "a".to_owned(), text: "b".to_owned() }]),
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = configuration(&["intervals.samples=3"]);
    let mut trainer =
        Trainer::new(configuration.clone(), setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let kept = Kept::default();
    trainer.run(&mut [Box::new(kept.clone())], Some(&mut Greedy(None, false)), &|| false).expect("a run");
    let events = kept.take();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Sample(_))).count(), 3);
    assert!(notes(&events).contains("no sample texts: out of words"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = Trainer::new(configuration, setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let error = trainer.run(&mut [], Some(&mut Greedy(None, true)), &|| false).expect_err("they are kept");
    assert!(matches!(error, TrainError::WeightsInUse), "{error}");
}

#[test]
fn stopping_asks_after_every_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer =
        Trainer::new(configuration(&[]), setup(folder.path(), Made::plain(), 1)).expect("a trainer");
    let asked = AtomicBool::new(false);
    let outcome = trainer.run(&mut [], None, &|| asked.swap(true, Ordering::Relaxed)).expect("a run");
    assert_eq!(outcome, Outcome::Stopped { step: 1 });
    assert_eq!(newest(folder.path()).state.step, 1);
}
