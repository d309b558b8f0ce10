//! The scheduler under random load: arrivals, cancellations, tiny memory, common beginnings, failing steps.
//!
//! Every answer must equal the answer of the same request alone, every page must come back, and everybody
//! must get a turn.

use std::time::{Duration, Instant};

use crate::fake_model::{self, FakeModel, Faults, VOCABULARY};
use proptest::prelude::*;
use zhenjin_engine::{
    ConstraintError, EndReason, Engine, EngineOptions, Event, Generation, Pooling, PoolingRows,
    PromptLogprobs, Request, Sampling, Speculation, StepModel, StopCondition, TokenConstraint, TokenMask,
};

/// Allows tokens of one parity, ends after a number of tokens.
struct Parity {
    parity: u32,
    left: usize,
}

impl TokenConstraint for Parity {
    fn mask(&mut self, mask: &mut TokenMask) -> Result<(), ConstraintError> {
        (0..VOCABULARY as u32).filter(|token| token % 2 == self.parity).for_each(|token| mask.allow(token));
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.left -= 1;
        if token % 2 == self.parity { Ok(()) } else { Err("wrong parity".into()) }
    }

    fn is_finished(&self) -> bool {
        self.left == 0
    }
}

/// Ends an answer with its so many-th token.
struct After(usize);

impl StopCondition for After {
    fn ends_with(&mut self, _token: u32) -> bool {
        self.0 -= 1;
        self.0 == 0
    }
}

/// A request that can be made again and again.
#[derive(Clone, Debug)]
struct Order {
    base: u32,
    shared: usize,
    own: Vec<u32>,
    max_tokens: usize,
    style: u32,
    /// The first position that is scored, where any is.
    score_from: usize,
    stop_tokens: Vec<u32>,
    /// Cancel after this many events.
    patience: Option<usize>,
    pause_micros: u64,
}

impl Order {
    fn request(&self) -> Request {
        let shared = (0..self.shared as u32).map(|i| (i * i + self.base) % VOCABULARY as u32);
        let sampling = match self.style % 4 {
            0 => Sampling::greedy(),
            1 => Sampling { seed: Some(self.style.into()), top_p: 0.8, ..Sampling::default() },
            2 => Sampling {
                seed: Some(3),
                top_k: 7,
                repetition_penalty: 1.3,
                frequency_penalty: 0.2,
                ..Sampling::default()
            },
            _ => Sampling {
                seed: Some(4),
                min_p: 0.05,
                logit_bias: vec![(2, 1.5)],
                presence_penalty: -0.5,
                ..Sampling::default()
            },
        };
        let constrained = self.style.is_multiple_of(5);
        Request {
            logprobs: self.style.is_multiple_of(3).then_some(2),
            prompt_logprobs: (self.style.is_multiple_of(7))
                .then_some(PromptLogprobs { from: self.score_from, top: self.style as usize % 4 }),
            pooling: self.style.is_multiple_of(9).then_some(Pooling {
                rows: if self.style.is_multiple_of(2) { PoolingRows::Mean } else { PoolingRows::Last },
                normalise: self.style.is_multiple_of(4),
            }),
            constraint: constrained.then(|| {
                Box::new(Parity { parity: self.style / 5 % 2, left: 9 }) as Box<dyn TokenConstraint>
            }),
            stop_tokens: self.stop_tokens.clone(),
            stop_condition: self
                .style
                .is_multiple_of(11)
                .then(|| Box::new(After(1 + self.style as usize % 17)) as Box<dyn StopCondition>),
            ..Request::new(shared.chain(self.own.iter().copied()).collect(), self.max_tokens, sampling)
        }
    }
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let order = (
        (
            0u32..3,
            0usize..150,
            prop::collection::vec(0u32..VOCABULARY as u32, 1..40),
            prop_oneof![1usize..60, 90usize..200],
        ),
        (
            0u32..1260,
            prop_oneof![Just(0usize), 0usize..200],
            prop::collection::vec(0u32..VOCABULARY as u32, 0..2),
        ),
        (
            prop_oneof![3 => Just(None), 1 => (0usize..20).prop_map(Some)],
            prop_oneof![2 => Just(0u64), 1 => 0u64..400],
        ),
    );
    let order = order.prop_map(
        |((base, shared, own, max_tokens), (style, score_from, stop_tokens), (patience, pause_micros))| {
            Order { base, shared, own, max_tokens, style, score_from, stop_tokens, patience, pause_micros }
        },
    );
    prop::collection::vec(order, 1..24)
}

