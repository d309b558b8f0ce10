//! A trainee's files: what a checkpoint holds of it, and back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use zhenjin_model::write::{NewTensor, WrittenFile, config_json, write_safetensors, write_tensors};
use zhenjin_model::{AdapterValues, ModelFile, Weight, Weights, WrittenAdapter};
use zhenjin_tensor::Dtype;
use zhenjin_train::checkpoint::{
    CheckpointError, FileSum, FileSums, OPTIMISER_FILE, OptimiserFile, WEIGHTS_FILE, write_file,
    write_optimiser,
};
use zhenjin_train::optimiser::StateTensor;

use super::{Trainee, VALUES_TENSOR};
use crate::error::AlignError;

/// The file of a head for values: one tensor `score.weight`, `[1, hidden_size]`, in f32.
pub const VALUES_FILE: &str = "score.safetensors";
const CONFIG_FILE: &str = "config.json";
/// Whole weights that are not a model of their own: flat arrays in packed order.
const PACKED_FILE: &str = "weights.safetensors";

impl Trainee {
    /// Writes what it needs to go on.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn write(&self, folder: &Path) -> Result<FileSums, CheckpointError> {
        self.write_as(folder, "")
    }

    /// As [`Trainee::write`], with `prefix` before the name of every file.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn write_as(&self, folder: &Path, prefix: &str) -> Result<FileSums, CheckpointError> {
        let mut files = FileSums::new();
        let named = |name: &str| format!("{prefix}{name}");
        let path = |name: &str| folder.join(named(name));
        let state: Vec<_> = self.optimiser.state().collect();
        files.insert(named(OPTIMISER_FILE), sum(write_optimiser(&path(OPTIMISER_FILE), &state)?));
        if let Some(values) = &self.values {
            files.insert(named(VALUES_FILE), sum(write_values(&path(VALUES_FILE), values)?));
        }
        match &self.adapter {
            Some(adapter) => {
                let values = adapter.values(&self.model.config)?;
                let written = values.write_matrices(&path(WrittenAdapter::TENSORS), &self.model.config)?;
                files.insert(named(WrittenAdapter::TENSORS), sum(written));
                let settings = values.settings_json(&self.options.base_name);
                let name = named(WrittenAdapter::SETTINGS);
                files.insert(name.clone(), write_file(folder, &name, settings.as_bytes())?);
            }
            None if !prefix.is_empty() => {
                let descriptions = self.optimiser.descriptions();
                let mut state = Vec::new();
                for ((_, weight), description) in self.model.weights.parameters().zip(descriptions) {
                    let values = match weight {
                        Weight::Matrix(matrix) => {
                            matrix.f32_packed().map_err(zhenjin_model::ModelError::from)?
                        }
                        Weight::Vector(vector) => vector,
                    };
                    state.push(StateTensor {
                        name: description.name.clone(),
                        elements: 0..values.len(),
                        values,
                    });
                }
                files.insert(named(PACKED_FILE), sum(write_optimiser(&path(PACKED_FILE), &state)?));
            }
            None => {
                let written = write_safetensors(
                    &path(WEIGHTS_FILE),
                    &self.model.config,
                    &self.model.weights,
                    &BTreeMap::new(),
                )?;
                files.insert(named(WEIGHTS_FILE), sum(written));
                let config = config_json(&self.model.config).map_err(|error| CheckpointError::Damaged {
                    path: path(CONFIG_FILE),
                    problem: error.to_string(),
                })?;
                let name = named(CONFIG_FILE);
                files.insert(name.clone(), write_file(folder, &name, format!("{config:#}\n").as_bytes())?);
                for (name, contents) in &self.options.companions {
                    files.insert(name.clone(), write_file(folder, name, contents)?);
                }
            }
        }
        Ok(files)
    }

    /// Takes over what was written after `updates` updates.
    ///
    /// # Errors
    /// [`AlignError`] when a file cannot be read or does not fit.
    pub fn load(&mut self, folder: &Path, updates: u64) -> Result<(), AlignError> {
        self.load_as(folder, "", updates)
    }

    /// As [`Trainee::load`], with `prefix` before the name of every file.
    ///
    /// # Errors
    /// [`AlignError`].
    pub fn load_as(&mut self, folder: &Path, prefix: &str, updates: u64) -> Result<(), AlignError> {
        let path = |name: &str| folder.join(format!("{prefix}{name}"));
        if let Some(values) = &mut self.values {
            let read = read_values(&path(VALUES_FILE))?;
            if read.len() != values.len() {
                return Err(AlignError::Input(format!(
                    "{} has {} numbers instead of {}",
                    path(VALUES_FILE).display(),
                    read.len(),
                    values.len()
                )));
            }
            values.copy_from_slice(&read);
        }
        if self.adapter.is_some() {
            let config = &self.model.config;
            let values =
                AdapterValues::read(&path(WrittenAdapter::SETTINGS), &path(WrittenAdapter::TENSORS), config)?;
            self.adapter = Some(Arc::new(self.packed(&values)?));
        } else if !prefix.is_empty() {
            self.load_packed(&path(PACKED_FILE))?;
        } else {
            let file = ModelFile::open(folder)?;
            let mut weights = Weights::load(file.config(), &file, &self.options.load)?;
            // The file's rows are in the order of Hugging Face, whatever the model's own order is.
            if file.config().rope.layout != self.model.config.rope.layout {
                weights.interleave(&self.model.config)?;
            }
            Arc::get_mut(&mut self.model).ok_or(AlignError::WeightsInUse)?.weights = weights;
        }
        let arrays = OptimiserFile::open(&path(OPTIMISER_FILE))?;
        self.optimiser
            .restore(updates, |name| arrays.array(name))
            .map_err(|error| AlignError::State { checkpoint: folder.to_owned(), error })
    }

    /// Takes over whole weights from flat arrays in packed order.
    fn load_packed(&mut self, path: &Path) -> Result<(), AlignError> {
        let arrays = OptimiserFile::open(path)?;
        let names: Vec<String> =
            self.optimiser.descriptions().iter().map(|description| description.name.clone()).collect();
        let model = Arc::get_mut(&mut self.model).ok_or(AlignError::WeightsInUse)?;
        for ((_, weight), name) in model.weights.parameters_mut().zip(names) {
            let values = match weight {
                Weight::Matrix(matrix) => matrix.f32_packed_mut()?,
                Weight::Vector(vector) => &mut vector[..],
            };
            let read = arrays.array(&name).filter(|read| read.len() == values.len());
            let Some(read) = read else {
                let problem = format!("{} has no `{name}` of {} numbers", path.display(), values.len());
                return Err(AlignError::Input(problem));
            };
            values.copy_from_slice(&read);
        }
        Ok(())
    }
}

