//! Safetensors files: a 64-bit length, a JSON object of tensors, then their data without gaps.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use zhenjin_tensor::Dtype;

use super::hashed_file::{HashedFile, WrittenFile};
use super::rows::{Spelling, WeightRows, check, tensors_of, write_weight};
use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::names::Naming;
use crate::score_head::{SCORE_TENSOR, ScoreHead};

/// The data begins on a multiple of this, so that mapped elements are aligned.
const ALIGNMENT: usize = 8;

/// A tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTensor {
    /// Its name in the file.
    pub name: String,
    /// F32, F16 or BF16: the format knows no blocks.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

/// Writes a model's weights in f32 under their Hugging Face names, bit by bit, atomically; norms that the family's folders hold less 1 are
/// rounded to f32 where 1 is taken away from them. `metadata` comes into the header beside `format: pt`, which `transformers` asks for.
///
/// # Errors
/// [`ModelError::Io`] when the disk refuses, [`ModelError::MissingTensor`] and [`ModelError::TensorShape`] when the weights
/// are not those of `config`.
pub fn write_safetensors(
    file: &Path,
    config: &ModelConfig,
    weights: &dyn WeightRows,
    metadata: &BTreeMap<String, String>,
) -> Result<WrittenFile, ModelError> {
    write_safetensors_as(file, config, weights, Dtype::F32, metadata)
}

/// As [`write_safetensors`], with matrices rounded to `dtype` (F32, F16 or BF16). Vectors are rounded too, so that all
/// of a model has the type that its configuration names.
///
/// # Errors
/// As [`write_safetensors`], and [`ModelError::Unwritable`] for another type.
pub fn write_safetensors_as(
    file: &Path,
    config: &ModelConfig,
    weights: &dyn WeightRows,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<WrittenFile, ModelError> {
    write_with(file, config, weights, dtype, metadata, None)
}

/// As [`write_safetensors`], of a reward model: without a head for tokens, and with `score`, `[hidden_size]`, whose score is at the token that ends
/// a turn.
///
/// # Errors
/// As [`write_safetensors`].
pub fn write_reward_safetensors(
    file: &Path,
    config: &ModelConfig,
    weights: &dyn WeightRows,
    score: &[f32],
) -> Result<WrittenFile, ModelError> {
    let config = ModelConfig { tied_embeddings: true, ..config.clone() };
    write_with(file, &config, weights, Dtype::F32, &ScoreHead::metadata(), Some(score))
}

fn write_with(
    file: &Path,
    config: &ModelConfig,
    weights: &dyn WeightRows,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
    score: Option<&[f32]>,
) -> Result<WrittenFile, ModelError> {
    check(config, weights)?;
    let parts = tensors_of(config, Naming::of_folder(config));
    let spelling = Spelling::of_folder(config);
    let mut tensors: Vec<NewTensor> = Vec::with_capacity(parts.len() + 1);
    for (name, weights) in &parts {
        let mut shapes = weights.iter().map(|weight| config.shape(*weight));
        let mut shape = shapes.next().unwrap_or_default();
        if let Some(rows) = shape.first_mut() {
            *rows += shapes.map(|other| other[0]).sum::<usize>();
        }
        tensors.push(NewTensor { name: name.clone(), dtype, shape });
    }
    if let Some(score) = score {
        tensors.push(NewTensor {
            name: SCORE_TENSOR.to_owned(),
            dtype: Dtype::F32,
            shape: vec![1, score.len()],
        });
    }
    let mut metadata = metadata.clone();
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    write_tensors(file, &tensors, &metadata, &mut |index, out| {
        let Some((_, names)) = parts.get(index) else {
            let bytes: Vec<u8> = score.into_iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
            return out.write(&bytes);
        };
        names.iter().try_for_each(|name| write_weight(out, config, weights, *name, spelling, dtype))
    })
}

/// Writes any tensors atomically: `fill` is called once for each of them, in their order, and writes its elements
/// (little-endian, row-major).
///
/// # Errors
/// What `fill` reports, [`ModelError::Io`], and [`ModelError::Unwritable`] for a type that the format does not know or a
/// tensor that was not filled as its shape says.
pub fn write_tensors(
    file: &Path,
    tensors: &[NewTensor],
    metadata: &BTreeMap<String, String>,
    fill: &mut dyn FnMut(usize, &mut HashedFile) -> Result<(), ModelError>,
) -> Result<WrittenFile, ModelError> {
    let unwritable = |reason| ModelError::Unwritable { file: file.to_owned(), reason };
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut ends = Vec::with_capacity(tensors.len());
    let mut end = 0_usize;
    for NewTensor { name, dtype, shape } in tensors {
        if dtype.is_quantised() {
            return Err(unwritable(format!("safetensors files have no type {dtype}; tensor `{name}`")));
        }
        let bytes = shape.iter().try_fold(dtype.block_bytes(), |bytes, size| bytes.checked_mul(*size));
        let next = bytes.and_then(|bytes| end.checked_add(bytes));
        let next = next.ok_or_else(|| {
            unwritable(format!("tensor `{name}` is too large: {}", crate::errors::shape(shape)))
        })?;
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [end, next] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(unwritable(format!("two tensors are called `{name}`")));
        }
        end = next;
        ends.push(end as u64);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    let mut out = HashedFile::create(file)?;
    out.write(&(text.len() as u64).to_le_bytes())?;
    out.write(&text)?;
    let start = out.length();
    for (index, (tensor, end)) in tensors.iter().zip(ends).enumerate() {
        fill(index, &mut out)?;
        let found = out.length() - start;
        if found != end {
            let reason =
                format!("tensor `{}` should end at byte {end} of the data, not {found}", tensor.name);
            return Err(unwritable(reason));
        }
    }
    out.finish()
}
