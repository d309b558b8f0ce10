//! What can be asked about a prompt: scores of its tokens from a position on, and its pooled hidden state. That neither
//! depends on how the prompt is computed, and that scores are what answers report.

use std::sync::Arc;

use crate::fake_model::{FakeModel, VOCABULARY};
use zhenjin_engine::{
    EndReason, Engine, EngineOptions, Event, Pooling, PoolingRows, Request, Sampling, TokenReport,
};
use zhenjin_model::testing::{RandomWeights, tiny_config};
use zhenjin_model::{LoadOptions, Model, ModelConfig, Runner, RunnerOptions, WeightName};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, ThreadTeam};

fn text(length: usize) -> Vec<u32> {
    (0..length as u32).map(|index| (index * index + 7) % VOCABULARY as u32).collect()
}

/// What a request got, how many tokens came from the cache, and why it ended.
struct Outcome {
    cached: usize,
    prompt: Vec<TokenReport>,
    pooled: Option<Vec<f32>>,
    answer: Vec<TokenReport>,
    reason: EndReason,
}

fn run(engine: &Engine, request: Request) -> Outcome {
    let mut generation = engine.submit(request).unwrap();
    let (mut all, mut answer) = (None, Vec::new());
    loop {
        match generation.blocking_next().unwrap() {
            Event::Prompt { cached_tokens, tokens, pooled } => all = Some((cached_tokens, tokens, pooled)),
            Event::Token { report, .. } => answer.push(report),
            Event::Finished { reason, .. } => {
                let (cached, prompt, pooled) = all.unwrap_or_default();
                return Outcome { cached, prompt, pooled, answer, reason };
            }
        }
    }
}

fn fake(options: EngineOptions) -> Engine {
    Engine::start(Box::new(FakeModel::new(64)), options).unwrap()
}

#[test]
fn scores_from_a_position_on_reuse_what_comes_before() {
    let engine = fake(EngineOptions { max_batch: 4, prefill_chunk: 96, ..EngineOptions::default() });
    let tokens = text(300);
    let whole = run(&engine, Request::score(tokens.clone(), 0, 2));
    assert_eq!((whole.cached, whole.prompt.len(), &whole.reason), (0, 300, &EndReason::Length));
    assert!(whole.prompt[0].logprob.is_none() && whole.prompt[1..].iter().all(|r| r.top.len() == 2));
    assert!(whole.answer.is_empty());
    for from in [0, 1, 2, 32, 33, 34, 64, 65, 200, 299, 300, 1000] {
        let some = run(&engine, Request::score(tokens.clone(), from, 2));
        assert_eq!(some.prompt, whole.prompt[from.min(300)..], "from {from}");
        // The row before the first scored token is computed; so is the last one.
        let reusable = from.saturating_sub(1).min(299);
        assert_eq!(some.cached, reusable / 32 * 32, "from {from}");
    }
}

#[test]
fn a_prompt_is_scored_in_as_few_steps_as_it_is_computed() {
    let mut model = FakeModel::new(64);
    // Rows of logits are for answers only.
    model.max_logits_rows = 4;
    let engine = Engine::start(
        Box::new(model),
        EngineOptions { max_batch: 4, prefill_chunk: 96, ..EngineOptions::default() },
    );
    let engine = engine.unwrap();
    run(&engine, Request::score(text(480), 0, 0));
    assert_eq!(engine.stats().steps, 5);
}

