//! The receiving end of a request, in text. Dropping it cancels the request within one step of the model.

use crate::event::TextEvent;

/// The events of one answer, in order.
#[derive(Debug)]
pub struct TextGeneration {
    seed: u64,
}

impl TextGeneration {
    /// The seed in use: the request's own, or the fresh one that was drawn for it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next event; `None` after [`TextEvent::Finished`] or [`TextEvent::Failed`].
    pub async fn next(&mut self) -> Option<TextEvent> {
        todo!()
    }

    /// The next event, for threads outside an async runtime.
    pub fn blocking_next(&mut self) -> Option<TextEvent> {
        todo!()
    }
}
