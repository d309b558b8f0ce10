//! Whole runs of every method on a small random model: they learn, they can be killed, and what is served is what is trained.

use std::path::Path;
use std::sync::Arc;

use crate::runs::*;
use zhenjin_align::AlignError;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::data::{EncodedTask, EncodedThumb};
use zhenjin_align::losses::judged::JudgedLoss;
use zhenjin_align::methods::{
    Anchor, Critic, Dialogues, Judged, Judgement, Offline, Online, OnlineParts, RewardPairs, RewardSource,
};
use zhenjin_align::rewards::Answer;
use zhenjin_align::run::Training;
use zhenjin_align::testing::model_of;
use zhenjin_align::trainee::Trainee;
use zhenjin_model::Weight;
use zhenjin_model::config::{ModelConfig, Multipliers};
use zhenjin_model::testing::tiny_gemma;
use zhenjin_tensor::Dtype;
use zhenjin_tokenizer::EncodedDialogue;
use zhenjin_train::checkpoint::RunState;
use zhenjin_train::metrics::{Event, StepMetrics};

#[test]
fn supervised_fine_tuning_learns_the_answers() {
    for (tuning, dtype) in
        [(TuningKind::Lora, Dtype::F32), (TuningKind::Lora, Dtype::Q8_0), (TuningKind::Full, Dtype::F32)]
    {
        let configuration = configuration(Method::Sft, tuning, &["schedule.steps=20", "batch.examples=8"]);
        let folder = tempfile::tempdir().unwrap();
        let trainee = trainee(&configuration, dtype, false, 2);
        let training = offline(&configuration, trainee, dialogues(0..24), dialogues(24..30), folder.path());
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        let losses = steps.held_out("loss");
        assert!(losses[losses.len() - 1] < 0.5 * losses[0], "{tuning:?} {dtype}: {losses:?}");
    }
}

#[test]
fn a_step_without_anything_to_learn_says_so_and_changes_nothing() {
    for tuning in [TuningKind::Lora, TuningKind::Full] {
        // Weights that are made smaller by every update tell whether one was made.
        let settings = ["schedule.steps=2", "batch.examples=2", "optimiser.weight_decay=0.1"];
        let configuration = configuration(Method::Sft, tuning, &settings);
        let [folder, before] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let silent =
            |number| EncodedDialogue { assistant_mask: vec![false; good(number).ids.len()], ..good(number) };
        let examples = Dialogues::new((0..4).map(silent).collect());
        let trainee = trainee(&configuration, Dtype::F32, false, 1);
        let files = trainee.write(before.path()).unwrap();
        let training = offline(&configuration, trainee, examples, dialogues(0..0), folder.path());
        let (steps, run) = train(&configuration, training, folder.path(), 99).unwrap();
        assert!(
            steps.steps().iter().all(|step| step.skipped.is_some() && step.loss == 0.0),
            "{steps:?}",
            steps = steps.steps()
        );
        assert_eq!((run.steps(), run.training().updates()), (2, 0));
        assert_eq!(newest(folder.path()).state.files, files, "{tuning:?}");
    }
}

#[test]
fn preferences_are_learnt_from_where_the_model_is_its_reference() {
    for (tuning, loss) in [
        (TuningKind::Lora, "preference.loss=sigmoid"),
        (TuningKind::Full, "preference.loss=sigmoid"),
        (TuningKind::Lora, "preference.loss=ipo"),
        (TuningKind::Lora, "preference.loss=sigmoid-per-token"),
    ] {
        let settings = ["schedule.steps=15", "batch.examples=8", "preference.beta=0.2", loss];
        let configuration = configuration(Method::Dpo, tuning, &settings);
        let folder = tempfile::tempdir().unwrap();
        let trainee = trainee(&configuration, Dtype::F32, false, 2);
        let (examples, held_out) = (preferences(0..24, &configuration), preferences(24..32, &configuration));
        let training = offline(&configuration, trainee, examples, held_out, folder.path());
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        let first = &steps.steps()[0];
        assert_eq!(first.measures["margin"], 0.0, "the model is its own reference before the first update");
        if loss.ends_with("sigmoid") {
            assert!((first.loss - std::f64::consts::LN_2).abs() < 1e-12, "{}", first.loss);
        }
        let accuracy = steps.held_out("accuracy");
        assert!(*accuracy.last().unwrap() > 0.9, "{loss}: {accuracy:?}");
    }
}

