//! Runs of distillation on small random models: the student comes near to its teacher, on given answers and on its own; runs can be killed.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::losses::distillation::DistillationLoss;
use zhenjin_align::methods::{Dialogues, Distillation, Examples, Offline, OwnAnswers};
use zhenjin_align::run::Run;
use zhenjin_align::teacher::Teacher;
use zhenjin_align::testing::{self, END, VOCABULARY, load};
use zhenjin_align::trainee::Trainee;
use zhenjin_model::testing::{random_adapter, tiny_config};
use zhenjin_model::{AdapterValues, ModelConfig};
use zhenjin_tensor::{Dtype, SimdLevel};
use zhenjin_tokenizer::EncodedDialogue;
use zhenjin_train::checkpoint::Checkpoints;
use zhenjin_train::metrics::{Event, MetricsError, Observer};
use zhenjin_train::training::Gauges;

/// The same model with an adapter that changes what it says.
fn adapter() -> AdapterValues {
    random_adapter(&tiny_config(), 4, 9)
}

fn teacher(config: ModelConfig, dtype: Dtype, adapter: Option<&AdapterValues>, threads: usize) -> Teacher {
    let load = load(threads);
    Teacher::new(testing::model_of(config, dtype, &load), adapter, &load, VOCABULARY).unwrap()
}

fn configuration(method: Method, tuning: TuningKind, settings: &[&str]) -> Configuration {
    let defaults = ["optimiser.learning_rate=1e-2", "schedule.steps=20", "batch.examples=8"];
    testing::configuration(method, tuning, 24, &[&defaults[..], settings].concat())
}

fn trainee(configuration: &Configuration, dtype: Dtype, threads: usize) -> Trainee {
    testing::trainee(configuration, dtype, None, &load(threads))
}

fn dialogues(range: std::ops::Range<u32>) -> Vec<EncodedDialogue> {
    let dialogue = |number: u32| {
        let mut ids: Vec<u32> = (0..4 + number % 5).map(|place| (number * 7 + place * 3) % 60).collect();
        let mut assistant_mask = vec![false; ids.len()];
        ids.extend((0..6).map(|place| (number * 13 + place * 17) % 90).chain([END]));
        assistant_mask.resize(ids.len(), true);
        EncodedDialogue { ids, assistant_mask }
    };
    range.map(dialogue).collect()
}

fn run(
    configuration: &Configuration,
    trainee: Trainee,
    teacher: Teacher,
    threads: usize,
    folder: &Path,
    until: u64,
) -> Events {
    let section = configuration.distillation.unwrap();
    let loss = DistillationLoss {
        divergence: section.divergence,
        beta: section.beta,
        temperature: section.temperature,
        weight: section.weight,
    };
    let own = configuration.rollout.map(|rollout| OwnAnswers {
        rollouts: testing::rollouts(rollout, &load(threads)),
        share: section.own_answers,
        context: tiny_config().context_length,
        seed: configuration.seed,
    });
    let teacher = Rc::new(RefCell::new(teacher));
    let simd = SimdLevel::detect();
    let training = Distillation::new(dialogues(0..24), Rc::clone(&teacher), loss, simd, own).unwrap();
    let held_out = Distillation::new(dialogues(24..30), teacher, loss, simd, None).unwrap();
    train(configuration, trainee, training, held_out, folder, until)
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

impl Observer for Events {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        self.0.lock().unwrap().push(event.reproducible());
        Ok(())
    }
}

impl Events {
    fn held_out(&self, name: &str) -> Vec<f64> {
        let events = self.0.lock().unwrap();
        let value = |event: &Event| match event {
            Event::HeldOut(metrics) => metrics.measures.get(name).copied(),
            _ => None,
        };
        events.iter().filter_map(value).collect()
    }

    /// Everything that was measured in steps, as text.
    fn steps(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter(|event| matches!(event, Event::Step(_)))
            .map(|event| format!("{event:?}"))
            .collect()
    }

    /// Loss and the gradient's norm of the first step.
    fn first(&self) -> (f64, f64) {
        let events = self.0.lock().unwrap();
        let step = events.iter().find_map(|event| match event {
            Event::Step(step) => Some((step.loss, step.gradient_norm)),
            _ => None,
        });
        step.unwrap()
    }
}

fn train<E: Examples>(
    configuration: &Configuration,
    trainee: Trainee,
    training: E,
    held_out: E,
    folder: &Path,
    until: u64,
) -> Events {
    let offline = Offline::new(configuration.clone(), trainee, training, held_out, None, "data").unwrap();
    let newest = Checkpoints::new(&folder.join("checkpoints"), 9).find().unwrap().newest;
    let mut run =
        Run::new(configuration.clone(), offline, folder, Gauges::default(), newest.as_ref()).unwrap();
    let events = Events::default();
    let (seen, begun) = (events.clone(), run.steps());
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(events.clone())];
    run.run(&mut observers, &|| begun + seen.steps().len() as u64 >= until).unwrap();
    events
}

