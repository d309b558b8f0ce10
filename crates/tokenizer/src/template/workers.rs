//! Threads that render. Each has a large stack and keeps the compiled template, because starting a thread and compiling
//! take longer than rendering a chat.
//!
//! * A template starts a thread when all its threads are busy, as many as the machine has cores; further renderings wait.
//! * A thread ends after [`IDLE`] without work, so that an idle program keeps none. It also ends after a rendering that
//!   failed or used much of its budget: only such a one can have touched much of its stack, which then is freed.
//! * When the engine panics, the rendering fails, the thread ends, and the next rendering starts another.
//! * A thread that has not answered after [`PATIENCE`] is given up: its rendering fails, and the next one starts another
//!   thread. A thread cannot be killed; this one ends when its work does. The budget of work makes that all but
//!   impossible, and after [`MAX_GIVEN_UP`] such threads the template is not run any more until one of them has ended.
//!
//! Nothing passes from one rendering to the next: compiled templates are never changed, and variables, the budget and the
//! time are set anew each time.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Sources;
use super::sandbox::{Engine, STACK_BYTES};
use crate::TemplateError;

/// How long a thread without work is kept.
const IDLE: Duration = Duration::from_secs(5);
/// How long a rendering may take, waiting for a thread included. The budget of work ends after about a second on an idle
/// machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Threads that hang at the same time before a template is not run any more.
const MAX_GIVEN_UP: usize = 4;
/// Limits of the number of threads for any number of cores.
const LEAST_THREADS: usize = 2;
const MOST_THREADS: usize = 64;

/// The threads of one template.
pub(super) struct Workers {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    sources: Arc<Sources>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    idle: Duration,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that work or wait for work.
    threads: usize,
    /// Threads without a job: they wait, or look for the next one.
    idle: usize,
    given_up: usize,
    /// The template was dropped.
    closed: bool,
}

impl Queue {
    /// A thread without a job ends.
    fn end_thread(&mut self) {
        self.threads -= 1;
        self.idle -= 1;
    }
}

/// Work, which returns what hands its result over.
type Work = Box<dyn FnOnce(&mut Engine<'_>) -> Box<dyn FnOnce()> + Send>;

struct Job {
    work: Work,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    Finished,
    /// Nobody waits for the result any more.
    GivenUp,
}

impl Workers {
    pub(super) fn new(sources: Arc<Sources>) -> Self {
        Self::with_times(sources, IDLE, PATIENCE)
    }

    fn with_times(sources: Arc<Sources>, idle: Duration, patience: Duration) -> Self {
        let shared = Shared { sources, queue: Mutex::default(), arrived: Condvar::new(), idle };
        Self { shared: Arc::new(shared), patience }
    }

    /// Does `work` on one of the threads and returns its result.
    ///
    /// # Errors
    /// [`TemplateError::Failed`] when no thread can be started, the engine panics, or a thread hangs.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine<'_>) -> T + Send + 'static,
    ) -> Result<T, TemplateError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let progress = Arc::new(Mutex::new(Progress::Waiting));
        let work: Work = Box::new(move |engine| {
            let result = work(engine);
            // The receiver is gone only when it has given up.
            Box::new(move || drop(answer.send(result)))
        });
        self.shared.add(Job { work, progress: progress.clone() })?;
        match answered.recv_timeout(self.patience) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if self.shared.give_up(&progress) {
            let seconds = self.patience.as_secs();
            return Err(TemplateError::Failed(format!("it has not finished after {seconds} seconds")));
        }
        answered.recv().map_err(|_| panicked())
    }

    #[cfg(test)]
    fn threads(&self) -> usize {
        lock(&self.shared.queue).threads
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    fn add(self: &Arc<Self>, job: Job) -> Result<(), TemplateError> {
        let mut queue = lock(&self.queue);
        if queue.given_up >= MAX_GIVEN_UP {
            let reason = format!("{MAX_GIVEN_UP} earlier renderings have not finished yet");
            return Err(TemplateError::Failed(reason));
        }
        queue.jobs.push_back(job);
        if queue.idle >= queue.jobs.len() {
            self.arrived.notify_one();
            return Ok(());
        }
        match self.start_thread(&mut queue) {
            Err(error) if queue.threads == 0 => {
                queue.jobs.pop_back();
                Err(TemplateError::Failed(format!("no thread can be started for it: {error}")))
            }
            // The threads that there are will come to it.
            _ => Ok(()),
        }
    }

    /// Starts a thread unless there are as many as there may be.
    fn start_thread(self: &Arc<Self>, queue: &mut Queue) -> std::io::Result<()> {
        if queue.threads < most_threads() {
            let shared = self.clone();
            let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
            thread.spawn(move || shared.serve())?;
            queue.threads += 1;
            queue.idle += 1;
        }
        Ok(())
    }

    /// Whether the job had not finished; then its result is no longer wanted.
    fn give_up(self: &Arc<Self>, progress: &Mutex<Progress>) -> bool {
        let mut queue = lock(&self.queue);
        let before = std::mem::replace(&mut *lock(progress), Progress::GivenUp);
        if before == Progress::Running {
            queue.threads -= 1;
            queue.given_up += 1;
            if !queue.jobs.is_empty() {
                // When none can be started, those who wait give up in their turn.
                drop(self.start_thread(&mut queue));
            }
        }
        before != Progress::Finished
    }

    /// What a thread does.
    fn serve(&self) {
        let mut engine = Engine::new(&self.sources);
        while let Some(Job { work, progress }) = self.next_job() {
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut engine)));
            let mut queue = lock(&self.queue);
            if std::mem::replace(&mut *lock(&progress), Progress::Finished) == Progress::GivenUp {
                queue.given_up -= 1;
                return;
            }
            let spent = result.is_err() || engine.is_worn();
            let needed = queue.threads == 1 && !queue.jobs.is_empty();
            let ends = spent && !needed;
            if ends {
                queue.threads -= 1;
            } else {
                // Before the answer, so that whoever gets it finds this thread free for the next rendering.
                queue.idle += 1;
            }
            drop(queue);
            if let Ok(hand_over) = result {
                hand_over();
            }
            if ends {
                return;
            }
            if spent {
                engine = Engine::new(&self.sources);
            }
        }
    }

    /// Waits for a job; `None` when the thread should end, which then no longer counts.
    fn next_job(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            while let Some(job) = queue.jobs.pop_front() {
                let mut progress = lock(&job.progress);
                if *progress == Progress::Waiting {
                    *progress = Progress::Running;
                    drop(progress);
                    queue.idle -= 1;
                    return Some(job);
                }
            }
            if queue.closed {
                queue.end_thread();
                return None;
            }
            let (woken, waited) =
                self.arrived.wait_timeout(queue, self.idle).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if waited.timed_out() && queue.jobs.is_empty() {
                queue.end_thread();
                return None;
            }
        }
    }
}

