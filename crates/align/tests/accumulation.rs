//! The gradient of a step does not depend on how its examples are divided into micro-batches, although their answers have different
//! lengths: means of means once weighed short answers more.

use crate::runs::*;
use crate::training::{ONLINE, Wished, online};
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::data::{EncodedPair, EncodedThumb};
use zhenjin_align::losses::judged::JudgedLoss;
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{Dialogues, Examples, Judged, Preferences, RewardPairs};
use zhenjin_tensor::Dtype;
use zhenjin_tokenizer::EncodedDialogue;

/// Answers of 1 to 9 tokens.
fn of_any_length(number: u32, first: u32) -> EncodedDialogue {
    let answer: Vec<u32> = (0..1 + number * 5 % 9).map(|place| first + (number + place) % 8).collect();
    dialogue(number, &answer)
}

fn all_pairs() -> Vec<EncodedPair> {
    let pair = |number| EncodedPair {
        chosen: of_any_length(number, 70),
        rejected: of_any_length(number + 3, 80),
        margin: None,
    };
    (0..16).map(pair).collect()
}

/// Loss and gradient norm of the first step.
fn first_step<E: Examples>(configuration: &Configuration, examples: E, none: E) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let gives_values = configuration.method == Method::Reward;
    let trainee = trainee(configuration, Dtype::F32, gives_values, 2);
    let training = offline(configuration, trainee, examples, none, folder.path());
    let (steps, _) = train(configuration, training, folder.path(), 99).unwrap();
    (steps.steps()[0].loss, steps.steps()[0].gradient_norm)
}

fn assert_same_at_any_size(name: &str, step: &dyn Fn(&str) -> (f64, f64)) {
    let (one_loss, one_norm) = step("batch.micro_tokens=4096");
    assert!(one_norm > 0.0, "{name}: nothing is learned");
    for micro in ["batch.micro_tokens=16", "batch.micro_tokens=40"] {
        let (loss, norm) = step(micro);
        let is_same =
            (loss - one_loss).abs() < 1e-6 * one_loss.abs().max(1e-3) && (norm / one_norm - 1.0).abs() < 1e-5;
        assert!(
            is_same,
            "{name}, {micro}: loss {loss} and norm {norm}, in one batch {one_loss} and {one_norm}"
        );
    }
}

#[test]
fn accumulation_gives_the_gradient_of_one_batch_of_answers_of_any_length() {
    let with = |method, micro: &str| {
        configuration(method, TuningKind::Full, &["schedule.steps=1", "batch.examples=16", micro])
    };
    assert_same_at_any_size("sft", &|micro| {
        let all = (0..16).map(|number| of_any_length(number, 70)).collect();
        first_step(&with(Method::Sft, micro), Dialogues::new(all), Dialogues::new(Vec::new()))
    });
    assert_same_at_any_size("dpo", &|micro| {
        let configuration = with(Method::Dpo, micro);
        let section = configuration.preference.unwrap();
        let loss = PreferenceLoss { kind: section.loss, beta: section.beta, label_smoothing: 0.0 };
        let pairs = |pairs| Preferences::new(pairs, loss, 0.5, configuration.batch.micro_tokens);
        first_step(&configuration, pairs(all_pairs()), pairs(Vec::new()))
    });
    assert_same_at_any_size("kto", &|micro| {
        let configuration = with(Method::Kto, micro);
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
    assert_same_at_any_size("reward", &|micro| {
        let pairs = |pairs| RewardPairs::new(pairs, 0.01);
        first_step(&with(Method::Reward, micro), pairs(all_pairs()), pairs(Vec::new()))
    });
}

#[test]
fn accumulation_gives_the_policys_gradient_of_one_batch_by_every_aggregation() {
    for (method, aggregation) in [
        (Method::Grpo, "policy.aggregation=token-mean"),
        (Method::Grpo, "policy.aggregation=answer-mean"),
        (Method::Grpo, "policy.aggregation=constant-length"),
        (Method::Ppo, "policy.aggregation=token-mean"),
    ] {
        assert_same_at_any_size(aggregation, &|micro| {
            let more = ["schedule.steps=1", "rollout.answers=4", "intervals.held_out=0", aggregation, micro];
            let configuration = configuration(method, TuningKind::Full, &[&ONLINE[..], &more].concat());
            let folder = tempfile::tempdir().unwrap();
            let training = online(&configuration, Dtype::F32, 2, Box::new(Wished(3)));
            let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
            (steps.steps()[0].loss, steps.steps()[0].gradient_norm)
        });
    }
}
