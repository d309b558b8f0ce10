//! Invariance: many random requests together, each compared bit for bit with itself alone on a fresh engine with
//! another number of threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zhenjin_engine::{Engine, EngineObserver, EngineOptions, Generation, StepReport};
use zhenjin_model::{Model, PAGE_TOKENS, Runner, RunnerOptions};
use zhenjin_tensor::{KvDtype, ThreadTeam};

use crate::requests::{Answer, Plan, Random, Requests};

/// Numbers of threads, each of which runs a part of the requests.
const THREADS: [usize; 3] = [1, 2, 3];

/// How many requests of which lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) requests: usize,
    /// The most tokens of a prompt.
    pub(crate) longest: usize,
    pub(crate) seed: u64,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) requests: usize,
    pub(crate) tokens: usize,
    pub(crate) cancelled: u64,
    pub(crate) largest_batch: usize,
    pub(crate) prefix_hit_tokens: u64,
    pub(crate) preemptions: u64,
    pub(crate) alone: Duration,
    pub(crate) together: Duration,
}

/// How an engine is set up for a part of the requests.
#[derive(Clone, Copy, Debug)]
struct Setting {
    threads: usize,
    max_batch: usize,
    prefill_chunk: usize,
    pages: usize,
    kv_dtype: KvDtype,
    /// Between two arrivals, at most.
    gap: Duration,
}

#[derive(Default)]
struct LargestBatch(AtomicUsize);

impl EngineObserver for LargestBatch {
    fn step(&self, report: &StepReport) {
        self.0.fetch_max(report.sequences, Ordering::Relaxed);
    }
}

/// Compares `options.requests` requests.
///
/// # Errors
/// Text that says which request differs, where and under which setting, or what else went wrong.
pub(crate) fn check(model: &Arc<Model>, options: Options) -> Result<Summary, String> {
    const MOST_TOGETHER: usize = 80;
    let mut random = Random::new(options.seed);
    let requests = Requests::new(&mut random, model.config.vocabulary_size, options.longest);
    let rounds = options.requests.div_ceil(MOST_TOGETHER).max(THREADS.len());
    let mut summary = Summary::default();
    for round in 0..rounds {
        let count = options.requests * (round + 1) / rounds - options.requests * round / rounds;
        let plans: Vec<Plan> = (0..count).map(|_| requests.next(&mut random)).collect();
        // Other seeds begin with other kinds.
        let kind = round + (options.seed % 1000) as usize;
        let setting = setting(&mut random, kind, requests.most_tokens());
        check_round(model, &plans, setting, &mut random, &mut summary)
            .map_err(|problem| format!("seed {}, round {round}, {setting:?}: {problem}", options.seed))?;
    }
    Ok(summary)
}

fn setting(random: &mut Random, kind: usize, most_tokens: usize) -> Setting {
    /// The most that run at once; memory in longest requests; milliseconds between two arrivals, at most. As many as
    /// are coprime to the numbers of threads, so that all meet all.
    const KINDS: [(usize, usize, u64); 7] =
        [(32, 24, 0), (32, 4, 2), (16, 1, 0), (32, 24, 20), (8, 4, 2), (1, 1, 0), (32, 24, 2)];
    let (max_batch, memory, gap) = KINDS[kind % KINDS.len()];
    Setting {
        threads: THREADS[kind % THREADS.len()],
        max_batch,
        prefill_chunk: random.choose(&[33, 96, 256, 512]),
        pages: memory * pages_for(most_tokens) + 2,
        kv_dtype: KvDtype::ALL[kind % KvDtype::ALL.len()],
        gap: Duration::from_millis(gap),
    }
}

fn check_round(
    model: &Arc<Model>,
    plans: &[Plan],
    setting: Setting,
    random: &mut Random,
    summary: &mut Summary,
) -> Result<(), String> {
    let start = Instant::now();
    let others = THREADS[setting.threads % THREADS.len()];
    let team = team(others)?;
    let alone: Vec<Answer> = plans
        .iter()
        .map(|plan| answer_alone(model, plan, setting.kv_dtype, &team))
        .collect::<Result<_, String>>()?;
    summary.alone += start.elapsed();

    let start = Instant::now();
    let largest = Arc::new(LargestBatch::default());
    let engine = engine(model, setting, Some(Arc::clone(&largest) as Arc<dyn EngineObserver>))?;
    let (submitted, cancelled) = submit_at_random(&engine, plans, setting.gap, random)?;
    for (number, (generation, expected)) in submitted.into_iter().zip(&alone).enumerate() {
        let answer = collect(generation)?;
        if let Some(difference) = answer.difference(expected) {
            let plan = &plans[number];
            return Err(format!("request {number} of {} prompt tokens: {difference}", plan.prompt.len()));
        }
        summary.tokens += answer.len();
    }
    summary.together += start.elapsed();
    summary.requests += plans.len();
    summary.largest_batch = summary.largest_batch.max(largest.0.load(Ordering::Relaxed));
    let stats = settled(&engine)?;
    if stats.cancelled > cancelled {
        return Err(format!(
            "{} requests were cancelled, and only {cancelled} receivers dropped",
            stats.cancelled
        ));
    }
    summary.cancelled += stats.cancelled;
    summary.prefix_hit_tokens += stats.prefix_hit_tokens;
    summary.preemptions += stats.preemptions;
    Ok(())
}

