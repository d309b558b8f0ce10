//! An adapter as it is computed beside its model: plain LoRA, or LoRA whose outputs are changed too, by magnitudes (DoRA) or biases.
//!
//! With the matrix W and bias b of a projection, the product s·B·A of an adapter, magnitudes m and the bias b' that the adapter leaves, the merged
//! projection is `input · Vᵀ + b'`, where row r of V is `f_r (W_r + s (B·A)_r)` and `f_r = m_r / ‖W_r + s (B·A)_r‖` (Liu et al. 2024, "DoRA",
//! arXiv 2402.09353, equation 5). Beside the model this is `f (input · Wᵀ + b) + (b' − f b) + s · input · Aᵀ · (f B)ᵀ`: the factors f and
//! the shifts b' − f b of the model's own outputs, and a product with other rows of B. The lengths need the model's weights once, when the
//! adapter is loaded.

use std::collections::BTreeMap;
use std::path::Path;

use zhenjin_tensor::{SimdLevel, TensorError, ThreadTeam};

use super::file::{files_of, quoted_tensor};
use super::merge::{AdapterMerge, Change, Product, add_row};
use super::merge_file::bias_of;
use super::values::{module, outputs_and_inputs, place};
use super::{
    ADAPTED, Adapter, AdapterValues, LowRankValues, MERGE_INSTEAD, OutputValues,
    SERVE_OR_MERGE_BIASES_INSTEAD, SERVE_OR_MERGE_INSTEAD,
};
use crate::config::ModelConfig;
use crate::errors::{FormatError, ModelError, quoted};
use crate::file::ModelFile;
use crate::fingerprint::Hash;
use crate::names::Naming;
use crate::tensor_source::{LayerWeightName, WeightName};
use crate::write::{FileRows, WeightRows};

/// A projection that can be adapted.
type Place = (usize, LayerWeightName);

/// An adapter in numbers, for computing beside its model.
#[derive(Clone, Debug)]
pub struct ServedAdapter {
    values: AdapterValues,
    /// By layer and place in [`ADAPTED`]; plain LoRA has none.
    outputs: BTreeMap<(usize, usize), OutputValues>,
}

impl ServedAdapter {
    /// Opens an adapter to the model in `file`: its folder, or one of the two files in it. Beside plain LoRA it may have magnitudes and biases of
    /// projections; what changes other weights must be merged. With magnitudes, every row of the weights that they belong to is read once, by so
    /// many threads.
    ///
    /// # Errors
    /// As [`AdapterValues::open`]; what reading the model's weights reports.
    pub fn open(path: &Path, file: &ModelFile, threads: usize) -> Result<ServedAdapter, ModelError> {
        let config = file.config();
        match AdapterValues::open(path, config) {
            Ok(values) => return Ok(ServedAdapter { values, outputs: BTreeMap::new() }),
            Err(error) if !is_more_than_plain(&error) => return Err(error),
            Err(_) => {}
        }
        let merge = AdapterMerge::open_to_serve(path, config)?;
        let [_, origin] = files_of(path)?;
        let mut additions = Vec::new();
        let mut outputs = BTreeMap::new();
        for (at, changes) in projections(merge.changes) {
            let (addition, change) = beside(at, changes, file, threads)?;
            if change.factors.iter().chain(&change.shifts).any(|value| !value.is_finite()) {
                let module = quoted(&module(WeightName::Layer(at.0, at.1)));
                let problem = "with its magnitudes or biases, a factor or addend is not a finite number";
                let error = FormatError::new(format!("adapter of {module}"), problem);
                return Err(ModelError::Format { file: origin, error });
            }
            if change != OutputValues::default()
                && let Some(place) = place(at.1)
            {
                outputs.insert((at.0, place), change);
            }
            additions.push(addition);
        }
        let values = AdapterValues::in_the_models_order(&origin, config, additions)?.with_base(merge.base);
        Ok(ServedAdapter { values, outputs })
    }

