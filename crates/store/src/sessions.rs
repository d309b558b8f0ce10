//! Sessions: what a browser holds after a login with an API key, so that the key itself stays out of it.

use std::time::Duration;

use crate::database::Store;
use crate::secret::hash;
use crate::{ApiKey, ApiKeyId, SessionSecret, StoreError, Timestamp};

impl Store {
    /// Begins a session of that length for the holder of a key. The secret exists only in the value returned.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_session(
        &self,
        key: &ApiKeyId,
        length: Duration,
    ) -> Result<SessionSecret, StoreError> {
        let doing = "beginning a session";
        let now = Timestamp::now();
        let secret = SessionSecret::new()?;
        let mut write = self.write_durably(doing).await?;
        sqlx::query("DELETE FROM sessions WHERE expires_at <= ?")
            .bind(now.milliseconds())
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        sqlx::query("INSERT INTO sessions (hash, key_id, expires_at) VALUES (?, ?, ?)")
            .bind(&hash(secret.expose())[..])
            .bind(key.as_str())
            .bind(now.later_by(length).milliseconds())
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        write.commit().await?;
        Ok(secret)
    }

    /// The key that `secret` is a session of, if it is one that has neither expired nor ended, of a key that is not revoked. (It is looked up by
    /// its hash, so the time that takes says nothing about the secret.)
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn verify_session(&self, secret: &str) -> Result<Option<ApiKey>, StoreError> {
        sqlx::query_as(
            "SELECT k.* FROM sessions s JOIN api_keys k ON k.id = s.key_id
             WHERE s.hash = ? AND s.expires_at > ? AND k.revoked_at IS NULL",
        )
        .bind(&hash(secret)[..])
        .bind(Timestamp::now().milliseconds())
        .fetch_optional(self.readers())
        .await
        .map_err(self.failed("checking a session"))
    }

    /// Ends a session; does nothing when there is none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_session(&self, secret: &str) -> Result<(), StoreError> {
        let doing = "ending a session";
        let mut write = self.write_durably(doing).await?;
        sqlx::query("DELETE FROM sessions WHERE hash = ?")
            .bind(&hash(secret)[..])
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        write.commit().await
    }
}
