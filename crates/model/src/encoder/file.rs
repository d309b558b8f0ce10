//! An encoder on disk, a Hugging Face folder or a GGUF file, its configuration and tensors checked against each other when it is opened.

use std::io::Read;
use std::path::{Path, PathBuf};

use zhenjin_files::Mapping;

use super::config::{EncoderConfig, EncoderReading, MAX_WIDTH, from_json, is_encoder};
use super::gguf;
use super::pooling::EncoderPooling;
use crate::errors::{ModelError, quoted};
use crate::file::{FileTensor, HuggingFaceFiles, OtherWeights, Place, fault};
use crate::gguf::Gguf;
use crate::tensor_source::TensorView;

/// An opened encoder.
#[derive(Debug)]
pub struct EncoderFile {
    path: PathBuf,
    /// `None` for a GGUF file.
    files: Option<HuggingFaceFiles>,
    weights: OtherWeights,
    config: EncoderConfig,
    /// What stands before every tensor's name.
    prefix: &'static str,
    unread_settings: Vec<String>,
    unused_tensors: Vec<String>,
}

impl EncoderFile {
    /// The widest hidden state that is accepted.
    pub const MAX_WIDTH: usize = MAX_WIDTH;

    /// Whether a path is a folder or a GGUF file whose configuration is that of an encoder. False where nothing can be read: what opens it
    /// as a model then says why.
    pub fn is_at(path: &Path) -> bool {
        match Place::of(path) {
            Ok(Place::Gguf(file)) => architecture_of(&file).is_some_and(|name| name == gguf::ARCHITECTURE),
            Ok(Place::Folder) => {
                let config = HuggingFaceFiles::in_folder(path).config;
                Mapping::open(&config).is_ok_and(|text| is_encoder(text.as_ref()))
            }
            Err(_) => false,
        }
    }

    /// Opens a folder with `config.json` and safetensors, a GGUF file, or a folder with a single GGUF model in it. Every tensor that the
    /// configuration implies must be there with the right shape and a supported type, and no layer may have others.
    ///
    /// # Errors
    /// [`ModelError`] naming the file and the place in it.
    pub fn open(path: &Path) -> Result<EncoderFile, ModelError> {
        match Place::of(path)? {
            Place::Gguf(file) => EncoderFile::open_gguf(&file),
            Place::Folder => EncoderFile::open_folder(path),
        }
    }

    fn open_folder(folder: &Path) -> Result<EncoderFile, ModelError> {
        let files = HuggingFaceFiles::in_folder(folder);
        let text = Mapping::open(&files.config)?;
        let reading = from_json(text.as_ref()).map_err(|error| fault(&files.config, error))?;
        let weights = OtherWeights::in_folder(folder)?;
        let has_head = weights.tensors().any(|tensor| tensor.name.starts_with(reading.config.family.prefix));
        let prefix = if has_head { reading.config.family.prefix } else { "" };
        EncoderFile::checked(folder, Some(files), weights, prefix, reading)
    }

    fn open_gguf(path: &Path) -> Result<EncoderFile, ModelError> {
        let weights = OtherWeights::in_gguf(path)?;
        let not_an_encoder = || ModelError::NotAModel {
            path: path.to_owned(),
            reason: format!("it is not a GGUF file of the architecture `{}`", gguf::ARCHITECTURE),
        };
        let file = weights.gguf().filter(|file| gguf::is_encoder(file)).ok_or_else(not_an_encoder)?;
        let reading = gguf::read(file).map_err(|error| fault(path, error))?;
        EncoderFile::checked(path, None, weights, "", reading)
    }

    fn checked(
        path: &Path,
        files: Option<HuggingFaceFiles>,
        weights: OtherWeights,
        prefix: &'static str,
        reading: EncoderReading,
    ) -> Result<EncoderFile, ModelError> {
        let mut file = EncoderFile {
            path: path.to_owned(),
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

    /// The folder, or the GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the folder's other files lie; `None` for a GGUF file, which holds all itself.
    pub fn files(&self) -> Option<&HuggingFaceFiles> {
        self.files.as_ref()
    }

    /// The parsed GGUF file with its metadata; `None` for a folder.
    pub fn gguf(&self) -> Option<&Gguf<Mapping>> {
        self.weights.gguf()
    }

    /// How a GGUF file says that hidden states become one vector; `None` where it does not say, and for a folder.
    ///
    /// # Errors
    /// [`ModelError::Format`] for a way that makes no vector.
    pub fn pooling(&self) -> Result<Option<EncoderPooling>, ModelError> {
        let pooling = self.gguf().map(|file| gguf::pooling(file, gguf::ARCHITECTURE)).transpose();
        Ok(pooling.map_err(|error| fault(&self.path, error))?.flatten())
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
            return Err(ModelError::MissingTensor { file: self.path.clone(), tensor: self.spelled(name) });
        };
        let dtype = tensor.dtype.ok_or_else(|| {
            tensor.fault(format!(
                "type {} is not supported for a weight; supported are F32, F16 and BF16",
                tensor.type_name
            ))
        })?;
        Ok(TensorView {
            name: tensor.name.to_owned(),
            dtype,
            shape: self.full_shape(name, tensor.shape),
            bytes: tensor.bytes,
        })
    }

    /// The shape with the dimension that llama.cpp drops when it writes a table of a single row, as XLM-RoBERTa's token types are.
    fn full_shape(&self, name: &str, shape: &[usize]) -> Vec<usize> {
        match shape {
            [width] if self.files.is_none() && gguf::is_table(name) => vec![1, *width],
            shape => shape.to_vec(),
        }
    }

    /// Gives the memory-mapped pages of a tensor back, which has been read for the last time.
    pub(super) fn release(&self, name: &str) {
        if let Some(tensor) = self.find(name) {
            self.weights.release(&tensor);
        }
    }

    /// Old folders call the parameters of LayerNorm gamma and beta.
    fn find(&self, name: &str) -> Option<FileTensor<'_>> {
        let name = self.spelled(name);
        self.weights.find(&name).or_else(|| self.weights.find(&old_name(&name)?))
    }

    /// What the files call a tensor.
    fn spelled(&self, name: &str) -> String {
        match &self.files {
            Some(_) => format!("{}{name}", self.prefix),
            None => gguf::tensor_name(name).unwrap_or_else(|| name.to_owned()),
        }
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
        let layers =
            if self.files.is_some() { format!("{}encoder.", self.prefix) } else { "blk.".to_owned() };
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
                return Err(tensor.fault(problem));
            }
            unused.push(quoted(tensor.name));
        }
        Ok(unused)
    }
}

/// The architecture that a GGUF file names. It stands at the beginning of the file: nothing else of it is read.
pub(crate) fn architecture_of(path: &Path) -> Option<String> {
    const KEY: &[u8] = b"general.architecture";
    const STRING: [u8; 4] = 8u32.to_le_bytes();
    const BEGINNING: u64 = 1 << 16;
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(BEGINNING).read_to_end(&mut start).ok()?;
    let place =
        start.windows(KEY.len()).position(|bytes| bytes == KEY).filter(|_| start.starts_with(b"GGUF"))?;
    let value = start[place + KEY.len()..].strip_prefix(&STRING)?;
    let (length, text) = value.split_first_chunk::<8>()?;
    let text = text.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

fn old_name(name: &str) -> Option<String> {
    let stem = |end: &str| name.strip_suffix(end).filter(|stem| stem.ends_with("LayerNorm"));
    let weight = stem(".weight").map(|stem| format!("{stem}.gamma"));
    weight.or_else(|| stem(".bias").map(|stem| format!("{stem}.beta")))
}