#[test]
fn judged_answers_are_learnt() {
    let settings = ["schedule.steps=20", "batch.examples=8"];
    let configuration = configuration(Method::Kto, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let trainee = trainee(&configuration, Dtype::F32, false, 2);
    let training = offline(&configuration, trainee, judged(0..24), judged(24..32), folder.path());
    let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
    let accuracy = steps.held_out("accuracy");
    assert!(*accuracy.last().unwrap() > 0.9, "{accuracy:?}");
    let last = steps.steps().pop().unwrap();
    assert!(last.measures["liked_reward"] > last.measures["disliked_reward"], "{last:?}");
}

/// Of people who mostly dislike, the few liked answers once became less likely than before, only less so than the others.
#[test]
fn what_few_people_like_becomes_more_likely_where_most_is_disliked() {
    let settings = ["schedule.steps=20", "batch.examples=8"];
    let configuration = configuration(Method::Kto, TuningKind::Lora, &settings);
    // Likes and dislikes begin alike, so that making one unlikely makes the other so.
    let thumbs = |range: std::ops::Range<u32>| -> Vec<EncodedThumb> {
        let thumb = |number: u32| {
            let liked = number.is_multiple_of(8);
            let dialogue = dialogue(number, &[70, 71, 72, if liked { 73 } else { 74 }]);
            EncodedThumb { dialogue, liked }
        };
        range.map(thumb).collect()
    };
    let reward = |loss: JudgedLoss, sft_weight: f64| {
        let folder = tempfile::tempdir().unwrap();
        let trainee = trainee(&configuration, Dtype::F32, false, 2);
        let examples =
            |range| Judged::new(thumbs(range), &[], loss, 512, 64).unwrap().with_sft_weight(sft_weight);
        let training = offline(&configuration, trainee, examples(0..32), examples(32..64), folder.path());
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        *steps.held_out("liked_reward").last().unwrap()
    };
    let plain = reward(JudgedLoss { beta: 0.1, liked_weight: 1.0, disliked_weight: 1.0 }, 0.0);
    let balanced = reward(JudgedLoss { beta: 0.1, liked_weight: 4.0, disliked_weight: 4.0 / 7.0 }, 1.0);
    assert!(plain < 0.0 && balanced > 0.0, "{plain} {balanced}");
}

#[test]
fn a_reward_model_ranks_pairs() {
    for tuning in [TuningKind::Lora, TuningKind::Full] {
        let settings = ["schedule.steps=20", "batch.examples=8"];
        let configuration = configuration(Method::Reward, tuning, &settings);
        let folder = tempfile::tempdir().unwrap();
        let trainee = trainee(&configuration, Dtype::F32, true, 2);
        let training = offline(
            &configuration,
            trainee,
            RewardPairs::new(pairs(0..24), 0.01),
            RewardPairs::new(pairs(24..32), 0.01),
            folder.path(),
        );
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        let accuracy = steps.held_out("accuracy");
        assert!(*accuracy.last().unwrap() > 0.9, "{tuning:?}: {accuracy:?}");
    }
}

/// A reward for every token of one kind.
pub(crate) struct Wished(pub(crate) u32);

impl RewardSource for Wished {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let judge = |answer: &Answer<'_>| {
            let count = answer.tokens.iter().filter(|token| **token / 8 == self.0).count();
            let share = count as f64 / answer.tokens.len() as f64;
            Judgement { total: Ok(share), parts: vec![("share".to_owned(), share)] }
        };
        Ok(answers.iter().map(judge).collect())
    }
}

pub(crate) fn tasks(range: std::ops::Range<u32>) -> Vec<EncodedTask> {
    let task = |number: u32| EncodedTask {
        prompt: (0..5 + number % 4).map(|place| (number * 5 + place) % 60).collect(),
        messages: Vec::new(),
        fields: serde_json::Map::new(),
    };
    range.map(task).collect()
}

