//! Evaluations on a small random model: they measure what training measures, and read what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use zhenjin_align::configuration::{Configuration, Method, RolloutSection, TuningKind};
use zhenjin_align::data::EncodedPair;
use zhenjin_align::evaluation::{
    Endings, RewardModel, Scorer, answers, dialogue_values, pair_accuracy, pair_margins, perplexity,
    reward_scores,
};
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{Examples, Offline, Preferences, RewardPairs};
use zhenjin_align::run::Training;
use zhenjin_align::testing::{self, END, VOCABULARY};
use zhenjin_align::trainee::{RewardFiles, Trainee, ValueBatch};
use zhenjin_model::testing::{RandomWeights, tiny_config};
use zhenjin_model::write::{NewTensor, reward_config_json, write_reward_safetensors, write_tensors};
use zhenjin_model::{LoadOptions, Model};
use zhenjin_tensor::Dtype;
use zhenjin_tokenizer::EncodedDialogue;

fn load() -> LoadOptions {
    testing::load(1)
}

fn model(load: &LoadOptions) -> Arc<Model> {
    testing::model(Dtype::F32, load)
}

fn configuration(method: Method) -> Configuration {
    let settings = ["optimiser.learning_rate=3e-3", "schedule.steps=12"];
    testing::configuration(method, TuningKind::Lora, 16, &settings)
}

fn trainee(configuration: &Configuration, values: bool, load: &LoadOptions) -> Trainee {
    let values = values.then(|| vec![0.0; tiny_config().hidden_size]);
    testing::trainee(configuration, Dtype::F32, values, load)
}

fn dialogue(number: u32, answer: &[u32]) -> EncodedDialogue {
    let mut ids: Vec<u32> = (0..4 + number % 5).map(|place| (number * 7 + place * 3) % 60).collect();
    let mut assistant_mask = vec![false; ids.len()];
    ids.extend(answer.iter().chain([&END]));
    assistant_mask.resize(ids.len(), true);
    EncodedDialogue { ids, assistant_mask }
}

fn pairs() -> Vec<EncodedPair> {
    let pair = |number: u32| EncodedPair {
        chosen: dialogue(number, &[70, 71 + number % 3, 72]),
        rejected: dialogue(number, if number.is_multiple_of(2) { &[80, 85] } else { &[81, 85, 82, 83] }),
        margin: None,
    };
    (0..16).map(pair).collect()
}

/// Trains a few steps and gives the checkpoint's folder.
fn train<E: Examples>(configuration: &Configuration, examples: E, held_out: E) -> (tempfile::TempDir, f64) {
    let load = load();
    let values = configuration.method == Method::Reward;
    let trainee = trainee(configuration, values, &load);
    let folder = tempfile::tempdir().unwrap();
    let mut offline = Offline::new(configuration.clone(), trainee, examples, held_out, None, "test").unwrap();
    offline.prepare(folder.path().join("reference.json"), &mut |_, _| ()).unwrap();
    for step in 0..configuration.schedule.steps {
        offline.step(step, 1.0).unwrap();
    }
    let accuracy = offline.held_out().unwrap().unwrap().measures.mean("accuracy").unwrap();
    offline.write(folder.path()).unwrap();
    (folder, accuracy)
}

#[test]
fn the_margins_of_a_trained_adapter_are_those_that_training_measured() {
    let configuration = configuration(Method::Dpo);
    let section = configuration.preference.unwrap();
    let loss =
        PreferenceLoss { kind: section.loss, beta: section.beta, label_smoothing: section.label_smoothing };
    let examples = || Preferences::new(pairs(), loss, 0.0, 64);
    let (folder, accuracy) = train(&configuration, examples(), examples());
    let load = load();
    let mut scorer = Scorer::new(model(&load), load.clone(), VOCABULARY).unwrap();
    let adapter = scorer.open_adapter(folder.path()).unwrap();
    let pairs = pairs();
    let mut told = 0;
    let margins =
        pair_margins(&mut scorer, Some(&adapter), None, &pairs, &mut |done, all| told = all - done).unwrap();
    assert_eq!(told, 0);
    assert_eq!(margins[0].tokens, [4, 3]);
    assert_eq!(margins[1].tokens, [4, 5]);
    let rewards: Vec<f64> = margins.iter().map(|margin| margin.implicit_reward()).collect();
    let tokens: Vec<[usize; 2]> = margins.iter().map(|margin| margin.tokens).collect();
    let of = pair_accuracy(&rewards, &tokens, 1).unwrap();
    assert_eq!(of.accuracy.mean, accuracy);
    assert!(accuracy > 0.9, "{accuracy}");
    // What is compared with itself prefers nothing.
    let same = pair_margins(&mut scorer, Some(&adapter), Some(&adapter), &pairs, &mut |_, _| ()).unwrap();
    assert!(same.iter().all(|margin| margin.implicit_reward() == 0.0));
    let another = pair_margins(&mut scorer, None, None, &pairs, &mut |_, _| ()).unwrap();
    assert!(margins.iter().zip(&another).all(|(one, other)| one.reference == other.policy));
}

