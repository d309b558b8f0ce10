//! Memory for activations, kept between steps so that a step in the steady state allocates nothing.

use std::ops::Range;

use crate::TensorError;

/// Activations `[rows, width]` of the direct executor.
#[derive(Debug, Default)]
pub struct Activations {
    /// At least as long as the values, which are at its beginning.
    buffer: Vec<f32>,
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
        &self.buffer[..self.length]
    }

    /// All values, to be changed.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.length]
    }

    /// Some rows' values.
    pub(super) fn rows_values(&self, rows: Range<usize>) -> &[f32] {
        &self.values()[rows.start * self.width..rows.end * self.width]
    }

    /// One row. Panics when there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        self.rows_values(row..row + 1)
    }

    /// Bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(self.buffer.as_slice())
    }

    /// The same values as rows of another width, which must divide their number.
    pub(super) fn with_width(self, width: usize) -> Activations {
        Activations { width, ..self }
    }
}

/// Buffers that are free at the moment.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    free: Vec<Vec<f32>>,
}

impl Workspace {
    /// A tensor whose values are to be overwritten: what they are now is unspecified.
    pub(super) fn take(&mut self, rows: usize, width: usize) -> Result<Activations, TensorError> {
        const WHAT: &str = "activations";
        let length =
            rows.checked_mul(width).ok_or(TensorError::TooLarge { what: WHAT, rows, columns: width })?;
        // The tightest fit, else the largest, which makes room for a larger one.
        let rank = |buffer: &Vec<f32>| match buffer.len() >= length {
            true => (0, buffer.len()),
            false => (1, usize::MAX - buffer.len()),
        };
        let best = (0..self.free.len()).min_by_key(|index| rank(&self.free[*index]));
        let mut buffer = best.map(|index| self.free.swap_remove(index)).unwrap_or_default();
        if buffer.len() < length {
            buffer = Vec::new();
            let refused = |_| TensorError::OutOfMemory { what: WHAT, elements: length };
            buffer.try_reserve_exact(length).map_err(refused)?;
            buffer.resize(length, 0.0);
        }
        Ok(Activations { buffer, length, width })
    }

    /// Bytes of the free buffers.
    pub(super) fn bytes(&self) -> usize {
        self.free.iter().map(|buffer| size_of_val(buffer.as_slice())).sum()
    }

    /// Takes a tensor's memory back.
    pub(super) fn give_back(&mut self, tensor: Activations) {
        self.free.push(tensor.buffer);
    }
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
    fn rows_and_width() {
        let mut workspace = Workspace::default();
        let tensor = workspace.take(3, 4).unwrap();
        assert_eq!((tensor.rows(), tensor.width(), tensor.row(2).len()), (3, 4, 4));
        assert!(workspace.take(usize::MAX, 2).is_err());
    }
}
