//! OpenAI's streams: pieces of one kind, then `[DONE]`.

use axum::response::Response;
use serde::Serialize;
use zhenjin_assistant::TextEvent;

use crate::answering::{AnswerWriter, Generations, Pieces, Progress, send_events};
use crate::errors::ApiError;

/// Writes one route's pieces.
pub(super) trait PieceWriter: Send + 'static {
    /// A piece of this route's answers.
    type Piece: Serialize;

    /// What an event adds: no piece, or some.
    fn write(&mut self, choice: usize, event: TextEvent) -> Vec<Self::Piece>;

    /// How far an answer has come with the event that is written next.
    fn progress(&mut self, choice: usize, progress: Progress);

    /// The last piece, which reports the usage, if it was asked for.
    fn usage(&mut self) -> Option<Self::Piece>;
}

struct DoneAtTheEnd<W>(W);

/// Sends pieces as they arise, then `[DONE]`; or, if something fails, an error event as the last one.
pub(super) fn send<W: PieceWriter>(generations: Generations, writer: W) -> Response {
    send_events(generations, DoneAtTheEnd(writer))
}

impl<W: PieceWriter> AnswerWriter for DoneAtTheEnd<W> {
    fn progress(&mut self, choice: usize, progress: Progress) {
        self.0.progress(choice, progress);
    }

    fn write(&mut self, choice: usize, event: TextEvent, pieces: &mut Pieces) {
        for piece in self.0.write(choice, event) {
            pieces.push(&piece);
        }
    }

    fn end(&mut self, pieces: &mut Pieces) {
        if let Some(piece) = self.0.usage() {
            pieces.push(&piece);
        }
        pieces.push_text("[DONE]");
    }

    fn fail(&mut self, error: &ApiError, pieces: &mut Pieces) {
        pieces.push(&error.body());
    }
}
