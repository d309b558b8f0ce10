//! How runs end that cannot go on, and what they must not do without a word.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::runs::*;
use crate::training::{ONLINE, Wished, online, online_parts};
use zhenjin_align::AlignError;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::data::EncodedThumb;
use zhenjin_align::faults::FaultyStep;
use zhenjin_align::losses::judged::JudgedLoss;
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{
    Anchor, Dialogues, Examples, Judged, Judgement, Offline, Online, OnlineParts, Preferences, RewardPairs,
    RewardSource,
};
use zhenjin_align::rewards::{Answer, BuildOptions, RewardExpression};
use zhenjin_align::run::{Run, Training};
use zhenjin_align::trainee::Trainee;
use zhenjin_model::testing::{RandomWeights, random_adapter, tiny_config};
use zhenjin_model::{AdapterValues, Model};
use zhenjin_tensor::Dtype;
use zhenjin_train::metrics::Event;
use zhenjin_train::training::{Gauges, Outcome};

fn notes(steps: &Steps) -> Vec<String> {
    let events = steps.0.lock().unwrap();
    let note = |event: &Event| match event {
        Event::Note { text, .. } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(note).collect()
}

/// A held-out part of two thumbs about one question once ended the run.
#[test]
fn one_held_out_prompt_is_enough_for_judged_answers() {
    let thumb =
        |number, liked| EncodedThumb { dialogue: if liked { good(number) } else { bad(number) }, liked };
    let loss = JudgedLoss { beta: 0.1, liked_weight: 1.0, disliked_weight: 1.0 };
    let others: Vec<EncodedThumb> = (0..8).map(|number| thumb(number, number % 2 == 0)).collect();
    let one_prompt = || vec![thumb(9, true), thumb(9, false)];
    assert!(Judged::new(one_prompt(), &[], loss, 512, 64).is_err());
    let held_out = Judged::new(one_prompt(), &others, loss, 512, 64).unwrap();
    let settings = ["schedule.steps=4", "batch.examples=1"];
    let configuration = configuration(Method::Kto, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let trainee = trainee(&configuration, Dtype::F32, false, 1);
    let training = Judged::new(others, &[], loss, 512, 64).unwrap();
    let training = offline(&configuration, trainee, training, held_out, folder.path());
    let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
    assert!(steps.held_out("answer_kl").iter().all(|divergence| divergence.is_finite()));
    // The divergence of a single example counts as well: with one it was silently 0.
    assert!(steps.steps().iter().all(|step| step.measures.contains_key("answer_kl")));
}

/// The steps between the last checkpoint and a rule of the section `watch` were lost, although the message said otherwise.
#[test]
fn a_stop_rule_loses_no_step() {
    let settings =
        ["schedule.steps=12", "intervals.checkpoint=99", "intervals.held_out=0", "rollout.answers=4"];
    let measured = |more: &str| {
        let settings = [&ONLINE[..], &settings, &[more]].concat();
        let configuration = configuration(Method::Grpo, TuningKind::Lora, &settings);
        let folder = tempfile::tempdir().unwrap();
        let training = online(&configuration, Dtype::F32, 1, Box::new(Wished(3)));
        let result = train(&configuration, training, folder.path(), 99);
        (result, folder)
    };
    let (whole, _folder) = measured("watch.window=20");
    let entropies: Vec<f64> = whole.unwrap().0.steps().iter().map(|step| step.measures["entropy"]).collect();
    // A bound that a later step is the first to break.
    let (broken_at, bound) = (1..entropies.len())
        .map(|step| (step, entropies[step] + 1e-9))
        .find(|(step, bound)| entropies[..*step].iter().all(|entropy| entropy > bound))
        .expect("the policy becomes surer of itself");
    let (result, folder) = measured(&format!("watch.least_entropy={bound}"));
    let error = result.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("watch.least_entropy"), "{error}");
    assert!(folder.path().join(format!("checkpoints/step-{broken_at:08}")).is_dir(), "{error}");
}

/// A reward so great that the critic's gradient has no number.
struct Enormous;

impl RewardSource for Enormous {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let judge = |number: usize| Judgement { total: Ok(1e40 * (number % 2) as f64), parts: Vec::new() };
        Ok((0..answers.len()).map(judge).collect())
    }
}

