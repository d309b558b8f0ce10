//! What the owner of a chat thinks of single answers: a rating, its reasons, a comment, the answer as it should have been.

use std::fmt;

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::database::Store;
use crate::messages::{find, unknown_word};
use crate::{ConversationId, FeedbackId, Message, MessageId, Owner, Role, Status, StoreError, Timestamp};

/// Whether an answer is liked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rating {
    /// It is good.
    Up,
    /// It is not.
    Down,
}

/// The words that can say why an answer got this rating.
pub const fn reasons(rating: Rating) -> &'static [&'static str] {
    match rating {
        Rating::Up => &["accurate", "helpful", "clear", "well_written", "good_tone"],
        Rating::Down => &[
            "wrong",
            "not_helpful",
            "did_not_follow",
            "too_long",
            "too_short",
            "bad_style",
            "unsafe",
            "other",
        ],
    }
}

impl Rating {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Rating::Up => "up",
            Rating::Down => "down",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Rating> {
        [Rating::Up, Rating::Down].into_iter().find(|rating| rating.as_str() == word)
    }
}

impl fmt::Display for Rating {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is said of an answer; it takes the place of whatever was said before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewFeedback {
    /// Whether it is liked.
    pub rating: Option<Rating>,
    /// Why, each word once; all of them words of [`reasons`] for the rating.
    pub reasons: Vec<String>,
    /// In the person's own words.
    pub comment: Option<String>,
    /// The answer as it should have been.
    pub correction: Option<String>,
}

/// What was said of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The answer.
    pub message_id: MessageId,
    /// Names this judgement.
    pub id: FeedbackId,
    /// What was said.
    pub said: NewFeedback,
    /// When something was first said of the answer.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What an erasure of feedback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedFeedback {
    /// Judgements that were erased: feedback of answers, and choices between two.
    pub erased: u64,
    /// Improvements that learned from feedback of this owner, erased now or earlier.
    pub trained: Vec<String>,
}

impl FromRow<'_, SqliteRow> for Feedback {
    fn from_row(row: &SqliteRow) -> Result<Feedback, sqlx::Error> {
        let rating: Option<String> = row.try_get("rating")?;
        let rating = rating
            .map(|word| Rating::parse(&word).ok_or_else(|| unknown_word("rating", word)))
            .transpose()?;
        let reasons: String = row.try_get("reasons")?;
        let reasons = serde_json::from_str(&reasons).map_err(|source| sqlx::Error::ColumnDecode {
            index: "reasons".to_owned(),
            source: Box::new(source),
        })?;
        Ok(Feedback {
            message_id: MessageId::from_database(row.try_get("message_id")?),
            id: FeedbackId::from_database(row.try_get("id")?),
            said: NewFeedback {
                rating,
                reasons,
                comment: row.try_get("comment")?,
                correction: row.try_get("correction")?,
            },
            created_at: Timestamp::from_milliseconds(row.try_get("created_at")?),
            updated_at: Timestamp::from_milliseconds(row.try_get("updated_at")?),
        })
    }
}

impl NewFeedback {
    /// # Errors
    /// [`StoreError::Invalid`] when it says nothing, or nothing that can be said of that text.
    fn check(&self, answer: &str) -> Result<(), StoreError> {
        let blank = |text: &Option<String>| text.as_deref().is_some_and(|text| text.trim().is_empty());
        if blank(&self.comment) {
            return Err(invalid("comment", "must not be empty; leave it out"));
        }
        if blank(&self.correction) {
            return Err(invalid("correction", "must not be empty; leave it out"));
        }
        if self.correction.as_deref().is_some_and(|correction| correction.trim() == answer.trim()) {
            return Err(invalid("correction", "is the answer itself; change it, or rate the answer up"));
        }
        let Some(rating) = self.rating else {
            if !self.reasons.is_empty() {
                return Err(invalid("reasons", "need a `rating` for which they are the reasons"));
            }
            if self.comment.is_none() && self.correction.is_none() {
                let reason =
                    "is needed, or a `comment`, or a `correction`; to take back what was said, send DELETE";
                return Err(invalid("rating", reason));
            }
            return Ok(());
        };
        for (place, reason) in self.reasons.iter().enumerate() {
            if !reasons(rating).contains(&reason.as_str()) {
                let known = reasons(rating).join(", ");
                let shown: String = reason.chars().take(64).collect();
                let reason = format!("`{shown}` is no reason for the rating `{rating}`; there are: {known}");
                return Err(invalid("reasons", &reason));
            }
            if self.reasons.iter().take(place).any(|other| other == reason) {
                return Err(invalid("reasons", &format!("`{reason}` is named twice")));
            }
        }
        Ok(())
    }
}