pub(crate) fn online(
    configuration: &Configuration,
    dtype: Dtype,
    threads: usize,
    reward: Box<dyn RewardSource>,
) -> Online {
    online_with(configuration, dtype, threads, reward, None)
}

fn online_with(
    configuration: &Configuration,
    dtype: Dtype,
    threads: usize,
    reward: Box<dyn RewardSource>,
    judge: Option<Box<dyn RewardSource>>,
) -> Online {
    let parts = OnlineParts { judge, ..online_parts(configuration, dtype, threads, reward) };
    Online::new(configuration.clone(), parts).unwrap()
}

pub(crate) fn online_parts(
    configuration: &Configuration,
    dtype: Dtype,
    threads: usize,
    reward: Box<dyn RewardSource>,
) -> OnlineParts {
    let policy = trainee(configuration, dtype, false, threads);
    let critic = configuration.critic.map(|section| {
        let mut of_critic = configuration.clone();
        of_critic.optimiser.learning_rate = section.learning_rate;
        Critic::new(trainee(&of_critic, dtype, true, threads), section, 64)
    });
    OnlineParts {
        trainee: policy,
        critic,
        tasks: tasks(0..12),
        held_out: tasks(12..16),
        rewards: reward,
        judge: None,
        rollouts: rollouts(configuration.rollout.unwrap(), &load(threads)),
        rollout_model: None,
        decode: Box::new(|tokens| format!("{tokens:?}")),
        answerer: None,
        fingerprint: "data".to_owned(),
    }
}

pub(crate) const ONLINE: [&str; 4] =
    ["batch.examples=4", "rollout.max_tokens=12", "schedule.steps=12", "optimiser.learning_rate=1e-2"];

/// In f32, and where a frozen model is quantised but keys and values are not, the ratio at the first update is exactly 1, whatever the
/// sampling: it is asserted in every step, so that runs end well only if it holds.
#[test]
fn groups_learn_the_reward_and_the_first_ratio_is_exactly_one() {
    for (tuning, dtype, more) in [
        (TuningKind::Lora, Dtype::F32, vec![]),
        (TuningKind::Lora, Dtype::Q8_0, vec!["policy.epochs=2", "policy.minibatches=2"]),
        (
            TuningKind::Full,
            Dtype::F32,
            vec!["rollout.temperature=0.6", "rollout.top_p=0.8", "rollout.top_k=20"],
        ),
        (TuningKind::Lora, Dtype::F32, vec!["policy.kl=0.05", "policy.aggregation=answer-mean"]),
    ] {
        let settings = [&ONLINE[..], &more].concat();
        let configuration = configuration(Method::Grpo, tuning, &settings);
        let folder = tempfile::tempdir().unwrap();
        let training = online(&configuration, dtype, 2, Box::new(Wished(3)));
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        let steps = steps.steps();
        let rewards: Vec<f64> = steps.iter().map(|step| step.measures["reward"]).collect();
        assert!(rewards[11] > rewards[0] + 0.1, "{tuning:?} {dtype} {more:?}: {rewards:?}");
        if more.is_empty() {
            let exact = steps
                .iter()
                .all(|step| step.measures["ratio_least"] == 1.0 && step.measures["ratio_greatest"] == 1.0);
            assert!(exact, "{steps:?}");
        }
    }
}

#[test]
fn a_policy_with_a_critic_learns_the_reward() {
    let settings = [
        &ONLINE[..],
        &["rollout.answers=8", "critic.learning_rate=1e-2", "schedule.steps=40", "policy.kl=0"],
    ]
    .concat();
    let configuration = configuration(Method::Ppo, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let training = online(&configuration, Dtype::F32, 2, Box::new(Wished(3)));
    let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
    let steps = steps.steps();
    let rewards: Vec<f64> = steps.iter().map(|step| step.measures["reward"]).collect();
    let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
    assert!(mean(&rewards[35..]) > mean(&rewards[..5]) + 0.1, "{rewards:?}");
    assert!(steps.iter().all(|step| step.measures["value_loss"].is_finite()));
}

/// All answers are worth the same.
struct Flat;

impl RewardSource for Flat {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        Ok(answers.iter().map(|_| Judgement { total: Ok(0.5), parts: Vec::new() }).collect())
    }
}

