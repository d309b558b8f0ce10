//! The thread team: the threads that compute, shared by everybody in the process who has something to compute.
//!
//! A run is a number of parts. Whoever calls takes parts itself, and workers that are free take some from it; nobody waits
//! for a worker that has not come. So it costs little when another process has the worker's processor at the moment.
//! No allocation and, while work keeps coming on a machine that has time for it, no system call per run. The team knows
//! nothing of what the work is; it never splits a sum, and who computes which part never reaches a result.

mod affinity;
mod background;
mod disjoint;
mod helpers;
mod job;
mod wait;

use crate::TensorError;
use helpers::Helpers;
use job::Place;
use std::cell::Cell;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wait::{Sleepers, spin};

pub(crate) use background::is_background;
pub use disjoint::{DisjointMut, share};

/// How to start a [`ThreadTeam`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeamOptions {
    /// Threads that work together, the caller among them; 0 counts as 1.
    pub threads: usize,
    /// Whether to bind each started worker to one of the processors allowed to this process (Linux only).
    /// Worth it on a machine of one's own; harmful where others use the same cores.
    pub pin: bool,
}

/// Threads that run the parts of a job together. The thread that calls [`ThreadTeam::run`] is worker 0 of its run.
///
/// One team serves all callers of a process: with several at once, each computes its own run, and workers help only as
/// long as fewer threads compute than the team has, and than there are processors. Callers that are
/// [in the background](ThreadTeam::in_background) get what the others leave, and a small share of the time beside them.
pub struct ThreadTeam {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Callers that can have workers at once; others compute alone.
const PLACES: usize = 16;
/// How long a worker waits for the next run before it sleeps: as long as the small operations between two products and the
/// sampling between two steps take.
const WORKER_SPINS: Duration = Duration::from_micros(200);
/// Parts per thread where all parts take about the same time.
const PARTS_PER_THREAD: usize = 8;

struct Shared {
    places: Box<[Place]>,
    /// Places that have ever been used are before this one.
    places_used: AtomicUsize,
    idle: Sleepers,
    stop: AtomicBool,
    helpers: Helpers,
}

thread_local! {
    static INSIDE_A_RUN: Cell<bool> = const { Cell::new(false) };
    /// The place that this thread had last: it takes the same one again, if nobody else has it.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

impl ThreadTeam {
    /// Starts a team of `threads` unpinned threads (the caller counts as one; 0 counts as 1).
    ///
    /// # Errors
    /// [`TensorError::Thread`] when the operating system refuses a thread.
    pub fn new(threads: usize) -> Result<ThreadTeam, TensorError> {
        ThreadTeam::with_options(TeamOptions { threads, pin: false })
    }

    /// Starts a team as `options` say.
    ///
    /// # Errors
    /// [`TensorError::Thread`] when the operating system refuses a thread.
    pub fn with_options(options: TeamOptions) -> Result<ThreadTeam, TensorError> {
        let threads = options.threads.max(1);
        let mut team = ThreadTeam {
            shared: Arc::new(Shared {
                places: (0..PLACES).map(|_| Place::new(threads)).collect(),
                places_used: AtomicUsize::new(1),
                idle: Sleepers::default(),
                stop: AtomicBool::new(false),
                helpers: Helpers::new(threads),
            }),
            workers: Vec::with_capacity(threads - 1),
        };
        let processors = if options.pin { affinity::allowed() } else { Vec::new() };
        for worker in 1..threads {
            let shared = Arc::clone(&team.shared);
            let processor = processors.get(worker).copied();
            let handle = std::thread::Builder::new()
                .name(format!("tensor-{worker}"))
                .spawn(move || {
                    if let Some(processor) = processor {
                        affinity::bind(processor);
                    }
                    shared.work(worker);
                })
                .map_err(|error| TensorError::Thread { worker, threads, reason: error.to_string() })?;
            team.workers.push(handle);
        }
        Ok(team)
    }

    /// Number of threads, the caller among them: the workers' numbers in a run are below it.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// How many threads the caller's next run will probably have, at least 1. Work that is divided into as many equal
    /// contiguous shares keeps each thread in one of them. A matter of speed only.
    pub fn width(&self) -> usize {
        if self.workers.is_empty() || INSIDE_A_RUN.get() {
            return 1;
        }
        self.shared.helpers.of(PLACE.get()) + 1
    }

    /// Does `work` with the calling thread's runs in the background: while other callers compute they have no workers, and pause after
    /// each part. A matter of time only.
    pub fn in_background<R>(&self, work: impl FnOnce() -> R) -> R {
        background::in_background(work)
    }

    /// Runs `work(worker, part)` once for every part of `0..parts` and returns when all have finished. A worker runs one
    /// part at a time; the caller is worker 0. Within a part, a further `run` computes its own parts on the same thread.
    ///
    /// # Panics
    /// When a part panics, the panic goes on in the caller after all parts have been run.
    pub fn run(&self, parts: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        let shared = &*self.shared;
        let is_background = background::is_background() && !INSIDE_A_RUN.get();
        let before_part = || {
            if is_background {
                background::before_part(&shared.places[..shared.used()]);
            }
        };
        let alone = || {
            (0..parts).for_each(|part| {
                before_part();
                work(0, part);
            });
        };
        if parts <= 1 || self.workers.is_empty() || INSIDE_A_RUN.get() {
            return alone();
        }
        let Some(turn) = shared.take_place() else { return alone() };
        let place = &shared.places[turn.place];
        let helpers = shared.helpers.for_run(turn.place, &shared.places[..shared.used()]).min(parts - 1);
        if helpers == 0 {
            return alone();
        }
        place.open(work, parts, helpers);
        let awake = self.workers.len().saturating_sub(shared.idle.asleep());
        shared.idle.wake(shared.helpers.in_all().saturating_sub(awake));
        let panic = place.finish(before_part);
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Splits `0..count` into contiguous ranges, several for each thread, and runs `job` for each of them.
    pub fn for_ranges(&self, count: usize, job: impl Fn(Range<usize>) + Sync) {
        let parts = count.min(self.width() * PARTS_PER_THREAD);
        self.run(parts, &|_, part| job(share(count, parts, part)));
    }

    /// Runs `job(index, chunk)` for every chunk of `width` elements of `data` (the last may be shorter), split
    /// over the workers by contiguous ranges of chunks.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        width: usize,
        job: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if width == 0 {
            return;
        }
        let length = data.len();
        let data = DisjointMut::new(data);
        self.for_ranges(length.div_ceil(width), |chunks| {
            for index in chunks {
                let range = index * width..((index + 1) * width).min(length);
                // SAFETY: chunk indices are split over the parts, so no two parts get the same chunk.
                job(index, unsafe { data.slice(range) });
            }
        });
    }
}

impl Drop for ThreadTeam {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.idle.wake(self.workers.len());
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs, so it has nothing to report here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for ThreadTeam {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ThreadTeam").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Shared {
    fn used(&self) -> usize {
        self.places_used.load(Ordering::Relaxed).min(PLACES)
    }

    /// A place for a run of the calling thread, if there is one.
    fn take_place(&self) -> Option<Turn<'_>> {
        let last = PLACE.get();
        let background = background::is_background();
        let place =
            std::iter::once(last).chain(0..PLACES).find(|&place| self.places[place].take(background))?;
        if place != last {
            PLACE.set(place);
        }
        if place >= self.used() {
            self.places_used.fetch_max(place + 1, Ordering::SeqCst);
        }
        INSIDE_A_RUN.set(true);
        Some(Turn { shared: self, place })
    }

    /// What a worker does until the team ends.
    fn work(&self, worker: usize) {
        INSIDE_A_RUN.set(true);
        self.helpers.introduce(worker);
        let is_wanted =
            || self.stop.load(Ordering::SeqCst) || self.places[..self.used()].iter().any(Place::is_open);
        loop {
            if !spin(WORKER_SPINS, is_wanted) {
                self.idle.sleep_unless(is_wanted);
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let places = &self.places[..self.used()];
            for place in places.iter().filter(|place| !place.is_background()) {
                place.help(worker, || true);
            }
            for place in places.iter().filter(|place| place.is_background()) {
                place.help(worker, || !background::foreground_wants_workers(places));
            }
        }
    }
}

/// A caller's run in a place; also ends when a part panics.
struct Turn<'a> {
    shared: &'a Shared,
    place: usize,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        INSIDE_A_RUN.set(false);
        self.shared.places[self.place].give_back();
    }
}

#[cfg(test)]
mod tests;