/// Whether a person's own words are not among what is said now.
fn loses_words(before: &NewFeedback, now: &NewFeedback) -> bool {
    let loses = |before: &Option<String>, now: &Option<String>| before.is_some() && before != now;
    loses(&before.comment, &now.comment) || loses(&before.correction, &now.correction)
}

pub(crate) fn invalid(field: &'static str, reason: &str) -> StoreError {
    StoreError::Invalid { field, reason: reason.to_owned() }
}

/// The improvements that learned from feedback of an owner's, that which is gone by now too.
const LEARNED_FROM: &str =
    "SELECT DISTINCT improvement FROM trained_feedback WHERE owner = ? ORDER BY improvement";

impl Store {
    /// Keeps what the owner says of an answer of theirs, in the place of what was said before. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such message; [`StoreError::StillGenerating`] when it has not ended;
    /// [`StoreError::Invalid`] when it is a question, or `said` says nothing that can be said of it.
    pub async fn set_feedback(
        &self,
        owner: &Owner,
        answer: &MessageId,
        said: NewFeedback,
    ) -> Result<Feedback, StoreError> {
        let doing = "keeping feedback";
        let mut write = self.write_durably(doing).await?;
        let message = self.ended_answer(&mut write.transaction, owner, answer, doing).await?;
        said.check(&message.content)?;
        let before: Option<Feedback> = sqlx::query_as("SELECT * FROM feedback WHERE message_id = ?")
            .bind(answer.as_str())
            .fetch_optional(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        let now = Timestamp::now();
        let same_judgement = before
            .as_ref()
            .filter(|before| before.said.rating == said.rating && before.said.correction == said.correction);
        let id = match same_judgement {
            Some(before) => before.id.clone(),
            None => FeedbackId::new()?,
        };
        let created_at = before.as_ref().map_or(now, |before| before.created_at);
        let kept = Feedback { message_id: answer.clone(), id, said, created_at, updated_at: now };
        sqlx::query(
            "INSERT OR REPLACE INTO feedback (message_id, id, rating, reasons, comment, correction, created_at, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(answer.as_str())
        .bind(kept.id.as_str())
        .bind(kept.said.rating.map(Rating::as_str))
        .bind(serde_json::Value::from(kept.said.reasons.clone()).to_string())
        .bind(&kept.said.comment)
        .bind(&kept.said.correction)
        .bind(kept.created_at.milliseconds())
        .bind(kept.updated_at.milliseconds())
        .execute(&mut *write.transaction)
        .await
        .map_err(self.failed(doing))?;
        if before.is_some_and(|before| loses_words(&before.said, &kept.said)) {
            self.commit_erasure(write).await?;
        } else {
            write.commit().await?;
        }
        Ok(kept)
    }

    /// Forgets what the owner said of an answer; does nothing when that is nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such message.
    pub async fn remove_feedback(&self, owner: &Owner, answer: &MessageId) -> Result<(), StoreError> {
        self.message(owner, answer).await?;
        let statement = sqlx::query(
            "DELETE FROM feedback WHERE message_id IN (
                 SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id
                 WHERE m.id = ? AND c.owner = ?)",
        )
        .bind(answer.as_str())
        .bind(owner.as_str());
        self.erase_durably("forgetting feedback", statement).await?;
        Ok(())
    }

    /// What the owner said of one answer.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn feedback(&self, owner: &Owner, answer: &MessageId) -> Result<Option<Feedback>, StoreError> {
        sqlx::query_as(
            "SELECT f.* FROM feedback f JOIN messages m ON m.id = f.message_id
                 JOIN conversations c ON c.id = m.conversation_id
             WHERE f.message_id = ? AND c.owner = ? AND c.deleted_at IS NULL",
        )
        .bind(answer.as_str())
        .bind(owner.as_str())
        .fetch_optional(self.readers())
        .await
        .map_err(self.failed("reading feedback"))
    }

