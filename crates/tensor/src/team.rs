//! The thread team: a fixed set of threads that run one closure together, many thousand times a second.
//!
//! No allocation and, while work keeps coming, no system call per run: idle workers spin for some
//! microseconds, then yield their core, then sleep. The team splits work by fixed ranges and knows nothing
//! of what the work is; it never splits a sum.

use crate::TensorError;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How to start a [`ThreadTeam`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeamOptions {
    /// Threads that work together, the caller among them; 0 counts as 1.
    pub threads: usize,
    /// Whether to bind each started worker to one of the processors allowed to this process (Linux only).
    /// Worth it on a machine of one's own; harmful where others use the same cores.
    pub pin: bool,
}

/// A fixed number of threads that run one closure together. The thread that calls [`ThreadTeam::run`] is
/// worker 0.
pub struct ThreadTeam {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
}

/// The work of one run, with its lifetime erased; valid until `remaining` has reached zero.
type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    job: UnsafeCell<Option<Job>>,
    generation: AtomicUsize,
    remaining: AtomicUsize,
    stop: AtomicBool,
    workers_asleep: Sleepers,
    caller_asleep: Sleepers,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    patience: Patience,
}

// SAFETY: `job` is written only by the caller that holds `turn` while no worker runs (`remaining` is zero),
// and read by workers only after they have seen the `generation` that was stored after the write.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` refers to a `Sync` closure, so it may be used from any thread.
unsafe impl Send for Shared {}

thread_local! {
    static INSIDE_A_RUN: Cell<bool> = const { Cell::new(false) };
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
                job: UnsafeCell::new(None),
                generation: AtomicUsize::new(0),
                remaining: AtomicUsize::new(0),
                stop: AtomicBool::new(false),
                workers_asleep: Sleepers::default(),
                caller_asleep: Sleepers::default(),
                panic: Mutex::new(None),
                patience: Patience::for_team_of(threads),
            }),
            workers: Vec::with_capacity(threads - 1),
            turn: Mutex::new(()),
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

    /// Number of threads, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(worker)` once for every worker of `0..threads()` and returns when all have finished. Within a
    /// job, a further `run` calls its closure for all workers one after the other on the same thread.
    ///
    /// # Panics
    /// When `job` panics on any thread, the panic goes on in the caller after all have finished.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || INSIDE_A_RUN.get() {
            (0..self.threads()).for_each(job);
            return;
        }
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; workers use the pointer before they lower `remaining`, and this
        // function does not return before `remaining` is zero.
        let erased = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                job,
            )
        };
        // SAFETY: this thread holds `turn` and no worker runs, so nobody else touches `job`.
        unsafe { *shared.job.get() = Some(erased) };
        shared.remaining.store(self.workers.len(), Ordering::SeqCst);
        shared.generation.fetch_add(1, Ordering::SeqCst);
        shared.workers_asleep.wake();

        INSIDE_A_RUN.set(true);
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        INSIDE_A_RUN.set(false);
        shared.patience.wait(&shared.caller_asleep, || shared.remaining.load(Ordering::SeqCst) == 0);
        let theirs = lock(&shared.panic).take();
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Splits `0..count` into one contiguous range per worker and runs `job(worker, range)`; empty ranges are
    /// not run.
    pub fn for_ranges(&self, count: usize, job: impl Fn(usize, Range<usize>) + Sync) {
        let threads = self.threads();
        self.run(&|worker| {
            let range = share(count, threads, worker);
            if !range.is_empty() {
                job(worker, range);
            }
        });
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
        self.for_ranges(length.div_ceil(width), |_, chunks| {
            for index in chunks {
                let range = index * width..((index + 1) * width).min(length);
                // SAFETY: chunk indices are split over the workers, so no two workers get the same chunk.
                job(index, unsafe { data.slice(range) });
            }
        });
    }
}

impl Drop for ThreadTeam {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        self.shared.workers_asleep.wake();
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
    fn work(&self, worker: usize) {
        INSIDE_A_RUN.set(true);
        let mut seen = 0;
        loop {
            self.patience.wait(&self.workers_asleep, || self.generation.load(Ordering::SeqCst) != seen);
            seen = seen.wrapping_add(1);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the caller stored the job before this generation and keeps it until `remaining` is zero,
            // to which this worker contributes below.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job {
                // SAFETY: as above, the closure is alive until this worker lowers `remaining`.
                let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(worker) }));
                if let Err(panic) = outcome {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
            if self.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.caller_asleep.wake();
            }
        }
    }
}

/// How long to spin and to yield before sleeping.
struct Patience {
    spin: Duration,
    give_way: Duration,
}

impl Patience {
    /// Spinning helps only when every thread can have a core of its own.
    fn for_team_of(threads: usize) -> Patience {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Patience {
            spin: Duration::from_micros(if threads <= cores { 20 } else { 0 }),
            give_way: Duration::from_micros(200),
        }
    }

