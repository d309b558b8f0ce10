//! Every judgement with what it is about: the texts of the chat up to the question, the answers, how they were sampled.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};

use crate::database::Store;
use crate::messages::unknown_word;
use crate::{
    ConversationId, FeedbackId, Message, MessageId, NewFeedback, Owner, Rating, Status, StoreError, Timestamp,
};

/// What kind of judgement a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackKind {
    /// Something was said of one answer.
    Said(NewFeedback),
    /// The answer was chosen over this one.
    Choice {
        /// The answer that was not chosen.
        rejected: MessageId,
    },
}

/// One judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackRow {
    /// Its name.
    pub id: FeedbackId,
    /// Whose it is.
    pub owner: Owner,
    /// The chat that it is about.
    pub conversation: ConversationId,
    /// The answer that it is about, or that was chosen.
    pub answer: MessageId,
    /// The name of the model that wrote the answer.
    pub model: String,
    /// What was said.
    pub kind: FeedbackKind,
    /// When it was first said.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Whether models may learn from what its owner says.
    pub consents: bool,
    /// Whether the chat is in the trash, where feedback does not count.
    pub in_trash: bool,
    /// The improvements that learned from it, by name.
    pub trained_in: Vec<String>,
}

/// The texts behind judgements.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Of chats, as they are now.
    system_prompts: BTreeMap<String, String>,
    /// Of answers, where it was kept: what their models had read.
    read_prompts: BTreeMap<MessageId, String>,
    messages: BTreeMap<MessageId, Message>,
}

impl FromRow<'_, SqliteRow> for FeedbackRow {
    fn from_row(row: &SqliteRow) -> Result<FeedbackRow, sqlx::Error> {
        let kind = match row.try_get::<Option<String>, _>("rejected_id")? {
            Some(rejected) => FeedbackKind::Choice { rejected: MessageId::from_database(rejected) },
            None => FeedbackKind::Said(NewFeedback {
                rating: row
                    .try_get::<Option<String>, _>("rating")?
                    .map(|word| Rating::parse(&word).ok_or_else(|| unknown_word("rating", word)))
                    .transpose()?,
                reasons: json(row, "reasons")?,
                comment: row.try_get("comment")?,
                correction: row.try_get("correction")?,
            }),
        };
        Ok(FeedbackRow {
            id: FeedbackId::from_database(row.try_get("id")?),
            owner: Owner::from_database(row.try_get("owner")?),
            conversation: ConversationId::from_database(row.try_get("conversation_id")?),
            answer: MessageId::from_database(row.try_get("answer_id")?),
            model: row.try_get("model")?,
            kind,
            created_at: Timestamp::from_milliseconds(row.try_get("created_at")?),
            updated_at: Timestamp::from_milliseconds(row.try_get("updated_at")?),
            consents: row.try_get("consents")?,
            in_trash: row.try_get("in_trash")?,
            trained_in: json(row, "trained_in")?,
        })
    }
}

/// The strings of a column that holds a JSON array.
pub(crate) fn json(row: &SqliteRow, column: &str) -> Result<Vec<String>, sqlx::Error> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|source| sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) })
}

/// The judgements of the owner's, or all there are, those of chats in the trash too; by time, then by id.
pub(crate) async fn read_rows(
    connection: &mut SqliteConnection,
    owner: Option<&Owner>,
) -> Result<Vec<FeedbackRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT j.*, coalesce(m.model, '') AS model, m.conversation_id, c.owner, c.deleted_at IS NOT NULL AS in_trash,
             coalesce(consent.allowed, 0) AS consents,
             (SELECT json_group_array(improvement) FROM (
                 SELECT improvement FROM trained_feedback WHERE feedback_id = j.id ORDER BY improvement)) AS trained_in
         FROM (
             SELECT id, message_id AS answer_id, NULL AS rejected_id, rating, reasons, comment, correction, created_at,
                 updated_at FROM feedback
             UNION ALL
             SELECT id, chosen_id, rejected_id, NULL, '[]', NULL, NULL, created_at, created_at FROM choices
         ) j
             JOIN messages m ON m.id = j.answer_id
             JOIN conversations c ON c.id = m.conversation_id
             LEFT JOIN training_consent consent ON consent.owner = c.owner
         WHERE c.owner = coalesce(?, c.owner)
         ORDER BY j.updated_at, j.id",
    )
    .bind(owner.map(Owner::as_str))
    .fetch_all(connection)
    .await
}

/// The messages of every chat that the owner, or anybody, judged answers in.
pub(crate) async fn read_texts(
    connection: &mut SqliteConnection,
    owner: Option<&Owner>,
) -> Result<Texts, sqlx::Error> {
    let judged = "WITH judged (id) AS (
        SELECT DISTINCT m.conversation_id FROM messages m JOIN conversations c ON c.id = m.conversation_id
        WHERE m.id IN (SELECT message_id FROM feedback UNION SELECT chosen_id FROM choices) AND c.owner = coalesce(?, c.owner))";
    let messages: Vec<Message> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "{judged} SELECT * FROM messages WHERE conversation_id IN judged"
    )))
    .bind(owner.map(Owner::as_str))
    .fetch_all(&mut *connection)
    .await?;
    let system_prompts: Vec<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "{judged} SELECT id, system_prompt FROM conversations WHERE id IN judged"
    )))
    .bind(owner.map(Owner::as_str))
    .fetch_all(&mut *connection)
    .await?;
    let read_prompts: Vec<(String, String)> = sqlx::query_as(
        "SELECT message_id, system_prompt FROM generations WHERE system_prompt IS NOT NULL
             AND message_id IN (SELECT message_id FROM feedback UNION SELECT chosen_id FROM choices)",
    )
    .fetch_all(connection)
    .await?;
    Ok(Texts {
        system_prompts: system_prompts.into_iter().collect(),
        read_prompts: read_prompts
            .into_iter()
            .map(|(id, read)| (MessageId::from_database(id), read))
            .collect(),
        messages: messages.into_iter().map(|message| (message.id.clone(), message)).collect(),
    })
}

impl Texts {
    /// The message of that id.
    pub(crate) fn message(&self, id: &MessageId) -> Option<&Message> {
        self.messages.get(id)
    }

    /// The system prompt that the answer's model had read; empty without one.
    pub(crate) fn system_prompt(&self, answer: &Message) -> &str {
        let read = self.read_prompts.get(&answer.id);
        let read = read.or_else(|| self.system_prompts.get(answer.conversation_id.as_str()));
        read.map_or("", String::as_str)
    }

    /// What was said up to and with a question, oldest first.
    pub(crate) fn turns(&self, question: &MessageId) -> Vec<&Message> {
        let mut turns = Vec::new();
        let mut next = self.messages.get(question);
        while let Some(message) = next {
            turns.push(message);
            next = message.parent_id.as_ref().and_then(|parent| self.messages.get(parent));
        }
        turns.reverse();
        turns
    }
}

/// Whether the answer does not end where its model meant it to end.
pub(crate) fn is_cut_short(answer: &Message) -> bool {
    answer.status != Status::Complete
        || answer.finish_reason.as_deref().is_some_and(|reason| reason != "stop")
}

impl Store {
    /// All judgements there are, whosever they are, those of chats in the trash too, without their texts: by time, then by id. For
    /// counting.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn feedback_rows(&self) -> Result<Vec<FeedbackRow>, StoreError> {
        let doing = "reading feedback";
        let mut connection = self.readers().acquire().await.map_err(self.failed(doing))?;
        read_rows(&mut connection, None).await.map_err(self.failed(doing))
    }
}