#[test]
fn equal_rewards_are_said_aloud_and_change_nothing() {
    let settings = [&ONLINE[..], &["schedule.steps=2", "optimiser.weight_decay=0.1"]].concat();
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &settings);
    let [folder, before] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let training = online(&configuration, Dtype::F32, 1, Box::new(Flat));
    let files = training.trainee().write(before.path()).unwrap();
    let (steps, run) = train(&configuration, training, folder.path(), 99).unwrap();
    assert_eq!((run.steps(), run.training().updates()), (2, 0));
    assert_eq!(newest(folder.path()).state.files, files);
    for step in steps.steps() {
        assert_eq!(step.measures["uniform_groups"], 1.0);
        assert!(step.skipped.unwrap().contains("no answer of the step has an advantage"));
    }
    let events = steps.0.lock().unwrap();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Note { text, .. } if text.contains("have the same reward")))
    );
}

/// A reward that ends after some steps, as a program does.
struct Ending(usize);

impl RewardSource for Ending {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        if self.0 == 0 {
            let dead = || Judgement { total: Err("it ended".to_owned()), parts: Vec::new() };
            return Ok(answers.iter().map(|_| dead()).collect());
        }
        self.0 -= 1;
        Wished(3).judge(answers)
    }
}

/// Steps between the last checkpoint and the end of a reward program were lost.
#[test]
fn a_reward_that_ends_loses_no_step() {
    let settings =
        ["schedule.steps=6", "intervals.checkpoint=99", "intervals.held_out=0", "rollout.answers=4"];
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &settings].concat());
    let run = |folder: &Path, steps: usize| {
        let training = online(&configuration, Dtype::F32, 1, Box::new(Ending(steps)));
        train(&configuration, training, folder, 99).map(|(_, run)| run)
    };
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(whole.path(), 6).unwrap();
    let error = run(broken.path(), 3).unwrap_err().to_string();
    assert!(error.contains("no answer of this step has a reward: it ended"), "{error}");
    let again = run(broken.path(), 6).unwrap();
    assert_eq!(again.steps(), 6);
    assert!(broken.path().join("checkpoints/step-00000003").is_dir());
    assert_eq!(sums(whole.path()), sums(broken.path()));
    // One that never works leaves nothing.
    let nothing = tempfile::tempdir().unwrap();
    run(nothing.path(), 0).unwrap_err();
    assert!(!nothing.path().join("checkpoints/step-00000000").exists());
}

#[test]
fn a_judge_that_says_nothing_is_said_aloud() {
    let settings = [&ONLINE[..], &["schedule.steps=2"]].concat();
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let training = online_with(&configuration, Dtype::F32, 1, Box::new(Flat), Some(Box::new(Ending(0))));
    let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
    let events = steps.0.lock().unwrap();
    let is_told = |event: &Event| matches!(event, Event::Note { text, .. } if text.contains("the judge says nothing of"));
    assert!(events.iter().any(is_told), "{events:?}");
    let shares = events.iter().filter_map(|event| match event {
        Event::HeldOut(metrics) => metrics.measures.get("without_judgement").copied(),
        _ => None,
    });
    assert!(shares.clone().count() > 0 && shares.clone().all(|share| share == 1.0));
}

/// A reward that is sometimes no number.
struct Broken;

impl RewardSource for Broken {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let judge = |(number, answer): (usize, &Answer<'_>)| {
            let total = if number % 3 == 0 { f64::NAN } else { answer.tokens.len() as f64 };
            Judgement { total: Ok(total), parts: Vec::new() }
        };
        Ok(answers.iter().enumerate().map(judge).collect())
    }
}

