//! Deleted conversations: they are kept for 30 days, listed, brought back or erased before their time.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::database::Store;
use crate::{Conversation, ConversationId, Owner, StoreError, Timestamp};

/// How long a deleted conversation can be restored.
pub const KEEP_DELETED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A deleted conversation that can still be restored.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedConversation {
    /// The conversation as it was.
    pub conversation: Conversation,
    /// When it was deleted.
    pub deleted_at: Timestamp,
}

impl FromRow<'_, SqliteRow> for DeletedConversation {
    fn from_row(row: &SqliteRow) -> Result<DeletedConversation, sqlx::Error> {
        Ok(DeletedConversation {
            conversation: Conversation::from_row(row)?,
            deleted_at: Timestamp::from_milliseconds(row.try_get("deleted_at")?),
        })
    }
}

impl Store {
    /// At most `limit` deleted conversations of the owner's, the latest deleted first; with `before`, those that follow it in
    /// that order. Those whose time is over are not among them, whether they are erased by now or not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when `before` is no deleted conversation of the owner's.
    pub async fn deleted_conversations(
        &self,
        owner: &Owner,
        limit: u32,
        before: Option<&ConversationId>,
    ) -> Result<Vec<DeletedConversation>, StoreError> {
        let doing = "listing deleted conversations";
        let (deleted_at, id) = match before {
            None => (i64::MAX, String::new()),
            Some(before) => {
                let deleted_at: Option<i64> = sqlx::query_scalar(
                    "SELECT deleted_at FROM conversations WHERE id = ? AND owner = ? AND deleted_at IS NOT NULL",
                )
                .bind(before.as_str())
                .bind(owner.as_str())
                .fetch_optional(self.readers())
                .await
                .map_err(self.failed(doing))?;
                let deleted_at =
                    deleted_at.ok_or_else(|| StoreError::not_found("conversation", before.as_str()))?;
                (deleted_at, before.as_str().to_owned())
            }
        };
        sqlx::query_as(
            "SELECT * FROM conversations WHERE owner = ? AND deleted_at >= ? AND (deleted_at, id) < (?, ?)
             ORDER BY deleted_at DESC, id DESC LIMIT ?",
        )
        .bind(owner.as_str())
        .bind(Timestamp::now().earlier_by(KEEP_DELETED).milliseconds())
        .bind(deleted_at)
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await
        .map_err(self.failed(doing))
    }

    /// Erases a deleted conversation of the owner's, with its messages.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or it is not deleted.
    pub async fn erase_conversation(&self, owner: &Owner, id: &ConversationId) -> Result<(), StoreError> {
        let statement =
            sqlx::query("DELETE FROM conversations WHERE id = ? AND owner = ? AND deleted_at IS NOT NULL")
                .bind(id.as_str())
                .bind(owner.as_str());
        match self.erase_durably("erasing a conversation", statement).await? {
            0 => Err(StoreError::not_found("conversation", id.as_str())),
            _ => Ok(()),
        }
    }

    /// Erases all deleted conversations of the owner's, with their messages. Returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn empty_trash(&self, owner: &Owner) -> Result<u64, StoreError> {
        let statement = sqlx::query("DELETE FROM conversations WHERE owner = ? AND deleted_at IS NOT NULL")
            .bind(owner.as_str());
        self.erase_durably("emptying the trash", statement).await
    }

    /// Erases the conversations, whosever they are, that were deleted more than 30 days ago, with their messages. Returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn purge_expired(&self) -> Result<u64, StoreError> {
        self.purge_deleted(Timestamp::now().earlier_by(KEEP_DELETED)).await
    }

    /// Erases the conversations, whosever they are, that were deleted before `moment`, with their messages. Returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn purge_deleted(&self, moment: Timestamp) -> Result<u64, StoreError> {
        let statement =
            sqlx::query("DELETE FROM conversations WHERE deleted_at < ?").bind(moment.milliseconds());
        self.erase_durably("purging deleted conversations", statement).await
    }
}