#[test]
fn a_reward_model_that_is_opened_gives_the_values_that_training_measured() {
    let configuration = configuration(Method::Reward);
    let (folder, accuracy) =
        train(&configuration, RewardPairs::new(pairs(), 0.01), RewardPairs::new(pairs(), 0.01));
    let load = load();
    let mut judge = RewardModel::open(folder.path(), &model(&load), &load, VOCABULARY).unwrap();
    let pairs = pairs();
    let dialogues: Vec<&[u32]> =
        pairs.iter().flat_map(|pair| [&pair.chosen.ids[..], &pair.rejected.ids[..]]).collect();
    let scores = reward_scores(&mut judge, &dialogues, &mut |_| ()).unwrap();
    let correct = scores.as_chunks::<2>().0.iter().filter(|[chosen, rejected]| chosen > rejected).count();
    assert_eq!(correct as f64 / 16.0, accuracy);
    assert!(accuracy > 0.9, "{accuracy}");
    let mut trained = trainee(&configuration, true, &load);
    trained.load(folder.path(), configuration.schedule.steps).unwrap();
    let mut batch = ValueBatch::default();
    dialogues.iter().for_each(|dialogue| batch.push_last(dialogue));
    let values: Vec<f64> = trained.values(&batch).unwrap().into_iter().map(f64::from).collect();
    assert_eq!(scores, values);
    let error = reward_scores(&mut judge, &[&[]], &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("dialogue 1"), "{error}");
    // What an earlier version wrote: the head in a file of its own, the adapter as one to a model that writes text.
    let old = tempfile::tempdir().unwrap();
    let values = trained.adapter().unwrap().values(&tiny_config()).unwrap();
    values.write_matrices(&old.path().join("adapter_model.safetensors"), &tiny_config()).unwrap();
    std::fs::write(old.path().join("adapter_config.json"), values.settings_json("tiny")).unwrap();
    let head = RewardFiles::open(folder.path(), &tiny_config()).unwrap().head;
    let tensor =
        NewTensor { name: "score.weight".to_owned(), dtype: Dtype::F32, shape: vec![1, head.weight.len()] };
    let bytes: Vec<u8> = head.weight.iter().flat_map(|value| value.to_le_bytes()).collect();
    let file = old.path().join("score.safetensors");
    write_tensors(&file, &[tensor], &BTreeMap::new(), &mut |_, out| out.write(&bytes)).unwrap();
    let mut earlier = RewardModel::open(old.path(), &model(&load), &load, VOCABULARY).unwrap();
    assert_eq!(reward_scores(&mut earlier, &dialogues, &mut |_| ()).unwrap(), scores);
    let empty = tempfile::tempdir().unwrap();
    let error = RewardModel::open(empty.path(), &model(&load), &load, VOCABULARY).unwrap_err().to_string();
    assert!(error.contains("is no reward model"), "{error}");
}

/// A reward model that others trained: its scores are at the end of what the template writes, padding aside.
#[test]
fn texts_end_for_the_reward_models_of_others_as_their_template_ends_them() {
    let load = load();
    let source = RandomWeights::new(tiny_config(), Dtype::F32, 5);
    let weights = Model::from_source(tiny_config(), &source, &load).unwrap();
    let head: Vec<f32> = (0..tiny_config().hidden_size).map(|place| (place as f32).sin()).collect();
    let folder = |padding: Option<u32>, place: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let json = reward_config_json(&tiny_config(), padding).unwrap();
        std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        let path = folder.path().join("model.safetensors");
        write_reward_safetensors(&path, &tiny_config(), &weights.weights, &head).unwrap();
        if place.is_none() {
            let bytes = std::fs::read(&path).unwrap();
            let of = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
            let mut bytes = bytes.clone();
            bytes[of(b"score_position")] = b'x';
            std::fs::write(&path, bytes).unwrap();
        }
        folder
    };
    let endings = Endings { end_of_turn: vec![END], behind: vec![7, 8], padding: Some(3) };
    let scores = |folder: &tempfile::TempDir, dialogue: &[u32], endings: &Endings| {
        let judge = RewardModel::open(folder.path(), &model(&load), &load, VOCABULARY).unwrap();
        reward_scores(&mut judge.with_endings(endings.clone()), &[dialogue], &mut |_| ()).unwrap()[0]
    };
    let (ours, theirs) = (folder(Some(0), Some("ours")), folder(None, None));
    let plain = Endings::default();
    let dialogue = [5, 6, END];
    assert_eq!(scores(&ours, &dialogue, &endings), scores(&ours, &dialogue, &plain));
    assert_eq!(scores(&theirs, &dialogue, &endings), scores(&ours, &[5, 6, END, 7, 8], &plain));
    // An answer that was cut off has no end that something could follow.
    assert_eq!(scores(&theirs, &[5, 6], &endings), scores(&ours, &[5, 6], &plain));
    let padded = folder(Some(8), None);
    assert_eq!(scores(&padded, &dialogue, &endings), scores(&ours, &[5, 6, END, 7], &plain));
    let padded_with_the_end = folder(Some(END), None);
    assert_eq!(scores(&padded_with_the_end, &dialogue, &plain), scores(&ours, &[5, 6], &plain));
    // An adapter's base says what padding is; whole weights say it themselves.
    assert_eq!(scores(&theirs, &[5, 6, 3], &endings), scores(&ours, &[5, 6, 3], &plain));
}

