//! Groups of answers and what a step says of them.

use serde_json::Map;
use zhenjin_model::testing::tiny_config;
use zhenjin_tensor::Dtype;

use super::*;
use crate::configuration::TuningKind;
use crate::rewards;
use crate::rollouts::Answer;
use crate::testing::{self, END};

/// Prompts to learn from.
const PROMPTS: u32 = 6;

/// Rewards tokens whose number can be divided by three.
struct Thirds;

impl RewardSource for Thirds {
    fn judge(&mut self, answers: &[rewards::Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let judge = |answer: &rewards::Answer<'_>| {
            let count = answer.tokens.iter().filter(|token| token.is_multiple_of(3)).count();
            Judgement { total: Ok(count as f64 / answer.tokens.len() as f64), parts: Vec::new() }
        };
        Ok(answers.iter().map(judge).collect())
    }
}

/// A run of a small random model before its first step; `writer` is the type of the weights that answers are written with, if they are others.
pub(super) fn online(method: Method, settings: &[&str], writer: Option<Dtype>) -> Online {
    let settings = [&["schedule.steps=4", "rollout.max_tokens=6"][..], settings].concat();
    let configuration = testing::configuration(method, TuningKind::Lora, 24, &settings);
    let load = testing::load(1);
    let trainee = |values: Option<Vec<f32>>| testing::trainee(&configuration, Dtype::F32, values, &load);
    let head = (0..tiny_config().hidden_size).map(|place| 0.1 * (place as f32).sin()).collect();
    let critic = configuration.critic.map(|section| Critic::new(trainee(Some(head)), section, 64));
    let task = |number: u32| EncodedTask {
        prompt: (0..5 + number % 4).map(|place| (number * 5 + place) % 60).collect(),
        messages: Vec::new(),
        fields: Map::new(),
    };
    let parts = OnlineParts {
        trainee: trainee(None),
        critic,
        tasks: (0..PROMPTS).map(task).collect(),
        held_out: Vec::new(),
        rewards: Box::new(Thirds),
        judge: None,
        rollouts: testing::rollouts(configuration.rollout.unwrap(), &load),
        rollout_model: writer.map(|dtype| testing::model(dtype, &load)),
        decode: Box::new(|tokens| format!("{tokens:?}")),
        answerer: None,
        fingerprint: "data".to_owned(),
    };
    Online::new(configuration, parts).unwrap()
}

/// Two answers of two tokens to each of `tasks`, with these rewards.
fn pairs(tasks: &[usize], rewards: &[[f64; 2]]) -> Vec<Episode> {
    let episode = |task: usize, reward: f64| {
        let answer = Answer { tokens: vec![7, END], log_probabilities: vec![-1.0; 2], ended: true };
        Episode { reward: Some(reward), counts: true, ..Episode::new(task, answer, String::new()) }
    };
    let of_task = |(task, rewards): (&usize, &[f64; 2])| rewards.map(|reward| episode(*task, reward));
    tasks.iter().zip(rewards).flat_map(of_task).collect()
}

/// What a run of pairs makes of their advantages.
fn judged(tasks: &[usize], rewards: &[[f64; 2]]) -> (Vec<f64>, StepOutcome) {
    let mut online = online(Method::Grpo, &["rollout.answers=2"], None);
    let (mut episodes, mut outcome) = (pairs(tasks, rewards), StepOutcome::default());
    online.advantages(&mut episodes, &mut outcome).unwrap();
    (episodes.iter().map(|episode| episode.advantages[0]).collect(), outcome)
}

