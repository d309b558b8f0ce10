//! A second model that drafts: it follows every sequence exactly, gives way where it brings nothing, and what goes wrong with it
//! reaches no answer.

use std::sync::{Arc, Mutex};

use crate::fake_model::{FakeModel, Gate};
use zhenjin_engine::{
    EndReason, Engine, EngineObserver, EngineOptions, EngineStats, Event, Generation, Request, Sampling,
    Speculation, StepReport,
};

/// Its answers can only be guessed by a model with the same weights and the same tokens in its pages.
fn model() -> FakeModel {
    FakeModel::new(256)
}

fn other(pages: usize) -> FakeModel {
    let mut model = FakeModel::new(pages);
    model.weights = 5;
    model
}

fn start(model: FakeModel, draft: FakeModel, speculation: Speculation) -> Engine {
    let options = EngineOptions { speculation, ..EngineOptions::default() };
    Engine::start_with_draft_model(Box::new(model), Some(Box::new(draft)), options).unwrap()
}

fn greedy(prompt: &[u32], max_tokens: usize) -> Request {
    Request::new(prompt.to_vec(), max_tokens, Sampling::greedy())
}

fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|index| (index * index * 31 + index * 7 + seed * 13) % 50).collect()
}

fn answer(mut generation: Generation) -> Vec<u32> {
    let mut tokens = Vec::new();
    loop {
        match generation.blocking_next().expect("a last event") {
            Event::Prompt { .. } => {}
            Event::Token { report, .. } => tokens.push(report.id),
            Event::Finished { reason, .. } => {
                assert!(matches!(reason, EndReason::Length | EndReason::StopToken(_)), "{reason:?}");
                return tokens;
            }
        }
    }
}

fn alone(request: Request) -> Vec<u32> {
    let options = EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() };
    answer(Engine::start(Box::new(model()), options).unwrap().submit(request).unwrap())
}

fn together(engine: &Engine, requests: impl Iterator<Item = Request>) -> Vec<Vec<u32>> {
    let submitted: Vec<Generation> = requests.map(|request| engine.submit(request).unwrap()).collect();
    submitted.into_iter().map(answer).collect()
}

/// The draft model's pages must hold exactly the sequence's tokens after every chunk, refusal, page boundary and turn: the fake's
/// logits are a hash of all of them.
#[test]
fn a_model_that_drafts_for_itself_is_never_wrong() {
    for speculation in [Speculation::ModelAlways, Speculation::NgramAlways] {
        let engine = start(model(), model(), speculation);
        let mut prompts: Vec<Vec<u32>> = [1, 5, 31, 32, 33, 64, 150, 300]
            .iter()
            .zip(0..)
            .map(|(length, seed)| prompt(*length, seed))
            .collect();
        for turn in 0..3 {
            let requests = || prompts.iter().map(|prompt| greedy(prompt, 75));
            let answers = together(&engine, requests());
            for (request, answer) in requests().zip(&answers) {
                assert_eq!(*answer, alone(request), "turn {turn}");
            }
            for (prompt, answer) in prompts.iter_mut().zip(answers) {
                prompt.extend(answer);
                prompt.push(turn);
            }
        }
        let stats = engine.stats();
        let (drafted, accepted) = (stats.model_drafted_tokens, stats.model_accepted_tokens);
        assert_eq!(accepted, drafted, "{stats:?}");
        // Drafts of seven tokens that end with a page of 32, all of them right, generate the most of all tokens.
        assert!(drafted > 3 * 8 * 75 / 2, "{stats:?}");
        assert_eq!((stats.draft_pages_total, stats.draft_pages_used), (256, 0));
    }
}