/// All events in a form that two runs can be compared by, log-probabilities by their bits.
fn read(generation: &mut Generation, patience: Option<usize>) -> Vec<String> {
    let mut events = Vec::new();
    while patience.is_none_or(|patience| events.len() < patience) {
        let Some(event) = generation.blocking_next() else { break };
        let bits = |report: &zhenjin_engine::TokenReport| {
            let top: Vec<_> = report.top.iter().map(|t| (t.id, t.logprob.to_bits())).collect();
            format!("{} {:?} {top:?}", report.id, report.logprob.map(f32::to_bits))
        };
        events.push(match event {
            Event::Prompt { tokens, pooled, .. } => {
                let pooled = pooled.map(|vector| vector.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                format!("prompt {:?} {pooled:?}", tokens.iter().map(bits).collect::<Vec<_>>())
            }
            Event::Token { report, is_stop } => format!("token {} {is_stop}", bits(&report)),
            Event::Finished { reason, usage, .. } => {
                format!("finished {reason:?} {} {}", usage.prompt_tokens, usage.completion_tokens)
            }
        });
    }
    events
}

/// A draft model for the same load.
#[derive(Clone, Debug)]
struct DraftOrder {
    /// The model's own weights, or others.
    is_same: bool,
    pages: usize,
    context: usize,
    max_rows: usize,
    fail_every: Option<usize>,
    /// It fails at this token, and writes NaN behind the next one.
    poison: Option<u32>,
}

impl DraftOrder {
    fn model(&self, repeats_itself: bool) -> FakeModel {
        let mut model = FakeModel::new(self.pages);
        model.repeats_itself = repeats_itself;
        model.weights += u64::from(!self.is_same);
        model.context = self.context;
        model.max_rows = self.max_rows;
        model.max_logits_rows = 5;
        model.faults = Faults {
            fail_every: self.fail_every,
            poison: self.poison,
            nan_after: self.poison.map(|token| token + 1),
            ..Faults::default()
        };
        model
    }
}

fn draft_orders() -> impl Strategy<Value = Option<DraftOrder>> {
    let order = (
        any::<bool>(),
        prop_oneof![Just(0usize), 1usize..20, Just(64usize)],
        prop_oneof![Just(1000usize), 1usize..250],
        prop_oneof![Just(96usize), 5usize..40],
        prop_oneof![2 => Just(None), 1 => (2usize..9).prop_map(Some)],
        prop_oneof![2 => Just(None), 1 => (0u32..49).prop_map(Some)],
    );
    let order = order.prop_map(|(is_same, pages, context, max_rows, fail_every, poison)| DraftOrder {
        is_same,
        pages,
        context,
        max_rows,
        fail_every,
        poison,
    });
    prop_oneof![1 => Just(None), 2 => order.prop_map(Some)]
}

fn start(model: FakeModel, options: EngineOptions) -> Engine {
    Engine::start(Box::new(model), options).unwrap()
}

fn alone(order: &Order, repeats_itself: bool) -> Vec<String> {
    let mut model = FakeModel::new(64);
    model.repeats_itself = repeats_itself;
    let engine = start(model, EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() });
    read(&mut engine.submit(order.request()).unwrap(), None)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within 20 s");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The panics that the fake throws on purpose would fill the output.
fn silence_injected_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|message| message.contains("an injected panic")) {
            default(panic);
        }
    }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_equals_the_answer_alone(
        orders in orders(),
        pages in prop_oneof![3 => 13usize..17, 1 => 17usize..50],
        max_batch in 1usize..9,
        prefill_chunk in 1usize..100,
        fail_every in prop_oneof![2 => Just(None), 1 => (2usize..9).prop_map(Some)],
        repeats_itself in any::<bool>(),
        speculation in prop_oneof![
            1 => Just(Speculation::Off), 1 => Just(Speculation::Ngram), 2 => Just(Speculation::NgramAlways),
            2 => Just(Speculation::ModelAlways)
        ],
        draft in draft_orders(),
    ) {
        silence_injected_panics();
        let mut model = FakeModel::new(pages);
        model.repeats_itself = repeats_itself;
        model.faults.fail_every = fail_every;
        let options =
            EngineOptions { max_batch, prefill_chunk, queue_limit: 100, speculation, ..EngineOptions::default() };
        let draft_model = draft.as_ref().map(|draft| Box::new(draft.model(repeats_itself)) as Box<dyn StepModel>);
        let engine = Engine::start_with_draft_model(Box::new(model), draft_model, options).unwrap();
        std::thread::scope(|scope| {
            let mut readers = Vec::new();
            for order in &orders {
                std::thread::sleep(Duration::from_micros(order.pause_micros));
                let mut generation = engine.submit(order.request()).unwrap();
                readers.push((order, scope.spawn(move || read(&mut generation, order.patience))));
            }
            for (order, reader) in readers {
                let events = reader.join().unwrap();
                let expected = alone(order, repeats_itself);
                let read = order.patience.unwrap_or(usize::MAX).min(expected.len());
                assert_eq!(events, expected[..read], "{order:?}");
            }
        });
        wait_until("the end of all requests", || engine.stats().finished == orders.len() as u64);
        let stats = engine.stats();
        prop_assert_eq!((stats.waiting, stats.running, stats.pages_used), (0, 0, 0));
        prop_assert!(stats.pages_cached <= pages);
        prop_assert_eq!(stats.failed, 0);
        prop_assert!(stats.accepted_tokens <= stats.drafted_tokens);
        prop_assert!(speculation != Speculation::Off || stats.drafted_tokens == 0);
        prop_assert!(stats.model_accepted_tokens <= stats.model_drafted_tokens);
        prop_assert!(stats.model_drafted_tokens <= stats.drafted_tokens);
        prop_assert!(draft.is_some() || stats.model_drafted_tokens == 0);
        prop_assert_eq!(stats.draft_pages_used, 0);
    }
}

