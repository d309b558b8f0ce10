//! Steps whose numbers are not finite: what is kept of them, in which order, and what is not saved.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::runs::*;
use crate::training::{ONLINE, Wished, online};
use zhenjin_align::AlignError;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::faults::{FaultyDocument, FaultyModel, FaultyStep};
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{Anchor, Judgement, Offline, Preferences, RewardPairs, RewardSource};
use zhenjin_align::rewards::Answer;
use zhenjin_align::run::{HeldOut, Run, StepOutcome, Training};
use zhenjin_align::trainee::Trainee;
use zhenjin_model::AdapterValues;
use zhenjin_model::testing::{random_adapter, tiny_config};
use zhenjin_tensor::Dtype;
use zhenjin_train::checkpoint::{Checkpoint, CheckpointError, Checkpoints, FileSums, RunState, write_file};
use zhenjin_train::training::Gauges;

/// What a run's error says and kept, which must be of a number that is not finite.
fn kept(error: AlignError) -> (String, FaultyStep) {
    let text = error.to_string();
    let AlignError::NonFinite { kept: Some(path), .. } = error else { panic!("{text}") };
    (text, FaultyStep::read(&path).unwrap())
}

fn newest(folder: &Path) -> RunState {
    Checkpoints::new(&folder.join("checkpoints"), 9).find().unwrap().newest.unwrap().state
}

/// The steps between the last checkpoint and a step that is not finite were lost, and that step could not be computed with the weights that it had.
#[test]
fn the_weights_before_a_step_that_is_not_finite_are_saved() {
    let settings =
        ["schedule.steps=6", "batch.examples=4", "intervals.checkpoint=99", "intervals.held_out=0"];
    let configuration = configuration(Method::Reward, TuningKind::Lora, &settings);
    let run = |folder: &Path, poisoned: Option<usize>, until: u64| {
        let mut examples = pairs(0..24);
        if let Some(number) = poisoned {
            examples[number].margin = Some(f32::NAN);
        }
        let (examples, none) = (RewardPairs::new(examples, 0.01), RewardPairs::new(Vec::new(), 0.01));
        let trainee = trainee(&configuration, Dtype::F32, true, 1);
        let training = offline(&configuration, trainee, examples, none, folder);
        train(&configuration, training, folder, until).map(|_| ())
    };
    // A pair that is not among those of the first steps.
    let (step, text, faulty, broken) = (0..24)
        .map(|number| {
            let folder = tempfile::tempdir().unwrap();
            let (text, faulty) = kept(run(folder.path(), Some(number), 99).unwrap_err());
            (faulty.step, text, faulty, folder)
        })
        .find(|(step, ..)| *step > 2)
        .expect("not all pairs are read in two steps");
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), None, step - 1).unwrap();
    assert_eq!(newest(broken.path()), newest(whole.path()), "{text}");
    let saved = broken.path().join(format!("checkpoints/step-{:08}", step - 1));
    assert_eq!(faulty.checkpoint, Some(saved));
    assert_eq!((faulty.model, faulty.updates), (Some(FaultyModel::RewardModel), 0));
    assert!(faulty.configuration.contains("[reward]") && faulty.data.contains("model "));
    // No document alone says why: the loss of one of them is no number.
    assert!(text.contains("each document alone is finite") && faulty.origin.is_none(), "{text}");
    // What went wrong mended, it goes on as if nothing had been.
    run(whole.path(), None, 99).unwrap();
    run(broken.path(), None, 99).unwrap();
    assert_eq!(sums(whole.path()), sums(broken.path()));
}

/// Rewards so great after some steps that the critic's gradient has no number.
struct EnormousAfter(usize);

impl RewardSource for EnormousAfter {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        if self.0 > 0 {
            self.0 -= 1;
            return Wished(3).judge(answers);
        }
        let judge = |number: usize| Judgement { total: Ok(1e40 * (number % 2) as f64), parts: Vec::new() };
        Ok((0..answers.len()).map(judge).collect())
    }
}

