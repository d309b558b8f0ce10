//! One vector for a whole text: its hidden states, pooled. The rows may come in any number of chunks.
//!
//! The mean is a running sum in f64 over ascending positions, so that how a text is cut into chunks does not change a
//! bit.

/// How the hidden states of a sequence become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Whose hidden states.
    pub rows: PoolingRows,
    /// Divide the vector by its Euclidean length, so that dot products are cosines. A vector of zeros stays one.
    pub normalise: bool,
}

/// Whose hidden states are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingRows {
    /// The last token's.
    Last,
    /// The mean of all tokens'.
    Mean,
}

/// Hidden states on their way to one vector.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    sums: Vec<f64>,
    rows: usize,
}

impl Pool {
    /// Takes in the hidden state `[hidden_size]` of the next position.
    pub fn add(&mut self, row: &[f32]) {
        self.sums.resize(row.len(), 0.0);
        for (sum, value) in self.sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
        self.rows += 1;
    }

    /// Rows taken in.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The mean of the rows `[hidden_size]`, of unit length if `normalise`; empty if there were none.
    pub fn finish(&self, normalise: bool) -> Vec<f32> {
        let length = self.sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        let divisor = if normalise && length > 0.0 { length } else { self.rows.max(1) as f64 };
        self.sums.iter().map(|sum| (sum / divisor) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_unit_lengths() {
        let mut pool = Pool::default();
        assert!(pool.finish(true).is_empty());
        pool.add(&[1.0, -4.0, 0.0]);
        assert_eq!(pool.finish(false), [1.0, -4.0, 0.0]);
        pool.add(&[5.0, 12.0, 0.0]);
        assert_eq!((pool.rows(), pool.finish(false)), (2, vec![3.0, 4.0, 0.0]));
        assert_eq!(pool.finish(true), [0.6, 0.8, 0.0]);
        let mut zeros = Pool::default();
        zeros.add(&[0.0; 3]);
        assert_eq!(zeros.finish(true), [0.0; 3]);
    }
}
