//! Conversations: making, listing, changing, deleting with undo. Titles are the caller's.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::database::{Store, Write};
use crate::fold::folded;
use crate::{ConversationId, MessageId, Owner, StoreError, Timestamp};

/// A conversation without its messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Its name in the database.
    pub id: ConversationId,
    /// Empty until the first question or a rename gives it one.
    pub title: String,
    /// The model that answers.
    pub model: String,
    /// Text before the conversation; may be empty.
    pub system_prompt: String,
    /// A JSON value that the store only keeps.
    pub settings: serde_json::Value,
    /// The end of the branch that was last looked at.
    pub current_leaf: Option<MessageId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a message was last added or finished.
    pub updated_at: Timestamp,
}

/// What a new conversation starts with.
#[derive(Debug, Clone, Default)]
pub struct NewConversation {
    /// May be empty: the first question gives one.
    pub title: String,
    /// The model that answers.
    pub model: String,
    /// May be empty.
    pub system_prompt: String,
    /// A JSON value that the store only keeps.
    pub settings: serde_json::Value,
}

/// What to change; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct ConversationChange {
    /// A new title.
    pub title: Option<String>,
    /// Another model.
    pub model: Option<String>,
    /// Another system prompt.
    pub system_prompt: Option<String>,
    /// Other settings, as a whole.
    pub settings: Option<serde_json::Value>,
    /// Another branch to look at, named by its last message.
    pub current_leaf: Option<MessageId>,
}

impl FromRow<'_, SqliteRow> for Conversation {
    fn from_row(row: &SqliteRow) -> Result<Conversation, sqlx::Error> {
        let settings: String = row.try_get("settings")?;
        let settings = serde_json::from_str(&settings).map_err(|source| sqlx::Error::ColumnDecode {
            index: "settings".to_owned(),
            source: Box::new(source),
        })?;
        Ok(Conversation {
            id: ConversationId::from_database(row.try_get("id")?),
            title: row.try_get("title")?,
            model: row.try_get("model")?,
            system_prompt: row.try_get("system_prompt")?,
            settings,
            current_leaf: row.try_get::<Option<String>, _>("current_leaf")?.map(MessageId::from_database),
            created_at: Timestamp::from_milliseconds(row.try_get("created_at")?),
            updated_at: Timestamp::from_milliseconds(row.try_get("updated_at")?),
        })
    }
}

