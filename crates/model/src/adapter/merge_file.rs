//! An adapter on disk, read for merging: everything that the `peft` library saves in `adapter_model.safetensors`, also what cannot be
//! served beside the model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use zhenjin_files::Mapping;

use super::file::{DECOMPOSED_EMBEDDING, files_of, quoted_tensor, tensor_values};
use super::fused::{RowsOf, fused_weights};
use super::merge::{AdapterMerge, Change, Product};
use super::peft_names::{AddedPart, PREFIX, PeftName};
use super::served::{not_beside, projection_of};
use super::settings::{Purpose, Settings};
use super::values::half_split_row;
use crate::config::{ModelConfig, RopeLayout};
use crate::errors::{FormatError, ModelError, quoted};
use crate::families::Family;
use crate::names::Naming;
use crate::safetensors::{TensorRecord, parse_header};
use crate::tensor_source::{LayerWeightName, WeightName};

/// What a tensor is to its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A, `[rank, inputs]`; of an embedding `[rank, rows]`.
    Down,
    /// B, `[outputs, rank]`.
    Up,
    /// The length of each row.
    Magnitude,
    /// The bias of B, which belongs to the module's bias.
    Added,
    /// The whole weight.
    Whole,
    /// The rows of single tokens.
    Tokens,
}

impl Part {
    fn of(added: AddedPart) -> Part {
        match added {
            AddedPart::Down | AddedPart::EmbeddingDown => Part::Down,
            AddedPart::Up | AddedPart::EmbeddingUp => Part::Up,
            AddedPart::UpBias => Part::Added,
            AddedPart::Magnitude => Part::Magnitude,
            AddedPart::Tokens => Part::Tokens,
        }
    }
}

/// A tensor of a weight.
#[derive(Clone, Copy)]
struct Stored<'a> {
    tensor: &'a TensorRecord,
    /// The module that the adapter's settings name; none of a whole weight.
    module: &'a str,
    /// The weight's own rows, where the tensor has those of several projections.
    rows: Option<RowsOf>,
}

/// The tensors of one weight.
type Parts<'a> = BTreeMap<Part, Stored<'a>>;

impl AdapterMerge {
    /// Opens an adapter to a model of shape `config`, to be merged into its weights: its folder, or one of the two files in it. Beside
    /// low-rank products of any matrix, head and embedding included, it may have magnitudes (DoRA), biases, whole modules and rows of trained
    /// tokens. Every tensor must belong to a weight of the model and have its shape. `config` is that of the file into whose rows it is merged: whole
    /// norms come as that file holds them, less 1 or not.
    ///
    /// # Errors
    /// [`ModelError`] naming the file, the setting or tensor, and the shapes.
    pub fn open(path: &Path, config: &ModelConfig) -> Result<AdapterMerge, ModelError> {
        AdapterMerge::read(path, config, Names::of(config))
    }

    /// The same, to be computed beside the model: biases may belong to projections that have none in the model, which nothing can be merged into,
    /// and what needs other weights is refused before it is read.
    ///
    /// # Errors
    /// As [`AdapterMerge::open`].
    pub(super) fn open_to_serve(path: &Path, config: &ModelConfig) -> Result<AdapterMerge, ModelError> {
        AdapterMerge::read(path, config, Names::with_biases(config))
    }

