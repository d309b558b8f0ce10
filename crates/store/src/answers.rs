//! The life of an answer: text is added piece by piece, then it ends once, in one of four ways.

use crate::database::Store;
use crate::{GenerationRecord, Message, MessageId, Owner, Status, StoreError, Timestamp, messages};

/// How an answer ended.
#[derive(Debug, Clone)]
pub struct AnswerEnd {
    /// Anything but [`Status::Generating`].
    pub status: Status,
    /// Text since the last piece; may be empty.
    pub text: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Why the model ended, in the API's words.
    pub finish_reason: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u32>,
    /// Prompt tokens found in the cache.
    pub cached_tokens: Option<u32>,
    /// Milliseconds from the request to its first token.
    pub time_to_first_token_ms: Option<f64>,
    /// Tokens per second after the first.
    pub tokens_per_second: Option<f64>,
    /// Tokens that the model could have taken in.
    pub context_length: Option<u32>,
    /// What exactly was asked and sampled, kept with the answer.
    pub generation: Option<GenerationRecord>,
}

impl AnswerEnd {
    /// An ending with that status about which nothing was measured.
    pub fn new(status: Status) -> AnswerEnd {
        AnswerEnd {
            status,
            text: String::new(),
            error: None,
            finish_reason: None,
            prompt_tokens: None,
            completion_tokens: None,
            cached_tokens: None,
            time_to_first_token_ms: None,
            tokens_per_second: None,
            context_length: None,
            generation: None,
        }
    }
}

impl Store {
    /// Adds text to an answer that is being written. When this returns, the text survives the end of the process.
    ///
    /// # Errors
    /// [`StoreError::NotGenerating`] when the answer has ended; [`StoreError::NotFound`] when it is gone.
    pub async fn append_to_answer(
        &self,
        owner: &Owner,
        id: &MessageId,
        text: &str,
    ) -> Result<(), StoreError> {
        let doing = "adding text to an answer";
        let statement = sqlx::query(
            "UPDATE messages SET content = content || ? WHERE id = ? AND status = 'generating'
                 AND conversation_id IN (SELECT id FROM conversations WHERE owner = ?)",
        )
        .bind(text)
        .bind(id.as_str())
        .bind(owner.as_str());
        let changed = self.execute_streaming(doing, statement).await?;
        if changed == 0 { Err(self.why_not_generating(owner, id).await) } else { Ok(()) }
    }

    /// Ends an answer; from then on its text never changes. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::NotGenerating`] when it has ended already; [`StoreError::Invalid`] when `end` does not end it.
    pub async fn end_answer(
        &self,
        owner: &Owner,
        id: &MessageId,
        end: AnswerEnd,
    ) -> Result<Message, StoreError> {
        if end.status == Status::Generating {
            return Err(StoreError::Invalid {
                field: "status",
                reason: "an answer cannot end as generating".to_owned(),
            });
        }
        let doing = "ending an answer";
        let mut write = self.write_durably(doing).await?;
        let ended: Option<Message> = sqlx::query_as(
            "UPDATE messages SET content = content || ?, status = ?, error = ?, finish_reason = ?, prompt_tokens = ?,
                 completion_tokens = ?, cached_tokens = ?, time_to_first_token_ms = ?, tokens_per_second = ?,
                 context_length = ?
             WHERE id = ? AND status = 'generating'
                 AND conversation_id IN (SELECT id FROM conversations WHERE owner = ?) RETURNING *",
        )
        .bind(end.text)
        .bind(end.status.as_str())
        .bind(end.error)
        .bind(end.finish_reason)
        .bind(end.prompt_tokens)
        .bind(end.completion_tokens)
        .bind(end.cached_tokens)
        .bind(end.time_to_first_token_ms)
        .bind(end.tokens_per_second)
        .bind(end.context_length)
        .bind(id.as_str())
        .bind(owner.as_str())
        .fetch_optional(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        let Some(message) = ended else {
            drop(write);
            return Err(self.why_not_generating(owner, id).await);
        };
        self.keep_composed(&mut write, id.as_str(), &message.content).await?;
        if let Some(generation) = &end.generation {
            self.insert_generation(&mut write, id, generation).await?;
        }
        sqlx::query("UPDATE conversations SET updated_at = max(updated_at, ?) WHERE id = ?")
            .bind(Timestamp::now().milliseconds())
            .bind(message.conversation_id.as_str())
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        write.commit().await?;
        Ok(message)
    }

    /// Declares every unfinished answer interrupted. Only the process that holds the lock may, and only before it begins answers.
    pub(crate) async fn interrupt_unfinished(&self) -> Result<u64, StoreError> {
        let doing = "marking interrupted answers";
        let mut write = self.write_durably(doing).await?;
        let interrupted: Vec<(String, String)> = sqlx::query_as(
            "UPDATE messages SET status = 'interrupted' WHERE status = 'generating' RETURNING id, content",
        )
        .fetch_all(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        for (id, content) in &interrupted {
            self.keep_composed(&mut write, id, content).await?;
        }
        write.commit().await?;
        Ok(interrupted.len() as u64)
    }

    async fn why_not_generating(&self, owner: &Owner, id: &MessageId) -> StoreError {
        let doing = "reading a message";
        let found = async {
            let mut connection = self.readers().acquire().await?;
            messages::find(&mut connection, owner, id).await
        };
        match found.await {
            Ok(Some(message)) => StoreError::NotGenerating { id: id.clone(), status: message.status },
            Ok(None) => StoreError::not_found("message", id.as_str()),
            Err(source) => self.failed(doing)(source),
        }
    }
}
