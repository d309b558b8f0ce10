//! What models may learn from: judgements as training takes them, whosever they are, and the notes of what was learned from what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::database::Store;
use crate::feedback_rows::{FeedbackRow, Texts, is_cut_short, read_rows, read_texts};
use crate::{
    ConversationId, FeedbackId, FeedbackKind, MessageId, Owner, Rating, Role, StoreError, Timestamp,
};

/// What was said before an answer, shared between the judgements that follow it.
pub(crate) type Turns = Arc<[(Role, Arc<str>)]>;

/// A judgement of an answer, with everything that the model was told before it answered. Judgements share the texts that they have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingFeedback {
    /// Its name. A rating and a correction of the same answer have one name.
    pub id: FeedbackId,
    /// Whose it is.
    pub owner: Owner,
    /// The chat that it is about.
    pub conversation: ConversationId,
    /// The question that was answered.
    pub question: MessageId,
    /// When it was said.
    pub at: Timestamp,
    /// The name under which the model was asked that wrote the judged answer; of a choice, the chosen one.
    pub model: String,
    /// Of a choice, the same of the answer that was not chosen.
    pub rejected_model: Option<String>,
    /// Whether its owner allows models to learn from it. Without that it may be counted and nothing else.
    pub consents: bool,
    /// The improvements that learned from it, by name.
    pub trained_in: Vec<String>,
    /// The system prompt that the model had read (of a choice, the chosen answer's); may be empty.
    pub system_prompt: Arc<str>,
    /// What was said, from the first message to the question.
    pub turns: Turns,
    /// What was said of the answer, or of two.
    pub judgement: Judgement,
    /// Whether the answer that the model wrote and that is liked here (rated up, or chosen) breaks off: it was stopped, failed, or
    /// reached a limit. Imitating it would teach to break off.
    pub liked_is_cut_short: bool,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// An answer was rated.
    Rating {
        /// The answer as the model wrote it.
        answer: Arc<str>,
        /// Whether it is liked.
        up: bool,
        /// Why, in fixed words.
        reasons: Vec<String>,
        /// Why, in the person's own.
        comment: Option<String>,
    },
    /// Somebody wrote how an answer should have been.
    Correction {
        /// The answer as the model wrote it.
        answer: Arc<str>,
        /// The better one.
        correction: String,
    },
    /// Of two answers one was chosen.
    Choice {
        /// The better one.
        chosen: Arc<str>,
        /// The other one.
        rejected: Arc<str>,
    },
}

impl Store {
    /// All judgements of answers that training could use, whosever they are, without those of chats in the trash: by time, then by id.
    /// Comments alone are not among them. Whoever trains must leave out those whose owner does not consent.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn training_feedback(&self) -> Result<Vec<TrainingFeedback>, StoreError> {
        let doing = "reading feedback for training";
        // One transaction sees one state: no row refers to a text that is erased between two statements.
        let mut reading = self.scanners().begin().await.map_err(self.failed(doing))?;
        let rows = read_rows(&mut reading, None).await.map_err(self.failed(doing))?;
        let texts = read_texts(&mut reading, None).await.map_err(self.failed(doing))?;
        reading.rollback().await.map_err(self.failed(doing))?;
        let mut shared = Shared { texts: &texts, kept: BTreeSet::new(), turns: BTreeMap::new() };
        Ok(rows.iter().filter(|row| !row.in_trash).flat_map(|row| shared.judgements(row)).collect())
    }

    /// Notes that an improvement learns from these judgements. To be called before the learning begins: then whoever erases their
    /// feedback while it runs is told of it too. Noting one again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when one of them does not exist any more; then nothing is noted.
    pub async fn note_training(&self, improvement: &str, rows: &[FeedbackId]) -> Result<(), StoreError> {
        let doing = "noting what an improvement learns from";
        let mut write = self.write_durably(doing).await?;
        let now = Timestamp::now().milliseconds();
        for row in rows {
            let done = sqlx::query(
                "INSERT INTO trained_feedback (improvement, feedback_id, conversation_id, owner, noted_at)
                 SELECT ?, j.id, c.id, c.owner, ? FROM (
                     SELECT id, message_id AS answer_id FROM feedback UNION ALL SELECT id, chosen_id FROM choices
                 ) j JOIN messages m ON m.id = j.answer_id JOIN conversations c ON c.id = m.conversation_id
                 WHERE j.id = ?
                 ON CONFLICT (improvement, feedback_id) DO UPDATE SET noted_at = min(noted_at, excluded.noted_at)",
            )
            .bind(improvement)
            .bind(now)
            .bind(row.as_str())
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(doing))?;
            if done.rows_affected() == 0 {
                return Err(StoreError::not_found("feedback", row.as_str()));
            }
        }
        write.commit().await
    }

    /// Forgets what an improvement learned from. To be called when it was given up and nothing is left of what it had learned.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_training(&self, improvement: &str) -> Result<(), StoreError> {
        let statement = sqlx::query("DELETE FROM trained_feedback WHERE improvement = ?").bind(improvement);
        self.execute_durably("forgetting what an improvement learned from", statement).await?;
        Ok(())
    }

    /// The improvements that learned from feedback in a chat of the owner's, by name, whether the chat is in use, in the trash or
    /// erased by now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the owner has no such chat and none was learned from.
    pub async fn improvements_of_conversation(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
    ) -> Result<Vec<String>, StoreError> {
        let doing = "reading what was learned from a conversation";
        let improvements: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT improvement FROM trained_feedback WHERE owner = ? AND conversation_id = ? ORDER BY improvement",
        )
        .bind(owner.as_str())
        .bind(conversation.as_str())
        .fetch_all(self.readers())
        .await
        .map_err(self.failed(doing))?;
        if !improvements.is_empty() {
            return Ok(improvements);
        }
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM conversations WHERE id = ? AND owner = ?")
            .bind(conversation.as_str())
            .bind(owner.as_str())
            .fetch_one(self.readers())
            .await
            .map_err(self.failed(doing))?;
        match known {
            0 => Err(StoreError::not_found("conversation", conversation.as_str())),
            _ => Ok(improvements),
        }
    }
}

