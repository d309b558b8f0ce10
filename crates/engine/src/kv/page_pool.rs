//! Hands out pages and takes them back: a count of holders for each, a list of free ones, and the order in which cached
//! pages without holders are evicted.

use std::collections::BTreeMap;

use zhenjin_model::PageId;

use super::prefix_cache::{CachedPage, ChainId, PageTokens, PrefixCache};

/// All pages of one model.
#[derive(Debug)]
pub(crate) struct PagePool {
    holders: Vec<u32>,
    free: Vec<PageId>,
    cache: PrefixCache,
    /// Cached pages without holders, the one released longest ago first.
    evictable: BTreeMap<u64, PageId>,
    released_at: Vec<u64>,
    releases: u64,
}

impl PagePool {
    /// `pages` free pages, numbered from 0.
    pub(crate) fn new(pages: usize) -> PagePool {
        PagePool {
            holders: vec![0; pages],
            free: (0..pages as u32).rev().map(PageId).collect(),
            cache: PrefixCache::default(),
            evictable: BTreeMap::new(),
            released_at: vec![0; pages],
            releases: 0,
        }
    }

    /// All pages, held or not.
    pub(crate) fn total(&self) -> usize {
        self.holders.len()
    }

    /// Pages that can be handed out now: the free ones, and the cached ones without holders.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.evictable.len()
    }

    /// Pages that have holders.
    pub(crate) fn held(&self) -> usize {
        self.total() - self.available()
    }

    /// Pages whose content a later prompt can reuse, held or not.
    pub(crate) fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Hands out a page with arbitrary content, evicting the cached page that was released longest ago if
    /// none is free.
    pub(crate) fn allocate(&mut self) -> Option<PageId> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => {
                let (_, page) = self.evictable.pop_first()?;
                self.cache.remove(page);
                page
            }
        };
        self.holders[page.0 as usize] = 1;
        Some(page)
    }

    /// The cached page with `tokens` after `before`, without holding it; and whether it has no holder.
    pub(crate) fn find(&self, before: ChainId, tokens: &PageTokens) -> Option<(CachedPage, bool)> {
        let cached = self.cache.find(before, tokens)?;
        Some((cached, self.holders[cached.page.0 as usize] == 0))
    }

    /// Holds the cached page with `tokens` after `before`.
    pub(crate) fn share(&mut self, before: ChainId, tokens: &PageTokens) -> Option<CachedPage> {
        let cached = self.cache.find(before, tokens)?;
        self.hold(cached.page);
        Some(cached)
    }

    /// Offers a full page to later prompts. If an equal page is cached already, that one is held instead and
    /// `page` released: equal tokens have equal bits here, so the holder may go on with either.
    pub(crate) fn publish(&mut self, before: ChainId, tokens: &PageTokens, page: PageId) -> CachedPage {
        let cached = self.cache.insert(before, tokens, page);
        if cached.page != page {
            self.hold(cached.page);
            self.release(page);
        }
        cached
    }

    /// Releases one holder's page. It becomes free, or evictable if it is cached, when no one else holds
    /// it any more.
    ///
    /// Release a sequence's last page first: then the ends of cached chains are evicted before their
    /// beginnings.
    pub(crate) fn release(&mut self, page: PageId) {
        let index = page.0 as usize;
        self.holders[index] -= 1;
        if self.holders[index] > 0 {
            return;
        }
        if self.cache.contains(page) {
            self.releases += 1;
            self.released_at[index] = self.releases;
            self.evictable.insert(self.releases, page);
        } else {
            self.free.push(page);
        }
    }

    /// Makes every page without holders free, whatever it holds.
    pub(crate) fn forget_unheld(&mut self) {
        while let Some((_, page)) = self.evictable.pop_last() {
            self.cache.remove(page);
            self.free.push(page);
        }
    }

    fn hold(&mut self, page: PageId) {
        let index = page.0 as usize;
        if self.holders[index] == 0 {
            self.evictable.remove(&self.released_at[index]);
        }
        self.holders[index] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::prefix_cache::PrefixScope;
    use crate::request::CacheSalt;
    use zhenjin_model::{Fingerprint, PAGE_TOKENS};

    const EMPTY: ChainId =
        ChainId::Beginning(PrefixScope { weights: None, adapter: None, salt: CacheSalt::SHARED });

    fn tokens(first: u32) -> PageTokens {
        std::array::from_fn(|i| first + i as u32)
    }

    #[test]
    fn a_chain_is_shared_deduplicated_and_given_up_from_its_end() {
        assert_eq!(PAGE_TOKENS, tokens(0).len());
        let mut pool = PagePool::new(3);
        let (a, b) = (pool.allocate().unwrap(), pool.allocate().unwrap());
        let first = pool.publish(EMPTY, &tokens(0), a);
        let second = pool.publish(first.chain, &tokens(1), b);
        assert_eq!((first.page, second.page), (a, b));

        // The same tokens after another beginning are another page.
        assert!(pool.share(EMPTY, &tokens(1)).is_none());
        let duplicate = pool.allocate().unwrap();
        assert_eq!(pool.allocate(), None);
        assert_eq!(pool.publish(EMPTY, &tokens(0), duplicate), first);
        assert_eq!(pool.available(), 1);

        pool.release(b);
        pool.release(a);
        pool.release(a);
        assert_eq!((pool.available(), pool.held(), pool.cached()), (3, 0, 2));
        assert_eq!(pool.allocate(), Some(duplicate));
        assert_eq!(pool.allocate(), Some(b));
        assert!(pool.find(first.chain, &tokens(1)).is_none());
        assert_eq!(pool.find(EMPTY, &tokens(0)), Some((first, true)));
        assert_eq!(pool.share(EMPTY, &tokens(0)), Some(first));
        assert_eq!(pool.allocate(), None);
    }

    /// Pages that are never handed out take no memory. What an adapter computed that will not come back would make every step take new ones.
    #[test]
    fn what_nobody_holds_is_forgotten_and_its_pages_come_first() {
        let mut pool = PagePool::new(100);
        let held = pool.allocate().unwrap();
        let kept = pool.publish(EMPTY, &tokens(7), held);
        let mut used = std::collections::BTreeSet::new();
        for adapter in 0..10 {
            let scope = PrefixScope {
                adapter: Some(Fingerprint::from_bytes([adapter; 32])),
                ..PrefixScope::default()
            };
            let pages: Vec<PageId> = (0..3).map(|_| pool.allocate().unwrap()).collect();
            used.extend(pages.iter().map(|page| page.0));
            let mut chain = ChainId::Beginning(scope);
            for page in &pages {
                chain = pool.publish(chain, &tokens(page.0), *page).chain;
            }
            pages.iter().rev().for_each(|page| pool.release(*page));
            assert_eq!(pool.cached(), 4);
            pool.forget_unheld();
            assert_eq!((pool.cached(), pool.held(), pool.available()), (1, 1, 99));
            assert_eq!(pool.find(ChainId::Beginning(scope), &tokens(pages[0].0)), None);
        }
        assert_eq!(used.len(), 3);
        assert_eq!(pool.find(EMPTY, &tokens(7)), Some((kept, false)));
    }

    #[test]
    fn scopes_share_no_pages() {
        let mut pool = PagePool::new(8);
        let fingerprint = |byte| Some(Fingerprint::from_bytes([byte; 32]));
        let plain = PrefixScope::default();
        let scopes = [
            plain,
            PrefixScope { weights: fingerprint(1), ..plain },
            PrefixScope { adapter: fingerprint(1), ..plain },
            PrefixScope { adapter: fingerprint(2), ..plain },
            PrefixScope { salt: CacheSalt::new([1; 32]), ..plain },
        ];
        for scope in scopes {
            assert_eq!(pool.find(ChainId::Beginning(scope), &tokens(0)), None);
            let page = pool.allocate().unwrap();
            assert_eq!(pool.publish(ChainId::Beginning(scope), &tokens(0), page).page, page);
        }
        assert_eq!(pool.cached(), scopes.len());
    }
}
