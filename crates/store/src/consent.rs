//! Whether models may learn from an owner's feedback. Nobody has allowed it who has not said so.

use sqlx::Row;

use crate::database::Store;
use crate::{Owner, StoreError, Timestamp};

/// What an owner has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consent {
    /// Whether models may learn from the owner's feedback.
    pub allowed: bool,
    /// When it was said; `None` when it never was.
    pub changed_at: Option<Timestamp>,
}

impl Store {
    /// What the owner has said; not allowed when that is nothing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn training_consent(&self, owner: &Owner) -> Result<Consent, StoreError> {
        let doing = "reading a consent";
        let row = sqlx::query("SELECT allowed, changed_at FROM training_consent WHERE owner = ?")
            .bind(owner.as_str())
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed(doing))?;
        let Some(row) = row else { return Ok(Consent::default()) };
        Ok(Consent {
            allowed: row.try_get("allowed").map_err(self.failed(doing))?,
            changed_at: Some(Timestamp::from_milliseconds(
                row.try_get("changed_at").map_err(self.failed(doing))?,
            )),
        })
    }

    /// Keeps what the owner says now. Saying the same again leaves the time at which it was first said.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_training_consent(&self, owner: &Owner, allowed: bool) -> Result<Consent, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO training_consent (owner, allowed, changed_at) VALUES (?, ?, ?)
             ON CONFLICT (owner) DO UPDATE SET allowed = excluded.allowed, changed_at = excluded.changed_at
                 WHERE allowed <> excluded.allowed",
        )
        .bind(owner.as_str())
        .bind(allowed)
        .bind(Timestamp::now().milliseconds());
        self.execute_durably("keeping a consent", statement).await?;
        self.training_consent(owner).await
    }
}