    fn read(path: &Path, config: &ModelConfig, names: Names<'_>) -> Result<AdapterMerge, ModelError> {
        let [settings_path, tensors_path] = files_of(path)?;
        let fault = |file: &Path, error| ModelError::Format { file: file.to_owned(), error };
        let text = Mapping::open(&settings_path)?;
        let settings = Settings::read(text.as_ref(), Purpose::Merge);
        let settings = settings.map_err(|error| fault(&settings_path, error))?;
        let file = Mapping::open(&tensors_path)?;
        let header = parse_header(file.as_ref()).map_err(|error| fault(&tensors_path, error))?;
        let mut weights: BTreeMap<WeightName, Parts<'_>> = BTreeMap::new();
        for tensor in header.tensors() {
            let Named { module, part, weights: of_tensor } =
                names.read(&tensor.name).map_err(|error| fault(&tensors_path, error))?;
            for (weight, rows) in of_tensor {
                // One A belongs to all projections of a module.
                let rows = rows.filter(|_| part != Part::Down);
                let stored = Stored { tensor, module, rows };
                if let Some(other) = weights.entry(weight).or_default().insert(part, stored) {
                    let problem = format!("it is the same as {}", quoted(&other.tensor.name));
                    let error = FormatError::new(quoted_tensor(&tensor.name), problem);
                    return Err(fault(&tensors_path, error));
                }
            }
        }
        if weights.is_empty() {
            let error = FormatError::new("header", "it holds no tensors, so there is nothing to merge");
            return Err(fault(&tensors_path, error));
        }
        if names.serve
            && let Some((weight, _)) = weights.iter().find(|(weight, parts)| !is_beside(**weight, parts))
        {
            return Err(not_beside(&tensors_path, *weight, config));
        }
        let reading = Reading { path: &tensors_path, bytes: file.as_ref(), settings: &settings, config };
        let mut changes = BTreeMap::new();
        for (weight, parts) in &weights {
            changes.insert(*weight, reading.change(*weight, parts)?);
        }
        let unties = config.tied_embeddings && share_nothing(&mut changes);
        Ok(AdapterMerge { changes, unties, base: settings.base.clone() })
    }
}

/// Whether embedding and head, one weight until now, become two. Rows of tokens that were trained in both stand in the file once, with the
/// embedding, and both stay one, as `peft` has it; a head with rows of its own was trained apart.
fn share_nothing(changes: &mut BTreeMap<WeightName, Change>) -> bool {
    let is_of_one = |change: &Change| change.product.is_some() || change.replaced.is_some();
    let head_is_apart = changes.get(&WeightName::Head).is_some_and(|change| !change.rows.is_empty());
    let unties = head_is_apart
        || [WeightName::Embedding, WeightName::Head]
            .iter()
            .any(|name| changes.get(name).is_some_and(is_of_one));
    if unties
        && !head_is_apart
        && let Some(rows) = changes.get(&WeightName::Embedding).map(|change| change.rows.clone())
        && !rows.is_empty()
    {
        changes.entry(WeightName::Head).or_default().rows.extend(rows);
    }
    unties
}

/// Whether a weight's tensors change a projection in a way that can be computed beside it.
fn is_beside(weight: WeightName, parts: &Parts<'_>) -> bool {
    let is_matrix = bias_of(weight).is_some();
    projection_of(weight).is_some()
        && !(is_matrix && parts.contains_key(&Part::Whole))
        && !parts.contains_key(&Part::Tokens)
}

/// What a tensor's name says.
struct Named<'a> {
    /// See [`Stored::module`].
    module: &'a str,
    part: Part,
    /// The weight that it belongs to, or several, each with its rows.
    weights: Vec<(WeightName, Option<RowsOf>)>,
}

/// The names that tensors may have.
struct Names<'c> {
    config: &'c ModelConfig,
    weights: BTreeSet<WeightName>,
    /// For error messages.
    model: String,
    /// For computing beside the model.
    serve: bool,
}

impl<'c> Names<'c> {
    fn of(config: &'c ModelConfig) -> Names<'c> {
        let model = format!("this {} model of {} layers", config.architecture, config.layers);
        // A head that is one with the embedding can be adapted as well.
        let weights = config.weights().chain([WeightName::Head]).collect();
        Names { config, weights, model, serve: false }
    }

    /// With a bias for each projection.
    fn with_biases(config: &'c ModelConfig) -> Names<'c> {
        let mut names = Names { serve: true, ..Names::of(config) };
        let biases: Vec<WeightName> = names.weights.iter().filter_map(|weight| bias_of(*weight)).collect();
        names.weights.extend(biases);
        names
    }

    /// The weights that a tensor belongs to, and what it is to them.
    fn read<'a>(&self, name: &'a str) -> Result<Named<'a>, FormatError> {
        let fault = |problem: String| FormatError::new(quoted_tensor(name), problem);
        let unknown = |weight: &str| fault(format!("{} has no weight {}", self.model, quoted(weight)));
        match PeftName::parse(name) {
            None => Err(fault(format!("its name does not begin with `{PREFIX}`"))),
            Some(PeftName::Unknown(inner)) => Err(unknown(inner)),
            Some(PeftName::Whole { weight, .. }) => {
                let weights = self.weights_called(&weight).ok_or_else(|| unknown(&weight))?;
                Ok(Named { module: "", part: Part::Whole, weights })
            }
            Some(PeftName::Added { module, part }) => {
                let kind = if part == AddedPart::UpBias { "bias" } else { "weight" };
                let instead =
                    if part == AddedPart::UpBias { "; it can be served beside the model" } else { "" };
                let missing =
                    || fault(format!("{} has no {kind} of {}{instead}", self.model, quoted(module)));
                let weights = self.weights_called(&format!("{module}.{kind}")).ok_or_else(missing)?;
                Ok(Named { module, part: Part::of(part), weights })
            }
        }
    }