/// The texts of judgements, each kept once: the choices between a question's answers alone would else hold its chat hundreds of times.
struct Shared<'a> {
    texts: &'a Texts,
    kept: BTreeSet<Arc<str>>,
    /// By question.
    turns: BTreeMap<MessageId, Turns>,
}

impl Shared<'_> {
    fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.kept.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = Arc::from(text);
        self.kept.insert(Arc::clone(&kept));
        kept
    }

    /// What was said up to and with a question.
    fn turns(&mut self, question: &MessageId) -> Turns {
        if let Some(turns) = self.turns.get(question) {
            return Arc::clone(turns);
        }
        let texts = self.texts;
        let said = texts.turns(question).into_iter();
        let turns: Arc<[_]> = said.map(|turn| (turn.role, self.keep(&turn.content))).collect();
        self.turns.insert(question.clone(), Arc::clone(&turns));
        turns
    }

    /// What a row means for training: nothing, one judgement, or a rating and a correction.
    fn judgements(&mut self, row: &FeedbackRow) -> Vec<TrainingFeedback> {
        let texts = self.texts;
        let Some(answer) = texts.message(&row.answer) else { return Vec::new() };
        let Some(question) = &answer.parent_id else { return Vec::new() };
        let turns = self.turns(question);
        let system_prompt = self.keep(texts.system_prompt(answer));
        let answered = self.keep(&answer.content);
        let made = |judgement: Judgement, liked_is_cut_short: bool, rejected_model: Option<String>| {
            TrainingFeedback {
                id: row.id.clone(),
                owner: row.owner.clone(),
                conversation: row.conversation.clone(),
                question: question.clone(),
                at: row.updated_at,
                model: row.model.clone(),
                rejected_model,
                consents: row.consents,
                trained_in: row.trained_in.clone(),
                system_prompt: Arc::clone(&system_prompt),
                turns: Arc::clone(&turns),
                judgement,
                liked_is_cut_short,
            }
        };
        match &row.kind {
            FeedbackKind::Said(said) => {
                let rating = said.rating.map(|rating| {
                    let up = rating == Rating::Up;
                    let judgement = Judgement::Rating {
                        answer: Arc::clone(&answered),
                        up,
                        reasons: said.reasons.clone(),
                        comment: said.comment.clone(),
                    };
                    made(judgement, up && is_cut_short(answer), None)
                });
                let correction = said.correction.clone().map(|correction| {
                    let judgement = Judgement::Correction { answer: Arc::clone(&answered), correction };
                    made(judgement, false, None)
                });
                rating.into_iter().chain(correction).collect()
            }
            FeedbackKind::Choice { rejected } => {
                let Some(rejected) = texts.message(rejected) else { return Vec::new() };
                let judgement =
                    Judgement::Choice { chosen: answered, rejected: self.keep(&rejected.content) };
                vec![made(judgement, is_cut_short(answer), rejected.model.clone())]
            }
        }
    }
}
