//! API keys: made once, shown once, kept as a hash. Each has a role, which says what its holder may do to the server, and an
//! owner, which says whose conversations it opens.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::database::Store;
use crate::messages::unknown_word;
use crate::secret::hash;
use crate::{ApiKeyId, ApiKeySecret, Owner, StoreError, Timestamp};

/// Longest name of a key, in characters.
const NAME_LIMIT: usize = 100;

/// `last_used_at` is written at most this often for one key, in milliseconds.
const LAST_USED_GRAIN_MS: i64 = 60_000;

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Everything that a user may, and administer models and adapters.
    Operator,
    /// Use models, and have conversations.
    User,
}

impl KeyRole {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyRole::Operator => "operator",
            KeyRole::User => "user",
        }
    }

    fn parse(word: &str) -> Option<KeyRole> {
        [KeyRole::Operator, KeyRole::User].into_iter().find(|role| role.as_str() == word)
    }
}

impl std::fmt::Display for KeyRole {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// What the person calls it. No two keys that are accepted have the same.
    pub name: String,
    /// What its holder may do. `None`: [`KeyRole::Operator`] for the first key that is ever made, which is the key of the
    /// person who runs the server; [`KeyRole::User`] for every later one.
    pub role: Option<KeyRole>,
    /// Whose conversations it opens. `None`: an operator's key opens those of [`Owner::Local`], which the same person had before
    /// there was a key; a user's key opens new ones of its own.
    pub owner: Option<Owner>,
}

impl NewApiKey {
    /// A key of that name, with the defaults for everything else.
    pub fn named(name: &str) -> NewApiKey {
        NewApiKey { name: name.to_owned(), role: None, owner: None }
    }
}

/// What the database keeps about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name in the database; not secret.
    pub id: ApiKeyId,
    /// What the person called it.
    pub name: String,
    /// What its holder may do.
    pub role: KeyRole,
    /// Whose conversations it opens.
    pub owner: Owner,
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
        let role: String = row.try_get("role")?;
        Ok(ApiKey {
            id: ApiKeyId::from_database(row.try_get("id")?),
            name: row.try_get("name")?,
            role: KeyRole::parse(&role).ok_or_else(|| unknown_word("role", role))?,
            owner: Owner::from_database(row.try_get("owner")?),
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
    /// [`StoreError::Invalid`] for an empty name, one of more than 100 characters, or one that a key has which is accepted now.
    pub async fn create_api_key(&self, new: NewApiKey) -> Result<(ApiKey, ApiKeySecret), StoreError> {
        let doing = "making an API key";
        let name = checked_name(&new.name)?;
        let secret = ApiKeySecret::new()?;
        let id = ApiKeyId::new()?;
        let mut write = self.write_durably(doing).await?;
        let (ever_made, of_that_name): (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE name = ? AND revoked_at IS NULL) FROM api_keys",
        )
        .bind(&name)
        .fetch_one(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        if of_that_name > 0 {
            let reason =
                format!("there is a key `{name}` already; choose another name, or revoke that one first");
            return Err(StoreError::Invalid { field: "name", reason });
        }
        let role = new.role.unwrap_or(if ever_made == 0 { KeyRole::Operator } else { KeyRole::User });
        let owner = new.owner.unwrap_or_else(|| match role {
            KeyRole::Operator => Owner::Local,
            KeyRole::User => Owner::Key(id.clone()),
        });
        let created_at = Timestamp::now();
        let key = ApiKey { id, name, role, owner, created_at, last_used_at: None, revoked_at: None };
        sqlx::query(
            "INSERT INTO api_keys (id, name, role, owner, hash, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(key.id.as_str())
        .bind(&key.name)
        .bind(key.role.as_str())
        .bind(key.owner.as_str())
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

    /// The key that `secret` is, if it is one and not revoked. It is looked up by its hash: the time that takes depends on the
    /// digest of what was given, which says nothing about the digest of a key.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn verify_api_key(&self, secret: &str) -> Result<Option<ApiKey>, StoreError> {
        let accepted: Option<ApiKey> =
            sqlx::query_as("SELECT * FROM api_keys WHERE hash = ? AND revoked_at IS NULL")
                .bind(&hash(secret)[..])
                .fetch_optional(self.readers())
                .await
                .map_err(self.failed("checking an API key"))?;
        if let Some(key) = &accepted {
            self.note_use(key).await;
        }
        Ok(accepted)
    }

    /// Notes when a key was used. A use that cannot be noted, as on a full disk, is no reason to refuse the key; for a minute nobody tries
    /// again then, since every request would wait for the disk or the lock.
    async fn note_use(&self, key: &ApiKey) {
        let now = Timestamp::now().milliseconds();
        if key.last_used_at.is_some_and(|last| now - last.milliseconds() < LAST_USED_GRAIN_MS) {
            return;
        }
        // While another request notes a use, this one does not wait for it: the next request with this key notes it.
        let Ok(mut failed_at) = self.use_notes().try_lock() else { return };
        if failed_at.is_some_and(|failed| (0..LAST_USED_GRAIN_MS).contains(&(now - failed))) {
            return;
        }
        let statement = sqlx::query("UPDATE api_keys SET last_used_at = ? WHERE id = ?");
        let statement = statement.bind(now).bind(key.id.as_str());
        *failed_at = match self.execute_streaming("noting an API key's use", statement).await {
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(key = key.id.as_str(), %error, "an API key is accepted, but its use could not be noted");
                Some(Timestamp::now().milliseconds())
            }
        };
    }

    /// Gives a key another role, from its next request on. The conversations that it opens stay the same.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    pub async fn set_api_key_role(&self, id: &ApiKeyId, role: KeyRole) -> Result<ApiKey, StoreError> {
        let doing = "changing an API key's role";
        let mut write = self.write_durably(doing).await?;
        let key: Option<ApiKey> = sqlx::query_as("UPDATE api_keys SET role = ? WHERE id = ? RETURNING *")
            .bind(role.as_str())
            .bind(id.as_str())
            .fetch_optional(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        write.commit().await?;
        key.ok_or_else(|| StoreError::not_found("API key", id.as_str()))
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

fn checked_name(name: &str) -> Result<String, StoreError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > NAME_LIMIT || name.chars().any(char::is_control) {
        let reason = format!("a key's name has 1 to {NAME_LIMIT} printable characters");
        return Err(StoreError::Invalid { field: "name", reason });
    }
    Ok(name.to_owned())
}
