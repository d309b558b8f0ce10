//! Memory for activations, kept between steps so that a step in the steady state allocates nothing.

use std::ops::Range;

use crate::TensorError;
use crate::zeroed::Zeroed;

/// Activations `[rows, width]` of the direct executor.
#[derive(Debug, Default)]
pub struct Activations {
    /// At least as long as the values, which are at its beginning; none if there are no values.
    buffer: Option<Zeroed>,
    length: usize,
    width: usize,
}

impl Activations {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.length.checked_div(self.width).unwrap_or(0)
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.memory()[..self.length]
    }

    fn memory(&self) -> &[f32] {
        self.buffer.as_deref().unwrap_or_default()
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_deref_mut().unwrap_or_default()[..self.length]
    }

    /// The values of a range of rows. Panics when there are fewer.
    pub fn rows_values(&self, rows: Range<usize>) -> &[f32] {
        &self.values()[rows.start * self.width..rows.end * self.width]
    }

    /// One row. Panics when there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        self.rows_values(row..row + 1)
    }

    /// Bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(self.memory())
    }
}

/// Buffers that are free at the moment.
///
/// There are buffers of two sizes, which are those of the largest tensors: a buffer that was as long as its first tensor would be
/// replaced by a longer one again and again, and a process that runs for weeks would grow with every rare coincidence.
/// What is not used of a buffer takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    free: Vec<Free>,
    sizes: [usize; 2],
    /// Where buffers are about as long as their tensors and are kept: see [`Workspace::keep_batches`].
    batches: Option<Batches>,
}

#[derive(Debug)]
struct Free {
    buffer: Zeroed,
    /// The number of the batch that used it last.
    batch: u64,
}

/// Batches whose tensors have a row for each of theirs.
#[derive(Clone, Copy, Debug)]
struct Batches {
    number: u64,
    rows: usize,
    /// Rows of the largest one.
    most_rows: usize,
}

impl Batches {
    /// Values of a tensor that has so many in this batch, in the largest batch.
    fn in_largest(&self, length: usize) -> usize {
        let scaled = length as u128 * self.most_rows as u128 / self.rows.max(1) as u128;
        usize::try_from(scaled).unwrap_or(length).max(length)
    }
}

impl Workspace {
    /// A tensor whose values are to be overwritten: what they are now is unspecified.
    pub(crate) fn take(&mut self, rows: usize, width: usize) -> Result<Activations, TensorError> {
        let length = checked_length(rows, width)?;
        let size = self.batches.map_or(length, |batches| batches.in_largest(length));
        self.take_of(length, size, width)
    }

    /// A tensor whose length does not depend on the batch's rows.
    pub(crate) fn take_fixed(&mut self, rows: usize, width: usize) -> Result<Activations, TensorError> {
        let length = checked_length(rows, width)?;
        self.take_of(length, length, width)
    }

    fn take_of(&mut self, length: usize, size: usize, width: usize) -> Result<Activations, TensorError> {
        const WHAT: &str = "activations";
        // A small tensor in a long buffer would make the next long one take new memory.
        let longest = if self.batches.is_some() { size.saturating_add(size / 4) } else { usize::MAX };
        let fits = |free: &Free| (size..=longest).contains(&free.buffer.len());
        let fitting = (0..self.free.len()).filter(|index| fits(&self.free[*index]));
        let buffer = match fitting.min_by_key(|index| self.free[*index].buffer.len()) {
            Some(tightest) => self.free.swap_remove(tightest).buffer,
            None if self.batches.is_some() => Zeroed::new(WHAT, rounded_up(size))?,
            None => {
                // One that is too short for what comes is of no use any more.
                self.free.retain(|free| self.sizes.contains(&free.buffer.len()));
                let size = self.sizes.into_iter().filter(|size| *size >= length).min().unwrap_or(length);
                Zeroed::new(WHAT, size)?
            }
        };
        Ok(Activations { buffer: Some(buffer), length, width })
    }

    /// Makes buffers for tensors of up to `elements` values, and for those that are longer, of up to `longest`.
    pub(super) fn prepare(&mut self, elements: usize, longest: usize) {
        self.sizes = [elements, longest];
    }

    /// Makes buffers hardly longer from now on than their tensors are in the largest batch: for a backward pass, which takes tensors of many
    /// sizes, the same in every batch but for the batch's rows. Fresh memory costs more than to write to it again, so what one batch took
    /// serves the next.
    pub(crate) fn keep_batches(&mut self) {
        self.free.clear();
        self.batches = Some(Batches { number: 0, rows: 0, most_rows: 0 });
    }

    /// Says that a batch of so many rows begins. Buffers that are too short for its tensors, and those that no batch has used for some
    /// time, are given back to the system.
    pub(crate) fn begin_batch(&mut self, rows: usize) {
        const UNUSED_BATCHES: u64 = 16;
        let Some(batches) = &mut self.batches else { return };
        batches.number += 1;
        batches.rows = rows;
        if rows > batches.most_rows {
            batches.most_rows = rows;
            self.free.clear();
        }
        let number = batches.number;
        self.free.retain(|free| free.batch + UNUSED_BATCHES >= number);
    }

