//! Callers whose work may wait, such as texts to be embedded beside chats: while a foreground caller computes they have no workers, and
//! pause after each part, so that a small share of the time is left to them. A clock decides when, which is harmless: no
//! result depends on it.

use super::PLACES;
use super::job::Place;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// A background caller pauses so many times as long as its part took: about a sixth of one thread's time is left to it.
const PAUSES_FOR_EACH_PART: u32 = 5;
/// The shortest and the longest pause. The system does not keep shorter ones.
const PAUSE: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(5));
/// Foreground callers count as computing for so long after their last run: the sampling between two steps, a client that reads.
const STILL_COMPUTING: Duration = Duration::from_millis(2);

thread_local! {
    /// When the thread began its last part in the background.
    static LAST_PART: Cell<Option<Instant>> = const { Cell::new(None) };
    static IN_BACKGROUND: Cell<bool> = const { Cell::new(false) };
    static LAST_SEEN: RefCell<LastSeen> = const { RefCell::new(LastSeen { runs: [0; PLACES], computing: None }) };
}

/// What a background caller saw of the foreground.
struct LastSeen {
    /// The runs that had been begun in each place.
    runs: [usize; PLACES],
    /// When a foreground caller computed last.
    computing: Option<Instant>,
}

/// Whether the calling thread's runs are in the background.
pub(crate) fn is_background() -> bool {
    IN_BACKGROUND.get()
}

/// Does `work` with the calling thread in the background, also when it panics in between.
pub(super) fn in_background<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IN_BACKGROUND.set(self.0);
        }
    }
    let _before = Before(IN_BACKGROUND.replace(true));
    work()
}

/// Whether a foreground caller has a run that a worker could enter.
pub(super) fn foreground_wants_workers(places: &[Place]) -> bool {
    places.iter().any(|place| !place.is_background() && place.is_open())
}

/// Whether a foreground caller computes, or did a moment ago.
pub(super) fn foreground_computes(places: &[Place]) -> bool {
    LAST_SEEN.with_borrow_mut(|seen| {
        let mut is_computing = false;
        for (place, runs_seen) in places.iter().zip(&mut seen.runs) {
            let (is_running, runs) = place.activity();
            let has_run = std::mem::replace(runs_seen, runs) != runs;
            is_computing |= !place.is_background() && (is_running || has_run);
        }
        if is_computing {
            seen.computing = Some(Instant::now());
        }
        is_computing || seen.computing.is_some_and(|last| last.elapsed() < STILL_COMPUTING)
    })
}

/// Before a part of a background caller's run: pauses while foreground callers compute.
pub(super) fn before_part(places: &[Place]) {
    if let Some(last) = LAST_PART.get()
        && foreground_computes(places)
    {
        std::thread::sleep((last.elapsed() * PAUSES_FOR_EACH_PART).clamp(PAUSE.0, PAUSE.1));
    }
    LAST_PART.set(Some(Instant::now()));
}
