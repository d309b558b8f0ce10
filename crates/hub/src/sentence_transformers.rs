//! What the library sentence-transformers writes into a folder beside the model: how vectors are made from hidden states, how long a
//! text may be, and which beginnings of texts the makers name. What changes vectors is honoured or refused by name; what nothing reads is said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use zhenjin_model::embedder::EmbedderFile;
use zhenjin_model::encoder::{Activation, Dense, DenseShape, EncoderFile, EncoderPooling, PoolingMode};
use zhenjin_tokenizer::{BertSettings, TokenizerClass};

use crate::OpenError;
use crate::open::{MAX_GENERATION_CONFIG_BYTES as MAX_CONFIG_BYTES, read};

/// The file that lists a model's modules.
pub(crate) const MODULES: &str = "modules.json";
/// The file with the prompts' names and texts.
pub(crate) const PROMPTS: &str = "config_sentence_transformers.json";
/// The file with a tokenizer's settings that `tokenizer.json` may contradict.
const TOKENIZER_SETTINGS: &str = "tokenizer_config.json";
/// The file with a model's own settings, which may name its tokenizer's class.
const MODEL_SETTINGS: &str = "config.json";
/// The names of the class of tokenizers that makes all but the vocabulary as BERT has it, of the one that makes it as RoBERTa has it, and of the
/// one for XLM-RoBERTa, each with or without `Fast` at its end. Every other class takes `tokenizer.json` as it is.
const BERT_TOKENIZERS: [&str; 8] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
];
const ROBERTA_TOKENIZERS: [&str; 6] = [
    "RobertaTokenizer",
    "BartTokenizer",
    "GPT2Tokenizer",
    "LEDTokenizer",
    "LongformerTokenizer",
    "MvpTokenizer",
];
const XLM_ROBERTA_TOKENIZER: &str = "XLMRobertaTokenizer";
/// The names of the file with a transformer's own settings, in the order in which that library looks for them.
pub(crate) const TRANSFORMER_SETTINGS: [&str; 3] =
    ["sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json"];
/// What such a file may say: honoured, checked, or (the last three) without effect on texts.
const TRANSFORMER_KNOWN: [&str; 6] = [
    "max_seq_length",
    "do_lower_case",
    "transformer_task",
    "modality_config",
    "module_output_name",
    "unpad_inputs",
];
/// The settings of 1_Pooling/config.json that switch a way to pool on, in the order in which the results of several are put together.
pub(crate) const POOLING_SWITCHES: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::Cls),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrtLength),
    ("pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", PoolingMode::Last),
];
/// What the file with the prompts may say: honoured, told, or (the last three) without effect on vectors.
const PROMPTS_KNOWN: [&str; 6] =
    ["prompts", "default_prompt_name", TRUNCATION, "__version__", "model_type", "similarity_fn_name"];
/// How many values of each vector that library keeps.
const TRUNCATION: &str = "truncate_dim";
const POOLING_WIDTHS: [&str; 2] = ["word_embedding_dimension", "embedding_dimension"];
const DENSE_KNOWN: [&str; 7] = [
    "in_features",
    "out_features",
    "bias",
    "activation_function",
    "module_input_name",
    "module_output_name",
    "use_residual",
];
/// The most layers Dense: each is read into memory before any plan counts it, and a list can name one folder as often as it likes.
const MAX_DENSE: usize = 16;
/// What a layer and Normalize read and write: the vector of the whole text.
const VECTOR: &str = "sentence_embedding";
/// What the transformer writes and Pooling reads: the hidden state of every token.
const HIDDEN_STATES: &str = "token_embeddings";
/// The output of the model that these are.
const MODEL_OUTPUT: &str = "last_hidden_state";
/// The settings that say what a module reads and writes.
const PLACES: [&str; 2] = ["module_input_name", "module_output_name"];
const PACKAGE: &str = "sentence_transformers.";

/// What the files of a folder say.
#[derive(Debug)]
pub(crate) struct FolderSettings {
    /// How hidden states become one vector; `None` where the folder does not say.
    pub(crate) pooling: Option<EncoderPooling>,
    /// The tokens of a prompt are pooled too.
    pub(crate) pools_prompts: bool,
    /// The most tokens of a text, special ones included, if a file says it.
    pub(crate) max_tokens: Option<usize>,
    /// Texts are put into lower case before they become tokens.
    pub(crate) lowercases: bool,
    /// Beginnings of texts that the makers name.
    pub(crate) prompts: BTreeMap<String, String>,
    /// How many values of each vector are kept, if a file says it.
    pub(crate) kept_dimensions: Option<usize>,
}

