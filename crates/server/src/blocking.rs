//! Work that would hold up other requests if it ran on the threads that serve them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::ApiError;

/// Requests of up to so many bytes are prepared apart from longer ones: they take milliseconds, and must not wait for what takes seconds.
const SHORT: usize = 64 << 10;
/// Requests that are at an encoder at once. They wait for one another's passes there, each on a thread of its own, and must leave
/// threads to everything else.
const ENCODING: usize = 32;
/// Requests of up to so many tokens are a pass or two of an encoder. They wait for passes, and must not wait for the whole jobs of others.
const FEW_TOKENS: usize = 512;

/// Turns at the processors, for work that computes. Without them as many requests would be rendered, tokenised and compiled at once as
/// there are threads for waiting, beside the engine and at its priority.
///
/// Whoever waits for one holds no other, and the work itself waits for none: so there is always one that goes on.
#[derive(Clone)]
pub(crate) struct Gates {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
    few_tokens: Arc<Semaphore>,
    encoders: Arc<Semaphore>,
}

impl Gates {
    /// For the processors of this machine.
    pub(crate) fn new() -> Gates {
        Gates::of(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    fn of(processors: usize) -> Gates {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Gates {
            // Two at least: one that compiles a format for long is not all of them.
            short: semaphore((processors / 2).max(2)),
            long: semaphore((processors / 2).max(1)),
            few_tokens: semaphore(ENCODING),
            encoders: semaphore(ENCODING),
        }
    }

    /// Runs work that computes for a request of so many `bytes`, when it is its turn: first come, first served.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(if bytes <= SHORT { &self.short } else { &self.long }, work).await
    }

    /// Runs work that waits for an encoder, with so many tokens.
    pub(crate) async fn encode<T: Send + 'static>(
        &self,
        tokens: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(if tokens <= FEW_TOKENS { &self.few_tokens } else { &self.encoders }, work).await
    }
}

async fn in_turn<T: Send + 'static>(
    gate: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    // Nobody closes it.
    let turn: Option<OwnedSemaphorePermit> = Arc::clone(gate).acquire_owned().await.ok();
    blocking(move || {
        // Held until the work ends, also when its caller goes away meanwhile.
        let _turn = turn;
        work()
    })
    .await
}

/// Runs work that waits for the disk, or computes for a moment, beside the threads that serve requests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken_task(&error)))
}

/// Runs `work` to its end even if the request that waits for it goes away.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(broken_task(&error)))
}

/// A task that panicked.
fn broken_task(error: &tokio::task::JoinError) -> ApiError {
    tracing::error!(%error, "a task broke");
    ApiError::internal("something went wrong inside the server; its log says what")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    /// Regression: every request that waited was rendered and tokenised at once, each on a thread of its own.
    #[tokio::test]
    async fn no_more_work_computes_at_once_than_there_are_turns() {
        let gates = Gates::of(4);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = (0..16).map(|_| {
            let (gates, running, most) = (gates.clone(), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                gates.compute(SHORT + 1, work).await
            })
        });
        for work in works.collect::<Vec<_>>() {
            work.await.expect("no panic").expect("done");
        }
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    }

    #[tokio::test]
    async fn a_short_request_does_not_wait_for_long_ones() {
        let gates = Gates::of(1);
        let (end, ended) = mpsc::channel::<()>();
        let (own, waiting) = (gates.clone(), gates.clone());
        let long = tokio::spawn(async move {
            own.compute(SHORT + 1, move || {
                ended.recv().ok();
                Ok(())
            })
            .await
        });
        let next = tokio::spawn(async move { waiting.compute(8 << 20, || Ok(())).await });
        assert_eq!(gates.compute(SHORT, || Ok(1)).await.expect("done"), 1);
        assert_eq!(gates.encode(1, || Ok(2)).await.expect("done"), 2);
        drop(end);
        long.await.expect("no panic").expect("done");
        next.await.expect("no panic").expect("done");
    }

    /// Regression: a single text waited until one of 32 requests with thousands of texts had ended.
    #[tokio::test]
    async fn a_single_text_does_not_wait_for_whole_jobs_at_an_encoder() {
        let gates = Gates::of(2);
        let (ends, waits) = mpsc::channel::<()>();
        let waits = Arc::new(std::sync::Mutex::new(waits));
        let jobs = (0..2 * ENCODING).map(|_| {
            let (gates, waits) = (gates.clone(), Arc::clone(&waits));
            tokio::spawn(async move {
                let work = move || {
                    let _ended = waits.lock().map(|waits| waits.recv());
                    Ok(())
                };
                gates.encode(FEW_TOKENS + 1, work).await
            })
        });
        let jobs: Vec<_> = jobs.collect();
        tokio::task::yield_now().await;
        assert_eq!(gates.encode(FEW_TOKENS, || Ok(3)).await.expect("done"), 3);
        drop(ends);
        for job in jobs {
            job.await.expect("a task").expect("done");
        }
    }
}
