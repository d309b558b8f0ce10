//! Opening an encoder: its file, its tokenizer, and how the library sentence-transformers makes vectors with it, from that library's files in
//! the folder; or all of that from a GGUF file. What these do not say is not guessed.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use zhenjin_files::Mapping;
use zhenjin_model::encoder::{EncoderFile, EncoderPooling, PoolingMode};
use zhenjin_model::gguf::Gguf;
use zhenjin_model::{FormatError, HuggingFaceFiles};
use zhenjin_tokenizer::{GgufTextVocabulary, MAX_TOKENIZER_JSON_BYTES, TextEncoder};

use crate::OpenError;
use crate::open::{
    MAX_GENERATION_CONFIG_BYTES as MAX_CONFIG_BYTES, out_of_range, read, token_id, token_types,
};

/// The names of the file with a transformer's own settings, in the order in which that library looks for them.
const TRANSFORMER_SETTINGS: [&str; 3] =
    ["sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json"];
/// The settings of 1_Pooling/config.json that switch a way to pool on.
const POOLING_SWITCHES: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::Cls),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrtLength),
    ("pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", PoolingMode::Last),
];

/// An encoder with everything that vectors of texts need.
#[derive(Debug)]
pub struct OpenedEncoder {
    /// Headers and memory-mapped weights.
    pub file: EncoderFile,
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
    /// What is to be known of the files although they can be used, as sentences.
    pub warnings: Vec<String>,
}

/// Opens a Hugging Face folder or a GGUF file with an encoder.
///
/// # Errors
/// [`OpenError`] names the file and what is wrong with it.
pub fn open_encoder(path: &Path) -> Result<OpenedEncoder, OpenError> {
    let file = EncoderFile::open(path)?;
    match file.files().cloned() {
        Some(files) => open_folder(&files, file),
        None => open_gguf(path, file),
    }
}

fn open_gguf(path: &Path, file: EncoderFile) -> Result<OpenedEncoder, OpenError> {
    let Some(gguf) = file.gguf() else {
        return Err(OpenError::Missing { folder: path.to_owned(), file: "tokenizer.json" });
    };
    let metadata_error = |error| OpenError::Metadata { path: path.to_owned(), error };
    let vocabulary = read_vocabulary(gguf).map_err(metadata_error)?;
    let tokenizer = TextEncoder::from_gguf(&vocabulary)
        .map_err(|error| OpenError::Tokenizer { path: path.to_owned(), error })?;
    let unread = file.unread_settings().iter();
    Ok(OpenedEncoder {
        tokenizer,
        pooling: file.pooling()?,
        max_tokens: file.config().context_length(),
        lowercases: false,
        pools_prompts: true,
        prompts: BTreeMap::new(),
        warnings: unread.map(|name| format!("nothing reads the setting {name}")).collect(),
        file,
    })
}

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
    Ok(GgufTextVocabulary {
        model: gguf.string("tokenizer.ggml.model")?.unwrap_or_default().to_owned(),
        tokens: tokens.map(|tokens| tokens.map(str::to_owned).collect()).unwrap_or_default(),
        token_types: token_types(gguf)?,
        scores: gguf.floats("tokenizer.ggml.scores")?.unwrap_or_default(),
        character_map: bytes
            .map(|byte| u8::try_from(byte).map_err(|_| out_of_range(CHARACTER_MAP, byte)))
            .collect::<Result<_, _>>()?,
        // The name of the separator's key is written so.
        first: if is_added("tokenizer.ggml.add_bos_token")? { id(&["cls", "bos"])? } else { None },
        last: if is_added("tokenizer.ggml.add_eos_token")? { id(&["seperator", "eos"])? } else { None },
        unknown: id(&["unknown"])?,
    })
}

