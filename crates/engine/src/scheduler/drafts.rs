//! Which answers get rows for drafts in the next step, and how the result changes their acceptance rates. Decides by likelihood and
//! measured cost.

use std::collections::BTreeMap;

use super::rows::is_answering;
use super::sequence::Sequence;
use super::{PlannedChunk, Scheduler};
use crate::speculation::Speculation;
use crate::speculation::drafter::Draft;

/// An answer's draft, and how many of its tokens the next step checks.
struct Candidate {
    id: u64,
    draft: Draft,
    rows: usize,
    /// How likely the draft is right up to and including the next token that could get a row.
    likelihood: f64,
}

impl Candidate {
    fn has_more(&self) -> bool {
        self.rows < self.draft.tokens.len()
    }
}

impl Scheduler {
    /// Gives answers rows for drafts beside the `rows` of the next step, as long as these pay.
    pub(super) fn choose_drafts(&mut self, rows: &BTreeMap<u64, usize>) {
        for sequence in self.running.values_mut() {
            sequence.draft_rows.clear();
        }
        let is_forced = self.options.speculation == Speculation::NgramAlways;
        let answers = rows.keys().filter(|id| self.running.get(id).is_some_and(is_answering)).count();
        if answers < rows.len() && !is_forced {
            // A step with parts of prompts is bound by arithmetic.
            return;
        }
        let mut spare = self.spare_rows(rows);
        if spare == 0 {
            return;
        }
        let mut candidates = self.candidates(rows);
        let share = if is_forced { 0.0 } else { self.row_cost.share(answers) };
        let (mut tokens, mut time) = (answers as f64, 1.0);
        while spare > 0
            && let Some(best) = candidates
                .iter_mut()
                .filter(|candidate| candidate.has_more())
                .max_by(|one, other| one.likelihood.total_cmp(&other.likelihood).then(other.id.cmp(&one.id)))
            // A row pays if it brings more tokens for its time than the step does without it.
            && best.likelihood * time > tokens * share
        {
            tokens += best.likelihood;
            time += share;
            best.rows += 1;
            best.likelihood *= best.draft.acceptance;
            spare -= 1;
        }
        for candidate in candidates {
            let Some(sequence) = self.running.get_mut(&candidate.id) else { continue };
            spare -= sequence.take_draft(candidate, spare);
        }
    }

    /// Rows that the next step can take beside `rows`.
    fn spare_rows(&self, rows: &BTreeMap<u64, usize>) -> usize {
        let most = self.options.speculation.most_rows().min(self.model.max_rows());
        let planned = rows.values().sum();
        most.saturating_sub(planned).min(self.model.max_logits_rows().saturating_sub(rows.len()))
    }

    fn candidates(&mut self, rows: &BTreeMap<u64, usize>) -> Vec<Candidate> {
        let candidate = |(id, sequence): (&u64, &mut Sequence)| {
            // The first token of an answer should come as soon as it can.
            if !rows.contains_key(id) || !is_answering(sequence) || !sequence.prompt_announced {
                return None;
            }
            let room = sequence.room_for_draft();
            if room == 0 {
                return None;
            }
            let draft = sequence.drafter.get_or_insert_default().draft(&sequence.tokens, room);
            (!draft.tokens.is_empty()).then_some(Candidate {
                id: *id,
                likelihood: draft.acceptance,
                rows: 0,
                draft,
            })
        };
        self.running.iter_mut().filter_map(candidate).collect()
    }
}

impl Sequence {
    /// Takes the tokens of its draft that get rows, and one more if the draft was passed over often and a row
    /// is spare. Returns how many spare rows it takes beyond those given.
    fn take_draft(&mut self, candidate: Candidate, spare: usize) -> usize {
        let Candidate { draft, mut rows, .. } = candidate;
        let Some(drafter) = &mut self.drafter else { return 0 };
        let tries_again = rows == 0 && spare > 0 && drafter.pass_over(&draft);
        rows += usize::from(tries_again);
        if rows > 0 {
            self.draft_rows.extend(self.tokens.last());
            self.draft_rows.extend_from_slice(&draft.tokens[..rows]);
            self.draft = draft;
        }
        usize::from(tries_again)
    }

    /// Rows of its draft in the next step.
    pub(super) fn drafted(&self) -> usize {
        self.draft_rows.len().saturating_sub(1)
    }

    /// Learns from a step that accepted so many of the `drafted` tokens; `has_ended` if the answer ended with
    /// them.
    pub(super) fn learn_from_draft(&mut self, drafted: usize, accepted: usize, has_ended: bool) {
        if let Some(drafter) = &mut self.drafter {
            drafter.learn(&self.draft, accepted, accepted < drafted && !has_ended);
        }
    }
}

impl PlannedChunk {
    /// The same without a draft.
    pub(super) fn without_draft(self) -> PlannedChunk {
        if self.drafted == 0 {
            return self;
        }
        PlannedChunk {
            rows: self.rows - self.drafted,
            drafted: 0,
            logits: zhenjin_model::LogitsFor::Last,
            ..self
        }
    }
}
