//! Activations quantised to 8 bits for the integer kernels: once per row, shared by all matrices that read it.

use crate::{TensorError, ThreadTeam};

/// Elements that share one activation scale.
pub(super) const ACTIVATION_BLOCK: usize = 32;

/// Rows of activations in 8 bits: per block of 32, values `q`, an f32 scale `d` (largest magnitude / 127) and
/// the integer sums of the block's two halves. `x ≈ d·q`, rounded half to even. The memory is kept and reused.
#[derive(Debug, Default)]
pub struct QuantisedRows {
    rows: usize,
    columns: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<[i32; 2]>,
}

impl QuantisedRows {
    /// An empty store; it grows to the largest input it has seen.
    pub fn new() -> QuantisedRows {
        QuantisedRows::default()
    }

    /// Rows in the store.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Quantises `input` [rows, columns] (columns = `input.len() / rows`), replacing the former content.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the input is not `rows` rows of whole blocks of 32.
    pub fn quantise(&mut self, input: &[f32], rows: usize, team: &ThreadTeam) -> Result<(), TensorError> {
        let columns = input.len().checked_div(rows).unwrap_or(0);
        if columns * rows != input.len() || !columns.is_multiple_of(ACTIVATION_BLOCK) {
            return Err(TensorError::Length {
                what: "quantise activations: rows of whole blocks of 32",
                expected: columns.next_multiple_of(ACTIVATION_BLOCK) * rows,
                actual: input.len(),
            });
        }
        let blocks = columns / ACTIVATION_BLOCK;
        (self.rows, self.columns) = (rows, columns);
        self.values.resize(rows * columns, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(rows * blocks, [0; 2]);
        let _ = team;
        for (i, block) in input.as_chunks::<ACTIVATION_BLOCK>().0.iter().enumerate() {
            let values = &mut self.values.as_chunks_mut::<ACTIVATION_BLOCK>().0[i];
            (self.scales[i], self.sums[i]) = quantise_block(block, values);
        }
        Ok(())
    }
}

/// Quantises one block; returns its scale and the sums of its halves. A block with an infinity or a NaN gets an
/// infinite or NaN scale, so that the product shows it.
fn quantise_block(block: &[f32; ACTIVATION_BLOCK], values: &mut [i8; ACTIVATION_BLOCK]) -> (f32, [i32; 2]) {
    /// Adding 1.5·2²³ leaves the integer, rounded half to even, in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let magnitude = |x: f32| x.to_bits() & 0x7FFF_FFFF;
    // As integers, magnitudes order like the floats, with infinity and NaN above all.
    let largest = block.iter().fold(0, |largest, &x| largest.max(magnitude(x)));
    let scale = f32::from_bits(largest) / 127.0;
    let inverse = 1.0 / scale;
    if !inverse.is_finite() {
        // A zero block, or so close to zero that the inverse overflows.
        values.fill(0);
        return (if scale.is_finite() { 0.0 } else { scale }, [0; 2]);
    }
    for (value, &x) in values.iter_mut().zip(block) {
        *value = (x * inverse + ROUND).to_bits() as i8;
    }
    let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum();
    (scale, [sum(&values[..16]), sum(&values[16..])])
}
