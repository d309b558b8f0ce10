//! The files of a Hugging Face folder: where its weights are, and the files that other crates read.

use std::path::{Path, PathBuf};

use zhenjin_files::Mapping;

use super::part::{Contents, FileTensor, Part, fault};
use super::split;
use crate::errors::{FormatError, ModelError, quoted};
use crate::gguf::Gguf;
use crate::safetensors::{ShardIndex, parse_index};

/// The name of the configuration, by which a folder is recognised.
pub(super) const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Where the files of a Hugging Face folder lie; `None` for those that the folder does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuggingFaceFiles {
    /// The folder.
    pub folder: PathBuf,
    /// `config.json`.
    pub config: PathBuf,
    /// `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<PathBuf>,
    /// `chat_template.jinja`.
    pub chat_template: Option<PathBuf>,
    /// `generation_config.json`.
    pub generation_config: Option<PathBuf>,
}

impl HuggingFaceFiles {
    /// Looks which of the files `folder` has.
    pub fn in_folder(folder: &Path) -> HuggingFaceFiles {
        let existing = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        HuggingFaceFiles {
            folder: folder.to_owned(),
            config: folder.join(CONFIG),
            tokenizer: existing("tokenizer.json"),
            tokenizer_config: existing("tokenizer_config.json"),
            chat_template: existing("chat_template.jinja"),
            generation_config: existing("generation_config.json"),
        }
    }
}

/// Whether a folder has a configuration and weights in safetensors.
pub(super) fn has_weights(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() && (folder.join(SINGLE).is_file() || folder.join(INDEX).is_file())
}

/// Opens the weights of a folder: one file, or the files that an index names.
pub(super) fn open_weights(folder: &Path) -> Result<(Vec<Part>, Option<ShardIndex>), ModelError> {
    let single = folder.join(SINGLE);
    if single.is_file() {
        return Ok((vec![Part::open_safetensors(&single)?], None));
    }
    let index_path = folder.join(INDEX);
    if !index_path.is_file() {
        let reason = if folder.join("pytorch_model.bin").is_file()
            || folder.join("pytorch_model.bin.index.json").is_file()
        {
            "it has weights only as PyTorch pickles, which can run code when they are read; convert them to safetensors"
                .to_owned()
        } else {
            format!("it has neither {SINGLE} nor {INDEX}")
        };
        return Err(ModelError::NotAModel { path: folder.to_owned(), reason });
    }
    let mapping = Mapping::open(&index_path)?;
    let index = parse_index(mapping.as_ref()).map_err(|error| fault(&index_path, error))?;
    let mut shards = Vec::with_capacity(index.files.len());
    for file in &index.files {
        shards.push(Part::open_safetensors(&folder.join(file))?);
    }
    for (tensor, shard) in &index.tensors {
        let shard = &shards[*shard];
        if shard.tensor(tensor).is_none() {
            return Err(fault(
                &index_path,
                FormatError::new(
                    "index",
                    format!(
                        "tensor {} is said to be in {}, which does not hold it",
                        quoted(tensor),
                        shard.path.display()
                    ),
                ),
            ));
        }
    }
    Ok((shards, Some(index)))
}

/// The weights of a folder or a GGUF file, for models that [`super::ModelFile`] does not describe.
#[derive(Debug)]
pub(crate) struct OtherWeights {
    parts: Vec<Part>,
    index: Option<ShardIndex>,
}

impl OtherWeights {
    pub(crate) fn in_folder(folder: &Path) -> Result<OtherWeights, ModelError> {
        let (parts, index) = open_weights(folder)?;
        Ok(OtherWeights { parts, index })
    }

    pub(crate) fn in_gguf(path: &Path) -> Result<OtherWeights, ModelError> {
        Ok(OtherWeights { parts: split::open(path)?, index: None })
    }

    /// The parsed GGUF file (the first of a split model); `None` for a folder.
    pub(crate) fn gguf(&self) -> Option<&Gguf<Mapping>> {
        match &self.parts.first()?.contents {
            Contents::Gguf(gguf) => Some(gguf),
            Contents::Safetensors(..) => None,
        }
    }

    /// Every tensor of every file, in the files' order.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = FileTensor<'_>> {
        self.parts.iter().flat_map(Part::tensors)
    }

    pub(crate) fn find(&self, name: &str) -> Option<FileTensor<'_>> {
        find(&self.parts, self.index.as_ref(), name).map(|(_, tensor)| tensor)
    }

    /// Gives the memory-mapped pages of a tensor back.
    pub(crate) fn release(&self, tensor: &FileTensor<'_>) {
        if let Some(part) = self.parts.iter().find(|part| part.path == tensor.file) {
            part.mapping().release(tensor.range());
        }
    }
}

/// The tensor of that name, and the file that holds it: where an index names one, that one.
pub(super) fn find<'a>(
    parts: &'a [Part],
    index: Option<&ShardIndex>,
    name: &str,
) -> Option<(&'a Part, FileTensor<'a>)> {
    let in_part = |part: &'a Part| part.tensor(name).map(|tensor| (part, tensor));
    match index {
        None => parts.iter().find_map(in_part),
        Some(index) => {
            let place = index.tensors.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
            in_part(&parts[index.tensors[place].1])
        }
    }
}
