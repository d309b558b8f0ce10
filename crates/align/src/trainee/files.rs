//! A trainee's files: what a checkpoint holds of it, and back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use zhenjin_model::write::{
    NewTensor, WrittenFile, config_json, reward_config_json, write_reward_safetensors, write_safetensors,
    write_tensors,
};
use zhenjin_model::{
    AdapterValues, ModelConfig, ModelFile, SCORE_TENSOR, ScoreHead, ScorePlace, Weight, Weights,
    WrittenAdapter,
};
use zhenjin_tensor::Dtype;
use zhenjin_train::checkpoint::{
    CheckpointError, FileSum, FileSums, OPTIMISER_FILE, OptimiserFile, WEIGHTS_FILE, write_file,
    write_optimiser,
};
use zhenjin_train::optimiser::StateTensor;

use super::Trainee;
use crate::error::AlignError;

/// A head for values in a file of its own: one tensor `score.weight`, `[1, hidden_size]`, in f32. A critic's is, and so was a reward model's before
/// it stood beside the weights as the `transformers` and `peft` libraries have it.
const VALUES_FILE: &str = "score.safetensors";
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
        // A reward model is a model of its own; a critic is a part of its run.
        let score = self.values.as_deref().filter(|_| prefix.is_empty());
        if let Some(values) = &self.values
            && score.is_none()
        {
            files.insert(named(VALUES_FILE), sum(write_values(&path(VALUES_FILE), values)?));
        }
        let config = &self.model.config;
        match &self.adapter {
            Some(adapter) => {
                let values = adapter.values(config)?;
                let (tensors, base) = (path(WrittenAdapter::TENSORS), &self.options.base_name);
                let (written, settings) = match score {
                    Some(score) => (
                        values.write_reward_model(&tensors, config, score)?,
                        values.reward_settings_json(base),
                    ),
                    None => (values.write_matrices(&tensors, config)?, values.settings_json(base)),
                };
                files.insert(named(WrittenAdapter::TENSORS), sum(written));
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
                let (weights, file) = (&self.model.weights, path(WEIGHTS_FILE));
                let (written, json) = match score {
                    Some(score) => (
                        write_reward_safetensors(&file, config, weights, score)?,
                        reward_config_json(config, self.options.padding_token),
                    ),
                    None => {
                        (write_safetensors(&file, config, weights, &BTreeMap::new())?, config_json(config))
                    }
                };
                files.insert(named(WEIGHTS_FILE), sum(written));
                let config = json.map_err(|error| CheckpointError::Damaged {
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
        if self.values.is_some() && prefix.is_empty() {
            self.load_reward_model(folder)?;
        } else {
            if let Some(values) = &mut self.values {
                let read = read_values(&path(VALUES_FILE), values.len())?;
                values.copy_from_slice(&read);
            }
            self.load_weights(folder, prefix)?;
        }
        let arrays = OptimiserFile::open(&path(OPTIMISER_FILE))?;
        self.optimiser
            .restore(updates, |name| arrays.array(name))
            .map_err(|error| AlignError::State { checkpoint: folder.to_owned(), error })
    }

    fn load_reward_model(&mut self, folder: &Path) -> Result<(), AlignError> {
        let RewardFiles { weights, head } = RewardFiles::open(folder, &self.model.config)?;
        match weights {
            RewardWeights::Adapter(values) => self.adapter = Some(Arc::new(self.packed(&values)?)),
            RewardWeights::Whole(file) => self.load_whole(&file)?,
        }
        self.values.iter_mut().for_each(|values| values.copy_from_slice(&head.weight));
        Ok(())
    }

    fn load_whole(&mut self, file: &ModelFile) -> Result<(), AlignError> {
        let mut weights = Weights::load(file.config(), file, &self.options.load)?;
        // The file's rows are in the order of Hugging Face, whatever the model's own order is.
        if file.config().rope.layout != self.model.config.rope.layout {
            weights.interleave(&self.model.config)?;
        }
        Arc::get_mut(&mut self.model).ok_or(AlignError::WeightsInUse)?.weights = weights;
        Ok(())
    }

    fn load_weights(&mut self, folder: &Path, prefix: &str) -> Result<(), AlignError> {
        let path = |name: &str| folder.join(format!("{prefix}{name}"));
        if self.adapter.is_some() {
            let config = &self.model.config;
            let values =
                AdapterValues::read(&path(WrittenAdapter::SETTINGS), &path(WrittenAdapter::TENSORS), config)?;
            self.adapter = Some(Arc::new(self.packed(&values)?));
            Ok(())
        } else if !prefix.is_empty() {
            self.load_packed(&path(PACKED_FILE))
        } else {
            self.load_whole(&ModelFile::open(folder)?)
        }
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
    let tensor = NewTensor { name: SCORE_TENSOR.to_owned(), dtype: Dtype::F32, shape: vec![1, values.len()] };
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(write_tensors(path, &[tensor], &metadata, &mut |_, out| out.write(&bytes))?)
}

/// A reward model's files: those of the `transformers` or the `peft` library, or a checkpoint of an earlier version.
#[derive(Debug)]
pub struct RewardFiles {
    /// What it computes with below its head.
    pub weights: RewardWeights,
    /// The head, as wide as the weights.
    pub head: ScoreHead,
}

/// What a reward model computes with below its head.
#[derive(Debug)]
pub enum RewardWeights {
    /// An adapter to another model's weights.
    Adapter(AdapterValues),
    /// Weights of its own, in a file with their configuration.
    Whole(Box<ModelFile>),
}

impl RewardFiles {
    /// Opens a reward model's folder. An adapter must be one to a model of shape `base`.
    ///
    /// # Errors
    /// [`AlignError::Input`] when the folder is none; [`AlignError::Model`] for a file that cannot be read, does not fit, has no head or one with
    /// several scores.
    pub fn open(folder: &Path, base: &ModelConfig) -> Result<RewardFiles, AlignError> {
        let has_adapter = folder.join(WrittenAdapter::SETTINGS).is_file();
        if !has_adapter && !folder.join(CONFIG_FILE).is_file() {
            return Err(AlignError::Input(format!(
                "{} is no reward model: give a checkpoint of a reward model, a folder of a …ForSequenceClassification model with one label \
                 ({CONFIG_FILE} and {WEIGHTS_FILE}), or an adapter of the task type SEQ_CLS ({} and {})",
                folder.display(),
                WrittenAdapter::SETTINGS,
                WrittenAdapter::TENSORS,
            )));
        }
        let old_head = folder.join(VALUES_FILE);
        if old_head.is_file() {
            let weights = match has_adapter {
                true => RewardWeights::Adapter(AdapterValues::open(folder, base)?),
                false => RewardWeights::Whole(Box::new(ModelFile::open(folder)?)),
            };
            let width = match &weights {
                RewardWeights::Adapter(_) => base.hidden_size,
                RewardWeights::Whole(file) => file.config().hidden_size,
            };
            let weight = read_values(&old_head, width)?;
            let head = ScoreHead { weight, padding: None, place: ScorePlace::EndOfTurn };
            return Ok(RewardFiles { weights, head });
        }
        Ok(match has_adapter {
            true => {
                let (values, head) = AdapterValues::open_reward_model(folder, base)?;
                RewardFiles { weights: RewardWeights::Adapter(values), head }
            }
            false => {
                let (file, head) = ModelFile::open_reward_model(folder)?;
                RewardFiles { weights: RewardWeights::Whole(Box::new(file)), head }
            }
        })
    }
}

/// Reads a head for values of a file of its own.
fn read_values(path: &Path, width: usize) -> Result<Vec<f32>, AlignError> {
    let not_one = |problem: &str| AlignError::Input(format!("{} {problem}", path.display()));
    let mapping = zhenjin_files::Mapping::open(path).map_err(CheckpointError::from)?;
    let bytes: &[u8] = mapping.as_ref();
    let header = zhenjin_model::safetensors::parse_header(bytes)
        .map_err(|error| not_one(&format!("is not a safetensors file: {error}")))?;
    let record = header
        .tensor(SCORE_TENSOR)
        .filter(|record| record.element_type.dtype == Some(Dtype::F32))
        .ok_or_else(|| not_one(&format!("has no tensor `{SCORE_TENSOR}` in F32")))?;
    let data = bytes.get(record.data.clone()).unwrap_or_default();
    let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if values.len() != width {
        let problem = format!("has {} numbers, but the model's hidden size is {width}", values.len());
        return Err(not_one(&problem));
    }
    Ok(values)
}

fn sum(written: WrittenFile) -> FileSum {
    FileSum {
        bytes: written.bytes,
        sha256: written.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