#[test]
fn the_divergence_on_held_out_examples_falls_for_every_loss_and_type() {
    for (tuning, dtype, more) in [
        (TuningKind::Lora, Dtype::F32, vec!["batch.micro_tokens=32"]),
        (TuningKind::Lora, Dtype::Q8_0, vec!["distillation.divergence=reverse-kl"]),
        (
            TuningKind::Full,
            Dtype::F32,
            vec!["distillation.divergence=jensen-shannon", "distillation.temperature=2"],
        ),
        (TuningKind::Lora, Dtype::F32, vec!["distillation.weight=0.9"]),
        (TuningKind::Lora, Dtype::F32, vec!["distillation.own_answers=1", "rollout.max_tokens=8"]),
        (TuningKind::Full, Dtype::F32, vec!["distillation.own_answers=0.5", "rollout.max_tokens=8"]),
    ] {
        let configuration = configuration(Method::Distill, tuning, &more);
        let folder = tempfile::tempdir().unwrap();
        let teacher = teacher(tiny_config(), Dtype::Q8_0, Some(&adapter()), 2);
        let events = run(&configuration, trainee(&configuration, dtype, 2), teacher, 2, folder.path(), 99);
        let divergence = events.held_out("divergence");
        let (first, last) = (divergence[0], divergence[divergence.len() - 1]);
        assert!(first > 0.001 && last < 0.75 * first, "{tuning:?} {dtype} {more:?}: {divergence:?}");
    }
}

/// A teacher of another width, whose head has more rows than there are tokens.
#[test]
fn a_teacher_of_another_size_with_a_padded_head_is_learnt_from() {
    let config = ModelConfig {
        layers: 3,
        hidden_size: 48,
        vocabulary_size: tiny_config().vocabulary_size + 40,
        tied_embeddings: false,
        ..tiny_config()
    };
    let configuration = configuration(Method::Distill, TuningKind::Full, &[]);
    let folder = tempfile::tempdir().unwrap();
    let teacher = teacher(config, Dtype::F32, None, 2);
    let events = run(&configuration, trainee(&configuration, Dtype::F32, 2), teacher, 2, folder.path(), 99);
    let divergence = events.held_out("divergence");
    assert!(divergence[divergence.len() - 1] < 0.8 * divergence[0], "{divergence:?}");
}

#[test]
fn a_teacher_that_is_the_student_teaches_nothing() {
    let configuration = configuration(Method::Distill, TuningKind::Lora, &["schedule.steps=2"]);
    let folder = tempfile::tempdir().unwrap();
    let teacher = teacher(tiny_config(), Dtype::F32, None, 1);
    let events = run(&configuration, trainee(&configuration, Dtype::F32, 1), teacher, 1, folder.path(), 99);
    assert_eq!(events.first(), (0.0, 0.0));
    assert_eq!(events.held_out("divergence"), [0.0; 3]);
    assert_eq!(events.held_out("agreement"), [1.0; 3]);
}

/// Without the teacher's share the loss is that of supervised fine-tuning, and so are its gradients.
#[test]
fn without_the_teachers_share_it_is_supervised_fine_tuning() {
    let one_step = ["schedule.steps=1", "batch.examples=16"];
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let supervised = configuration(Method::Sft, TuningKind::Full, &one_step);
    let (training, held_out) = (Dialogues::new(dialogues(0..24)), Dialogues::new(dialogues(24..30)));
    let student = trainee(&supervised, Dtype::F32, 2);
    let of_supervised = train(&supervised, student, training, held_out, folders[0].path(), 99);
    let settings = [&one_step[..], &["distillation.weight=0", "distillation.temperature=2"]].concat();
    let distilled = configuration(Method::Distill, TuningKind::Full, &settings);
    let teacher = teacher(tiny_config(), Dtype::F32, Some(&adapter()), 2);
    let of_distilled = run(&distilled, trainee(&distilled, Dtype::F32, 2), teacher, 2, folders[1].path(), 99);
    let ((loss, norm), (expected_loss, expected_norm)) = (of_distilled.first(), of_supervised.first());
    assert!((loss / expected_loss - 1.0).abs() < 1e-6, "{loss} {expected_loss}");
    assert!((norm / expected_norm - 1.0).abs() < 1e-5, "{norm} {expected_norm}");
}

#[test]
fn interrupted_distillation_ends_with_the_bits_of_a_whole_one_at_any_number_of_threads() {
    for (tuning, more) in [
        (TuningKind::Lora, vec!["distillation.divergence=jensen-shannon"]),
        (TuningKind::Full, vec!["distillation.own_answers=0.5", "rollout.max_tokens=6"]),
    ] {
        let settings =
            [&["schedule.steps=6", "batch.examples=5", "intervals.checkpoint=6"][..], &more].concat();
        let configuration = configuration(Method::Distill, tuning, &settings);
        let part = |folder: &Path, until: u64, threads: usize| {
            let teacher = teacher(tiny_config(), Dtype::F32, Some(&adapter()), threads);
            let student = trainee(&configuration, Dtype::F32, threads);
            run(&configuration, student, teacher, threads, folder, until).steps()
        };
        let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let undisturbed = part(whole.path(), 99, 2);
        let told = [part(parts.path(), 3, 1), part(parts.path(), 99, 3)].concat();
        assert_eq!(undisturbed, told, "{tuning:?}");
        let sums = |folder: &Path| {
            let newest = Checkpoints::new(&folder.join("checkpoints"), 9).find().unwrap().newest.unwrap();
            format!("{:?}", newest.state.files)
        };
        assert_eq!(sums(whole.path()), sums(parts.path()), "{tuning:?}");
    }
}
