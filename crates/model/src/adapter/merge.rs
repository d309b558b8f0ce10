//! Adapters merged into weights: `W + scale · B · A`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{AdapterValues, LowRankValues};
use crate::errors::ModelError;
use crate::tensor_source::WeightName;
use crate::weights::{Weight, Weights};
use crate::write::WeightRows;

/// Adds row `row` of `scale · B · A` to a row of the weight.
fn add_row(addition: &LowRankValues, row: usize, out: &mut [f32]) {
    let factors = &addition.up[row * addition.rank..][..addition.rank];
    let mut sums = vec![0.0f64; out.len()];
    for (factor, down) in factors.iter().zip(addition.down.chunks_exact(out.len().max(1))) {
        let factor = f64::from(*factor) * f64::from(addition.scale);
        sums.iter_mut().zip(down).for_each(|(sum, value)| *sum += factor * f64::from(*value));
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (f64::from(*out) + sum) as f32);
}

impl AdapterValues {
    /// Adds the adapter to weights in f32 of the model that it belongs to. Each element is rounded once.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] when an adapted matrix is not in f32 or has another shape; matrices before it are merged then.
    pub fn merge_into(&self, weights: &mut Weights) -> Result<(), ModelError> {
        let additions = by_weight(self);
        for (name, weight) in weights.parameters_mut() {
            let (Some(addition), Weight::Matrix(matrix)) = (additions.get(&name), weight) else { continue };
            let columns = matrix.columns();
            let mut values = vec![0.0; matrix.rows() * columns];
            matrix.f32_packed()?;
            matrix.unpack_f32(&mut values)?;
            for (row, values) in values.chunks_exact_mut(columns.max(1)).enumerate() {
                add_row(addition, row, values);
            }
            matrix.write_f32(&values)?;
        }
        Ok(())
    }
}

fn by_weight<'a>(adapter: &'a AdapterValues) -> BTreeMap<WeightName, &'a LowRankValues> {
    let entry =
        |addition: &'a LowRankValues| (WeightName::Layer(addition.layer, addition.projection), addition);
    adapter.additions().iter().map(entry).collect()
}

/// Weights of any type with an adapter added, for the writers of [`crate::write`]: no copy of the weights is in memory.
pub struct MergedRows<'a> {
    base: &'a dyn WeightRows,
    additions: BTreeMap<WeightName, &'a LowRankValues>,
}

impl<'a> MergedRows<'a> {
    /// `base` with `adapter` added, both of one model.
    pub fn new(base: &'a dyn WeightRows, adapter: &'a AdapterValues) -> MergedRows<'a> {
        MergedRows { base, additions: by_weight(adapter) }
    }
}

impl WeightRows for MergedRows<'_> {
    fn origin(&self) -> PathBuf {
        self.base.origin()
    }

    fn shape(&self, name: WeightName) -> Option<Vec<usize>> {
        self.base.shape(name)
    }

    fn row(&self, name: WeightName, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.base.row(name, row, out)?;
        if let Some(addition) = self.additions.get(&name) {
            add_row(addition, row, out);
        }
        Ok(())
    }

    fn release(&self, name: WeightName) {
        self.base.release(name);
    }
}