fn write_values(path: &Path, values: &[f32]) -> Result<WrittenFile, CheckpointError> {
    let tensor =
        NewTensor { name: VALUES_TENSOR.to_owned(), dtype: Dtype::F32, shape: vec![1, values.len()] };
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(write_tensors(path, &[tensor], &metadata, &mut |_, out| out.write(&bytes))?)
}

/// Reads a head for values.
///
/// # Errors
/// [`AlignError::Input`] when the file is not one.
pub fn read_values(path: &Path) -> Result<Vec<f32>, AlignError> {
    let not_one = |problem: &str| AlignError::Input(format!("{} {problem}", path.display()));
    let mapping = zhenjin_files::Mapping::open(path).map_err(CheckpointError::from)?;
    let bytes: &[u8] = mapping.as_ref();
    let header = zhenjin_model::safetensors::parse_header(bytes)
        .map_err(|error| not_one(&format!("is not a safetensors file: {error}")))?;
    let record = header
        .tensor(VALUES_TENSOR)
        .filter(|record| record.element_type.dtype == Some(Dtype::F32))
        .ok_or_else(|| not_one(&format!("has no tensor `{VALUES_TENSOR}` in F32")))?;
    let data = bytes.get(record.data.clone()).unwrap_or_default();
    Ok(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn sum(written: WrittenFile) -> FileSum {
    FileSum {
        bytes: written.bytes,
        sha256: written.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
