//! A second, smaller model that guesses how answers go on. It has pages of its own, and follows each sequence as far as it is asked.
//!
//! Nothing here reaches an answer: guesses are checked by the engine's own model. What goes wrong here (no page is left, a step
//! fails, a token is unknown) ends the drafting for that sequence and nothing else.

mod follower;

use std::collections::BTreeMap;
use std::time::Instant;

use zhenjin_model::{LogitsFor, PAGE_TOKENS, PageId, SequenceChunk};
use zhenjin_tensor::SimdLevel;

use crate::kv::page_pool::PagePool;
use crate::kv::prefix_cache::PrefixScope;
use crate::panics::without_panic;
use crate::sampling::log_softmax::LogSoftmax;
use crate::speculation::acceptance::Acceptance;
use crate::speculation::draft_cost::DraftCost;
use crate::step_model::StepModel;
use follower::Follower;

/// Rows of one sequence that the draft model is to compute: the first ones that it has not computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead<'a> {
    /// The sequence.
    pub(crate) id: u64,
    /// All of its tokens.
    pub(crate) tokens: &'a [u32],
    /// At least one, at most what [`DraftModel::follow`] said, or 1 behind a guess.
    pub(crate) rows: usize,
}

/// What the draft model says comes next in a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guess {
    pub(crate) id: u64,
    pub(crate) token: u32,
    /// From 0 to 1, by the draft model.
    pub(crate) probability: f64,
}

/// A model that drafts, what it has computed of the sequences, and what is known of its guesses.
pub(crate) struct DraftModel {
    model: Box<dyn StepModel>,
    simd: SimdLevel,
    /// Tokens below this can be guessed and followed.
    vocabulary: usize,
    pool: PagePool,
    followers: BTreeMap<u64, Follower>,
    /// Counts the steps of the engine's model for which guesses could be made.
    round: u64,
    pub(crate) cost: DraftCost,
    /// Over all sequences.
    pub(crate) acceptance: Acceptance,
}

impl DraftModel {
    /// For an engine whose own model can generate the tokens below `vocabulary`.
    pub(crate) fn new(model: Box<dyn StepModel>, vocabulary: usize, simd: SimdLevel) -> DraftModel {
        DraftModel {
            vocabulary: vocabulary.min(model.usable_vocabulary()),
            pool: PagePool::new(model.page_count()),
            model,
            simd,
            followers: BTreeMap::new(),
            round: 0,
            cost: DraftCost::default(),
            acceptance: Acceptance::default(),
        }
    }

    /// Guesses for the next step of the engine's model begin.
    pub(crate) fn begin_round(&mut self) {
        self.round += 1;
    }

    /// The most sequences of which one step guesses.
    pub(crate) fn most_guesses(&self) -> usize {
        self.model.max_logits_rows().min(self.model.max_rows())
    }

    /// The most rows of one step.
    pub(crate) fn max_rows(&self) -> usize {
        self.model.max_rows()
    }

    /// How many tokens behind so many it can guess.
    pub(crate) fn room_behind(&self, tokens: usize) -> usize {
        self.model.context_length().saturating_sub(tokens)
    }

    /// All pages, and those that sequences hold.
    pub(crate) fn pages(&self) -> (usize, usize) {
        (self.pool.total(), self.pool.held())
    }

    /// The sequence `id` of requests with this `scope` has these `tokens` now, at least one. Returns how many of them are to be computed
    /// before the next one can be guessed, at least one; `None` if drafting has ended for the sequence.
    pub(crate) fn follow(&mut self, id: u64, scope: PrefixScope, tokens: &[u32]) -> Option<usize> {
        let follower = self.followers.entry(id).or_insert_with(|| Follower::new(scope));
        if !follower.is_dropped && !follower.settle(&mut self.pool, tokens, self.vocabulary) {
            follower.release(&mut self.pool);
            follower.is_dropped = true;
        }
        (!follower.is_dropped).then_some(tokens.len() - follower.computed)
    }

    /// The sequence `id` has ended, or gave its pages back.
    pub(crate) fn forget(&mut self, id: u64) {
        if let Some(mut follower) = self.followers.remove(&id) {
            follower.release(&mut self.pool);
        }
    }

    /// Computes `parts`, at most [`DraftModel::max_rows`] rows of different sequences, and returns a guess for each whose rows reach its
    /// last token or its last guess, at most [`DraftModel::most_guesses`].
    pub(crate) fn compute(&mut self, parts: &[Ahead<'_>]) -> Vec<Guess> {
        for part in parts {
            if let Some(follower) = self.followers.get_mut(&part.id) {
                follower.used_in = self.round;
            }
        }
        let parts: Vec<Ahead<'_>> = parts.iter().filter(|part| self.secure_pages(part)).copied().collect();
        match self.step(&parts) {
            Ok(guesses) => guesses,
            Err(failure) if parts.len() == 1 => {
                self.end(parts[0].id, &failure);
                Vec::new()
            }
            Err(_) => {
                // The culprit alone stops drafting.
                let alone = |part: &Ahead<'_>| {
                    self.step(&[*part]).unwrap_or_else(|failure| {
                        self.end(part.id, &failure);
                        Vec::new()
                    })
                };
                parts.iter().flat_map(alone).collect()
            }
        }
    }

