//! Feedback as JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};
use zhenjin_store::{
    Choice, Consent, ErasedFeedback, ExportedFeedback, Feedback, FeedbackKind, GenerationRecord,
    JudgedAnswer, Rating, Role, reasons,
};

use crate::chat::wire::{MessageRole, MessageStatus};

/// Whether an answer is liked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Rating)]
pub(crate) enum RatingWord {
    /// It is good.
    Up,
    /// It is not.
    Down,
}

impl From<Rating> for RatingWord {
    fn from(rating: Rating) -> Self {
        match rating {
            Rating::Up => RatingWord::Up,
            Rating::Down => RatingWord::Down,
        }
    }
}

/// The words that say why an answer is liked or not, as the document describes them.
pub(crate) struct ReasonWord;

impl PartialSchema for ReasonWord {
    fn schema() -> RefOr<Schema> {
        let words: Vec<&str> = [Rating::Up, Rating::Down].into_iter().flat_map(reasons).copied().collect();
        let schema = json!({ "type": "string", "enum": words, "description":
            "Why: `accurate` to `good_tone` for an answer that is liked, `wrong` to `other` for one that is not." });
        serde_json::from_value(schema).unwrap_or_else(|_| ObjectBuilder::new().into())
    }
}

impl ToSchema for ReasonWord {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("FeedbackReason")
    }
}

/// What was said of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Feedback)]
pub(crate) struct FeedbackJson {
    /// Whether it is liked; null when nothing was said of that.
    #[schema(required)]
    rating: Option<RatingWord>,
    /// Why.
    #[schema(value_type = Vec<ReasonWord>)]
    reasons: Vec<String>,
    /// Why, in the person's own words.
    #[schema(required)]
    comment: Option<String>,
    /// The answer as it should have been.
    #[schema(required)]
    correction: Option<String>,
    /// When something was first said of the answer; milliseconds since 1970 (UTC).
    created_at: i64,
    /// When it was last changed.
    updated_at: i64,
}

impl From<Feedback> for FeedbackJson {
    fn from(feedback: Feedback) -> Self {
        FeedbackJson {
            rating: feedback.said.rating.map(RatingWord::from),
            reasons: feedback.said.reasons,
            comment: feedback.said.comment,
            correction: feedback.said.correction,
            created_at: feedback.created_at.milliseconds(),
            updated_at: feedback.updated_at.milliseconds(),
        }
    }
}

/// An answer that was chosen over others to the same question.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Choice)]
pub(crate) struct ChoiceJson {
    /// The question.
    question_id: String,
    /// The answer that is better.
    chosen: String,
    /// Those that it was chosen over, the oldest first.
    rejected: Vec<String>,
    /// When the last of these pairs was judged; milliseconds since 1970 (UTC).
    created_at: i64,
}

impl From<Choice> for ChoiceJson {
    fn from(choice: Choice) -> Self {
        ChoiceJson {
            question_id: choice.question_id.to_string(),
            chosen: choice.chosen.to_string(),
            rejected: choice.rejected.iter().map(ToString::to_string).collect(),
            created_at: choice.created_at.milliseconds(),
        }
    }
}

/// Whether models may learn from the caller's feedback.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Consent)]
pub(crate) struct ConsentJson {
    /// They may only if the caller has said so.
    allowed: bool,
    /// When the caller last said so or not, in milliseconds since 1970 (UTC); null for never.
    #[schema(required)]
    changed_at: Option<i64>,
}

impl From<Consent> for ConsentJson {
    fn from(consent: Consent) -> Self {
        ConsentJson {
            allowed: consent.allowed,
            changed_at: consent.changed_at.map(|changed_at| changed_at.milliseconds()),
        }
    }
}

/// All of the caller's feedback.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackExport)]
pub(crate) struct FeedbackExportJson {
    /// Whether models may learn from it.
    pub(super) consent: ConsentJson,
    /// Every judgement, the oldest first, those of chats in the trash too.
    pub(super) rows: Vec<FeedbackRecordJson>,
}

/// What a judgement is about: one answer, or two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JudgementKind)]
pub(crate) enum JudgementWord {
    /// Something was said of one answer.
    Feedback,
    /// One answer was chosen over another.
    Choice,
}

/// A judgement with all that is kept about it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackRecord)]
pub(crate) struct FeedbackRecordJson {
    /// Its id. It changes when the rating or the correction changes.
    id: String,
    /// What it is about.
    kind: JudgementWord,
    /// The chat.
    conversation_id: String,
    /// The question that was answered.
    question_id: String,
    /// When it was first said; milliseconds since 1970 (UTC).
    created_at: i64,
    /// When it was last changed.
    updated_at: i64,
    /// Whether the chat is in the trash, where feedback does not count.
    in_trash: bool,
    /// Improvements that learned from it.
    trained: Vec<String>,
    /// The system prompt that the answer's model had read; null for none.
    #[schema(required)]
    system_prompt: Option<String>,
    /// What was said, from the first message to the question.
    turns: Vec<TurnJson>,
    /// The answer that was judged, or chosen.
    answer: JudgedAnswerJson,
    /// Of a choice, the answer that was not chosen.
    #[schema(required)]
    rejected: Option<JudgedAnswerJson>,
    /// Whether the answer is liked.
    #[schema(required)]
    rating: Option<RatingWord>,
    /// Why.
    #[schema(value_type = Vec<ReasonWord>)]
    reasons: Vec<String>,
    /// Why, in the caller's own words.
    #[schema(required)]
    comment: Option<String>,
    /// The answer as it should have been.
    #[schema(required)]
    correction: Option<String>,
}