/// The critic once went on without ever learning again, and nobody was told.
#[test]
fn a_critic_that_cannot_learn_ends_the_run() {
    let settings = [&ONLINE[..], &["rollout.answers=4", "policy.kl=0", "intervals.held_out=0"]].concat();
    let configuration = configuration(Method::Ppo, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let training = online(&configuration, Dtype::F32, 1, Box::new(Enormous));
    let error = train(&configuration, training, folder.path(), 99).map(|_| ()).unwrap_err();
    assert!(matches!(error, AlignError::NonFinite { what, .. } if what.contains("critic")), "{error}");
}

/// A reward that nobody can ask any more after some times.
struct Unreachable(usize);

impl RewardSource for Unreachable {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        if self.0 == 0 {
            return Err(AlignError::Input("nobody judges".to_owned()));
        }
        self.0 -= 1;
        Wished(3).judge(answers)
    }
}

/// Where anything but a missing reward or a number that is not finite ended the run, the steps since the last checkpoint were lost.
#[test]
fn whatever_ends_a_run_loses_no_step() {
    // The reward is asked once a step, and once more where held-out prompts are answered: before the first step, and after the second.
    for (held_out, last) in [("intervals.held_out=0", 3), ("intervals.held_out=2", 2)] {
        let settings = ["schedule.steps=6", "intervals.checkpoint=99", "rollout.answers=4", held_out];
        let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &settings].concat());
        let run = |folder: &Path, times: usize| {
            let training = online(&configuration, Dtype::F32, 1, Box::new(Unreachable(times)));
            train(&configuration, training, folder, 99).map(|(_, run)| run.steps())
        };
        let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(run(whole.path(), 99).unwrap(), 6);
        assert_eq!(run(broken.path(), 3).unwrap_err().to_string(), "nobody judges");
        assert!(broken.path().join(format!("checkpoints/step-{last:08}")).is_dir(), "{held_out}");
        assert_eq!(run(broken.path(), 99).unwrap(), 6);
        assert_eq!(sums(whole.path()), sums(broken.path()));
        // Before the first step there is nothing to save.
        let nothing = tempfile::tempdir().unwrap();
        run(nothing.path(), 0).unwrap_err();
        assert!(!nothing.path().join("checkpoints/step-00000000").exists());
    }
}

/// What could not be measured after the last step was never measured, and the last weights were never found to be the best.
#[test]
fn held_out_examples_that_could_not_be_measured_are_measured_by_who_goes_on() {
    let settings =
        ["schedule.steps=4", "intervals.checkpoint=2", "rollout.answers=4", "intervals.held_out=2"];
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &settings].concat());
    let run = |folder: &Path, times: usize| {
        let training = online(&configuration, Dtype::F32, 1, Box::new(Unreachable(times)));
        train(&configuration, training, folder, 99).map(|(_, run)| run.steps())
    };
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(run(whole.path(), 99).unwrap(), 4);
    // Before the first step, at two steps, after the second, at two steps; then not after the fourth.
    run(broken.path(), 6).unwrap_err();
    let left = newest(broken.path()).state;
    assert!(left.is_unmeasured && left.step == 4);
    assert_eq!(run(broken.path(), 99).unwrap(), 4);
    assert_eq!(newest(broken.path()).state, newest(whole.path()).state);
}

fn continued(configuration: &Configuration, adapter: Option<&AdapterValues>) -> Trainee {
    trainee_of(configuration, model(Dtype::F32, &load(1)), adapter)
}

fn trainee_of(configuration: &Configuration, model: Arc<Model>, adapter: Option<&AdapterValues>) -> Trainee {
    Trainee::new(model, adapter, None, options(configuration, &load(1))).unwrap()
}