fn most_threads() -> usize {
    thread::available_parallelism()
        .map_or(LEAST_THREADS, NonZeroUsize::get)
        .clamp(LEAST_THREADS, MOST_THREADS)
}

fn panicked() -> TemplateError {
    TemplateError::Failed("the template engine panicked".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn workers(idle: Duration, patience: Duration) -> Workers {
        let sources = Sources { default: "x".to_owned(), tool_use: None };
        Workers::with_times(Arc::new(sources), idle, patience)
    }

    /// Waits until `condition` holds.
    fn wait_for(condition: impl Fn() -> bool) {
        while !condition() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_is_kept_for_the_next_rendering_and_ends_when_idle() {
        let kept = workers(LONG, LONG);
        let first = kept.run(|_| thread::current().id()).unwrap();
        assert_eq!(kept.run(|_| thread::current().id()).unwrap(), first);
        assert_eq!(kept.threads(), 1);
        let short = workers(Duration::from_millis(1), LONG);
        short.run(|_| ()).unwrap();
        wait_for(|| short.threads() == 0);
        assert_eq!(short.run(|_| 5).unwrap(), 5);
    }

    #[test]
    fn a_thread_that_panics_is_replaced() {
        let workers = workers(LONG, LONG);
        let error = workers.run(|_| -> u32 { panic!("on purpose") }).unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        assert_eq!(workers.run(|_| 5).unwrap(), 5);
    }

    #[test]
    fn a_thread_that_hangs_is_given_up_and_replaced() {
        let workers = workers(LONG, Duration::from_millis(200));
        let (release, released) = channel::<()>();
        let error = workers.run(move |_| released.recv()).unwrap_err();
        assert!(error.to_string().contains("has not finished"), "{error}");
        assert_eq!(workers.threads(), 0);
        assert_eq!(lock(&workers.shared.queue).given_up, 1);
        wait_for(|| workers.run(|_| 5).is_ok());
        drop(release);
        wait_for(|| lock(&workers.shared.queue).given_up == 0);
        assert_eq!(workers.threads(), 1);
    }

    #[test]
    fn a_template_whose_renderings_hang_is_not_run_until_one_has_ended() {
        let workers = workers(LONG, Duration::from_millis(50));
        let mut releases = Vec::new();
        while lock(&workers.shared.queue).given_up < MAX_GIVEN_UP {
            let (release, released) = channel::<()>();
            workers.run(move |_| released.recv()).unwrap_err();
            releases.push(release);
        }
        let error = workers.run(|_| 5).unwrap_err();
        assert!(error.to_string().contains("not finished yet"), "{error}");
        releases.clear();
        wait_for(|| lock(&workers.shared.queue).given_up == 0);
        wait_for(|| workers.run(|_| 5).is_ok());
    }

    #[test]
    fn dropping_the_template_ends_its_threads() {
        let workers = workers(LONG, LONG);
        workers.run(|_| ()).unwrap();
        let shared = workers.shared.clone();
        drop(workers);
        wait_for(|| lock(&shared.queue).threads == 0);
    }
}