#[test]
fn pooled_states_do_not_depend_on_chunks_or_the_cache() {
    for (rows, normalise) in [
        (PoolingRows::Last, false),
        (PoolingRows::Last, true),
        (PoolingRows::Mean, false),
        (PoolingRows::Mean, true),
    ] {
        let pooling = Pooling { rows, normalise };
        let mut seen: Option<Vec<f32>> = None;
        for prefill_chunk in [1, 7, 32, 95] {
            let engine = fake(EngineOptions { prefill_chunk, ..EngineOptions::default() });
            for warm in [false, true] {
                let outcome = run(&engine, Request::pool(text(150), pooling));
                let expected = if warm && rows == PoolingRows::Last { 128 } else { 0 };
                assert_eq!((outcome.cached, &outcome.reason), (expected, &EndReason::Length));
                let pooled = outcome.pooled.unwrap();
                assert_eq!(seen.get_or_insert_with(|| pooled.clone()), &pooled, "{pooling:?}");
            }
        }
        let length: f32 = seen.unwrap().iter().map(|value| value * value).sum();
        assert!(!normalise || (length - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_question_about_the_prompt_can_come_with_an_answer() {
    let engine = fake(EngineOptions::default());
    let pooling = Pooling { rows: PoolingRows::Mean, normalise: false };
    let plain = run(&engine, Request::new(text(100), 5, Sampling::greedy()));
    let both = Request { max_tokens: 5, pooling: Some(pooling), ..Request::score(text(100), 90, 1) };
    let both = run(&engine, both);
    assert_eq!((both.answer, both.prompt.len()), (plain.answer, 10));
    assert_eq!(both.pooled, run(&engine, Request::pool(text(100), pooling)).pooled);
}

/// A model whose vocabulary is padded with rows whose logits are above all others.
fn padded(usable: usize) -> Arc<Model> {
    let config = ModelConfig { vocabulary_size: 1_200, ..tiny_config() };
    let mut weights = RandomWeights::new(config.clone(), Dtype::F32, 5);
    weights.multiply_rows(WeightName::Embedding, usable..1_200, 50.0);
    let options = LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) };
    Arc::new(Model::from_source(config, &weights, &options).unwrap())
}

#[test]
fn scores_are_the_bits_that_answers_report_over_the_usable_vocabulary() {
    const USABLE: usize = 1_100;
    let model = padded(USABLE);
    let start = |threads: usize, prefill_chunk: usize| {
        let options = RunnerOptions {
            pages: 40,
            kv_dtype: KvDtype::default(),
            max_rows: 256,
            max_logits_rows: 16,
            context_length: None,
            usable_vocabulary: Some(USABLE),
            simd: model.simd,
            team: Arc::new(ThreadTeam::new(threads).unwrap()),
        };
        let runner = Runner::new(Arc::clone(&model), options).unwrap();
        let options =
            EngineOptions { max_batch: 16, prefill_chunk, simd: model.simd, ..EngineOptions::default() };
        Engine::start(Box::new(runner), options).unwrap()
    };
    let engine = start(1, 200);
    assert_eq!(engine.usable_vocabulary(), USABLE);
    let prompt: Vec<u32> = (0..70u32).map(|index| index * 131 % USABLE as u32).collect();
    for sampling in [Sampling::greedy(), Sampling { seed: Some(3), ..Sampling::default() }] {
        let is_greedy = sampling.temperature == 0.0;
        let request = Request { logprobs: Some(USABLE), ..Request::new(prompt.clone(), 40, sampling) };
        let answer = run(&engine, request).answer;
        assert_eq!(answer.len(), 40);
        for report in &answer {
            let sum: f64 = report.top.iter().map(|top| f64::from(top.logprob).exp()).sum();
            assert!((report.id as usize) < USABLE && (sum - 1.0).abs() < 1e-5, "{sum}");
            assert!(!is_greedy || report.top[0].id == report.id);
        }
        let tokens: Vec<u32> = prompt.iter().copied().chain(answer.iter().map(|report| report.id)).collect();
        for (threads, prefill_chunk) in [(1, 200), (2, 13), (3, 64)] {
            let scored = run(&start(threads, prefill_chunk), Request::score(tokens.clone(), 70, USABLE));
            assert!(scored.prompt == answer, "{threads} threads, chunks of {prefill_chunk}");
        }
    }
    // What cannot be generated can be no prompt either.
    assert!(engine.submit(Request::score(vec![1, USABLE as u32], 0, 0)).is_err());
}

#[test]
fn more_requests_at_once_than_there_are_rows_are_refused() {
    let start = |max_batch: usize| {
        let options = EngineOptions { max_batch, ..EngineOptions::default() };
        Engine::start(Box::new(FakeModel::new(64)), options).map(|engine| engine.max_batch())
    };
    assert_eq!(start(48).expect("as many as there are logits"), 48);
    for too_many in [0, 49, 1000] {
        let message = start(too_many).expect_err("refused").to_string();
        assert!(message.starts_with(&format!("{too_many} requests cannot run at once")), "{message}");
        assert!(message.ends_with("so 1 to 48 can"), "{message}");
    }
}