#[test]
fn accepted_guesses_save_steps() {
    let run = |draft, speculation| -> EngineStats {
        let engine = start(model(), draft, speculation);
        assert_eq!(answer(engine.submit(greedy(&[3, 1, 4], 300)).unwrap()), alone(greedy(&[3, 1, 4], 300)));
        engine.stats()
    };
    let right = run(model(), Speculation::ModelAlways);
    assert_eq!(right.steps, 300 - right.accepted_tokens);
    assert_eq!(right.model_accepted_tokens, right.accepted_tokens);
    assert!(right.steps < 60, "{right:?}");
    let wrong = run(other(256), Speculation::ModelAlways);
    assert!(wrong.model_drafted_tokens > 300 && wrong.model_accepted_tokens < 60, "{wrong:?}");
    assert_eq!(wrong.steps, 300 - wrong.accepted_tokens);
    assert_eq!(run(model(), Speculation::Off).drafted_tokens, 0);
}

/// Lookups and guesses in one answer: each where it is likelier.
#[test]
fn both_kinds_of_drafts_serve_one_answer() {
    let repeating = || {
        let mut model = model();
        model.repeats_itself = true;
        model
    };
    // It repeats itself in the same way, but does not know the exceptions.
    let mut draft = repeating();
    draft.share_of_history = 0.0;
    let engine = start(repeating(), draft, Speculation::NgramAlways);
    let requests = || (0..6).map(|seed| greedy(&prompt(20, seed), 200));
    let answers = together(&engine, requests());
    let plain = EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() };
    let plain = Engine::start(Box::new(repeating()), plain).unwrap();
    for (request, drafted) in requests().zip(answers) {
        assert_eq!(drafted, answer(plain.submit(request).unwrap()));
    }
    let stats = engine.stats();
    assert!(stats.model_accepted_tokens > 0, "{stats:?}");
    assert!(stats.accepted_tokens > stats.model_accepted_tokens, "{stats:?}");
}

#[test]
fn a_draft_model_that_is_never_right_is_left_alone() {
    let engine = start(model(), other(256), Speculation::Ngram);
    let long = || (0..3).map(|seed| greedy(&prompt(40, seed), 600));
    for (request, answer) in long().zip(together(&engine, long())) {
        assert_eq!(answer, alone(request));
    }
    let stats = engine.stats();
    // Whether it is tried at all depends on the time that steps take.
    assert!(stats.model_drafted_tokens < stats.decode_tokens / 4, "{stats:?}");
}

/// Writes down every step.
#[derive(Default)]
struct Steps(Mutex<Vec<StepReport>>);

impl EngineObserver for Steps {
    fn step(&self, report: &StepReport) {
        self.0.lock().unwrap().push(*report);
    }
}

#[test]
fn guesses_give_way_to_prompts_and_to_many_answers() {
    let steps = Arc::new(Steps::default());
    let gate = Arc::new(Gate::default());
    let mut model = model();
    model.faults.gate = Some(gate.clone());
    let options = EngineOptions { observer: Some(steps.clone()), ..EngineOptions::default() };
    let engine =
        Engine::start_with_draft_model(Box::new(model), Some(Box::new(FakeModel::new(256))), options)
            .unwrap();
    let all: Vec<Generation> = (0..12)
        .map(|number| engine.submit(greedy(&prompt(40, number), 30 + 40 * number as usize)).unwrap())
        .collect();
    gate.open(100_000);
    all.into_iter().for_each(|generation| drop(answer(generation)));
    let stats = engine.stats();
    drop(engine);
    let steps = steps.0.lock().unwrap();
    for step in steps.iter() {
        let is_free = step.prefill_rows == 0 && step.decode_rows < 8;
        assert!(is_free || (step.draft_rows == 0 && step.drafting.is_zero()), "{step:?}");
        assert!(step.draft_rows == 0 || step.decode_rows + step.draft_rows <= 8, "{step:?}");
        assert!(step.model_draft_rows <= step.draft_rows && step.model_accepted_rows <= step.accepted_rows);
    }
    let sum = |rows: fn(&StepReport) -> usize| steps.iter().map(rows).sum::<usize>() as u64;
    assert_eq!(sum(|step| step.model_draft_rows), stats.model_drafted_tokens);
    assert_eq!(sum(|step| step.model_accepted_rows), stats.model_accepted_tokens);
}

