//! Which requests get pages, and which give them back. Older requests come first: the newest one waits when memory is short.

use std::collections::BTreeMap;

use zhenjin_model::{LogitsFor, PAGE_TOKENS};

use super::sequence::Sequence;
use super::{PlannedChunk, Scheduler};
use crate::kv::page_pool::PagePool;
use crate::kv::prefix_cache::ChainId;

/// Replaces what the cache holds of the sequence's next tokens for computing them. Returns how many tokens
/// that saves.
pub(crate) fn adopt_cached_pages(pool: &mut PagePool, sequence: &mut Sequence) -> usize {
    let before = sequence.computed;
    while sequence.is_at_new_page() && sequence.computed + PAGE_TOKENS <= sequence.reusable_until() {
        let Some(tokens) = sequence.page_tokens(sequence.published) else { break };
        let Some(cached) = pool.share(sequence.chain, &tokens) else { break };
        sequence.pages.push(cached.page);
        sequence.chain = cached.chain;
        sequence.published += 1;
        sequence.computed += PAGE_TOKENS;
    }
    let saved = sequence.computed - before;
    if !sequence.prompt_announced {
        // Before the prompt is announced there are no other tokens than the prompt's.
        sequence.cached_tokens += saved;
    }
    saved
}

/// Offers the pages that have become full to later prompts.
pub(crate) fn publish_full_pages(pool: &mut PagePool, sequence: &mut Sequence) {
    while (sequence.published + 1) * PAGE_TOKENS <= sequence.computed {
        let Some(tokens) = sequence.page_tokens(sequence.published) else { break };
        let cached = pool.publish(sequence.chain, &tokens, sequence.pages[sequence.published]);
        sequence.pages[sequence.published] = cached.page;
        sequence.chain = cached.chain;
        sequence.published += 1;
    }
}

/// Gives all pages back; the sequence can be computed again from its tokens.
pub(crate) fn release_pages(pool: &mut PagePool, sequence: &mut Sequence) {
    while let Some(page) = sequence.pages.pop() {
        pool.release(page);
    }
    sequence.computed = 0;
    sequence.published = 0;
    sequence.chain = ChainId::Beginning(sequence.scope());
}

/// Pages that a sequence still needs for the tokens that it has and the next one.
fn missing_pages(sequence: &Sequence) -> usize {
    (sequence.tokens.len() + 1).div_ceil(PAGE_TOKENS).saturating_sub(sequence.pages.len())
}

impl Scheduler {
    /// Moves waiting requests into the batch, the oldest first, as long as there are places and pages.
    pub(super) fn admit(&mut self) {
        while self.running.len() < self.options.max_batch {
            let Some((_, oldest)) = self.waiting.first_key_value() else { break };
            if !self.has_room_for(oldest) {
                break;
            }
            if let Some((id, sequence)) = self.waiting.pop_first() {
                self.running.insert(id, sequence);
            }
        }
    }

    /// True if the pages suffice for `sequence` up to its next token, for what the running ones need for
    /// theirs, and for one more page for each of these. A sequence alone always fits: submission checked
    /// that.
    fn has_room_for(&self, sequence: &Sequence) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let (mut chain, mut shared, mut shared_unheld) = (ChainId::Beginning(sequence.scope()), 0, 0);
        while (shared + 1) * PAGE_TOKENS <= sequence.reusable_until()
            && let Some(tokens) = sequence.page_tokens(shared)
            && let Some((cached, unheld)) = self.pool.find(chain, &tokens)
        {
            chain = cached.chain;
            shared += 1;
            shared_unheld += usize::from(unheld);
        }
        let needed = missing_pages(sequence) - shared + shared_unheld;
        let promised: usize = self.running.values().map(|running| missing_pages(running) + 1).sum();
        needed + promised <= self.pool.available()
    }

    /// Turns the chosen rows into chunks that have their pages. Where pages run out, the newest requests go
    /// back to waiting.
    pub(super) fn secure_pages(&mut self, rows: BTreeMap<u64, usize>) -> Vec<PlannedChunk> {
        let mut plan = Vec::with_capacity(rows.len());
        for (id, rows) in rows {
            // Oldest first, so that a request that is preempted here was not planned yet.
            if !self.secure_pages_of(id, rows) {
                continue;
            }
            let Some(sequence) = self.running.get(&id) else { continue };
            let drafted = sequence.drafted();
            let logits = if drafted > 0 {
                LogitsFor::All
            } else if rows == sequence.pending() && sequence.request.max_tokens > 0 {
                LogitsFor::Last
            } else {
                LogitsFor::None
            };
            // A draft stays within the page that was secured for the row before it.
            let start = sequence.computed;
            let prompt = sequence.about_prompt.wanted(start..start + rows);
            plan.push(PlannedChunk { id, start, rows: rows + drafted, drafted, logits, prompt });
        }
        plan
    }

    fn secure_pages_of(&mut self, id: u64, rows: usize) -> bool {
        loop {
            let Some(sequence) = self.running.get_mut(&id) else { return false };
            let needed = (sequence.computed + rows).div_ceil(PAGE_TOKENS);
            while sequence.pages.len() < needed
                && let Some(page) = self.pool.allocate()
            {
                sequence.pages.push(page);
            }
            if sequence.pages.len() >= needed {
                return true;
            }
            let Some((newest, mut sequence)) = self.running.pop_last() else { return false };
            release_pages(&mut self.pool, &mut sequence);
            if !sequence.prompt_announced {
                sequence.cached_tokens = 0;
            }
            self.stats.preemptions += 1;
            tracing::info!(
                request = newest,
                for_request = id,
                "preempted: the memory for keys and values is full"
            );
            self.waiting.insert(newest, sequence);
            if newest == id {
                return false;
            }
        }
    }
}
