//! Endurance: one engine under random load for a long time. Clients come singly, in bursts and not at all, some go
//! away in the middle, some bring prompts that nearly fill the context. Between them, the same probes are asked again
//! and again. Memory must stay flat, every page must come back, and no probe's answer may change.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use zhenjin_engine::{Engine, EngineOptions, EngineStats, Generation, Sampling, SubmitError};
use zhenjin_model::{KvCacheDtype, Model, PAGE_TOKENS, Runner, RunnerOptions};
use zhenjin_tensor::{ComputeOptions, KvDtype, ThreadTeam};

use crate::crowd::answer_alone;
use crate::memory::{Flatness, Samples, resident_bytes};
use crate::requests::{Answer, Plan, Random, Requests};

/// Positions of the longest sequence.
const CONTEXT: usize = 2048;
/// Pages of the engine: two and a half contexts, so that long prompts drive each other and cached pages out.
const PAGES: usize = CONTEXT * 5 / 2 / PAGE_TOKENS;
/// Requests that wait or run, at most.
const MOST_INSIDE: usize = 64;
const PROBES: usize = 8;

/// How long, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) compute: ComputeOptions,
    pub(crate) seed: u64,
}

impl Options {
    /// Until then memory may grow: every buffer has to meet its largest use.
    fn warm_up(&self) -> Duration {
        self.duration.mul_f64(0.2).min(Duration::from_secs(180))
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) elapsed: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) memory: Flatness,
    pub(crate) stats: EngineStats,
    pub(crate) counts: Counts,
    /// What does not hold; nothing if all is well.
    pub(crate) problems: Vec<String>,
}

/// What clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) submitted: u64,
    pub(crate) refused: u64,
    pub(crate) left: u64,
    pub(crate) finished: u64,
    pub(crate) probes: u64,
}

/// What the clients share. All of them live on one thread.
struct Shared {
    engine: Engine,
    counts: Cell<Counts>,
    problems: RefCell<Vec<String>>,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn problem(&self, text: String) {
        /// More of them say no more.
        const MOST: usize = 20;
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MOST {
            problems.push(text);
        }
    }

    /// `None` when the queue is full.
    fn submit(&self, plan: &Plan) -> Option<Generation> {
        match self.engine.submit(plan.request()) {
            Ok(generation) => {
                self.count(|counts| counts.submitted += 1);
                Some(generation)
            }
            Err(SubmitError::QueueFull { .. }) => {
                self.count(|counts| counts.refused += 1);
                None
            }
            Err(error) => {
                self.problem(format!("a request was refused: {error}"));
                None
            }
        }
    }
}

/// A fixed request and what was answered when it was alone.
struct Probe {
    plan: Plan,
    expected: Answer,
}

/// Runs the load.
///
/// # Errors
/// What kept it from starting. What does not hold is in the report.
pub(crate) fn run(model: &Arc<Model>, options: Options) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let team = Arc::new(options.compute.start_team().map_err(|error| error.to_string())?);
    let mut random = Random::new(options.seed);
    let requests = Requests::new(&mut random, model.config.vocabulary_size, 600);
    let probes: Rc<[Probe]> = (0..PROBES)
        .map(|_| {
            let plan = requests.next(&mut random);
            let expected = answer_alone(model, &plan, kv_dtype(model), &team)?;
            Ok(Probe { plan, expected })
        })
        .collect::<Result<_, String>>()?;
    let shared = Rc::new(Shared {
        engine: start(model, team)?,
        counts: Cell::default(),
        problems: RefCell::default(),
    });
    let load =
        Load { shared: Rc::clone(&shared), requests, probes, vocabulary: model.config.vocabulary_size };
    let memory = LocalSet::new().block_on(&runtime, load.run(options, &mut random))?;
    let stats = settled(&shared.engine);
    let counts = shared.counts.get();
    let mut problems = shared.problems.take();
    if !memory.is_flat() {
        problems.push("memory is not flat".to_owned());
    }
    if stats.running + stats.waiting + stats.pages_used > 0 {
        problems.push(format!(
            "nobody is left, but {} requests run, {} wait and {} pages are held",
            stats.running, stats.waiting, stats.pages_used
        ));
    }
    if stats.failed > 0 {
        problems.push(format!("{} requests failed", stats.failed));
    }
    if stats.finished != counts.submitted {
        problems.push(format!("{} requests ended of {} submitted", stats.finished, counts.submitted));
    }
    if counts.probes == 0 || counts.left == 0 {
        problems.push("it was too short: no probe was answered, or no client went away".to_owned());
    }
    Ok(Report { elapsed: options.duration, warm_up: options.warm_up(), memory, stats, counts, problems })
}

fn start(model: &Arc<Model>, team: Arc<ThreadTeam>) -> Result<Engine, String> {
    let options = RunnerOptions {
        pages: PAGES,
        kv_dtype: kv_dtype(model),
        max_rows: 560,
        max_logits_rows: 96,
        context_length: Some(CONTEXT.min(model.config.context_length)),
        usable_vocabulary: None,
        simd: model.simd,
        team,
    };
    let runner = Runner::new(Arc::clone(model), options).map_err(|error| error.to_string())?;
    let options =
        EngineOptions { queue_limit: MOST_INSIDE - 32, simd: model.simd, ..EngineOptions::default() };
    Engine::start(Box::new(runner), options).map_err(|error| error.to_string())
}