/// One dialogue that was too long, or whose value was no number, left all the others without a score, and ended the run.
#[test]
fn a_dialogue_without_a_value_faults_itself_alone() {
    let load = load();
    let source = RandomWeights::new(tiny_config(), Dtype::F32, 5);
    let weights = Model::from_source(tiny_config(), &source, &load).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let judge = |head: &[f32]| {
        let json = reward_config_json(&tiny_config(), None).unwrap();
        std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        let path = folder.path().join("model.safetensors");
        write_reward_safetensors(&path, &tiny_config(), &weights.weights, head).unwrap();
        RewardModel::open(folder.path(), &model(&load), &load, VOCABULARY).unwrap()
    };
    let (width, longest) = (tiny_config().hidden_size, tiny_config().context_length);
    let head: Vec<f32> = (0..width).map(|place| (place as f32).sin()).collect();
    let long = vec![5; longest + 1];
    let dialogues: [&[u32]; 4] = [&[5, 6, END], &[], &long, &[7, END]];
    let mut done = 0;
    let found = dialogue_values(&mut judge(&head), &dialogues, &mut |count| done = count).unwrap();
    assert_eq!((done, judge(&head).context_length()), (4, longest));
    let readable = [dialogues[0], dialogues[3]];
    let values = reward_scores(&mut judge(&head), &readable, &mut |_| ()).unwrap();
    assert_eq!((&found[0], &found[3]), (&Ok(values[0]), &Ok(values[1])));
    let fault = |value: &Result<f64, String>| value.clone().unwrap_err();
    assert!(fault(&found[1]).contains("no tokens"), "{found:?}");
    assert!(fault(&found[2]).contains(&format!("{} tokens", longest + 1)), "{found:?}");
    // Where all must have one, the first without it is named.
    let error = reward_scores(&mut judge(&head), &dialogues, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("dialogue 2: it has no tokens"), "{error}");
    let found = dialogue_values(&mut judge(&vec![f32::MAX; width]), &readable, &mut |_| ()).unwrap();
    assert!(fault(&found[0]).starts_with("its value is "), "{found:?}");
}

#[test]
fn perplexity_is_that_of_the_tokens_behind_the_first_of_each_text() {
    let load = load();
    let mut scorer = Scorer::new(model(&load), load.clone(), VOCABULARY).unwrap();
    let texts = vec![vec![3, 1, 4, 1, 5], vec![9], vec![], vec![2, 6, 5]];
    let of = perplexity(&mut scorer, None, &texts).unwrap();
    assert_eq!(of.tokens, [4, 0, 0, 2]);
    assert_eq!((of.nats[1], of.nats[2]), (0.0, 0.0));
    let alone = perplexity(&mut scorer, None, &texts[3..]).unwrap();
    assert_eq!(alone.nats[0], of.nats[3]);
    let value = of.value().unwrap();
    assert!((value.ln() * 6.0 - (of.nats[0] + of.nats[3])).abs() < 1e-9);
    // A random model knows little more than the number of tokens.
    assert!((20.0..400.0).contains(&value), "{value}");
    assert_eq!(perplexity(&mut scorer, None, &texts[1..3]).unwrap().value(), None);
}

#[test]
fn answers_depend_on_the_seed_the_prompt_and_their_numbers_alone() {
    let load = load();
    let model = model(&load);
    let section = RolloutSection {
        answers: 1,
        max_tokens: 6,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        drop_overlong: false,
    };
    let mut rollouts = testing::rollouts(section, &load);
    // More than are written at once.
    let prompts: Vec<Vec<u32>> = (0..50).map(|number| vec![number, 3, number]).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let mut write = |prompts: &[&[u32]], seed| {
        answers(&mut rollouts, &model, None, prompts, 2, seed, &mut |_| ()).unwrap()
    };
    let first = write(&prompts, 1);
    assert_eq!(first.len(), 50);
    assert!(first.iter().all(|answers| answers.len() == 2 && answers[0].tokens.len() <= 6));
    assert_ne!(first[0][0], first[0][1]);
    assert_eq!(write(&prompts, 1), first);
    assert_eq!(write(&prompts[..3], 1), first[..3]);
    assert_ne!(write(&prompts, 2), first);
}
