//! An adapter on disk: a folder with `adapter_config.json` and `adapter_model.safetensors`, as the `peft` library writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zhenjin_files::Mapping;
use zhenjin_tensor::dequantise;

use super::fused::{RowsOf, WholeProduct, fused_weights, read_heights, weight_called};
use super::peft_names::{AddedPart, PREFIX, PeftName};
use super::settings::{Purpose, Settings};
use super::values::{AdapterValues, LowRankValues, outputs_and_inputs, place};
use crate::config::ModelConfig;
use crate::errors::{FormatError, ModelError, quoted};
use crate::file::FileTensor;
use crate::names::Naming;
use crate::safetensors::{Header, TensorRecord, parse_header};
use crate::score_head::{ScoreHead, check_no_bias};
use crate::tensor_source::WeightName;

const SETTINGS: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// The same as a PyTorch pickle.
const PICKLE: &str = "adapter_model.bin";
/// The head for scores, and its tensor.
const SCORE_MODULE: &str = "base_model.model.score";
pub(super) const SCORE: &str = "base_model.model.score.weight";

const ADAPTED_HEAD: &str = "an adapted head (lm_head) is not supported";
const ADAPTED_EMBEDDING: &str = "adapted token embeddings are not supported";

/// What cannot be merged either.
pub(super) const DECOMPOSED_EMBEDDING: &str =
    "an embedding decomposed into magnitude and direction (DoRA) is not supported";

const WHOLE_MODULES: &str = "whole weights beside the low-rank products are not supported";

/// The projections of a module, and which rows of its B are theirs.
type Projections = Vec<(WeightName, RowsOf)>;

/// The two tensors of one module.
#[derive(Default)]
struct Pair<'a> {
    down: Option<&'a TensorRecord>,
    up: Option<&'a TensorRecord>,
}

impl AdapterValues {
    /// Opens an adapter to a model of shape `config`: its folder, or one of the two files in it. Every tensor must belong to a
    /// projection of the model and have its shape.
    ///
    /// # Errors
    /// [`ModelError`] naming the file, the setting or tensor, and the shapes.
    pub fn open(path: &Path, config: &ModelConfig) -> Result<AdapterValues, ModelError> {
        let [settings, tensors] = files_of(path)?;
        AdapterValues::read(&settings, &tensors, config)
    }

    /// Opens an adapter that makes the model a reward model, with its head for scores: task type SEQ_CLS of the `peft` library.
    ///
    /// # Errors
    /// As [`AdapterValues::open`]; [`ModelError::MissingTensor`] without a head, [`ModelError::Format`] for a head with several scores, another
    /// width or a bias, and for an adapter to models that write text.
    pub fn open_reward_model(
        path: &Path,
        config: &ModelConfig,
    ) -> Result<(AdapterValues, ScoreHead), ModelError> {
        let [settings, tensors] = files_of(path)?;
        let (values, head) = read(&settings, &tensors, config, Purpose::Scores)?;
        let missing = ModelError::MissingTensor { file: tensors, tensor: SCORE.to_owned() };
        head.map(|head| (values, head)).ok_or(missing)
    }

    /// Reads an adapter from its two files, whatever they are called.
    ///
    /// # Errors
    /// As [`AdapterValues::open`].
    pub fn read(
        settings_path: &Path,
        tensors_path: &Path,
        config: &ModelConfig,
    ) -> Result<AdapterValues, ModelError> {
        read(settings_path, tensors_path, config, Purpose::Text).map(|(values, _)| values)
    }
}

/// The two files of an adapter.
pub(super) fn files_of(path: &Path) -> Result<[PathBuf; 2], ModelError> {
    let folder = folder_of(path)?;
    let (settings_path, tensors_path) = (folder.join(SETTINGS), folder.join(TENSORS));
    if !settings_path.exists()
        && let Some(reason) = named_adapters(&folder)
    {
        return Err(ModelError::NotAnAdapter { path: path.to_owned(), reason });
    }
    if !tensors_path.is_file() && folder.join(PICKLE).is_file() {
        let reason = format!(
            "it has {PICKLE} only, a PyTorch pickle, which can run code when it is read; save the adapter with \
                 safe_serialization=True"
        );
        return Err(ModelError::NotAnAdapter { path: path.to_owned(), reason });
    }
    Ok([settings_path, tensors_path])
}

