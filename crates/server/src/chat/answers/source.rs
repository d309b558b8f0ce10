//! Where an answer's text comes from. It does not know what becomes of it.

use std::future::Future;

use zhenjin_assistant::{TextEvent, TextGeneration};

/// The events of one answer, in order. Dropping it cancels the generation.
pub(crate) trait AnswerSource: Send + 'static {
    /// The next event; `None` after the last. Dropped before it resolves, no event is lost.
    fn next(&mut self) -> impl Future<Output = Option<TextEvent>> + Send;
}

impl AnswerSource for TextGeneration {
    async fn next(&mut self) -> Option<TextEvent> {
        TextGeneration::next(self).await
    }
}

/// What is kept about how an answer came to be.
#[derive(Clone, Debug)]
pub(crate) struct Provenance {
    /// The most tokens that the model takes in, prompt and answer together.
    pub(crate) context_length: usize,
}
