//! Opening a model that makes vectors of texts, an encoder or a decoder: its file, its tokenizer, and how the library sentence-transformers makes
//! vectors with it, from that library's files in the folder; or all of that from a GGUF file. What these do not say is not guessed.

use std::collections::BTreeMap;
use std::path::Path;

use zhenjin_files::Mapping;
use zhenjin_model::embedder::EmbedderFile;
use zhenjin_model::encoder::{EncoderPooling, PoolingMode};
use zhenjin_model::gguf::Gguf;
use zhenjin_model::{FormatError, HuggingFaceFiles};
use zhenjin_tokenizer::{
    GgufTextVocabulary, MAX_TOKENIZER_JSON_BYTES, TextEncoder, Tokenizer, TokenizerClass,
};

use crate::OpenError;
use crate::open::{self, out_of_range, read, token_id, token_types};
use crate::sentence_transformers::{FolderSettings, folder_settings, has_pooling, tokenizer_class};

/// A model with everything that vectors of texts need.
#[derive(Debug)]
pub struct OpenedEmbedder {
    /// Headers and memory-mapped weights.
    pub file: EmbedderFile,
    /// Text → token ids.
    pub tokenizer: TextEncoder,
    /// How hidden states become one vector; `None` where the folder does not say.
    pub pooling: Option<EncoderPooling>,
    /// The most tokens of a text, special ones included.
    pub max_tokens: usize,
    /// Texts are put into lower case before they become tokens.
    pub lowercases: bool,
    /// The tokens of a prompt are pooled too.
    pub pools_prompts: bool,
    /// Beginnings of texts that the makers name, such as `query: `.
    pub prompts: BTreeMap<String, String>,
    /// How many values of each vector are kept where nobody asks for another number; `None`: all.
    pub kept_dimensions: Option<usize>,
    /// What is to be known of the files although they can be used, as sentences.
    pub warnings: Vec<String>,
    /// The files leave open whether the end of a sequence stands behind a text.
    pub leaves_end_open: bool,
}

impl OpenedEmbedder {
    /// What is to be known where vectors are pooled so and the files leave open which token is a text's last; it is among the warnings where the
    /// files say this pooling themselves.
    pub fn warning_of_last_token(&self, pooling: &EncoderPooling) -> Option<String> {
        (self.leaves_end_open && pooling.modes.contains(&PoolingMode::Last)).then(|| {
            format!(
                "the file has no {ADD_EOS}: nothing is put behind a text, whose last token its vector is made of"
            )
        })
    }
}

/// Whether the files at a path are those of a model that makes vectors of texts: an encoder, or a decoder whose files say that its hidden states
/// become one vector. False where nothing can be read: what opens it as a model then says why.
pub fn is_embedder(path: &Path) -> bool {
    EmbedderFile::is_at(path) || (has_pooling(path) && EmbedderFile::has_decoder(path))
}

/// Opens a Hugging Face folder, a GGUF file, or a folder with a single GGUF file, to make vectors with its model.
///
/// # Errors
/// [`OpenError`] names the file and what is wrong with it.
pub fn open_embedder(path: &Path) -> Result<OpenedEmbedder, OpenError> {
    let file = EmbedderFile::open(path)?;
    match file.files().cloned() {
        Some(files) => open_folder(&files, file),
        None => open_gguf(file),
    }
}

fn open_gguf(file: EmbedderFile) -> Result<OpenedEmbedder, OpenError> {
    let path = file.path();
    let Some(gguf) = file.gguf() else {
        return Err(OpenError::Missing { folder: path.to_owned(), file: "tokenizer.json" });
    };
    let metadata_error = |error| OpenError::Metadata { path: path.to_owned(), error };
    let tokenizer_error = |error| OpenError::Tokenizer { path: path.to_owned(), error };
    let pooling = file.pooling()?;
    let unread = file.unread_settings().iter();
    let mut warnings: Vec<String> = unread.map(|name| format!("nothing reads the setting {name}")).collect();
    let mut leaves_end_open = false;
    let tokenizer = if file.is_causal() {
        let adds_eos = gguf.bool(ADD_EOS).map_err(metadata_error)?;
        leaves_end_open = adds_eos.is_none();
        warnings.extend(open::warning_of(gguf));
        let vocabulary = open::read_vocabulary(gguf).map_err(metadata_error)?;
        let tokenizer = Tokenizer::from_gguf(vocabulary).map_err(tokenizer_error)?;
        TextEncoder::of_decoder(tokenizer, adds_eos.unwrap_or(false)).map_err(tokenizer_error)?
    } else {
        let vocabulary = read_vocabulary(gguf).map_err(metadata_error)?;
        TextEncoder::from_gguf(&vocabulary).map_err(tokenizer_error)?
    };
    let mut opened = OpenedEmbedder {
        tokenizer,
        pooling,
        max_tokens: file.shape().context_length,
        lowercases: false,
        pools_prompts: true,
        prompts: BTreeMap::new(),
        kept_dimensions: None,
        warnings,
        leaves_end_open,
        file,
    };
    let of_last_token = opened.pooling.as_ref().and_then(|pooling| opened.warning_of_last_token(pooling));
    opened.warnings.extend(of_last_token);
    Ok(opened)
}

