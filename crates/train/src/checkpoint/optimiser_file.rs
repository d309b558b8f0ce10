//! The optimiser's state as a safetensors file: an array for each parameter and moment, flat, in packed order.

use std::collections::BTreeMap;
use std::path::Path;

use zhenjin_files::Mapping;
use zhenjin_model::safetensors::{Header, parse_header};
use zhenjin_model::write::{NewTensor, WrittenFile, write_tensors};
use zhenjin_tensor::Dtype;

use super::CheckpointError;
use crate::optimiser::StateTensor;

/// Elements that are converted to bytes at once.
const CHUNK: usize = 1 << 16;

/// Writes whole arrays (each of all elements of its parameter).
///
/// # Errors
/// [`CheckpointError::Model`], when the disk is full for example.
pub fn write_optimiser(path: &Path, state: &[StateTensor<'_>]) -> Result<WrittenFile, CheckpointError> {
    let tensor = |tensor: &StateTensor<'_>| NewTensor {
        name: tensor.name.clone(),
        dtype: Dtype::F32,
        shape: vec![tensor.values.len()],
    };
    let tensors: Vec<NewTensor> = state.iter().map(tensor).collect();
    let mut bytes = Vec::new();
    let written = write_tensors(path, &tensors, &BTreeMap::new(), &mut |index, out| {
        for values in state[index].values.chunks(CHUNK) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write(&bytes)?;
        }
        Ok(())
    })?;
    Ok(written)
}

/// An optimiser's state, mapped into memory.
#[derive(Debug)]
pub struct OptimiserFile {
    mapping: Mapping,
    header: Header,
}

impl OptimiserFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`CheckpointError::Model`] when it cannot be opened, [`CheckpointError::Damaged`].
    pub fn open(path: &Path) -> Result<OptimiserFile, CheckpointError> {
        let mapping = Mapping::open(path)?;
        let header =
            parse_optimiser(mapping.as_ref()).map_err(|problem| CheckpointError::damaged(path, problem))?;
        Ok(OptimiserFile { mapping, header })
    }

    /// The array of that name, if there is one.
    pub fn array(&self, name: &str) -> Option<Vec<f32>> {
        let record = self.header.tensor(name)?;
        let bytes = self.mapping.as_ref().get(record.data.clone())?;
        Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// Checks the header of a file: flat arrays of f32 only.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn parse_optimiser(bytes: &[u8]) -> Result<Header, String> {
    let header = parse_header(bytes).map_err(|error| error.to_string())?;
    let strange = |record: &&zhenjin_model::safetensors::TensorRecord| {
        record.element_type.dtype != Some(Dtype::F32) || record.shape.len() != 1
    };
    match header.tensors().iter().find(strange) {
        Some(record) => Err(format!("`{}` is not a flat array of f32", record.name)),
        None => Ok(header),
    }
}
