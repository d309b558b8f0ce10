//! A small random model, examples for it, and runs that remember their steps.

use std::path::Path;
use std::sync::Arc;
use zhenjin_align::AlignError;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::data::{EncodedPair, EncodedThumb};
use zhenjin_align::losses::judged::JudgedLoss;
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{Dialogues, Examples, Judged, Offline, Preferences};
use zhenjin_align::run::{Run, Training};
use zhenjin_align::testing;
pub(crate) use zhenjin_align::testing::{END, VOCABULARY, load, model, options, rollouts};
use zhenjin_align::trainee::Trainee;
use zhenjin_model::testing::tiny_config;
use zhenjin_tensor::Dtype;
use zhenjin_tokenizer::EncodedDialogue;
use zhenjin_train::checkpoint::{Checkpoint, Checkpoints};
use zhenjin_train::metrics::{Event, MetricsError, Observer, StepMetrics};
use zhenjin_train::training::{Gauges, Outcome};

pub(crate) fn configuration(method: Method, tuning: TuningKind, settings: &[&str]) -> Configuration {
    let settings = [&["optimiser.learning_rate=3e-3"][..], settings].concat();
    testing::configuration(method, tuning, 24, &settings)
}

pub(crate) fn trainee(configuration: &Configuration, dtype: Dtype, values: bool, threads: usize) -> Trainee {
    let load = load(threads);
    let values = values.then(|| vec![0.0; tiny_config().hidden_size]);
    let trainee = testing::trainee(configuration, dtype, values, &load);
    match configuration.tuning.kind {
        TuningKind::Full => trainee.with_reference(model(dtype, &load)),
        TuningKind::Lora => trainee,
    }
}

/// A prompt of some tokens and an answer of others, with the token that ends it.
pub(crate) fn dialogue(number: u32, answer: &[u32]) -> EncodedDialogue {
    let mut ids: Vec<u32> = (0..4 + number % 5).map(|place| (number * 7 + place * 3) % 60).collect();
    let mut assistant_mask = vec![false; ids.len()];
    ids.extend(answer.iter().chain([&END]));
    assistant_mask.resize(ids.len(), true);
    EncodedDialogue { ids, assistant_mask }
}

pub(crate) fn good(number: u32) -> EncodedDialogue {
    dialogue(number, &[70, 71 + number % 3, 72])
}

pub(crate) fn bad(number: u32) -> EncodedDialogue {
    dialogue(number, &[80 + number % 4, 85])
}

pub(crate) fn dialogues(range: std::ops::Range<u32>) -> Dialogues {
    Dialogues::new(range.map(good).collect())
}

pub(crate) fn pairs(range: std::ops::Range<u32>) -> Vec<EncodedPair> {
    range.map(|number| EncodedPair { chosen: good(number), rejected: bad(number), margin: None }).collect()
}

pub(crate) fn preferences(range: std::ops::Range<u32>, configuration: &Configuration) -> Preferences {
    let section = configuration.preference.unwrap();
    let loss =
        PreferenceLoss { kind: section.loss, beta: section.beta, label_smoothing: section.label_smoothing };
    Preferences::new(pairs(range), loss, section.sft_weight, 64)
}

pub(crate) fn judged(range: std::ops::Range<u32>) -> Judged {
    let thumbs = range.map(|number| {
        let liked = number % 2 == 0;
        EncodedThumb { dialogue: if liked { good(number) } else { bad(number) }, liked }
    });
    let loss = JudgedLoss { beta: 0.1, liked_weight: 1.0, disliked_weight: 1.0 };
    Judged::new(thumbs.collect(), &[], loss, 512, 64).unwrap()
}

/// Remembers the steps.
#[derive(Clone, Default)]
pub(crate) struct Steps(pub(crate) Arc<std::sync::Mutex<Vec<Event>>>);

impl Observer for Steps {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        self.0.lock().unwrap().push(event.reproducible());
        Ok(())
    }
}

impl Steps {
    pub(crate) fn steps(&self) -> Vec<StepMetrics> {
        let events = self.0.lock().unwrap();
        let step = |event: &Event| match event {
            Event::Step(metrics) => Some(metrics.clone()),
            _ => None,
        };
        events.iter().filter_map(step).collect()
    }

    pub(crate) fn held_out(&self, name: &str) -> Vec<f64> {
        let events = self.0.lock().unwrap();
        let value = |event: &Event| match event {
            Event::HeldOut(metrics) => metrics.measures.get(name).copied(),
            _ => None,
        };
        events.iter().filter_map(value).collect()
    }
}

/// Trains in `folder`, from its newest checkpoint if there is one, and stops after `until` steps.
pub(crate) fn train<T: Training>(
    configuration: &Configuration,
    training: T,
    folder: &Path,
    until: u64,
) -> Result<(Steps, Run<T>), AlignError> {
    let newest = Checkpoints::new(&folder.join("checkpoints"), 9).find().unwrap().newest;
    let mut run = Run::new(configuration.clone(), training, folder, Gauges::default(), newest.as_ref())?;
    let steps = Steps::default();
    let seen = steps.clone();
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(steps.clone())];
    let begun = run.steps();
    let outcome = run.run(&mut observers, &|| seen.steps().len() as u64 + begun >= until)?;
    match outcome {
        Outcome::Finished => {}
        Outcome::Stopped { step } => assert_eq!(step, until),
    }
    Ok((steps, run))
}

pub(crate) fn offline<E: Examples>(
    configuration: &Configuration,
    trainee: Trainee,
    examples: E,
    held_out: E,
    folder: &Path,
) -> Offline<E> {
    let mut offline = Offline::new(configuration.clone(), trainee, examples, held_out, None, "data").unwrap();
    offline.prepare(folder.join("reference.json"), &mut |_, _| {}).unwrap();
    offline
}

/// The last checkpoint of a run.
pub(crate) fn newest(folder: &Path) -> Checkpoint {
    Checkpoints::new(&folder.join("checkpoints"), 9).find().unwrap().newest.unwrap()
}

/// SHA-256 of every file of the last checkpoint.
pub(crate) fn sums(folder: &Path) -> Vec<(String, String)> {
    let files = newest(folder).state.files;
    files.iter().map(|(name, sum)| (name.clone(), sum.sha256.clone())).collect()
}