/// The policy had learnt from a step when the critic's numbers were looked at, and what the watch remembers had the step in it.
#[test]
fn a_critics_fault_changes_neither_the_policy_nor_what_is_remembered() {
    let more = [
        "schedule.steps=4",
        "rollout.answers=4",
        "policy.kl=0",
        "intervals.held_out=0",
        "intervals.checkpoint=99",
    ];
    let configuration = configuration(Method::Ppo, TuningKind::Lora, &[&ONLINE[..], &more].concat());
    let run = |folder: &Path, reward: Box<dyn RewardSource>, until: u64| {
        let training = online(&configuration, Dtype::F32, 1, reward);
        train(&configuration, training, folder, until).map(|_| ())
    };
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (text, faulty) = kept(run(broken.path(), Box::new(EnormousAfter(2)), 99).unwrap_err());
    assert!(text.contains("step 3: the norm of the critic's gradient"), "{text}");
    assert!(text.contains("of the gradient of `"), "{text}");
    assert_eq!((faulty.step, faulty.model, faulty.updates), (3, Some(FaultyModel::Critic), 0));
    run(whole.path(), Box::new(Wished(3)), 2).unwrap();
    assert_eq!(newest(broken.path()), newest(whole.path()));
    run(whole.path(), Box::new(Wished(3)), 99).unwrap();
    run(broken.path(), Box::new(Wished(3)), 99).unwrap();
    assert_eq!(newest(broken.path()), newest(whole.path()));
    // The policy's numbers were once called finite for those of the critic.
    let of_policy = trainee(&configuration, Dtype::F32, false, 1).replay(&faulty).unwrap_err().to_string();
    assert!(of_policy.contains("those of the critic") && of_policy.contains("cannot be told"), "{of_policy}");
    let (mean, _) = trainee(&configuration, Dtype::F32, true, 1).replay(&faulty).unwrap();
    assert_eq!(mean, 0.0, "a new head says 0 of every row");
}

fn with_head(configuration: &Configuration, head: Vec<f32>) -> Trainee {
    Trainee::new(model(Dtype::F32, &load(1)), None, Some(head), options(configuration, &load(1))).unwrap()
}

/// Values were looked for in the scores of the head for tokens, which are finite where values are not.
#[test]
fn a_reward_models_numbers_are_those_of_its_own_head() {
    let settings = ["schedule.steps=2", "batch.examples=2", "intervals.held_out=0"];
    let configuration = configuration(Method::Reward, TuningKind::Lora, &settings);
    let width = tiny_config().hidden_size;
    let folder = tempfile::tempdir().unwrap();
    let run = |head: Vec<f32>| {
        let (examples, none) = (RewardPairs::new(pairs(0..6), 0.01), RewardPairs::new(Vec::new(), 0.01));
        let training =
            offline(&configuration, with_head(&configuration, head), examples, none, folder.path());
        kept(train(&configuration, training, folder.path(), 99).map(|_| ()).unwrap_err())
    };
    let (text, faulty) = run(vec![f32::MAX; width]);
    assert!(text.contains("in example "), "{text}");
    assert!(text.contains(faulty.origin.as_deref().expect("it was found")), "{text}");
    let origin = with_head(&configuration, vec![f32::MAX; width]).replay(&faulty).unwrap().1;
    assert_eq!(origin, faulty.origin);
    let (mean, origin) = with_head(&configuration, vec![0.0; width]).replay(&faulty).unwrap();
    assert_eq!((mean, origin), (0.0, None));
    let of_scores = trainee(&configuration, Dtype::F32, false, 1).replay(&faulty).unwrap_err().to_string();
    assert!(of_scores.contains("those of the reward model"), "{of_scores}");
    // The head itself.
    let mut head = vec![0.0; width];
    head[3] = f32::NAN;
    let (text, _) = run(head);
    assert!(text.contains("element 3 of `score.weight` is not finite"), "{text}");
}

