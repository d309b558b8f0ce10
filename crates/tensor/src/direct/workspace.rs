//! Memory for activations, kept between steps so that a step in the steady state allocates nothing.

use crate::TensorError;

/// Activations `[rows, width]` of the direct executor.
#[derive(Debug)]
pub struct Activations {
    pub(super) values: Vec<f32>,
    pub(super) width: usize,
}

impl Activations {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One row. Panics when there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
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
        let length = rows.checked_mul(width).ok_or(TensorError::TooLarge {
            what: "activations",
            rows,
            columns: width,
        })?;
        // The tightest fit, else the largest, which then grows once.
        let fit = |buffer: &Vec<f32>| match buffer.capacity() >= length {
            true => (0, buffer.capacity()),
            false => (1, usize::MAX - buffer.capacity()),
        };
        let best = self.free.iter().enumerate().min_by_key(|(_, buffer)| fit(buffer)).map(|(index, _)| index);
        let mut values = best.map(|index| self.free.swap_remove(index)).unwrap_or_default();
        if values.len() > length {
            values.truncate(length);
        } else if values.capacity() >= length {
            values.resize(length, 0.0);
        } else {
            // What is in it need not be copied.
            values = Vec::new();
            values
                .try_reserve_exact(length)
                .map_err(|_| TensorError::OutOfMemory { what: "activations", elements: length })?;
            values.resize(length, 0.0);
        }
        Ok(Activations { values, width })
    }

    /// Takes a tensor's memory back.
    pub(super) fn give_back(&mut self, tensor: Activations) {
        self.free.push(tensor.values);
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
            addresses.push((small.values.as_ptr(), large.values.as_ptr()));
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