/// A run that continued one adapter could go on with another, and the reference's numbers of one were taken for those of the other.
#[test]
fn the_adapter_that_a_run_begins_with_is_part_of_its_fingerprint() {
    let configuration = configuration(Method::Dpo, TuningKind::Lora, &["schedule.steps=2"]);
    let adapter = |seed| {
        let fresh = continued(&Configuration { seed, ..configuration.clone() }, None);
        fresh.adapter().unwrap().values(&tiny_config()).unwrap()
    };
    let fingerprint = |adapter: Option<&AdapterValues>| {
        let pairs = |range| preferences(range, &configuration);
        let trainee = continued(&configuration, adapter);
        let (training, held_out) = (pairs(0..8), pairs(8..10));
        Offline::new(configuration.clone(), trainee, training, held_out, None, "data").unwrap().fingerprint()
    };
    let (one, other) = (adapter(1), adapter(2));
    let all = [fingerprint(None), fingerprint(Some(&one)), fingerprint(Some(&other))];
    assert_ne!(all[0], all[1]);
    assert_ne!(all[1], all[2]);
    assert_eq!(all[1], fingerprint(Some(&one)));
}

/// A run that began with the model in f32 went on with it in the type of its file, against the reference's numbers in f32.
#[test]
fn the_precision_of_the_model_is_part_of_a_runs_fingerprint() {
    let configuration = configuration(Method::Dpo, TuningKind::Lora, &["schedule.steps=2"]);
    let source = RandomWeights::new(tiny_config(), Dtype::Q8_0, 5);
    let [as_stored, in_f32] = [false, true].map(|in_f32| {
        let model = match in_f32 {
            true => Model::from_source_in_f32(tiny_config(), &source, &load(1)),
            false => Model::from_source(tiny_config(), &source, &load(1)),
        };
        trainee_of(&configuration, Arc::new(model.unwrap()), None).beginning()
    });
    assert_ne!(as_stored, in_f32);
}

/// A run that went on kept the reference's weights in memory to its end.
#[test]
fn the_reference_is_let_go_of_when_its_numbers_are_read() {
    let configuration = configuration(Method::Dpo, TuningKind::Full, &["schedule.steps=2"]);
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let reference = model(Dtype::F32, &load(1));
        let weak = Arc::downgrade(&reference);
        let trainee = trainee(&configuration, Dtype::F32, false, 1).with_reference(reference);
        let (examples, held_out) = (preferences(0..8, &configuration), preferences(8..10, &configuration));
        let training = offline(&configuration, trainee, examples, held_out, folder.path());
        assert!(weak.upgrade().is_none(), "the reference is still there");
        drop(training);
    }
}

/// The loss of pairs asks for a difference alone: both answers can become less likely.
#[test]
fn preferred_answers_that_become_less_likely_are_said_aloud_and_kept_likely_by_an_sft_weight() {
    let run = |sft_weight: f64| {
        let settings = ["schedule.steps=20", "batch.examples=8", "preference.beta=0.2"];
        let mut configuration = configuration(Method::Dpo, TuningKind::Lora, &settings);
        let section = configuration.preference.as_mut().unwrap();
        section.sft_weight = sft_weight;
        let loss = PreferenceLoss { kind: section.loss, beta: section.beta, label_smoothing: 0.0 };
        // Answers that differ in one token share what becomes less likely.
        let pair = |number: u32| zhenjin_align::data::EncodedPair {
            chosen: dialogue(number, &[70, 71, 72, 73]),
            rejected: dialogue(number, &[70, 71, 72, 74, 75, 76]),
            margin: None,
        };
        let pairs = |range: std::ops::Range<u32>| {
            Preferences::new(range.map(pair).collect(), loss, sft_weight, configuration.batch.micro_tokens)
        };
        let folder = tempfile::tempdir().unwrap();
        let trainee = trainee(&configuration, Dtype::F32, false, 1);
        let training = offline(&configuration, trainee, pairs(0..24), pairs(24..28), folder.path());
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        let reward = steps.steps().last().unwrap().measures["chosen_reward"];
        let is_told =
            notes(&steps).iter().any(|note| note.contains("less likely than they were before training"));
        assert_eq!(is_told, reward < -0.01, "{reward}");
        reward
    };
    let (plain, kept) = (run(0.0), run(1.0));
    assert!(kept > 0.0 && kept > plain, "{plain} {kept}");
}

