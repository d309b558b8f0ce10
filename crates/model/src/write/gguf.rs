//! GGUF files, version 3: metadata, a directory of tensors, aligned data. Read by `crate::gguf` and by llama.cpp.

use std::path::Path;

use zhenjin_tensor::Dtype;

use super::gguf_settings::settings;
use super::hashed_file::{HashedFile, WrittenFile};
use super::metadata::{MetadataValue, put_string};
use super::quantisation::Quantisation;
use super::rows::{Spelling, WeightRows, check, tensors_of, write_weight};
use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::families::Family;
use crate::gguf::type_number;
use crate::names::Naming;
use crate::tensor_source::WeightName;

/// Every tensor's data begins on a multiple of this, the format's default.
const ALIGNMENT: u64 = 32;

/// A GGUF file that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenGguf {
    /// Length and hash.
    pub file: WrittenFile,
    /// How many tensors have which type, in the order of [`Dtype::ALL`].
    pub types: Vec<(Dtype, usize)>,
    /// Tensors that got another type than the mixture wants, because their rows are not whole blocks of it.
    pub fallbacks: Vec<Fallback>,
}

/// A tensor that could not have the type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Its name in the file.
    pub tensor: String,
    /// Elements of a row.
    pub columns: usize,
    /// The type that the mixture wants.
    pub wanted: Dtype,
    /// The type that it got.
    pub given: Dtype,
}

/// Writes a model as one GGUF file, atomically: the settings of `config`, then `metadata` (`general.name`, the tokenizer, the
/// chat template), then the weights in the types of `quantisation`. Rows of queries and keys come into the order that
/// the family's files have; norms that come less 1 get 1 added in f32.
///
/// # Errors
/// [`ModelError::Unwritable`] names what a GGUF file of this family cannot say, [`ModelError::Weight`] a tensor with values
/// that the type cannot hold; also what `weights` and the disk report.
pub fn write_gguf(
    file: &Path,
    config: &ModelConfig,
    weights: &dyn WeightRows,
    quantisation: Quantisation,
    metadata: &[(String, MetadataValue)],
) -> Result<WrittenGguf, ModelError> {
    let unwritable = |reason| ModelError::Unwritable { file: file.to_owned(), reason };
    check(config, weights)?;
    let family = Family::of_architecture(&config.architecture)
        .ok_or_else(|| unwritable(format!("no GGUF architecture is known for `{}`", config.architecture)))?;
    let (mut entries, rope_tensors) = settings(config, family).map_err(unwritable)?;
    entries.push(("general.file_type".to_owned(), MetadataValue::u32(quantisation.file_type())));
    entries.push(("general.quantization_version".to_owned(), MetadataValue::u32(2)));
    entries.extend(metadata.iter().cloned());

    let of_weights = tensors_of(config, Naming::Gguf).into_iter();
    let mut tensors: Vec<Tensor> = of_weights
        .filter_map(|(name, weights)| Tensor::of_weights(config, quantisation, name, weights))
        .collect();
    tensors.extend(rope_tensors.into_iter().map(|(name, numbers)| Tensor::of_numbers(name, numbers)));
    let spelling = Spelling { layout: family.gguf_rope_layout, norms_less_one: false };
    let mut out = HashedFile::create(file)?;
    out.write(&head(&entries, &tensors).map_err(unwritable)?)?;
    for tensor in &tensors {
        align(&mut out)?;
        match &tensor.contents {
            Contents::Weights(names) => {
                for name in names {
                    write_weight(&mut out, config, weights, *name, spelling, tensor.dtype)?;
                }
            }
            Contents::Numbers(numbers) => {
                for number in numbers {
                    out.write(&number.to_le_bytes())?;
                }
            }
        }
    }
    align(&mut out)?;
    let count = |dtype: Dtype| (dtype, tensors.iter().filter(|tensor| tensor.dtype == dtype).count());
    Ok(WrittenGguf {
        file: out.finish()?,
        types: Dtype::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect(),
        fallbacks: tensors.into_iter().filter_map(|tensor| tensor.fallback).collect(),
    })
}

/// A tensor of the file.
struct Tensor {
    name: String,
    dtype: Dtype,
    /// Outermost dimension first.
    shape: Vec<usize>,
    contents: Contents,
    fallback: Option<Fallback>,
}

enum Contents {
    Weights(Vec<WeightName>),
    /// In f32.
    Numbers(Vec<f32>),
}

impl Tensor {
    /// The tensor of these weights, all of one type; `None` for none.
    fn of_weights(
        config: &ModelConfig,
        quantisation: Quantisation,
        name: String,
        weights: Vec<WeightName>,
    ) -> Option<Tensor> {
        let first = *weights.first()?;
        let mut shape = config.shape(first);
        match (first, &config.experts) {
            (WeightName::Layer(_, weight), Some(experts)) if weight.expert().is_some() => {
                shape.insert(0, experts.count);
            }
            // The rows of fused projections lie one after the other.
            _ => shape[0] = weights.iter().map(|weight| config.shape(*weight)[0]).sum(),
        }
        let (wanted, given) = quantisation.dtype(config, first);
        let columns = shape.last().copied().unwrap_or(0);
        let fallback = (wanted != given).then(|| Fallback { tensor: name.clone(), columns, wanted, given });
        Some(Tensor { name, dtype: given, shape, contents: Contents::Weights(weights), fallback })
    }

    fn of_numbers(name: &str, numbers: Vec<f32>) -> Tensor {
        Tensor {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: vec![numbers.len()],
            contents: Contents::Numbers(numbers),
            fallback: None,
        }
    }

    fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
        self.dtype.bytes(elements).map(|bytes| bytes as u64)
    }
}

/// Everything before the data.
fn head(metadata: &[(String, MetadataValue)], tensors: &[Tensor]) -> Result<Vec<u8>, String> {
    let mut head = b"GGUF".to_vec();
    head.extend(3_u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (index, (key, value)) in metadata.iter().enumerate() {
        if metadata[..index].iter().any(|(other, _)| other == key) {
            return Err(format!("the metadata key `{key}` was given twice"));
        }
        put_string(&mut head, key);
        value.put(&mut head);
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        put_string(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            head.extend((*size as u64).to_le_bytes());
        }
        head.extend(type_number(tensor.dtype).to_le_bytes());
        head.extend(offset.to_le_bytes());
        let end =
            tensor.bytes().and_then(|bytes| offset.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT));
        offset = end.ok_or_else(|| {
            format!("tensor `{}` is too large: {}", tensor.name, crate::errors::shape(&tensor.shape))
        })?;
    }
    Ok(head)
}

fn align(out: &mut HashedFile) -> Result<(), ModelError> {
    let missing = out.length().next_multiple_of(ALIGNMENT) - out.length();
    out.write(&[0; ALIGNMENT as usize][..missing as usize])
}
