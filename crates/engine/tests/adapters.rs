//! Requests with adapters, tenants and replaced weights side by side: each gets the bits that it gets alone, and nobody reuses
//! keys and values that are not its own.

use std::sync::Arc;

use zhenjin_engine::{
    CacheSalt, Engine, EngineOptions, Event, Generation, ReplaceError, Request, Sampling, Speculation,
};
use zhenjin_model::config::RopeConfig;
use zhenjin_model::testing::{RandomWeights, random_adapter, tiny_config};
use zhenjin_model::{Adapter, LoadOptions, Model, ModelConfig, PAGE_TOKENS, Runner, RunnerOptions};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, ThreadTeam};

/// The tiny model with heads that can be kept in int8 as well.
fn config() -> ModelConfig {
    let tiny = tiny_config();
    let rope = RopeConfig { rotary_dim: 32, ..tiny.rope.clone() };
    ModelConfig { heads: 2, kv_heads: 1, head_dim: 32, rope, ..tiny }
}

fn team(threads: usize) -> Arc<ThreadTeam> {
    Arc::new(ThreadTeam::new(threads).unwrap())
}

fn model(config: ModelConfig, dtype: Dtype, seed: u64) -> Arc<Model> {
    model_at(SimdLevel::detect(), config, dtype, seed)
}

fn model_at(simd: SimdLevel, config: ModelConfig, dtype: Dtype, seed: u64) -> Arc<Model> {
    let source = RandomWeights::new(config.clone(), dtype, seed);
    let options = LoadOptions { simd, team: team(1) };
    Arc::new(Model::from_source(config, &source, &options).unwrap())
}

fn adapter(rank: usize, seed: u64) -> Arc<Adapter> {
    adapter_at(SimdLevel::detect(), rank, seed)
}

fn adapter_at(simd: SimdLevel, rank: usize, seed: u64) -> Arc<Adapter> {
    let values = random_adapter(&config(), rank, seed);
    Arc::new(values.pack(simd, &team(1)).unwrap())
}

fn start(model: &Arc<Model>, kv_dtype: KvDtype, threads: usize) -> Engine {
    let options = RunnerOptions {
        pages: 400,
        kv_dtype,
        max_rows: 300,
        max_logits_rows: 64,
        usable_vocabulary: None,
        context_length: None,
        simd: model.simd,
        team: team(threads),
    };
    // Guesses of a model that knows no adapters.
    let draft = model_like(model, 99);
    let draft = Runner::new(draft, RunnerOptions { pages: 60, ..options.clone() }).unwrap();
    let runner = Runner::new(Arc::clone(model), options).unwrap();
    let options = EngineOptions {
        max_batch: 16,
        queue_limit: 1000,
        speculation: Speculation::NgramAlways,
        simd: model.simd,
        ..EngineOptions::default()
    };
    Engine::start_with_draft_model(Box::new(runner), Some(Box::new(draft)), options).unwrap()
}

/// The same shape with other weights.
fn model_like(model: &Model, seed: u64) -> Arc<Model> {
    self::model(model.config.clone(), Dtype::Q8_0, seed)
}

fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|index| (index * index * 31 + index * 7 + seed * 13) % 96).collect()
}

fn request(prompt: &[u32], adapter: Option<&Arc<Adapter>>) -> Request {
    Request {
        adapter: adapter.cloned(),
        logprobs: Some(0),
        ..Request::new(prompt.to_vec(), 6, Sampling::greedy())
    }
}

/// The tokens of an answer with the bits of their log-probabilities, and how many prompt tokens came from the cache.
fn answer(mut generation: Generation) -> (Vec<(u32, u32)>, usize) {
    let (mut tokens, mut cached) = (Vec::new(), 0);
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Prompt { cached_tokens, .. } => cached = cached_tokens,
            Event::Token { report, .. } => tokens.push((report.id, report.logprob.unwrap().to_bits())),
            Event::Finished { .. } => {}
        }
    }
    assert_eq!(tokens.len(), 6);
    (tokens, cached)
}

fn alone(model: &Arc<Model>, kv_dtype: KvDtype, request: Request) -> Vec<(u32, u32)> {
    let (tokens, cached) = answer(start(model, kv_dtype, 1).submit(request).unwrap());
    assert_eq!(cached, 0);
    tokens
}

/// Alternating over 200 rounds, with pages of the others in the cache.
#[test]
fn adapters_alternate_on_one_prompt_for_two_hundred_rounds() {
    let model = model(config(), Dtype::Q4_0, 1);
    let adapters = [None, Some(adapter(4, 10)), Some(adapter(20, 11))];
    let prompt = prompt(3 * PAGE_TOKENS + 5, 0);
    let of = |engine: &Engine, adapter: &Option<Arc<Adapter>>| {
        engine.submit(request(&prompt, adapter.as_ref())).unwrap()
    };
    let expected: Vec<_> = adapters
        .iter()
        .map(|adapter| alone(&model, KvDtype::Int8, request(&prompt, adapter.as_ref())))
        .collect();
    assert!(expected[0] != expected[1] && expected[1] != expected[2] && expected[0] != expected[2]);
    let engine = start(&model, KvDtype::Int8, 2);
    for round in 0..200 {
        let index = round % 3;
        let (tokens, cached) = answer(of(&engine, &adapters[index]));
        assert_eq!(tokens, expected[index], "round {round}");
        assert_eq!(cached, if round < 3 { 0 } else { 3 * PAGE_TOKENS }, "round {round}");
    }
}

