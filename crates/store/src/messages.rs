//! Messages: one row each, a tree by parent. Questions and answers alternate; a second child of the same parent is a
//! branch, so that editing and regenerating overwrite nothing.

use std::fmt;

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::database::{Store, Write};
use crate::fold::{composed, folded};
use crate::{ConversationId, MessageId, Owner, StoreError, Timestamp};

/// The most answers to one question: each of them can be judged beside each other.
const MOST_ANSWERS: i64 = 200;

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// What became of a message. Questions are always complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Text may still come.
    Generating,
    /// It ended by itself.
    Complete,
    /// The person stopped it.
    Stopped,
    /// The program ended before it did.
    Interrupted,
    /// An error ended it.
    Failed,
}

impl Role {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    fn parse(word: &str) -> Option<Role> {
        [Role::User, Role::Assistant].into_iter().find(|role| role.as_str() == word)
    }
}

impl Status {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Generating => "generating",
            Status::Complete => "complete",
            Status::Stopped => "stopped",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Option<Status> {
        [Status::Generating, Status::Complete, Status::Stopped, Status::Interrupted, Status::Failed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A question or an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its name in the database.
    pub id: MessageId,
    /// Where it belongs.
    pub conversation_id: ConversationId,
    /// What it follows; `None` for a first question.
    pub parent_id: Option<MessageId>,
    /// Who wrote it.
    pub role: Role,
    /// Its text; of an answer that is being written, the text so far.
    pub content: String,
    /// What became of it.
    pub status: Status,
    /// Why it failed.
    pub error: Option<String>,
    /// The model that wrote it; `None` for questions.
    pub model: Option<String>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Why the model ended, in the API's words ("stop", "length" …).
    pub finish_reason: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u32>,
    /// Prompt tokens whose keys and values were found in the cache.
    pub cached_tokens: Option<u32>,
    /// Milliseconds from the request to its first token.
    pub time_to_first_token_ms: Option<f64>,
    /// Tokens per second after the first.
    pub tokens_per_second: Option<f64>,
    /// Tokens that the model could have taken in.
    pub context_length: Option<u32>,
}

/// A question to add, with the place for its answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The answer that it follows; `None` begins the conversation (again).
    pub parent_id: Option<MessageId>,
    /// The question's text.
    pub content: String,
    /// The model that will answer.
    pub model: String,
    /// The conversation's title if it has none yet.
    pub title_if_untitled: String,
}

impl FromRow<'_, SqliteRow> for Message {
    fn from_row(row: &SqliteRow) -> Result<Message, sqlx::Error> {
        let role: String = row.try_get("role")?;
        let status: String = row.try_get("status")?;
        Ok(Message {
            id: MessageId::from_database(row.try_get("id")?),
            conversation_id: ConversationId::from_database(row.try_get("conversation_id")?),
            parent_id: row.try_get::<Option<String>, _>("parent_id")?.map(MessageId::from_database),
            role: Role::parse(&role).ok_or_else(|| unknown_word("role", role))?,
            content: row.try_get("content")?,
            status: Status::parse(&status).ok_or_else(|| unknown_word("status", status))?,
            error: row.try_get("error")?,
            model: row.try_get("model")?,
            created_at: Timestamp::from_milliseconds(row.try_get("created_at")?),
            finish_reason: row.try_get("finish_reason")?,
            prompt_tokens: row.try_get("prompt_tokens")?,
            completion_tokens: row.try_get("completion_tokens")?,
            cached_tokens: row.try_get("cached_tokens")?,
            time_to_first_token_ms: row.try_get("time_to_first_token_ms")?,
            tokens_per_second: row.try_get("tokens_per_second")?,
            context_length: row.try_get("context_length")?,
        })
    }
}

pub(crate) fn unknown_word(column: &str, word: String) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: format!("unknown word `{word}`").into() }
}

impl Store {
    /// The owner's message of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or its conversation is deleted.
    pub async fn message(&self, owner: &Owner, id: &MessageId) -> Result<Message, StoreError> {
        let doing = "reading a message";
        let mut connection = self.readers().acquire().await.map_err(self.failed(doing))?;
        let found = find(&mut connection, owner, id).await.map_err(self.failed(doing))?;
        found.ok_or_else(|| StoreError::not_found("message", id.as_str()))
    }