    fn wait(&self, sleepers: &Sleepers, ready: impl Fn() -> bool) {
        // A job often arrives within less time than reading the clock takes.
        for _ in 0..64 {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        let start = Instant::now();
        loop {
            if ready() {
                return;
            }
            let waited = start.elapsed();
            if waited < self.spin {
                std::hint::spin_loop();
            } else if waited < self.spin + self.give_way {
                std::thread::yield_now();
            } else {
                return sleepers.sleep_until(ready);
            }
        }
    }
}

/// Threads asleep until a condition holds. Whoever makes the condition true calls `wake` afterwards.
#[derive(Default)]
struct Sleepers {
    count: AtomicUsize,
    lock: Mutex<()>,
    condition: Condvar,
}

impl Sleepers {
    fn sleep_until(&self, ready: impl Fn() -> bool) {
        let mut guard = lock(&self.lock);
        // Counted before looking: either this thread sees the condition, or the waker sees the count.
        self.count.fetch_add(1, Ordering::SeqCst);
        while !ready() {
            guard = self.condition.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.lock));
            self.condition.notify_all();
        }
    }
}

/// The contiguous part of `0..count` that belongs to `worker` of `threads`; sizes differ by at most one.
pub fn share(count: usize, threads: usize, worker: usize) -> Range<usize> {
    let (size, rest) = (count / threads, count % threads);
    let start = worker * size + worker.min(rest);
    start..start + size + usize::from(worker < rest)
}

/// A slice that several threads may write at once, each its own parts.
pub struct DisjointMut<'a, T> {
    start: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `slice`, whose callers promise disjoint parts; elements move between threads.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}
// SAFETY: as for a `&mut [T]`.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Takes over `data` for the lifetime of the borrow.
    pub fn new(data: &'a mut [T]) -> DisjointMut<'a, T> {
        DisjointMut { start: data.as_mut_ptr(), length: data.len(), borrow: PhantomData }
    }

    /// The start of the data, for kernels that write strided parts.
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the result lives, no other slice that overlaps `range` may be used.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    #[allow(clippy::mut_from_ref, reason = "callers promise disjoint parts")]
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} of {}", self.length);
        // SAFETY: in bounds by the assertion; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(target_os = "linux")]
mod affinity {
    /// The processors that this process may use.
    pub(super) fn allowed() -> Vec<usize> {
        // SAFETY: an all-zero cpu_set_t is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid, writable cpu_set_t of the size given.
        let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
        if status != 0 {
            return Vec::new();
        }
        // SAFETY: the index stays below the size of the set.
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
    }

    /// Binds the calling thread to one processor; a refusal leaves it unbound, which is slower, never wrong.
    pub(super) fn bind(processor: usize) {
        // SAFETY: an all-zero cpu_set_t is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `processor` came from `allowed`, so it is below the size of the set.
        unsafe { libc::CPU_SET(processor, &mut set) };
        // SAFETY: `set` is a valid cpu_set_t of the size given.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    /// Binding is not offered here.
    pub(super) fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub(super) fn bind(_processor: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_runs_once_per_run() {
        for threads in [1, 2, 3, 7] {
            let team = ThreadTeam::new(threads).unwrap();
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=200 {
                team.run(&|worker| {
                    counts[worker].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
            }
        }
    }

    #[test]
    fn workers_that_fell_asleep_wake_up_again() {
        let team = ThreadTeam::new(3).unwrap();
        let count = AtomicUsize::new(0);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(3));
            team.run(&|worker| {
                if worker == 2 {
                    std::thread::sleep(Duration::from_millis(3));
                }
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 15);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = ThreadTeam::new(2).unwrap();
        for guilty in [0, 1] {
            let outcome = catch_unwind(AssertUnwindSafe(|| team.run(&|worker| assert_ne!(worker, guilty))));
            assert!(outcome.is_err());
        }
        let count = AtomicUsize::new(0);
        team.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }

    #[test]
    fn a_run_within_a_run_and_runs_from_two_threads_finish() {
        let team = ThreadTeam::new(2).unwrap();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        team.run(&|_| {
                            team.run(&|_| {
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 2 * 100 * 2 * 2);
    }

    #[test]
    fn shares_cover_everything_once() {
        for count in 0..40 {
            for threads in 1..9 {
                let mut next = 0;
                for worker in 0..threads {
                    let range = share(count, threads, worker);
                    assert_eq!(range.start, next);
                    next = range.end;
                }
                assert_eq!(next, count);
            }
        }
    }

    #[test]
    fn chunks_are_each_visited_once() {
        let team = ThreadTeam::with_options(TeamOptions { threads: 3, pin: true }).unwrap();
        let mut data = vec![0_usize; 103];
        team.for_each_chunk(&mut data, 10, |index, chunk| chunk.iter_mut().for_each(|x| *x += index + 1));
        assert!(data.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
    }
}