impl From<ExportedFeedback> for FeedbackRecordJson {
    fn from(exported: ExportedFeedback) -> Self {
        let ExportedFeedback { row, system_prompt, question, turns, answer, rejected } = exported;
        let (kind, said) = match row.kind {
            FeedbackKind::Said(said) => (JudgementWord::Feedback, said),
            FeedbackKind::Choice { .. } => (JudgementWord::Choice, Default::default()),
        };
        FeedbackRecordJson {
            id: row.id.to_string(),
            kind,
            conversation_id: row.conversation.to_string(),
            question_id: question.to_string(),
            created_at: row.created_at.milliseconds(),
            updated_at: row.updated_at.milliseconds(),
            in_trash: row.in_trash,
            trained: row.trained_in,
            system_prompt: (!system_prompt.is_empty()).then_some(system_prompt),
            turns: turns.into_iter().map(TurnJson::from).collect(),
            answer: answer.into(),
            rejected: rejected.map(JudgedAnswerJson::from),
            rating: said.rating.map(RatingWord::from),
            reasons: said.reasons,
            comment: said.comment,
            correction: said.correction,
        }
    }
}

/// One message before an answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Turn)]
pub(crate) struct TurnJson {
    /// Who wrote it.
    role: MessageRole,
    /// Its text.
    content: String,
}

impl From<(Role, String)> for TurnJson {
    fn from((role, content): (Role, String)) -> Self {
        TurnJson { role: role.into(), content }
    }
}

/// An answer that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = JudgedAnswer)]
pub(crate) struct JudgedAnswerJson {
    /// The message.
    id: String,
    /// The model that wrote it.
    #[schema(required)]
    model: Option<String>,
    /// Its text.
    content: String,
    /// What became of it.
    status: MessageStatus,
    /// Why the model came to an end.
    #[schema(required)]
    finish_reason: Option<String>,
    /// How it was sampled; null where that was not kept.
    #[schema(required)]
    sampling: Option<SamplingRecordJson>,
}

impl From<JudgedAnswer> for JudgedAnswerJson {
    fn from(judged: JudgedAnswer) -> Self {
        JudgedAnswerJson {
            id: judged.message.id.to_string(),
            model: judged.message.model,
            content: judged.message.content,
            status: judged.message.status.into(),
            finish_reason: judged.message.finish_reason,
            sampling: judged.generation.map(SamplingRecordJson::from),
        }
    }
}

/// What exactly a model was asked and what it sampled.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SamplingRecord)]
pub(crate) struct SamplingRecordJson {
    /// Names the weights, the adapter and the code that computed with them; null where that was not kept.
    #[schema(required)]
    fingerprint: Option<String>,
    /// SHA-256 of the chat template, in hexadecimal; null where that was not kept.
    #[schema(required)]
    template: Option<String>,
    /// The seed of the random numbers, as text: it can be larger than what JavaScript's numbers hold.
    #[schema(required)]
    seed: Option<String>,
    /// The sampling settings that were in force; `max_tokens` is what the context had room for, where that was less than what was asked for.
    #[schema(value_type = Object)]
    settings: Value,
    /// Ids of the whole prompt's tokens.
    prompt_tokens: Vec<u32>,
    /// Ids of the sampled tokens.
    sampled_tokens: Vec<u32>,
    /// The natural logarithm of each sampled token's probability; null where they were not kept.
    #[schema(required)]
    logprobs: Option<Vec<f32>>,
}

impl From<GenerationRecord> for SamplingRecordJson {
    fn from(kept: GenerationRecord) -> Self {
        SamplingRecordJson {
            fingerprint: kept.fingerprint,
            template: kept.template,
            seed: kept.seed.map(|seed| seed.to_string()),
            settings: kept.settings,
            prompt_tokens: kept.prompt_tokens,
            sampled_tokens: kept.sampled_tokens,
            logprobs: kept.logprobs,
        }
    }
}

/// What an erasure of feedback did.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ErasedFeedback)]
pub(crate) struct ErasedFeedbackJson {
    /// Judgements that were erased.
    erased: u64,
    /// Improvements of models that learned from the caller's feedback and do not forget it by this.
    trained: Vec<String>,
}

impl From<ErasedFeedback> for ErasedFeedbackJson {
    fn from(erased: ErasedFeedback) -> Self {
        ErasedFeedbackJson { erased: erased.erased, trained: erased.trained }
    }
}
