//! Conversations that begin with messages: with a first question, or with the last turns of another one.

use crate::database::Store;
use crate::messages::blank;
use crate::{Conversation, Message, MessageId, NewConversation, Owner, Role, Status, StoreError};

impl Store {
    /// Makes a conversation with its first question and an empty answer in the state `generating`; `title` becomes its title if
    /// it has none. All of it is there, or nothing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn begin_conversation(
        &self,
        owner: &Owner,
        new: NewConversation,
        content: String,
        title: &str,
    ) -> Result<(Conversation, Message, Message), StoreError> {
        let mut write = self.write_durably("beginning a conversation").await?;
        let made = self.insert_conversation(&mut write, owner, new).await?;
        let asked = Message { content, ..blank(made.id.clone(), None, Role::User)? };
        let answer = blank(made.id.clone(), Some(asked.id.clone()), Role::Assistant)?;
        let answer = Message { model: Some(made.model.clone()), ..answer };
        self.insert(&mut write, &asked).await?;
        self.insert(&mut write, &answer).await?;
        self.follow(&mut write, owner, &answer, title).await?;
        write.commit().await?;
        Ok((self.conversation(owner, &made.id).await?, asked, answer))
    }

    /// Makes a conversation that begins with copies of the messages from the question `from` to the answer `to`, both of one
    /// branch.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when `to` is missing; [`StoreError::Invalid`] when `from` is no question of its branch, or `to` is
    /// no finished answer.
    pub async fn continue_conversation(
        &self,
        owner: &Owner,
        new: NewConversation,
        from: &MessageId,
        to: &MessageId,
    ) -> Result<Conversation, StoreError> {
        let branch = turns(&self.branch(owner, to).await?, from)?.to_vec();
        let mut write = self.write_durably("continuing a conversation").await?;
        let made = self.insert_conversation(&mut write, owner, new).await?;
        let mut last: Option<Message> = None;
        for message in branch {
            let parent = last.map(|last| last.id);
            let copy = Message {
                content: message.content,
                status: message.status,
                model: message.model,
                finish_reason: message.finish_reason,
                ..blank(made.id.clone(), parent, message.role)?
            };
            self.insert(&mut write, &copy).await?;
            last = Some(copy);
        }
        if let Some(last) = &last {
            self.follow(&mut write, owner, last, "").await?;
        }
        write.commit().await?;
        self.conversation(owner, &made.id).await
    }
}

/// The part of a branch that begins with the question `from`; it ends with a finished answer.
///
/// # Errors
/// [`StoreError::Invalid`] when it does not.
pub fn turns<'a>(branch: &'a [Message], from: &MessageId) -> Result<&'a [Message], StoreError> {
    let invalid = |field, reason: &str| StoreError::Invalid { field, reason: reason.to_owned() };
    let place = branch.iter().position(|message| message.id == *from && message.role == Role::User);
    let place = place.ok_or_else(|| invalid("from_id", "`from_id` must be a question of the branch"))?;
    match branch.last() {
        Some(last) if last.role == Role::Assistant && last.status != Status::Generating => {
            Ok(branch.get(place..).unwrap_or_default())
        }
        _ => Err(invalid("parent_id", "`parent_id` must be an answer that has ended")),
    }
}
