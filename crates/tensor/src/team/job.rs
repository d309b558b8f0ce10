//! One run: parts that a caller and whichever workers have come take one after the other, until none is left.
//!
//! The caller waits only for workers that have entered; a worker that comes late finds the job closed. So a thread that
//! has no processor at the moment delays a run only if it lost it within a part.

use super::disjoint::share;
use super::wait::{Sleepers, lock, spin};
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What is run for every part: `(worker, part)`.
pub(super) type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The state's bit that lets workers enter; the bits below it count those that have entered and not left.
const OPEN: usize = 1 << (usize::BITS - 1);

/// How long a caller spins for workers that are in their last part before it sleeps. Parts take some ten microseconds;
/// a worker that needs much longer has lost its processor.
const CALLER_SPINS: Duration = Duration::from_micros(50);

/// The place of one caller's job; used again for each of its runs.
#[derive(Default)]
pub(super) struct Place {
    /// Whether a caller has a run here.
    taken: OwnLine<AtomicBool>,
    /// Runs that were begun here, to see from elsewhere whether somebody computes.
    runs: OwnLine<AtomicUsize>,
    /// Whether the caller's work may wait for that of others.
    background: AtomicBool,
    state: OwnLine<AtomicUsize>,
    /// Workers that may be inside at once.
    helpers: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    shares: Box<[OwnLine<Share>]>,
    caller: Sleepers,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Keeps what one thread writes out of the cache lines that others read.
#[derive(Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

/// A contiguous part of the parts: whose it is takes them in order, and others from it when they have none left.
#[derive(Default)]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Job {
    /// With its lifetime erased: valid while the job is open or a worker is inside.
    work: *const Work<'static>,
    /// Shares in use, the caller's first.
    shares: usize,
}

// SAFETY: `job` is written only by the caller that has taken the place, while the job is closed and nobody is inside;
// workers read it only after they have entered, which they can do only after it was opened.
unsafe impl Sync for Place {}
// SAFETY: the raw pointer in `job` refers to a `Sync` closure, so it may be used from any thread.
unsafe impl Send for Place {}

impl Place {
    /// A place for jobs of up to `shares` threads.
    pub(super) fn new(shares: usize) -> Place {
        Place { shares: (0..shares).map(|_| OwnLine::default()).collect(), ..Place::default() }
    }

    /// Takes the place for a run, perhaps one in the background; false if somebody has it.
    pub(super) fn take(&self, background: bool) -> bool {
        let is_free = !self.taken.0.load(Ordering::Relaxed) && !self.taken.0.swap(true, Ordering::Acquire);
        if is_free {
            self.background.store(background, Ordering::Relaxed);
            // Nobody else writes it.
            self.runs.0.store(self.runs.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        is_free
    }

    /// Gives the place back.
    pub(super) fn give_back(&self) {
        self.taken.0.store(false, Ordering::Release);
    }

    /// Whether somebody has a run here, and how many there have been.
    pub(super) fn activity(&self) -> (bool, usize) {
        (self.taken.0.load(Ordering::Relaxed), self.runs.0.load(Ordering::Relaxed))
    }

    /// Whether the latest run here was one in the background.
    pub(super) fn is_background(&self) -> bool {
        self.background.load(Ordering::Relaxed)
    }

    /// Lets up to `helpers` workers take parts of `0..parts`. Only for the caller that has taken the place, and only until
    /// [`Place::finish`] returns may `work` go out of scope.
    pub(super) fn open(&self, work: &Work<'_>, parts: usize, helpers: usize) {
        let shares = (helpers + 1).min(self.shares.len());
        for (index, OwnLine(own)) in self.shares[..shares].iter().enumerate() {
            let range = share(parts, shares, index);
            own.next.store(range.start, Ordering::Relaxed);
            own.end.store(range.end, Ordering::Relaxed);
        }
        // SAFETY: only the lifetime changes; the pointer is used while the job is open or a worker is inside, and the
        // caller does not go on before neither is the case.
        let work = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: the job is closed and nobody is inside, so nobody else touches it.
        unsafe { *self.job.get() = Some(Job { work, shares }) };
        self.helpers.store(helpers, Ordering::Relaxed);
        self.state.0.swap(OPEN, Ordering::SeqCst);
    }

    /// Whether a worker could enter.
    pub(super) fn is_open(&self) -> bool {
        self.may_enter(self.state.0.load(Ordering::SeqCst))
    }

    fn may_enter(&self, state: usize) -> bool {
        state & OPEN != 0 && state & !OPEN < self.helpers.load(Ordering::Relaxed)
    }

    /// Does parts as a worker, if the job is open and as long as `may_go_on`; returns whether it was open.
    pub(super) fn help(&self, worker: usize, may_go_on: impl FnMut() -> bool) -> bool {
        let mut state = self.state.0.load(Ordering::SeqCst);
        loop {
            if !self.may_enter(state) {
                return false;
            }
            let entered =
                self.state.0.compare_exchange_weak(state, state + 1, Ordering::SeqCst, Ordering::SeqCst);
            match entered {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: this thread has entered an open job, so it was stored, and stays while this thread is inside.
        let nothing_left =
            unsafe { *self.job.get() }.is_none_or(|job| self.take_parts(job, worker, may_go_on));
        // From here on the job is not touched.
        if nothing_left {
            // Nobody needs to come any more.
            self.state.0.fetch_and(!OPEN, Ordering::SeqCst);
        }
        if self.state.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.caller.wake(1);
        }
        true
    }

    /// Does parts as the caller until none is left, closes the job and waits for the workers inside. `between` is called before
    /// each part. Returns a panic of one of the parts.
    pub(super) fn finish(&self, mut between: impl FnMut()) -> Option<Box<dyn Any + Send>> {
        let go_on = || {
            between();
            true
        };
        // SAFETY: written by this thread, and nobody else writes it.
        if let Some(job) = unsafe { *self.job.get() } {
            self.take_parts(job, 0, go_on);
        }
        let is_empty = || self.state.0.load(Ordering::SeqCst) == 0;
        if self.state.0.fetch_and(!OPEN, Ordering::SeqCst) & !OPEN != 0 && !spin(CALLER_SPINS, is_empty) {
            while !is_empty() {
                self.caller.sleep_unless(is_empty);
            }
        }
        lock(&self.panic).take()
    }

    /// Runs parts, those of the worker's own share first, until none is left or `may_go_on` says no; returns whether none is left. A
    /// panic is kept for the caller, and the other parts are run all the same.
    fn take_parts(&self, job: Job, worker: usize, mut may_go_on: impl FnMut() -> bool) -> bool {
        let own = worker % job.shares;
        for index in (own..job.shares).chain(0..own) {
            let OwnLine(share) = &self.shares[index];
            let end = share.end.load(Ordering::Relaxed);
            while share.next.load(Ordering::Relaxed) < end {
                if !may_go_on() {
                    return false;
                }
                let part = share.next.fetch_add(1, Ordering::Relaxed);
                if part >= end {
                    break;
                }
                // SAFETY: the caller keeps the closure until this thread has left the job.
                let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*job.work)(worker, part) }));
                if let Err(panic) = outcome {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
        }
        true
    }
}