    /// As [`AdapterValues::other_base`].
    pub fn other_base(&self, model: &Path) -> Option<&str> {
        self.values.other_base(model)
    }

    /// As [`AdapterValues::pack`].
    ///
    /// # Errors
    /// As [`AdapterValues::pack`].
    pub fn pack(&self, simd: SimdLevel, team: &ThreadTeam) -> Result<Adapter, ModelError> {
        self.values.pack(simd, team).map(|adapter| self.with_outputs(adapter))
    }

    /// As [`AdapterValues::load`].
    ///
    /// # Errors
    /// As [`AdapterValues::load`].
    pub fn load<M>(
        &self,
        matrix: impl FnMut(&[f32], [usize; 2]) -> Result<(M, usize), TensorError>,
    ) -> Result<Adapter<M>, ModelError> {
        self.values.load(matrix).map(|adapter| self.with_outputs(adapter))
    }

    fn with_outputs<M>(&self, mut adapter: Adapter<M>) -> Adapter<M> {
        if self.outputs.is_empty() {
            return adapter;
        }
        let mut hash = Hash::new("zhenjin adapter with changed outputs");
        hash.add(adapter.fingerprint.as_bytes());
        for ((layer, place), outputs) in &self.outputs {
            hash.add(&(*layer as u64).to_le_bytes());
            hash.add(&(*place as u64).to_le_bytes());
            hash.add_values(&outputs.factors);
            hash.add_values(&outputs.shifts);
            adapter.bytes += size_of_val(&outputs.factors[..]) + size_of_val(&outputs.shifts[..]);
            if let Some(addition) = &mut adapter.layers[*layer][*place] {
                addition.outputs = outputs.clone();
            }
        }
        adapter.fingerprint = hash.finish();
        adapter
    }
}

/// The changes of one projection.
#[derive(Default)]
struct Changes {
    matrix: Option<Change>,
    bias: Option<Change>,
}

/// Whether plain LoRA is refused for what merging or serving may do with it.
fn is_more_than_plain(error: &ModelError) -> bool {
    let text = error.to_string();
    [MERGE_INSTEAD, SERVE_OR_MERGE_INSTEAD, SERVE_OR_MERGE_BIASES_INSTEAD]
        .iter()
        .any(|advice| text.contains(advice))
}

/// That a weight's change cannot be computed beside the model.
pub(super) fn not_beside(file: &Path, weight: WeightName, config: &ModelConfig) -> ModelError {
    let problem = format!("changes of it cannot be computed{MERGE_INSTEAD}");
    let error = FormatError::new(quoted_tensor(&Naming::of_folder(config).spell(weight)), problem);
    ModelError::Format { file: file.to_owned(), error }
}

/// Changes by projection. All of them are of projections' matrices and biases: others were refused before they were read.
fn projections(changes: BTreeMap<WeightName, Change>) -> BTreeMap<Place, Changes> {
    let mut projections: BTreeMap<Place, Changes> = BTreeMap::new();
    for (name, change) in changes {
        let Some((layer, projection)) = projection_of(name) else { continue };
        let of_projection = projections.entry((layer, projection)).or_default();
        if name == WeightName::Layer(layer, projection) {
            of_projection.matrix = Some(change);
        } else {
            of_projection.bias = Some(change);
        }
    }
    projections
}

/// The projection whose matrix or bias a weight is.
pub(super) fn projection_of(name: WeightName) -> Option<Place> {
    let WeightName::Layer(layer, _) = name else { return None };
    let is_of = |projection: &LayerWeightName| {
        let weight = WeightName::Layer(layer, *projection);
        weight == name || bias_of(weight) == Some(name)
    };
    Some((layer, ADAPTED.into_iter().find(is_of)?))
}

