//! What a runner refuses, and that it goes on afterwards; what a real model says.

use std::sync::Arc;

use crate::support;
use zhenjin_model::testing::{RandomWeights, tiny_config, tiny_forms};
use zhenjin_model::{
    BatchError, HiddenFor, LoadOptions, LogitsFor, Model, ModelConfig, ModelError, PageId, Runner,
    RunnerOptions, Scoring, SequenceChunk, StepOutputs,
};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, TensorError, ThreadTeam};

fn load_options() -> LoadOptions {
    LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(2).unwrap()) }
}

fn runner_options(pages: usize) -> RunnerOptions {
    let LoadOptions { simd, team } = load_options();
    RunnerOptions {
        pages,
        kv_dtype: KvDtype::F32,
        max_rows: 64,
        max_logits_rows: 4,
        context_length: None,
        usable_vocabulary: None,
        simd,
        team,
    }
}

fn tiny_model() -> Arc<Model> {
    let weights = RandomWeights::new(tiny_config(), Dtype::F32, 1);
    Arc::new(Model::from_source(tiny_config(), &weights, &load_options()).unwrap())
}

fn chunk<'a>(tokens: &'a [u32], start: usize, pages: &'a [PageId]) -> SequenceChunk<'a> {
    SequenceChunk { tokens, start, pages, logits: LogitsFor::Last, ..SequenceChunk::default() }
}

#[test]
fn wrong_batches_are_refused_and_harm_nobody() {
    let mut runner = Runner::new(tiny_model(), runner_options(20)).unwrap();
    let pages: Vec<PageId> = (0..20).map(PageId).collect();
    let first: Vec<f32> = runner.step(&[chunk(&[1, 2, 3], 0, &pages)]).unwrap().logits.row(0).to_vec();

    let batch_error = |outcome: Result<StepOutputs<'_>, ModelError>| match outcome {
        Err(ModelError::Batch(error)) => error,
        other => panic!("{other:?}"),
    };
    let error = batch_error(runner.step(&[chunk(&[1], 3, &pages), chunk(&[], 0, &pages)]));
    assert_eq!(error, BatchError::EmptyChunk { chunk: 1 });
    let error = batch_error(runner.step(&[chunk(&[1, 96], 3, &pages)]));
    assert_eq!(error, BatchError::UnknownToken { chunk: 0, index: 1, token: 96, vocabulary_size: 96 });
    let error = batch_error(runner.step(&[chunk(&[1, 2], 511, &pages)]));
    assert_eq!(error, BatchError::ContextExceeded { chunk: 0, end: 513, context_length: 512 });
    let error = batch_error(runner.step(&[chunk(&[1], usize::MAX, &pages)]));
    assert!(matches!(error, BatchError::ContextExceeded { .. }));
    let error = batch_error(runner.step(&[chunk(&[1; 65], 3, &pages)]));
    assert_eq!(error, BatchError::TooManyRows { rows: 65, max_rows: 64 });
    let all = SequenceChunk { logits: LogitsFor::All, ..chunk(&[1; 5], 3, &pages) };
    assert_eq!(batch_error(runner.step(&[all])), BatchError::TooManyLogits { rows: 5, max_rows: 4 });
    let scores = Scoring { first_row: 1, targets: &[1, 2], top: 0 };
    let error = batch_error(runner.step(&[SequenceChunk { scores, ..chunk(&[1, 2], 3, &pages) }]));
    assert_eq!(error, BatchError::TooManyTargets { chunk: 0, first_row: 1, targets: 2, tokens: 2 });
    let scores = Scoring { first_row: 0, targets: &[1, 96], top: 0 };
    let error = batch_error(runner.step(&[SequenceChunk { scores, ..chunk(&[1, 2], 3, &pages) }]));
    assert_eq!(error, BatchError::UnknownTarget { chunk: 0, index: 1, token: 96, usable_vocabulary: 96 });

    let outcome = runner.step(&[chunk(&[1], 64, &pages[..2])]).map(|_| ());
    assert!(matches!(outcome, Err(ModelError::Tensor(TensorError::MissingPages { .. }))), "{outcome:?}");
    let outcome = runner.step(&[chunk(&[1], 0, &pages), chunk(&[1], 0, &pages)]).map(|_| ());
    assert!(matches!(outcome, Err(ModelError::Tensor(TensorError::SharedPage { .. }))), "{outcome:?}");
    let outputs = runner.step(&[]).unwrap();
    assert_eq!((outputs.logits.rows(), outputs.scores.len(), outputs.hidden.rows()), (0, 0, 0));

    let again: Vec<f32> = runner.step(&[chunk(&[1, 2, 3], 0, &pages)]).unwrap().logits.row(0).to_vec();
    assert_eq!(again, first);
}

