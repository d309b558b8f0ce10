//! Adapters merged into weights: `W + scale · B · A`, and what only merging can apply: magnitudes, whole modules, biases, trained tokens,
//! an adapted embedding or head.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file::quoted_tensor;
use super::{AdapterValues, LowRankValues};
use crate::config::ModelConfig;
use crate::errors::{FormatError, ModelError};
use crate::names::Naming;
use crate::tensor_source::WeightName;
use crate::weights::{Weight, Weights};
use crate::write::WeightRows;

/// A product of low rank, added to a matrix.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// The inner dimension.
    pub rank: usize,
    /// `[rank, columns]`
    pub down: Vec<f32>,
    /// `[rows, rank]`
    pub up: Vec<f32>,
    /// What the product is multiplied with.
    pub scale: f32,
}

impl Product {
    fn of(addition: LowRankValues) -> Product {
        let LowRankValues { rank, down, up, scale, .. } = addition;
        Product { rank, down, up, scale }
    }

    /// Adds row `row` of `scale · B · A` to a row of the weight.
    fn add_row(&self, row: usize, out: &mut [f32]) {
        add_row(self.rank, self.scale, &self.up, &self.down, row, out);
    }
}

/// Adds row `row` of `scale · B · A`, of B `[rows, rank]` and A `[rank, columns]`, to a row of the weight.
pub(super) fn add_row(rank: usize, scale: f32, up: &[f32], down: &[f32], row: usize, out: &mut [f32]) {
    let factors = &up[row * rank..][..rank];
    let mut sums = vec![0.0f64; out.len()];
    for (factor, down) in factors.iter().zip(down.chunks_exact(out.len().max(1))) {
        let factor = f64::from(*factor) * f64::from(scale);
        sums.iter_mut().zip(down).for_each(|(sum, value)| *sum += factor * f64::from(*value));
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (f64::from(*out) + sum) as f32);
}

/// What becomes of one weight. All rows are in the model's own order; a vector has rows of one element.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    /// Takes the weight's place.
    pub replaced: Option<Vec<f32>>,
    /// Take the place of single rows.
    pub rows: BTreeMap<usize, Vec<f32>>,
    /// Is added.
    pub product: Option<Product>,
    /// The length that each row has afterwards, `[rows]` (Liu et al. 2024, DoRA, arXiv 2402.09353, equation 5).
    pub magnitude: Option<Vec<f32>>,
    /// Is added to a vector.
    pub added: Option<Vec<f32>>,
}

impl Change {
    /// Changes row `row`, which `out` holds as the base has it.
    pub(super) fn apply(&self, row: usize, out: &mut [f32]) {
        if let Some(replaced) = &self.replaced {
            out.copy_from_slice(&replaced[row * out.len()..][..out.len()]);
        }
        if let Some(values) = self.rows.get(&row) {
            out.copy_from_slice(values);
        }
        if let Some(product) = &self.product {
            product.add_row(row, out);
        }
        if let Some(magnitude) = &self.magnitude {
            let norm = out.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
            let factor = if norm > 0.0 { f64::from(magnitude[row]) / norm } else { 0.0 };
            out.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
        }
        if let (Some(added), [value]) = (&self.added, out) {
            *value = (f64::from(*value) + f64::from(added[row])) as f32;
        }
    }
}

/// An adapter as changes of its model's weights, to be merged into them.
#[derive(Clone, Debug)]
pub struct AdapterMerge {
    pub(super) changes: BTreeMap<WeightName, Change>,
    /// Embedding and head were one weight and are two afterwards.
    pub(super) unties: bool,
    pub(super) base: Option<String>,
}

impl From<AdapterValues> for AdapterMerge {
    fn from(adapter: AdapterValues) -> AdapterMerge {
        let base = adapter.base().map(str::to_owned);
        let changes = adapter.into_additions().into_iter().map(|addition| {
            let name = WeightName::Layer(addition.layer, addition.projection);
            (name, Change { product: Some(Product::of(addition)), ..Change::default() })
        });
        AdapterMerge { changes: changes.collect(), unties: false, base }
    }
}

impl AdapterMerge {
    /// The shape of the model with the adapter in its weights: that of `config`, or the same with a head of its own where embedding and head
    /// were one weight and only one of them was adapted.
    #[must_use]
    pub fn config(&self, config: &ModelConfig) -> ModelConfig {
        ModelConfig { tied_embeddings: config.tied_embeddings && !self.unties, ..config.clone() }
    }

    /// The name or path of the model that it was trained on, where its settings give one.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }
}