    /// What the owner said of the answers of a conversation, in the order of the answers.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn feedback_in(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
    ) -> Result<Vec<Feedback>, StoreError> {
        sqlx::query_as(
            "SELECT f.* FROM feedback f JOIN messages m ON m.id = f.message_id
                 JOIN conversations c ON c.id = m.conversation_id
             WHERE c.id = ? AND c.owner = ? AND c.deleted_at IS NULL ORDER BY m.number",
        )
        .bind(conversation.as_str())
        .bind(owner.as_str())
        .fetch_all(self.readers())
        .await
        .map_err(self.failed("reading feedback"))
    }

    /// What [`Store::erase_feedback`] would do now.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn erasable_feedback(&self, owner: &Owner) -> Result<ErasedFeedback, StoreError> {
        let doing = "counting feedback";
        let mut reading = self.readers().begin().await.map_err(self.failed(doing))?;
        let erased: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT message_id AS answer_id FROM feedback UNION ALL SELECT chosen_id FROM choices) j
                 JOIN messages m ON m.id = j.answer_id JOIN conversations c ON c.id = m.conversation_id WHERE c.owner = ?",
        )
        .bind(owner.as_str())
        .fetch_one(&mut *reading)
        .await
        .map_err(self.failed(doing))?;
        let trained = sqlx::query_scalar(LEARNED_FROM)
            .bind(owner.as_str())
            .fetch_all(&mut *reading)
            .await
            .map_err(self.failed(doing))?;
        reading.rollback().await.map_err(self.failed(doing))?;
        Ok(ErasedFeedback { erased: erased.unsigned_abs(), trained })
    }

    /// Erases all feedback of the owner's, choices too, and that of chats in the trash. The chats stay, and so does the note of which
    /// improvement learned from what.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn erase_feedback(&self, owner: &Owner) -> Result<ErasedFeedback, StoreError> {
        let doing = "erasing feedback";
        let mut write = self.write_durably(doing).await?;
        let mut erased = 0;
        for statement in [
            "DELETE FROM feedback WHERE message_id IN (
                 SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.owner = ?)",
            "DELETE FROM choices WHERE chosen_id IN (
                 SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.owner = ?)",
        ] {
            let done = sqlx::query(statement).bind(owner.as_str()).execute(&mut *write.transaction).await;
            erased += done.map_err(self.failed(doing))?.rows_affected();
        }
        let trained = sqlx::query_scalar(LEARNED_FROM)
            .bind(owner.as_str())
            .fetch_all(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
        match erased {
            0 => write.commit().await?,
            _ => self.commit_erasure(write).await?,
        }
        Ok(ErasedFeedback { erased, trained })
    }

    /// The owner's answer of that id, which has ended.
    pub(crate) async fn ended_answer(
        &self,
        connection: &mut SqliteConnection,
        owner: &Owner,
        id: &MessageId,
        doing: &'static str,
    ) -> Result<Message, StoreError> {
        let message = find(connection, owner, id).await.map_err(self.failed(doing))?;
        let message = message.ok_or_else(|| StoreError::not_found("message", id.as_str()))?;
        if message.role != Role::Assistant {
            return Err(invalid("id", &format!("message {id} is a question; only answers can be judged")));
        }
        if message.status == Status::Generating {
            return Err(StoreError::StillGenerating { id: id.clone() });
        }
        Ok(message)
    }
}