/// What the server takes by default.
fn kv_dtype(model: &Model) -> KvDtype {
    model.kv_dtype(KvCacheDtype::default())
}

/// The engine's numbers when it has become quiet, or after some seconds all the same.
fn settled(engine: &Engine) -> EngineStats {
    let start = Instant::now();
    loop {
        let stats = engine.stats();
        let is_quiet = stats.running + stats.waiting + stats.pages_used == 0;
        if is_quiet || start.elapsed() > Duration::from_secs(10) {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Load {
    shared: Rc<Shared>,
    requests: Requests,
    probes: Rc<[Probe]>,
    vocabulary: usize,
}

impl Load {
    async fn run(&self, options: Options, random: &mut Random) -> Result<Flatness, String> {
        let start = Instant::now();
        let mut samples = Samples::default();
        let mut clients = JoinSet::new();
        self.fill(random, &mut clients);
        let mut next_sample = Duration::ZERO;
        while start.elapsed() < options.duration {
            let (arrivals, pause) = self.weather(random);
            for _ in 0..arrivals {
                self.arrive(random, &mut clients);
            }
            let until = start.elapsed() + pause;
            while start.elapsed() < until.min(options.duration) {
                if start.elapsed() >= next_sample {
                    samples.push(start.elapsed(), resident_bytes()?);
                    next_sample = start.elapsed() + Duration::from_secs(2);
                }
                sleep(Duration::from_millis(20)).await;
            }
            while let Some(ended) = clients.try_join_next() {
                ended.map_err(|error| error.to_string())?;
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| error.to_string())?;
        }
        Ok(samples.flatness(options.warm_up()))
    }

    /// Uses everything once to its full: all pages, the longest sequence, the most logits.
    fn fill(&self, random: &mut Random, clients: &mut JoinSet<()>) {
        for _ in 0..4 {
            let plan = Plan { prompt_logprobs: Some(1), ..self.nearly_full(random) };
            self.come(plan, None, clients);
        }
    }

    /// How many come at once, and how long it is quiet then.
    fn weather(&self, random: &mut Random) -> (usize, Duration) {
        match random.between(0, 19) {
            0 => (random.between(20, 60), Duration::from_millis(500)),
            1 => (0, Duration::from_secs(random.between(1, 6) as u64)),
            _ => (random.between(0, 3), Duration::from_millis(random.between(0, 600) as u64)),
        }
    }

    fn arrive(&self, random: &mut Random, clients: &mut JoinSet<()>) {
        if random.one_in(5) {
            return self.probe(random, clients);
        }
        let plan = if random.one_in(12) { self.nearly_full(random) } else { self.requests.next(random) };
        let patience = random.one_in(3).then(|| Duration::from_millis(random.between(0, 3000) as u64));
        self.come(plan, patience, clients);
    }

    fn nearly_full(&self, random: &mut Random) -> Plan {
        let context = self.shared.engine.context_length();
        let length = context - random.between(40, 120);
        Plan {
            prompt: (0..length).map(|_| random.between(0, self.vocabulary - 1) as u32).collect(),
            sampling: Sampling::greedy(),
            max_tokens: context - length,
            logprobs: None,
            prompt_logprobs: None,
        }
    }

    /// A client that goes away when its patience ends.
    fn come(&self, plan: Plan, patience: Option<Duration>, clients: &mut JoinSet<()>) {
        let Some(generation) = self.shared.submit(&plan) else { return };
        let shared = Rc::clone(&self.shared);
        clients.spawn_local(async move {
            // A future that times out drops the receiver.
            let answer = collect(generation);
            let outcome = match patience {
                Some(patience) => timeout(patience, answer).await.ok(),
                None => Some(answer.await),
            };
            match outcome {
                Some(Ok(_)) => shared.count(|counts| counts.finished += 1),
                Some(Err(problem)) => shared.problem(problem),
                None => shared.count(|counts| counts.left += 1),
            }
        });
    }

    fn probe(&self, random: &mut Random, clients: &mut JoinSet<()>) {
        let index = random.between(0, self.probes.len() - 1);
        let Some(generation) = self.shared.submit(&self.probes[index].plan) else { return };
        let (shared, probes) = (Rc::clone(&self.shared), Rc::clone(&self.probes));
        clients.spawn_local(async move {
            shared.count(|counts| counts.probes += 1);
            match collect(generation).await.map(|answer| answer.difference(&probes[index].expected)) {
                Ok(None) => shared.count(|counts| counts.finished += 1),
                Ok(Some(difference)) => shared.problem(format!("probe {index} changed: {difference}")),
                Err(problem) => shared.problem(format!("probe {index}: {problem}")),
            }
        });
    }
}

async fn collect(mut generation: Generation) -> Result<Answer, String> {
    let mut answer = Answer::default();
    while let Some(event) = generation.next().await {
        answer.note(&event)?;
    }
    Ok(answer)
}
