//! Which answers get rows for drafts in the next step, and how the result changes their acceptance rates. Decides by likelihood and
//! measured cost.

use std::collections::BTreeMap;

use super::rows::is_answering;
use super::sequence::Sequence;
use super::{PlannedChunk, Scheduler};
use crate::speculation::acceptance::Acceptance;
use crate::speculation::draft::{Draft, DraftedBy};

/// An answer's draft, and how many of its tokens the next step checks.
pub(super) struct Candidate {
    pub(super) id: u64,
    /// The most tokens that a draft can hold: at least one.
    pub(super) room: usize,
    /// Empty if nothing was guessed.
    pub(super) draft: Draft,
    /// The first token is checked even if that does not pay.
    pub(super) is_try: bool,
    rows: usize,
    /// How likely the draft is right up to and including the next token that could get a row.
    likelihood: f64,
}

/// How a draft stood the test.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checked {
    /// Tokens that had rows.
    pub(super) drafted: usize,
    /// Of these, right ones.
    pub(super) accepted: usize,
    /// The answer ended with them.
    pub(super) has_ended: bool,
}

impl Checked {
    fn was_refuted(self) -> bool {
        self.accepted < self.drafted && !self.has_ended
    }
}

impl Candidate {
    fn has_more(&self) -> bool {
        self.rows < self.draft.tokens.len()
    }

    /// The next token of the draft gets a row.
    fn take_row(&mut self) {
        self.rows += 1;
        self.likelihood *= self.draft.acceptance.get(self.rows).copied().unwrap_or(0.0);
    }
}

impl Scheduler {
    /// Gives answers rows for drafts beside the `rows` of the next step, as long as these pay.
    pub(super) fn choose_drafts(&mut self, rows: &BTreeMap<u64, usize>) {
        for sequence in self.running.values_mut() {
            sequence.draft_rows.clear();
        }
        let answers = rows.keys().filter(|id| self.running.get(id).is_some_and(is_answering)).count();
        if answers < rows.len() && !self.options.speculation.is_forced() {
            // A step with parts of prompts is bound by arithmetic.
            return;
        }
        if self.draft_model.is_some()
            && !self.options.speculation.is_forced()
            && self.row_cost.should_measure(answers)
        {
            return;
        }
        let spare = self.spare_rows(rows);
        if spare == 0 {
            return;
        }
        let mut candidates = self.candidates(rows);
        self.draft_by_model(&mut candidates, answers, spare);
        for candidate in &mut candidates {
            candidate.likelihood = candidate.draft.acceptance.first().copied().unwrap_or(0.0);
        }
        self.give_rows(candidates, answers, spare);
    }

    /// Shares the spare rows among the drafts, the likeliest token first.
    fn give_rows(&mut self, mut candidates: Vec<Candidate>, answers: usize, mut spare: usize) {
        let share = if self.options.speculation.is_forced() { 0.0 } else { self.row_cost.share(answers) };
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
            best.take_row();
            spare -= 1;
        }
        for candidate in candidates.into_iter().filter(|candidate| !candidate.draft.tokens.is_empty()) {
            let Some(sequence) = self.running.get_mut(&candidate.id) else { continue };
            let of_all = self.draft_model.as_mut().map(|model| &mut model.acceptance);
            spare -= sequence.take_draft(candidate, spare, of_all);
        }
    }

    /// Rows that the next step can take beside `rows`.
    fn spare_rows(&self, rows: &BTreeMap<u64, usize>) -> usize {
        let most = self.options.speculation.most_rows().min(self.model.max_rows());
        let planned = rows.values().sum();
        most.saturating_sub(planned).min(self.model.max_logits_rows().saturating_sub(rows.len()))
    }

    /// The answers that could have drafts, with those that their own tokens give.
    fn candidates(&mut self, rows: &BTreeMap<u64, usize>) -> Vec<Candidate> {
        let looks_up = self.options.speculation.looks_up();
        let candidate = |(id, sequence): (&u64, &mut Sequence)| {
            // The first token of an answer should come as soon as it can.
            if !rows.contains_key(id) || !is_answering(sequence) || !sequence.prompt_announced {
                return None;
            }
            let room = sequence.room_for_draft();
            if room == 0 {
                return None;
            }
            let draft = match looks_up {
                true => sequence.drafter.get_or_insert_default().draft(&sequence.tokens, room),
                false => Draft::default(),
            };
            Some(Candidate { id: *id, room, draft, is_try: false, rows: 0, likelihood: 0.0 })
        };
        self.running.iter_mut().filter_map(candidate).collect()
    }
}

impl Sequence {
    /// Takes the tokens of its draft that get rows, and one more if the draft is to be tried all the same and a row
    /// is spare. Returns how many spare rows it takes beyond those given.
    fn take_draft(&mut self, candidate: Candidate, spare: usize, of_all: Option<&mut Acceptance>) -> usize {
        let Candidate { draft, mut rows, is_try, .. } = candidate;
        let tries_again = rows == 0
            && spare > 0
            && match (&draft.drafted_by, &mut self.drafter) {
                (DraftedBy::Lookup(_), Some(drafter)) => drafter.pass_over(&draft),
                _ => is_try,
            };
        rows += usize::from(tries_again);
        if rows > 0 {
            self.draft_rows.extend(self.tokens.last());
            self.draft_rows.extend_from_slice(&draft.tokens[..rows]);
            self.draft = draft;
        } else {
            self.learn_of_model(&draft, Checked::default(), of_all);
        }
        usize::from(tries_again)
    }

    /// Rows of its draft in the next step.
    pub(super) fn drafted(&self) -> usize {
        self.draft_rows.len().saturating_sub(1)
    }

    /// Learns from a step that checked its draft. `of_all` is what is known of the draft model over all sequences.
    pub(super) fn learn_from_draft(&mut self, checked: Checked, of_all: Option<&mut Acceptance>) {
        let draft = std::mem::take(&mut self.draft);
        if let Some(drafter) = &mut self.drafter {
            drafter.learn(&draft, checked.accepted, checked.was_refuted());
        }
        self.learn_of_model(&draft, checked, of_all);
    }

    /// Learns from a draft of the draft model; another's changes nothing.
    pub(super) fn learn_of_model(
        &mut self,
        draft: &Draft,
        checked: Checked,
        of_all: Option<&mut Acceptance>,
    ) {
        for acceptance in self.model_acceptance.as_deref_mut().into_iter().chain(of_all) {
            acceptance.learn(draft, checked.drafted, checked.accepted, checked.was_refuted());
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
