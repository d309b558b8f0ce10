//! The same request gets the same answer, bit for bit: alone or in a crowd, with or without a prefix hit,
//! with its prompt in one piece or in many, with enough memory or hardly any, by one thread or two, token by
//! token or by drafts, of its own text or of another model.

use std::sync::Arc;

use crate::support;
use zhenjin_engine::{
    Engine, EngineOptions, EngineStats, Event, Generation, PromptLogprobs, Request, Sampling, Speculation,
    StepModel,
};
use zhenjin_model::testing::{RandomWeights, tiny_config};
use zhenjin_model::{LoadOptions, Model, ModelConfig, Runner, RunnerOptions};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, ThreadTeam};

/// How requests are run.
#[derive(Clone, Copy, Debug)]
struct Setting {
    threads: usize,
    prefill_chunk: usize,
    pages: usize,
    kv_dtype: KvDtype,
    speculation: Speculation,
    draft: Draft,
}

/// Which model drafts, and how many pages it has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draft {
    None,
    /// The model itself.
    Same(usize),
    /// Another random one with the same vocabulary.
    Other(usize),
}

const PLAIN: Setting = Setting {
    threads: 1,
    prefill_chunk: 512,
    pages: 256,
    kv_dtype: KvDtype::F32,
    speculation: Speculation::Off,
    draft: Draft::None,
};

fn team(threads: usize) -> Arc<ThreadTeam> {
    Arc::new(ThreadTeam::new(threads).unwrap())
}

fn start(model: &Arc<Model>, setting: Setting) -> Engine {
    let options = RunnerOptions {
        pages: setting.pages,
        kv_dtype: setting.kv_dtype,
        max_rows: 560,
        max_logits_rows: 300,
        context_length: Some(512),
        usable_vocabulary: None,
        simd: model.simd,
        team: team(setting.threads),
    };
    let draft_runner = |model: Arc<Model>, pages| {
        let options = RunnerOptions { pages, max_rows: 100, max_logits_rows: 8, ..options.clone() };
        Box::new(Runner::new(model, options).unwrap()) as Box<dyn StepModel>
    };
    let draft = match setting.draft {
        Draft::None => None,
        Draft::Same(pages) => Some(draft_runner(Arc::clone(model), pages)),
        Draft::Other(pages) => Some(draft_runner(other_model(model), pages)),
    };
    let runner = Runner::new(Arc::clone(model), options).unwrap();
    let options = EngineOptions {
        max_batch: 16,
        prefill_chunk: setting.prefill_chunk,
        speculation: setting.speculation,
        simd: model.simd,
        ..EngineOptions::default()
    };
    Engine::start_with_draft_model(Box::new(runner), draft, options).unwrap()
}

/// A smaller one with the same vocabulary.
fn other_model(model: &Model) -> Arc<Model> {
    let config = ModelConfig {
        vocabulary_size: model.config.vocabulary_size,
        layers: 1,
        head_dim: 32,
        ..tiny_config()
    };
    let weights = RandomWeights::new(config.clone(), Dtype::Q8_0, 8);
    Arc::new(Model::from_source(config, &weights, &load_options(model.simd)).unwrap())
}

fn load_options(simd: SimdLevel) -> LoadOptions {
    LoadOptions { simd, team: team(1) }
}

/// Sixteen requests, half of them with a common beginning, of all kinds of sampling.
fn requests(vocabulary: u32, new_tokens: usize) -> Vec<Request> {
    let token = |seed: u32, index: usize| (seed.wrapping_mul(7919) + index as u32 * 104_729) % vocabulary;
    (0..16u32)
        .map(|number| {
            let length = 5 + (number as usize * 37) % 130;
            let shared = if number % 2 == 0 { 70 } else { 0 };
            // Some repeat themselves, so that drafts find something.
            let period = if number % 3 == 1 { 9 } else { length };
            let own = (0..length).map(|i| token(number + 2, i % period));
            let prompt = (0..shared).map(|i| token(1, i)).chain(own).collect();
            let sampling = match number % 4 {
                0 => Sampling::greedy(),
                1 => Sampling { seed: Some(number.into()), top_p: 0.9, ..Sampling::default() },
                2 => Sampling { seed: Some(7), top_k: 20, repetition_penalty: 1.2, ..Sampling::default() },
                _ => Sampling { seed: Some(8), min_p: 0.02, frequency_penalty: 0.3, ..Sampling::default() },
            };
            Request {
                logprobs: Some(3),
                prompt_logprobs: (number % 5 == 0).then_some(PromptLogprobs { from: 0, top: 1 }),
                ..Request::new(prompt, new_tokens, sampling)
            }
        })
        .collect()
}

/// A token's id, the bits of its log-probability, and the same of the most likely tokens at its place.
type TokenBits = (u32, Option<u32>, Vec<(u32, u32)>);

/// Every token of the prompt and the answer.
fn bits(mut generation: Generation) -> Vec<TokenBits> {
    let mut all = Vec::new();
    while let Some(event) = generation.blocking_next() {
        let reports = match event {
            Event::Prompt { tokens, .. } => tokens,
            Event::Token { report, .. } => vec![report],
            Event::Finished { usage, reason, .. } => {
                assert!(usage.completion_tokens > 0, "{reason:?}");
                Vec::new()
            }
        };
        all.extend(reports.into_iter().map(|report| {
            let top = report.top.iter().map(|top| (top.id, top.logprob.to_bits())).collect();
            (report.id, report.logprob.map(f32::to_bits), top)
        }));
    }
    all
}