    /// Drafts nothing more for the sequence.
    fn end(&mut self, id: u64, reason: &str) {
        tracing::warn!(request = id, "the draft model guesses no more of this answer: {reason}");
        if let Some(follower) = self.followers.get_mut(&id) {
            follower.release(&mut self.pool);
            follower.is_dropped = true;
        }
    }

    /// Gives a sequence pages for its rows, if no others are left those of a sequence that was not guessed on for this step or the one
    /// before. False if it gets none.
    fn secure_pages(&mut self, part: &Ahead<'_>) -> bool {
        loop {
            let Some(follower) = self.followers.get_mut(&part.id).filter(|follower| !follower.is_dropped)
            else {
                return false;
            };
            let needed = (follower.computed + part.rows).div_ceil(PAGE_TOKENS);
            while follower.pages.len() < needed
                && let Some(page) = self.pool.allocate()
            {
                follower.pages.push(page);
            }
            if follower.pages.len() >= needed {
                return true;
            }
            let is_idle = |(_, follower): &(&u64, &Follower)| {
                !follower.pages.is_empty() && follower.used_in + 1 < self.round
            };
            let idle = self.followers.iter().filter(is_idle).min_by_key(|(_, follower)| follower.used_in);
            match idle.map(|(id, _)| *id) {
                Some(idle) => self.forget(idle),
                None => {
                    self.end(part.id, "its memory for keys and values is full");
                    return false;
                }
            }
        }
    }

    /// One call of the model. On an error no sequence has moved.
    fn step(&mut self, parts: &[Ahead<'_>]) -> Result<Vec<Guess>, String> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let DraftModel { model, simd, vocabulary, followers, cost, .. } = self;
        let (simd, vocabulary) = (*simd, *vocabulary);
        let mut chunks = Vec::with_capacity(parts.len());
        for part in parts {
            let follower = followers.get(&part.id).ok_or("the sequence is unknown")?;
            chunks.push(follower.chunk(part).ok_or("more rows than tokens are asked for")?);
        }
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        let asked: Vec<u64> = (parts.iter().zip(&chunks))
            .filter_map(|(part, chunk)| (chunk.logits == LogitsFor::Last).then_some(part.id))
            .collect();
        let started = Instant::now();
        let outputs = without_panic(|| model.step(&chunks))
            .map_err(|panic| format!("its step panicked: {panic}"))?
            .map_err(|error| error.to_string())?;
        if outputs.logits.rows() != asked.len() {
            return Err(format!(
                "it returned {} rows of logits instead of {}",
                outputs.logits.rows(),
                asked.len()
            ));
        }
        let mut guesses = Vec::with_capacity(asked.len());
        for (number, id) in asked.iter().enumerate() {
            let logits = outputs.logits.row(number);
            let logits = &logits[..logits.len().min(vocabulary)];
            let softmax = LogSoftmax::of(simd, logits).map_err(|error| error.to_string())?;
            let best = softmax.top(simd, logits, 1);
            let best = best.first().ok_or("it has no vocabulary")?;
            guesses.push(Guess { id: *id, token: best.id, probability: f64::from(best.logprob).exp() });
        }
        let seconds = started.elapsed().as_secs_f64();
        if asked.is_empty() {
            cost.note_known(rows, seconds);
        } else {
            cost.note_guesses(rows, seconds);
        }
        for part in parts {
            if let Some(follower) = followers.get_mut(&part.id) {
                follower.computed += part.rows;
            }
        }
        for guess in &guesses {
            if let Some(follower) = followers.get_mut(&guess.id) {
                follower.guesses.push(guess.token);
            }
        }
        Ok(guesses)
    }
}

impl Follower {
    /// What the model is to compute of `part`; `None` if there are not so many rows.
    fn chunk<'a>(&'a self, part: &Ahead<'a>) -> Option<SequenceChunk<'a>> {
        let end = self.computed + part.rows;
        let tokens = match self.computed.checked_sub(self.known) {
            None => part.tokens.get(self.computed..end)?,
            Some(behind) => self.guesses.get(behind..behind + part.rows)?,
        };
        let reaches_end = end == self.known + self.guesses.len();
        let pages: &[PageId] = self.pages.get(..end.div_ceil(PAGE_TOKENS))?;
        Some(SequenceChunk {
            tokens,
            start: self.computed,
            pages,
            logits: if reaches_end { LogitsFor::Last } else { LogitsFor::None },
            ..SequenceChunk::default()
        })
    }
}
