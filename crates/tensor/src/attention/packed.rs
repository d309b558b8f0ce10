//! Attention over whole documents that lie one after the other in a batch, without a page pool of the caller's.
//!
//! Keys and values of one layer are put into pages of their own, so that the kernels, and with them the results, are
//! those of the KV cache. A document begins on a page boundary: its pages are counted from its own first position. Where it shares its
//! first rows with an earlier one, it reads that one's whole pages, and has a copy of the keys and values behind them.

use super::{AttentionPlan, AttentionShape};
use crate::documents::Document;
use crate::kv::{KvCache, KvDtype, KvShape, PAGE_TOKENS, PageId, PageWrite, SequenceRows};
use crate::{DocumentRows, TensorError};

/// The documents of a batch, and pages for the keys and values of one layer.
#[derive(Debug)]
pub(crate) struct PackedDocuments {
    pub(crate) plan: AttentionPlan,
    pub(crate) cache: KvCache,
}

impl PackedDocuments {
    /// No documents.
    ///
    /// # Errors
    /// [`TensorError::HeadShape`] when the heads cannot be computed.
    pub(crate) fn new(shape: AttentionShape) -> Result<PackedDocuments, TensorError> {
        Ok(PackedDocuments {
            plan: AttentionPlan::new(shape, 0)?,
            cache: KvCache::new(PackedDocuments::kv_shape(shape), 0)?,
        })
    }

    fn kv_shape(AttentionShape { kv_heads, head_dim, .. }: AttentionShape) -> KvShape {
        KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim }
    }

    /// Leaves no documents.
    pub(crate) fn clear(&mut self) {
        self.plan.clear();
    }

    /// Replaces the documents by others. With `sees_all`, rows see all of their document; documents share nothing then.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when there is none for their keys and values; there are no documents then.
    pub(crate) fn set(
        &mut self,
        documents: &DocumentRows,
        sees_all: bool,
        threads: usize,
    ) -> Result<(), TensorError> {
        const WHAT: &str = "keys and values of packed documents";
        self.plan.clear();
        let of_own = |document: &Document| match document.own_rows() {
            0 => 0,
            _ => document.positions().div_ceil(PAGE_TOKENS) - document.shared / PAGE_TOKENS,
        };
        let pages: usize = documents.documents().iter().map(of_own).sum();
        if u32::try_from(pages).is_err() {
            return Err(TensorError::OutOfMemory { what: WHAT, elements: usize::MAX });
        }
        if self.cache.pages() < pages {
            let shape = self.plan.shape();
            self.plan = AttentionPlan::new(shape, pages)?;
            // The old pages go before the new ones come.
            self.cache = KvCache::new(PackedDocuments::kv_shape(shape), 0)?;
            self.cache = KvCache::new(PackedDocuments::kv_shape(shape), pages)?;
        }
        let mut free = (0..pages as u32).map(PageId);
        // The pages of each document, and for each row the document whose own it is.
        let mut pages: Vec<Vec<PageId>> = Vec::with_capacity(documents.documents().len());
        let mut owners: Vec<u32> = Vec::with_capacity(documents.rows());
        let mut copies = Copies::default();
        for (index, document) in documents.documents().iter().enumerate() {
            let rows = documents.of(document);
            let whole = document.shared / PAGE_TOKENS;
            let shared = rows[..document.shared].last().map(|row| &pages[owners[*row] as usize]);
            let mut own: Vec<PageId> = match (shared, document.own_rows()) {
                (Some(shared), 0) => shared[..document.shared.div_ceil(PAGE_TOKENS)].to_vec(),
                (Some(shared), _) => shared[..whole].to_vec(),
                (None, _) => Vec::new(),
            };
            own.extend(free.by_ref().take(of_own(document)));
            if document.own_rows() > 0 {
                copies.add(own[whole..].first(), &rows[whole * PAGE_TOKENS..document.shared]);
            }
            owners.resize(owners.len() + document.own_rows(), index as u32);
            pages.push(own);
        }
        let sequences = documents.documents().iter().zip(&pages).map(|(document, pages)| SequenceRows {
            rows: document.own_rows(),
            start: document.shared,
            pages,
        });
        self.plan.set_packed(sequences, copies.rounds, sees_all, threads)
    }

    /// Bytes of the pages.
    pub(crate) fn bytes(&self) -> usize {
        self.cache.pages() * self.cache.shape().page_bytes().unwrap_or(0)
    }
}

/// Writes of shared rows into a document's first own page, in rounds in which every page stands at most once.
#[derive(Debug, Default)]
struct Copies {
    rounds: Vec<Vec<PageWrite>>,
}

impl Copies {
    /// Adds rows that go into a page from its first slot on: one write for each stretch of consecutive rows.
    fn add(&mut self, page: Option<&PageId>, rows: &[usize]) {
        let Some(page) = page else { return };
        let mut slot = 0;
        for (round, stretch) in rows.chunk_by(|one, next| one + 1 == *next).enumerate() {
            if self.rounds.len() == round {
                self.rounds.push(Vec::new());
            }
            let count = stretch.len();
            self.rounds[round].push(PageWrite { page: *page, slot, row: stretch[0], count });
            slot += count;
        }
    }
}
