//! The KV cache: a fixed pool of pages, each with the keys and values of 32 consecutive positions of one sequence.
//!
//! A page holds, for every layer and key/value head, the keys as `[head_dim][32 keys]` (so that 32 scores are computed
//! side by side) and the values as `[32 keys][head_dim]`, in f32. Which page belongs to whom is not known here: callers
//! name the pages of each sequence in order.

use crate::team::DisjointMut;
use crate::zeroed::Zeroed;
use crate::{TensorError, ThreadTeam};

/// Positions in a page.
pub const PAGE_TOKENS: usize = 32;

/// The number of a page in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

/// What a model needs for one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Transformer layers.
    pub layers: usize,
    /// Key/value heads per layer.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl KvShape {
    /// Bytes of one page, or `None` when no machine could address them.
    pub fn page_bytes(&self) -> Option<usize> {
        self.block_elements()?
            .checked_mul(self.layers)?
            .checked_mul(self.kv_heads)?
            .checked_mul(size_of::<f32>())
    }

    /// Elements of the keys and values of one page, layer and head.
    fn block_elements(&self) -> Option<usize> {
        self.head_dim.checked_mul(2 * PAGE_TOKENS)
    }
}

/// Rows of a batch that continue one sequence.
#[derive(Clone, Copy, Debug)]
pub struct SequenceRows<'a> {
    /// Number of consecutive rows. The first sequence has the first rows of the batch, and so on.
    pub rows: usize,
    /// Position of the first of them; the positions before it are in the pages already.
    pub start: usize,
    /// The sequence's pages in order of position, enough for `start + rows` positions.
    pub pages: &'a [PageId],
}

/// The pool of pages. Its memory is taken from the system when a page is first written.
#[derive(Debug)]
pub struct KvCache {
    shape: KvShape,
    pages: usize,
    /// `[layer][page][kv_head]` blocks of keys, then values.
    blocks: Zeroed,
}

impl KvCache {
    /// A pool of `pages` pages.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the system refuses the memory.
    pub fn new(shape: KvShape, pages: usize) -> Result<KvCache, TensorError> {
        const WHAT: &str = "KV cache";
        let bytes = shape.page_bytes().and_then(|bytes| bytes.checked_mul(pages));
        let bytes = bytes.ok_or(TensorError::OutOfMemory { what: WHAT, elements: usize::MAX })?;
        Ok(KvCache { shape, pages, blocks: Zeroed::new(WHAT, bytes / size_of::<f32>())? })
    }

    /// The shape it was made for.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    fn block_elements(&self) -> usize {
        2 * PAGE_TOKENS * self.shape.head_dim
    }

    /// Where the block of a layer, page and head lies.
    fn block_start(&self, layer: usize, page: PageId, kv_head: usize) -> usize {
        ((layer * self.pages + page.0 as usize) * self.shape.kv_heads + kv_head) * self.block_elements()
    }

    /// Keys `[head_dim][32]` and values `[32][head_dim]` of one page, layer and head.
    pub(crate) fn block(&self, layer: usize, page: PageId, kv_head: usize) -> (&[f32], &[f32]) {
        let start = self.block_start(layer, page, kv_head);
        self.blocks[start..start + self.block_elements()].split_at(PAGE_TOKENS * self.shape.head_dim)
    }

    /// Puts the keys and values `[rows, kv_heads · head_dim]` of a batch into `layer`. `writes` must name each page at
    /// most once. With few rows the caller does it alone.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        writes: &[PageWrite],
        keys: &[f32],
        values: &[f32],
        team: &ThreadTeam,
    ) {
        const ROWS_WORTH_A_TEAM: usize = 16;
        let shape = self.shape;
        let block = self.block_elements();
        let page_elements = block * shape.kv_heads;
        let start = self.block_start(layer, PageId(0), 0);
        let pages = DisjointMut::new(&mut self.blocks[start..start + self.pages * page_elements]);
        let write = |write: &PageWrite| {
            let first = write.page.0 as usize * page_elements;
            // SAFETY: every page is written by one entry of `writes`, and every entry is handled once.
            let page = unsafe { pages.slice(first..first + page_elements) };
            for (kv_head, block) in page.chunks_exact_mut(block).enumerate() {
                write_block(shape, write, kv_head, block, keys, values);
            }
        };
        if writes.iter().map(|write| write.count).sum::<usize>() < ROWS_WORTH_A_TEAM {
            writes.iter().for_each(write);
        } else {
            team.for_ranges(writes.len(), |_, range| writes[range].iter().for_each(write));
        }
    }
}

/// Consecutive rows of a batch that go into one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageWrite {
    pub(crate) page: PageId,
    /// Slot of the first row in the page.
    pub(crate) slot: usize,
    /// First row of the batch.
    pub(crate) row: usize,
    /// Number of rows.
    pub(crate) count: usize,
}

fn write_block(
    shape: KvShape,
    write: &PageWrite,
    kv_head: usize,
    block: &mut [f32],
    keys: &[f32],
    values: &[f32],
) {
    let head_dim = shape.head_dim;
    let width = shape.kv_heads * head_dim;
    let (key_block, value_block) = block.split_at_mut(PAGE_TOKENS * head_dim);
    for index in 0..write.count {
        let start = (write.row + index) * width + kv_head * head_dim;
        let slot = write.slot + index;
        let columns = key_block.as_chunks_mut::<PAGE_TOKENS>().0;
        for (column, key) in columns.iter_mut().zip(&keys[start..start + head_dim]) {
            column[slot] = *key;
        }
        value_block[slot * head_dim..(slot + 1) * head_dim].copy_from_slice(&values[start..start + head_dim]);
    }
}