    fn weights_called(&self, name: &str) -> Option<Vec<(WeightName, Option<RowsOf>)>> {
        let alone = Naming::of_folder(self.config).read(name).map(|weight| vec![(weight, None)]);
        let fused =
            || fused_weights(name, self.config).into_iter().map(|(weight, rows)| (weight, Some(rows)));
        let found = alone.unwrap_or_else(|| fused().collect());
        let are_there = found.iter().all(|(weight, _)| self.weights.contains(weight));
        (are_there && !found.is_empty()).then_some(found)
    }
}

/// What the tensors are read with.
struct Reading<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    settings: &'a Settings,
    config: &'a ModelConfig,
}

impl Reading<'_> {
    fn fault(&self, tensor: &TensorRecord, problem: &str) -> ModelError {
        let error = FormatError::new(quoted_tensor(&tensor.name), problem);
        ModelError::Format { file: self.path.to_owned(), error }
    }

    /// The values of a tensor that must have this shape, or in which the weight's own rows have it; all finite.
    fn values(&self, stored: Stored<'_>, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let Stored { tensor, rows, .. } = stored;
        let mut whole = shape.to_vec();
        if let (Some(rows), Some(first)) = (rows, whole.first_mut()) {
            *first = rows.all;
        }
        let values = tensor_values(self.path, self.bytes, tensor, &whole)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(self.fault(tensor, "it holds a value that is not a finite number"));
        }
        Ok(match rows {
            Some(rows) => rows.of(&values, shape.iter().skip(1).product()),
            None => values,
        })
    }

    fn change(&self, weight: WeightName, parts: &Parts<'_>) -> Result<Change, ModelError> {
        let shape = self.config.shape(weight);
        let (rows, columns) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let of = |part: Part| parts.get(&part).copied();
        let vector =
            |stored: Stored<'_>| self.values(stored, &[rows]).map(|values| self.ordered(weight, values, 1));
        let mut change =
            Change { product: self.product(weight, [rows, columns], parts)?, ..Change::default() };
        // Before a magnitude is read: an embedding's has another shape.
        self.check_magnitude(weight, parts)?;
        change.magnitude = of(Part::Magnitude).map(vector).transpose()?;
        // B's bias is multiplied with the scale as the product is.
        if let Some(stored) = of(Part::Added) {
            let scale = self.scale(stored)?;
            change.added = Some(vector(stored)?.into_iter().map(|value| scale * value).collect());
        }
        if let Some(stored) = of(Part::Whole) {
            let mut values = self.ordered(weight, self.values(stored, &shape)?, columns);
            if weight.is_norm() && self.has_norms_less_one() {
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            change.replaced = Some(values);
        }
        if let Some(stored) = of(Part::Tokens) {
            change.rows = self.tokens(stored, [rows, columns])?;
        }
        Ok(change)
    }

    /// A and B of a matrix. Those of an embedding are stored the other way round: its rows are A's columns.
    fn product(
        &self,
        weight: WeightName,
        [rows, columns]: [usize; 2],
        parts: &Parts<'_>,
    ) -> Result<Option<Product>, ModelError> {
        let (down, up) = match (parts.get(&Part::Down), parts.get(&Part::Up)) {
            (None, None) => return Ok(None),
            (Some(down), Some(up)) => (*down, *up),
            (Some(one), None) | (None, Some(one)) => {
                return Err(self.fault(one.tensor, "of lora_A and lora_B the file has one alone"));
            }
        };
        let rank = self.settings.rank_of(up.module);
        let (down_values, up_values) = match weight {
            WeightName::Embedding => (
                transposed(&self.values(up, &[columns, rank])?, rank),
                transposed(&self.values(down, &[rank, rows])?, rows),
            ),
            _ => (
                self.values(down, &[rank, columns])?,
                self.ordered(weight, self.values(up, &[rows, rank])?, rank),
            ),
        };
        Ok(Some(Product { rank, down: down_values, up: up_values, scale: self.scale(up)? }))
    }

    /// What the product of the module is multiplied with, whose tensor this is.
    fn scale(&self, stored: Stored<'_>) -> Result<f32, ModelError> {
        let scale = self.settings.scale_of(stored.module);
        let problem = "its scale, of lora_alpha and the rank, is not a finite number";
        if scale.is_finite() { Ok(scale) } else { Err(self.fault(stored.tensor, problem)) }
    }

    /// Whether whole norms come less 1, as the family's folders hold them, to a model whose file has them as they are.
    fn has_norms_less_one(&self) -> bool {
        let family = Family::of_architecture(&self.config.architecture);
        family.is_some_and(|family| family.norms_less_one) && !self.config.norms_less_one
    }

    /// The rows of single tokens, by their ids.
    fn tokens(
        &self,
        stored: Stored<'_>,
        [rows, columns]: [usize; 2],
    ) -> Result<BTreeMap<usize, Vec<f32>>, ModelError> {
        let tensor = stored.tensor;
        let Some(ids) = self.settings.token_rows_of(stored.module) else {
            return Err(self.fault(tensor, "`trainable_token_indices` does not say whose rows these are"));
        };
        if let Some(id) = ids.iter().find(|id| **id >= rows) {
            let problem =
                format!("`trainable_token_indices` names token {id}, but the model has {rows} tokens");
            return Err(self.fault(tensor, &problem));
        }
        let values = self.values(stored, &[ids.len(), columns])?;
        Ok(ids.iter().copied().zip(values.chunks_exact(columns.max(1)).map(<[f32]>::to_vec)).collect())
    }

    /// Magnitudes are there where the settings say so, and belong to products of matrices that multiply rows.
    fn check_magnitude(&self, weight: WeightName, parts: &Parts<'_>) -> Result<(), ModelError> {
        let Some(any) = parts.values().next() else { return Ok(()) };
        let problem = match (parts.get(&Part::Up), parts.get(&Part::Magnitude)) {
            (Some(_), None) if self.settings.has_magnitudes => {
                "`use_dora` is set, but the file has no lora_magnitude_vector of it"
            }
            (None, Some(_)) => "a lora_magnitude_vector stands without lora_A and lora_B",
            (_, Some(_)) if !self.settings.has_magnitudes => {
                "the file has a lora_magnitude_vector of it, but `use_dora` is not set"
            }
            (_, Some(_)) if weight == WeightName::Embedding => DECOMPOSED_EMBEDDING,
            _ => return Ok(()),
        };
        Err(self.fault(any.tensor, problem))
    }

    /// Rows of `width` values in the order of Hugging Face files, in the model's own order.
    fn ordered(&self, weight: WeightName, values: Vec<f32>, width: usize) -> Vec<f32> {
        use LayerWeightName as W;
        let WeightName::Layer(_, name) = weight else { return values };
        let is_rotated =
            matches!(name, W::Query | W::QueryBias | W::QueryNorm | W::Key | W::KeyBias | W::KeyNorm);
        if !is_rotated || self.config.rope.layout != RopeLayout::Interleaved {
            return values;
        }
        let rows = values.len() / width.max(1);
        let row = |row: usize| &values[half_split_row(row, self.config) * width..][..width];
        (0..rows).flat_map(|index| row(index).iter().copied()).collect()
    }
}

/// The bias that belongs to the matrix of an adaptable projection.
pub(super) fn bias_of(weight: WeightName) -> Option<WeightName> {
    use LayerWeightName as W;
    let WeightName::Layer(layer, projection) = weight else { return None };
    let bias = match projection {
        W::Query => W::QueryBias,
        W::Key => W::KeyBias,
        W::Value => W::ValueBias,
        W::Output => W::OutputBias,
        W::Gate => W::GateBias,
        W::Up => W::UpBias,
        W::Down => W::DownBias,
        _ => return None,
    };
    Some(WeightName::Layer(layer, bias))
}

/// `[n, columns]` as `[columns, n]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