/// Whether the end of a sequence is put behind a text.
pub(crate) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";

/// The vocabulary of an encoder.
fn read_vocabulary(gguf: &Gguf<Mapping>) -> Result<GgufTextVocabulary, FormatError> {
    const CHARACTER_MAP: &str = "tokenizer.ggml.precompiled_charsmap";
    let id = |names: &[&str]| -> Result<Option<u32>, FormatError> {
        for name in names {
            if let Some(id) = token_id(gguf, &format!("tokenizer.ggml.{name}_token_id"))? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    };
    let bytes = gguf.integers(CHARACTER_MAP)?.unwrap_or_default().into_iter();
    let is_added = |key: &str| -> Result<bool, FormatError> { Ok(gguf.bool(key)?.unwrap_or(true)) };
    let tokens = gguf.strings("tokenizer.ggml.tokens")?;
    let mut vocabulary = GgufTextVocabulary {
        model: gguf.string("tokenizer.ggml.model")?.unwrap_or_default().to_owned(),
        tokens: tokens.map(|tokens| tokens.map(str::to_owned).collect()).unwrap_or_default(),
        token_types: token_types(gguf)?,
        scores: gguf.floats("tokenizer.ggml.scores")?.unwrap_or_default(),
        character_map: bytes
            .map(|byte| u8::try_from(byte).map_err(|_| out_of_range(CHARACTER_MAP, byte)))
            .collect::<Result<_, _>>()?,
        first: None,
        last: None,
        unknown: id(&["unknown"])?,
        lowercase: gguf.bool("tokenizer.ggml.normalizer.lowercase")?,
        strip_accents: gguf.bool("tokenizer.ggml.normalizer.strip_accents")?,
    };
    vocabulary.unknown = vocabulary.unknown.or_else(|| vocabulary.usual_id("[UNK]"));
    if is_added("tokenizer.ggml.add_bos_token")? {
        vocabulary.first = id(&["cls", "bos"])?.or_else(|| vocabulary.usual_id("[CLS]"));
    }
    if is_added(ADD_EOS)? {
        // The name of the separator's key is written so.
        vocabulary.last = id(&["seperator", "eos"])?.or_else(|| vocabulary.usual_id("[SEP]"));
    }
    Ok(vocabulary)
}

fn open_folder(files: &HuggingFaceFiles, file: EmbedderFile) -> Result<OpenedEmbedder, OpenError> {
    let folder = &files.folder;
    let Some(path) = &files.tokenizer else {
        return Err(OpenError::Missing { folder: folder.clone(), file: "tokenizer.json" });
    };
    // A decoder's texts become the tokens that they have where it writes.
    let class = match file.is_causal() {
        true => TokenizerClass::AsWritten,
        false => tokenizer_class(file.path(), file.architecture())?,
    };
    let bytes = read(path, MAX_TOKENIZER_JSON_BYTES)?;
    let tokenizer = TextEncoder::from_tokenizer_json_with(&bytes, class)
        .map_err(|error| OpenError::Tokenizer { path: path.clone(), error })?;
    let mut warnings: Vec<String> = Vec::new();
    let unread = file.unread_settings().iter();
    warnings.extend(unread.map(|name| format!("config.json: nothing reads the setting {name}")));
    let settings = folder_settings(&file, &mut warnings)?;
    let FolderSettings { pooling, pools_prompts, max_tokens, lowercases, prompts, kept_dimensions } =
        settings;
    let max_tokens = max_tokens.unwrap_or(usize::MAX).min(file.shape().context_length);
    Ok(OpenedEmbedder {
        file,
        tokenizer,
        pooling,
        max_tokens,
        lowercases,
        pools_prompts,
        prompts,
        kept_dimensions,
        warnings,
        leaves_end_open: false,
    })
}