/// Checks the settings with keys and values in each type.
fn check(model: &Arc<Model>, new_tokens: usize, settings: &[Setting]) {
    for kv_dtype in KvDtype::ALL {
        check_with(kv_dtype, model, new_tokens, settings);
    }
}

fn check_with(kv_dtype: KvDtype, model: &Arc<Model>, new_tokens: usize, settings: &[Setting]) {
    let vocabulary = model.config.vocabulary_size as u32;
    let alone: Vec<_> = requests(vocabulary, new_tokens)
        .into_iter()
        .map(|request| bits(start(model, Setting { kv_dtype, ..PLAIN }).submit(request).unwrap()))
        .collect();
    for &setting in settings {
        let setting = Setting { kv_dtype, ..setting };
        let engine = start(model, setting);
        // The second round finds its beginnings in the cache.
        for round in 0..2 {
            let submitted: Vec<_> = requests(vocabulary, new_tokens)
                .into_iter()
                .map(|request| engine.submit(request).unwrap())
                .collect();
            for (number, generation) in submitted.into_iter().enumerate() {
                assert_eq!(bits(generation), alone[number], "request {number}, round {round}, {setting:?}");
            }
        }
        assert!(engine.stats().prefix_hit_tokens > 0, "{setting:?}");
        assert_eq!(engine.stats().pages_used, 0);
        if setting.speculation == Speculation::NgramAlways {
            let stats = engine.stats();
            assert!(stats.accepted_tokens > 0 && stats.accepted_tokens < stats.drafted_tokens, "{stats:?}");
        }
        check_draft_model(engine.stats(), setting);
    }
}

fn check_draft_model(stats: EngineStats, setting: Setting) {
    assert_eq!(stats.draft_pages_used, 0);
    match setting.draft {
        Draft::None => assert_eq!(stats.model_drafted_tokens, 0),
        Draft::Same(_) | Draft::Other(_) => assert!(stats.model_drafted_tokens > 0, "{stats:?} {setting:?}"),
    }
}

/// A model's own guesses of greedy answers are right whatever else runs, because a row has the same bits in every batch.
#[test]
fn a_model_that_drafts_for_itself_is_never_wrong() {
    let config = ModelConfig { head_dim: 32, ..tiny_config() };
    let weights = RandomWeights::new(config.clone(), Dtype::Q8_0, 3);
    let model = Arc::new(Model::from_source(config, &weights, &load_options(SimdLevel::detect())).unwrap());
    let greedy = |number: u32| {
        let prompt = (0..5 + 11 * number).map(|index| (index * index * 31 + number) % 96).collect();
        Request { logprobs: Some(3), ..Request::new(prompt, 60, Sampling::greedy()) }
    };
    for kv_dtype in KvDtype::ALL {
        let plain = Setting { kv_dtype, ..PLAIN };
        let drafted =
            Setting { threads: 2, speculation: Speculation::ModelAlways, draft: Draft::Same(256), ..plain };
        for batch in [1, 12] {
            let engine = start(&model, drafted);
            let together: Vec<Generation> =
                (0..batch).map(|number| engine.submit(greedy(number)).unwrap()).collect();
            for (number, generation) in (0..batch).zip(together) {
                assert_eq!(bits(generation), bits(start(&model, plain).submit(greedy(number)).unwrap()));
            }
            let stats = engine.stats();
            assert_eq!(stats.model_accepted_tokens, stats.model_drafted_tokens, "{kv_dtype:?} {stats:?}");
            assert!(stats.model_accepted_tokens > u64::from(batch) * 40, "{kv_dtype:?} {stats:?}");
        }
    }
}

#[test]
fn tiny_models_of_every_kind_of_weights() {
    let settings = [
        PLAIN,
        Setting { threads: 2, ..PLAIN },
        Setting { prefill_chunk: 33, ..PLAIN },
        Setting { threads: 2, prefill_chunk: 64, pages: 24, speculation: Speculation::Ngram, ..PLAIN },
        Setting { speculation: Speculation::NgramAlways, ..PLAIN },
        Setting { threads: 2, prefill_chunk: 64, pages: 24, speculation: Speculation::NgramAlways, ..PLAIN },
        Setting { speculation: Speculation::ModelAlways, draft: Draft::Same(256), ..PLAIN },
        Setting { threads: 2, speculation: Speculation::NgramAlways, draft: Draft::Other(256), ..PLAIN },
        Setting {
            prefill_chunk: 33,
            pages: 24,
            speculation: Speculation::ModelAlways,
            draft: Draft::Other(12),
            ..PLAIN
        },
        Setting {
            threads: 2,
            pages: 24,
            speculation: Speculation::NgramAlways,
            draft: Draft::Same(12),
            ..PLAIN
        },
    ];
    // Heads as int8 takes them.
    let config = ModelConfig { head_dim: 32, ..tiny_config() };
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Q4_1, Dtype::Q8_0] {
        let weights = RandomWeights::new(config.clone(), dtype, 3);
        for simd in SimdLevel::available() {
            let model = Model::from_source(config.clone(), &weights, &load_options(simd)).unwrap();
            // What a level could change is in the kernels, so the others have the setting that changes most.
            let settings = if simd == SimdLevel::detect() { &settings[..] } else { &settings[5..] };
            check(&Arc::new(model), 24, settings);
        }
    }
}

#[test]
fn the_real_model() {
    let model = Arc::new(Model::load(&support::real_model(), &load_options(SimdLevel::detect())).unwrap());
    let speculation = Speculation::NgramAlways;
    let setting = Setting { threads: 2, prefill_chunk: 96, pages: 40, speculation, ..PLAIN };
    check(&model, 8, &[setting, Setting { draft: Draft::Other(40), ..setting }]);
}