/// Reads the files in the folder of `file`. What nothing reads is added to `warnings`.
///
/// # Errors
/// [`OpenError`] naming the file and the setting that is wrong or not supported.
pub(crate) fn folder_settings(
    file: &EmbedderFile,
    warnings: &mut Vec<String>,
) -> Result<FolderSettings, OpenError> {
    let folder = file.path();
    let (pooling, pools_prompts) = match Document::read(folder.join(MODULES))? {
        Some(modules) => {
            let mut reading = Modules { modules: &modules, file, pools_prompts: true, warnings };
            (Some(reading.pooling()?), reading.pools_prompts)
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
    settings.expect_text("transformer_task", "feature-extraction")?;
    settings.expect_text("module_output_name", HIDDEN_STATES)?;
    settings.expect_model_output()?;
    settings.list_unread(&TRANSFORMER_KNOWN, warnings);
    let of_tokenizer = Document::read(folder.join(TOKENIZER_SETTINGS))?.unwrap_or_default();
    let max_tokens = match settings.size("max_seq_length")? {
        Some(most) => Some(most),
        None => of_tokenizer.size("model_max_length")?,
    };
    let lowercases = settings.switch("do_lower_case")?.unwrap_or(false);
    let prompts = Document::read(folder.join(PROMPTS))?.unwrap_or_default();
    let hidden_size = file.shape().hidden_size;
    let width = pooling.as_ref().map_or(hidden_size, |pooling| pooling.width(hidden_size));
    let kept_dimensions = prompts.kept_dimensions(width)?;
    prompts.list_unread(&PROMPTS_KNOWN, warnings);
    let prompts = prompts.prompts(warnings)?;
    Ok(FolderSettings { pooling, pools_prompts, max_tokens, lowercases, prompts, kept_dimensions })
}

/// Whether a folder's list of modules says that hidden states are pooled. False where it cannot be read.
pub(crate) fn has_pooling(folder: &Path) -> bool {
    let modules = Document::read(folder.join(MODULES)).ok().flatten();
    let modules = modules.as_ref().and_then(|modules| modules.value.as_array());
    modules.is_some_and(|modules| modules.iter().any(|module| module_name(module) == "Pooling"))
}

/// The files of all modules that have a folder of their own, by their paths in `folder`, whose settings have been read without an error.
///
/// # Errors
/// [`OpenError`] naming what cannot be read.
pub(crate) fn module_files(folder: &Path) -> Result<BTreeSet<String>, OpenError> {
    let modules = Document::read(folder.join(MODULES))?.unwrap_or_default();
    let paths = modules.value.as_array().into_iter().flatten().filter_map(|module| module["path"].as_str());
    let mut files = BTreeSet::new();
    for path in paths.filter(|path| !path.is_empty()) {
        let inner = folder.join(path);
        // Normalize needs no folder.
        if !inner.is_dir() {
            continue;
        }
        let failed = |error| OpenError::Read { path: inner.clone(), error };
        for entry in std::fs::read_dir(&inner).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") || name.ends_with(".safetensors") {
                files.insert(format!("{}/{name}", path.trim_end_matches('/')));
            }
        }
    }
    Ok(files)
}

/// The class that transformers makes the tokenizer in `folder` with, for a model of the type `model_type`, and its settings: the one that
/// tokenizer_config.json names, else config.json, else the model's own.
///
/// # Errors
/// [`OpenError`] naming the file and the setting that is wrong.
pub(crate) fn tokenizer_class(folder: &Path, model_type: &str) -> Result<TokenizerClass, OpenError> {
    let settings = Document::read(folder.join(TOKENIZER_SETTINGS))?.unwrap_or_default();
    let of_model = Document::read(folder.join(MODEL_SETTINGS))?.unwrap_or_default();
    let named = |document: &Document| document.value["tokenizer_class"].as_str().map(str::to_owned);
    let named = named(&settings).or_else(|| named(&of_model));
    let class = named.as_deref().unwrap_or(match model_type {
        "bert" => "BertTokenizer",
        "roberta" => "RobertaTokenizer",
        "xlm-roberta" => XLM_ROBERTA_TOKENIZER,
        _ => "",
    });
    let class = class.strip_suffix("Fast").unwrap_or(class);
    if BERT_TOKENIZERS.contains(&class) {
        let own = BertSettings::default();
        return Ok(TokenizerClass::Bert(BertSettings {
            lowercase: settings.switch("do_lower_case")?.unwrap_or(own.lowercase),
            strip_accents: settings.switch("strip_accents")?,
            handle_chinese_chars: settings
                .switch("tokenize_chinese_chars")?
                .unwrap_or(own.handle_chinese_chars),
        }));
    }
    if ROBERTA_TOKENIZERS.contains(&class) {
        let add_prefix_space = settings.switch("add_prefix_space")?.unwrap_or(false);
        return Ok(TokenizerClass::Roberta { add_prefix_space });
    }
    if class == XLM_ROBERTA_TOKENIZER {
        // It puts these two around a text, whatever tokenizer.json says.
        settings.expect_token("bos_token", "<s>")?;
        settings.expect_token("eos_token", "</s>")?;
        let add_prefix_space = settings.switch("add_prefix_space")?.unwrap_or(true);
        return Ok(TokenizerClass::XlmRoberta { add_prefix_space });
    }
    Ok(TokenizerClass::AsWritten)
}