/// Submits `plans`, and between them requests that go away while they wait or run; how many of these there were.
fn submit_at_random(
    engine: &Engine,
    plans: &[Plan],
    gap: Duration,
    random: &mut Random,
) -> Result<(Vec<Generation>, u64), String> {
    let mut submitted = Vec::with_capacity(plans.len());
    let mut leaving: Vec<(usize, Generation)> = Vec::new();
    let mut cancelled = 0;
    let submit = |plan: &Plan| engine.submit(plan.request()).map_err(|error| error.to_string());
    for (number, plan) in plans.iter().enumerate() {
        submitted.push(submit(plan)?);
        if random.one_in(6) {
            leaving.push((number + random.between(0, 4), submit(random_plan(plans, random))?));
            cancelled += 1;
        }
        leaving.retain(|(until, _)| *until > number);
        std::thread::sleep(gap.mul_f64(random.between(0, 100) as f64 / 100.0));
    }
    Ok((submitted, cancelled))
}

fn random_plan<'a>(plans: &'a [Plan], random: &mut Random) -> &'a Plan {
    &plans[random.between(0, plans.len() - 1)]
}

/// The engine's numbers once nothing is inside; every page must have come back.
fn settled(engine: &Engine) -> Result<zhenjin_engine::EngineStats, String> {
    const LONGEST: Duration = Duration::from_secs(10);
    let start = Instant::now();
    loop {
        let stats = engine.stats();
        if stats.running + stats.waiting == 0 && stats.pages_used == 0 {
            return Ok(stats);
        }
        if start.elapsed() > LONGEST {
            return Err(format!("nobody is left, but the engine holds on to something: {stats:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

fn team(threads: usize) -> Result<Arc<ThreadTeam>, String> {
    ThreadTeam::new(threads).map(Arc::new).map_err(|error| error.to_string())
}

/// The answer to `plan` by an engine that has never seen another request.
pub(crate) fn answer_alone(
    model: &Arc<Model>,
    plan: &Plan,
    kv_dtype: KvDtype,
    team: &Arc<ThreadTeam>,
) -> Result<Answer, String> {
    let setting = Setting {
        threads: team.threads(),
        max_batch: 1,
        prefill_chunk: 512,
        pages: pages_for(plan.prompt.len() + plan.max_tokens),
        kv_dtype,
        gap: Duration::ZERO,
    };
    let engine = engine_on(model, setting, Arc::clone(team), None)?;
    collect(engine.submit(plan.request()).map_err(|error| error.to_string())?)
}

fn collect(mut generation: Generation) -> Result<Answer, String> {
    let mut answer = Answer::default();
    while let Some(event) = generation.blocking_next() {
        answer.note(&event)?;
    }
    Ok(answer)
}

fn engine(
    model: &Arc<Model>,
    setting: Setting,
    observer: Option<Arc<dyn EngineObserver>>,
) -> Result<Engine, String> {
    engine_on(model, setting, team(setting.threads)?, observer)
}

fn engine_on(
    model: &Arc<Model>,
    setting: Setting,
    team: Arc<ThreadTeam>,
    observer: Option<Arc<dyn EngineObserver>>,
) -> Result<Engine, String> {
    let options = RunnerOptions {
        pages: setting.pages,
        kv_dtype: setting.kv_dtype,
        max_rows: 560,
        max_logits_rows: 96,
        context_length: None,
        usable_vocabulary: None,
        simd: model.simd,
        team,
    };
    let runner = Runner::new(Arc::clone(model), options).map_err(|error| error.to_string())?;
    let options = EngineOptions {
        max_batch: setting.max_batch,
        prefill_chunk: setting.prefill_chunk,
        queue_limit: 1000,
        simd: model.simd,
        observer,
        ..EngineOptions::default()
    };
    Engine::start(Box::new(runner), options).map_err(|error| error.to_string())
}
