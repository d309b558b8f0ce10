//! The KV cache: a fixed pool of pages, each with the keys and values of 32 consecutive positions of one sequence.
//!
//! A page holds, for every layer and key/value head, a block: the keys as `[head_dim][32 keys]` (so that 32 scores are
//! computed side by side) and the values as `[32 keys][head_dim]`, in f32; or both in 8 bits (see `eight_bits`). What a
//! position holds is a function of its own key and value alone. Which page belongs to whom is not known here: callers name
//! the pages of each sequence in order.

mod eight_bits;

use std::fmt;
use std::str::FromStr;

use crate::lanes::dispatch;
use crate::rotation::WIDEST;
use crate::team::DisjointMut;
use crate::zeroed::Zeroed;
use crate::{SimdLevel, TensorError, ThreadTeam};
use eight_bits::WriteEightBits;
pub(crate) use eight_bits::{EightBitBlock, GROUPS, KEY_BLOCK};

/// Positions in a page.
pub const PAGE_TOKENS: usize = 32;

/// The number of a page in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvDtype {
    /// As they are computed.
    #[default]
    F32,
    /// In 8 bits, about a quarter of the memory: an f32 scale for each 32 dimensions of a rotated key and for each value,
    /// and products of bytes in attention. Changes results a little; needs a `head_dim` that is a multiple of 32, at most 256.
    Int8,
}

impl KvDtype {
    /// All of them.
    pub const ALL: [KvDtype; 2] = [KvDtype::F32, KvDtype::Int8];

    /// Whether heads of this width can be kept in the type.
    pub fn holds_heads_of(self, head_dim: usize) -> bool {
        self == KvDtype::F32 || head_dim.is_multiple_of(KEY_BLOCK) && head_dim <= WIDEST
    }

    /// The name that [`KvDtype::from_str`] reads.
    pub fn name(self) -> &'static str {
        match self {
            KvDtype::F32 => "f32",
            KvDtype::Int8 => "int8",
        }
    }
}

impl fmt::Display for KvDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for KvDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<KvDtype, String> {
        let found = KvDtype::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| format!("`{name}` is no type of a KV cache; there are f32 and int8"))
    }
}

/// What a model needs for one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// How keys and values are kept.
    pub dtype: KvDtype,
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

    /// Size of the block of one page, layer and head, in f32.
    fn block_elements(&self) -> Option<usize> {
        match self.dtype {
            KvDtype::F32 => self.head_dim.checked_mul(2 * PAGE_TOKENS),
            KvDtype::Int8 => EightBitBlock::elements(self.head_dim),
        }
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
    block_elements: usize,
    /// `[layers, kv_heads · head_dim]`, or empty: all zero. See [`KvCache::set_key_centres`].
    key_centres: Vec<f32>,
    /// `[layer][page][kv_head]` blocks.
    blocks: Zeroed,
}

impl KvCache {
    /// A pool of `pages` pages.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the system refuses the memory, [`TensorError::KvHeadDim`] when heads of this
    /// width cannot be kept in the type.
    pub fn new(shape: KvShape, pages: usize) -> Result<KvCache, TensorError> {
        const WHAT: &str = "KV cache";
        if !shape.dtype.holds_heads_of(shape.head_dim) {
            return Err(TensorError::KvHeadDim {
                head_dim: shape.head_dim,
                multiple_of: KEY_BLOCK,
                at_most: WIDEST,
            });
        }
        let bytes = shape.page_bytes().and_then(|bytes| bytes.checked_mul(pages));
        let bytes = bytes.ok_or(TensorError::OutOfMemory { what: WHAT, elements: usize::MAX })?;
        let block_elements = shape.block_elements().unwrap_or(0);
        let blocks = Zeroed::new(WHAT, bytes / size_of::<f32>())?;
        Ok(KvCache { shape, pages, block_elements, key_centres: Vec::new(), blocks })
    }

