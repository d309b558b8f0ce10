//! An encoder in a GGUF file, as llama.cpp's converter writes BERT and XLM-RoBERTa (architecture `bert`): its configuration, the names of its
//! tensors, and how its hidden states become one vector.
//!
//! Positions begin at 0 for both: the converter leaves out the rows that XLM-RoBERTa never uses.

use zhenjin_files::Mapping;

use super::config::{EncoderConfig, EncoderReading};
use super::pooling::{EncoderPooling, PoolingMode};
use crate::errors::{FormatError, quoted};
use crate::families::EncoderFamily;
use crate::gguf::Gguf;

/// What a GGUF file calls these encoders.
pub(super) const ARCHITECTURE: &str = "bert";

/// The pooling types of models whose hidden states are not pooled, and of those that rank texts.
const POOLS_NOT: u64 = 0;
const POOLS_RANKS: u64 = 4;

/// Settings that are honoured, below the architecture's name.
const HONOURED: [&str; 9] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_epsilon",
    "attention.causal",
    "pooling_type",
    "vocab_size",
];

/// Whether the file's architecture is that of an encoder.
pub(super) fn is_encoder(gguf: &Gguf<Mapping>) -> bool {
    matches!(gguf.string("general.architecture"), Ok(Some(ARCHITECTURE)))
}

/// Reads the metadata.
///
/// # Errors
/// [`FormatError`] naming the key or tensor that is missing, of the wrong type, impossible or not supported.
pub(super) fn read(gguf: &Gguf<Mapping>) -> Result<EncoderReading, FormatError> {
    let settings = Settings { gguf };
    if settings.gguf.bool(&key("attention.causal"))? == Some(true) {
        return Err(
            settings.fault("attention.causal", "encoders read both ways; the value true is not supported")
        );
    }
    let family = EncoderFamily::of_model_type("bert")
        .ok_or_else(|| FormatError::new("configuration", "there is no family of BERT"))?;
    let epsilon = gguf.float(&key("attention.layer_norm_epsilon"))?;
    let padding = gguf.unsigned("tokenizer.ggml.padding_token_id")?.unwrap_or(0);
    let config = EncoderConfig {
        family,
        vocabulary_size: settings.rows("token_embd.weight")?,
        positions: settings.rows("position_embd.weight")?,
        token_types: settings.rows("token_types.weight")?,
        layers: settings.required("block_count")?,
        hidden_size: settings.required("embedding_length")?,
        intermediate_size: settings.required("feed_forward_length")?,
        heads: settings.required("attention.head_count")?,
        epsilon: epsilon.ok_or_else(|| settings.missing("attention.layer_norm_epsilon"))? as f32,
        padding: u32::try_from(padding).map_err(|_| {
            FormatError::new(
                "metadata `tokenizer.ggml.padding_token_id`",
                format!("{padding} is out of range"),
            )
        })?,
    };
    config.check().map_err(|problem| FormatError::new("configuration", problem))?;
    let prefix = format!("{ARCHITECTURE}.");
    let unread = gguf.metadata().filter_map(|(key, _)| key.strip_prefix(&prefix));
    let unread = unread.filter(|name| !HONOURED.contains(name)).map(|name| quoted(&key(name))).collect();
    Ok(EncoderReading { config, unread })
}

/// Whether a file of this architecture says that its model makes vectors: it names a way to pool, which none and that of a model that ranks
/// are not. False where the setting is no number.
pub(crate) fn makes_vectors(gguf: &Gguf<Mapping>, architecture: &str) -> bool {
    let number = gguf.unsigned(&pooling_key(architecture)).ok().flatten();
    number.is_some_and(|number| ![POOLS_NOT, POOLS_RANKS].contains(&number))
}

/// How hidden states become one vector, of unit length as llama.cpp and Ollama give it; `None` where the file does not say.
///
/// # Errors
/// [`FormatError`] for a way that makes no vector.
pub(crate) fn pooling(
    gguf: &Gguf<Mapping>,
    architecture: &str,
) -> Result<Option<EncoderPooling>, FormatError> {
    let key = pooling_key(architecture);
    let fault = |problem: String| FormatError::new(format!("metadata `{key}`"), problem);
    let number = match gguf.unsigned(&key)? {
        None | Some(POOLS_NOT) => return Ok(None),
        Some(POOLS_RANKS) => {
            let problem = format!("{POOLS_RANKS} is that of a model that ranks, which makes no vectors");
            return Err(fault(problem));
        }
        Some(number) => number,
    };
    let mode = PoolingMode::ALL.into_iter().find(|mode| mode.gguf_number() == Some(number));
    let unknown = || format!("{number} is not known; there are 1 (mean), 2 (first token) and 3 (last token)");
    let mode = mode.ok_or_else(|| fault(unknown()))?;
    Ok(Some(EncoderPooling::of_mode(mode, true)))
}

/// The setting that says how hidden states are pooled.
fn pooling_key(architecture: &str) -> String {
    format!("{architecture}.pooling_type")
}

/// Whether the tensor that Hugging Face calls `name` is a table with a row for each token, position or type.
pub(super) fn is_table(name: &str) -> bool {
    name.starts_with("embeddings.") && name.ends_with("_embeddings.weight")
}

/// The name in a GGUF file of a tensor that Hugging Face calls `name`; `None` for one that such files do not have.
pub(super) fn tensor_name(name: &str) -> Option<String> {
    const EMBEDDINGS: [(&str, &str); 5] = [
        ("embeddings.word_embeddings.weight", "token_embd.weight"),
        ("embeddings.position_embeddings.weight", "position_embd.weight"),
        ("embeddings.token_type_embeddings.weight", "token_types.weight"),
        ("embeddings.LayerNorm.weight", "token_embd_norm.weight"),
        ("embeddings.LayerNorm.bias", "token_embd_norm.bias"),
    ];
    const OF_A_LAYER: [(&str, &str); 8] = [
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    if let Some((_, found)) = EMBEDDINGS.iter().find(|(known, _)| *known == name) {
        return Some((*found).to_owned());
    }
    let (layer, rest) = name.strip_prefix("encoder.layer.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (_, found) = OF_A_LAYER.iter().find(|(known, _)| *known == module)?;
    Some(format!("blk.{layer}.{found}.{kind}"))
}

fn key(name: &str) -> String {
    format!("{ARCHITECTURE}.{name}")
}

struct Settings<'a> {
    gguf: &'a Gguf<Mapping>,
}

impl Settings<'_> {
    fn fault(&self, name: &str, problem: impl Into<String>) -> FormatError {
        FormatError::new(format!("metadata `{}`", key(name)), problem)
    }

    fn missing(&self, name: &str) -> FormatError {
        self.fault(name, "the key is missing")
    }

    fn required(&self, name: &str) -> Result<usize, FormatError> {
        let value = self.gguf.unsigned(&key(name))?.ok_or_else(|| self.missing(name))?;
        usize::try_from(value).map_err(|_| self.fault(name, format!("{value} is out of range")))
    }

    /// Rows of a matrix.
    fn rows(&self, tensor: &str) -> Result<usize, FormatError> {
        let fault = |problem: &str| FormatError::new(format!("tensor `{tensor}`"), problem.to_owned());
        let tensor = self.gguf.tensor(tensor).ok_or_else(|| fault("it is missing"))?;
        match tensor.shape {
            [rows, _] => Ok(*rows),
            // One row, of which llama.cpp writes the width alone.
            [_] => Ok(1),
            _ => Err(fault("it is no matrix")),
        }
    }
}