#[test]
fn full_memory_ends_the_drafting_and_nothing_else() {
    for pages in [0, 1, 3, 8] {
        let engine = start(model(), FakeModel::new(pages), Speculation::ModelAlways);
        let requests = || (0..5).map(|seed| greedy(&prompt(20 + 15 * seed as usize, seed), 120));
        for (request, answer) in requests().zip(together(&engine, requests())) {
            assert_eq!(answer, alone(request), "{pages} pages");
        }
        let stats = engine.stats();
        assert_eq!(stats.draft_pages_used, 0);
        assert_eq!(stats.model_drafted_tokens > 0, pages > 0, "{pages} pages: {stats:?}");
        // A request that comes later finds the memory free again.
        let before = stats.model_drafted_tokens;
        assert_eq!(answer(engine.submit(greedy(&[1, 2], 20)).unwrap()), alone(greedy(&[1, 2], 20)));
        assert_eq!(engine.stats().model_drafted_tokens > before, pages > 0, "{pages} pages");
    }
}

#[test]
fn a_draft_model_that_fails_ends_the_drafting_of_the_culprit_alone() {
    let mut draft = FakeModel::new(256);
    draft.faults.poison = Some(49);
    draft.faults.nan_after = Some(48);
    let engine = start(model(), draft, Speculation::ModelAlways);
    let without = |prompt: Vec<u32>| -> Vec<u32> { prompt.into_iter().map(|token| token % 48).collect() };
    let mut prompts = [without(prompt(40, 1)), without(prompt(40, 2)), without(prompt(40, 3))];
    prompts[1][7] = 49;
    prompts[2][39] = 48;
    let request = |prompt: &Vec<u32>| {
        let mut request = greedy(prompt, 50);
        // The fake's own poison must not be generated by chance.
        request.sampling.logit_bias = vec![(48, -100.0), (49, -100.0)];
        request
    };
    let answers = together(&engine, prompts.iter().map(request));
    for (prompt, answer) in prompts.iter().zip(answers) {
        assert_eq!(answer, alone(request(prompt)));
    }
    let stats = engine.stats();
    assert_eq!(stats.failed, 0);
    assert!(stats.model_accepted_tokens > 0, "the first one's answer is guessed: {stats:?}");
}

#[test]
fn a_short_context_and_a_small_vocabulary_of_the_draft_model_are_no_limits() {
    let mut draft = FakeModel::new(256);
    draft.context = 70;
    let engine = start(model(), draft, Speculation::ModelAlways);
    let request = || greedy(&prompt(30, 1), 200);
    assert_eq!(answer(engine.submit(request()).unwrap()), alone(request()));
    let stats = engine.stats();
    assert!((20..=40).contains(&stats.model_accepted_tokens), "{stats:?}");
    assert_eq!(stats.model_accepted_tokens, stats.model_drafted_tokens);

    let mut draft = FakeModel::new(256);
    draft.usable_vocabulary = 48;
    let engine = start(model(), draft, Speculation::ModelAlways);
    let requests = || (0..8).map(|seed| greedy(&prompt(30, seed), 60));
    for (request, answer) in requests().zip(together(&engine, requests())) {
        assert_eq!(answer, alone(request));
    }
    assert!(engine.stats().model_accepted_tokens > 0, "{:?}", engine.stats());
}

#[test]
fn an_expected_end_is_not_drafted_beyond() {
    let whole = alone(greedy(&[3, 1, 4], 60));
    for stop in [whole[20], whole[33]] {
        let request = || Request { stop_tokens: vec![stop], ..greedy(&[3, 1, 4], 60) };
        let engine = start(model(), model(), Speculation::ModelAlways);
        assert_eq!(answer(engine.submit(request()).unwrap()), alone(request()));
        let stats = engine.stats();
        assert_eq!(stats.model_accepted_tokens, stats.model_drafted_tokens, "{stats:?}");
    }
}