    /// The whole tree of a conversation, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the conversation is missing or deleted.
    pub async fn messages(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
    ) -> Result<Vec<Message>, StoreError> {
        self.conversation(owner, conversation).await?;
        sqlx::query_as("SELECT * FROM messages WHERE conversation_id = ? ORDER BY number")
            .bind(conversation.as_str())
            .fetch_all(self.readers())
            .await
            .map_err(self.failed("reading a conversation's messages"))
    }

    /// The branch that ends with `last`: from the first question to it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the message is missing or its conversation deleted.
    pub async fn branch(&self, owner: &Owner, last: &MessageId) -> Result<Vec<Message>, StoreError> {
        let branch: Vec<Message> = sqlx::query_as(
            "WITH RECURSIVE branch (id, depth) AS (
                 SELECT m.id, 0 FROM messages m JOIN conversations c ON c.id = m.conversation_id
                     WHERE m.id = ? AND c.owner = ? AND c.deleted_at IS NULL
                 UNION ALL
                 SELECT child.parent_id, depth + 1 FROM branch JOIN messages child ON child.id = branch.id
                     WHERE child.parent_id IS NOT NULL
             )
             SELECT m.* FROM branch JOIN messages m ON m.id = branch.id ORDER BY depth DESC",
        )
        .bind(last.as_str())
        .bind(owner.as_str())
        .fetch_all(self.readers())
        .await
        .map_err(self.failed("reading a branch"))?;
        if branch.is_empty() { Err(StoreError::not_found("message", last.as_str())) } else { Ok(branch) }
    }

    /// Adds a question and an empty answer in the state `generating`, which becomes the conversation's current leaf.
    /// Returns both. They are on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown conversation; [`StoreError::InvalidParent`] when the parent is not a finished
    /// answer of the same conversation.
    pub async fn ask(&self, owner: &Owner, question: Question) -> Result<(Message, Message), StoreError> {
        let mut write = self.write_durably("adding a question").await?;
        if let Some(parent) = &question.parent_id {
            self.check_parent(&mut write, owner, &question.conversation_id, parent, Role::Assistant).await?;
        }
        let asked = blank(question.conversation_id.clone(), question.parent_id, Role::User)?;
        let asked = Message { content: question.content, ..asked };
        let answer = blank(question.conversation_id, Some(asked.id.clone()), Role::Assistant)?;
        let answer = Message { model: Some(question.model), ..answer };
        self.insert(&mut write, &asked).await?;
        self.insert(&mut write, &answer).await?;
        self.follow(&mut write, owner, &answer, &question.title_if_untitled).await?;
        write.commit().await?;
        Ok((asked, answer))
    }

    /// Adds another empty answer in the state `generating` to a question, which becomes the conversation's current leaf.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown message; [`StoreError::InvalidParent`] when it is not a question; [`StoreError::Invalid`] when
    /// it has as many answers as a question can have.
    pub async fn answer_again(
        &self,
        owner: &Owner,
        question: &MessageId,
        model: String,
    ) -> Result<Message, StoreError> {
        let doing = "adding an answer";
        let mut write = self.write_durably(doing).await?;
        let found = find(&mut write.transaction, owner, question).await.map_err(self.failed(doing))?;
        let found = found.ok_or_else(|| StoreError::not_found("message", question.as_str()))?;
        self.check_parent(&mut write, owner, &found.conversation_id, question, Role::User).await?;
        self.check_answers(&mut write.transaction, &found).await?;
        let answer = blank(found.conversation_id, Some(found.id), Role::Assistant)?;
        let answer = Message { model: Some(model), ..answer };
        self.insert(&mut write, &answer).await?;
        self.follow(&mut write, owner, &answer, "").await?;
        write.commit().await?;
        Ok(answer)
    }

    /// Refuses another answer to the owner's question where it has as many as a question can have, before a model is asked for one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown message, [`StoreError::Invalid`].
    pub async fn expect_another_answer(&self, owner: &Owner, question: &MessageId) -> Result<(), StoreError> {
        let question = self.message(owner, question).await?;
        let mut connection = self.readers().acquire().await.map_err(self.failed("counting answers"))?;
        self.check_answers(&mut connection, &question).await
    }

    async fn check_answers(
        &self,
        connection: &mut SqliteConnection,
        question: &Message,
    ) -> Result<(), StoreError> {
        let answers: i64 =
            sqlx::query_scalar("SELECT count(*) FROM messages WHERE conversation_id = ? AND parent_id = ?")
                .bind(question.conversation_id.as_str())
                .bind(question.id.as_str())
                .fetch_one(connection)
                .await
                .map_err(self.failed("counting answers"))?;
        if answers < MOST_ANSWERS {
            return Ok(());
        }
        let reason = format!(
            "question {} has {answers} answers, and a question can have at most {MOST_ANSWERS}; ask it anew to go on",
            question.id
        );
        Err(StoreError::Invalid { field: "id", reason })
    }

    async fn check_parent(
        &self,
        write: &mut Write<'_>,
        owner: &Owner,
        conversation: &ConversationId,
        parent: &MessageId,
        role: Role,
    ) -> Result<(), StoreError> {
        let found =
            find(&mut write.transaction, owner, parent).await.map_err(self.failed("checking a parent"))?;
        let reason = match found {
            None => "there is no such message",
            Some(found) if found.conversation_id != *conversation => "it belongs to another conversation",
            Some(found) if found.role != role && role == Role::Assistant => "a question follows an answer",
            Some(found) if found.role != role => "an answer follows a question",
            Some(found) if found.status == Status::Generating => "it is still being written",
            Some(_) => return Ok(()),
        };
        Err(StoreError::InvalidParent { parent: parent.to_string(), reason })
    }

    pub(crate) async fn insert(&self, write: &mut Write<'_>, message: &Message) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO messages (id, conversation_id, parent_id, role, content, composed, status, model, created_at,
                 finish_reason)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(message.id.as_str())
        .bind(message.conversation_id.as_str())
        .bind(message.parent_id.as_ref().map(MessageId::as_str))
        .bind(message.role.as_str())
        .bind(&message.content)
        .bind(composed(&message.content))
        .bind(message.status.as_str())
        .bind(message.model.as_deref())
        .bind(message.created_at.milliseconds())
        .bind(message.finish_reason.as_deref())
        .execute(&mut *write.transaction)
        .await
        .map_err(self.failed("adding a message"))?;
        Ok(())
    }

    /// Keeps the text of an answer that has ended as searches look through it, where that is another.
    pub(crate) async fn keep_composed(
        &self,
        write: &mut Write<'_>,
        id: &str,
        content: &str,
    ) -> Result<(), StoreError> {
        let Some(composed) = composed(content) else { return Ok(()) };
        sqlx::query("UPDATE messages SET composed = ? WHERE id = ?")
            .bind(composed)
            .bind(id)
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed("ending an answer"))?;
        Ok(())
    }

    /// Moves the conversation to `leaf` and to the top of the list; gives it `title` if it has none.
    pub(crate) async fn follow(
        &self,
        write: &mut Write<'_>,
        owner: &Owner,
        leaf: &Message,
        title: &str,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE conversations SET current_leaf = ?, updated_at = max(updated_at, ?),
                 title = CASE title WHEN '' THEN ? ELSE title END,
                 folded_title = CASE title WHEN '' THEN ? ELSE folded_title END
             WHERE id = ? AND owner = ? AND deleted_at IS NULL",
        )
        .bind(leaf.id.as_str())
        .bind(leaf.created_at.milliseconds())
        .bind(title)
        .bind(folded(title))
        .bind(leaf.conversation_id.as_str())
        .bind(owner.as_str())
        .execute(&mut *write.transaction)
        .await
        .map_err(self.failed("adding a message"))?;
        match done.rows_affected() {
            0 => Err(StoreError::not_found("conversation", leaf.conversation_id.as_str())),
            _ => Ok(()),
        }
    }
}

/// The message, if it exists in a conversation of the owner's that is not deleted.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    owner: &Owner,
    id: &MessageId,
) -> Result<Option<Message>, sqlx::Error> {
    sqlx::query_as(
        "SELECT m.* FROM messages m JOIN conversations c ON c.id = m.conversation_id
         WHERE m.id = ? AND c.owner = ? AND c.deleted_at IS NULL",
    )
    .bind(id.as_str())
    .bind(owner.as_str())
    .fetch_optional(connection)
    .await
}

pub(crate) fn blank(
    conversation_id: ConversationId,
    parent_id: Option<MessageId>,
    role: Role,
) -> Result<Message, StoreError> {
    Ok(Message {
        id: MessageId::new()?,
        conversation_id,
        parent_id,
        role,
        content: String::new(),
        status: if role == Role::User { Status::Complete } else { Status::Generating },
        error: None,
        model: None,
        created_at: Timestamp::now(),
        finish_reason: None,
        prompt_tokens: None,
        completion_tokens: None,
        cached_tokens: None,
        time_to_first_token_ms: None,
        tokens_per_second: None,
        context_length: None,
    })
}
