//! API keys: made once, shown once, kept as a hash.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use subtle::ConstantTimeEq;

use crate::database::Store;
use crate::secret::hash;
use crate::{ApiKeyId, ApiKeySecret, StoreError, Timestamp};

/// Longest name of a key, in characters.
const NAME_LIMIT: usize = 100;

/// `last_used_at` is written at most this often for one key, in milliseconds.
const LAST_USED_GRAIN_MS: i64 = 60_000;

/// What the database keeps about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name in the database; not secret.
    pub id: ApiKeyId,
    /// What the person called it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last accepted, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

impl FromRow<'_, SqliteRow> for ApiKey {
    fn from_row(row: &SqliteRow) -> Result<ApiKey, sqlx::Error> {
        let moment = |column| {
            Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_milliseconds))
        };
        Ok(ApiKey {
            id: ApiKeyId::from_database(row.try_get("id")?),
            name: row.try_get("name")?,
            created_at: Timestamp::from_milliseconds(row.try_get("created_at")?),
            last_used_at: moment("last_used_at")?,
            revoked_at: moment("revoked_at")?,
        })
    }
}

impl Store {
    /// Makes a key. The secret exists only in the value returned.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an empty name or one of more than 100 characters.
    pub async fn create_api_key(&self, name: &str) -> Result<(ApiKey, ApiKeySecret), StoreError> {
        let doing = "making an API key";
        let name = name.trim();
        let length = name.chars().count();
        if length == 0 || length > NAME_LIMIT || name.chars().any(char::is_control) {
            let reason = format!("a key's name has 1 to {NAME_LIMIT} printable characters");
            return Err(StoreError::Invalid { field: "name", reason });
        }
        let secret = ApiKeySecret::new()?;
        let key = ApiKey {
            id: ApiKeyId::new()?,
            name: name.to_owned(),
            created_at: Timestamp::now(),
            last_used_at: None,
            revoked_at: None,
        };
        let mut write = self.write_durably(doing).await?;
        sqlx::query("INSERT INTO api_keys (id, name, hash, created_at) VALUES (?, ?, ?, ?)")
            .bind(key.id.as_str())
            .bind(&key.name)
            .bind(&hash(secret.expose())[..])
            .bind(key.created_at.milliseconds())
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        write.commit().await?;
        Ok((key, secret))
    }

    /// All keys ever made, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        sqlx::query_as("SELECT * FROM api_keys ORDER BY rowid")
            .fetch_all(self.readers())
            .await
            .map_err(self.failed("listing API keys"))
    }

    /// Whether any key is accepted at present.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn has_api_key(&self) -> Result<bool, StoreError> {
        let active: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL")
            .fetch_one(self.readers())
            .await
            .map_err(self.failed("counting API keys"))?;
        Ok(active > 0)
    }

    /// The key that `secret` is, if it is one and not revoked. Takes the same time wherever a wrong secret differs.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn verify_api_key(&self, secret: &str) -> Result<Option<ApiKey>, StoreError> {
        let doing = "checking an API key";
        let given = hash(secret);
        let rows: Vec<SqliteRow> = sqlx::query("SELECT * FROM api_keys WHERE revoked_at IS NULL")
            .fetch_all(self.readers())
            .await
            .map_err(self.failed(doing))?;
        let mut accepted = None;
        for row in &rows {
            let kept: &[u8] = row.try_get("hash").map_err(self.failed(doing))?;
            if bool::from(kept.ct_eq(&given)) {
                accepted = Some(ApiKey::from_row(row).map_err(self.failed(doing))?);
            }
        }
        if let Some(key) = &accepted {
            self.note_use(key).await?;
        }
        Ok(accepted)
    }

    async fn note_use(&self, key: &ApiKey) -> Result<(), StoreError> {
        let doing = "noting an API key's use";
        let now = Timestamp::now().milliseconds();
        if key.last_used_at.is_some_and(|last| now - last.milliseconds() < LAST_USED_GRAIN_MS) {
            return Ok(());
        }
        let mut write = self.write_streaming(doing).await?;
        sqlx::query("UPDATE api_keys SET last_used_at = ? WHERE id = ?")
            .bind(now)
            .bind(key.id.as_str())
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        write.commit().await
    }

    /// Refuses a key from now on; a key that is already revoked keeps its date.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    pub async fn revoke_api_key(&self, id: &ApiKeyId) -> Result<ApiKey, StoreError> {
        let doing = "revoking an API key";
        let mut write = self.write_durably(doing).await?;
        let key: Option<ApiKey> = sqlx::query_as(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ? RETURNING *",
        )
        .bind(Timestamp::now().milliseconds())
        .bind(id.as_str())
        .fetch_optional(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        write.commit().await?;
        key.ok_or_else(|| StoreError::not_found("API key", id.as_str()))
    }
}
