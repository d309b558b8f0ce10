//! An adapter on disk, read for merging: everything that the `peft` library saves in `adapter_model.safetensors`, also what cannot be
//! served beside the model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use zhenjin_files::Mapping;

use super::file::{DECOMPOSED_EMBEDDING, files_of, quoted_tensor, tensor_values};
use super::merge::{AdapterMerge, Change, Product};
use super::peft_names::{AddedPart, PREFIX, PeftName};
use super::served::{not_beside, projection_of};
use super::settings::{Purpose, Settings};
use super::values::half_split_row;
use crate::config::{ModelConfig, RopeLayout};
use crate::errors::{FormatError, ModelError, quoted};
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

/// The tensors of one weight.
type Parts<'a> = BTreeMap<Part, &'a TensorRecord>;

impl AdapterMerge {
    /// Opens an adapter to a model of shape `config`, to be merged into its weights: its folder, or one of the two files in it. Beside
    /// low-rank products of any matrix, head and embedding included, it may have magnitudes (DoRA), biases, whole modules and rows of trained
    /// tokens. Every tensor must belong to a weight of the model and have its shape.
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

    fn read(path: &Path, config: &ModelConfig, names: Names) -> Result<AdapterMerge, ModelError> {
        let [settings_path, tensors_path] = files_of(path)?;
        let fault = |file: &Path, error| ModelError::Format { file: file.to_owned(), error };
        let text = Mapping::open(&settings_path)?;
        let settings = Settings::read(text.as_ref(), Purpose::Merge);
        let settings = settings.map_err(|error| fault(&settings_path, error))?;
        let file = Mapping::open(&tensors_path)?;
        let header = parse_header(file.as_ref()).map_err(|error| fault(&tensors_path, error))?;
        let mut weights: BTreeMap<WeightName, Parts<'_>> = BTreeMap::new();
        for tensor in header.tensors() {
            let (weight, part) = names.read(&tensor.name).map_err(|error| fault(&tensors_path, error))?;
            if let Some(other) = weights.entry(weight).or_default().insert(part, tensor) {
                let problem = format!("it is the same as {}", quoted(&other.name));
                let error = FormatError::new(quoted_tensor(&tensor.name), problem);
                return Err(fault(&tensors_path, error));
            }
        }
        if weights.is_empty() {
            let error = FormatError::new("header", "it holds no tensors, so there is nothing to merge");
            return Err(fault(&tensors_path, error));
        }
        if names.serve
            && let Some((weight, _)) = weights.iter().find(|(weight, parts)| !is_beside(**weight, parts))
        {
            return Err(not_beside(&tensors_path, *weight));
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

/// The names that tensors may have.
struct Names {
    weights: BTreeSet<WeightName>,
    /// For error messages.
    model: String,
    /// For computing beside the model.
    serve: bool,
}

impl Names {
    fn of(config: &ModelConfig) -> Names {
        let model = format!("this {} model of {} layers", config.architecture, config.layers);
        // A head that is one with the embedding can be adapted as well.
        Names { weights: config.weights().chain([WeightName::Head]).collect(), model, serve: false }
    }

    /// With a bias for each projection.
    fn with_biases(config: &ModelConfig) -> Names {
        let mut names = Names { serve: true, ..Names::of(config) };
        let biases: Vec<WeightName> = names.weights.iter().filter_map(|weight| bias_of(*weight)).collect();
        names.weights.extend(biases);
        names
    }

    /// The weight that a tensor belongs to, and what it is to it.
    fn read(&self, name: &str) -> Result<(WeightName, Part), FormatError> {
        let fault = |problem: String| FormatError::new(quoted_tensor(name), problem);
        let unknown = |weight: &str| fault(format!("{} has no weight {}", self.model, quoted(weight)));
        match PeftName::parse(name) {
            None => Err(fault(format!("its name does not begin with `{PREFIX}`"))),
            Some(PeftName::Unknown(inner)) => Err(unknown(inner)),
            Some(PeftName::Whole { weight, .. }) => {
                let found = self.weight(&weight).ok_or_else(|| unknown(&weight))?;
                Ok((found, Part::Whole))
            }
            Some(PeftName::Added { module, part }) => {
                let kind = if part == AddedPart::UpBias { "bias" } else { "weight" };
                let instead =
                    if part == AddedPart::UpBias { "; it can be served beside the model" } else { "" };
                let missing =
                    || fault(format!("{} has no {kind} of {}{instead}", self.model, quoted(module)));
                let found = self.weight(&format!("{module}.{kind}")).ok_or_else(missing)?;
                Ok((found, Part::of(part)))
            }
        }
    }

    fn weight(&self, name: &str) -> Option<WeightName> {
        Naming::HuggingFace.read(name).filter(|weight| self.weights.contains(weight))
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

    /// The values of a tensor that must have this shape, all finite.
    fn values(&self, tensor: &TensorRecord, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let values = tensor_values(self.path, self.bytes, tensor, shape)?;
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(self.fault(tensor, "it holds a value that is not a finite number")),
        }
    }

    fn change(&self, weight: WeightName, parts: &Parts<'_>) -> Result<Change, ModelError> {
        let shape = self.config.shape(weight);
        let (rows, columns) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let of = |part: Part| parts.get(&part).copied();
        let vector = |tensor: &TensorRecord| {
            self.values(tensor, &[rows]).map(|values| self.ordered(weight, values, 1))
        };
        let mut change =
            Change { product: self.product(weight, [rows, columns], parts)?, ..Change::default() };
        // Before a magnitude is read: an embedding's has another shape.
        self.check_magnitude(weight, parts)?;
        change.magnitude = of(Part::Magnitude).map(vector).transpose()?;
        // B's bias is multiplied with the scale as the product is.
        if let Some(tensor) = of(Part::Added) {
            let scale = self.scale(&module_of(weight), tensor)?;
            change.added = Some(vector(tensor)?.into_iter().map(|value| scale * value).collect());
        }
        if let Some(tensor) = of(Part::Whole) {
            change.replaced = Some(self.ordered(weight, self.values(tensor, &shape)?, columns));
        }
        if let Some(tensor) = of(Part::Tokens) {
            change.rows = self.tokens(weight, tensor, [rows, columns])?;
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
            (Some(down), Some(up)) => (down, up),
            (Some(one), None) | (None, Some(one)) => {
                return Err(self.fault(one, "of lora_A and lora_B the file has one alone"));
            }
        };
        let module = module_of(weight);
        let rank = self.settings.rank_of(&module);
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
        Ok(Some(Product { rank, down: down_values, up: up_values, scale: self.scale(&module, up)? }))
    }

    /// What the product of a module is multiplied with, whose tensor this is.
    fn scale(&self, module: &str, tensor: &TensorRecord) -> Result<f32, ModelError> {
        let scale = self.settings.scale_of(module);
        match scale.is_finite() {
            true => Ok(scale),
            false => Err(self.fault(tensor, "its scale, of lora_alpha and the rank, is not a finite number")),
        }
    }

    /// The rows of single tokens, by their ids.
    fn tokens(
        &self,
        weight: WeightName,
        tensor: &TensorRecord,
        [rows, columns]: [usize; 2],
    ) -> Result<BTreeMap<usize, Vec<f32>>, ModelError> {
        let Some(ids) = self.settings.token_rows_of(&module_of(weight)) else {
            return Err(self.fault(tensor, "`trainable_token_indices` does not say whose rows these are"));
        };
        if let Some(id) = ids.iter().find(|id| **id >= rows) {
            let problem =
                format!("`trainable_token_indices` names token {id}, but the model has {rows} tokens");
            return Err(self.fault(tensor, &problem));
        }
        let values = self.values(tensor, &[ids.len(), columns])?;
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
        Err(self.fault(any, problem))
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

/// The name of a weight's module as the `peft` library gives it.
fn module_of(weight: WeightName) -> String {
    let name = Naming::HuggingFace.spell(weight);
    name.rsplit_once('.').map_or(name.clone(), |(module, _)| module.to_owned())
}

/// `[n, columns]` as `[columns, n]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
