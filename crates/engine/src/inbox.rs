//! The queue between the threads that submit and the engine's thread, and the counters that both sides share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use zhenjin_model::Model;

use crate::request::{Event, Request, SubmitError};
use crate::stats::EngineStats;
use crate::weights::WeightsVersion;

/// A request that is to be accepted.
pub(crate) struct Entrant {
    pub(crate) request: Request,
    pub(crate) seed: u64,
    /// Where its events go.
    pub(crate) events: UnboundedSender<Event>,
}

/// A request on its way to the scheduler.
pub(crate) struct Submission {
    pub(crate) id: u64,
    pub(crate) request: Request,
    pub(crate) seed: u64,
    pub(crate) submitted: Instant,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) weights: WeightsVersion,
}

/// What the engine does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes new ones.
    Open,
    /// Takes no new ones, finishes the others.
    Draining,
    /// Ends all.
    Stopping,
}

struct State {
    arrivals: Vec<Submission>,
    /// Requests accepted and not ended.
    inside: usize,
    next_id: u64,
    phase: Phase,
    /// Seconds that a request holds its place, averaged over the latest ones; 0 before the first.
    seconds_inside: f64,
    /// Those of new requests.
    weights: WeightsVersion,
    /// Whether pages that no request holds are to be forgotten before the next arrival.
    forgets: bool,
}

/// What the scheduler takes between two steps.
pub(crate) struct Taken {
    pub(crate) arrivals: Vec<Submission>,
    pub(crate) phase: Phase,
    /// Those of new requests.
    pub(crate) weights: WeightsVersion,
    /// Whether pages that no request holds are to be forgotten first.
    pub(crate) forgets: bool,
}

/// Shared by the engine's thread and the threads that submit.
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    stats: Mutex<EngineStats>,
    max_batch: usize,
    limit: usize,
}

/// Ignores poisoning: the state is plain numbers, which a panic elsewhere leaves usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    pub(crate) fn new(
        max_batch: usize,
        queue_limit: usize,
        stats: EngineStats,
        weights: WeightsVersion,
    ) -> Arc<Inbox> {
        let state = State {
            arrivals: Vec::new(),
            inside: 0,
            next_id: 0,
            phase: Phase::Open,
            seconds_inside: 0.0,
            weights,
            forgets: false,
        };
        Arc::new(Inbox {
            state: Mutex::new(state),
            changed: Condvar::new(),
            stats: Mutex::new(stats),
            max_batch,
            limit: max_batch.saturating_add(queue_limit),
        })
    }

    /// The weights of new requests.
    pub(crate) fn weights(&self) -> WeightsVersion {
        lock(&self.state).weights.clone()
    }

    /// Gives requests that come from now on other weights.
    pub(crate) fn replace_weights(&self, model: Arc<Model>) {
        let mut state = lock(&self.state);
        state.weights = WeightsVersion { number: state.weights.number + 1, model: Some(model) };
        self.changed.notify_all();
    }

    /// Has pages that no request holds forgotten before requests that come from now on.
    pub(crate) fn forget_prefixes(&self) {
        lock(&self.state).forgets = true;
    }

    /// Accepts requests that belong together: all of them, or none where the queue has not so many places left or is closed. Returns their
    /// weights.
    pub(crate) fn submit(&self, entrants: Vec<Entrant>) -> Result<WeightsVersion, SubmitError> {
        let (wanted, limit) = (entrants.len(), self.limit);
        if wanted > limit {
            // No waiting helps.
            let reason = format!(
                "{wanted} answers at once are more than the {limit} that this server has places for, running and waiting ones together"
            );
            return Err(SubmitError::invalid("n", reason));
        }
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Err(SubmitError::ShuttingDown);
        }
        let missing = state.inside.saturating_add(wanted).saturating_sub(limit);
        if missing > 0 {
            let retry_after = retry_after(&state, self.max_batch, missing);
            return Err(SubmitError::QueueFull { waiting: state.inside, limit, retry_after });
        }
        let (weights, submitted) = (state.weights.clone(), Instant::now());
        state.inside += wanted;
        for Entrant { request, seed, events } in entrants {
            state.next_id += 1;
            let (id, weights) = (state.next_id, weights.clone());
            state.arrivals.push(Submission { id, request, seed, submitted, events, weights });
        }
        self.changed.notify_all();
        Ok(weights)
    }

    /// When a place should be free once all are taken; `None` before the first request has ended.
    pub(crate) fn expected_wait(&self) -> Option<Duration> {
        let state = lock(&self.state);
        (state.seconds_inside > 0.0).then(|| retry_after(&state, self.max_batch, 1))
    }

    /// Takes what has arrived, and the weights of new requests; waits for something to do if `idle`. `known` is the
    /// number of the weights that the caller knows of.
    pub(crate) fn take(&self, idle: bool, known: u64) -> Taken {
        let mut state = lock(&self.state);
        while idle
            && state.arrivals.is_empty()
            && state.phase != Phase::Stopping
            && state.weights.number == known
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Taken {
            arrivals: std::mem::take(&mut state.arrivals),
            phase: state.phase,
            weights: state.weights.clone(),
            forgets: std::mem::take(&mut state.forgets),
        }
    }

    /// A request has ended, `inside` after its submission.
    pub(crate) fn ended(&self, inside: Duration) {
        const WEIGHT_OF_LATEST: f64 = 0.1;
        let mut state = lock(&self.state);
        state.inside = state.inside.saturating_sub(1);
        let seconds = inside.as_secs_f64();
        state.seconds_inside = if state.seconds_inside == 0.0 {
            seconds
        } else {
            state.seconds_inside + WEIGHT_OF_LATEST * (seconds - state.seconds_inside)
        };
        self.changed.notify_all();
    }

    /// Moves on to a later phase.
    pub(crate) fn advance_to(&self, phase: Phase) {
        let mut state = lock(&self.state);
        if phase != Phase::Open && state.phase != Phase::Stopping {
            state.phase = phase;
        }
        self.changed.notify_all();
    }

    /// Ends everything that has arrived and takes no more: the engine's thread is gone.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.phase = Phase::Stopping;
        state.arrivals.clear();
        state.inside = 0;
        self.changed.notify_all();
    }

    /// Waits until no request is inside, at most for `limit`. True if none is.
    pub(crate) fn wait_until_empty(&self, limit: Duration) -> bool {
        let state = lock(&self.state);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| state.inside > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.inside == 0
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let waiting_outside = lock(&self.state).arrivals.len();
        let mut stats = *lock(&self.stats);
        stats.waiting += waiting_outside;
        stats
    }

    pub(crate) fn publish(&self, stats: EngineStats) {
        *lock(&self.stats) = stats;
    }
}

