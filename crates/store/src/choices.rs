//! Which of several answers to the same question is the better one. Each pair is a judgement by itself.

use sqlx::{Row, SqliteConnection};

use crate::database::Store;
use crate::feedback::invalid;
use crate::{ConversationId, FeedbackId, Message, MessageId, Owner, StoreError, Timestamp};

/// The most pairs of answers to one question that are judged. There are half the square of as many as there are answers.
const MOST_PAIRS: i64 = 256;

/// An answer that was chosen over others to the same question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The question.
    pub question_id: MessageId,
    /// The better answer.
    pub chosen: MessageId,
    /// Those that it was chosen over, oldest answer first; at least one.
    pub rejected: Vec<MessageId>,
    /// When the last of these pairs was judged.
    pub created_at: Timestamp,
}

impl Store {
    /// Keeps that the owner prefers the answer `chosen` to each of `rejected`, answers to the same question. A pair that was judged
    /// before is judged anew, either way round. Returns all that the answer is chosen over then. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a message that does not exist; [`StoreError::StillGenerating`] for one that has not ended;
    /// [`StoreError::Invalid`] when they are no different answers to one question, or too many pairs of its answers would be judged.
    pub async fn choose(
        &self,
        owner: &Owner,
        chosen: &MessageId,
        rejected: &[MessageId],
    ) -> Result<Choice, StoreError> {
        let doing = "keeping a choice";
        let mut write = self.write_durably(doing).await?;
        let best = self.ended_answer(&mut write.transaction, owner, chosen, doing).await?;
        if rejected.is_empty() {
            return Err(invalid("rejected", "must name at least one other answer"));
        }
        let before = count_pairs(&mut write.transaction, &best).await.map_err(self.failed(doing))?;
        for (place, id) in rejected.iter().enumerate() {
            if id == chosen {
                return Err(invalid("rejected", &format!("answer {id} cannot be chosen over itself")));
            }
            if rejected.iter().take(place).any(|other| other == id) {
                return Err(invalid("rejected", &format!("answer {id} is named twice")));
            }
            let other = self.ended_answer(&mut write.transaction, owner, id, doing).await?;
            if other.parent_id != best.parent_id || other.conversation_id != best.conversation_id {
                let reason = format!("answer {id} does not answer the same question as {chosen}");
                return Err(invalid("rejected", &reason));
            }
            if other.content.trim() == best.content.trim() {
                let reason =
                    format!("answer {id} has the same text as {chosen}: there is nothing to choose between");
                return Err(invalid("rejected", &reason));
            }
            let name = FeedbackId::new()?;
            choose_pair(&mut write.transaction, &name, chosen, id).await.map_err(self.failed(doing))?;
        }
        let pairs = count_pairs(&mut write.transaction, &best).await.map_err(self.failed(doing))?;
        // Judging pairs anew adds none.
        if pairs > MOST_PAIRS.max(before) {
            let reason = format!(
                "would make {pairs} judged pairs of answers to this question, and at most {MOST_PAIRS} are kept; take choices between others of \
                 its answers back first"
            );
            return Err(invalid("rejected", &reason));
        }
        write.commit().await?;
        let kept = self.choices_in(owner, &best.conversation_id).await?;
        kept.into_iter()
            .find(|choice| choice.chosen == *chosen)
            .ok_or_else(|| StoreError::not_found("choice", chosen.as_str()))
    }

    /// Forgets the choices in which the owner's answer was chosen; does nothing when there are none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such message.
    pub async fn remove_choice(&self, owner: &Owner, chosen: &MessageId) -> Result<(), StoreError> {
        self.message(owner, chosen).await?;
        let statement = sqlx::query(
            "DELETE FROM choices WHERE chosen_id IN (
                 SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id
                 WHERE m.id = ? AND c.owner = ?)",
        )
        .bind(chosen.as_str())
        .bind(owner.as_str());
        self.execute_durably("forgetting a choice", statement).await?;
        Ok(())
    }

    /// The choices between answers of a conversation, in the order of the chosen answers.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn choices_in(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
    ) -> Result<Vec<Choice>, StoreError> {
        let doing = "reading choices";
        let rows = sqlx::query(
            "SELECT chosen.parent_id AS question, ch.chosen_id, ch.rejected_id, ch.created_at
             FROM choices ch JOIN messages chosen ON chosen.id = ch.chosen_id
                 JOIN messages rejected ON rejected.id = ch.rejected_id
                 JOIN conversations c ON c.id = chosen.conversation_id
             WHERE c.id = ? AND c.owner = ? AND c.deleted_at IS NULL ORDER BY chosen.number, rejected.number",
        )
        .bind(conversation.as_str())
        .bind(owner.as_str())
        .fetch_all(self.readers())
        .await
        .map_err(self.failed(doing))?;
        let mut choices: Vec<Choice> = Vec::new();
        for row in rows {
            let id = |column| row.try_get(column).map(MessageId::from_database).map_err(self.failed(doing));
            let chosen = id("chosen_id")?;
            let at = row.try_get("created_at").map_err(self.failed(doing))?;
            let at = Timestamp::from_milliseconds(at);
            match choices.last_mut().filter(|last| last.chosen == chosen) {
                Some(last) => {
                    last.rejected.push(id("rejected_id")?);
                    last.created_at = last.created_at.max(at);
                }
                None => choices.push(Choice {
                    question_id: id("question")?,
                    chosen,
                    rejected: vec![id("rejected_id")?],
                    created_at: at,
                }),
            }
        }
        Ok(choices)
    }
}

/// Judged pairs of answers to the question that `answer` answers.
async fn count_pairs(connection: &mut SqliteConnection, answer: &Message) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM choices ch JOIN messages m ON m.id = ch.chosen_id
         WHERE m.conversation_id = ? AND m.parent_id = ?",
    )
    .bind(answer.conversation_id.as_str())
    .bind(answer.parent_id.as_ref().map(MessageId::as_str))
    .fetch_one(connection)
    .await
}

async fn choose_pair(
    connection: &mut SqliteConnection,
    name: &FeedbackId,
    chosen: &MessageId,
    rejected: &MessageId,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM choices WHERE chosen_id = ? AND rejected_id = ?")
        .bind(rejected.as_str())
        .bind(chosen.as_str())
        .execute(&mut *connection)
        .await?;
    // The same choice again keeps its id: it is the same judgement.
    sqlx::query(
        "INSERT INTO choices (id, chosen_id, rejected_id, created_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (chosen_id, rejected_id) DO UPDATE SET created_at = excluded.created_at",
    )
    .bind(name.as_str())
    .bind(chosen.as_str())
    .bind(rejected.as_str())
    .bind(Timestamp::now().milliseconds())
    .execute(connection)
    .await?;
    Ok(())
}