/// Reading modules.json and the folders that it names.
struct Modules<'a> {
    modules: &'a Document,
    file: &'a EmbedderFile,
    pools_prompts: bool,
    warnings: &'a mut Vec<String>,
}

impl Modules<'_> {
    /// What is done behind the transformer.
    fn pooling(&mut self) -> Result<EncoderPooling, OpenError> {
        let document = self.modules;
        let modules = document.value.as_array().ok_or_else(|| document.bad("it is not a list of modules"))?;
        let layers = modules.iter().filter(|module| module_name(module) == "Dense").count();
        if layers > MAX_DENSE {
            return Err(
                document.bad(format!("there are {layers} layers Dense; at most {MAX_DENSE} are read"))
            );
        }
        let mut pooling: Option<EncoderPooling> = None;
        for (index, module) in modules.iter().enumerate() {
            let path = module["path"].as_str().unwrap_or("");
            match (index, module_name(module), &mut pooling) {
                (0, "Transformer", _) if path.is_empty() => {}
                (0, "Transformer", _) => {
                    let problem = format!("the transformer lies in the folder `{path}`; give that folder");
                    return Err(document.bad(problem));
                }
                (1, "Pooling", none) => *none = Some(self.pooling_at(path)?),
                (_, "Dense", Some(pooling)) if !pooling.normalise => {
                    let inputs = pooling.width(self.file.shape().hidden_size);
                    pooling.dense.push(self.dense_at(path, inputs)?);
                }
                (_, "Normalize", Some(pooling)) => {
                    self.check_normalize(path)?;
                    pooling.normalise = true;
                }
                (_, name, _) => {
                    return Err(document.bad(format!(
                        "module {index} is `{name}`; supported are a Transformer, a Pooling behind it, then layers Dense, and Normalize last"
                    )));
                }
            }
        }
        pooling.ok_or_else(|| document.bad("there is no Pooling module"))
    }

    /// The configuration of the module in the folder `path`.
    fn configuration(&self, path: &str, what: &str) -> Result<Document, OpenError> {
        let config = self.configuration_path(path)?;
        Document::read(config.clone())?.ok_or_else(|| OpenError::SentenceTransformers {
            path: config,
            reason: format!("it is missing; it says {what}"),
        })
    }

    fn configuration_path(&self, path: &str) -> Result<PathBuf, OpenError> {
        let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_inside || path.is_empty() {
            return Err(self.modules.bad(format!("`{path}` is not a folder inside the model's own")));
        }
        Ok(self.file.path().join(path).join("config.json"))
    }

    /// Refuses a module Normalize of something else than the vector of a text. Earlier versions of the library wrote no file for it.
    fn check_normalize(&mut self, path: &str) -> Result<(), OpenError> {
        if path.is_empty() {
            return Ok(());
        }
        let Some(config) = Document::read(self.configuration_path(path)?)? else { return Ok(()) };
        for name in PLACES {
            config.expect_text(name, VECTOR)?;
        }
        config.list_unread(&PLACES, self.warnings);
        Ok(())
    }

    fn pooling_at(&mut self, path: &str) -> Result<EncoderPooling, OpenError> {
        let config = self.configuration(path, "how hidden states become one vector")?;
        let modes = config.pooling_modes()?;
        let hidden_size = self.file.shape().hidden_size;
        for name in POOLING_WIDTHS {
            config.expect_width(name, hidden_size, "the model's width")?;
        }
        let switches = POOLING_SWITCHES.iter().map(|(switch, _)| *switch);
        let known: Vec<&str> =
            switches.chain(POOLING_WIDTHS).chain(["pooling_mode", "include_prompt"]).collect();
        config.list_unread(&known, self.warnings);
        self.pools_prompts = config.switch("include_prompt")?.unwrap_or(true);
        Ok(EncoderPooling { modes, dense: Vec::new(), normalise: false })
    }

    /// A layer into which vectors of `inputs` values go.
    fn dense_at(&mut self, path: &str, inputs: usize) -> Result<Dense, OpenError> {
        let config = self.configuration(path, "what the layer computes")?;
        config.expect_width("in_features", inputs, "the width of what comes before it")?;
        let outputs = config.size("out_features")?;
        let outputs = outputs.ok_or_else(|| config.bad("out_features is missing"))?;
        if outputs > EncoderFile::MAX_WIDTH {
            let most = EncoderFile::MAX_WIDTH;
            return Err(config.bad(format!("out_features must be 1 to {most}, found {outputs}")));
        }
        for name in PLACES {
            config.expect_text(name, VECTOR)?;
        }
        if config.switch("use_residual")? == Some(true) {
            return Err(config.bad("use_residual is not supported: the value must be false"));
        }
        config.list_unread(&DENSE_KNOWN, self.warnings);
        let has_bias = config.switch("bias")?.unwrap_or(true);
        let shape = DenseShape { inputs, outputs, has_bias, activation: config.activation()? };
        Ok(Dense::open(&self.file.path().join(path), shape)?)
    }
}

