//! Which answers the draft model guesses on, and how far. Decides by measured acceptance and measured time, so that a draft model
//! which does not pay is left alone and tried again rarely; only an engine with a draft model comes here.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Scheduler;
use super::drafts::{Candidate, Checked};
use super::sequence::Sequence;
use crate::draft_model::{Ahead, DraftModel};
use crate::speculation::acceptance::Confidence;
use crate::speculation::draft::{Draft, DraftedBy};

/// What the first row that follows a plain step takes, as a share of it, where the draft model was not measured.
const ASSUMED_SHARE: f64 = 0.1;
/// An answer is expected to go on for at least so many tokens, and for as many as it has.
const EXPECTED_TOKENS: usize = 64;
/// With so many known tokens to compute at most, they are computed in the step that guesses.
const FEW_KNOWN: usize = 2;
/// Known tokens computed in one step before it was measured how long they take.
const FIRST_KNOWN_ROWS: usize = 128;

/// What things cost, in plain steps of the engine's own model with these answers.
#[derive(Clone, Copy, Debug)]
struct Prices {
    /// Seconds of such a step.
    plain: f64,
    /// Tokens that it brings.
    answers: f64,
    /// A row of a draft.
    row: f64,
    /// Nothing costs anything: everything is drafted.
    is_forced: bool,
}

/// What drafting one answer would bring.
#[derive(Clone, Copy, Debug, Default)]
struct Outlook {
    /// Tokens beyond the plain step's, less what the rows' time would bring without drafts.
    gain: f64,
    /// Tokens beyond the plain step's.
    tokens: f64,
}

impl Prices {
    /// Tokens that so much time would bring without drafts.
    fn tokens_in(&self, steps: f64) -> f64 {
        if self.is_forced { 0.0 } else { self.answers * steps }
    }

    /// Of drafting as many tokens as pay, with these acceptance rates and this time for each.
    fn outlook(&self, acceptance: impl Iterator<Item = f64>, each: f64) -> Outlook {
        let (mut outlook, mut likelihood) = (Outlook::default(), 1.0);
        for rate in acceptance {
            likelihood *= rate;
            let gain = likelihood - self.tokens_in(each);
            if gain <= 0.0 {
                break;
            }
            outlook.gain += gain;
            outlook.tokens += likelihood;
        }
        outlook
    }

    /// The draft model's step that guesses for so many sequences.
    fn guesses(&self, model: &DraftModel, sequences: usize) -> f64 {
        let measured = model.cost.guesses(sequences).map(|seconds| seconds / self.plain);
        measured.unwrap_or(ASSUMED_SHARE * (1.0 + ASSUMED_SHARE * sequences as f64))
    }
}

/// An answer on which the draft model guesses.
struct Wish {
    /// Its place among the candidates.
    candidate: usize,
    id: u64,
    /// Known tokens that the draft model has to compute.
    pending: usize,
    most: usize,
    is_try: bool,
    tokens: Vec<u32>,
    acceptance: Vec<f64>,
    confidences: Vec<Confidence>,
    /// How likely all guesses so far are right.
    likelihood: f64,
    /// How likely a next one is right if they are.
    next: f64,
}

impl Wish {
    fn expected(&self) -> f64 {
        self.likelihood * self.next
    }

    fn has_room(&self) -> bool {
        self.tokens.len() < self.most
    }
}

impl Scheduler {
    /// Lets the draft model guess where that is likely to bring more than what the `candidates` have, within `spare` rows.
    pub(super) fn draft_by_model(&mut self, candidates: &mut [Candidate], answers: usize, spare: usize) {
        let Some(mut model) = self.draft_model.take() else { return };
        let started = Instant::now();
        model.begin_round();
        let is_forced = self.options.speculation.is_forced();
        // Without a step to compare with, nothing is known to pay.
        let plain = self.row_cost.plain(answers).or(is_forced.then_some(1.0));
        if let Some(plain) = plain {
            let prices =
                Prices { plain, answers: answers as f64, row: self.row_cost.share(answers), is_forced };
            let mut wishes = self.wishes(&mut model, candidates, prices);
            let has_try = wishes.iter().any(|wish| wish.is_try);
            self.compute_known(&mut model, &mut wishes);
            wishes.retain(|wish| wish.pending <= FEW_KNOWN);
            self.guess(&mut model, &mut wishes, prices, spare);
            if has_try {
                model.cost.spend(started.elapsed().as_secs_f64() + prices.row * prices.plain);
            }
            for wish in wishes.into_iter().filter(|wish| !wish.tokens.is_empty()) {
                self.take_guesses(&mut model, wish, candidates, prices);
            }
        }
        self.drafting += started.elapsed();
        self.draft_model = Some(model);
    }

