//! How much feedback there is, of which kind, and how much of it can be learned from.

use std::collections::BTreeMap;

use crate::{FeedbackKind, FeedbackRow, NewFeedback, Owner, Rating};

/// Judgements, counted. One row can have a rating and a correction; all counts but `in_trash` leave out chats in the trash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedbackStatistics {
    /// All of them.
    pub all: FeedbackCounts,
    /// By the words that say why.
    pub reasons: BTreeMap<String, u64>,
    /// By the model that wrote the answer that was judged, or chosen.
    pub models: BTreeMap<String, u64>,
    /// By owner, with whether the owner allows learning from them.
    pub owners: BTreeMap<Owner, (bool, FeedbackCounts)>,
    /// Of owners who allow learning from them.
    pub with_consent: u64,
    /// Of owners who do not.
    pub without_consent: u64,
    /// In the trash: not counted anywhere else.
    pub in_trash: u64,
}

/// Some judgements, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedbackCounts {
    /// How many judgements.
    pub judgements: u64,
    /// Answers that are liked.
    pub up: u64,
    /// Answers that are not.
    pub down: u64,
    /// Answers that were corrected.
    pub corrections: u64,
    /// Pairs of answers between which somebody chose.
    pub choices: u64,
    /// Answers with a comment.
    pub comments: u64,
    /// Judgements that at least one improvement has, to learn from or to measure: from its beginning on, until it is given up.
    pub trained: u64,
    /// Judgements that none has yet and that one may learn from: with consent, and more than a comment.
    pub new: u64,
}

impl FeedbackCounts {
    fn add(&mut self, row: &FeedbackRow) {
        self.judgements += 1;
        let teaches = match &row.kind {
            FeedbackKind::Choice { .. } => {
                self.choices += 1;
                true
            }
            FeedbackKind::Said(NewFeedback { rating, comment, correction, .. }) => {
                self.up += u64::from(*rating == Some(Rating::Up));
                self.down += u64::from(*rating == Some(Rating::Down));
                self.corrections += u64::from(correction.is_some());
                self.comments += u64::from(comment.is_some());
                rating.is_some() || correction.is_some()
            }
        };
        let is_trained = !row.trained_in.is_empty();
        self.trained += u64::from(is_trained);
        self.new += u64::from(teaches && row.consents && !is_trained);
    }
}

impl FeedbackStatistics {
    /// Counts the rows.
    pub fn of(rows: &[FeedbackRow]) -> FeedbackStatistics {
        let mut statistics = FeedbackStatistics::default();
        for row in rows {
            if row.in_trash {
                statistics.in_trash += 1;
                continue;
            }
            statistics.all.add(row);
            *statistics.models.entry(row.model.clone()).or_default() += 1;
            if let FeedbackKind::Said(said) = &row.kind {
                for reason in &said.reasons {
                    *statistics.reasons.entry(reason.clone()).or_default() += 1;
                }
            }
            let (consents, counts) = statistics.owners.entry(row.owner.clone()).or_default();
            *consents = row.consents;
            counts.add(row);
            match row.consents {
                true => statistics.with_consent += 1,
                false => statistics.without_consent += 1,
            }
        }
        statistics
    }
}
