//! Answers as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use zhenjin_assistant::TextEvent;

use super::answer::Generations;
use crate::errors::ApiError;

/// Interval of keep-alive comments while a prompt is computed, so that proxies do not give up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Writes one route's pieces.
pub(super) trait PieceWriter: Send + 'static {
    /// A piece of this route's answers.
    type Piece: Serialize;

    /// What an event adds: no piece, or some.
    fn write(&mut self, choice: usize, event: TextEvent) -> Vec<Self::Piece>;

    /// The last piece, which reports the usage, if it was asked for.
    fn usage(&mut self) -> Option<Self::Piece>;
}

struct Running<W> {
    generations: Generations,
    writer: W,
    ready: VecDeque<Event>,
    ended: bool,
}

/// Sends pieces as they arise, then `[DONE]`; or, if something fails, an error event as the last one.
pub(super) fn send<W: PieceWriter>(generations: Generations, writer: W) -> Response {
    let running = Running { generations, writer, ready: VecDeque::new(), ended: false };
    let events = unfold(running, |mut running| async move {
        while running.ready.is_empty() && !running.ended {
            running.advance().await;
        }
        let event = running.ready.pop_front()?;
        Some((Ok::<Event, Infallible>(event), running))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Tells nginx, should it be in between, not to buffer the events.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

impl<W: PieceWriter> Running<W> {
    async fn advance(&mut self) {
        match self.generations.next().await {
            Some(Ok((choice, event))) => {
                for piece in self.writer.write(choice, event) {
                    self.push(&piece);
                }
            }
            Some(Err(error)) => self.fail(&error),
            None => {
                if let Some(piece) = self.writer.usage() {
                    self.push(&piece);
                }
                self.ready.push_back(Event::default().data("[DONE]"));
                self.ended = true;
            }
        }
    }

    fn push(&mut self, piece: &impl Serialize) {
        match Event::default().json_data(piece) {
            Ok(event) => self.ready.push_back(event),
            Err(error) => self.fail(&ApiError::internal(format!("a piece could not be written: {error}"))),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        tracing::warn!(message = error.message(), "a stream ended early");
        if let Ok(event) = Event::default().json_data(error.body()) {
            self.ready.push_back(event);
        }
        self.ended = true;
    }
}
