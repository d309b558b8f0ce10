//! Attention over whole documents that lie one after the other in a batch, without a page pool of the caller's.
//!
//! Keys and values of one layer are put into pages of their own, so that the kernels, and with them the results, are
//! those of the KV cache. A document begins on a page boundary: its pages are counted from its own first position.

use super::{AttentionPlan, AttentionShape};
use crate::TensorError;
use crate::kv::{KvCache, KvDtype, KvShape, PAGE_TOKENS, PageId, SequenceRows};

/// The documents of a batch, and pages for the keys and values of one layer.
#[derive(Debug)]
pub(crate) struct PackedDocuments {
    pub(crate) plan: AttentionPlan,
    pub(crate) cache: KvCache,
    pages: Vec<PageId>,
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
            pages: Vec::new(),
        })
    }

    fn kv_shape(AttentionShape { kv_heads, head_dim, .. }: AttentionShape) -> KvShape {
        KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim }
    }

    /// Replaces the documents by others of `lengths` rows.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when there is none for their keys and values; there are no documents then.
    pub(crate) fn set(&mut self, lengths: &[usize], threads: usize) -> Result<(), TensorError> {
        const WHAT: &str = "keys and values of packed documents";
        self.plan.clear();
        let pages_of = |length: usize| length.div_ceil(PAGE_TOKENS);
        let pages = lengths.iter().try_fold(0, |sum: usize, length| sum.checked_add(pages_of(*length)));
        let pages = pages.filter(|pages| u32::try_from(*pages).is_ok());
        let pages = pages.ok_or(TensorError::OutOfMemory { what: WHAT, elements: usize::MAX })?;
        if self.cache.pages() < pages {
            let shape = self.plan.shape();
            self.plan = AttentionPlan::new(shape, pages)?;
            // The old pages go before the new ones come.
            self.cache = KvCache::new(PackedDocuments::kv_shape(shape), 0)?;
            self.cache = KvCache::new(PackedDocuments::kv_shape(shape), pages)?;
            self.pages = (0..pages as u32).map(PageId).collect();
        }
        let mut free = self.pages.as_slice();
        let documents = lengths.iter().map(|length| {
            let (pages, others) = free.split_at(pages_of(*length));
            free = others;
            SequenceRows { rows: *length, start: 0, pages }
        });
        self.plan.set(documents, threads)
    }

    /// Bytes of the pages.
    pub(crate) fn bytes(&self) -> usize {
        self.cache.pages() * self.cache.shape().page_bytes().unwrap_or(0)
    }
}