/// With few prompts, and where two epochs meet, a prompt stood twice in a row and its two groups were one.
#[test]
fn neighbouring_groups_of_one_prompt_are_two_groups() {
    let deviation = 0.5f64.sqrt();
    let expected = 0.5 / (deviation + 1e-4);
    let (advantages, outcome) = judged(&[3, 3], &[[0.0, 1.0], [5.0, 4.0]]);
    for (found, sign) in advantages.iter().zip([-1.0, 1.0, 1.0, -1.0]) {
        assert!((found - sign * expected).abs() < 1e-12, "{advantages:?}");
    }
    let measures = &outcome.measures;
    assert!((measures.mean("reward_deviation").unwrap() - deviation).abs() < 1e-12);
    assert_eq!(measures.mean("uniform_groups"), Some(0.0));
    // Each has one reward of its own: together they had two, and something to learn.
    let (advantages, outcome) = judged(&[3, 3], &[[1.0, 1.0], [4.0, 4.0]]);
    assert_eq!(advantages, [0.0; 4]);
    assert_eq!(outcome.measures.mean("uniform_groups"), Some(1.0));
    assert!(outcome.notes[0].starts_with("for 2 of 2 prompts all answers"), "{:?}", outcome.notes);
}

#[test]
fn groups_with_one_reward_are_noted_above_four_fifths_of_the_prompts() {
    for (groups, noted) in [(5, vec![5]), (10, vec![9, 10]), (4, vec![4]), (6, vec![5, 6])] {
        for uniform in 0..=groups {
            let tasks: Vec<usize> = (0..groups).map(|group| group % PROMPTS as usize).collect();
            let of_group = |group: usize| if group < uniform { [0.5; 2] } else { [0.0, 1.0] };
            let rewards: Vec<[f64; 2]> = (0..groups).map(of_group).collect();
            let (_, outcome) = judged(&tasks, &rewards);
            let share = uniform as f64 / groups as f64;
            assert_eq!(outcome.measures.mean("uniform_groups"), Some(share));
            let note = format!("for {uniform} of {groups} prompts all answers have the same reward");
            let is_noted = outcome.notes.iter().any(|text| text.starts_with(&note));
            assert_eq!(is_noted, noted.contains(&uniform), "{uniform} of {groups}: {:?}", outcome.notes);
        }
    }
}

/// What is said of GRPO's loss at the first step holds where answers count alike, and of no other method or step.
#[test]
fn the_loss_of_groups_is_near_0_by_its_construction_and_that_is_said_once() {
    let says =
        |outcome: &StepOutcome| outcome.notes.iter().any(|note| note.contains("near 0 by its construction"));
    let settings = ["rollout.answers=4", "batch.examples=4", "policy.aggregation=answer-mean"];
    let mut groups = online(Method::Grpo, &settings, None);
    for step in 0..3 {
        let outcome = groups.step(step, 1.0).unwrap();
        assert_eq!(says(&outcome), step == 0, "{:?}", outcome.notes);
        assert!(outcome.loss.abs() < 1e-9, "{}", outcome.loss);
        assert!(outcome.skipped.is_none() && outcome.gradient_norm > 1e-3, "{outcome:?}");
    }
    let mut with_critic = online(Method::Ppo, &["batch.examples=4", "critic.whiten=false"], None);
    let outcome = with_critic.step(0, 1.0).unwrap();
    assert!(!says(&outcome) && outcome.loss.abs() > 1e-6, "{outcome:?}");
}

/// Judges as [`Thirds`], by a program that was started again.
struct Restarted;

impl RewardSource for Restarted {
    fn judge(&mut self, answers: &[rewards::Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        Thirds.judge(answers)
    }

    fn notes(&mut self) -> Vec<String> {
        vec!["started again".to_owned()]
    }
}

/// Regression: what went wrong with a reward whose answers have all their scores was told nowhere.
#[test]
fn what_rewards_say_of_themselves_is_noted_by_steps_and_measurements() {
    let mut run = online(Method::Grpo, &["rollout.answers=2", "batch.examples=2"], None);
    run.parts.rewards = Box::new(Restarted);
    run.parts.judge = Some(Box::new(Restarted));
    run.parts.held_out = run.parts.tasks.clone();
    let told = |notes: &[String]| notes.iter().filter(|note| note.as_str() == "started again").count();
    assert_eq!(told(&run.step(0, 1.0).unwrap().notes), 2);
    assert_eq!(told(&run.held_out().unwrap().unwrap().notes), 2);
}