    /// Gives a candidate what was guessed, unless its own draft has turned out to be likelier.
    fn take_guesses(
        &mut self,
        model: &mut DraftModel,
        wish: Wish,
        candidates: &mut [Candidate],
        prices: Prices,
    ) {
        let candidate = &mut candidates[wish.candidate];
        let of_model = prices.outlook(wish.acceptance.iter().copied(), prices.row).gain;
        let of_lookup = prices.outlook(candidate.draft.acceptance.iter().copied(), prices.row).gain;
        let draft = Draft {
            tokens: wish.tokens,
            acceptance: wish.acceptance,
            drafted_by: DraftedBy::Model(wish.confidences),
        };
        if wish.is_try || of_model >= of_lookup {
            candidate.is_try = wish.is_try;
            candidate.draft = draft;
        } else if let Some(sequence) = self.running.get_mut(&wish.id) {
            sequence.learn_of_model(&draft, Checked::default(), Some(&mut model.acceptance));
        }
    }

    /// The candidates for which guesses of the draft model are likely to bring more than their own drafts, and one on which it is tried.
    fn wishes(&mut self, model: &mut DraftModel, candidates: &[Candidate], prices: Prices) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut cheapest: Option<(f64, Wish)> = None;
        let each = prices.row + prices.guesses(model, candidates.len()) / candidates.len().max(1) as f64;
        for (index, candidate) in candidates.iter().enumerate() {
            let Some(sequence) = self.running.get_mut(&candidate.id) else { continue };
            let room = candidate.room.min(model.room_behind(sequence.tokens.len()));
            let pending = match room {
                0 => None,
                _ => model.follow(candidate.id, sequence.draft_scope(), &sequence.tokens),
            };
            let Some(pending) = pending else { continue };
            let of_sequence =
                sequence.model_acceptance.get_or_insert_with(|| Box::new(model.acceptance.of_sequence()));
            let next = of_sequence.next();
            let by_model = prices.outlook(std::iter::repeat_n(next, room), each);
            let by_lookup = prices.outlook(candidate.draft.acceptance.iter().copied(), prices.row);
            let wish = Wish {
                candidate: index,
                id: candidate.id,
                pending,
                most: room,
                is_try: false,
                tokens: Vec::new(),
                acceptance: Vec::new(),
                confidences: Vec::new(),
                likelihood: 1.0,
                next,
            };
            let known = model.cost.known(pending - 1).unwrap_or(0.0) / prices.plain;
            if by_model.gain > by_lookup.gain && prices.repays(sequence, by_model, by_lookup, known) {
                wishes.push(wish);
                continue;
            }
            let seconds = (known + prices.guesses(model, 1) + prices.row) * prices.plain;
            let pays = by_model.gain > 0.0 || by_lookup.gain > 0.0;
            if !pays && cheapest.as_ref().is_none_or(|(least, _)| seconds < *least) {
                cheapest = Some((seconds, Wish { is_try: true, most: 1, ..wish }));
            }
        }
        if let Some((seconds, wish)) = cheapest
            && !prices.is_forced
            && model.cost.allows(seconds)
        {
            wishes.push(wish);
        }
        wishes
    }

    /// Computes the known tokens of the sequences that have many, the fewest first, for about as long as a step may take. What is left is
    /// computed beside the steps that follow.
    fn compute_known(&self, model: &mut DraftModel, wishes: &mut [Wish]) {
        let by_time = model.cost.known_rows(self.options.step_time.as_secs_f64());
        let mut left = by_time.unwrap_or(FIRST_KNOWN_ROWS).max(1).min(model.max_rows());
        let mut order: Vec<&mut Wish> = wishes.iter_mut().filter(|wish| wish.pending > FEW_KNOWN).collect();
        order.sort_by_key(|wish| (wish.pending, wish.id));
        let mut parts = Vec::new();
        for wish in order {
            let rows = (wish.pending - 1).min(left);
            let Some(sequence) = self.running.get(&wish.id).filter(|_| rows > 0) else { continue };
            parts.push(Ahead { id: wish.id, tokens: &sequence.tokens, rows });
            wish.pending -= rows;
            left -= rows;
        }
        if !parts.is_empty() {
            model.compute(&parts);
        }
    }

    /// Guesses token after token, for the answers for which one more is likely to pay.
    fn guess(&self, model: &mut DraftModel, wishes: &mut [Wish], prices: Prices, mut spare: usize) {
        let (mut tokens, mut time) = (prices.answers, 1.0);
        let mut open: Vec<&mut Wish> = wishes.iter_mut().collect();
        loop {
            open.retain(|wish| wish.has_room());
            open.sort_by(|one, other| {
                other
                    .is_try
                    .cmp(&one.is_try)
                    .then(other.expected().total_cmp(&one.expected()))
                    .then(one.id.cmp(&other.id))
            });
            // Both rows of one sequence may be known tokens.
            let most = spare.min(model.most_guesses()).min(model.max_rows() / FEW_KNOWN);
            open.truncate(most);
            let chosen = prices.that_pay(model, &open, tokens / time);
            if chosen == 0 {
                return;
            }
            // Who is left out now is not likelier later.
            open.truncate(chosen);
            let part = |wish: &&mut Wish| {
                let sequence = self.running.get(&wish.id)?;
                Some(Ahead { id: wish.id, tokens: &sequence.tokens, rows: wish.pending })
            };
            let parts: Vec<Ahead<'_>> = open.iter().filter_map(part).collect();
            let guesses: BTreeMap<u64, _> =
                model.compute(&parts).into_iter().map(|guess| (guess.id, guess)).collect();
            spare -= chosen;
            time += prices.guesses(model, chosen) + chosen as f64 * prices.row;
            open.retain_mut(|wish| {
                let (Some(guess), Some(sequence)) = (guesses.get(&wish.id), self.running.get(&wish.id))
                else {
                    return false;
                };
                if sequence.request.stop_tokens.contains(&guess.token) {
                    // An answer that ends needs no row behind its end.
                    return false;
                }
                let Some(of_sequence) = &sequence.model_acceptance else { return false };
                let confidence = Confidence::of(guess.probability);
                let acceptance = of_sequence.of(confidence);
                wish.tokens.push(guess.token);
                wish.acceptance.push(acceptance);
                wish.confidences.push(confidence);
                wish.likelihood *= acceptance;
                wish.pending = 1;
                tokens += wish.likelihood;
                true
            });
        }
    }
}