/// The class of a module: of the library's own the name alone, of others as it is written.
fn module_name(module: &Value) -> &str {
    let class = module["type"].as_str().unwrap_or("");
    class.strip_prefix(PACKAGE).and_then(|class| class.rsplit('.').next()).unwrap_or(class)
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
                (Some(0), _) => Err(self.bad(format!("{name} is 0, which leaves no room for anything"))),
                (Some(size), _) => Ok(Some(usize::try_from(size).unwrap_or(usize::MAX))),
                (None, Some(size)) if size >= 1e18 => Ok(Some(usize::MAX)),
                _ => Err(self.bad(format!("{name} is not a size"))),
            },
        }
    }

    fn expect_width(&self, name: &str, expected: usize, what: &str) -> Result<(), OpenError> {
        match self.size(name)? {
            Some(width) if width != expected => {
                Err(self.bad(format!("{name} is {width}, but {what} is {expected}")))
            }
            _ => Ok(()),
        }
    }

    fn expect_text(&self, name: &str, expected: &str) -> Result<(), OpenError> {
        self.expect(name, &self.value[name], expected)
    }

    /// A token is given as its text, or as an object that has it.
    fn expect_token(&self, name: &str, expected: &str) -> Result<(), OpenError> {
        let value = &self.value[name];
        self.expect(name, if value.is_object() { &value["content"] } else { value }, expected)
    }

    fn expect(&self, name: &str, value: &Value, expected: &str) -> Result<(), OpenError> {
        match value {
            Value::Null => Ok(()),
            value if value == expected => Ok(()),
            value => Err(self.bad(format!("{name} must be `{expected}`, found {value}"))),
        }
    }

    /// Refuses a transformer of whose outputs another one is taken for texts. One output is named by its name or by a list of one.
    fn expect_model_output(&self) -> Result<(), OpenError> {
        match &self.value["modality_config"]["text"]["method_output_name"] {
            Value::Null => Ok(()),
            Value::Array(names) if *names == [MODEL_OUTPUT] => Ok(()),
            value if value == MODEL_OUTPUT => Ok(()),
            value => Err(self.bad(format!(
                "modality_config.text.method_output_name must be `{MODEL_OUTPUT}`, found {value}"
            ))),
        }
    }

    /// Says which settings are not among those that are known.
    fn list_unread(&self, known: &[&str], warnings: &mut Vec<String>) {
        let names = self.value.as_object().into_iter().flat_map(|fields| fields.keys());
        for name in names.filter(|name| !known.contains(&name.as_str())) {
            warnings.push(format!("{}: nothing reads the setting `{name}`", self.path.display()));
        }
    }

    /// The names of modes in `pooling_mode`, or else switches.
    fn pooling_modes(&self) -> Result<Vec<PoolingMode>, OpenError> {
        let names: Vec<&Value> = match &self.value["pooling_mode"] {
            Value::Null => Vec::new(),
            Value::Array(names) => names.iter().collect(),
            name => vec![name],
        };
        let mut modes = Vec::new();
        for name in &names {
            let mode = name.as_str().and_then(PoolingMode::of_name);
            modes.push(mode.ok_or_else(|| self.bad(format!("the pooling mode {name} is not supported")))?);
        }
        for (name, mode) in POOLING_SWITCHES {
            if self.switch(name)?.unwrap_or(false) && names.is_empty() {
                modes.push(mode);
            }
        }
        if modes.is_empty() { Err(self.bad("no pooling mode is switched on")) } else { Ok(modes) }
    }

    /// The class that a layer's configuration names; where it names none, the hyperbolic tangent, as that library takes.
    fn activation(&self) -> Result<Activation, OpenError> {
        let class = match &self.value["activation_function"] {
            Value::Null => return Ok(Activation::Tanh),
            class => class.as_str().unwrap_or(""),
        };
        let name = class.strip_prefix("torch.nn.").and_then(|class| class.rsplit('.').next());
        let found = Activation::ALL.into_iter().find(|activation| name == Some(activation.name()));
        found.ok_or_else(|| {
            let known = Activation::ALL.map(Activation::name).join(", ");
            self.bad(format!(
                "activation_function `{class}` is not supported; supported are PyTorch's {known}"
            ))
        })
    }

    /// How many of the `width` values of each vector are kept.
    fn kept_dimensions(&self, width: usize) -> Result<Option<usize>, OpenError> {
        match self.size(TRUNCATION)? {
            Some(kept) if kept > width => {
                Err(self.bad(format!("{TRUNCATION} is {kept}, but the model's vectors have {width} values")))
            }
            kept => Ok(kept),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Regressions: these settings were not read at all; then a folder that said nothing of letters got the normaliser of its tokenizer.json.
    /// The classes are those that `AutoTokenizer` of transformers 5.24 makes.
    #[test]
    fn a_tokenizers_settings_are_those_of_its_class() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let class = |model_type: &str| tokenizer_class(folder.path(), model_type);
        let read = |text: &str| {
            write(TOKENIZER_SETTINGS, text);
            class("bert")
        };
        let own = BertSettings::default();
        // Without a file, or without a class, the model decides.
        assert_eq!(class("bert").unwrap(), TokenizerClass::Bert(own));
        assert_eq!(class("roberta").unwrap(), TokenizerClass::Roberta { add_prefix_space: false });
        assert_eq!(class("xlm-roberta").unwrap(), TokenizerClass::XlmRoberta { add_prefix_space: true });
        for text in ["{}", r#"{ "tokenizer_class": null }"#, r#"{ "tokenizer_class": "BertTokenizer" }"#] {
            assert_eq!(read(text).unwrap(), TokenizerClass::Bert(own), "{text}");
        }
        let said = r#"{ "tokenizer_class": "BertTokenizer", "do_lower_case": false, "strip_accents": null,
            "tokenize_chinese_chars": false, "add_prefix_space": true }"#;
        let plain = BertSettings { lowercase: false, handle_chinese_chars: false, ..own };
        assert_eq!(read(said).unwrap(), TokenizerClass::Bert(plain));
        for (name, expected) in [
            ("BertTokenizerFast", TokenizerClass::Bert(plain)),
            ("DistilBertTokenizerFast", TokenizerClass::Bert(plain)),
            ("RobertaTokenizerFast", TokenizerClass::Roberta { add_prefix_space: true }),
            ("PreTrainedTokenizerFast", TokenizerClass::AsWritten),
            ("TokenizersBackend", TokenizerClass::AsWritten),
            ("XLMRobertaTokenizer", TokenizerClass::XlmRoberta { add_prefix_space: true }),
            ("XLMRobertaTokenizerFast", TokenizerClass::XlmRoberta { add_prefix_space: true }),
            ("MyOwnTokenizer", TokenizerClass::AsWritten),
        ] {
            assert_eq!(read(&said.replace("BertTokenizer", name)).unwrap(), expected, "{name}");
        }
        // The model's configuration names the class where the tokenizer's does not.
        write(MODEL_SETTINGS, r#"{ "tokenizer_class": "PreTrainedTokenizerFast" }"#);
        assert_eq!(read("{}").unwrap(), TokenizerClass::AsWritten);
        assert_eq!(read(said).unwrap(), TokenizerClass::Bert(plain));
        write(MODEL_SETTINGS, "{}");
        // What stands around a text is the class's own.
        let around = |bos: &str| {
            read(&format!(
                r#"{{ "tokenizer_class": "XLMRobertaTokenizer", "add_prefix_space": false, "bos_token": {bos},
                    "eos_token": {{ "content": "</s>", "lstrip": false }} }}"#
            ))
        };
        assert_eq!(around(r#""<s>""#).unwrap(), TokenizerClass::XlmRoberta { add_prefix_space: false });
        let error = around(r#""[CLS]""#).unwrap_err().to_string();
        assert!(error.contains("bos_token must be `<s>`"), "{error}");
        let error = read(r#"{ "tokenize_chinese_chars": "no" }"#).unwrap_err().to_string();
        assert!(error.contains("tokenize_chinese_chars is neither true nor false"), "{error}");
    }
}