/// When `missing` places should be free: with every place taken, one becomes so about every (time that a request takes / places).
fn retry_after(state: &State, max_batch: usize, missing: usize) -> Duration {
    const LONGEST: f64 = 120.0;
    let seconds = state.seconds_inside / max_batch.max(1) as f64 * missing as f64;
    Duration::from_secs_f64(seconds.clamp(1.0, LONGEST))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::sampling::Sampling;

    fn entrants(count: usize) -> Vec<Entrant> {
        let entrant = |_| {
            let request = Request::new(vec![1], 1, Sampling::default());
            Entrant { request, seed: 0, events: unbounded_channel().0 }
        };
        (0..count).map(entrant).collect()
    }

    /// Regression: requests that belong together took places one by one, some began before the others were refused, and what can never
    /// fit was told to try again.
    #[test]
    fn requests_that_belong_together_get_places_together_or_none() {
        let inbox = Inbox::new(2, 3, EngineStats::default(), WeightsVersion::first(None));
        assert!(inbox.expected_wait().is_none());
        inbox.submit(entrants(3)).expect("5 places");
        match inbox.submit(entrants(3)) {
            Err(SubmitError::QueueFull { waiting: 3, limit: 5, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(inbox.take(false, 0).arrivals.len(), 3, "none of those that were refused");
        inbox.submit(entrants(2)).expect("2 places are left");
        match inbox.submit(entrants(6)) {
            Err(SubmitError::Invalid { field: "n", reason }) => {
                assert!(reason.contains('6') && reason.contains('5'), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        for _ in 0..5 {
            inbox.ended(Duration::from_secs(8));
        }
        assert_eq!(inbox.expected_wait(), Some(Duration::from_secs(4)));
        inbox.submit(entrants(4)).expect("all have ended");
        match inbox.submit(entrants(3)) {
            Err(SubmitError::QueueFull { retry_after, .. }) => {
                assert_eq!(retry_after, Duration::from_secs(8))
            }
            other => panic!("{other:?}"),
        }
    }
}