impl Prices {
    /// True if what the draft model has to compute before its first guess is likely to be won back while the answer goes on.
    fn repays(&self, sequence: &Sequence, by_model: Outlook, by_lookup: Outlook, known: f64) -> bool {
        if self.is_forced {
            return true;
        }
        let so_far = sequence.completion_tokens();
        let left = sequence.request.max_tokens.saturating_sub(so_far).min(so_far.max(EXPECTED_TOKENS));
        let steps = left as f64 / (1.0 + by_model.tokens);
        (by_model.gain - by_lookup.gain.max(0.0)) * steps > self.tokens_in(known)
    }

    /// For how many of `open`, the likeliest first, one more guess each brings the most beyond what its time brings at `rate` tokens in a
    /// plain step's time; as many as are tries if none does.
    fn that_pay(&self, model: &DraftModel, open: &[&mut Wish], rate: f64) -> usize {
        if self.is_forced {
            return open.len();
        }
        let tries = open.iter().filter(|wish| wish.is_try).count();
        let (mut expected, mut best) = (0.0, (0.0, tries));
        for (index, wish) in open.iter().enumerate() {
            expected += wish.expected();
            let sequences = index + 1;
            let gain = expected - rate * (self.guesses(model, sequences) + sequences as f64 * self.row);
            if sequences > tries && gain > best.0 {
                best = (gain, sequences);
            }
        }
        best.1
    }
}
