//! Random questions, edits, regenerations, deletions, restorations and reopenings: nothing is lost and nothing changes.

use std::collections::BTreeMap;

use crate::common::{fresh_store, new_conversation, question};
use proptest::prelude::*;
use zhenjin_store::{AnswerEnd, ConversationId, Message, MessageId, Owner, Role, Status, Store};

#[derive(Debug, Clone)]
enum Action {
    NewConversation,
    /// Asks after the `n`-th answer so far, or at the root.
    Ask(usize, String),
    Regenerate(usize),
    Delete(usize),
    Restore(usize),
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        1 => Just(Action::NewConversation),
        6 => (any::<usize>(), "\\PC{0,12}").prop_map(|(place, text)| Action::Ask(place, text)),
        3 => any::<usize>().prop_map(Action::Regenerate),
        1 => any::<usize>().prop_map(Action::Delete),
        1 => any::<usize>().prop_map(Action::Restore),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..40)
}

/// What must be there.
#[derive(Default)]
struct Expected {
    conversations: Vec<(ConversationId, bool)>,
    messages: BTreeMap<MessageId, Message>,
}

impl Expected {
    fn of_role(&self, conversation: &ConversationId, role: Role) -> Vec<MessageId> {
        let of = |message: &&Message| message.conversation_id == *conversation && message.role == role;
        self.messages.values().filter(of).map(|message| message.id.clone()).collect()
    }

    async fn finish(&mut self, store: &Store, asked: Option<Message>, answer: Message) {
        store.append_to_answer(&Owner::Local, &answer.id, "piece ").await.expect("text for an answer");
        let end = AnswerEnd { text: "by piece".to_owned(), ..AnswerEnd::new(Status::Complete) };
        let answer = store.end_answer(&Owner::Local, &answer.id, end).await.expect("an ending");
        for message in asked.into_iter().chain([answer]) {
            self.messages.insert(message.id.clone(), message);
        }
    }

    async fn check(&self, store: &Store) {
        for (conversation, deleted) in &self.conversations {
            if *deleted {
                assert!(store.messages(&Owner::Local, conversation).await.is_err());
                continue;
            }
            let of = |message: &&Message| message.conversation_id == *conversation;
            let expected: BTreeMap<_, _> = self
                .messages
                .values()
                .filter(of)
                .map(|message| (message.id.clone(), message.clone()))
                .collect();
            let found = store.messages(&Owner::Local, conversation).await.expect("messages");
            let found: BTreeMap<_, _> =
                found.into_iter().map(|message| (message.id.clone(), message)).collect();
            assert_eq!(found, expected);
            for message in expected.values() {
                self.check_branch(
                    &store.branch(&Owner::Local, &message.id).await.expect("a branch"),
                    message,
                );
            }
        }
    }

    fn check_branch(&self, branch: &[Message], last: &Message) {
        assert_eq!(branch.last(), Some(last));
        assert_eq!(branch[0].parent_id, None);
        for pair in branch.windows(2) {
            assert_eq!(pair[1].parent_id.as_ref(), Some(&pair[0].id));
            assert_ne!(pair[0].role, pair[1].role);
        }
    }
}

async fn play(actions: Vec<Action>) {
    let (folder, mut store) = fresh_store().await;
    let path = folder.path().join("zhenjin.db");
    let mut expected = Expected::default();
    expected.conversations.push((new_conversation(&store).await.id, false));
    for action in actions {
        let open: Vec<ConversationId> =
            expected.conversations.iter().filter(|(_, deleted)| !deleted).map(|(id, _)| id.clone()).collect();
        match action {
            Action::NewConversation => {
                expected.conversations.push((new_conversation(&store).await.id, false))
            }
            Action::Ask(place, text) if !open.is_empty() => {
                let conversation = &open[place % open.len()];
                let answers = expected.of_role(conversation, Role::Assistant);
                let parent = answers.get(place / open.len() % (answers.len() + 1));
                let (asked, answer) = store
                    .ask(&Owner::Local, question(conversation, parent, &text))
                    .await
                    .expect("a question");
                expected.finish(&store, Some(asked), answer).await;
            }
            Action::Regenerate(place) if !open.is_empty() => {
                let questions = expected.of_role(&open[place % open.len()], Role::User);
                if !questions.is_empty() {
                    let again = store.answer_again(
                        &Owner::Local,
                        &questions[place % questions.len()],
                        "other".to_owned(),
                    );
                    let answer = again.await.expect("another answer");
                    expected.finish(&store, None, answer).await;
                }
            }
            Action::Delete(place) if !open.is_empty() => {
                let chosen = &open[place % open.len()];
                store.delete_conversation(&Owner::Local, chosen).await.expect("a deletion");
                expected
                    .conversations
                    .iter_mut()
                    .filter(|(id, _)| id == chosen)
                    .for_each(|entry| entry.1 = true);
            }
            Action::Restore(place) => {
                let count = expected.conversations.len();
                let chosen = &mut expected.conversations[place % count];
                store.restore_conversation(&Owner::Local, &chosen.0).await.expect("a restoration");
                chosen.1 = false;
            }
            Action::Reopen => {
                store.close().await;
                drop(store);
                store = Store::open(&path).await.expect("the store again");
            }
            Action::Ask(..) | Action::Regenerate(_) | Action::Delete(_) => {}
        }
    }
    expected.check(&store).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(play(actions));
    }
}
