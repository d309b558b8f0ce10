//! How the attention of one step is divided: which rows go into which page, and which blocks of queries are one item
//! of work. Made once per step and used by every layer. The division never changes a result.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::block::Block;
use super::kernel::FULL_TILE_ROWS;
use super::{AttentionCall, AttentionShape, SPLIT_PAGES};
use crate::TensorError;
use crate::kv::{PAGE_TOKENS, PageId, PageWrite, SequenceRows};

/// Query rows (positions × heads per key/value head) in a block, where there are enough.
const BLOCK_ROWS: usize = 96;
/// Rows up to which a block is divided by splits of the context when there are few blocks.
const SPLIT_ROWS: usize = 16;
/// Items per thread that make the load even.
const ITEMS_PER_THREAD: usize = 4;
/// Scores (query rows × keys) below which waking the team costs more than it saves.
const SCORES_WORTH_A_TEAM: usize = 256;

/// Query rows of the largest block that a plan makes.
pub(super) fn most_block_rows(shape: &AttentionShape) -> usize {
    let group = shape.heads / shape.kv_heads.max(1);
    BLOCK_ROWS.max(group).max(FULL_TILE_ROWS + group)
}

/// Query rows of all the blocks together that a plan divides by splits.
pub(super) fn most_split_rows(threads: usize) -> usize {
    ITEMS_PER_THREAD * threads * SPLIT_ROWS
}

/// The division of one step's attention.
#[derive(Debug)]
pub(crate) struct AttentionPlan {
    shape: AttentionShape,
    sequences: Vec<Sequence>,
    /// The pages of all sequences, one after the other.
    pages: Vec<PageId>,
    writes: Vec<PageWrite>,
    /// Rows that are written into further pages, in rounds in which every page stands at most once.
    copies: Vec<Vec<PageWrite>>,
    items: Vec<Item>,
    joins: Vec<Join>,
    partial_elements: usize,
    scores: usize,
    rows: usize,
    /// Query rows of the largest block.
    block_rows: usize,
    /// Rows see all of their sequence, also what is behind them.
    sees_all: bool,
    /// For every page of the pool, one more than the sequence that writes it; zeros between steps.
    writers: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Sequence {
    first_row: usize,
    rows: usize,
    start: usize,
    pages: Range<usize>,
}

/// Work for one thread: one block of queries against all it sees, or against one split of that.
#[derive(Debug)]
pub(super) struct Item {
    sequence: usize,
    kv_head: usize,
    /// Rows of the sequence.
    first: usize,
    positions: usize,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Whole,
    Split { pages_from: usize, join: usize, index: usize },
}

/// The place where the splits of one block come together.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) splits: usize,
    pub(super) first_partial: usize,
    finished: AtomicUsize,
}

impl Join {
    /// Counts one split as finished; true for the last, for whom all others' partial results are visible.
    pub(super) fn is_last_to_finish(&self) -> bool {
        let last = self.finished.fetch_add(1, Ordering::AcqRel) + 1 == self.splits;
        if last {
            self.finished.store(0, Ordering::Relaxed);
        }
        last
    }
}

