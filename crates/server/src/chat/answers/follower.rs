//! Following an answer from any offset in its text.

use std::sync::Arc;

use tokio::sync::watch;
use zhenjin_store::Message;

use super::{AnswerProgress, RunningAnswer, lock};

/// What a follower learns.
pub(crate) enum Followed {
    /// More text, and how many code points of the answer stand before it.
    Text { offset: usize, text: String },
    /// The answer has ended as this message; nothing follows.
    End(Arc<Message>),
}

/// A place in an answer's text that moves towards its end. However slow its reader, it holds no queue: it takes what has come
/// since.
pub(crate) struct Follower {
    answer: Arc<RunningAnswer>,
    progress: watch::Receiver<AnswerProgress>,
    /// Code points before the place.
    offset: usize,
    /// Bytes before the place; `None` until the text has reached `offset`.
    byte: Option<usize>,
}

impl Follower {
    pub(super) fn new(answer: Arc<RunningAnswer>, offset: usize) -> Follower {
        let progress = answer.progress.subscribe();
        Follower { answer, progress, offset, byte: None }
    }

    /// Waits for more text or for the end.
    pub(crate) async fn next(&mut self) -> Followed {
        loop {
            let ended = self.progress.borrow_and_update().ended.clone();
            // An ending is published after the text before it, so that text is looked at last.
            if let Some(text) = self.take_text() {
                let offset = self.offset;
                self.offset += text.chars().count();
                return Followed::Text { offset, text };
            }
            if let Some(message) = ended {
                return Followed::End(message);
            }
            if self.progress.changed().await.is_err() {
                // The sender lives in `answer`: it cannot be gone.
                std::future::pending::<()>().await;
            }
        }
    }

    fn take_text(&mut self) -> Option<String> {
        let text = lock(&self.answer.text);
        let byte = match self.byte {
            Some(byte) => byte,
            None => byte_of_code_point(&text, self.offset)?,
        };
        self.byte = Some(text.len());
        (byte < text.len()).then(|| text[byte..].to_owned())
    }
}

/// Where code point number `offset` begins; the text's end for one past the last; `None` beyond.
pub(crate) fn byte_of_code_point(text: &str, offset: usize) -> Option<usize> {
    let starts = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
    starts.into_iter().nth(offset)
}

#[cfg(test)]
mod tests {
    use super::byte_of_code_point;

    #[test]
    fn code_points_are_counted_not_bytes() {
        let text = "a真👍🏽";
        let places: Vec<Option<usize>> = (0..=5).map(|offset| byte_of_code_point(text, offset)).collect();
        assert_eq!(places, [Some(0), Some(1), Some(4), Some(8), Some(12), None]);
        assert_eq!(byte_of_code_point("", 0), Some(0));
    }
}
