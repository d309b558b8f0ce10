//! A model on disk, whatever its format: configuration, tensors and metadata, checked against each other when it is opened.
//!
//! It does not load weights into the layout that computes (`weights` does), nor read tokenizers.

mod hugging_face;
mod part;
mod split;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zhenjin_files::Mapping;

pub use hugging_face::HuggingFaceFiles;
pub(crate) use hugging_face::OtherWeights;
pub use part::FileTensor;
pub(crate) use part::fault;
use part::{Contents, Part};

use crate::config::{
    self, ConfigReading, ModelClass, ModelConfig, ROPE_DIVISORS, ROPE_LONG_FACTORS, ROPE_SHORT_FACTORS,
};
use crate::errors::{FormatError, ModelError, quoted};
use crate::gguf::Gguf;
use crate::names::Naming;
use crate::safetensors::ShardIndex;
use crate::score_head::{SCORE_TENSOR, ScoreHead, check_no_bias};
use crate::tensor_source::{LayerWeightName, TensorSource, TensorView, WeightName};

/// An opened model: its files mapped into memory, its headers parsed, its configuration and its tensors checked.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    parts: Vec<Part>,
    /// Which part holds which tensor, for a model whose folder says so.
    index: Option<ShardIndex>,
    hugging_face: Option<HuggingFaceFiles>,
    config: ModelConfig,
    unread_settings: Vec<String>,
    unused_tensors: Vec<String>,
    padding_token: Option<u32>,
    /// The tensors' names lack [`MODEL_PREFIX`].
    lacks_prefix: bool,
}

/// What stands before the names of all tensors but the head's in the files of a model with a head; those of one without may lack it.
const MODEL_PREFIX: &str = "model.";

/// The two kinds of model files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One GGUF file, or several of a split model.
    Gguf,
    /// A folder with `config.json` and safetensors.
    HuggingFace,
}

impl FileFormat {
    /// The name for display.
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Gguf => "GGUF",
            FileFormat::HuggingFace => "Hugging Face safetensors",
        }
    }
}

impl ModelFile {
    /// Opens a `.gguf` file (the first of a split model) or a folder: one with `config.json` and safetensors, or one with
    /// a single GGUF model in it.
    ///
    /// Every tensor that the configuration implies must be there with the right shape and a supported type, and the files
    /// must not hold a weight that the configuration denies.
    ///
    /// # Errors
    /// [`ModelError`] naming the file and the place in it.
    pub fn open(path: &Path) -> Result<ModelFile, ModelError> {
        let mut file = match Place::of(path)? {
            Place::Gguf(file) => ModelFile::open_gguf(&file)?,
            Place::Folder => ModelFile::open_hugging_face(path, ModelClass::CausalLm)?,
        };
        file.check_prefix()?;
        file.check()?;
        Ok(file)
    }

    /// Opens a folder with a reward model: `…ForSequenceClassification` of the `transformers` library with one label. The configuration says that
    /// its head is the embedding; it has none for tokens.
    ///
    /// # Errors
    /// As [`ModelFile::open`]; [`ModelError::MissingTensor`] without a head for scores, [`ModelError::Format`] for one with several scores, another
    /// width or a bias.
    pub fn open_reward_model(folder: &Path) -> Result<(ModelFile, ScoreHead), ModelError> {
        let mut file = ModelFile::open_hugging_face(folder, ModelClass::SequenceClassification)?;
        file.check()?;
        let missing =
            || ModelError::MissingTensor { file: folder.to_owned(), tensor: SCORE_TENSOR.to_owned() };
        let (part, tensor) = file.find(SCORE_TENSOR).ok_or_else(missing)?;
        let place = ScoreHead::place(part.metadata()).map_err(|error| fault(&part.path, error))?;
        let weight = ScoreHead::read(&tensor, file.config.hidden_size)?;
        for tensor in file.tensors() {
            check_no_bias(tensor.file, tensor.name, "score")?;
        }
        let head = ScoreHead { weight, padding: file.padding_token, place };
        let used = quoted(SCORE_TENSOR);
        file.unused_tensors.retain(|name| *name != used);
        Ok((file, head))
    }

