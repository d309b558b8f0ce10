//! A block of queries: consecutive positions of one sequence, all the query heads of one key/value head; and the running
//! results of such a block. Rows of a block are ordered by position, then head.

use std::ops::Range;

use super::eight_bits::{EightBitPages, RoundedQueries};
use super::floats::FloatPages;
use super::kernel::{self, FULL_TILE_ROWS};
use super::{AttentionCall, reference};
use crate::kv::{KvDtype, PAGE_TOKENS, PageId};
use crate::lanes::{LANES, LaneKernel, Lanes};

/// Which queries.
#[derive(Debug)]
pub(super) struct Block<'a> {
    /// The sequence's pages, in order of position.
    pub(super) pages: &'a [PageId],
    pub(super) kv_head: usize,
    /// Query heads per key/value head.
    pub(super) group: usize,
    pub(super) head_dim: usize,
    pub(super) scale: f32,
    /// Row of the batch that has the first position.
    pub(super) first_row: usize,
    pub(super) first_position: usize,
    pub(super) positions: usize,
    pub(super) window: Option<usize>,
    /// The positions of the sequence, where every row sees all of them; there is no window then.
    pub(super) all: Option<usize>,
    /// Values per row of the batch's queries.
    pub(super) query_width: usize,
}

impl Block<'_> {
    pub(super) fn rows(&self) -> usize {
        self.positions * self.group
    }

    /// Where a row's query starts in the batch (and its output as well).
    pub(super) fn query_start(&self, row: usize) -> usize {
        let head = self.kv_head * self.group + row % self.group;
        (self.first_row + row / self.group) * self.query_width + head * self.head_dim
    }

    /// The pages (numbers within the sequence) of which some row sees something.
    pub(super) fn visible_pages(&self) -> Range<usize> {
        if let Some(all) = self.all {
            return 0..all.div_ceil(PAGE_TOKENS);
        }
        let first = self.first_seen(self.first_position);
        first / PAGE_TOKENS..(self.first_position + self.positions).div_ceil(PAGE_TOKENS)
    }

    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The keys of a page that a row sees. Rows behind the last see nothing.
    pub(super) fn visible_keys(&self, row: usize, page: usize) -> Range<usize> {
        if row >= self.rows() {
            return 0..0;
        }
        if let Some(all) = self.all {
            return 0..all.saturating_sub(page * PAGE_TOKENS).min(PAGE_TOKENS);
        }
        let position = self.first_position + row / self.group;
        let base = page * PAGE_TOKENS;
        let from = self.first_seen(position).saturating_sub(base).min(PAGE_TOKENS);
        let to = (position + 1).saturating_sub(base).min(PAGE_TOKENS);
        from..to.max(from)
    }
}

/// Rows that the tiles of a block have at most: from five rows on the last one may be padded.
fn padded(rows: usize) -> usize {
    if rows <= 4 { rows } else { rows + FULL_TILE_ROWS }
}

/// Running results of a block's rows: of the current split, and of all splits merged so far.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Scaled queries: per tile of rows, `[head_dim][rows of the tile]`; with keys in 8 bits one query that is being rotated.
    pub(super) queries: Vec<f32>,
    /// The same in 8 bits.
    pub(super) rounded_queries: RoundedQueries,
    /// Greatest score of the split.
    pub(super) greatest: Vec<f32>,
    /// Sums of the split's weights, in lanes.
    pub(super) sums: Vec<[f32; LANES]>,
    /// Weighted values of the split, `[rows, head_dim]`.
    pub(super) outputs: Vec<f32>,
    pub(super) total_greatest: Vec<f32>,
    pub(super) total_sums: Vec<f32>,
    pub(super) total_outputs: Vec<f32>,
}

impl Scratch {
    /// Values of the scratch for blocks of `rows` rows.
    pub(super) fn elements(rows: usize, head_dim: usize) -> usize {
        let rows = rows + FULL_TILE_ROWS;
        rows.saturating_mul(3 * head_dim + LANES + 3).saturating_add(RoundedQueries::elements(rows, head_dim))
    }