    /// The shape it was made for.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Sets a constant vector for each layer and head, `[layers, kv_heads · head_dim]`, which is taken off every key before
    /// it is rounded to 8 bits: rounding loses less of what is smaller. At first all are zero; keys in f32 are kept as they
    /// are. A centre changes no attention, whatever its values: it takes the same number, query · centre, off the scores
    /// of all keys, and softmax does not see what all scores have in common. All keys that a query sees must have been
    /// written with the same centres. An empty list stands for zeros.
    ///
    /// # Errors
    /// [`TensorError::Length`] when there are not as many values.
    pub fn set_key_centres(&mut self, centres: Vec<f32>) -> Result<(), TensorError> {
        let KvShape { layers, kv_heads, head_dim, .. } = self.shape;
        let expected = layers.saturating_mul(kv_heads).saturating_mul(head_dim);
        let actual = centres.len();
        if actual != 0 && expected != actual {
            return Err(TensorError::Length { what: "centres of keys", expected, actual });
        }
        self.key_centres = centres;
        Ok(())
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Where the block of a layer, page and head lies.
    fn block_start(&self, layer: usize, page: PageId, kv_head: usize) -> usize {
        ((layer * self.pages + page.0 as usize) * self.shape.kv_heads + kv_head) * self.block_elements
    }

    /// All of one page, layer and head, however it is kept.
    pub(crate) fn whole_block(&self, layer: usize, page: PageId, kv_head: usize) -> &[f32] {
        let start = self.block_start(layer, page, kv_head);
        &self.blocks[start..start + self.block_elements]
    }

    /// One page, layer and head of a cache in f32: keys `[head_dim][32]` and values `[32][head_dim]`.
    pub(crate) fn block(&self, layer: usize, page: PageId, kv_head: usize) -> (&[f32], &[f32]) {
        self.whole_block(layer, page, kv_head).split_at(PAGE_TOKENS * self.shape.head_dim)
    }

    /// One page, layer and head of a cache in 8 bits.
    pub(crate) fn eight_bit_block(&self, layer: usize, page: PageId, kv_head: usize) -> EightBitBlock<'_> {
        EightBitBlock::new(self.whole_block(layer, page, kv_head), self.shape.head_dim)
    }

    /// Puts the keys and values `[rows, kv_heads · head_dim]` of a batch into `layer`. `writes` must name each page at
    /// most once. With few rows the caller does it alone. The bits do not depend on `simd` or the team.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        writes: &[PageWrite],
        keys: &[f32],
        values: &[f32],
        simd: SimdLevel,
        team: &ThreadTeam,
    ) {
        const ROWS_WORTH_A_TEAM: usize = 16;
        let shape = self.shape;
        let block = self.block_elements;
        let page_elements = block * shape.kv_heads;
        let start = self.block_start(layer, PageId(0), 0);
        let key_centres = &self.key_centres;
        let pages = DisjointMut::new(&mut self.blocks[start..start + self.pages * page_elements]);
        let write = |write: &PageWrite| {
            let first = write.page.0 as usize * page_elements;
            // SAFETY: every page is written by one entry of `writes`, and every entry is handled once.
            let page = unsafe { pages.slice(first..first + page_elements) };
            for (kv_head, block) in page.chunks_exact_mut(block).enumerate() {
                let first = (layer * shape.kv_heads + kv_head) * shape.head_dim;
                let key_centre = key_centres.get(first..first + shape.head_dim).unwrap_or(&NO_CENTRE);
                let rows = RowsToWrite { write, shape, kv_head, key_centre, keys, values };
                match shape.dtype {
                    KvDtype::F32 => write_floats(&rows, block),
                    KvDtype::Int8 => dispatch(simd, WriteEightBits { rows, block }),
                }
            }
        };
        if writes.iter().map(|write| write.count).sum::<usize>() < ROWS_WORTH_A_TEAM {
            writes.iter().for_each(write);
        } else {
            team.for_ranges(writes.len(), |range| writes[range].iter().for_each(write));
        }
    }
}

/// The centre of keys that have none; as long as that of the widest head.
static NO_CENTRE: [f32; WIDEST] = [0.0; WIDEST];

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

/// The keys and values `[rows, kv_heads · head_dim]` of a batch, of which one head's go into one block.
struct RowsToWrite<'a> {
    write: &'a PageWrite,
    shape: KvShape,
    kv_head: usize,
    /// At least `head_dim` values.
    key_centre: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
}

impl<'a> RowsToWrite<'a> {
    fn count(&self) -> usize {
        self.write.count
    }

    /// Slot, key and value of row `index`.
    fn row(&self, index: usize) -> (usize, &'a [f32], &'a [f32]) {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        let start = ((self.write.row + index) * kv_heads + self.kv_head) * head_dim;
        let range = start..start + head_dim;
        (self.write.slot + index, &self.keys[range.clone()], &self.values[range])
    }
}

fn write_floats(rows: &RowsToWrite<'_>, block: &mut [f32]) {
    let head_dim = rows.shape.head_dim;
    let (key_block, value_block) = block.split_at_mut(PAGE_TOKENS * head_dim);
    for index in 0..rows.count() {
        let (slot, key, value) = rows.row(index);
        let columns = key_block.as_chunks_mut::<PAGE_TOKENS>().0;
        for (column, key) in columns.iter_mut().zip(key) {
            column[slot] = *key;
        }
        value_block[slot * head_dim..(slot + 1) * head_dim].copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_unknown_ones_are_refused() {
        for dtype in KvDtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        assert!("q8_0".parse::<KvDtype>().unwrap_err().contains("f32 and int8"));
    }
}