    /// Bytes of the free buffers.
    pub(super) fn bytes(&self) -> usize {
        self.free.iter().map(|free| size_of_val(&free.buffer[..])).sum()
    }

    /// Takes a tensor's memory back.
    pub(crate) fn give_back(&mut self, tensor: Activations) {
        let batch = self.batches.map_or(0, |batches| batches.number);
        self.free.extend(tensor.buffer.map(|buffer| Free { buffer, batch }));
    }
}

fn checked_length(rows: usize, width: usize) -> Result<usize, TensorError> {
    rows.checked_mul(width).ok_or(TensorError::TooLarge { what: "activations", rows, columns: width })
}

/// The length of a buffer for `length` values, up to an eighth longer: tensors of a few rows more or less, which have a row for each target
/// of a batch, then share buffers. What is not used takes no memory.
fn rounded_up(length: usize) -> usize {
    let step = 1 << length.max(1).ilog2().saturating_sub(3);
    length.checked_next_multiple_of(step).unwrap_or(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let mut workspace = Workspace::default();
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let small = workspace.take(2, 8).unwrap();
            let large = workspace.take(100, 8).unwrap();
            addresses.push((small.values().as_ptr(), large.values().as_ptr()));
            workspace.give_back(large);
            workspace.give_back(small);
        }
        assert_eq!(addresses[1], addresses[2]);
        assert_eq!(workspace.free.len(), 2);
    }

    #[test]
    fn a_buffer_serves_every_tensor_of_its_size() {
        let mut workspace = Workspace::default();
        workspace.prepare(100 * 8, 5000);
        for rows in [1, 50, 100, 3] {
            let [small, large] = [rows * 8, rows * 50].map(|width| workspace.take(1, width).unwrap());
            assert_eq!((small.bytes(), large.values().len()), (4 * 800, rows * 50));
            workspace.give_back(small);
            workspace.give_back(large);
        }
        assert!(workspace.bytes() <= 4 * (2 * 800 + 5000), "{}", workspace.bytes());
    }

    #[test]
    fn tensors_of_a_few_rows_more_or_less_share_a_buffer() {
        let mut workspace = Workspace::default();
        workspace.keep_batches();
        workspace.begin_batch(8192);
        for rows in [4000, 4090, 4001, 4096, 3900] {
            let tensor = workspace.take(rows, 64).unwrap();
            assert_eq!(tensor.rows(), rows);
            workspace.give_back(tensor);
        }
        assert_eq!(workspace.free.len(), 1);
        for length in [0, 1, 7, 8, 9, 1000, usize::MAX] {
            assert!((length..=length.saturating_add(length / 8)).contains(&rounded_up(length)), "{length}");
        }
    }

    /// A batch with fewer rows than the largest takes the same memory again, also for the second time; a larger one takes new memory once.
    #[test]
    fn batches_of_different_rows_share_buffers() {
        let mut workspace = Workspace::default();
        workspace.keep_batches();
        let mut batch = |rows: usize| {
            workspace.begin_batch(rows);
            let tensors = [(rows, 576), (rows, 192), (rows / 2, 576), (rows, 1536)]
                .map(|(rows, width)| workspace.take(rows, width).unwrap());
            assert!(tensors.iter().all(|tensor| tensor.values().len() == tensor.rows() * tensor.width()));
            let mut addresses = tensors.each_ref().map(|tensor| tensor.values().as_ptr() as usize);
            addresses.sort_unstable();
            tensors.into_iter().for_each(|tensor| workspace.give_back(tensor));
            addresses
        };
        let small = batch(500);
        let large = batch(2000);
        assert_ne!(small, large);
        for rows in [2000, 1500, 300, 2000, 2] {
            assert_eq!(batch(rows), large, "{rows} rows");
        }
    }

    #[test]
    fn what_no_batch_uses_is_given_back() {
        let mut workspace = Workspace::default();
        workspace.keep_batches();
        workspace.begin_batch(100);
        let rare = workspace.take_fixed(1, 1_000_000).unwrap();
        workspace.give_back(rare);
        for _ in 0..20 {
            workspace.begin_batch(100);
            let often = workspace.take(100, 64).unwrap();
            workspace.give_back(often);
        }
        assert!(workspace.bytes() < 100 * 64 * 5, "{}", workspace.bytes());
    }

    #[test]
    fn rows_and_width() {
        let mut workspace = Workspace::default();
        let tensor = workspace.take(3, 4).unwrap();
        assert_eq!((tensor.rows(), tensor.width(), tensor.row(2).len()), (3, 4, 4));
        assert!(workspace.take(usize::MAX, 2).is_err());
    }
}