impl AdapterValues {
    /// Adds the adapter to weights in f32 of the model that it belongs to. Each element is rounded once.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] when an adapted matrix is not in f32 or has another shape; matrices before it are merged then.
    pub fn merge_into(&self, weights: &mut Weights) -> Result<(), ModelError> {
        let entry = |addition: &LowRankValues| WeightName::Layer(addition.layer, addition.projection);
        let additions: BTreeMap<WeightName, &LowRankValues> =
            self.additions().iter().map(|addition| (entry(addition), addition)).collect();
        for (name, weight) in weights.parameters_mut() {
            let (Some(addition), Weight::Matrix(matrix)) = (additions.get(&name), weight) else { continue };
            let columns = matrix.columns();
            let mut values = vec![0.0; matrix.rows() * columns];
            matrix.f32_packed()?;
            matrix.unpack_f32(&mut values)?;
            let LowRankValues { rank, scale, up, down, .. } = addition;
            for (row, values) in values.chunks_exact_mut(columns.max(1)).enumerate() {
                add_row(*rank, *scale, up, down, row, values);
            }
            matrix.write_f32(&values)?;
        }
        Ok(())
    }
}

/// Weights of any type with an adapter added, for the writers of [`crate::write`]: no copy of the weights is in memory. They are those of
/// the shape [`AdapterMerge::config`].
pub struct MergedRows<'a> {
    base: &'a dyn WeightRows,
    merge: &'a AdapterMerge,
}

impl<'a> MergedRows<'a> {
    /// `base` with `merge` applied, both of one model.
    pub fn new(base: &'a dyn WeightRows, merge: &'a AdapterMerge) -> MergedRows<'a> {
        MergedRows { base, merge }
    }

    /// Where the base has the weight: a head that was one with the embedding is there.
    fn source(&self, name: WeightName) -> WeightName {
        match name {
            WeightName::Head if self.merge.unties => WeightName::Embedding,
            name => name,
        }
    }
}

impl WeightRows for MergedRows<'_> {
    fn origin(&self) -> PathBuf {
        self.base.origin()
    }

    fn shape(&self, name: WeightName) -> Option<Vec<usize>> {
        self.base.shape(self.source(name))
    }

    fn row(&self, name: WeightName, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.base.row(self.source(name), row, out)?;
        if let Some(change) = self.merge.changes.get(&name) {
            let was_finite = out.iter().all(|value| value.is_finite());
            change.apply(row, out);
            if let Some(column) = out.iter().position(|value| !value.is_finite()) {
                let cause = match was_finite {
                    true => "the adapter or its scale is too large",
                    false => "the row holds such a value without the adapter too",
                };
                let problem = format!(
                    "with the adapter, its value in row {row} and column {column} is not a finite number: {cause}"
                );
                let error = FormatError::new(quoted_tensor(&Naming::HuggingFace.spell(name)), problem);
                return Err(ModelError::Format { file: self.origin(), error });
            }
        }
        Ok(())
    }

    fn norms_less_one(&self, config: &ModelConfig) -> bool {
        self.base.norms_less_one(config)
    }

    fn release(&self, name: WeightName) {
        self.base.release(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_source::LayerWeightName;

    /// Two rows of three times the same.
    struct Same(f32);

    impl WeightRows for Same {
        fn origin(&self) -> PathBuf {
            PathBuf::from("base")
        }

        fn shape(&self, _: WeightName) -> Option<Vec<usize>> {
            Some(vec![2, 3])
        }

        fn row(&self, _: WeightName, _: usize, out: &mut [f32]) -> Result<(), ModelError> {
            out.fill(self.0);
            Ok(())
        }

        fn norms_less_one(&self, _: &ModelConfig) -> bool {
            false
        }
    }

    /// Weights that are no numbers were once written.
    #[test]
    fn a_merged_weight_that_is_not_finite_is_an_error_that_names_it() {
        let name = WeightName::Layer(4, LayerWeightName::Up);
        let product = Product { rank: 1, down: vec![0.0, 1e30, 0.0], up: vec![1.0, 1e30], scale: 2.0 };
        let changes = [(name, Change { product: Some(product), ..Change::default() })].into();
        let merge = AdapterMerge { changes, unties: false, base: None };
        let merged = MergedRows::new(&Same(1.0), &merge);
        let mut row = [0.0; 3];
        merged.row(name, 0, &mut row).expect("it is finite");
        assert_eq!(row, [1.0, 2e30, 1.0]);
        let text = merged.row(name, 1, &mut row).expect_err("it is not").to_string();
        for part in ["base", "layers.4.mlp.up_proj.weight", "row 1 and column 1", "its scale is too large"] {
            assert!(text.contains(part), "{text}");
        }
        // What is broken in the model is not laid on the adapter.
        let text = MergedRows::new(&Same(f32::NAN), &merge).row(name, 0, &mut row).expect_err("it is not");
        assert!(text.to_string().contains("without the adapter too"), "{text}");
    }
}