    /// Bytes that have been taken so far.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.greatest.len() * (LANES + 3);
        (rows + self.queries.len() + self.outputs.len() + self.total_outputs.len()) * size_of::<f32>()
            + self.rounded_queries.bytes()
    }

    /// Makes room for blocks of `rows` rows.
    pub(super) fn reserve(&mut self, rows: usize, head_dim: usize, dtype: KvDtype) {
        // The last tile may be padded.
        let rows = rows + FULL_TILE_ROWS;
        if dtype == KvDtype::Int8 {
            self.rounded_queries.reserve(rows, head_dim);
        }
        let elements = rows * head_dim;
        if self.greatest.len() < rows {
            self.greatest.resize(rows, 0.0);
            self.sums.resize(rows, [0.0; LANES]);
            self.total_greatest.resize(rows, 0.0);
            self.total_sums.resize(rows, 0.0);
        }
        if self.outputs.len() < elements {
            self.queries.resize(elements, 0.0);
            self.outputs.resize(elements, 0.0);
            self.total_outputs.resize(elements, 0.0);
        }
    }

    /// Empties the totals, for a block for which there is room.
    pub(super) fn start_block(&mut self, block: &Block<'_>) {
        let rows = padded(block.rows());
        let elements = rows * block.head_dim;
        self.total_greatest[..rows].fill(f32::NEG_INFINITY);
        self.total_sums[..rows].fill(0.0);
        self.total_outputs[..elements].fill(0.0);
    }

    /// Empties the results of the split.
    pub(super) fn start_split(&mut self, block: &Block<'_>) {
        let rows = padded(block.rows());
        self.greatest[..rows].fill(f32::NEG_INFINITY);
        self.sums[..rows].fill([0.0; LANES]);
        self.outputs[..rows * block.head_dim].fill(0.0);
    }

    /// Elements of a saved partial result: per row the greatest score, the sum and the outputs.
    pub(super) fn partial_elements(&self, block: &Block<'_>) -> usize {
        block.rows() * (block.head_dim + 2)
    }

    /// Saves the totals, which are those of a single split.
    pub(super) fn save_partial(&self, block: &Block<'_>, partial: &mut [f32]) {
        let head_dim = block.head_dim;
        for (row, partial) in partial.chunks_exact_mut(head_dim + 2).enumerate() {
            partial[0] = self.total_greatest[row];
            partial[1] = self.total_sums[row];
            partial[2..].copy_from_slice(&self.total_outputs[row * head_dim..(row + 1) * head_dim]);
        }
    }
}

/// Attention of a block to a range of the sequence's pages, into the scratch's totals.
pub(super) struct BlockKernel<'a> {
    pub(super) call: &'a AttentionCall<'a>,
    pub(super) block: &'a Block<'a>,
    pub(super) pages: Range<usize>,
    pub(super) scratch: &'a mut Scratch,
}

impl LaneKernel for BlockKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { call, block, pages, scratch } = self;
        match call.cache.shape().dtype {
            KvDtype::F32 => kernel::attend_block::<L, FloatPages>(lanes, call, block, pages, scratch),
            KvDtype::Int8 => kernel::attend_block::<L, EightBitPages>(lanes, call, block, pages, scratch),
        }
    }

    fn reference(self) {
        reference::attend_block(self.call, self.block, self.pages, self.scratch);
    }
}

/// Merges a saved partial result into the scratch's totals.
pub(super) struct MergeKernel<'a> {
    pub(super) block: &'a Block<'a>,
    pub(super) partial: &'a [f32],
    pub(super) scratch: &'a mut Scratch,
}

impl LaneKernel for MergeKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let head_dim = self.block.head_dim;
        for (row, partial) in self.partial.chunks_exact(head_dim + 2).enumerate() {
            kernel::merge_row(lanes, self.scratch, row, partial[0], partial[1], &partial[2..]);
        }
    }

    fn reference(self) {
        let head_dim = self.block.head_dim;
        for (row, partial) in self.partial.chunks_exact(head_dim + 2).enumerate() {
            reference::merge_row(self.scratch, row, partial[0], partial[1], &partial[2..]);
        }
    }
}