impl Store {
    /// Makes a conversation without messages.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_conversation(
        &self,
        owner: &Owner,
        new: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let mut write = self.write_durably("making a conversation").await?;
        let conversation = self.insert_conversation(&mut write, owner, new).await?;
        write.commit().await?;
        Ok(conversation)
    }

    pub(crate) async fn insert_conversation(
        &self,
        write: &mut Write<'_>,
        owner: &Owner,
        new: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let now = Timestamp::now();
        let conversation = Conversation {
            id: ConversationId::new()?,
            title: new.title,
            model: new.model,
            system_prompt: new.system_prompt,
            settings: new.settings,
            current_leaf: None,
            created_at: now,
            updated_at: now,
        };
        sqlx::query(
            "INSERT INTO conversations (id, owner, title, folded_title, model, system_prompt, settings, created_at,
                 updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(conversation.id.as_str())
        .bind(owner.as_str())
        .bind(&conversation.title)
        .bind(folded(&conversation.title))
        .bind(&conversation.model)
        .bind(&conversation.system_prompt)
        .bind(conversation.settings.to_string())
        .bind(now.milliseconds())
        .bind(now.milliseconds())
        .execute(&mut *write.transaction)
        .await
        .map_err(self.failed("making a conversation"))?;
        Ok(conversation)
    }

    /// The owner's conversation of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or it is deleted.
    pub async fn conversation(&self, owner: &Owner, id: &ConversationId) -> Result<Conversation, StoreError> {
        sqlx::query_as("SELECT * FROM conversations WHERE id = ? AND owner = ? AND deleted_at IS NULL")
            .bind(id.as_str())
            .bind(owner.as_str())
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed("reading a conversation"))?
            .ok_or_else(|| StoreError::not_found("conversation", id.as_str()))
    }

    /// At most `limit` of the owner's conversations, the most recently used first; with `before`, those that follow it in that order.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when `before` names none.
    pub async fn conversations(
        &self,
        owner: &Owner,
        limit: u32,
        before: Option<&ConversationId>,
    ) -> Result<Vec<Conversation>, StoreError> {
        let doing = "listing conversations";
        let (updated_at, id) = match before {
            None => (i64::MAX, String::new()),
            Some(before) => {
                let updated_at: Option<i64> =
                    sqlx::query_scalar("SELECT updated_at FROM conversations WHERE id = ? AND owner = ?")
                        .bind(before.as_str())
                        .bind(owner.as_str())
                        .fetch_optional(self.readers())
                        .await
                        .map_err(self.failed(doing))?;
                let updated_at =
                    updated_at.ok_or_else(|| StoreError::not_found("conversation", before.as_str()))?;
                (updated_at, before.as_str().to_owned())
            }
        };
        sqlx::query_as(
            "SELECT * FROM conversations WHERE owner = ? AND deleted_at IS NULL AND (updated_at, id) < (?, ?)
             ORDER BY updated_at DESC, id DESC LIMIT ?",
        )
        .bind(owner.as_str())
        .bind(updated_at)
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await
        .map_err(self.failed(doing))
    }

    /// Changes the given fields and returns the conversation as it is then. Its place in the list stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such conversation, or the new leaf is no message of it.
    pub async fn update_conversation(
        &self,
        owner: &Owner,
        id: &ConversationId,
        change: ConversationChange,
    ) -> Result<Conversation, StoreError> {
        let doing = "changing a conversation";
        let mut write = self.write_durably(doing).await?;
        if let Some(leaf) = &change.current_leaf {
            let belongs: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM messages m JOIN conversations c ON c.id = m.conversation_id
                     WHERE m.conversation_id = ? AND m.id = ? AND c.owner = ?",
            )
            .bind(id.as_str())
            .bind(leaf.as_str())
            .bind(owner.as_str())
            .fetch_one(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
            if belongs == 0 {
                return Err(StoreError::not_found("message", leaf.as_str()));
            }
        }
        let conversation: Option<Conversation> = sqlx::query_as(
            "UPDATE conversations SET folded_title = coalesce(?, folded_title), title = coalesce(?, title),
                 model = coalesce(?, model), system_prompt = coalesce(?, system_prompt),
                 settings = coalesce(?, settings), current_leaf = coalesce(?, current_leaf)
             WHERE id = ? AND owner = ? AND deleted_at IS NULL RETURNING *",
        )
        .bind(change.title.as_deref().map(folded))
        .bind(change.title)
        .bind(change.model)
        .bind(change.system_prompt)
        .bind(change.settings.map(|settings| settings.to_string()))
        .bind(change.current_leaf.map(|leaf| leaf.as_str().to_owned()))
        .bind(id.as_str())
        .bind(owner.as_str())
        .fetch_optional(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        let conversation = conversation.ok_or_else(|| StoreError::not_found("conversation", id.as_str()))?;
        write.commit().await?;
        Ok(conversation)
    }

    /// Hides a conversation; [`Store::restore_conversation`] brings it back until it is purged.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or it is deleted already.
    pub async fn delete_conversation(&self, owner: &Owner, id: &ConversationId) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE conversations SET deleted_at = ? WHERE id = ? AND owner = ? AND deleted_at IS NULL",
        )
        .bind(Timestamp::now().milliseconds())
        .bind(id.as_str())
        .bind(owner.as_str());
        match self.execute_durably("deleting a conversation", statement).await? {
            0 => Err(StoreError::not_found("conversation", id.as_str())),
            _ => Ok(()),
        }
    }

    /// Undoes [`Store::delete_conversation`]; does nothing to a conversation that is not deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or it is purged.
    pub async fn restore_conversation(
        &self,
        owner: &Owner,
        id: &ConversationId,
    ) -> Result<Conversation, StoreError> {
        let doing = "restoring a conversation";
        let mut write = self.write_durably(doing).await?;
        let conversation: Option<Conversation> = sqlx::query_as(
            "UPDATE conversations SET deleted_at = NULL WHERE id = ? AND owner = ? RETURNING *",
        )
        .bind(id.as_str())
        .bind(owner.as_str())
        .fetch_optional(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        write.commit().await?;
        conversation.ok_or_else(|| StoreError::not_found("conversation", id.as_str()))
    }
}