impl AttentionPlan {
    /// A plan of nothing, for a pool of `pages` pages.
    ///
    /// # Errors
    /// [`TensorError::HeadShape`] when the heads cannot be computed.
    pub(crate) fn new(shape: AttentionShape, pages: usize) -> Result<AttentionPlan, TensorError> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = shape;
        if kv_heads == 0 || heads == 0 || heads % kv_heads != 0 || head_dim == 0 || head_dim % 8 != 0 {
            return Err(TensorError::HeadShape { heads, kv_heads, head_dim });
        }
        Ok(AttentionPlan {
            shape,
            sequences: Vec::new(),
            pages: Vec::new(),
            writes: Vec::new(),
            copies: Vec::new(),
            items: Vec::new(),
            joins: Vec::new(),
            partial_elements: 0,
            scores: 0,
            rows: 0,
            block_rows: 0,
            sees_all: false,
            writers: vec![0; pages],
        })
    }

    /// Replaces the plan by one for `sequences`, in the order of the batch's rows.
    ///
    /// # Errors
    /// [`TensorError::PageOutOfRange`], [`TensorError::MissingPages`] or [`TensorError::SharedPage`] when the pages do
    /// not fit the sequences; the plan is then empty.
    pub(crate) fn set<'a>(
        &mut self,
        sequences: impl Iterator<Item = SequenceRows<'a>>,
        threads: usize,
    ) -> Result<(), TensorError> {
        self.clear();
        let outcome =
            self.add_sequences(sequences).and_then(|()| self.check_that_written_pages_have_one_user());
        for write in &self.writes {
            self.writers[write.page.0 as usize] = 0;
        }
        if outcome.is_err() {
            self.clear();
            return outcome;
        }
        self.divide(threads);
        Ok(())
    }

    /// As [`AttentionPlan::set`], for sequences all of whose keys and values are rows of the batch. They may read what others write: `copies` says
    /// which rows are written once more, behind all others, in rounds in which every page stands at most once. With `sees_all`, rows see all of
    /// their sequence, not only what is before them.
    ///
    /// # Errors
    /// As for that.
    pub(super) fn set_packed<'a>(
        &mut self,
        sequences: impl Iterator<Item = SequenceRows<'a>>,
        copies: Vec<Vec<PageWrite>>,
        sees_all: bool,
        threads: usize,
    ) -> Result<(), TensorError> {
        self.clear();
        let outcome = self.add_sequences(sequences);
        for write in &self.writes {
            self.writers[write.page.0 as usize] = 0;
        }
        if outcome.is_err() {
            self.clear();
            return outcome;
        }
        self.copies = copies;
        self.sees_all = sees_all;
        self.divide(threads);
        Ok(())
    }

    /// Makes it a plan of nothing.
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
        self.pages.clear();
        self.writes.clear();
        self.copies.clear();
        self.items.clear();
        self.joins.clear();
        (self.partial_elements, self.scores, self.rows, self.block_rows) = (0, 0, 0, 0);
        self.sees_all = false;
    }

    fn add_sequences<'a>(
        &mut self,
        sequences: impl Iterator<Item = SequenceRows<'a>>,
    ) -> Result<(), TensorError> {
        for (index, sequence) in sequences.enumerate() {
            let end = sequence.start.saturating_add(sequence.rows);
            let needed = end.div_ceil(PAGE_TOKENS);
            let pages = sequence.pages.get(..needed).ok_or(TensorError::MissingPages {
                sequence: index,
                positions: end,
                needed,
                given: sequence.pages.len(),
            })?;
            if let Some(page) = pages.iter().find(|page| page.0 as usize >= self.writers.len()) {
                return Err(TensorError::PageOutOfRange {
                    sequence: index,
                    page: page.0,
                    pages: self.writers.len(),
                });
            }
            self.add_writes(index, &sequence, pages)?;
            let first_page = self.pages.len();
            self.pages.extend_from_slice(pages);
            self.sequences.push(Sequence {
                first_row: self.rows,
                rows: sequence.rows,
                start: sequence.start,
                pages: first_page..self.pages.len(),
            });
            self.rows += sequence.rows;
        }
        Ok(())
    }

    fn add_writes(
        &mut self,
        index: usize,
        sequence: &SequenceRows<'_>,
        pages: &[PageId],
    ) -> Result<(), TensorError> {
        let mut done = 0;
        while done < sequence.rows {
            let position = sequence.start + done;
            let slot = position % PAGE_TOKENS;
            let count = (PAGE_TOKENS - slot).min(sequence.rows - done);
            let page = pages[position / PAGE_TOKENS];
            let writer = &mut self.writers[page.0 as usize];
            if *writer != 0 {
                return Err(TensorError::SharedPage {
                    page: page.0,
                    first: *writer as usize - 1,
                    second: index,
                });
            }
            *writer = index as u32 + 1;
            self.writes.push(PageWrite { page, slot, row: self.rows + done, count });
            done += count;
        }
        Ok(())
    }

    /// A page that one sequence writes must not be anybody else's, nor stand twice in its own list.
    fn check_that_written_pages_have_one_user(&self) -> Result<(), TensorError> {
        for (index, sequence) in self.sequences.iter().enumerate() {
            let first_written = sequence.start / PAGE_TOKENS;
            for (number, page) in self.pages[sequence.pages.clone()].iter().enumerate() {
                let writer = self.writers[page.0 as usize] as usize;
                if writer != 0 && (writer != index + 1 || number < first_written) {
                    return Err(TensorError::SharedPage { page: page.0, first: writer - 1, second: index });
                }
            }
        }
        Ok(())
    }

    fn divide(&mut self, threads: usize) {
        let kv_heads = self.shape.kv_heads;
        let group = self.shape.heads / kv_heads;
        let even = self.rows * kv_heads / (2 * ITEMS_PER_THREAD * threads);
        let positions = even.clamp(1, (BLOCK_ROWS / group).max(1)).max(FULL_TILE_ROWS.div_ceil(group));
        let blocks: usize = self.sequences.iter().map(|sequence| sequence.rows.div_ceil(positions)).sum();
        let few = blocks * kv_heads < ITEMS_PER_THREAD * threads;
        for index in 0..self.sequences.len() {
            let Sequence { rows, start, .. } = self.sequences[index];
            self.scores += rows * (start + rows) * self.shape.heads;
            let mut first = 0;
            while first < rows {
                // Blocks end where pages do, so that fewer of them see parts of pages.
                let to_boundary = positions - (start + first) % positions;
                let count = to_boundary.min(rows - first);
                self.block_rows = self.block_rows.max(count * group);
                let seen = if self.sees_all { start + rows } else { start + first + count };
                let splits = seen.div_ceil(SPLIT_PAGES * PAGE_TOKENS);
                for kv_head in 0..kv_heads {
                    if few && splits > 1 && count * group <= SPLIT_ROWS {
                        self.add_split_items(index, kv_head, first, count, splits);
                    } else {
                        self.items.push(Item {
                            sequence: index,
                            kv_head,
                            first,
                            positions: count,
                            work: Work::Whole,
                        });
                    }
                }
                first += count;
            }
        }
        // The longest first: what is left for the end is short.
        let (sequences, sees_all) = (&self.sequences, self.sees_all);
        self.items.sort_unstable_by_key(|item| {
            let sequence = &sequences[item.sequence];
            let rows = if sees_all { sequence.rows } else { item.first + item.positions };
            let end = sequence.start + rows;
            let seen = if matches!(item.work, Work::Whole) { end } else { SPLIT_PAGES * PAGE_TOKENS };
            std::cmp::Reverse(item.positions * seen)
        });
    }

    fn add_split_items(
        &mut self,
        sequence: usize,
        kv_head: usize,
        first: usize,
        positions: usize,
        splits: usize,
    ) {
        let group = self.shape.heads / self.shape.kv_heads;
        let join = self.joins.len();
        self.joins.push(Join { splits, first_partial: self.partial_elements, finished: AtomicUsize::new(0) });
        self.partial_elements += splits * positions * group * (self.shape.head_dim + 2);
        for index in 0..splits {
            let work = Work::Split { pages_from: index * SPLIT_PAGES, join, index };
            self.items.push(Item { sequence, kv_head, first, positions, work });
        }
    }

    /// Rows of the batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The heads.
    pub(crate) fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// Where the rows' keys and values go; every page at most once.
    pub(crate) fn writes(&self) -> &[PageWrite] {
        &self.writes
    }

    /// Rows that are written into further pages behind these: rounds in which every page stands at most once.
    pub(crate) fn copies(&self) -> &[Vec<PageWrite>] {
        &self.copies
    }

    /// The position of every row.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.sequences.iter().flat_map(|sequence| sequence.start..sequence.start + sequence.rows)
    }

    /// Query rows of the largest block.
    pub(super) fn block_rows(&self) -> usize {
        self.block_rows
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(super) fn join(&self, index: usize) -> &Join {
        &self.joins[index]
    }

    pub(super) fn partial_elements(&self) -> usize {
        self.partial_elements
    }

    pub(super) fn is_worth_a_team(&self) -> bool {
        self.items.len() > 1 && self.scores >= SCORES_WORTH_A_TEAM
    }

    pub(super) fn block<'a>(&'a self, call: &AttentionCall<'a>, item: &Item) -> Block<'a> {
        let sequence = &self.sequences[item.sequence];
        let group = self.shape.heads / self.shape.kv_heads;
        Block {
            pages: &self.pages[sequence.pages.clone()],
            kv_head: item.kv_head,
            group,
            head_dim: self.shape.head_dim,
            scale: self.shape.scale,
            first_row: sequence.first_row + item.first,
            first_position: sequence.start + item.first,
            positions: item.positions,
            window: call.window,
            all: self.sees_all.then_some(sequence.start + sequence.rows),
            query_width: self.shape.heads * self.shape.head_dim,
        }
    }
}
