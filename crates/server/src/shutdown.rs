//! How the parts of the server learn that it stops.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::errors::ApiError;

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Phase {
    Running,
    Draining,
    Ending,
}

/// The server's end in two steps: first nothing new is begun, then what still runs must end.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { phase: Arc::new(watch::Sender::new(Phase::Running)) }
    }
}

impl Shutdown {
    /// From now on no new answer is begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// From now on running streams end with an error event.
    pub fn end(&self) {
        self.advance(Phase::Ending);
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Resolves when no new answer may be begun.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when running streams must end.
    pub async fn ending(&self) {
        self.reached(Phase::Ending).await;
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
    }

    async fn reached(&self, wanted: Phase) {
        let mut receiver = self.phase.subscribe();
        // The sender lives in `self`, so the wait can only end by reaching the phase.
        let _ = receiver.wait_for(|phase| *phase >= wanted).await;
    }
}

/// That a request came after the server was told to stop. It stands among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Late;

/// Middleware: what comes late learns that the server stops, whatever it asks for. Only how the server is can still be asked.
pub(crate) async fn refuse_late(request: Request, next: Next) -> Response {
    const ANSWERED: [&str; 3] = ["/healthz", "/health", "/readyz"];
    if request.extensions().get::<Late>().is_none() || ANSWERED.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    ApiError::shutting_down().into_response()
}
