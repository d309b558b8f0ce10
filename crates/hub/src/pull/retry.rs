//! Trying again: how often, after which wait, and when to give up. This file does not know what is tried.

use std::thread;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::Response;

use super::http::{host_of, retry_after};
use super::{PullContext, PullEvent, SourceError};

/// How often a waiting pull looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Why an attempt failed.
pub(crate) enum Attempt {
    /// Trying again may help.
    Again {
        reason: String,
        /// What the server asked for.
        wait: Option<Duration>,
    },
    /// Trying again cannot help.
    Final(SourceError),
}

impl From<SourceError> for Attempt {
    fn from(error: SourceError) -> Attempt {
        Attempt::Final(error)
    }
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    failures_in_a_row: u32,
}

impl Retries {
    /// Something succeeded meanwhile.
    pub(crate) fn reset(&mut self) {
        self.failures_in_a_row = 0;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The reason of the failure, after too many or when the wait would be too long; that the pull was cancelled.
    pub(crate) fn wait(
        &mut self,
        context: &PullContext<'_>,
        reason: String,
        wait: Option<Duration>,
    ) -> Result<(), SourceError> {
        self.failures_in_a_row += 1;
        let timeouts = &context.options.timeouts;
        let doubled = timeouts.retry_wait * 2u32.pow((self.failures_in_a_row - 1).min(6));
        let wait = wait.unwrap_or(doubled);
        if self.failures_in_a_row > timeouts.retries {
            return Err(SourceError::Failed(reason));
        }
        if wait > timeouts.longest_wait {
            let seconds = wait.as_secs();
            return Err(SourceError::Failed(format!(
                "{reason}; it asks to wait for {seconds} seconds, which is too long"
            )));
        }
        pause(context, wait, &reason)
    }
}

/// What a status other than success means for trying again; `final_reason` explains those that will not change.
pub(crate) fn status_failure(
    response: &Response<Body>,
    url: &str,
    final_reason: impl FnOnce(u16) -> String,
) -> Attempt {
    let host = host_of(url);
    match response.status().as_u16() {
        status @ (429 | 503) => Attempt::Again {
            reason: format!("{host} limits requests at the moment (status {status})"),
            wait: retry_after(response),
        },
        status @ (408 | 500 | 502 | 504) => {
            Attempt::Again { reason: format!("{host} failed with status {status}"), wait: None }
        }
        status => SourceError::Failed(final_reason(status)).into(),
    }
}

/// Waits, but not longer than until the pull is cancelled.
fn pause(context: &PullContext<'_>, wait: Duration, reason: &str) -> Result<(), SourceError> {
    context.observer.on_event(PullEvent::Waiting { milliseconds: wait.as_millis() as u64, reason });
    let end = Instant::now() + wait;
    loop {
        if context.observer.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(CANCEL_POLL));
    }
}