/// What to do about a folder that has adapters in folders of its own, as `peft` saves those with names.
fn named_adapters(folder: &Path) -> Option<String> {
    const MOST: usize = 8;
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let name = |path: PathBuf| quoted(&path.file_name().unwrap_or_default().to_string_lossy());
    let mut names: Vec<String> = entries.filter(|path| path.join(SETTINGS).is_file()).map(name).collect();
    names.sort_unstable();
    if names.len() > MOST {
        names.truncate(MOST);
        names.push("…".to_owned());
    }
    let last = names.pop()?;
    Some(match names.is_empty() {
        true => format!("it holds the adapter {last}; name that folder"),
        false => format!("it holds the adapters {} and {last}; name one of these folders", names.join(", ")),
    })
}

/// The tensor with an embedding's magnitudes, which merging refuses too, if the file has one.
fn decomposed_embedding(tensors_path: &Path) -> Option<String> {
    let file = Mapping::open(tensors_path).ok()?;
    let header = parse_header(file.as_ref()).ok()?;
    let is_one = |tensor: &&TensorRecord| match PeftName::parse(&tensor.name) {
        Some(PeftName::Added { module, part: AddedPart::Magnitude }) => {
            Naming::HuggingFace.read(&format!("{module}.weight")) == Some(WeightName::Embedding)
        }
        _ => false,
    };
    header.tensors().iter().find(is_one).map(|tensor| tensor.name.clone())
}

/// Reads an adapter, with the head for scores that such an adapter has.
fn read(
    settings_path: &Path,
    tensors_path: &Path,
    config: &ModelConfig,
    purpose: Purpose,
) -> Result<(AdapterValues, Option<ScoreHead>), ModelError> {
    let fault = |file: &Path, error| ModelError::Format { file: file.to_owned(), error };
    let text = Mapping::open(settings_path)?;
    let settings = Settings::read(text.as_ref(), purpose).map_err(|error| {
        // To merge it instead would be no advice.
        match decomposed_embedding(tensors_path) {
            Some(name) => fault(tensors_path, FormatError::new(quoted_tensor(&name), DECOMPOSED_EMBEDDING)),
            None => fault(settings_path, error),
        }
    })?;
    let file = Mapping::open(tensors_path)?;
    let header = parse_header(file.as_ref()).map_err(|error| fault(tensors_path, error))?;
    let mut pairs: BTreeMap<&str, (Projections, Pair<'_>)> = BTreeMap::new();
    let mut head = None;
    for tensor in header.tensors() {
        if purpose == Purpose::Scores && tensor.name.starts_with(SCORE_MODULE) {
            head = Some(read_head(tensors_path, file.as_ref(), &header, tensor, config)?);
            continue;
        }
        let named = read_name(&tensor.name, config, purpose);
        let (module, projections, is_up) = named.map_err(|error| fault(tensors_path, error))?;
        let (_, pair) = pairs.entry(module).or_insert((projections, Pair::default()));
        let slot = if is_up { &mut pair.up } else { &mut pair.down };
        if let Some(other) = slot.replace(tensor) {
            let problem = format!("it is the same as {}", quoted(&other.name));
            return Err(fault(tensors_path, FormatError::new(quoted_tensor(&tensor.name), problem)));
        }
    }
    if pairs.is_empty() {
        let error = FormatError::new("header", "it holds no tensors, so there is nothing to adapt");
        return Err(fault(tensors_path, error));
    }
    let metadata = header.metadata();
    let reading = Reading { path: tensors_path, bytes: file.as_ref(), settings: &settings, config, metadata };
    let mut additions = Vec::new();
    for (module, (projections, pair)) in &pairs {
        additions.extend(reading.additions(module, projections, pair)?);
    }
    let values = AdapterValues::new(tensors_path, config, additions)?;
    Ok((values.with_base(settings.base.clone()), head))
}

/// The head for scores that an adapter brings along.
fn read_head(
    path: &Path,
    bytes: &[u8],
    header: &Header,
    tensor: &TensorRecord,
    config: &ModelConfig,
) -> Result<ScoreHead, ModelError> {
    let fault = |error| ModelError::Format { file: path.to_owned(), error };
    let plain = match PeftName::parse(&tensor.name) {
        Some(PeftName::Whole { weight, .. }) => format!("{PREFIX}{weight}"),
        _ => tensor.name.clone(),
    };
    check_no_bias(path, &plain, SCORE_MODULE)?;
    if plain != SCORE {
        let problem = format!("the head for scores has one tensor, `{SCORE}`");
        return Err(fault(FormatError::new(quoted_tensor(&tensor.name), problem)));
    }
    let view = FileTensor {
        name: &tensor.name,
        type_name: tensor.element_type.name,
        dtype: tensor.element_type.dtype,
        shape: &tensor.shape,
        bytes: &bytes[tensor.data.clone()],
        file: path,
        offset: tensor.data.start,
    };
    let place = ScoreHead::place(header.metadata()).map_err(fault)?;
    Ok(ScoreHead { weight: ScoreHead::read(&view, config.hidden_size)?, padding: None, place })
}

/// What the tensors are read with.
struct Reading<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    settings: &'a Settings,
    config: &'a ModelConfig,
    metadata: &'a BTreeMap<String, String>,
}

