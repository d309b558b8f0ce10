//! How many workers a caller asks for: fewer than the team has where other callers compute too (those in the background do not
//! count for those in the foreground), and where the process may use fewer processors. A clock says when to look again, which is harmless: no result depends on it.

use super::PLACES;
use super::affinity;
use super::background::foreground_computes;
use super::job::Place;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs of a caller between two looks at what the others do.
const RUNS_PER_LOOK: usize = 8;
/// Looks without a run after which a caller counts as idle.
const LOOKS_UNTIL_IDLE: u32 = 4;
/// Time between two looks at which processors the process may use.
const PROCESSORS_INTERVAL: Duration = Duration::from_millis(20);

pub(super) struct Helpers {
    threads: usize,
    start: Instant,
    /// What the system knows the workers by; 0 before they have started.
    workers: Box<[AtomicI32]>,
    /// Processors worth of time that the process may use, whichever they are.
    quota: usize,
    /// Processors that the process may use now.
    processors: AtomicUsize,
    next_look_at_processors: AtomicU64,
    in_all: AtomicUsize,
    callers: Box<[Caller]>,
}

/// What is known for the caller that has a place.
#[derive(Default)]
#[repr(align(128))]
struct Caller {
    helpers: AtomicUsize,
    runs: AtomicUsize,
    /// Of each place, the runs that were begun there and for how many looks there was no new one.
    others: [(AtomicUsize, AtomicU32); PLACES],
}

impl Helpers {
    pub(super) fn new(threads: usize) -> Helpers {
        let quota = std::thread::available_parallelism().map_or(1, usize::from);
        let helpers = Helpers {
            threads,
            start: Instant::now(),
            workers: (1..threads).map(|_| AtomicI32::new(0)).collect(),
            quota,
            processors: AtomicUsize::new(quota),
            next_look_at_processors: AtomicU64::new(0),
            in_all: AtomicUsize::new(threads.min(quota) - 1),
            callers: (0..PLACES).map(|_| Caller::default()).collect(),
        };
        for caller in &helpers.callers {
            caller.helpers.store(threads.min(quota) - 1, Ordering::Relaxed);
        }
        helpers
    }

    /// Called by each worker on its own thread.
    pub(super) fn introduce(&self, worker: usize) {
        self.workers[worker - 1].store(affinity::own_thread(), Ordering::Relaxed);
    }

    /// Workers that the caller with this place asked for last.
    pub(super) fn of(&self, place: usize) -> usize {
        self.callers[place].helpers.load(Ordering::Relaxed)
    }

    /// Workers that all callers together may have now.
    pub(super) fn in_all(&self) -> usize {
        self.in_all.load(Ordering::Relaxed)
    }

    /// Workers that the next run of the caller with this place may have.
    pub(super) fn for_run(&self, place: usize, places: &[Place]) -> usize {
        let caller = &self.callers[place];
        let runs = caller.runs.load(Ordering::Relaxed);
        caller.runs.store(runs.wrapping_add(1), Ordering::Relaxed);
        if runs.is_multiple_of(RUNS_PER_LOOK) {
            self.look(place, places);
        }
        caller.helpers.load(Ordering::Relaxed)
    }

    fn look(&self, place: usize, places: &[Place]) {
        let now = self.start.elapsed();
        if now.as_nanos() as u64 >= self.next_look_at_processors.load(Ordering::Relaxed) {
            let next = now + PROCESSORS_INTERVAL;
            self.next_look_at_processors.store(next.as_nanos() as u64, Ordering::Relaxed);
            self.look_at_processors();
        }
        let is_background = places[place].is_background();
        if is_background && foreground_computes(places) {
            return self.callers[place].helpers.store(0, Ordering::Relaxed);
        }
        let mut callers = 1;
        for (index, other) in places.iter().enumerate().filter(|(index, _)| *index != place) {
            if other.is_background() && !is_background {
                continue;
            }
            let (is_running, runs) = other.activity();
            let (seen, looks) = &self.callers[place].others[index];
            if is_running || seen.swap(runs, Ordering::Relaxed) != runs {
                looks.store(0, Ordering::Relaxed);
                callers += 1;
            } else if looks.load(Ordering::Relaxed) < LOOKS_UNTIL_IDLE {
                looks.fetch_add(1, Ordering::Relaxed);
                callers += 1;
            }
        }
        let together = self.threads.min(self.processors.load(Ordering::Relaxed));
        let in_all = together.saturating_sub(callers);
        self.in_all.store(in_all, Ordering::Relaxed);
        self.callers[place].helpers.store(in_all.div_ceil(callers), Ordering::Relaxed);
    }

    fn look_at_processors(&self) {
        let workers = self.workers.iter().map(|worker| worker.load(Ordering::Relaxed));
        // 0 means the calling thread.
        if let Some(count) = affinity::processors_of(workers.chain([0])) {
            self.processors.store(count.min(self.quota), Ordering::Relaxed);
        }
    }

    /// Goes on as if the process could use so many processors, whatever the system says.
    #[cfg(test)]
    pub(super) fn assume_processors(&self, processors: usize) {
        self.next_look_at_processors.store(u64::MAX, Ordering::SeqCst);
        self.processors.store(processors, Ordering::SeqCst);
    }
}