/// Answers written by quantised weights: the mismatch is measured, and the cap bounds the correction.
#[test]
fn answers_of_other_weights_are_measured_and_corrected() {
    let run = |cap: &str| {
        let more = ["schedule.steps=3", "rollout.answers=4", "intervals.held_out=0", cap];
        let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &more].concat());
        let folder = tempfile::tempdir().unwrap();
        let parts = online_parts(&configuration, Dtype::F32, 2, Box::new(Wished(3)));
        let parts = OnlineParts { rollout_model: Some(model(Dtype::Q4_0, &load(2))), ..parts };
        let training = Online::new(configuration.clone(), parts).unwrap();
        let fingerprint = training.fingerprint();
        let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
        (steps.steps(), fingerprint, sums(folder.path()))
    };
    let (steps, fingerprint, corrected) = run("policy.mismatch_cap=2");
    assert!(fingerprint.contains("answers by model"), "{fingerprint}");
    for step in &steps {
        let [mean, least, greatest] =
            ["mismatch", "mismatch_least", "mismatch_greatest"].map(|name| step.measures[name]);
        assert!(mean > 0.0 && least < 1.0 && greatest > 1.0, "{step:?}");
    }
    let (_, _, uncorrected) = run("policy.mismatch_cap=0");
    assert_ne!(corrected, uncorrected);
}

/// Rewards long answers.
struct Longer(f64);

impl RewardSource for Longer {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let judge = |answer: &Answer<'_>| Judgement {
            total: Ok(self.0 * answer.tokens.len() as f64),
            parts: Vec::new(),
        };
        Ok(answers.iter().map(judge).collect())
    }
}

#[test]
fn a_reward_that_rises_while_the_judge_falls_is_said_aloud() {
    let more = ["schedule.steps=24", "rollout.answers=8", "intervals.held_out=0", "watch.window=4"];
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &more].concat());
    let folder = tempfile::tempdir().unwrap();
    let parts = online_parts(&configuration, Dtype::F32, 2, Box::new(Longer(1.0)));
    let parts = OnlineParts { judge: Some(Box::new(Longer(-1.0))), ..parts };
    let training = Online::new(configuration.clone(), parts).unwrap();
    let (steps, _) = train(&configuration, training, folder.path(), 99).unwrap();
    let notes = notes(&steps);
    assert!(notes.iter().any(|note| note.contains("while the held-out judge fell")), "{notes:?}");
}

/// What was learned ends by itself: the end token is learned with the answer.
#[test]
fn answers_end_by_themselves_after_supervised_fine_tuning() {
    let settings = ["schedule.steps=40", "batch.examples=8"];
    let configuration = configuration(Method::Sft, TuningKind::Full, &settings);
    let folder = tempfile::tempdir().unwrap();
    let trainee = trainee(&configuration, Dtype::F32, false, 2);
    let training = offline(&configuration, trainee, dialogues(0..24), dialogues(0..0), folder.path());
    let (_, run) = train(&configuration, training, folder.path(), 99).unwrap();
    let ended = share_that_ends(run.training());
    assert!(ended >= 0.95, "{ended}");
}