#[test]
fn a_reward_that_is_no_number_does_not_count_and_is_named() {
    let settings = [&ONLINE[..], &["schedule.steps=2"]].concat();
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let training = online(&configuration, Dtype::F32, 1, Box::new(Broken));
    let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
    assert!(steps.steps().iter().all(|step| step.loss.is_finite() && step.measures["reward"].is_finite()));
    let events = steps.0.lock().unwrap();
    let named = |event: &Event| matches!(event, Event::Note { text, .. } if text.contains("11 of 32 answers have no reward"));
    assert!(events.iter().any(named), "{events:?}");
}

/// What a run ends with: the state of its last checkpoint with the sums of its files, and everything that was told. First of a run that was never
/// disturbed, then of one that stopped after three steps and went on, with other numbers of threads.
pub(crate) fn endings(run: &dyn Fn(&Path, u64, usize) -> Steps) -> [(RunState, String); 2] {
    let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let undisturbed = run(whole.path(), 99, 2);
    let first = run(parts.path(), 3, 1);
    let rest = run(parts.path(), 99, 3);
    let told: Vec<StepMetrics> = first.steps().into_iter().chain(rest.steps()).collect();
    let text = |steps: &[StepMetrics]| format!("{steps:?}");
    [(newest(whole.path()).state, text(&undisturbed.steps())), (newest(parts.path()).state, text(&told))]
}

fn whole_and_in_parts(run: &dyn Fn(&Path, u64, usize) -> Steps) {
    let [whole, parts] = endings(run);
    assert_eq!(whole.0, parts.0);
    assert_eq!(whole.1, parts.1);
}

