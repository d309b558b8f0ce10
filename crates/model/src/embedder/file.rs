//! An embedder on disk: an encoder's files or a decoder's.

use std::path::Path;

use zhenjin_files::Mapping;

use super::EmbedderShape;
use super::decoder;
use crate::encoder::gguf;
use crate::encoder::{EncoderFile, EncoderPooling};
use crate::errors::ModelError;
use crate::file::{FileTensor, HuggingFaceFiles, ModelFile, fault};
use crate::gguf::Gguf;

/// An opened embedder.
#[derive(Debug)]
pub enum EmbedderFile {
    /// One whose tokens see all others.
    Encoder(Box<EncoderFile>),
    /// One whose tokens see those before them. Its configuration says that the head is the embedding: no head is loaded.
    Decoder(Box<ModelFile>),
}

/// Sizes for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedderSizes {
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
}

impl EmbedderFile {
    /// Whether the files at a path say by themselves that their model makes vectors: those of every encoder, a decoder's GGUF file with a pooling
    /// type, and a folder with a decoder's class without a head. False where nothing can be read.
    pub fn is_at(path: &Path) -> bool {
        EncoderFile::is_at(path) || decoder::is_at(path)
    }

    /// Whether a path is a folder with safetensors of a decoder, which makes vectors if other files in it say how.
    pub fn has_decoder(path: &Path) -> bool {
        decoder::is_folder(path)
    }

    /// Opens a folder with `config.json` and safetensors, a GGUF file, or a folder with a single GGUF model in it.
    ///
    /// # Errors
    /// [`ModelError`] naming the file and the place in it; also for a model of a decoder's family whose tokens see those behind them.
    pub fn open(path: &Path) -> Result<EmbedderFile, ModelError> {
        if EncoderFile::is_at(path) {
            return Ok(EmbedderFile::Encoder(Box::new(EncoderFile::open(path)?)));
        }
        Ok(EmbedderFile::Decoder(Box::new(decoder::open(path)?)))
    }

    /// The folder, or the GGUF file.
    pub fn path(&self) -> &Path {
        match self {
            EmbedderFile::Encoder(file) => file.path(),
            EmbedderFile::Decoder(file) => file.path(),
        }
    }

    /// Where the folder's other files lie; `None` for a GGUF file, which holds all itself.
    pub fn files(&self) -> Option<&HuggingFaceFiles> {
        match self {
            EmbedderFile::Encoder(file) => file.files(),
            EmbedderFile::Decoder(file) => file.hugging_face(),
        }
    }

    /// The parsed GGUF file with its metadata; `None` for a folder.
    pub fn gguf(&self) -> Option<&Gguf<Mapping>> {
        match self {
            EmbedderFile::Encoder(file) => file.gguf(),
            EmbedderFile::Decoder(file) => file.gguf(),
        }
    }

    /// How a GGUF file says that hidden states become one vector; `None` where it does not say, and for a folder.
    ///
    /// # Errors
    /// [`ModelError::Format`] for a way that makes no vector.
    pub fn pooling(&self) -> Result<Option<EncoderPooling>, ModelError> {
        match self {
            EmbedderFile::Encoder(file) => file.pooling(),
            EmbedderFile::Decoder(file) => {
                let Some(gguf) = file.gguf() else { return Ok(None) };
                let architecture = gguf.string("general.architecture").ok().flatten().unwrap_or_default();
                gguf::pooling(gguf, architecture).map_err(|error| fault(file.path(), error))
            }
        }
    }

    /// What texts, passes and memory depend on.
    pub fn shape(&self) -> EmbedderShape {
        match self {
            EmbedderFile::Encoder(file) => file.config().into(),
            EmbedderFile::Decoder(file) => file.config().into(),
        }
    }

    /// What the files call the family: `bert`, `qwen3` …
    pub fn architecture(&self) -> &str {
        match self {
            EmbedderFile::Encoder(file) => file.config().family.model_type,
            EmbedderFile::Decoder(file) => &file.config().architecture,
        }
    }

    /// Whether tokens see those before them only.
    pub fn is_causal(&self) -> bool {
        matches!(self, EmbedderFile::Decoder(_))
    }

    /// Sizes for display.
    pub fn sizes(&self) -> EmbedderSizes {
        match self {
            EmbedderFile::Encoder(file) => {
                let config = file.config();
                EmbedderSizes {
                    layers: config.layers,
                    hidden_size: config.hidden_size,
                    intermediate_size: config.intermediate_size,
                    heads: config.heads,
                    kv_heads: config.heads,
                }
            }
            EmbedderFile::Decoder(file) => {
                let config = file.config();
                EmbedderSizes {
                    layers: config.layers,
                    hidden_size: config.hidden_size,
                    intermediate_size: config.intermediate_size,
                    heads: config.heads,
                    kv_heads: config.kv_heads,
                }
            }
        }
    }

    /// Settings that were not read, quoted for display.
    pub fn unread_settings(&self) -> &[String] {
        match self {
            EmbedderFile::Encoder(file) => file.unread_settings(),
            EmbedderFile::Decoder(file) => file.unread_settings(),
        }
    }

    /// Tensors that vectors do not need, such as heads, quoted for display.
    pub fn unused_tensors(&self) -> &[String] {
        match self {
            EmbedderFile::Encoder(file) => file.unused_tensors(),
            EmbedderFile::Decoder(file) => file.unused_tensors(),
        }
    }

    /// Every tensor of every file, in the files' order.
    pub fn tensors(&self) -> Box<dyn Iterator<Item = FileTensor<'_>> + '_> {
        match self {
            EmbedderFile::Encoder(file) => Box::new(file.tensors()),
            EmbedderFile::Decoder(file) => Box::new(file.tensors()),
        }
    }

    /// Bytes of the weights that are loaded.
    ///
    /// # Errors
    /// What the files report.
    pub fn weight_bytes(&self) -> Result<u64, ModelError> {
        match self {
            EmbedderFile::Encoder(file) => Ok(file.weight_bytes()),
            EmbedderFile::Decoder(file) => file.packed_weights(file.config()),
        }
    }

    /// Number of weights that are loaded.
    pub fn parameters(&self) -> u64 {
        match self {
            EmbedderFile::Encoder(file) => file.parameters(),
            EmbedderFile::Decoder(file) => {
                let config = file.config();
                let count = |weight| config.shape(weight).iter().product::<usize>() as u64;
                config.weights().map(count).sum()
            }
        }
    }
}