#[test]
fn contexts_and_caches_that_cannot_be_are_refused() {
    let model = tiny_model();
    let long = RunnerOptions { context_length: Some(513), ..runner_options(1) };
    let outcome = Runner::new(Arc::clone(&model), long).map(|_| ());
    assert!(matches!(outcome, Err(ModelError::ContextTooLong { asked: 513, longest: 512 })));
    let outcome = Runner::new(Arc::clone(&model), runner_options(usize::MAX / 64)).map(|_| ());
    assert!(matches!(outcome, Err(ModelError::Tensor(TensorError::OutOfMemory { .. }))));
    let short = RunnerOptions { context_length: Some(100), ..runner_options(4) };
    let runner = Runner::new(model, short).unwrap();
    assert_eq!((runner.context_length(), runner.page_count(), runner.usable_vocabulary()), (100, 4, 96));
}

#[test]
fn a_page_takes_keys_and_values_of_all_layers() {
    let config = tiny_config();
    let expected = 2 * config.layers * config.kv_heads * config.head_dim * 32 * size_of::<f32>();
    assert_eq!(Runner::page_bytes(&config, KvDtype::F32), expected);
    let config = ModelConfig { head_dim: 64, ..config };
    let scales = (64 / 32 + 1) * size_of::<f32>();
    let expected = config.layers * config.kv_heads * 32 * (2 * 64 + scales);
    assert_eq!(Runner::page_bytes(&config, KvDtype::Int8), expected);
}

#[test]
fn steps_stay_within_the_planned_workspace() {
    let shapes = [(96, 512), (32, 8192)].map(|(intermediate_size, context_length)| ModelConfig {
        intermediate_size,
        context_length,
        ..tiny_config()
    });
    for config in shapes.into_iter().chain(tiny_forms()) {
        let context_length = config.context_length;
        let weights = RandomWeights::new(config.clone(), Dtype::Q8_0, 1);
        let model = Arc::new(Model::from_source(config.clone(), &weights, &load_options()).unwrap());
        let mut runner = Runner::new(model, runner_options(256)).unwrap();
        let pages: Vec<PageId> = (0..256).map(PageId).collect();
        for (start, count) in [(0, 64), (context_length - 4, 4), (context_length - 1, 1), (10, 3)] {
            let logits = if count > 4 { LogitsFor::Last } else { LogitsFor::All };
            let tokens = vec![1; count];
            runner.step(&[SequenceChunk { logits, ..chunk(&tokens, start, &pages) }]).unwrap();
            let scores = Scoring { first_row: 0, targets: &tokens, top: 3 };
            let everything =
                SequenceChunk { logits, scores, hidden: HiddenFor::All, ..chunk(&tokens, start, &pages) };
            runner.step(&[everything]).unwrap();
            let (taken, planned) =
                (runner.workspace_bytes_taken(), Runner::workspace_bytes(&config, 64, 4, 2));
            assert!(taken <= planned, "{taken} bytes of {planned}");
            if count == 64 {
                // The fullest step that was planned for: the plan is no wild guess.
                assert!(planned <= 4 * taken, "{planned} bytes are planned, but {taken} taken");
            }
        }
    }
}

#[test]
fn weights_of_another_shape_are_named() {
    let weights = RandomWeights::new(tiny_config(), Dtype::F32, 1);
    let mut config = tiny_config();
    config.intermediate_size = 128;
    let error = Model::from_source(config, &weights, &load_options()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("model.layers.0.mlp.gate_proj.weight") && text.contains("[128, 64]"), "{text}");
}

/// "The capital of France is" is followed by " Paris.".
#[test]
fn smollm2_knows_the_capital_of_france() {
    let model = Arc::new(Model::load(&support::real_model(), &load_options()).unwrap());
    let mut runner = Runner::new(model, runner_options(1)).unwrap();
    let mut tokens: Vec<u32> = vec![504, 3575, 282, 4649, 314];
    let mut computed = 0;
    for _ in 0..2 {
        let outputs = runner.step(&[chunk(&tokens[computed..], computed, &[PageId(0)])]).unwrap();
        let row = outputs.logits.row(0).iter().enumerate();
        let (best, _) = row.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
        computed = tokens.len();
        tokens.push(best as u32);
    }
    assert_eq!(tokens[5..], [7042, 30]);
}
