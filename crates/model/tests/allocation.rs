//! A step in the steady state takes no memory from the system: everything was taken in the first steps.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zhenjin_model::config::QueryKeyNorm;
use zhenjin_model::testing::{RandomWeights, tiny_config, tiny_forms};
use zhenjin_model::{
    HiddenFor, LoadOptions, LogitsFor, Model, ModelConfig, PageId, Runner, RunnerOptions, Scoring,
    SequenceChunk,
};
use zhenjin_tensor::{Dtype, SimdLevel, ThreadTeam};

/// The system's allocator, counting how often it is asked.
struct Counting;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test, as the requests of another one would be counted.
#[test]
fn steps_in_the_steady_state_allocate_nothing() {
    let qwen = ModelConfig { qk_norm: QueryKeyNorm::Heads, attention_bias: true, ..tiny_config() };
    for config in std::iter::once(qwen).chain(tiny_forms()) {
        assert_eq!(requests_in_the_steady_state(config.clone()), 0, "{config:?}");
    }
}

/// How often the system is asked for memory while all kinds of steps are computed once more.
fn requests_in_the_steady_state(config: ModelConfig) -> usize {
    let team = Arc::new(ThreadTeam::new(2).unwrap());
    let simd = SimdLevel::detect();
    let weights = RandomWeights::new(config.clone(), Dtype::Q8_0, 1);
    let options = LoadOptions { simd, team: Arc::clone(&team) };
    let model = Arc::new(Model::from_source(config, &weights, &options).unwrap());
    let limits = RunnerOptions {
        pages: 32,
        kv_dtype: zhenjin_tensor::KvDtype::default(),
        max_rows: 200,
        max_logits_rows: 200,
        context_length: None,
        usable_vocabulary: None,
        simd,
        team,
    };
    let mut runner = Runner::new(model, limits).unwrap();

    let pages: Vec<PageId> = (0..32).map(PageId).collect();
    let prompt: Vec<u32> = (0..150).map(|position| position % 96).collect();
    let prefill = [SequenceChunk {
        tokens: &prompt,
        start: 0,
        pages: &pages[..16],
        logits: LogitsFor::Last,
        ..SequenceChunk::default()
    }];
    let prefill_with_decode = [
        SequenceChunk {
            tokens: &[7],
            start: 300,
            pages: &pages[..16],
            logits: LogitsFor::Last,
            ..SequenceChunk::default()
        },
        SequenceChunk {
            tokens: &prompt[..40],
            start: 0,
            pages: &pages[16..],
            logits: LogitsFor::None,
            ..SequenceChunk::default()
        },
    ];
    let decode = [
        SequenceChunk {
            tokens: &[7],
            start: 300,
            pages: &pages[..16],
            logits: LogitsFor::Last,
            ..SequenceChunk::default()
        },
        SequenceChunk {
            tokens: &[9],
            start: 40,
            pages: &pages[16..],
            logits: LogitsFor::All,
            ..SequenceChunk::default()
        },
    ];
    let scored = [SequenceChunk {
        scores: Scoring { first_row: 10, targets: &prompt[11..], top: 0 },
        hidden: HiddenFor::All,
        ..prefill[0]
    }];
    let steps: [&[SequenceChunk<'_>]; 4] = [&prefill, &prefill_with_decode, &decode, &scored];
    let run_all = |runner: &mut Runner| {
        for step in steps {
            runner.step(step).unwrap();
        }
    };
    // Buffers go round among operations, so it takes some steps until each has met its largest use.
    for _ in 0..20 {
        run_all(&mut runner);
    }
    let before = REQUESTS.load(Ordering::Relaxed);
    run_all(&mut runner);
    REQUESTS.load(Ordering::Relaxed) - before
}
