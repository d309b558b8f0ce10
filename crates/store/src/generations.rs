//! What exactly a model was asked and what it sampled, as token ids: the same text can be made of different tokens, and
//! only the ids say which.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::database::{Store, Write};
use crate::{MessageId, Owner, StoreError};

/// The record behind one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRecord {
    /// The model that sampled.
    pub model: String,
    /// Names its weights, its adapter and the code that computed with them; `None` for answers from before this was kept.
    pub fingerprint: Option<String>,
    /// The seed of its random numbers.
    pub seed: Option<u64>,
    /// The sampling settings in force, as JSON.
    pub settings: serde_json::Value,
    /// Token ids of the whole prompt.
    pub prompt_tokens: Vec<u32>,
    /// Token ids in the order in which they were sampled.
    pub sampled_tokens: Vec<u32>,
    /// The natural logarithm of each sampled token's probability by the model's own distribution; `None` where they were not
    /// computed.
    pub logprobs: Option<Vec<f32>>,
    /// SHA-256 of the chat template that made the prompt, in hexadecimal; `None` for answers from before this was kept.
    pub template: Option<String>,
    /// The system prompt that the model had read, empty for none; `None` for answers from before this was kept.
    pub system_prompt: Option<String>,
}

impl FromRow<'_, SqliteRow> for GenerationRecord {
    fn from_row(row: &SqliteRow) -> Result<GenerationRecord, sqlx::Error> {
        let settings: String = row.try_get("settings")?;
        let settings = serde_json::from_str(&settings).map_err(|source| sqlx::Error::ColumnDecode {
            index: "settings".to_owned(),
            source: Box::new(source),
        })?;
        Ok(GenerationRecord {
            model: row.try_get("model")?,
            fingerprint: row.try_get("fingerprint")?,
            seed: row.try_get::<Option<i64>, _>("seed")?.map(i64::cast_unsigned),
            settings,
            prompt_tokens: tokens(row.try_get("prompt_tokens")?),
            sampled_tokens: tokens(row.try_get("sampled_tokens")?),
            logprobs: row.try_get::<Option<&[u8]>, _>("logprobs")?.map(logprobs),
            template: row.try_get("template")?,
            system_prompt: row.try_get("system_prompt")?,
        })
    }
}

impl Store {
    /// The record behind an answer of the owner's; `None` when none was kept.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn generation(
        &self,
        owner: &Owner,
        answer: &MessageId,
    ) -> Result<Option<GenerationRecord>, StoreError> {
        sqlx::query_as(
            "SELECT g.* FROM generations g JOIN messages m ON m.id = g.message_id
                 JOIN conversations c ON c.id = m.conversation_id
             WHERE g.message_id = ? AND c.owner = ?",
        )
        .bind(answer.as_str())
        .bind(owner.as_str())
        .fetch_optional(self.readers())
        .await
        .map_err(self.failed("reading a generation"))
    }

    pub(crate) async fn insert_generation(
        &self,
        write: &mut Write<'_>,
        answer: &MessageId,
        generation: &GenerationRecord,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO generations (message_id, model, seed, settings, prompt_tokens, sampled_tokens, fingerprint, logprobs,
                 template, system_prompt)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(answer.as_str())
        .bind(&generation.model)
        .bind(generation.seed.map(u64::cast_signed))
        .bind(generation.settings.to_string())
        .bind(bytes(&generation.prompt_tokens))
        .bind(bytes(&generation.sampled_tokens))
        .bind(&generation.fingerprint)
        .bind(generation.logprobs.as_deref().map(logprob_bytes))
        .bind(&generation.template)
        .bind(&generation.system_prompt)
        .execute(&mut *write.transaction)
        .await
        .map_err(self.failed("keeping a generation"))?;
        Ok(())
    }
}

fn bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

fn logprob_bytes(logprobs: &[f32]) -> Vec<u8> {
    logprobs.iter().flat_map(|logprob| logprob.to_le_bytes()).collect()
}

fn logprobs(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&logprob| f32::from_le_bytes(logprob)).collect()
}

fn tokens(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|&token| u32::from_le_bytes(token)).collect()
}
