//! Answers that are being written. Each is a task of its own, bound to no connection: closing the page does not stop it, any
//! number of pages may follow it, and what a page has been shown is in the store already.
//!
//! This part does not know HTTP, JSON, prompts or models: text comes from an [`AnswerSource`].

mod follower;
mod source;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use zhenjin_store::{AnswerEnd, ConversationId, Message, MessageId, Owner, Status, Store, StoreError};

pub(crate) use follower::{Followed, Follower, byte_of_code_point};
pub(crate) use source::{AnswerSource, Provenance, Tokens};

use crate::shutdown::Shutdown;

/// All answers that are being written, by message.
pub(crate) struct RunningAnswers {
    store: Store,
    shutdown: Shutdown,
    answers: Mutex<BTreeMap<MessageId, Arc<RunningAnswer>>>,
    /// How many there are, for those who wait for the last one.
    count: watch::Sender<usize>,
    /// Held from before an answer's row is added until its task is known, so that nobody takes it for a forgotten one.
    beginning: tokio::sync::Mutex<()>,
}

/// One of them.
pub(crate) struct RunningAnswer {
    /// Whose it is.
    owner: Owner,
    conversation_id: ConversationId,
    /// The text that is in the store.
    text: Mutex<String>,
    progress: watch::Sender<AnswerProgress>,
    stop: Notify,
}

/// How far an answer has come.
#[derive(Clone, Default)]
struct AnswerProgress {
    /// Bytes of text that are in the store.
    bytes: usize,
    /// The whole message, once it has ended.
    ended: Option<Arc<Message>>,
}

impl RunningAnswers {
    pub(crate) fn new(store: Store, shutdown: Shutdown) -> Arc<RunningAnswers> {
        Arc::new(RunningAnswers {
            store,
            shutdown,
            answers: Mutex::new(BTreeMap::new()),
            count: watch::Sender::new(0),
            beginning: tokio::sync::Mutex::new(()),
        })
    }

    /// Whether the server stops, so that no answer may be begun any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    /// Adds an answer's row by `add` and begins to write it from `source`. Returns what `add` made.
    ///
    /// # Errors
    /// Those of `add`; then nothing runs.
    pub(crate) async fn begin<T>(
        self: &Arc<Self>,
        owner: &Owner,
        source: impl AnswerSource,
        provenance: Provenance,
        add: impl Future<Output = Result<T, StoreError>>,
        answer_of: impl Fn(&T) -> &Message,
    ) -> Result<T, StoreError> {
        let _turn = self.beginning.lock().await;
        let added = add.await?;
        let message = answer_of(&added).clone();
        let running = Arc::new(RunningAnswer {
            owner: owner.clone(),
            conversation_id: message.conversation_id.clone(),
            text: Mutex::new(String::new()),
            progress: watch::Sender::new(AnswerProgress::default()),
            stop: Notify::new(),
        });
        let mut answers = lock(&self.answers);
        answers.insert(message.id.clone(), Arc::clone(&running));
        self.count.send_replace(answers.len());
        drop(answers);
        tokio::spawn(writer::write(Arc::clone(self), running, message, source, provenance));
        Ok(added)
    }

    /// Follows an answer of the owner's that is being written from code point `offset` on; `None` when it is not being written.
    pub(crate) fn follow(&self, owner: &Owner, id: &MessageId, offset: usize) -> Option<Follower> {
        let answer = self.running(owner, id)?;
        Some(Follower::new(answer, offset))
    }

    /// Stops an answer of the owner's and returns it as it ended. One that has ended already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such message.
    pub(crate) async fn stop(&self, owner: &Owner, id: &MessageId) -> Result<Message, StoreError> {
        match self.running(owner, id) {
            Some(running) => {
                running.stop.notify_one();
                Ok(running.ended().await.as_ref().clone())
            }
            None => self.settled_message(owner, id).await,
        }
    }

    /// Stops every answer of a conversation of the owner's, and waits until they are saved.
    pub(crate) async fn stop_conversation(&self, owner: &Owner, conversation: &ConversationId) {
        let of_it: Vec<Arc<RunningAnswer>> = lock(&self.answers)
            .values()
            .filter(|answer| answer.conversation_id == *conversation && answer.owner == *owner)
            .cloned()
            .collect();
        for answer in &of_it {
            answer.stop.notify_one();
        }
        for answer in of_it {
            answer.ended().await;
        }
    }

    /// A message of the owner's that is not being written. A row that still says `generating` was forgotten (its ending could not be saved):
    /// it becomes interrupted now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such message.
    pub(crate) async fn settled_message(&self, owner: &Owner, id: &MessageId) -> Result<Message, StoreError> {
        let message = self.store.message(owner, id).await?;
        if message.status != Status::Generating {
            return Ok(message);
        }
        let turn = self.beginning.lock().await;
        match self.running(owner, id) {
            Some(running) => {
                // Others begin meanwhile.
                drop(turn);
                Ok(running.ended().await.as_ref().clone())
            }
            None => match self.store.end_answer(owner, id, AnswerEnd::new(Status::Interrupted)).await {
                Err(StoreError::NotGenerating { .. }) => self.store.message(owner, id).await,
                ended => ended,
            },
        }
    }

    /// The answer, if it is the owner's and is being written.
    fn running(&self, owner: &Owner, id: &MessageId) -> Option<Arc<RunningAnswer>> {
        lock(&self.answers).get(id).filter(|answer| answer.owner == *owner).map(Arc::clone)
    }

    /// Resolves when no answer is being written any more.
    pub(crate) async fn all_saved(&self) {
        // The sender lives in `self`, so the wait can only end by reaching zero.
        let _ = self.count.subscribe().wait_for(|&count| count == 0).await;
    }

    fn forget(&self, id: &MessageId) {
        let mut answers = lock(&self.answers);
        answers.remove(id);
        self.count.send_replace(answers.len());
    }
}

impl RunningAnswer {
    /// Shows followers text that the store has taken.
    fn publish(&self, stored: &str) {
        let mut text = lock(&self.text);
        text.push_str(stored);
        let bytes = text.len();
        drop(text);
        self.progress.send_modify(|progress| progress.bytes = bytes);
    }

    async fn ended(&self) -> Arc<Message> {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(ended) = &progress.borrow_and_update().ended {
                return Arc::clone(ended);
            }
            if progress.changed().await.is_err() {
                // The sender lives in `self`: it cannot be gone.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A lock's value even after a panic elsewhere: every holder leaves it consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
