//! An encoder on disk: a Hugging Face folder, its configuration and tensors checked against each other when it is opened.

use std::path::Path;

use zhenjin_files::Mapping;

use super::config::{EncoderConfig, from_json, is_encoder};
use crate::errors::{FormatError, ModelError, quoted};
use crate::file::{FileTensor, FolderWeights, HuggingFaceFiles, fault};
use crate::tensor_source::TensorView;

/// An opened encoder.
#[derive(Debug)]
pub struct EncoderFile {
    files: HuggingFaceFiles,
    weights: FolderWeights,
    config: EncoderConfig,
    /// What stands before every tensor's name.
    prefix: &'static str,
    unread_settings: Vec<String>,
    unused_tensors: Vec<String>,
}

impl EncoderFile {
    /// Whether a path is a folder whose configuration is that of an encoder. False where nothing can be read: what opens it as a model then
    /// says why.
    pub fn is_at(path: &Path) -> bool {
        let config = HuggingFaceFiles::in_folder(path).config;
        config.is_file() && Mapping::open(&config).is_ok_and(|text| is_encoder(text.as_ref()))
    }

    /// Opens a folder with `config.json` and safetensors. Every tensor that the configuration implies must be there with the right shape and
    /// a supported type, and no layer may have others.
    ///
    /// # Errors
    /// [`ModelError`] naming the file and the place in it.
    pub fn open(folder: &Path) -> Result<EncoderFile, ModelError> {
        let files = HuggingFaceFiles::in_folder(folder);
        let text = Mapping::open(&files.config)?;
        let reading = from_json(text.as_ref()).map_err(|error| fault(&files.config, error))?;
        let weights = FolderWeights::open(folder)?;
        let has_head = weights.tensors().any(|tensor| tensor.name.starts_with(reading.config.family.prefix));
        let prefix = if has_head { reading.config.family.prefix } else { "" };
        let mut file = EncoderFile {
            files,
            weights,
            config: reading.config,
            prefix,
            unread_settings: reading.unread,
            unused_tensors: Vec::new(),
        };
        file.unused_tensors = file.check()?;
        Ok(file)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.files.folder
    }

    /// Where the folder's other files lie.
    pub fn files(&self) -> &HuggingFaceFiles {
        &self.files
    }

    /// Shape and switches.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Settings that were not read, quoted for display.
    pub fn unread_settings(&self) -> &[String] {
        &self.unread_settings
    }

    /// Tensors that embeddings do not need, such as heads, quoted for display.
    pub fn unused_tensors(&self) -> &[String] {
        &self.unused_tensors
    }

    /// Every tensor of every file, in the files' order.
    pub fn tensors(&self) -> impl Iterator<Item = FileTensor<'_>> {
        self.weights.tensors()
    }

    /// Bytes of the weights that are loaded.
    pub fn weight_bytes(&self) -> u64 {
        let bytes = |(name, _): (String, Vec<usize>)| self.find(&name).map_or(0, |tensor| tensor.bytes.len());
        self.config.weights().into_iter().map(bytes).sum::<usize>() as u64
    }

    /// Number of weights that are loaded.
    pub fn parameters(&self) -> u64 {
        self.config.weights().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// The tensor that has this name in files without a head.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], [`ModelError::Format`] for an unsupported type.
    pub(super) fn tensor(&self, name: &str) -> Result<TensorView<'_>, ModelError> {
        let Some(tensor) = self.find(name) else {
            let tensor = format!("{}{name}", self.prefix);
            return Err(ModelError::MissingTensor { file: self.path().to_owned(), tensor });
        };
        let dtype = tensor.dtype.ok_or_else(|| {
            let problem = format!(
                "type {} is not supported for a weight; supported are F32, F16 and BF16",
                tensor.type_name
            );
            fault(tensor.file, FormatError::new(format!("tensor {}", quoted(tensor.name)), problem))
        })?;
        Ok(TensorView {
            name: tensor.name.to_owned(),
            dtype,
            shape: tensor.shape.to_vec(),
            bytes: tensor.bytes,
        })
    }

    /// Gives the memory-mapped pages of a tensor back, which has been read for the last time.
    pub(super) fn release(&self, name: &str) {
        if let Some(tensor) = self.find(name) {
            self.weights.release(&tensor);
        }
    }

    /// Old files call the parameters of LayerNorm gamma and beta.
    fn find(&self, name: &str) -> Option<FileTensor<'_>> {
        let name = format!("{}{name}", self.prefix);
        self.weights.find(&name).or_else(|| self.weights.find(&old_name(&name)?))
    }

    fn check(&self) -> Result<Vec<String>, ModelError> {
        let mut expected: Vec<String> = Vec::new();
        for (name, shape) in self.config.weights() {
            let view = self.tensor(&name)?;
            if view.shape != shape {
                let file = self.find(&name).map_or(self.path(), |tensor| tensor.file);
                return Err(ModelError::TensorShape {
                    file: file.to_owned(),
                    tensor: view.name,
                    expected: shape,
                    found: view.shape,
                });
            }
            expected.push(view.name);
        }
        expected.sort();
        let layers = format!("{}encoder.", self.prefix);
        let mut unused = Vec::new();
        for tensor in self.weights.tensors() {
            if expected.binary_search_by(|name| name.as_str().cmp(tensor.name)).is_ok() {
                continue;
            }
            if tensor.name.starts_with(&layers) {
                let problem = format!(
                    "the configuration says that this {} model of {} layers has no such weight",
                    self.config.family.model_type, self.config.layers
                );
                let place = format!("tensor {}", quoted(tensor.name));
                return Err(fault(tensor.file, FormatError::new(place, problem)));
            }
            unused.push(quoted(tensor.name));
        }
        Ok(unused)
    }
}

fn old_name(name: &str) -> Option<String> {
    let stem = |end: &str| name.strip_suffix(end).filter(|stem| stem.ends_with("LayerNorm"));
    let weight = stem(".weight").map(|stem| format!("{stem}.gamma"));
    weight.or_else(|| stem(".bias").map(|stem| format!("{stem}.beta")))
}