/// What was not finite in the anchor's text could not be found in the examples.
#[test]
fn the_anchors_texts_are_kept_and_looked_through() {
    let settings = ["schedule.steps=2", "batch.examples=2", "intervals.held_out=0", "anchor.weight=1"];
    let configuration = configuration(Method::Dpo, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let loss =
        PreferenceLoss { kind: configuration.preference.unwrap().loss, beta: f64::NAN, label_smoothing: 0.0 };
    let examples = |range| Preferences::new(pairs(range), loss, 0.0, 64);
    let texts = [vec![1, 2, 3, 4], vec![5, 6, 7]];
    let training = Offline::new(
        configuration.clone(),
        trainee(&configuration, Dtype::F32, false, 1),
        examples(0..6),
        examples(0..0),
        None,
        "data",
    );
    let anchor = Anchor::new(&texts, &configuration.anchor.unwrap()).unwrap();
    let mut training = training.unwrap().with_anchor(anchor);
    training.prepare(folder.path().join("reference.json"), &mut |_, _| {}).unwrap();
    let (_, mut faulty) = kept(train(&configuration, training, folder.path(), 99).map(|_| ()).unwrap_err());
    let kept: Vec<&[u32]> = faulty.anchor.iter().map(|document| &document.tokens[..]).collect();
    assert_eq!(kept, [&[1, 2, 3][..], &[5, 6]]);
    assert_eq!(faulty.anchor[1].targets, [Some(6), Some(7)]);
    // Finite numbers whose product is none.
    let config = tiny_config();
    let mut additions = random_adapter(&config, 16, 7).additions().to_vec();
    additions.iter_mut().filter(|addition| addition.layer == 1).for_each(|addition| {
        addition.down.iter_mut().chain(&mut addition.up).for_each(|value| *value *= 1e25);
    });
    let broken = AdapterValues::new(Path::new("broken"), &config, additions).unwrap();
    let options = options(&configuration, &load(1));
    let mut broken = Trainee::new(model(Dtype::F32, &load(1)), Some(&broken), None, options).unwrap();
    faulty.documents.clear();
    let origin = broken.replay(&faulty).unwrap().1.expect("the anchor's text is not finite");
    assert!(origin.contains("in text 0 of the anchor's piece") && origin.contains("layer 1"), "{origin}");
}

/// A method whose third step is not finite.
struct Failing {
    folder: PathBuf,
    updates: u64,
    /// Updates that the third step makes before it fails.
    of_third: u64,
    spoilt: Option<&'static str>,
    origin: Result<&'static str, &'static str>,
    /// Whether the step and the weights before it were on the disk when the search for the origin began.
    before_search: Rc<RefCell<Vec<bool>>>,
    /// How often it was asked whether its numbers are finite.
    asked: Rc<Cell<usize>>,
}

impl Training for Failing {
    fn step(&mut self, step: u64, _: f64) -> Result<StepOutcome, AlignError> {
        if step < 2 {
            self.updates += 1;
            return Ok(StepOutcome::default());
        }
        self.updates += self.of_third;
        let document = FaultyDocument { example: 0, tokens: vec![1], targets: vec![Some(2)] };
        let faulty = FaultyStep {
            step: step + 1,
            fault: String::new(),
            origin: None,
            checkpoint: None,
            model: Some(FaultyModel::Policy),
            updates: 0,
            configuration: String::new(),
            data: String::new(),
            documents: vec![document],
            anchor: Vec::new(),
        };
        Err(AlignError::NonFinite {
            step: step + 1,
            what: "the loss",
            value: f64::NAN,
            examples: vec![0],
            hint: "known at once".to_owned(),
            faulty: Box::new(faulty),
            kept: None,
        })
    }

    fn not_finite(&self) -> Option<String> {
        self.asked.set(self.asked.get() + 1);
        self.spoilt.map(str::to_owned)
    }

    fn origin_of_non_finite(&mut self, step: &FaultyStep) -> Result<Option<String>, AlignError> {
        let on_disk = FaultyStep::read(&self.folder.join("faults/step-00000003.json")).unwrap();
        let has_weights = self.folder.join("checkpoints/step-00000002").is_dir();
        self.before_search.borrow_mut().extend([on_disk == *step, has_weights]);
        match self.origin {
            Ok(origin) => Ok(Some(origin.to_owned())),
            Err(error) => Err(AlignError::Input(error.to_owned())),
        }
    }

    fn held_out(&mut self) -> Result<Option<HeldOut>, AlignError> {
        Ok(None)
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>, AlignError> {
        Ok(Vec::new())
    }

    fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError> {
        Ok(FileSums::from([("weights".to_owned(), write_file(folder, "weights", b"weights")?)]))
    }

    fn load(&mut self, _: &Checkpoint) -> Result<(), AlignError> {
        Ok(())
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn fingerprint(&self) -> String {
        "data".to_owned()
    }
}

struct Ended {
    folder: tempfile::TempDir,
    error: AlignError,
    /// See [`Failing`].
    before_search: Vec<bool>,
    /// The same.
    asked: usize,
}

impl Ended {
    fn of(
        settings: &[&str],
        of_third: u64,
        spoilt: Option<&'static str>,
        origin: Result<&'static str, &'static str>,
    ) -> Ended {
        let settings =
            [&["schedule.steps=5", "intervals.held_out=0", "intervals.samples=0"][..], settings].concat();
        let configuration = configuration(Method::Sft, TuningKind::Lora, &settings);
        let folder = tempfile::tempdir().unwrap();
        let (before_search, asked) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        let training = Failing {
            folder: folder.path().to_owned(),
            updates: 0,
            of_third,
            spoilt,
            origin,
            before_search: Rc::clone(&before_search),
            asked: Rc::clone(&asked),
        };
        let mut run = Run::new(configuration, training, folder.path(), Gauges::default(), None).unwrap();
        let error = run.run(&mut [], &|| false).map(|_| ()).unwrap_err();
        let before_search = before_search.borrow().clone();
        Ended { folder, error, before_search, asked: asked.get() }
    }
}

/// The search takes memory, so that the system may end the program: then nothing had been kept.
#[test]
fn the_step_and_the_weights_before_it_are_kept_before_the_search() {
    let ended = Ended::of(&["intervals.checkpoint=99"], 0, None, Ok("layer 7"));
    assert_eq!(ended.before_search, [true, true]);
    let (text, faulty) = kept(ended.error);
    assert!(text.contains("layer 7; a smaller"), "{text}");
    assert!(
        faulty.fault.contains("known at once") && faulty.origin.as_deref() == Some("layer 7"),
        "{faulty:?}"
    );
    // A search that fails takes nothing away.
    let ended = Ended::of(&["intervals.checkpoint=99"], 0, None, Err("no memory"));
    let (text, faulty) = kept(ended.error);
    assert!(text.contains("known at once; its documents could not be computed again: no memory"), "{text}");
    assert_eq!(faulty.checkpoint, Some(ended.folder.path().join("checkpoints/step-00000002")));
    assert_eq!(faulty.origin, None);
}

/// Regression: it was asked twice behind a failed step, and each time all weights and what the optimiser remembers are read.
#[test]
fn behind_a_failed_step_it_is_asked_once_whether_the_weights_are_finite() {
    let ended = Ended::of(&["intervals.checkpoint=99"], 0, None, Ok("layer 7"));
    assert!(ended.folder.path().join("checkpoints/step-00000002").is_dir());
    assert_eq!(ended.asked, 1);
    // Each checkpoint on the way asks for itself, and the one of step 2 is not written again.
    assert_eq!(Ended::of(&["intervals.checkpoint=1"], 0, None, Ok("layer 7")).asked, 2);
}

/// After the first update of a step, the weights are those of no step.
#[test]
fn weights_of_a_half_made_step_are_no_checkpoint() {
    let ended = Ended::of(&["intervals.checkpoint=99"], 1, None, Ok("layer 7"));
    assert_eq!(ended.before_search, [true, false]);
    let (text, faulty) = kept(ended.error);
    assert!(
        text.contains("the weights after step 2 are not saved: the step that failed had made updates"),
        "{text}"
    );
    assert_eq!((faulty.updates, faulty.checkpoint), (1, None));
    assert!(!ended.folder.path().join("checkpoints").exists());
}

/// Weights that are not finite took the place of good ones.
#[test]
fn weights_that_are_not_finite_are_no_checkpoint() {
    let spoilt = Some("element 3 of `w` is not finite");
    let ended = Ended::of(&["intervals.checkpoint=1"], 0, spoilt, Ok("layer 7"));
    let (text, faulty) = kept(ended.error);
    assert!(
        text.contains("the weights after step 2 are not saved: element 3 of `w` is not finite"),
        "{text}"
    );
    assert_eq!(faulty.checkpoint, None);
    assert!(!ended.folder.path().join("checkpoints").exists());
    // At the end of a run there is nothing to be told later.
    let ended = Ended::of(&["schedule.steps=2"], 0, spoilt, Ok("layer 7"));
    let text = ended.error.to_string();
    assert!(matches!(ended.error, AlignError::SpoiltWeights { step: 2, .. }), "{text}");
    assert!(text.contains("element 3 of `w`") && text.contains("there is none"), "{text}");
}

/// Of a model that learns, every kind of number that a checkpoint has is looked at.
#[test]
fn a_trainee_names_its_numbers_that_are_not_finite() {
    let configuration = configuration(Method::Reward, TuningKind::Lora, &["schedule.steps=2"]);
    let width = tiny_config().hidden_size;
    assert_eq!(with_head(&configuration, vec![1.0; width]).not_finite(), None);
    let found = with_head(&configuration, vec![f32::INFINITY; width]).not_finite().unwrap();
    assert!(found.contains("element 0 of `score.weight`"), "{found}");
}
