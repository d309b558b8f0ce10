//! The receiving end of a request. Dropping it cancels the request within one step.

use tokio::sync::mpsc::UnboundedReceiver;
use zhenjin_model::Fingerprint;

use crate::request::{EndReason, Event, Timings, Usage};

/// The events of one request, in order.
///
/// At most `max_tokens` + 2 events wait here, so a slow reader costs bounded memory.
#[derive(Debug)]
pub struct Generation {
    events: UnboundedReceiver<Event>,
    seed: u64,
    weights: Option<Fingerprint>,
    is_finished: bool,
}

impl Generation {
    pub(crate) fn new(
        events: UnboundedReceiver<Event>,
        seed: u64,
        weights: Option<Fingerprint>,
    ) -> Generation {
        Generation { events, seed, weights, is_finished: false }
    }

    /// The weights that the request is computed with, to its end; `None` for a model whose weights cannot be replaced.
    pub fn weights(&self) -> Option<Fingerprint> {
        self.weights
    }

    /// The seed in use: the request's own, or the fresh one that was drawn for it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next event; `None` after [`Event::Finished`].
    pub async fn next(&mut self) -> Option<Event> {
        if self.is_finished {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.note(event))
    }

    /// The next event, for threads outside an async runtime (it panics inside one, as tokio's `blocking_recv`
    /// does).
    pub fn blocking_next(&mut self) -> Option<Event> {
        if self.is_finished {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.note(event))
    }

    /// A channel that ends without a last event means that the engine's thread is gone.
    fn note(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or_else(|| Event::Finished {
            reason: EndReason::Error("the engine stopped without finishing this request".to_owned()),
            usage: Usage::default(),
            timings: Timings::default(),
        });
        self.is_finished = matches!(event, Event::Finished { .. });
        event
    }
}
