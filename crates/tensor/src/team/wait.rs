//! How threads wait: they spin for a moment, then sleep. They never yield: a thread that yields on a busy machine loses
//! its turn to every other process, in each of the hundreds of operations of a token.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Spins until `ready` or until `most` has passed; returns whether it is ready.
pub(super) fn spin(most: Duration, ready: impl Fn() -> bool) -> bool {
    /// Reading the clock takes longer than a look at a flag.
    const LOOKS_PER_CLOCK: usize = 16;
    let mut start = None;
    loop {
        for _ in 0..LOOKS_PER_CLOCK {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= most {
            return ready();
        }
    }
}

/// Threads asleep until they are woken. Whoever makes something ready calls [`Sleepers::wake`] afterwards.
#[derive(Default)]
pub(super) struct Sleepers {
    /// Threads that sleep and have not been woken.
    asleep: AtomicUsize,
    /// How many of those that were woken have not noticed it yet.
    woken: Mutex<usize>,
    condition: Condvar,
}

impl Sleepers {
    /// Sleeps until woken, unless `ready` already. What was waited for may be gone when this returns.
    pub(super) fn sleep_unless(&self, ready: impl Fn() -> bool) {
        let mut woken = lock(&self.woken);
        // Counted before looking: either this thread sees that it is ready, or the waker sees the count.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        if ready() {
            self.asleep.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        while *woken == 0 {
            woken = self.condition.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        *woken -= 1;
    }

    /// Threads that sleep and have not been woken.
    pub(super) fn asleep(&self) -> usize {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Wakes up to `most` threads.
    pub(super) fn wake(&self, most: usize) {
        if most == 0 || self.asleep() == 0 {
            return;
        }
        let mut woken = lock(&self.woken);
        let count = most.min(self.asleep());
        // Counted down by the waker, so that a thread that needs long to wake up is not woken again and again.
        self.asleep.fetch_sub(count, Ordering::SeqCst);
        *woken += count;
        drop(woken);
        for _ in 0..count {
            self.condition.notify_one();
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