fn open_folder(files: &HuggingFaceFiles, file: EncoderFile) -> Result<OpenedEncoder, OpenError> {
    let folder = &files.folder;
    let Some(path) = &files.tokenizer else {
        return Err(OpenError::Missing { folder: folder.clone(), file: "tokenizer.json" });
    };
    let tokenizer = TextEncoder::from_tokenizer_json(&read(path, MAX_TOKENIZER_JSON_BYTES)?)
        .map_err(|error| OpenError::Tokenizer { path: path.clone(), error })?;
    let mut warnings: Vec<String> = Vec::new();
    let unread = file.unread_settings().iter();
    warnings.extend(unread.map(|name| format!("config.json: nothing reads the setting {name}")));
    let (pooling, pools_prompts) = match Document::read(folder.join("modules.json"))? {
        Some(modules) => {
            let (pooling, pools_prompts) = modules.pooling(&file, &mut warnings)?;
            (Some(pooling), pools_prompts)
        }
        None => (None, true),
    };
    let mut settings = None;
    for name in TRANSFORMER_SETTINGS {
        settings = Document::read(folder.join(name))?;
        if settings.is_some() {
            break;
        }
    }
    let settings = settings.unwrap_or_default();
    let of_tokenizer = Document::read(folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let max_tokens = match settings.size("max_seq_length")? {
        Some(most) => most,
        None => of_tokenizer.size("model_max_length")?.unwrap_or(usize::MAX),
    };
    let max_tokens = max_tokens.min(file.config().context_length());
    let lowercases = settings.switch("do_lower_case")?.unwrap_or(false);
    let prompts = Document::read(folder.join("config_sentence_transformers.json"))?.unwrap_or_default();
    let prompts = prompts.prompts(&mut warnings)?;
    Ok(OpenedEncoder { file, tokenizer, pooling, max_tokens, lowercases, pools_prompts, prompts, warnings })
}

/// A JSON file, or nothing.
#[derive(Debug, Default)]
struct Document {
    path: PathBuf,
    value: Value,
}

impl Document {
    /// `None` where there is no such file.
    fn read(path: PathBuf) -> Result<Option<Document>, OpenError> {
        if !path.is_file() {
            return Ok(None);
        }
        let value = serde_json::from_slice(&read(&path, MAX_CONFIG_BYTES)?).map_err(|error| {
            OpenError::SentenceTransformers { path: path.clone(), reason: error.to_string() }
        })?;
        Ok(Some(Document { path, value }))
    }

    fn bad(&self, reason: impl Into<String>) -> OpenError {
        OpenError::SentenceTransformers { path: self.path.clone(), reason: reason.into() }
    }

    fn switch(&self, name: &str) -> Result<Option<bool>, OpenError> {
        match &self.value[name] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            _ => Err(self.bad(format!("{name} is neither true nor false"))),
        }
    }

    /// Numbers beyond every size stand for no limit.
    fn size(&self, name: &str) -> Result<Option<usize>, OpenError> {
        match &self.value[name] {
            Value::Null => Ok(None),
            value => match (value.as_u64(), value.as_f64()) {
                (Some(0), _) => Err(self.bad(format!("{name} is 0, which leaves no room for any text"))),
                (Some(size), _) => Ok(Some(usize::try_from(size).unwrap_or(usize::MAX))),
                (None, Some(size)) if size >= 1e18 => Ok(Some(usize::MAX)),
                _ => Err(self.bad(format!("{name} is not a size"))),
            },
        }
    }

    /// What modules.json names behind the transformer: how to pool, whether the vector is normalised, whether prompts are pooled.
    fn pooling(
        &self,
        file: &EncoderFile,
        warnings: &mut Vec<String>,
    ) -> Result<(EncoderPooling, bool), OpenError> {
        let modules = self.value.as_array().ok_or_else(|| self.bad("it is not a list of modules"))?;
        let mut pooling: Option<(EncoderPooling, bool)> = None;
        for (index, module) in modules.iter().enumerate() {
            let kind = module["type"].as_str().unwrap_or("").rsplit('.').next().unwrap_or("");
            let path = module["path"].as_str().unwrap_or("");
            match (index, kind, &mut pooling) {
                (0, "Transformer", _) if path.is_empty() => {}
                (0, "Transformer", _) => {
                    return Err(
                        self.bad(format!("the transformer lies in the folder `{path}`; give that folder"))
                    );
                }
                (1, "Pooling", none) => *none = Some(self.pooling_at(path, file, warnings)?),
                (_, "Normalize", Some((pooling, _))) => pooling.normalise = true,
                _ => {
                    return Err(self.bad(format!(
                        "module {index} is `{kind}`; supported are a Transformer, a Pooling behind it, and Normalize last"
                    )));
                }
            }
        }
        pooling.ok_or_else(|| self.bad("there is no Pooling module"))
    }

    fn pooling_at(
        &self,
        path: &str,
        file: &EncoderFile,
        warnings: &mut Vec<String>,
    ) -> Result<(EncoderPooling, bool), OpenError> {
        let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_inside || path.is_empty() {
            return Err(self.bad(format!("`{path}` is not a folder inside the model's own")));
        }
        let config = file.path().join(path).join("config.json");
        let missing = || OpenError::SentenceTransformers {
            path: config.clone(),
            reason: "it is missing; it says how hidden states become one vector".to_owned(),
        };
        let config = Document::read(config.clone())?.ok_or_else(missing)?;
        let modes = config.pooling_modes()?;
        let hidden_size = file.config().hidden_size;
        for name in ["word_embedding_dimension", "embedding_dimension"] {
            if let Some(width) = config.size(name)?.filter(|width| *width != hidden_size) {
                return Err(config.bad(format!("{name} is {width}, but the model's width is {hidden_size}")));
            }
        }
        let known = |name: &str| {
            POOLING_SWITCHES.iter().any(|(switch, _)| *switch == name)
                || ["word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"]
                    .contains(&name)
        };
        let names = config.value.as_object().into_iter().flat_map(|fields| fields.keys());
        for name in names.filter(|name| !known(name)) {
            warnings.push(format!("{}: nothing reads the setting `{name}`", config.path.display()));
        }
        let pools_prompts = config.switch("include_prompt")?.unwrap_or(true);
        Ok((EncoderPooling { modes, normalise: false }, pools_prompts))
    }

    /// Switches, or the names of modes in `pooling_mode`.
    fn pooling_modes(&self) -> Result<Vec<PoolingMode>, OpenError> {
        let mut modes = Vec::new();
        for (name, mode) in POOLING_SWITCHES {
            if self.switch(name)?.unwrap_or(false) {
                modes.push(mode);
            }
        }
        let names: Vec<&Value> = match &self.value["pooling_mode"] {
            Value::Null => Vec::new(),
            Value::Array(names) => names.iter().collect(),
            name => vec![name],
        };
        for name in names {
            let mode = name.as_str().and_then(PoolingMode::of_name);
            let mode = mode.ok_or_else(|| self.bad(format!("the pooling mode {name} is not supported")))?;
            if !modes.contains(&mode) {
                modes.push(mode);
            }
        }
        modes.sort();
        if modes.is_empty() { Err(self.bad("no pooling mode is switched on")) } else { Ok(modes) }
    }

    fn prompts(&self, warnings: &mut Vec<String>) -> Result<BTreeMap<String, String>, OpenError> {
        let mut prompts = BTreeMap::new();
        match &self.value["prompts"] {
            Value::Null => {}
            Value::Object(named) => {
                for (name, prompt) in named {
                    let prompt =
                        prompt.as_str().ok_or_else(|| self.bad(format!("the prompt `{name}` is no text")))?;
                    prompts.insert(name.clone(), prompt.to_owned());
                }
            }
            _ => return Err(self.bad("prompts is not an object of texts")),
        }
        if let Some(name) = self.value["default_prompt_name"].as_str() {
            warnings.push(format!(
                "the makers put the prompt `{name}` ({:?}) before texts; here it is put there only if it is asked for",
                prompts.get(name).map_or("", String::as_str)
            ));
        }
        Ok(prompts)
    }
}