impl Reading<'_> {
    /// The additions to the projections of a module.
    fn additions(
        &self,
        module: &str,
        projections: &[(WeightName, RowsOf)],
        pair: &Pair<'_>,
    ) -> Result<Vec<LowRankValues>, ModelError> {
        let missing = |part: &str| ModelError::MissingTensor {
            file: self.path.to_owned(),
            tensor: format!("{PREFIX}{module}.{part}.weight"),
        };
        let down = pair.down.ok_or_else(|| missing("lora_A"))?;
        let up = pair.up.ok_or_else(|| missing("lora_B"))?;
        let rank = self.settings.rank_of(module);
        let Some((first, RowsOf { all: outputs, .. })) = projections.first() else { return Ok(Vec::new()) };
        let [_, inputs] = outputs_and_inputs(*first, self.config);
        let product = WholeProduct {
            rank,
            down: tensor_values(self.path, self.bytes, down, &[rank, inputs])?,
            up: tensor_values(self.path, self.bytes, up, &[*outputs, rank])?,
            scale: self.settings.scale_of(module),
        };
        let heights = self.metadata.get(module).and_then(|heights| read_heights(heights));
        Ok(product.split(projections, heights))
    }
}

/// The elements of a tensor of the file at `path`, which must have this shape.
pub(super) fn tensor_values(
    path: &Path,
    bytes: &[u8],
    tensor: &TensorRecord,
    expected: &[usize],
) -> Result<Vec<f32>, ModelError> {
    if tensor.shape != expected {
        return Err(ModelError::AdapterShape {
            file: path.to_owned(),
            tensor: quoted(&tensor.name),
            expected: expected.to_vec(),
            found: tensor.shape.clone(),
        });
    }
    let Some(dtype) = tensor.element_type.dtype else {
        let problem =
            format!("type {} is not supported; supported are F32, F16 and BF16", tensor.element_type.name);
        let error = FormatError::new(quoted_tensor(&tensor.name), problem);
        return Err(ModelError::Format { file: path.to_owned(), error });
    };
    let mut values = vec![0.0; expected.iter().product()];
    dequantise(dtype, &bytes[tensor.data.clone()], &mut values).map_err(|error| ModelError::Weight {
        file: path.to_owned(),
        tensor: quoted(&tensor.name),
        error,
    })?;
    Ok(values)
}

/// The folder that `path` is, or that the file at `path` lies in.
fn folder_of(path: &Path) -> Result<PathBuf, ModelError> {
    let metadata = std::fs::metadata(path).map_err(|source| ModelError::Io {
        path: path.to_owned(),
        action: "open",
        source,
    })?;
    if metadata.is_dir() {
        return Ok(path.to_owned());
    }
    let is_one_of_its_files = path.file_name().is_some_and(|name| name == SETTINGS || name == TENSORS);
    match path.parent() {
        Some(folder) if is_one_of_its_files => Ok(folder.to_owned()),
        _ => Err(ModelError::NotAnAdapter {
            path: path.to_owned(),
            reason: format!("give a folder that holds {SETTINGS} and {TENSORS}, or one of these files"),
        }),
    }
}

