//! All of an owner's feedback with everything that is kept about it, for the owner.

use std::collections::BTreeMap;

use sqlx::{FromRow, Row};

use crate::database::Store;
use crate::feedback_rows::{FeedbackRow, read_rows, read_texts};
use crate::{FeedbackKind, GenerationRecord, Message, MessageId, Owner, Role, StoreError};

/// An answer that was judged, with the record of its sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedAnswer {
    /// The answer.
    pub message: Message,
    /// How it was sampled, where that was kept.
    pub generation: Option<GenerationRecord>,
}

/// A judgement with its texts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedFeedback {
    /// The judgement.
    pub row: FeedbackRow,
    /// The system prompt that the answer's model had read; may be empty.
    pub system_prompt: String,
    /// The question that was answered.
    pub question: MessageId,
    /// What was said, from the first message to the question.
    pub turns: Vec<(Role, String)>,
    /// The answer that was judged, or chosen.
    pub answer: JudgedAnswer,
    /// Of a choice, the answer that was not chosen.
    pub rejected: Option<JudgedAnswer>,
}

impl Store {
    /// All that the owner said of answers, that of chats in the trash too: by time, then by id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn export_feedback(&self, owner: &Owner) -> Result<Vec<ExportedFeedback>, StoreError> {
        let doing = "exporting feedback";
        let mut reading = self.readers().begin().await.map_err(self.failed(doing))?;
        let rows = read_rows(&mut reading, Some(owner)).await.map_err(self.failed(doing))?;
        let texts = read_texts(&mut reading, Some(owner)).await.map_err(self.failed(doing))?;
        let generations = sqlx::query(
            "SELECT g.* FROM generations g JOIN messages m ON m.id = g.message_id
                 JOIN conversations c ON c.id = m.conversation_id
             WHERE c.owner = ? AND g.message_id IN (
                 SELECT message_id FROM feedback UNION SELECT chosen_id FROM choices UNION SELECT rejected_id FROM choices)",
        )
        .bind(owner.as_str())
        .try_map(|row| {
            Ok((MessageId::from_database(row.try_get("message_id")?), GenerationRecord::from_row(&row)?))
        })
        .fetch_all(&mut *reading)
        .await
        .map_err(self.failed(doing))?;
        reading.rollback().await.map_err(self.failed(doing))?;
        let generations: BTreeMap<MessageId, GenerationRecord> = generations.into_iter().collect();
        let judged = |id: &MessageId| {
            let message = texts.message(id)?.clone();
            Some(JudgedAnswer { message, generation: generations.get(id).cloned() })
        };
        let exported = rows.into_iter().filter_map(|row| {
            let answer = judged(&row.answer)?;
            let (question, turns) = texts.turns(&answer.message)?;
            let rejected = match &row.kind {
                FeedbackKind::Said(_) => None,
                FeedbackKind::Choice { rejected } => Some(judged(rejected)?),
            };
            let system_prompt = texts.system_prompt(&answer.message);
            Some(ExportedFeedback { row, system_prompt, question, turns, answer, rejected })
        });
        Ok(exported.collect())
    }
}
