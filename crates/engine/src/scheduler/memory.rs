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
            if let Some(draft_model) = &mut self.draft_model {
                draft_model.forget(newest);
            }
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

#[cfg(test)]
mod tests {
    use zhenjin_model::{SequenceChunk, StepOutputs};

    use super::*;
    use crate::inbox::{Inbox, Submission};
    use crate::options::EngineOptions;
    use crate::request::Request;
    use crate::sampling::Sampling;
    use crate::stats::EngineStats;
    use crate::step_model::{StepError, StepModel};
    use crate::weights::WeightsVersion;

    /// So many pages; nothing is computed here.
    struct Pages(usize);

    impl StepModel for Pages {
        fn usable_vocabulary(&self) -> usize {
            1000
        }

        fn context_length(&self) -> usize {
            1000
        }

        fn page_count(&self) -> usize {
            self.0
        }

        fn max_rows(&self) -> usize {
            512
        }

        fn max_logits_rows(&self) -> usize {
            32
        }

        fn step(&mut self, _chunks: &[SequenceChunk<'_>]) -> Result<StepOutputs<'_>, StepError> {
            Err("nothing is computed here".into())
        }
    }

    fn scheduler(pages: usize) -> Scheduler {
        let weights = WeightsVersion::first(None);
        let inbox = Inbox::new(4, 4, EngineStats::default(), weights);
        Scheduler::new(Box::new(Pages(pages)), None, EngineOptions::default(), 1000, inbox)
    }

    fn sequence(id: u64, tokens: std::ops::Range<u32>) -> Sequence {
        let submission = Submission {
            id,
            request: Request::new(tokens.collect(), 8, Sampling::greedy()),
            seed: 0,
            submitted: std::time::Instant::now(),
            events: tokio::sync::mpsc::unbounded_channel().0,
            weights: WeightsVersion::first(None),
        };
        Sequence::new(submission, 1000)
    }

    /// Whether `waiting` runs once memory was given out.
    fn is_admitted(mut scheduler: Scheduler, waiting: Sequence) -> bool {
        let id = waiting.id;
        scheduler.waiting.insert(id, waiting);
        scheduler.admit();
        scheduler.running.contains_key(&id)
    }

    #[test]
    fn a_request_waits_until_pages_suffice_for_it_and_those_that_run() {
        // Two pages for the tokens of each and their next one, and one more for the one that runs.
        for (pages, expected) in [(4, false), (5, true)] {
            let mut scheduler = scheduler(pages);
            scheduler.running.insert(0, sequence(0, 0..40));
            assert_eq!(is_admitted(scheduler, sequence(1, 100..140)), expected, "{pages} pages");
        }
    }

    #[test]
    fn a_prompts_last_token_is_computed_so_its_page_counts_as_missing() {
        // Both have the same two full pages. The second one takes over the first page, and needs two of its own.
        for (pages, expected) in [(5, false), (6, true)] {
            let mut scheduler = scheduler(pages);
            let mut first = sequence(0, 0..64);
            first.pages.extend((0..2).filter_map(|_| scheduler.pool.allocate()));
            first.computed = 64;
            publish_full_pages(&mut scheduler.pool, &mut first);
            scheduler.running.insert(0, first);
            assert_eq!(is_admitted(scheduler, sequence(1, 0..64)), expected, "{pages} pages");
        }
    }

    #[test]
    fn the_newest_request_gives_its_pages_to_the_oldest_in_the_same_step() {
        let mut scheduler = scheduler(2);
        let mut newest = sequence(1, 100..120);
        newest.pages.extend(scheduler.pool.allocate());
        scheduler.running.extend([(0, sequence(0, 0..40)), (1, newest)]);
        let plan = scheduler.secure_pages(BTreeMap::from([(0, 40), (1, 20)]));
        assert_eq!(plan.iter().map(|chunk| (chunk.id, chunk.rows)).collect::<Vec<_>>(), [(0, 40)]);
        assert!(scheduler.waiting.contains_key(&1) && scheduler.stats.preemptions == 1);
    }
}