#[test]
fn interrupted_runs_end_with_the_bits_of_whole_ones_at_any_number_of_threads() {
    let settings = ["schedule.steps=6", "batch.examples=5", "intervals.checkpoint=6", "intervals.held_out=2"];
    for tuning in [TuningKind::Lora, TuningKind::Full] {
        whole_and_in_parts(&|folder, until, threads| {
            let configuration = configuration(Method::Dpo, tuning, &settings);
            let trainee = trainee(&configuration, Dtype::F32, false, threads);
            let (examples, held_out) =
                (preferences(0..24, &configuration), preferences(24..28, &configuration));
            let training = offline(&configuration, trainee, examples, held_out, folder);
            train(&configuration, training, folder, until).unwrap().0
        });
    }
    for (method, tuning) in [(Method::Sft, TuningKind::Full), (Method::Kto, TuningKind::Lora)] {
        whole_and_in_parts(&|folder, until, threads| {
            let configuration = configuration(method, tuning, &settings);
            let trainee = trainee(&configuration, Dtype::F32, false, threads);
            if method == Method::Sft {
                let training = offline(&configuration, trainee, dialogues(0..24), dialogues(24..28), folder);
                return train(&configuration, training, folder, until).unwrap().0;
            }
            let training = offline(&configuration, trainee, judged(0..24), judged(24..28), folder);
            train(&configuration, training, folder, until).unwrap().0
        });
    }
    for tuning in [TuningKind::Lora, TuningKind::Full] {
        whole_and_in_parts(&|folder, until, threads| {
            let configuration = configuration(Method::Reward, tuning, &settings);
            let trainee = trainee(&configuration, Dtype::F32, true, threads);
            let (examples, held_out) =
                (RewardPairs::new(pairs(0..24), 0.01), RewardPairs::new(pairs(24..28), 0.01));
            let training = offline(&configuration, trainee, examples, held_out, folder);
            train(&configuration, training, folder, until).unwrap().0
        });
    }
    let online_methods =
        [(Method::Grpo, TuningKind::Full), (Method::Ppo, TuningKind::Lora), (Method::Ppo, TuningKind::Full)];
    for (method, tuning) in online_methods {
        whole_and_in_parts(&|folder, until, threads| {
            let settings =
                [&ONLINE[..], &["schedule.steps=6", "rollout.answers=4", "policy.epochs=2"]].concat();
            let configuration = configuration(method, tuning, &settings);
            let training = online(&configuration, Dtype::F32, threads, Box::new(Wished(3)));
            train(&configuration, training, folder, until).unwrap().0
        });
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = |settings: &[&str], data: &str| {
        let configuration = configuration(Method::Sft, TuningKind::Lora, settings);
        let trainee = trainee(&configuration, Dtype::F32, false, 1);
        let training =
            Offline::new(configuration.clone(), trainee, dialogues(0..8), dialogues(0..0), None, data)
                .unwrap();
        train(&configuration, training, folder.path(), 1).map(|_| ())
    };
    run(&["schedule.steps=4"], "data").unwrap();
    let error = run(&["schedule.steps=4", "optimiser.clip=3"], "data").unwrap_err().to_string();
    assert!(error.contains("optimiser.clip is 3.0, there 1.0"), "{error}");
    let error = run(&["schedule.steps=4"], "other data").unwrap_err().to_string();
    assert!(error.contains("other data or another model"), "{error}");
}

/// Regression: folders of Gemma hold norms less 1, and of a norm below a half the last bits were lost in the checkpoint that a run went on from.
#[test]
fn interrupted_runs_of_models_whose_norms_are_stored_less_one_end_with_the_bits_of_whole_ones() {
    let gemma = tiny_gemma();
    let multipliers = Multipliers {
        embedding: (gemma.hidden_size as f32).sqrt(),
        residual: 1.0,
        logits: 1.0,
        ..gemma.multipliers
    };
    let gemma = ModelConfig { multipliers, ..gemma };
    let settings = ["schedule.steps=6", "batch.examples=5", "intervals.checkpoint=6", "intervals.held_out=2"];
    whole_and_in_parts(&|folder, until, threads| {
        let configuration = configuration(Method::Sft, TuningKind::Full, &settings);
        let load = load(threads);
        let mut model = Arc::into_inner(model_of(gemma.clone(), Dtype::F32, &load)).expect("a new model");
        for (name, weight) in model.weights.parameters_mut() {
            if let (true, Weight::Vector(norm)) = (name.is_norm(), weight) {
                norm.iter_mut().for_each(|value| *value *= 0.3);
            }
        }
        let trainee = Trainee::new(Arc::new(model), None, None, options(&configuration, &load)).unwrap();
        let training = offline(&configuration, trainee, dialogues(0..24), dialogues(24..28), folder);
        train(&configuration, training, folder, until).unwrap().0
    });
}

/// An anchor of next to no weight measures and changes nothing: what text loses without one. A run that is stopped goes on with the same bits.
#[test]
fn an_anchor_keeps_other_text_as_probable_as_it_was() {
    let text = |number: u32| (0..20).map(|place| (number * 5 + place * 11) % 64).collect();
    let texts: Vec<Vec<u32>> = (0..6).map(text).collect();
    let change = |weight: &str, stop: Option<u64>| {
        let settings =
            ["schedule.steps=20", "batch.examples=8", "intervals.checkpoint=5", "anchor.tokens=64", weight];
        let configuration = configuration(Method::Dpo, TuningKind::Lora, &settings);
        let folder = tempfile::tempdir().unwrap();
        let begin = |threads: usize| {
            let trainee = trainee(&configuration, Dtype::F32, false, threads);
            let (pairs, held_out) = (preferences(0..24, &configuration), preferences(24..26, &configuration));
            let anchor = Anchor::new(&texts, &configuration.anchor.unwrap()).unwrap();
            let offline =
                Offline::new(configuration.clone(), trainee, pairs, held_out, None, "data").unwrap();
            let mut offline = offline.with_anchor(anchor);
            offline.prepare(folder.path().join("reference.json"), &mut |_, _| {}).unwrap();
            offline
        };
        if let Some(step) = stop {
            train(&configuration, begin(1), folder.path(), step).unwrap();
        }
        let (steps, _) = train(&configuration, begin(2), folder.path(), 99).unwrap();
        let of_last = steps.steps().last().unwrap().measures["anchor"];
        (of_last, sums(folder.path()))
    };
    let (free, _) = change("anchor.weight=1e-9", None);
    let (held, undisturbed) = change("anchor.weight=30", None);
    assert!(held < 0.3 * free, "{held} with an anchor, {free} without");
    assert_eq!(change("anchor.weight=30", Some(10)).1, undisturbed);
}
