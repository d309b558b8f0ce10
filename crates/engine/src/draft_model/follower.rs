//! What the draft model has computed of one sequence, guesses included.

use zhenjin_model::{PAGE_TOKENS, PageId};

use crate::kv::page_pool::PagePool;
use crate::kv::prefix_cache::{ChainId, PageTokens, PrefixScope};

/// The draft model's side of a sequence.
///
/// Between two calls of [`Follower::settle`]: positions below `computed` have their keys and values in `pages`; they belong to the first
/// `known` tokens of the sequence and to the guesses behind them. The first `published` pages are full of the sequence's own tokens, and end
/// the chain `chain`.
#[derive(Debug)]
pub(super) struct Follower {
    scope: PrefixScope,
    pub(super) pages: Vec<PageId>,
    published: usize,
    chain: ChainId,
    pub(super) computed: usize,
    /// The sequence's own tokens, when they were last seen.
    pub(super) known: usize,
    /// What was guessed to come behind these.
    pub(super) guesses: Vec<u32>,
    /// The round in which something was last computed for it.
    pub(super) used_in: u64,
    /// Nothing more is drafted for the sequence.
    pub(super) is_dropped: bool,
}

impl Follower {
    /// Nothing is computed yet.
    pub(super) fn new(scope: PrefixScope) -> Follower {
        Follower {
            scope,
            pages: Vec::new(),
            published: 0,
            chain: ChainId::Beginning(scope),
            computed: 0,
            known: 0,
            guesses: Vec::new(),
            used_in: 0,
            is_dropped: false,
        }
    }

    /// Takes note of the sequence's `tokens`, which begin with those of the call before. What was computed for wrong guesses counts no more,
    /// full pages are offered to others and taken from them. The last token counts as not computed, since what comes behind it is to be
    /// guessed. False if the sequence holds a token that the draft model does not know.
    pub(super) fn settle(&mut self, pool: &mut PagePool, tokens: &[u32], vocabulary: usize) -> bool {
        let new = tokens.get(self.known..).unwrap_or_default();
        if new.iter().any(|token| *token as usize >= vocabulary) {
            return false;
        }
        let right = self.guesses.iter().zip(new).take_while(|(guess, token)| guess == token).count();
        let last = tokens.len().saturating_sub(1);
        self.computed = self.computed.min(self.known + right).min(last);
        self.known = tokens.len();
        self.guesses.clear();
        while (self.published + 1) * PAGE_TOKENS <= self.computed {
            let Some(page) = page_tokens(tokens, self.published) else { break };
            let cached = pool.publish(self.chain, &page, self.pages[self.published]);
            self.pages[self.published] = cached.page;
            self.chain = cached.chain;
            self.published += 1;
        }
        while self.computed == self.published * PAGE_TOKENS
            && self.pages.len() == self.published
            && self.computed + PAGE_TOKENS <= last
            && let Some(page) = page_tokens(tokens, self.published)
            && let Some(cached) = pool.share(self.chain, &page)
        {
            self.pages.push(cached.page);
            self.chain = cached.chain;
            self.published += 1;
            self.computed += PAGE_TOKENS;
        }
        true
    }

    /// Gives all pages back; everything is to be computed again.
    pub(super) fn release(&mut self, pool: &mut PagePool) {
        while let Some(page) = self.pages.pop() {
            pool.release(page);
        }
        *self = Follower { is_dropped: self.is_dropped, ..Follower::new(self.scope) };
    }
}

/// The tokens of page `index`, if it is full.
fn page_tokens(tokens: &[u32], index: usize) -> Option<PageTokens> {
    let start = index.checked_mul(PAGE_TOKENS)?;
    tokens.get(start..start + PAGE_TOKENS)?.try_into().ok()
}
