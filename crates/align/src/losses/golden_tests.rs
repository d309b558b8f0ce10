//! Losses and gradients against those of TRL 1.16 on random numbers (`tests/golden/make_losses.py`).

use serde_json::Value;
use zhenjin_tensor::SimdLevel;

use super::distillation::{DistillationLoss, TeacherDivergence};
use super::judged::{JudgedLoss, divergence};
use super::policy::{Aggregation, Clip, DivergenceEstimator};
use super::preference::{PairScores, PreferenceLoss, PreferenceLossKind};
use super::reward::bradley_terry;

const CASES: &str = include_str!("../../tests/golden/losses.json");
const TOLERANCE: f64 = 1e-9;

fn cases(kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let cases = all[kind].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn sum(row: &[f64]) -> f64 {
    row.iter().sum()
}

fn assert_close(found: f64, expected: f64, case: &Value) {
    assert!((found - expected).abs() < TOLERANCE, "{found} instead of {expected}: {case}");
}

/// That each token of row `row` has the gradient `slope`.
fn assert_slope(case: &Value, row: usize, slope: f64) {
    rows(&case["gradients"])[row].iter().for_each(|gradient| assert_close(slope, *gradient, case));
}

#[test]
fn preferences_are_judged_as_trl_judges_them() {
    for case in cases("preference") {
        let kind = match case["loss_type"].as_str().unwrap() {
            "sigmoid" => PreferenceLossKind::Sigmoid,
            "ipo" => PreferenceLossKind::Ipo,
            "sigmoid_norm" => PreferenceLossKind::SigmoidPerToken,
            "hinge" => PreferenceLossKind::Hinge,
            other => panic!("{other}"),
        };
        let loss = PreferenceLoss { kind, beta: case["beta"].as_f64().unwrap(), label_smoothing: 0.0 };
        let (chosen, rejected) = (rows(&case["chosen"]), rows(&case["rejected"]));
        let references = [numbers(&case["reference_chosen"]), numbers(&case["reference_rejected"])];
        let pairs = chosen.len();
        let mut mean = 0.0;
        for index in 0..pairs {
            let of = loss.of(&PairScores {
                chosen: sum(&chosen[index]),
                rejected: sum(&rejected[index]),
                reference_chosen: references[0][index],
                reference_rejected: references[1][index],
                chosen_tokens: chosen[index].len(),
                rejected_tokens: rejected[index].len(),
            });
            mean += of.loss / pairs as f64;
            assert_slope(&case, index, of.by_chosen / pairs as f64);
            assert_slope(&case, pairs + index, of.by_rejected / pairs as f64);
        }
        assert_close(mean, case["loss"].as_f64().unwrap(), &case);
    }
}

#[test]
fn judged_answers_count_as_in_trl() {
    for case in cases("judged") {
        let weights = numbers(&case["weights"]);
        let loss = JudgedLoss {
            beta: case["beta"].as_f64().unwrap(),
            liked_weight: weights[0],
            disliked_weight: weights[1],
        };
        let mismatched = rows(&case["mismatched"]);
        let ratios: Vec<f64> = mismatched
            .iter()
            .zip(numbers(&case["mismatched_reference"]))
            .map(|(row, reference)| sum(row) - reference)
            .collect();
        let divergence = divergence(&ratios);
        let (answers, references) = (rows(&case["answers"]), numbers(&case["reference"]));
        let mut mean = 0.0;
        for (index, answer) in answers.iter().enumerate() {
            let liked = case["liked"][index].as_bool().unwrap();
            let (value, slope) = loss.of(sum(answer) - references[index], liked, divergence);
            mean += value / answers.len() as f64;
            assert_slope(&case, index, slope / answers.len() as f64);
        }
        assert_close(mean, case["loss"].as_f64().unwrap(), &case);
    }
}

#[test]
fn rewards_are_trained_as_in_trl() {
    for case in cases("reward") {
        let [chosen, rejected, margins, gradients] =
            ["chosen", "rejected", "margins", "gradients"].map(|key| numbers(&case[key]));
        let centring = case["centring"].as_f64().unwrap();
        let pairs = chosen.len() as f64;
        let mut mean = 0.0;
        for index in 0..chosen.len() {
            let of = bradley_terry(chosen[index], rejected[index], margins[index], centring);
            mean += of.loss / pairs;
            assert_close(of.by_chosen / pairs, gradients[index], &case);
            assert_close(of.by_rejected / pairs, gradients[chosen.len() + index], &case);
        }
        assert_close(mean, case["loss"].as_f64().unwrap(), &case);
    }
}

#[test]
fn policies_are_trained_as_in_trl() {
    for case in cases("policy") {
        let aggregation = match case["loss_type"].as_str().unwrap() {
            "grpo" => Aggregation::AnswerMean,
            "bnpo" | "dapo" => Aggregation::TokenMean,
            "dr_grpo" => Aggregation::ConstantLength,
            other => panic!("{other}"),
        };
        let number = |key: &str| case[key].as_f64().unwrap();
        let clip = Clip {
            low: number("low"),
            high: number("high"),
            dual: case["delta"].as_f64().unwrap_or(f64::INFINITY),
        };
        let [old, new, reference, gradients] =
            ["old", "new", "reference", "gradients"].map(|key| rows(&case[key]));
        let advantages = numbers(&case["advantages"]);
        let all_tokens = new.iter().map(Vec::len).sum();
        let mut total = 0.0;
        for (answer, tokens) in new.iter().enumerate() {
            let weight = aggregation.weight(tokens.len(), new.len(), all_tokens, number("longest") as usize);
            for (index, token) in tokens.iter().enumerate() {
                let policy = clip.loss(token - old[answer][index], advantages[answer]);
                let (reference, old) = (reference[answer][index], old[answer][index]);
                let (divergence, by_token) = match case["corrected"].as_bool().unwrap() {
                    true => DivergenceEstimator::K3.corrected(*token, reference, old),
                    false => DivergenceEstimator::K3.of(*token, reference),
                };
                total += weight * (policy.loss + number("beta") * divergence);
                let slope = weight * (policy.slope + number("beta") * by_token);
                assert_close(slope, gradients[answer][index], &case);
            }
        }
        assert_close(total, number("loss"), &case);
    }
}

/// Rows of logits are in f32, so their losses and gradients are as near as that allows.
#[test]
fn students_learn_from_teachers_as_in_trl() {
    const NEAR: f64 = 2e-6;
    for case in cases("distillation") {
        let number = |key: &str| case[key].as_f64().unwrap();
        let beta = number("beta");
        let divergence = match beta {
            0.0 => TeacherDivergence::ForwardKl,
            1.0 => TeacherDivergence::ReverseKl,
            _ => TeacherDivergence::JensenShannon,
        };
        let loss = DistillationLoss {
            divergence,
            beta,
            temperature: number("temperature"),
            weight: number("weight"),
        };
        let [student, teacher, gradients] = ["student", "teacher", "gradients"].map(|key| rows(&case[key]));
        let single = |row: &[f64]| row.iter().map(|logit| *logit as f32).collect::<Vec<f32>>();
        let count = student.len() as f64;
        let (mut total, mut divergence) = (0.0, 0.0);
        for row in 0..student.len() {
            let target = case["targets"][row].as_u64().unwrap() as usize;
            let mut slopes = single(&student[row]);
            let token =
                loss.of_row(SimdLevel::detect(), &mut slopes, &single(&teacher[row]), target, 1.0 / count);
            total += loss.value(&token) / count;
            divergence += token.divergence / count;
            for (slope, expected) in slopes.iter().zip(&gradients[row]) {
                assert!((f64::from(*slope) - expected).abs() < NEAR, "{slope} instead of {expected}: {case}");
            }
        }
        assert!((total - number("loss")).abs() < NEAR, "{total}: {case}");
        assert!((divergence - number("divergence")).abs() < NEAR, "{divergence}: {case}");
    }
}