/// What is computed beside a projection instead of its changed weights.
fn beside(
    (layer, projection): Place,
    changes: Changes,
    file: &ModelFile,
    threads: usize,
) -> Result<(LowRankValues, OutputValues), ModelError> {
    let weight = WeightName::Layer(layer, projection);
    let [outputs, inputs] = outputs_and_inputs(weight, file.config());
    let Change { product, magnitude, .. } = changes.matrix.unwrap_or_default();
    let none = || Product { rank: 1, down: vec![0.0; inputs], up: vec![0.0; outputs], scale: 1.0 };
    let mut product = product.unwrap_or_else(none);
    let factors = match magnitude {
        Some(magnitude) => multiply_rows(weight, &magnitude, &mut product, file, threads)?,
        None => Vec::new(),
    };
    let shifts = shifts(weight, changes.bias, &factors, outputs, &FileRows(file))?;
    let Product { rank, down, up, scale } = product;
    Ok((LowRankValues { layer, projection, rank, down, up, scale }, OutputValues { factors, shifts }))
}

/// f_r of every row, with which the rows of B are multiplied.
fn multiply_rows(
    weight: WeightName,
    magnitude: &[f32],
    product: &mut Product,
    file: &ModelFile,
    threads: usize,
) -> Result<Vec<f32>, ModelError> {
    let Product { rank, down, up, scale } = product;
    let (rank, scale, down) = (*rank, *scale, &down[..]);
    let part = magnitude.len().div_ceil(threads.max(1)).max(1);
    let mut factors = vec![0.0; magnitude.len()];
    std::thread::scope(|scope| {
        let parts = magnitude.chunks(part).zip(up.chunks_mut(part * rank)).zip(factors.chunks_mut(part));
        let workers: Vec<_> = parts
            .enumerate()
            .map(|(number, ((magnitude, up), factors))| {
                let rows = Rows { weight, first: number * part, magnitude, rank, scale, down };
                scope.spawn(move || rows.multiply(file, up, factors))
            })
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    FileRows(file).release(weight);
    Ok(factors)
}

/// Some rows of a changed matrix, from row `first` on.
struct Rows<'a> {
    weight: WeightName,
    first: usize,
    magnitude: &'a [f32],
    rank: usize,
    scale: f32,
    down: &'a [f32],
}

impl Rows<'_> {
    fn multiply(&self, file: &ModelFile, up: &mut [f32], factors: &mut [f32]) -> Result<(), ModelError> {
        let Rows { weight, first, magnitude, rank, scale, down } = *self;
        let mut row = vec![0.0; down.len() / rank];
        let of_rows = magnitude.iter().zip(up.chunks_exact_mut(rank)).zip(factors);
        for (index, ((magnitude, up), factor)) in of_rows.enumerate() {
            FileRows(file).row(weight, first + index, &mut row)?;
            add_row(rank, scale, up, down, 0, &mut row);
            let length = row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
            let of_row = if length > 0.0 { f64::from(*magnitude) / length } else { 0.0 };
            up.iter_mut().for_each(|value| *value = (f64::from(*value) * of_row) as f32);
            *factor = of_row as f32;
        }
        Ok(())
    }
}

/// b' − f b, or nothing where both are nothing.
fn shifts(
    weight: WeightName,
    change: Option<Change>,
    factors: &[f32],
    outputs: usize,
    base: &dyn WeightRows,
) -> Result<Vec<f32>, ModelError> {
    let own = bias_of(weight).filter(|bias| base.shape(*bias).is_some());
    if change.is_none() && (own.is_none() || factors.is_empty()) {
        return Ok(Vec::new());
    }
    let mut shifts = Vec::with_capacity(outputs);
    for index in 0..outputs {
        let mut bias = [0.0];
        if let Some(name) = own {
            base.row(name, index, &mut bias)?;
        }
        let mut changed = bias;
        if let Some(change) = &change {
            change.apply(index, &mut changed);
        }
        let factor = factors.get(index).copied().unwrap_or(1.0);
        shifts.push((f64::from(changed[0]) - f64::from(factor) * f64::from(bias[0])) as f32);
    }
    Ok(shifts)
}