/// Requests of every kind in the same steps, their adapters in any order.
#[test]
fn a_crowd_with_adapters_gets_the_bits_of_each_alone() {
    let types = [(Dtype::F32, KvDtype::F32), (Dtype::Q8_0, KvDtype::Int8)];
    let at_levels = |simd| types.map(|(dtype, kv_dtype)| (simd, dtype, kv_dtype));
    for (simd, dtype, kv_dtype) in SimdLevel::available().into_iter().flat_map(at_levels) {
        let model = model_at(simd, config(), dtype, 2);
        let adapter = |rank, seed| Some(adapter_at(simd, rank, seed));
        let adapters = [None, adapter(1, 20), adapter(16, 21), None, adapter(33, 22)];
        let requests = || {
            (0..32).map(|number: usize| {
                let prompt = prompt(1 + number * 37 % 90, number as u32 % 3);
                request(&prompt, adapters[number * 7 % adapters.len()].as_ref())
            })
        };
        let engine = start(&model, kv_dtype, 2);
        let together: Vec<Generation> = requests().map(|request| engine.submit(request).unwrap()).collect();
        for (generation, request) in together.into_iter().zip(requests()) {
            assert_eq!(answer(generation).0, alone(&model, kv_dtype, request), "{dtype}, {simd}");
        }
    }
}

/// An adapter that was saved again with the same content shares pages; one with the same name and other content cannot.
#[test]
fn an_adapters_pages_belong_to_its_content() {
    let model = model(config(), Dtype::Q4_0, 3);
    let engine = start(&model, KvDtype::Int8, 1);
    let prompt = prompt(2 * PAGE_TOKENS + 1, 1);
    let cached = |adapter: Arc<Adapter>| answer(engine.submit(request(&prompt, Some(&adapter))).unwrap()).1;
    assert_eq!(cached(adapter(4, 30)), 0);
    assert_eq!(cached(adapter(4, 30)), 2 * PAGE_TOKENS);
    assert_eq!(cached(adapter(4, 31)), 0);
}

/// Neither the count of cached tokens nor waiting for a page that another one computes tells of another tenant's prompt.
#[test]
fn tenants_never_share_pages() {
    let model = model(config(), Dtype::Q4_0, 4);
    let engine = start(&model, KvDtype::Int8, 1);
    let prompt = prompt(3 * PAGE_TOKENS + 1, 2);
    let of = |tenant: u8| {
        let cache_salt = CacheSalt::new([tenant; 32]);
        engine.submit(Request { cache_salt, ..request(&prompt, None) }).unwrap()
    };
    let expected = alone(&model, KvDtype::Int8, request(&prompt, None));
    // Both at once, then one after the other.
    let together = [of(1), of(2)].map(answer);
    for (tokens, cached) in together {
        assert_eq!((tokens, cached), (expected.clone(), 0));
    }
    for tenant in [1, 2, 1] {
        assert_eq!(answer(of(tenant)), (expected.clone(), 3 * PAGE_TOKENS));
    }
    assert_eq!(answer(of(3)), (expected, 0));
}

#[test]
fn running_requests_finish_on_the_weights_that_they_began_with() {
    let (old, new) = (model(config(), Dtype::F32, 5), model(config(), Dtype::F32, 6));
    let prompts: Vec<Vec<u32>> = (0..4).map(|seed| prompt(2 * PAGE_TOKENS + 3, seed)).collect();
    let answers = |model| -> Vec<_> {
        prompts.iter().map(|prompt| alone(model, KvDtype::F32, request(prompt, None))).collect()
    };
    let (with_old, with_new) = (answers(&old), answers(&new));
    assert_ne!(with_old, with_new);
    let engine = start(&old, KvDtype::F32, 2);
    let submit = |prompt: &Vec<u32>| engine.submit(request(prompt, None)).unwrap();
    for round in 0..20 {
        let (current, next) = if round % 2 == 0 { (&old, &new) } else { (&new, &old) };
        let (expected, after) = if round % 2 == 0 { (&with_old, &with_new) } else { (&with_new, &with_old) };
        let before: Vec<Generation> = prompts.iter().map(submit).collect();
        engine.replace_weights(Arc::clone(next)).unwrap();
        let behind: Vec<Generation> = prompts.iter().map(submit).collect();
        assert!(before.iter().all(|generation| generation.weights() == Some(current.fingerprint)));
        assert!(behind.iter().all(|generation| generation.weights() == Some(next.fingerprint)));
        for (index, generation) in before.into_iter().enumerate() {
            assert_eq!(answer(generation).0, expected[index], "round {round}");
        }
        for (index, generation) in behind.into_iter().enumerate() {
            let (tokens, cached) = answer(generation);
            assert_eq!(tokens, after[index], "round {round}");
            // Pages of these weights are in the cache from the second round on, those of the others are not used.
            assert_eq!(cached, if round == 0 { 0 } else { 2 * PAGE_TOKENS });
        }
    }
}

#[test]
fn replaced_weights_leave_memory_and_must_fit() {
    let old = model(config(), Dtype::Q4_0, 7);
    let engine = start(&old, KvDtype::Int8, 1);
    let wider = ModelConfig { intermediate_size: 128, ..config() };
    let refused = engine.replace_weights(model(wider, Dtype::Q4_0, 7)).unwrap_err();
    assert_eq!(refused, ReplaceError::OtherConfiguration);
    let old = {
        let weak = Arc::downgrade(&old);
        drop(old);
        weak
    };
    assert!(old.upgrade().is_some());
    let new = model(config(), Dtype::Q4_0, 8);
    engine.replace_weights(Arc::clone(&new)).unwrap();
    let prompt = prompt(10, 0);
    let (tokens, _) = answer(engine.submit(request(&prompt, None)).unwrap());
    assert_eq!(tokens, alone(&new, KvDtype::Int8, request(&prompt, None)));
    assert!(old.upgrade().is_none(), "nothing uses the old weights any more");
}