/// The module that a tensor belongs to, its projections, and whether it is B.
fn read_name<'a>(
    name: &'a str,
    config: &ModelConfig,
    purpose: Purpose,
) -> Result<(&'a str, Projections, bool), FormatError> {
    let fault = |problem: &str| FormatError::new(quoted_tensor(name), problem);
    let unknown =
        || fault("it is neither lora_A nor lora_B of a projection: base_model.model.MODULE.lora_A.weight");
    let served_only = |problem: &str| fault(&format!("{problem}{}", purpose.instead_of_training()));
    let problem = match PeftName::parse(name) {
        Some(PeftName::Added { module, part }) => match part {
            AddedPart::Down => return Ok((module, projections_of(name, module, config, purpose)?, false)),
            AddedPart::Up => return Ok((module, projections_of(name, module, config, purpose)?, true)),
            AddedPart::UpBias => {
                let problem = "biases of the low-rank products are not supported";
                return Err(fault(&format!("{problem}{}", purpose.instead_of_biases())));
            }
            AddedPart::Magnitude => {
                let problem = "weights decomposed into magnitude and direction (DoRA) are not supported";
                return Err(served_only(problem));
            }
            AddedPart::EmbeddingDown | AddedPart::EmbeddingUp => ADAPTED_EMBEDDING,
            AddedPart::Tokens => "trained token embeddings are not supported",
        },
        Some(PeftName::Whole { is_saved: true, .. }) => WHOLE_MODULES,
        // `peft` saves the weights of an adapted head or embedding too, as `lm_head.base_layer.weight`.
        Some(PeftName::Whole { weight, .. }) => match weight_called(&weight, config) {
            Some(WeightName::Head) => ADAPTED_HEAD,
            Some(WeightName::Embedding) => ADAPTED_EMBEDDING,
            Some(_) if weight.ends_with(".bias") => {
                return Err(served_only("adapted biases are not supported"));
            }
            Some(_) => WHOLE_MODULES,
            None => return Err(unknown()),
        },
        Some(PeftName::Unknown(_)) | None => return Err(unknown()),
    };
    Err(fault(&format!("{problem}{}", purpose.instead())))
}

/// The projections of `module`, of which the tensor `name` is A or B.
fn projections_of(
    name: &str,
    module: &str,
    config: &ModelConfig,
    purpose: Purpose,
) -> Result<Projections, FormatError> {
    let instead = purpose.instead();
    let weight = format!("{module}.weight");
    let problem = match weight_called(&weight, config) {
        Some(WeightName::Layer(layer, projection))
            if layer < config.layers
                && place(projection).is_some()
                && config.has_layer_weight(layer, projection) =>
        {
            let fused = fused_weights(&weight, config);
            if !fused.is_empty() {
                return Ok(fused);
            }
            let rows = config.shape(WeightName::Layer(layer, projection))[0];
            let all_rows = RowsOf { first: 0, rows, all: rows };
            return Ok(vec![(WeightName::Layer(layer, projection), all_rows)]);
        }
        Some(WeightName::Head) => format!("{ADAPTED_HEAD}{instead}"),
        Some(WeightName::Embedding) => format!("{ADAPTED_EMBEDDING}{instead}"),
        _ => format!(
            "this {} model of {} layers has no projection {}",
            config.architecture,
            config.layers,
            quoted(module)
        ),
    };
    Err(FormatError::new(quoted_tensor(name), problem))
}

pub(super) fn quoted_tensor(name: &str) -> String {
    format!("tensor {}", quoted(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_config;

    /// Merging was the advice for adapters that exporting refuses.
    #[test]
    fn tensors_are_to_be_merged_instead_only_where_the_model_writes_text() {
        let config = tiny_config();
        for name in [
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        ] {
            let error = |purpose| read_name(name, &config, purpose).unwrap_err().to_string();
            let (of_text, of_scores) = (error(Purpose::Text), error(Purpose::Scores));
            assert!(of_text.contains("merges it into the weights"), "{of_text}");
            assert!(of_scores.contains("not supported") && !of_scores.contains("merges"), "{of_scores}");
        }
    }
}
