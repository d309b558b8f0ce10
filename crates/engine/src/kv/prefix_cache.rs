//! Which full page holds which tokens after which beginning.
//!
//! A page's keys and values depend on its own tokens, on all tokens before it, and on the weights and the adapter
//! that computed them. So a page is found by (the chain before it, its tokens), and a chain begins with its scope.
//! Chains are numbered, and the number stands for the exact scope and tokens: the table hashes the key and then
//! compares it whole, so a collision of hashes cannot hand out a wrong page.

use std::collections::HashMap;

use zhenjin_model::{Fingerprint, PAGE_TOKENS, PageId};

use crate::request::CacheSalt;

/// What sequences must have in common to share pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PrefixScope {
    /// The weights, where they can be replaced.
    pub(crate) weights: Option<Fingerprint>,
    /// The adapter; `None`: the base model's own answers.
    pub(crate) adapter: Option<Fingerprint>,
    /// Whose requests may share.
    pub(crate) salt: CacheSalt,
}

/// A chain of full pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChainId {
    /// No page yet: the beginning of every sequence of the scope.
    Beginning(PrefixScope),
    /// The number of a chain with pages.
    Pages(u64),
}

/// The tokens of one full page.
pub(crate) type PageTokens = [u32; PAGE_TOKENS];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PageKey {
    before: ChainId,
    tokens: PageTokens,
}

/// A full page that the cache knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedPage {
    /// Where its keys and values are.
    pub(crate) page: PageId,
    /// The chain that ends with it.
    pub(crate) chain: ChainId,
}

/// The table of full pages.
#[derive(Debug, Default)]
pub(crate) struct PrefixCache {
    by_key: HashMap<PageKey, CachedPage>,
    key_of: HashMap<PageId, PageKey>,
    last_chain: u64,
}

impl PrefixCache {
    /// The page with `tokens` after the chain `before`.
    pub(crate) fn find(&self, before: ChainId, tokens: &PageTokens) -> Option<CachedPage> {
        self.by_key.get(&PageKey { before, tokens: *tokens }).copied()
    }

    /// Takes note that `page` holds `tokens` after `before`. If another page does already, that one is
    /// returned and stays.
    pub(crate) fn insert(&mut self, before: ChainId, tokens: &PageTokens, page: PageId) -> CachedPage {
        let key = PageKey { before, tokens: *tokens };
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        self.last_chain += 1;
        let cached = CachedPage { page, chain: ChainId::Pages(self.last_chain) };
        self.by_key.insert(key, cached);
        self.key_of.insert(page, key);
        cached
    }

    /// True if the cache knows `page`.
    pub(crate) fn contains(&self, page: PageId) -> bool {
        self.key_of.contains_key(&page)
    }

    /// Forgets `page`.
    pub(crate) fn remove(&mut self, page: PageId) {
        if let Some(key) = self.key_of.remove(&page) {
            self.by_key.remove(&key);
        }
    }

    /// How many pages the cache knows.
    pub(crate) fn len(&self) -> usize {
        self.key_of.len()
    }
}