fn gated(pages: usize) -> (FakeModel, std::sync::Arc<fake_model::Gate>) {
    let gate = std::sync::Arc::new(fake_model::Gate::default());
    let mut model = FakeModel::new(pages);
    model.faults = Faults { gate: Some(gate.clone()), ..Faults::default() };
    (model, gate)
}

fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request::new(prompt, max_tokens, Sampling::greedy())
}

#[test]
fn the_queue_has_a_limit_and_says_when_to_come_back() {
    let (model, gate) = gated(32);
    let engine = start(model, EngineOptions { max_batch: 2, queue_limit: 3, ..EngineOptions::default() });
    let mut accepted: Vec<Generation> =
        (0..5).map(|i| engine.submit(greedy(vec![i; 10], 4)).unwrap()).collect();
    match engine.submit(greedy(vec![9; 10], 4)) {
        Err(zhenjin_engine::SubmitError::QueueFull { waiting: 5, limit: 5, retry_after }) => {
            assert!(retry_after >= Duration::from_secs(1));
        }
        other => panic!("expected QueueFull, got {other:?}"),
    }
    gate.open(1000);
    for generation in &mut accepted {
        assert!(read(generation, None).last().unwrap().contains("Length"));
    }
    assert!(engine.submit(greedy(vec![9; 10], 4)).is_ok());
}

#[test]
fn a_dropped_request_frees_its_pages_within_one_step() {
    let (model, gate) = gated(32);
    let engine = start(model, EngineOptions::default());
    let mut kept = engine.submit(greedy(vec![1; 40], 30)).unwrap();
    let mut dropped = engine.submit(greedy(vec![2; 200], 30)).unwrap();
    gate.open(6);
    read(&mut kept, Some(2));
    read(&mut dropped, Some(2));
    wait_until("the sixth step", || engine.stats().steps >= 6);
    assert!(engine.stats().pages_used >= 9);
    drop(dropped);
    // The step under way may have begun before the drop; the one after it must not hold the pages.
    gate.open(2);
    wait_until("the eighth step", || engine.stats().steps >= 8);
    let stats = engine.stats();
    assert_eq!((stats.pages_used, stats.running, stats.cancelled), (2, 1, 1));
    gate.open(1000);
    assert!(read(&mut kept, None).last().unwrap().contains("Length"));
}

