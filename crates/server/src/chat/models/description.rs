//! What models' files say about them, remembered by file, since reading it means reading the file's whole header.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use zhenjin_assistant::{Embedder, PoolingMode};
use zhenjin_hub::{GenerationDefaults, OpenError, OpenedEmbedder, OpenedModel};

/// What a model's files say about it.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// `gguf` or `safetensors`.
    pub(crate) format: &'static str,
    pub(crate) architecture: String,
    pub(crate) parameters: u64,
    /// The type that takes the most bytes.
    pub(crate) quantisation: String,
    pub(crate) context_length: usize,
    pub(crate) vocabulary: usize,
    pub(crate) layers: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// The chat template's source; `None` without one.
    pub(crate) template: Option<String>,
    /// Whether functions can be offered to it.
    pub(crate) takes_tools: bool,
    /// Whether it thinks before it answers.
    pub(crate) thinks: bool,
    /// The makers' advice for sampling.
    pub(crate) sampling: GenerationDefaults,
    /// Of a model that makes vectors, which writes nothing.
    pub(crate) vectors: Option<VectorDescription>,
}

/// What a model's files say about its vectors of texts.
#[derive(Clone, Debug)]
pub(crate) struct VectorDescription {
    /// The one way in which hidden states are pooled; `None` for several, and where the files do not say.
    pub(crate) pooling: Option<PoolingMode>,
    /// Values of a vector; `None` where the files do not say how it is made.
    pub(crate) dimensions: Option<usize>,
    /// Whether tokens see those before them only.
    pub(crate) is_causal: bool,
}

impl Description {
    fn at(path: &Path) -> Result<Description, OpenError> {
        if Embedder::is_at(path) {
            zhenjin_hub::open_embedder(path).map(|opened| Description::of_embedder(&opened))
        } else {
            zhenjin_hub::open(path).map(|opened| Description::of(&opened))
        }
    }

    fn of_embedder(opened: &OpenedEmbedder) -> Description {
        let (file, sizes) = (&opened.file, opened.file.sizes());
        let pooling = opened.pooling.as_ref();
        let vectors = VectorDescription {
            pooling: pooling.and_then(|pooling| match pooling.modes[..] {
                [mode] => Some(mode),
                _ => None,
            }),
            dimensions: opened
                .kept_dimensions
                .or_else(|| pooling.map(|pooling| pooling.width(sizes.hidden_size))),
            is_causal: file.is_causal(),
        };
        Description {
            format: if file.gguf().is_some() { "gguf" } else { "safetensors" },
            architecture: file.architecture().to_owned(),
            parameters: file.parameters(),
            quantisation: most_bytes(file.tensors().map(|tensor| (tensor.type_name, tensor.bytes.len()))),
            context_length: opened.max_tokens,
            vocabulary: file.shape().vocabulary_size,
            layers: sizes.layers,
            hidden_size: sizes.hidden_size,
            intermediate_size: sizes.intermediate_size,
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            template: None,
            takes_tools: false,
            thinks: false,
            sampling: GenerationDefaults::default(),
            vectors: Some(vectors),
        }
    }

    fn of(opened: &OpenedModel) -> Description {
        let (file, config) = (&opened.file, opened.file.config());
        let count = |shape: &[usize]| shape.iter().map(|length| *length as u64).product::<u64>();
        Description {
            format: if file.gguf().is_some() { "gguf" } else { "safetensors" },
            architecture: config.architecture.clone(),
            parameters: file.tensors().map(|tensor| count(tensor.shape)).sum(),
            quantisation: most_bytes(file.tensors().map(|tensor| (tensor.type_name, tensor.bytes.len()))),
            context_length: config.context_length,
            vocabulary: config.vocabulary_size,
            layers: config.layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: config.heads,
            kv_heads: config.kv_heads,
            template: opened.template.as_ref().map(|template| template.source().to_owned()),
            takes_tools: opened.template.as_ref().is_some_and(zhenjin_assistant::takes_tools),
            thinks: opened.template.as_ref().is_some_and(zhenjin_assistant::thinks),
            sampling: opened.generation_defaults.clone(),
            vectors: None,
        }
    }
}

/// Of tensors' types and bytes, the type that takes the most.
fn most_bytes(tensors: impl Iterator<Item = (&'static str, usize)>) -> String {
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, bytes) in tensors {
        *types.entry(name).or_default() += bytes;
    }
    types.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(name, _)| name).to_owned()
}

type Remembered = (Option<(u64, SystemTime)>, Option<Arc<Description>>);

/// Descriptions by the model's path.
#[derive(Default)]
pub(super) struct Descriptions {
    known: Mutex<BTreeMap<PathBuf, Remembered>>,
}

impl Descriptions {
    /// The description of the model at `path`; `None` when its files cannot be read.
    pub(super) fn of_file(&self, path: &Path) -> Option<Arc<Description>> {
        let file = path.metadata().ok();
        let version = file.and_then(|file| Some((file.len(), file.modified().ok()?)));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((seen, description)) = known
            && seen == version
        {
            return description;
        }
        let description = Description::at(path).inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "a model cannot be described");
        });
        let description = description.ok().map(Arc::new);
        let remembered = (version, description.clone());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), remembered);
        description
    }
}