fn share_that_ends<E: zhenjin_align::methods::Examples>(offline: &Offline<E>) -> f64 {
    use zhenjin_align::rollouts::Job;
    let more = ["rollout.max_tokens=12"];
    let section = configuration(Method::Grpo, TuningKind::Lora, &more).rollout.unwrap();
    let mut rollouts = rollouts(section, &load(2));
    let prompts: Vec<Vec<u32>> = (0..24)
        .map(|number| {
            let dialogue = good(number);
            let answer = dialogue.assistant_mask.iter().position(|learned| *learned).unwrap();
            dialogue.ids[..answer].to_vec()
        })
        .collect();
    let jobs: Vec<Job<'_>> = prompts.iter().zip(0..).map(|(prompt, seed)| Job { prompt, seed }).collect();
    let written = rollouts.write(offline.trainee().model(), offline.trainee().adapter(), &jobs).unwrap();
    written.iter().filter(|answer| answer.ended).count() as f64 / written.len() as f64
}

/// The step was lost, and so was what it read.
#[test]
fn a_step_that_is_not_finite_is_kept_and_can_be_computed_again() {
    let settings = ["schedule.steps=2", "intervals.held_out=0", "batch.examples=3"];
    let configuration = configuration(Method::Dpo, TuningKind::Lora, &settings);
    // Finite numbers whose product is none.
    let config = tiny_config();
    let mut additions = random_adapter(&config, 16, 7).additions().to_vec();
    additions.iter_mut().filter(|addition| addition.layer == 1).for_each(|addition| {
        addition.down.iter_mut().chain(&mut addition.up).for_each(|value| *value *= 1e25);
    });
    let broken = AdapterValues::new(Path::new("broken"), &config, additions).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut examples = preferences(0..9, &configuration);
    examples.prepare(&mut continued(&configuration, None), &mut |_| ()).unwrap();
    let trainee = continued(&configuration, Some(&broken));
    let none = preferences(9..9, &configuration);
    let training = Offline::new(configuration.clone(), trainee, examples, none, None, "data").unwrap();
    let error = train(&configuration, training, folder.path(), 99).map(|_| ()).unwrap_err();
    let text = error.to_string();
    let AlignError::NonFinite { step, examples, kept: Some(path), .. } = error else { panic!("{text}") };
    assert!(
        text.contains("in example ") && text.contains("layer 1") && text.contains("is kept in"),
        "{text}"
    );
    let kept = FaultyStep::read(&path).unwrap();
    assert_eq!((step, path), (1, folder.path().join("faults/step-00000001.json")));
    // A chosen and a rejected answer of each example, in the step's order.
    let of_documents: Vec<usize> = kept.documents.iter().map(|document| document.example).collect();
    assert_eq!(of_documents, examples.iter().flat_map(|example| [*example; 2]).collect::<Vec<_>>());
    // Finite with other weights; with the same, the same origin again.
    let (loss, origin) = continued(&configuration, None).replay(&kept).unwrap();
    assert!(loss.is_finite() && origin.is_none(), "{loss} {origin:?}");
    let (_, origin) = continued(&configuration, Some(&broken)).replay(&kept).unwrap();
    assert!(text.contains(&origin.unwrap()), "{text}");
    // What is no such file is said.
    std::fs::write(folder.path().join("other.json"), "{}").unwrap();
    let problem = FaultyStep::read(&folder.path().join("other.json")).unwrap_err().to_string();
    assert!(problem.contains("other.json is not a kept step"), "{problem}");
}

