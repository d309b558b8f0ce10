//! The gradient of a step does not depend on how its examples are divided into micro-batches, although their answers have different
//! lengths: means of means once weighed short answers more.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use crate::runs::*;
use crate::training::{ONLINE, Wished, online};
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::data::{EncodedPair, EncodedThumb};
use zhenjin_align::losses::distillation::DistillationLoss;
use zhenjin_align::losses::judged::JudgedLoss;
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{Dialogues, Distillation, Examples, Judged, Preferences, RewardPairs};
use zhenjin_align::teacher::Teacher;
use zhenjin_model::testing::{random_adapter, tiny_config};
use zhenjin_tensor::{Dtype, SimdLevel};
use zhenjin_tokenizer::EncodedDialogue;
use zhenjin_train::checkpoint::parse_optimiser;

/// One step whose gradients can be read: the optimiser remembers half of them, as they are, and the weights stay where they were.
const ONE_STEP: [&str; 6] = [
    "schedule.steps=1",
    "intervals.held_out=0",
    "optimiser.clip=0",
    "optimiser.beta1=0.5",
    "optimiser.learning_rate=0",
    "optimiser.embedding_learning_rate=0",
];

/// Answers of 1 to 9 tokens.
fn of_any_length(number: u32, first: u32) -> EncodedDialogue {
    let answer: Vec<u32> = (0..1 + number * 5 % 9).map(|place| first + (number + place) % 8).collect();
    dialogue(number, &answer)
}

fn all_dialogues() -> Vec<EncodedDialogue> {
    (0..16).map(|number| of_any_length(number, 70)).collect()
}

fn all_pairs(margin: Option<f32>) -> Vec<EncodedPair> {
    let pair = |number: u32| EncodedPair {
        chosen: of_any_length(number, 70),
        rejected: of_any_length(number + 3, 80),
        margin: margin.map(|margin| margin * (number % 4) as f32),
    };
    (0..16).map(pair).collect()
}

/// What a step computed.
struct Computed {
    loss: f64,
    /// Of the model that learns, and of its critic where it has one.
    gradients: Vec<Vec<f32>>,
}

impl Computed {
    /// Of the run in `folder`, which made one step.
    fn of(steps: &Steps, folder: &Path) -> Computed {
        let checkpoint = newest(folder).path;
        let files = ["optimiser.safetensors", "critic-optimiser.safetensors"];
        let files = files.map(|name| checkpoint.join(name)).into_iter().filter(|file| file.is_file());
        Computed { loss: steps.steps()[0].loss, gradients: files.map(|file| first_moments(&file)).collect() }
    }
}