#[test]
fn a_common_beginning_is_computed_once_even_when_all_arrive_together() {
    let (model, gate) = gated(64);
    let engine = start(model, EngineOptions { prefill_chunk: 96, ..EngineOptions::default() });
    let prompt = |own: u32| -> Vec<u32> { (0..128).map(|i| i % 50).chain([own; 5]).collect() };
    let mut all: Vec<Generation> = (0..8).map(|own| engine.submit(greedy(prompt(own), 3)).unwrap()).collect();
    gate.open(10_000);
    for generation in &mut all {
        assert!(read(generation, None).last().unwrap().contains("Length"));
    }
    let stats = engine.stats();
    assert_eq!(stats.prefix_hit_tokens, 7 * 128);
    assert_eq!(stats.prefill_tokens, 128 + 8 * 5);
    // A later request, even for the same tokens, computes its last token at least.
    let mut again = engine.submit(greedy(prompt(0)[..128].to_vec(), 1)).unwrap();
    match again.blocking_next() {
        Some(Event::Prompt { cached_tokens: 96, .. }) => {}
        other => panic!("expected 96 cached tokens, got {other:?}"),
    }
}

/// Answers of adapters that learn: what an earlier one computed stayed, and each step took memory that no page had taken before.
#[test]
fn forgotten_prefixes_are_computed_again() {
    let (model, gate) = gated(64);
    let engine = start(model, EngineOptions::default());
    let prompt: Vec<u32> = (0..128).map(|i| i % 50).collect();
    let cached = |generation: &mut Generation| match generation.blocking_next() {
        Some(Event::Prompt { cached_tokens, .. }) => cached_tokens,
        other => panic!("expected the prompt, got {other:?}"),
    };
    gate.open(10_000);
    let answer = |tokens: usize| engine.submit(greedy(prompt.clone(), tokens)).unwrap();
    assert_eq!(cached(&mut answer(1)), 0);
    assert_eq!(cached(&mut answer(1)), 96);
    wait_until("nothing runs", || engine.stats().running == 0);
    engine.forget_prefixes();
    assert_eq!(cached(&mut answer(1)), 0);
    wait_until("nothing runs", || engine.stats().running == 0);
    assert_eq!(cached(&mut answer(1)), 96);
}

#[test]
fn a_long_prompt_does_not_stall_an_answer() {
    let (model, gate) = gated(64);
    let engine = start(model, EngineOptions { prefill_chunk: 64, ..EngineOptions::default() });
    let mut chat = engine.submit(greedy(vec![1; 3], 50)).unwrap();
    gate.open(1);
    read(&mut chat, Some(2));
    let mut long = engine.submit(greedy((0..640).map(|i| i % 50).collect(), 1)).unwrap();
    gate.open(10_000);
    assert!(read(&mut chat, None).len() == 50);
    read(&mut long, None);
    // 10 chunks of 64 and 50 tokens: a stalled chat would need 60 steps.
    assert!(engine.stats().steps <= 54, "{:?}", engine.stats());
}

#[test]
fn a_poisonous_request_fails_alone() {
    let mut model = FakeModel::new(32);
    model.faults = Faults { poison: Some(49), nan_after: Some(48), ..Faults::default() };
    let engine = start(model, EngineOptions::default());
    let mut requests = vec![
        greedy(vec![7; 20], 5),
        greedy(vec![49; 20], 5),
        greedy(vec![7, 7, 48], 5),
        greedy(vec![8; 20], 5),
    ];
    for request in &mut requests {
        // The fake's own poison must not be generated by chance.
        request.sampling.logit_bias = vec![(48, -100.0), (49, -100.0)];
    }
    let mut generations: Vec<_> =
        requests.into_iter().map(|request| engine.submit(request).unwrap()).collect();
    let ends: Vec<String> = generations.iter_mut().map(|g| read(g, None).pop().unwrap()).collect();
    assert!(ends[0].contains("Length") && ends[3].contains("Length"), "{ends:?}");
    assert!(ends[1].contains("token 49 is poison"), "{ends:?}");
    assert!(ends[2].contains("NaN"), "{ends:?}");
    wait_until("pages to come back", || engine.stats().pages_used == 0);
    assert_eq!(engine.stats().failed, 2);
}