/// Memory for the longest examples was once missing only when their step came.
#[test]
fn the_largest_batch_is_computed_first_and_changes_nothing() {
    let settings = ["schedule.steps=6", "batch.examples=2", "batch.micro_tokens=64", "intervals.held_out=0"];
    let configuration = configuration(Method::Sft, TuningKind::Lora, &settings);
    let long: Vec<u32> = (0..40).map(|place| 60 + place % 30).collect();
    let training = |lengths: [usize; 12]| {
        // Prompts of one length.
        let examples = (0..12).zip(lengths).map(|(number, length)| dialogue(5 * number, &long[..length]));
        let examples = Dialogues::new(examples.collect());
        let none = Dialogues::new(Vec::new());
        Offline::new(configuration.clone(), continued(&configuration, None), examples, none, None, "data")
            .unwrap()
    };
    // Whichever comes first, all are alike.
    assert_eq!(training([5; 12]).rehearse(0).unwrap(), None);
    // One of a later step.
    let with_long = |long: usize| std::array::from_fn(|example| if example == long { 40 } else { 5 });
    let is_later = |long: &usize| training(with_long(*long)).rehearse(0).unwrap().is_some();
    let lengths = with_long((0..12).find(is_later).expect("ten examples are not in the first step"));
    let mut run = training(lengths);
    let before = run.trainee().adapter().unwrap().fingerprint();
    let rows = run.rehearse(0).unwrap().expect("a larger batch comes later");
    assert!(rows > 40, "{rows}");
    assert_eq!(run.trainee().adapter().unwrap().fingerprint(), before);
    // The first step is the one that it would have been.
    let (rehearsed, other) = (run.step(0, 1.0).unwrap(), training(lengths).step(0, 1.0).unwrap());
    assert_eq!((rehearsed.loss, rehearsed.gradient_norm), (other.loss, other.gradient_norm));
    let folder = tempfile::tempdir().unwrap();
    let (steps, _) = train(&configuration, training(lengths), folder.path(), 99).unwrap();
    assert!(notes(&steps)[0].contains("was computed first"), "{:?}", notes(&steps));
}

/// A piece of an anchor was not among what is computed first, and memory for the largest was missing when its step came.
#[test]
fn the_largest_piece_of_an_anchor_is_computed_first_and_changes_nothing() {
    let settings = ["schedule.steps=6", "batch.examples=2", "anchor.weight=1", "anchor.tokens=16"];
    let configuration = configuration(Method::Sft, TuningKind::Lora, &settings);
    let folder = tempfile::tempdir().unwrap();
    let text = |length: u32| -> Vec<u32> { (0..length).map(|place| 10 + place % 50).collect() };
    // Each text is a piece.
    let training = |lengths: [u32; 3]| {
        let anchor = Anchor::new(&lengths.map(text), &configuration.anchor.unwrap()).unwrap();
        assert_eq!(anchor.most_rows() as u32 + 1, lengths.into_iter().max().unwrap());
        // Two of a step have 18 rows.
        let examples = Dialogues::new((0..12).map(|number| dialogue(5 * number, &[60; 5])).collect());
        let (trainee, none) = (continued(&configuration, None), Dialogues::new(Vec::new()));
        let training = Offline::new(configuration.clone(), trainee, examples, none, None, "data").unwrap();
        let mut training = training.with_anchor(anchor);
        training.prepare(folder.path().join("reference.json"), &mut |_, _| {}).unwrap();
        training
    };
    assert_eq!(training([12; 3]).rehearse(0).unwrap(), None);
    let lengths = [12, 12, 91];
    let mut run = training(lengths);
    let before = run.trainee().adapter().unwrap().fingerprint();
    assert_eq!(run.rehearse(0).unwrap(), Some(90));
    assert_eq!(run.trainee().adapter().unwrap().fingerprint(), before);
    let (rehearsed, other) = (run.step(0, 1.0).unwrap(), training(lengths).step(0, 1.0).unwrap());
    assert_eq!((rehearsed.loss, rehearsed.gradient_norm), (other.loss, other.gradient_norm));
    // One that comes at once, or in none of the steps that are left.
    assert_eq!(training([91, 12, 12]).rehearse(0).unwrap(), None);
    assert_eq!(training([91, 12, 12]).rehearse(4).unwrap(), None);
}