/// What the optimiser remembers of all gradients, one behind the other.
fn first_moments(file: &Path) -> Vec<f32> {
    let bytes = std::fs::read(file).unwrap();
    let header = parse_optimiser(&bytes).unwrap();
    let mut moments = Vec::new();
    for record in header.tensors().iter().filter(|record| record.name.ends_with("/first")) {
        let values = bytes[record.data.clone()].as_chunks::<4>().0;
        moments.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    moments
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The first step of a method that learns from given answers.
fn first_step<E: Examples>(configuration: &Configuration, examples: E, none: E) -> Computed {
    let folder = tempfile::tempdir().unwrap();
    let gives_values = configuration.method == Method::Reward;
    let trainee = trainee(configuration, Dtype::F32, gives_values, 2);
    let training = offline(configuration, trainee, examples, none, folder.path());
    let (steps, _) = train(configuration, training, folder.path(), 99).unwrap();
    Computed::of(&steps, folder.path())
}

fn assert_same_at_any_size(name: &str, critics: usize, step: &dyn Fn(&str) -> Computed) {
    let one = step("batch.micro_tokens=4096");
    assert_eq!(one.gradients.len(), 1 + critics, "{name}");
    for micro in ["batch.micro_tokens=16", "batch.micro_tokens=40"] {
        let found = step(micro);
        let is_same = (found.loss - one.loss).abs() < 1e-6 * one.loss.abs().max(1e-3);
        assert!(is_same, "{name}, {micro}: loss {}, in one batch {}", found.loss, one.loss);
        for (found, one) in found.gradients.iter().zip(&one.gradients) {
            assert_eq!(found.len(), one.len(), "{name}, {micro}");
            let whole = norm(one.iter().map(|value| f64::from(*value)));
            assert!(whole > 0.0, "{name}: nothing is learned");
            let apart = norm(found.iter().zip(one).map(|(found, one)| f64::from(*found) - f64::from(*one)));
            assert!(apart <= 1e-6 * whole, "{name}, {micro}: gradients differ by {} of them", apart / whole);
        }
    }
}

/// A method's configuration for one step of 16 examples.
fn of_16(method: Method, more: &[&str]) -> Configuration {
    configuration(method, TuningKind::Full, &[&ONE_STEP[..], &["batch.examples=16"], more].concat())
}

#[test]
fn accumulation_gives_the_gradient_of_one_batch_of_answers_of_any_length() {
    assert_same_at_any_size("sft", 0, &|micro| {
        first_step(&of_16(Method::Sft, &[micro]), Dialogues::new(all_dialogues()), Dialogues::new(Vec::new()))
    });
    for (loss, sft_weight) in [("preference.loss=sigmoid", 0.5), ("preference.loss=ipo", 0.0)] {
        assert_same_at_any_size(loss, 0, &|micro| {
            let configuration = of_16(Method::Dpo, &[micro, loss]);
            let section = configuration.preference.unwrap();
            let loss = PreferenceLoss { kind: section.loss, beta: section.beta, label_smoothing: 0.0 };
            let micro_tokens = configuration.batch.micro_tokens;
            let pairs = |pairs| Preferences::new(pairs, loss, sft_weight, micro_tokens);
            first_step(&configuration, pairs(all_pairs(None)), pairs(Vec::new()))
        });
    }
    assert_same_at_any_size("kto", 0, &|micro| {
        let configuration = of_16(Method::Kto, &[micro]);
        let loss = JudgedLoss { beta: 0.1, liked_weight: 1.0, disliked_weight: 1.5 };
        let thumb = |number: u32| EncodedThumb {
            dialogue: of_any_length(number, 70),
            liked: number.is_multiple_of(2),
        };
        let judged = |thumbs: Vec<EncodedThumb>| {
            Judged::new(thumbs, &[], loss, 512, configuration.batch.micro_tokens).unwrap()
        };
        first_step(&configuration, judged((0..16).map(thumb).collect()), judged(Vec::new()))
    });
    for margin in [None, Some(0.5)] {
        assert_same_at_any_size(&format!("reward, margin {margin:?}"), 0, &|micro| {
            let pairs = |pairs| RewardPairs::new(pairs, 0.01);
            first_step(&of_16(Method::Reward, &[micro]), pairs(all_pairs(margin)), pairs(Vec::new()))
        });
    }
}

#[test]
fn accumulation_gives_a_students_gradient_of_one_batch() {
    for more in [
        ["distillation.divergence=forward-kl", "distillation.weight=0.7"],
        ["distillation.divergence=jensen-shannon", "distillation.temperature=2"],
    ] {
        assert_same_at_any_size(more[0], 0, &|micro| {
            let configuration = of_16(Method::Distill, &[&[micro][..], &more].concat());
            let section = configuration.distillation.unwrap();
            let loss = DistillationLoss {
                divergence: section.divergence,
                beta: section.beta,
                temperature: section.temperature,
                weight: section.weight,
            };
            let (load, adapter) = (load(2), random_adapter(&tiny_config(), 4, 9));
            let of_teacher = model(Dtype::Q8_0, &load);
            let teacher = Teacher::new(of_teacher, Some(&adapter), &load, VOCABULARY).unwrap();
            let teacher = Rc::new(RefCell::new(teacher));
            let student = |dialogues| {
                Distillation::new(dialogues, Rc::clone(&teacher), loss, SimdLevel::detect(), None).unwrap()
            };
            first_step(&configuration, student(all_dialogues()), student(Vec::new()))
        });
    }
}

#[test]
fn accumulation_gives_the_gradients_of_policy_and_critic_of_one_batch_by_every_aggregation() {
    for (method, more) in [
        (Method::Grpo, ["policy.aggregation=token-mean", "policy.minibatches=1"]),
        (Method::Grpo, ["policy.aggregation=answer-mean", "policy.minibatches=3"]),
        (Method::Grpo, ["policy.aggregation=constant-length", "policy.kl=0.05"]),
        (Method::Ppo, ["policy.aggregation=token-mean", "policy.minibatches=1"]),
        (Method::Ppo, ["policy.aggregation=answer-mean", "policy.minibatches=3"]),
    ] {
        let is_ppo = method == Method::Ppo;
        assert_same_at_any_size(&more.concat(), usize::from(is_ppo), &|micro| {
            let of_critic = ["critic.learning_rate=0"];
            let of_critic = if is_ppo { &of_critic[..] } else { &[] };
            let settings = [&ONLINE[..], &ONE_STEP, &["rollout.answers=4", micro], &more, of_critic].concat();
            let configuration = configuration(method, TuningKind::Full, &settings);
            let folder = tempfile::tempdir().unwrap();
            let training = online(&configuration, Dtype::F32, 2, Box::new(Wished(3)));
            let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
            Computed::of(&steps, folder.path())
        });
    }
}