#[test]
fn what_can_never_fit_is_refused_with_its_numbers() {
    use zhenjin_engine::SubmitError::{ContextExceeded, Invalid, MemoryExceeded};
    let engine = start(FakeModel::new(4), EngineOptions::default());
    let refusal = |request: Request| engine.submit(request).unwrap_err();
    assert_eq!(
        refusal(greedy(vec![1; 900], 101)),
        ContextExceeded { prompt: 900, max_tokens: 101, context: 1000 }
    );
    assert_eq!(
        refusal(greedy(vec![1; 100], 29)),
        MemoryExceeded { prompt: 100, max_tokens: 29, capacity: 128 }
    );
    assert!(matches!(refusal(greedy(vec![], 1)), Invalid { field: "prompt", .. }));
    assert!(matches!(refusal(greedy(vec![50], 1)), Invalid { field: "prompt", .. }));
    assert!(matches!(refusal(greedy(vec![1], 0)), Invalid { field: "max_tokens", .. }));
    let stops = Request { stop_tokens: vec![50], ..greedy(vec![1], 1) };
    assert!(matches!(refusal(stops), Invalid { field: "stop_token_ids", .. }));
    assert!(engine.submit(greedy(vec![1; 100], 28)).is_ok());
}

#[test]
fn shutdown_finishes_or_ends_every_request() {
    let (model, gate) = gated(32);
    let engine = start(model, EngineOptions { max_batch: 1, ..EngineOptions::default() });
    let mut short = engine.submit(greedy(vec![1; 3], 2)).unwrap();
    let mut long = engine.submit(greedy(vec![1; 3], 900)).unwrap();
    gate.open(100);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| engine.shutdown(Duration::from_millis(300)));
        assert!(read(&mut short, None).last().unwrap().contains("Length"));
        wait_until("the refusal of new requests", || engine.submit(greedy(vec![1], 1)).is_err());
        std::thread::sleep(Duration::from_millis(400));
        gate.open(1);
        stopping.join().unwrap();
    });
    let end = loop {
        match long.blocking_next() {
            Some(Event::Finished { reason, .. }) => break reason,
            Some(_) => {}
            None => panic!("no last event"),
        }
    };
    assert_eq!(end, EndReason::ShutDown);
}

#[test]
fn who_hears_of_an_answers_end_finds_its_last_step_counted() {
    let engine = start(
        FakeModel::new(16),
        EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() },
    );
    for answers in 1..=2000 {
        read(&mut engine.submit(greedy(vec![1, 2, 3], 2)).unwrap(), None);
        let stats = engine.stats();
        assert_eq!((stats.steps, stats.decode_tokens, stats.finished), (2 * answers, 2 * answers, answers));
    }
}

#[test]
fn a_stop_condition_ends_the_answer_with_its_token() {
    let engine = start(FakeModel::new(32), EngineOptions::default());
    let request = Request { stop_condition: Some(Box::new(After(4))), ..greedy(vec![3; 5], 20) };
    let events = read(&mut engine.submit(request).unwrap(), None);
    assert_eq!(events.len(), 6);
    assert_eq!(events[5], "finished StopCondition 5 4");
}

#[test]
fn seeds_are_told_and_repeat_the_answer() {
    let engine = start(FakeModel::new(32), EngineOptions::default());
    let free = Request::new(vec![3; 5], 20, Sampling::default());
    let mut first = engine.submit(free).unwrap();
    let again = Request::new(vec![3; 5], 20, Sampling { seed: Some(first.seed()), ..Sampling::default() });
    let other =
        Request::new(vec![3; 5], 20, Sampling { seed: Some(first.seed() ^ 1), ..Sampling::default() });
    let answer = read(&mut first, None);
    assert_eq!(answer, read(&mut engine.submit(again).unwrap(), None));
    assert_ne!(answer, read(&mut engine.submit(other).unwrap(), None));
}