/// Regression: a run whose reward process hung was deaf to signals for all attempts, and ended with a fault instead of a stop.
#[test]
fn a_run_that_waits_for_a_reward_process_hears_the_stop_and_ends_the_process() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let (script, pid) = (folder.path().join("reward.sh"), folder.path().join("pid"));
    // It judges the eight answers of the first step, and hangs once it was asked for those of the second.
    let text = format!(
        "n=0\nwhile [ $n -lt 8 ]; do read line; echo \"{{\\\"id\\\": $n, \\\"score\\\": $n}}\"; n=$((n+1)); done\n\
         read line\nsleep 1000 &\necho $! > {0}.new\nmv {0}.new {0}\nwait\n",
        pid.display()
    );
    std::fs::write(&script, text).unwrap();
    let more = ["rollout.answers=2", "intervals.held_out=0"];
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &[&ONLINE[..], &more].concat());
    let options = BuildOptions { stop: || ASKED.load(Ordering::SeqCst), ..crate::rewards::options() };
    let expression = RewardExpression::parse(&format!("process:sh {}", script.display())).unwrap();
    let training = online(&configuration, Dtype::F32, 1, Box::new(expression.build(&options).unwrap()));
    let waited_for = pid.clone();
    let asker = std::thread::spawn(move || {
        while !waited_for.is_file() {
            std::thread::sleep(Duration::from_millis(10));
        }
        ASKED.store(true, Ordering::SeqCst);
    });
    let mut run = Run::new(configuration, training, folder.path(), Gauges::default(), None).unwrap();
    let outcome = run.run(&mut [], &|| ASKED.load(Ordering::SeqCst)).unwrap();
    asker.join().unwrap();
    assert_eq!(outcome, Outcome::Stopped { step: 1 });
    assert_eq!(newest(folder.path()).state.step, 1);
    // What the process started is gone with it; a process that nobody has waited for yet is a zombie.
    let pid = std::fs::read_to_string(pid).unwrap();
    let is_gone = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        state.map_or(true, |state| state.contains(") Z"))
    };
    assert!((0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        is_gone()
    }));
}

/// Regression: two answers that are judged alike were wrong for pairs and reward models, and right or wrong for judged answers.
#[test]
fn ties_count_half_in_the_accuracy_of_every_method() {
    fn accuracy<E: Examples>(configuration: &Configuration, values: bool, examples: E, held_out: E) -> f64 {
        let folder = tempfile::tempdir().unwrap();
        let trainee = trainee(configuration, Dtype::F32, values, 1);
        let mut training = offline(configuration, trainee, examples, held_out, folder.path());
        training.held_out().unwrap().unwrap().measures.mean("accuracy").unwrap()
    }
    // Before the first step a policy is its reference, and a head of zeros values everything alike.
    let of_pairs = configuration(Method::Dpo, TuningKind::Lora, &[]);
    let (examples, held_out) = (preferences(0..4, &of_pairs), preferences(4..8, &of_pairs));
    assert_eq!(accuracy(&of_pairs, false, examples, held_out), 0.5);
    let of_thumbs = configuration(Method::Kto, TuningKind::Lora, &[]);
    assert_eq!(accuracy(&of_thumbs, false, judged(0..4), judged(4..7)), 0.5);
    let of_values = configuration(Method::Reward, TuningKind::Lora, &[]);
    let of = |range| RewardPairs::new(pairs(range), 0.0);
    assert_eq!(accuracy(&of_values, true, of(0..4), of(4..8)), 0.5);
}

/// Regression: held-out answers without a reward were counted, and nobody was told why.
#[test]
fn held_out_answers_without_a_reward_are_explained() {
    struct HalfBlind;
    impl RewardSource for HalfBlind {
        fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
            let total = |place: usize| if place == 0 { Err("too dark".to_owned()) } else { Ok(place as f64) };
            let judgement = |place| Judgement { total: total(place), parts: Vec::new() };
            Ok((0..answers.len()).map(judgement).collect())
        }
    }
    let configuration = configuration(Method::Grpo, TuningKind::Lora, &ONLINE);
    let mut training = online(&configuration, Dtype::F32, 1, Box::new(HalfBlind));
    let held_out = training.held_out().unwrap().unwrap();
    assert!(held_out.measures.mean("without_reward").unwrap() > 0.0);
    assert!(held_out.notes[0].contains("held-out") && held_out.notes[0].contains("too dark"), "{held_out:?}");
}
