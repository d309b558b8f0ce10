//! All of an owner's feedback with everything that is kept about it, for the owner.

use std::collections::BTreeMap;

use sqlx::{FromRow, Row};

use crate::database::Store;
use crate::feedback_rows::{FeedbackRow, Texts, read_rows, read_texts};
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

/// All of an owner's feedback, one judgement after the other: by time, then by id. The texts before an answer are copied when its judgement is
/// asked for, as those of all judgements of a long chat together are many times the chat.
#[derive(Debug)]
pub struct FeedbackExport {
    rows: std::vec::IntoIter<FeedbackRow>,
    texts: Texts,
    generations: BTreeMap<MessageId, GenerationRecord>,
}

impl Iterator for FeedbackExport {
    type Item = ExportedFeedback;

    fn next(&mut self) -> Option<ExportedFeedback> {
        let FeedbackExport { rows, texts, generations } = self;
        rows.find_map(|row| exported(row, texts, generations))
    }
}

impl Store {
    /// All that the owner said of answers, that of chats in the trash too, as it was when this was called.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn export_feedback(&self, owner: &Owner) -> Result<FeedbackExport, StoreError> {
        let doing = "exporting feedback";
        let mut reading = self.scanners().begin().await.map_err(self.failed(doing))?;
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
        Ok(FeedbackExport { rows: rows.into_iter(), texts, generations: generations.into_iter().collect() })
    }
}

/// A judgement with its texts; `None` where one of them is not there.
fn exported(
    row: FeedbackRow,
    texts: &Texts,
    generations: &BTreeMap<MessageId, GenerationRecord>,
) -> Option<ExportedFeedback> {
    let judged = |id: &MessageId| {
        let message = texts.message(id)?.clone();
        Some(JudgedAnswer { message, generation: generations.get(id).cloned() })
    };
    let answer = judged(&row.answer)?;
    let question = answer.message.parent_id.clone()?;
    let turns = texts.turns(&question).into_iter().map(|turn| (turn.role, turn.content.clone())).collect();
    let rejected = match &row.kind {
        FeedbackKind::Said(_) => None,
        FeedbackKind::Choice { rejected } => Some(judged(rejected)?),
    };
    let system_prompt = texts.system_prompt(&answer.message).to_owned();
    Some(ExportedFeedback { row, system_prompt, question, turns, answer, rejected })
}
