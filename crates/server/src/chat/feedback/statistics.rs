//! How much feedback there is, for operators: counts, and nobody's words.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zhenjin_store::{ApiKey, FeedbackCounts, FeedbackStatistics, Owner, Store};

use crate::chat::fields::{COMMENT_CHARACTERS, CORRECTION_CHARACTERS, REJECTED_ANSWERS};
use crate::errors::ApiError;

/// Judgements, counted. All counts but `in_trash` leave out chats in the trash.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackStatistics)]
pub(crate) struct FeedbackStatisticsJson {
    /// All of them.
    all: FeedbackCountsJson,
    /// By the words that say why.
    reasons: BTreeMap<String, u64>,
    /// By the model that wrote the answer that was judged, or chosen.
    models: BTreeMap<String, u64>,
    /// By owner.
    owners: Vec<OwnersFeedbackJson>,
    /// Judgements of owners who allow learning from them.
    with_consent: u64,
    /// Judgements of owners who do not.
    without_consent: u64,
    /// Judgements in chats in the trash.
    in_trash: u64,
    /// What one judgement may hold.
    limits: FeedbackLimitsJson,
}

/// Some judgements, counted. One answer can have a rating, a comment and a correction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackCounts)]
pub(crate) struct FeedbackCountsJson {
    /// How many judgements.
    judgements: u64,
    /// Answers that are liked.
    up: u64,
    /// Answers that are not.
    down: u64,
    /// Answers that were corrected.
    corrections: u64,
    /// Pairs of answers between which somebody chose.
    choices: u64,
    /// Answers with a comment.
    comments: u64,
    /// Judgements that at least one improvement has, to learn from or to measure: from its beginning on, until it is given up.
    trained: u64,
    /// Judgements that none has yet and that one may learn from.
    new: u64,
}

/// One owner's judgements.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = OwnersFeedback)]
pub(crate) struct OwnersFeedbackJson {
    /// `local`, or the id of the key with which the chats began.
    owner: String,
    /// What the operator calls that key; null for `local`.
    #[schema(required)]
    name: Option<String>,
    /// Whether the owner allows learning from them.
    allowed: bool,
    /// How many there are.
    counts: FeedbackCountsJson,
}

/// The most that one judgement may hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackLimits)]
pub(crate) struct FeedbackLimitsJson {
    /// Characters of a comment.
    comment_characters: usize,
    /// Characters of a correction.
    correction_characters: usize,
    /// Answers that one is chosen over at once.
    rejected_answers: usize,
}

impl From<&FeedbackCounts> for FeedbackCountsJson {
    fn from(counts: &FeedbackCounts) -> Self {
        FeedbackCountsJson {
            judgements: counts.judgements,
            up: counts.up,
            down: counts.down,
            corrections: counts.corrections,
            choices: counts.choices,
            comments: counts.comments,
            trained: counts.trained,
            new: counts.new,
        }
    }
}

/// How much feedback there is, of which kind, and how much of it can be learned from. For operators; nobody's words are in it.
#[utoipa::path(get, path = "/api/feedback/statistics", operation_id = "count_feedback", tag = "feedback", responses(
    (status = 200, description = "The counts.", body = FeedbackStatisticsJson)))]
pub(crate) async fn statistics(State(store): State<Store>) -> Result<Json<FeedbackStatisticsJson>, ApiError> {
    let counted = FeedbackStatistics::of(&store.feedback_rows().await?);
    let keys = store.api_keys().await?;
    let owners = counted.owners.iter().map(|(owner, (allowed, counts))| OwnersFeedbackJson {
        owner: owner.to_string(),
        name: name_of(owner, &keys),
        allowed: *allowed,
        counts: counts.into(),
    });
    Ok(Json(FeedbackStatisticsJson {
        all: (&counted.all).into(),
        owners: owners.collect(),
        reasons: counted.reasons,
        models: counted.models,
        with_consent: counted.with_consent,
        without_consent: counted.without_consent,
        in_trash: counted.in_trash,
        limits: FeedbackLimitsJson {
            comment_characters: COMMENT_CHARACTERS,
            correction_characters: CORRECTION_CHARACTERS,
            rejected_answers: REJECTED_ANSWERS,
        },
    }))
}

/// What the operator calls the key of that owner.
fn name_of(owner: &Owner, keys: &[ApiKey]) -> Option<String> {
    let Owner::Key(id) = owner else { return None };
    keys.iter().find(|key| key.id == *id).map(|key| key.name.clone())
}
