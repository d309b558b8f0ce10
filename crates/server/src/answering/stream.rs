//! Answers as they arise: server-sent events, or one JSON object a line.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use zhenjin_assistant::TextEvent;

use super::generations::{Generations, Progress};
use crate::errors::ApiError;

/// Interval of keep-alive comments while a prompt is computed, so that proxies do not give up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Writes the pieces of one dialect's streams.
pub(crate) trait AnswerWriter: Send + 'static {
    /// How far an answer has come with the event that is written next. For those who report it; others ignore it.
    fn progress(&mut self, _choice: usize, _progress: Progress) {}

    /// What an event adds.
    fn write(&mut self, choice: usize, event: TextEvent, pieces: &mut Pieces);

    /// What comes after the last event.
    fn end(&mut self, pieces: &mut Pieces);

    /// What comes instead, if the answer cannot be completed.
    fn fail(&mut self, error: &ApiError, pieces: &mut Pieces);
}

/// One piece of a stream.
struct Piece {
    /// The event's name, where the dialect names its events.
    event: Option<&'static str>,
    data: String,
}

/// Pieces that are ready to be sent.
#[derive(Default)]
pub(crate) struct Pieces {
    ready: VecDeque<Piece>,
    /// Why one of them could not be written.
    broken: Option<ApiError>,
}

impl Pieces {
    /// Appends `data` as JSON.
    pub(crate) fn push(&mut self, data: &impl Serialize) {
        self.append(None, data);
    }

    /// Appends `data` as JSON under an event's name.
    pub(crate) fn push_event(&mut self, event: &'static str, data: &impl Serialize) {
        self.append(Some(event), data);
    }

    /// Appends text as it is.
    pub(crate) fn push_text(&mut self, text: &str) {
        self.ready.push_back(Piece { event: None, data: text.to_owned() });
    }

    fn append(&mut self, event: Option<&'static str>, data: &impl Serialize) {
        match serde_json::to_string(data) {
            Ok(data) => self.ready.push_back(Piece { event, data }),
            Err(error) => {
                let message = format!("a piece could not be written: {error}");
                self.broken.get_or_insert(ApiError::internal(message));
            }
        }
    }
}

/// The generations are dropped before the writer, so that whatever the writer holds outlives them.
struct Running<W> {
    generations: Generations,
    writer: W,
    pieces: Pieces,
    ended: bool,
}

/// Sends server-sent events. If something fails, the writer's failure is the last one.
pub(crate) fn send_events<W: AnswerWriter>(generations: Generations, writer: W) -> Response {
    let events = pieces(generations, writer).map(|piece| {
        let event = match piece.event {
            Some(name) => Event::default().event(name),
            None => Event::default(),
        };
        Ok::<Event, Infallible>(event.data(piece.data))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    unbuffered(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Sends one JSON object a line.
pub(crate) fn send_lines<W: AnswerWriter>(generations: Generations, writer: W) -> Response {
    let lines = pieces(generations, writer).map(|piece| Ok::<String, Infallible>(piece.data + "\n"));
    let mut response = Body::from_stream(lines).into_response();
    let media_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    unbuffered(response)
}

/// Tells nginx, should it be in between, not to buffer the answer.
fn unbuffered(mut response: Response) -> Response {
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn pieces<W: AnswerWriter>(generations: Generations, writer: W) -> impl Stream<Item = Piece> + Send {
    let running = Running { generations, writer, pieces: Pieces::default(), ended: false };
    unfold(running, |mut running| async move {
        while running.pieces.ready.is_empty() && !running.ended {
            running.advance().await;
        }
        let piece = running.pieces.ready.pop_front()?;
        Some((piece, running))
    })
}

impl<W: AnswerWriter> Running<W> {
    async fn advance(&mut self) {
        match self.generations.next().await {
            Some(Ok((choice, event))) => {
                self.writer.progress(choice, self.generations.progress(choice));
                self.writer.write(choice, event, &mut self.pieces);
            }
            Some(Err(error)) => self.fail(&error),
            None => {
                self.writer.end(&mut self.pieces);
                self.ended = true;
            }
        }
        if let Some(error) = self.pieces.broken.take() {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &ApiError) {
        tracing::warn!(message = error.message(), "a stream ended early");
        self.writer.fail(error, &mut self.pieces);
        self.ended = true;
    }
}