    /// Opens a file or folder as [`ModelFile::open`], of which no logits are wanted: the model's class may be one without a head, and the
    /// configuration says that the head is the embedding.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub(crate) fn open_embedder(path: &Path) -> Result<ModelFile, ModelError> {
        let mut file = match Place::of(path)? {
            Place::Gguf(file) => ModelFile::open_gguf(&file)?,
            Place::Folder => ModelFile::open_hugging_face(path, ModelClass::Embedder)?,
        };
        file.config.tied_embeddings = true;
        file.lacks_prefix = file.format() == FileFormat::HuggingFace && !file.has_embedding();
        file.check()?;
        Ok(file)
    }

    /// Whether there is a tensor with the name that the embedding has in the files of a model with a head.
    fn has_embedding(&self) -> bool {
        self.find(&self.naming().spell(WeightName::Embedding)).is_some()
    }

    /// Refuses the files of a model without a head, whatever class their configuration names, by what they are instead of by a tensor that is
    /// missing: Qwen3-Embedding's are such files.
    fn check_prefix(&self) -> Result<(), ModelError> {
        let embedding = self.naming().spell(WeightName::Embedding);
        let bare = embedding.strip_prefix(MODEL_PREFIX).and_then(|bare| self.find(bare));
        match bare.filter(|_| !self.has_embedding()) {
            None => Ok(()),
            Some((part, tensor)) => {
                let problem = "its name lacks `model.`: these are the files of an embedding model; without its head it writes no text, but gives \
                               vectors of texts (`zhenjin embed`, `/v1/embeddings`)";
                Err(fault(&part.path, FormatError::new(format!("tensor {}", quoted(tensor.name)), problem)))
            }
        }
    }

    fn check(&mut self) -> Result<(), ModelError> {
        self.check_names_apart()?;
        self.check_expected_tensors()?;
        self.unused_tensors = self.sort_out_other_tensors()?;
        Ok(())
    }

    fn open_gguf(path: &Path) -> Result<ModelFile, ModelError> {
        if path.extension().is_some_and(|extension| extension == "safetensors" || extension == "json") {
            return Err(ModelError::NotAModel {
                path: path.to_owned(),
                reason: "give the folder that holds config.json and the safetensors files".to_owned(),
            });
        }
        let parts = split::open(path)?;
        let reading = match &parts[0].contents {
            Contents::Gguf(gguf) => config::from_gguf(gguf).map_err(|error| fault(path, error))?,
            Contents::Safetensors(..) => {
                return Err(ModelError::NotAModel {
                    path: path.to_owned(),
                    reason: "it is not a GGUF file".to_owned(),
                });
            }
        };
        Ok(ModelFile::new(path, parts, None, None, reading))
    }

    fn open_hugging_face(folder: &Path, class: ModelClass) -> Result<ModelFile, ModelError> {
        let files = HuggingFaceFiles::in_folder(folder);
        let text = Mapping::open(&files.config)?;
        let reading =
            config::from_json_as(text.as_ref(), class).map_err(|error| fault(&files.config, error))?;
        let (parts, index) = hugging_face::open_weights(folder)?;
        Ok(ModelFile::new(folder, parts, index, Some(files), reading))
    }

    fn new(
        path: &Path,
        parts: Vec<Part>,
        index: Option<ShardIndex>,
        hugging_face: Option<HuggingFaceFiles>,
        reading: ConfigReading,
    ) -> ModelFile {
        ModelFile {
            path: path.to_owned(),
            parts,
            index,
            hugging_face,
            config: reading.config,
            unread_settings: reading.unread,
            unused_tensors: Vec::new(),
            padding_token: reading.padding,
            lacks_prefix: false,
        }
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of file.
    pub fn format(&self) -> FileFormat {
        if self.hugging_face.is_some() { FileFormat::HuggingFace } else { FileFormat::Gguf }
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The parsed GGUF file with its metadata (the first of a split model); `None` for a Hugging Face folder.
    pub fn gguf(&self) -> Option<&Gguf<Mapping>> {
        match &self.parts.first()?.contents {
            Contents::Gguf(gguf) => Some(gguf),
            Contents::Safetensors(..) => None,
        }
    }

    /// Where tokenizer, template and generation settings lie; `None` for a GGUF file, which holds them itself.
    pub fn hugging_face(&self) -> Option<&HuggingFaceFiles> {
        self.hugging_face.as_ref()
    }

    /// Every tensor of every file, in the files' order.
    pub fn tensors(&self) -> impl Iterator<Item = FileTensor<'_>> {
        self.parts.iter().flat_map(Part::tensors)
    }

    /// The token that fills up texts in a batch, if the files name one.
    pub fn padding_token(&self) -> Option<u32> {
        self.padding_token
    }

    /// Settings of the file that have no meaning for the model's family and were not read, quoted for display.
    pub fn unread_settings(&self) -> &[String] {
        &self.unread_settings
    }

    /// Tensors of the file that the model does not use, quoted for display.
    pub fn unused_tensors(&self) -> &[String] {
        &self.unused_tensors
    }

    /// Size of all weight files together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.mapping().as_ref().len() as u64).sum()
    }

    fn naming(&self) -> Naming {
        match self.format() {
            FileFormat::Gguf => Naming::Gguf,
            FileFormat::HuggingFace => Naming::of_folder(&self.config),
        }
    }

    /// Which of the tensor's bytes are the weight, and their shape: one tensor can hold those of several projections or of all experts of a
    /// layer. A tensor of an unexpected shape is given back whole.
    fn part_of(&self, name: WeightName, tensor: &FileTensor<'_>) -> (Range<usize>, Vec<usize>) {
        let part = self.fused_part(name, tensor).or_else(|| self.part_of_experts(name, tensor));
        part.unwrap_or_else(|| (0..tensor.bytes.len(), tensor.shape.to_vec()))
    }

    /// The rows of a weight in the tensor that a fused family has for several projections. Rows are whole blocks of every type.
    fn fused_part(&self, name: WeightName, tensor: &FileTensor<'_>) -> Option<(Range<usize>, Vec<usize>)> {
        let members = self.fused_members(name, tensor.name)?;
        let height = |member: &WeightName| self.config.shape(*member)[0];
        let total: usize = members.iter().map(height).sum();
        let [rows, columns] = tensor.shape else { return None };
        if *rows != total {
            return None;
        }
        let row_bytes = tensor.bytes.len() / total;
        let start: usize = members.iter().take_while(|member| **member != name).map(height).sum();
        let end = start + height(&name);
        Some((start * row_bytes..end * row_bytes, vec![end - start, *columns]))
    }

    /// The weights, one after the other, in the tensor `tensor` of a fused family that holds `name` together with others.
    fn fused_members(&self, name: WeightName, tensor: &str) -> Option<Vec<WeightName>> {
        use LayerWeightName as W;
        let WeightName::Layer(layer, weight) = name else { return None };
        let members: &[W] = match weight {
            _ if !self.config.is_fused() => return None,
            W::Query | W::Key | W::Value => &[W::Query, W::Key, W::Value],
            W::Gate | W::Up => &[W::Gate, W::Up],
            _ => return None,
        };
        let stacked = self.naming().spell_stacked(name, true)?;
        let is_it = self.in_files(&stacked) == tensor;
        is_it.then(|| members.iter().map(|member| WeightName::Layer(layer, *member)).collect())
    }

    /// The weight of one expert in a tensor with those of all of a layer: in a GGUF file, and in a folder of newer versions of transformers,
    /// where an expert's gate and up projection are one matrix too.
    fn part_of_experts(
        &self,
        name: WeightName,
        tensor: &FileTensor<'_>,
    ) -> Option<(Range<usize>, Vec<usize>)> {
        let WeightName::Layer(_, weight) = name else { return None };
        let in_gguf = self.format() == FileFormat::Gguf;
        if !in_gguf && self.naming().read_stacked(&self.with_prefix(tensor.name), false).is_none() {
            return None;
        }
        let count = self.config.experts.as_ref().map_or(0, |experts| experts.count);
        let (Some(expert), [experts, shape @ ..]) = (weight.expert(), tensor.shape) else { return None };
        let expert = usize::from(expert);
        if *experts != count || expert >= count {
            return None;
        }
        let bytes = tensor.bytes.len() / count;
        let (start, end) = (expert * bytes, (expert + 1) * bytes);
        let half = start + bytes / 2;
        match (weight, shape) {
            _ if in_gguf => Some((start..end, shape.to_vec())),
            (LayerWeightName::ExpertDown(_), _) => Some((start..end, shape.to_vec())),
            (LayerWeightName::ExpertGate(_), [rows, columns]) if rows.is_multiple_of(2) => {
                Some((start..half, vec![rows / 2, *columns]))
            }
            (LayerWeightName::ExpertUp(_), [rows, columns]) if rows.is_multiple_of(2) => {
                Some((half..end, vec![rows / 2, *columns]))
            }
            _ => None,
        }
    }

    /// The tensor that holds a weight, alone or together with others, and the file that it lies in. Programs that know a fused family read
    /// its fused tensors; where a file has others beside them, these are not used.
    fn holder(&self, name: WeightName) -> Option<(&Part, FileTensor<'_>)> {
        let (naming, fused) = (self.naming(), self.config.is_fused());
        let alone = || self.find(&naming.spell(name));
        let stacked = || self.find(&naming.spell_stacked(name, fused)?);
        if fused { stacked().or_else(alone) } else { alone().or_else(stacked) }
    }

    /// The weight that the files call `name`, or the first of several in it.
    fn weight_called(&self, name: &str) -> Option<WeightName> {
        let (naming, name) = (self.naming(), self.with_prefix(name));
        naming.read_stacked(&name, self.config.is_fused()).or_else(|| naming.read(&name))
    }

    fn find(&self, name: &str) -> Option<(&Part, FileTensor<'_>)> {
        hugging_face::find(&self.parts, self.index.as_ref(), self.in_files(name))
    }

    /// What the files call a tensor that the files of a model with a head call `name`.
    fn in_files<'a>(&self, name: &'a str) -> &'a str {
        if self.lacks_prefix { name.strip_prefix(MODEL_PREFIX).unwrap_or(name) } else { name }
    }

    /// What the files of a model with a head call a tensor that these files call `name`.
    fn with_prefix<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.lacks_prefix { Cow::Owned(format!("{MODEL_PREFIX}{name}")) } else { Cow::Borrowed(name) }
    }

    /// A name may occur in one part only, unless an index says which one is meant.
    fn check_names_apart(&self) -> Result<(), ModelError> {
        if self.index.is_some() || self.parts.len() == 1 {
            return Ok(());
        }
        let mut seen = HashSet::new();
        match self.tensors().find(|tensor| !seen.insert(tensor.name)) {
            None => Ok(()),
            Some(twice) => Err(fault(
                twice.file,
                FormatError::new(
                    format!("tensor {}", quoted(twice.name)),
                    "another file of the model holds it too",
                ),
            )),
        }
    }

    fn check_expected_tensors(&self) -> Result<(), ModelError> {
        for weight in self.config.weights() {
            let view = self.tensor(weight)?;
            let (mut expected, mut found) = (self.config.shape(weight), view.shape);
            let (_, tensor) = self.holder(weight).unzip();
            // A weight that lies together with others has a shape of its own only if all of the tensor has the right one.
            if let Some(tensor) = tensor
                && let Some(members) = self.fused_members(weight, tensor.name)
            {
                expected[0] = members.iter().map(|member| self.config.shape(*member)[0]).sum();
                found = tensor.shape.to_vec();
            }
            if found != expected {
                let file = self.find(&view.name).map_or(self.path(), |(part, _)| &part.path);
                return Err(ModelError::TensorShape {
                    file: file.to_owned(),
                    tensor: view.name,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Lists the tensors that are not weights, and refuses weights that the configuration denies.
    fn sort_out_other_tensors(&self) -> Result<Vec<String>, ModelError> {
        let mut unused = Vec::new();
        for tensor in self.tensors() {
            let expected = match self.weight_called(tensor.name) {
                Some(WeightName::Layer(layer, weight)) => {
                    if layer >= self.config.layers || !self.config.has_layer_weight(layer, weight) {
                        return Err(fault(
                            tensor.file,
                            FormatError::new(
                                format!("tensor {}", quoted(tensor.name)),
                                format!(
                                    "the configuration says that this {} model of {} layers has no such weight",
                                    self.config.architecture, self.config.layers
                                ),
                            ),
                        ));
                    }
                    let held = self.holder(WeightName::Layer(layer, weight));
                    held.is_some_and(|(_, held)| held.name == tensor.name)
                }
                // A head beside tied embeddings is a copy of them that some programs write.
                Some(WeightName::Head) => !self.config.tied_embeddings,
                Some(_) => true,
                None => {
                    // Parts of the configuration.
                    self.format() == FileFormat::Gguf
                        && [ROPE_DIVISORS, ROPE_SHORT_FACTORS, ROPE_LONG_FACTORS].contains(&tensor.name)
                }
            };
            if !expected {
                unused.push(quoted(tensor.name));
            }
        }
        Ok(unused)
    }
}

/// What a model's path names.
pub(crate) enum Place {
    /// A GGUF file: the path itself, or the only model in the folder.
    Gguf(PathBuf),
    /// A folder with `config.json` and safetensors.
    Folder,
}

impl Place {
    /// # Errors
    /// [`ModelError`] where there is nothing at the path, or a folder holds no model or several.
    pub(crate) fn of(path: &Path) -> Result<Place, ModelError> {
        let metadata = std::fs::metadata(path).map_err(|source| ModelError::Io {
            path: path.to_owned(),
            action: "open",
            source,
        })?;
        if !metadata.is_dir() {
            return Ok(Place::Gguf(path.to_owned()));
        }
        if hugging_face::has_weights(path) {
            return Ok(Place::Folder);
        }
        // Some folders of GGUF files also have the config.json of the model that they were made from.
        match only_gguf(path) {
            Err(_) if path.join(hugging_face::CONFIG).is_file() => Ok(Place::Folder),
            found => found.map(Place::Gguf),
        }
    }
}

/// The one GGUF model of a folder: its only `.gguf` file, or the first of its only split model.
fn only_gguf(folder: &Path) -> Result<PathBuf, ModelError> {
    let failed = |source| ModelError::Io { path: folder.to_owned(), action: "list", source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".gguf") && (!is_split(&name) || name.contains("-00001-of-")) {
            found.push(path);
        }
    }
    let reason = match found.len() {
        1 => return Ok(found.remove(0)),
        0 => "the folder holds neither config.json nor a .gguf file".to_owned(),
        several => format!("the folder holds {several} GGUF models; give the path of one of them"),
    };
    Err(ModelError::NotAModel { path: folder.to_owned(), reason })
}

fn is_split(name: &str) -> bool {
    let Some((_, numbers)) = name.trim_end_matches(".gguf").rsplit_once("-of-") else { return false };
    numbers.len() == 5 && numbers.bytes().all(|digit| digit.is_ascii_digit())
}

impl TensorSource for ModelFile {
    fn origin(&self) -> PathBuf {
        self.path.clone()
    }

    fn contains(&self, name: WeightName) -> bool {
        self.holder(name).is_some()
    }

    fn tensor(&self, name: WeightName) -> Result<TensorView<'_>, ModelError> {
        let Some((part, tensor)) = self.holder(name) else {
            let tensor = self.in_files(&self.naming().spell(name)).to_owned();
            return Err(ModelError::MissingTensor { file: self.path.clone(), tensor });
        };
        let dtype = tensor.dtype.ok_or_else(|| {
            fault(
                &part.path,
                FormatError::new(
                    format!("tensor {}", quoted(tensor.name)),
                    format!(
                        "type {} is not supported for a weight; supported are F32, F16 and BF16",
                        tensor.type_name
                    ),
                ),
            )
        })?;
        let (range, shape) = self.part_of(name, &tensor);
        Ok(TensorView { name: tensor.name.to_owned(), dtype, shape, bytes: &tensor.bytes[range] })
    }

    fn release(&self, name: WeightName) {
        if let Some((part, tensor)) = self.holder(name) {
            let (range, _) = self.part_of(name, &tensor);
            let start = tensor.range().start;
            part.mapping().release(start + range.start..start + range.end);
        }
    }
}
