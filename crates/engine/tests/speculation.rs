//! Drafts: they save steps, stay within their limits, and leave nothing behind that a single step would not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::fake_model::{FakeModel, Gate};
use zhenjin_engine::{
    EndReason, Engine, EngineObserver, EngineOptions, EngineStats, Event, Generation, Request, Sampling,
    Speculation, StepReport, Usage,
};

fn repeating() -> FakeModel {
    let mut model = FakeModel::new(128);
    model.repeats_itself = true;
    model
}

fn start(model: FakeModel, speculation: Speculation) -> Engine {
    Engine::start(Box::new(model), EngineOptions { speculation, ..EngineOptions::default() }).unwrap()
}

fn greedy(prompt: &[u32], max_tokens: usize) -> Request {
    Request::new(prompt.to_vec(), max_tokens, Sampling::greedy())
}

struct Answer {
    tokens: Vec<u32>,
    cached: usize,
    reason: EndReason,
    usage: Usage,
}

fn answer(mut generation: Generation) -> Answer {
    let (mut tokens, mut cached) = (Vec::new(), 0);
    loop {
        match generation.blocking_next().expect("a last event") {
            Event::Prompt { cached_tokens, .. } => cached = cached_tokens,
            Event::Token { report, .. } => tokens.push(report.id),
            Event::Finished { reason, usage, .. } => return Answer { tokens, cached, reason, usage },
        }
    }
}

fn run(speculation: Speculation, request: Request) -> (Answer, EngineStats) {
    let engine = start(repeating(), speculation);
    let answer = answer(engine.submit(request).unwrap());
    (answer, engine.stats())
}

#[test]
fn every_accepted_token_saves_a_step() {
    let (plain, without) = run(Speculation::Off, greedy(&[3, 1, 4], 300));
    assert_eq!((without.steps, without.drafted_tokens, without.accepted_tokens), (300, 0, 0));
    let (drafted, with) = run(Speculation::NgramAlways, greedy(&[3, 1, 4], 300));
    assert_eq!(drafted.tokens, plain.tokens);
    assert_eq!(with.decode_tokens, 300);
    assert_eq!(with.steps, 300 - with.accepted_tokens);
    assert!(with.accepted_tokens > 100, "{with:?}");
    assert!(with.drafted_tokens > with.accepted_tokens, "some drafts must have been wrong: {with:?}");
}

#[test]
fn an_answer_ends_within_a_draft_as_it_does_without() {
    let whole = run(Speculation::Off, greedy(&[3, 1, 4], 120)).0.tokens;
    for length in 1..=120 {
        let (cut, _) = run(Speculation::NgramAlways, greedy(&[3, 1, 4], length));
        assert_eq!((&cut.tokens[..], cut.reason), (&whole[..length], EndReason::Length));
        assert_eq!(cut.usage.completion_tokens, length);
    }
    for stop in BTreeSet::from_iter(whole.iter().copied()) {
        let stopping =
            |speculation| run(speculation, Request { stop_tokens: vec![stop], ..greedy(&[3, 1, 4], 120) }).0;
        let (with, without) = (stopping(Speculation::NgramAlways), stopping(Speculation::Off));
        assert_eq!((with.tokens, with.reason), (without.tokens, EndReason::StopToken(stop)));
    }
}

#[test]
fn what_later_requests_find_in_the_cache_holds_no_wrong_guess() {
    let engine = start(repeating(), Speculation::NgramAlways);
    let mut prompt = vec![3, 1, 4];
    for turn in 0..6 {
        let reply = answer(engine.submit(greedy(&prompt, 70)).unwrap());
        let (alone, _) = run(Speculation::Off, greedy(&prompt, 70));
        assert_eq!(reply.tokens, alone.tokens, "turn {turn}");
        // All but the last token of the answer before and the new one: they were not computed.
        assert_eq!(reply.cached, if turn == 0 { 0 } else { (prompt.len() - 2) / 32 * 32 });
        prompt.extend(reply.tokens);
        prompt.push(turn);
    }
    assert!(engine.stats().accepted_tokens > 0);
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
fn drafts_give_way_to_prompts_and_to_many_answers() {
    let steps = Arc::new(Steps::default());
    let gate = Arc::new(Gate::default());
    let mut model = repeating();
    model.faults.gate = Some(gate.clone());
    let options = EngineOptions { observer: Some(steps.clone()), ..EngineOptions::default() };
    let engine = Engine::start(Box::new(model), options).unwrap();
    let all: Vec<Generation> = (0..12)
        .map(|number| engine.submit(greedy(&[number; 40], 30 + 20 * number as usize)).unwrap())
        .collect();
    gate.open(100_000);
    all.into_iter().for_each(|generation| drop(answer(generation)));
    let stats = engine.stats();
    drop(engine);
    let steps = steps.0.lock().unwrap();
    for step in steps.iter().filter(|step| step.draft_rows > 0) {
        assert!(step.prefill_rows == 0 && step.decode_rows + step.draft_rows <= 8, "{step:?}");
        assert!(step.accepted_rows <= step.draft_rows);
    }
    let sum = |rows: fn(&StepReport) -> usize| steps.iter().map(rows).sum::<usize>() as u64;
    assert_eq!(sum(|step| step.draft_rows), stats.drafted_tokens);
    assert_eq!(sum(|step| step.accepted_rows), stats.accepted_tokens);
    assert!(stats.drafted_tokens > 0);
}

#[test]
fn a_step_that_fails_with_a_draft_is_computed_without_it() {
    let mut model = repeating();
    model.faults.refuses_drafts = true;
    let engine = start(model, Speculation::NgramAlways);
    let reply = answer(engine.submit(greedy(&[3, 1, 4], 100)).unwrap());
    assert_eq!(reply.tokens, run(Speculation::Off, greedy(&[3, 1, 4], 100)).0.tokens);
    assert_eq!(engine.stats().drafted_tokens, 0);
}
