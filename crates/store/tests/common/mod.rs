//! What the store's tests share.

use tempfile::TempDir;
use zhenjin_store::{
    AnswerEnd, Conversation, ConversationId, Message, MessageId, NewConversation, Owner, Question, Status,
    Store,
};

/// A store in a folder of its own.
pub(crate) async fn fresh_store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&folder.path().join("zhenjin.db")).await.expect("a new store");
    (folder, store)
}

/// A conversation without title.
pub(crate) async fn new_conversation(store: &Store) -> Conversation {
    let new = NewConversation { model: "tiny".to_owned(), ..NewConversation::default() };
    store.create_conversation(&Owner::Local, new).await.expect("a conversation")
}

/// A question whose text becomes the title.
pub(crate) fn question(conversation: &ConversationId, parent: Option<&MessageId>, content: &str) -> Question {
    Question {
        conversation_id: conversation.clone(),
        parent_id: parent.cloned(),
        content: content.to_owned(),
        model: "tiny".to_owned(),
        title_if_untitled: content.to_owned(),
    }
}

/// Asks and answers at once.
pub(crate) async fn exchange(
    store: &Store,
    conversation: &ConversationId,
    parent: Option<&MessageId>,
    asked: &str,
    answered: &str,
) -> (Message, Message) {
    let (user, answer) =
        store.ask(&Owner::Local, question(conversation, parent, asked)).await.expect("a question");
    let end = AnswerEnd { text: answered.to_owned(), ..AnswerEnd::new(Status::Complete) };
    let answer = store.end_answer(&Owner::Local, &answer.id, end).await.expect("an answer");
    (user, answer)
}
