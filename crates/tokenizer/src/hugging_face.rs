//! Building a tokenizer from `tokenizer.json` and `tokenizer_config.json`.
//!
//! The envelope is read here, with limits, and only its small parts (normaliser, pre-tokeniser) are handed to the
//! library's own reader: the library panics on some malformed vocabularies. This file does not know GGUF or templates.

use ahash::AHashMap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use crate::added_tokens::{AddedTokenEntry, AddedTokens};
use crate::byte_level_encoder::ByteLevelEncoder;
use crate::gguf::{END_OF_TURN_TEXTS, build_model, check_merges, marks_turn, split_merge, without_repeats};
use crate::growth::check_growth;
use crate::tokenizer::{SpecialIds, TokenizerParts};
use crate::vocabulary::{MAX_VOCABULARY_SIZE, TokenAlphabet, TokenTable};
use crate::{Tokenizer, TokenizerError};

/// The largest `tokenizer.json` that is read (the largest published ones have 35 MB).
pub const MAX_TOKENIZER_JSON_BYTES: usize = 64 << 20;

pub(crate) const NORMALISERS: &[&str] = &[
    "Sequence",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Prepend",
    "Replace",
    "Lowercase",
    "Strip",
    "StripAccents",
    "Nmt",
    "BertNormalizer",
];
pub(crate) const PRE_TOKENISERS: &[&str] = &[
    "Sequence",
    "ByteLevel",
    "Split",
    "Digits",
    "Metaspace",
    "Punctuation",
    "Whitespace",
    "WhitespaceSplit",
    "CharDelimiterSplit",
    "UnicodeScripts",
    "BertPreTokenizer",
];
const DECODERS: &[&str] = &["Sequence", "ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"];
/// Parts inside sequences, all levels together.
const MAX_STEPS: usize = 16;
/// `Prepend` and `Replace` write at most this many bytes, so that no description can blow a text up.
const MAX_INSERTED_BYTES: usize = 8;
const MAX_PATTERN_BYTES: usize = 4096;

/// What `tokenizer_config.json` says about special tokens.
#[derive(Debug, Clone, Default)]
pub struct TokenizerConfig {
    /// Text of the beginning-of-sequence token.
    pub bos_token: Option<String>,
    /// Text of the end-of-sequence token.
    pub eos_token: Option<String>,
    /// Whether plain text begins with it.
    pub add_bos_token: Option<bool>,
    /// The template or templates, as written.
    pub chat_template: Option<Value>,
    /// `added_tokens_decoder`, as written: what it says of white space around a token comes before what `tokenizer.json` says, as in
    /// `transformers`.
    pub added_tokens: Option<Value>,
}

impl TokenizerConfig {
    /// Reads `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] when it is not a JSON object; [`TokenizerError::TooLarge`] beyond
    /// [`MAX_TOKENIZER_JSON_BYTES`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        check_size("tokenizer_config.json", bytes.len(), MAX_TOKENIZER_JSON_BYTES)?;
        let config: Value =
            serde_json::from_slice(bytes).map_err(|error| json_error("tokenizer_config.json", error))?;
        if !config.is_object() {
            return Err(TokenizerError::Json {
                file: "tokenizer_config.json",
                reason: "it is not an object".to_owned(),
            });
        }
        Ok(Self {
            bos_token: token_text(&config["bos_token"]),
            eos_token: token_text(&config["eos_token"]),
            add_bos_token: config["add_bos_token"].as_bool(),
            chat_template: config.get("chat_template").filter(|template| !template.is_null()).cloned(),
            added_tokens: config.get("added_tokens_decoder").filter(|tokens| tokens.is_object()).cloned(),
        })
    }
}

/// A token is written as its text or as an object with `content`.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

#[derive(Deserialize)]
pub(crate) struct TokenizerJson {
    #[serde(default)]
    pub(crate) added_tokens: Vec<AddedTokenJson>,
    #[serde(default)]
    pub(crate) normalizer: Value,
    #[serde(default)]
    pub(crate) pre_tokenizer: Value,
    #[serde(default)]
    pub(crate) post_processor: Value,
    #[serde(default)]
    pub(crate) decoder: Value,
    pub(crate) model: ModelJson,
}

#[derive(Deserialize)]
pub(crate) struct AddedTokenJson {
    pub(crate) id: u32,
    #[serde(flatten)]
    pub(crate) token: AddedToken,
}

#[derive(Deserialize)]
pub(crate) struct ModelJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    pub(crate) vocab: VocabularyJson,
    #[serde(default)]
    pub(crate) merges: Vec<MergeJson>,
    dropout: Option<f32>,
    pub(crate) unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    pub(crate) byte_fallback: bool,
    #[serde(default)]
    pub(crate) ignore_merges: bool,
}

/// Byte-pair vocabularies are objects; those of other models (Unigram) are lists, which are skipped here and refused
/// later by the model's name.
#[derive(Default)]
pub(crate) struct VocabularyJson(pub(crate) AHashMap<String, u32>);

impl<'de> Deserialize<'de> for VocabularyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabularyVisitor;
        impl<'de> Visitor<'de> for VocabularyVisitor {
            type Value = VocabularyJson;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of token texts and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut vocabulary = AHashMap::new();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    vocabulary.insert(token, id);
                }
                Ok(VocabularyJson(vocabulary))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                while entries.next_element::<IgnoredAny>()?.is_some() {}
                Ok(VocabularyJson::default())
            }
        }
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum MergeJson {
    Pair(String, String),
    Line(String),
}

impl Tokenizer {
    /// Builds a tokenizer from the bytes of `tokenizer.json` and, where there is one, `tokenizer_config.json`.
    ///
    /// Safe on hostile bytes: sizes are limited and every reference is checked before use.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] with line and column, [`TokenizerError::Unsupported`] for anything but byte-pair encoding,
    /// [`TokenizerError::Vocabulary`] for contradictions, [`TokenizerError::TooLarge`] beyond the limits.
    pub fn from_tokenizer_json(
        bytes: &[u8],
        config: Option<&TokenizerConfig>,
    ) -> Result<Self, TokenizerError> {
        check_size("tokenizer.json", bytes.len(), MAX_TOKENIZER_JSON_BYTES)?;
        let mut json: TokenizerJson =
            serde_json::from_slice(bytes).map_err(|error| json_error("tokenizer.json", error))?;
        check_model_kind(&json.model)?;
        // A token that the model has keeps the model's id, whatever the list says, as in Hugging Face's library.
        for added in &mut json.added_tokens {
            if let Some(&id) = json.model.vocab.0.get(&added.token.content) {
                added.id = id;
            }
        }
        mark_control_tokens(&mut json.added_tokens, config);
        let alphabet = alphabet_of(&json.decoder, &json.pre_tokenizer)?;
        let strips_leading_space = strips_leading_space(&json.decoder);
        check_growth(&[&json.normalizer, &json.pre_tokenizer])?;
        check_growth(&[&json.decoder])?;
        let normaliser: Option<NormalizerWrapper> = read_part("normaliser", json.normalizer, NORMALISERS)?;
        let pre_tokeniser: Option<PreTokenizerWrapper> =
            read_part("pre-tokeniser", json.pre_tokenizer, PRE_TOKENISERS)?;
        let table = build_table(&json.model.vocab.0, &json.added_tokens, alphabet)?;
        let special_ids = special_ids(&json.added_tokens, &json.post_processor, config);
        let entries = json
            .added_tokens
            .into_iter()
            .map(|added| AddedTokenEntry { id: added.id, token: added.token })
            .collect();
        let added = AddedTokens::new(entries, normaliser.as_ref())?;
        let (model, byte_level_encoder) =
            read_model(json.model, pre_tokeniser.as_ref(), normaliser.as_ref())?;
        Ok(Self::from_parts(TokenizerParts {
            normaliser,
            pre_tokeniser,
            model,
            byte_level_encoder,
            added,
            table,
            special_ids,
            strips_leading_space,
        }))
    }
}

pub(crate) fn check_model_kind(model: &ModelJson) -> Result<(), TokenizerError> {
    let unsupported = |part, name: String, supported: &str| {
        Err(TokenizerError::Unsupported { part, name, supported: supported.to_owned() })
    };
    match model.kind.as_deref() {
        Some("BPE") | None => {}
        Some(other) => return unsupported("tokenizer model", other.to_owned(), "BPE"),
    }
    if let Some(prefix) = model.continuing_subword_prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
        return unsupported("continuing_subword_prefix", prefix.clone(), "none");
    }
    if let Some(suffix) = model.end_of_word_suffix.as_ref().filter(|suffix| !suffix.is_empty()) {
        return unsupported("end_of_word_suffix", suffix.clone(), "none");
    }
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        return unsupported("dropout", dropout.to_string(), "0, because ids must not be random");
    }
    Ok(())
}

fn read_model(
    model: ModelJson,
    pre_tokeniser: Option<&PreTokenizerWrapper>,
    normaliser: Option<&NormalizerWrapper>,
) -> Result<(BPE, Option<ByteLevelEncoder>), TokenizerError> {
    let mut merges = Vec::with_capacity(model.merges.len());
    for (rank, merge) in model.merges.into_iter().enumerate() {
        merges.push(match merge {
            MergeJson::Pair(left, right) => (left, right),
            MergeJson::Line(line) => split_merge(rank, &line)?,
        });
    }
    check_merges(&model.vocab.0, &merges)?;
    let encoder = (model.unk_token.is_none() && !model.byte_fallback)
        .then(|| {
            ByteLevelEncoder::new(pre_tokeniser, normaliser, &model.vocab.0, &merges, model.ignore_merges)
        })
        .flatten();
    let mut builder = BPE::builder()
        .vocab_and_merges(model.vocab.0, merges)
        .fuse_unk(model.fuse_unk)
        .byte_fallback(model.byte_fallback)
        .ignore_merges(model.ignore_merges);
    if let Some(unknown) = model.unk_token {
        builder = builder.unk_token(unknown);
    }
    Ok((build_model(builder)?, encoder))
}

/// Reads a small part with the library's own reader after checking that everything in it is known and bounded.
pub(crate) fn read_part<T: DeserializeOwned>(
    part: &'static str,
    value: Value,
    supported: &[&str],
) -> Result<Option<T>, TokenizerError> {
    if value.is_null() {
        return Ok(None);
    }
    let mut steps = 0;
    check_steps(part, &value, supported, &mut steps)?;
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| TokenizerError::Part { part, reason: error.to_string() })
}

pub(crate) fn check_steps(
    part: &'static str,
    value: &Value,
    supported: &[&str],
    steps: &mut usize,
) -> Result<(), TokenizerError> {
    *steps += 1;
    check_size("a sequence of steps", *steps, MAX_STEPS)?;
    let name = value["type"].as_str().unwrap_or("without a type");
    if !supported.contains(&name) {
        return Err(TokenizerError::Unsupported {
            part,
            name: name.to_owned(),
            supported: supported.join(", "),
        });
    }
    for key in ["content", "prepend"] {
        if let Some(inserted) = value[key].as_str() {
            check_size("the text that a step inserts", inserted.len(), MAX_INSERTED_BYTES)?;
        }
    }
    for key in ["Regex", "String"] {
        if let Some(pattern) = value["pattern"][key].as_str() {
            check_size("a pattern", pattern.len(), MAX_PATTERN_BYTES)?;
        }
    }
    let inner = ["normalizers", "pretokenizers", "processors"]
        .iter()
        .filter_map(|key| value[*key].as_array())
        .flatten();
    for step in inner {
        check_steps(part, step, supported, steps)?;
    }
    Ok(())
}

/// The names of all steps of a decoder or pre-tokeniser, outermost first.
fn step_names<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    names.extend(value["type"].as_str());
    let inner = ["decoders", "pretokenizers"].iter().filter_map(|key| value[*key].as_array()).flatten();
    for step in inner {
        step_names(step, names);
    }
}

pub(crate) fn alphabet_of(decoder: &Value, pre_tokeniser: &Value) -> Result<TokenAlphabet, TokenizerError> {
    let mut names = Vec::new();
    step_names(decoder, &mut names);
    if let Some(unknown) = names.iter().find(|name| !DECODERS.contains(name)) {
        return Err(TokenizerError::Unsupported {
            part: "decoder",
            name: (*unknown).to_owned(),
            supported: DECODERS.join(", "),
        });
    }
    if decoder.is_null() {
        step_names(pre_tokeniser, &mut names);
    }
    if names.contains(&"ByteLevel") {
        Ok(TokenAlphabet::ByteLevel)
    } else if names.iter().any(|name| ["ByteFallback", "Metaspace", "Replace"].contains(name)) {
        Ok(TokenAlphabet::SentencePiece)
    } else {
        Err(TokenizerError::Unsupported {
            part: "decoder",
            name: if names.is_empty() { "missing".to_owned() } else { names.join(", ") },
            supported: "ByteLevel, or Replace / ByteFallback / Metaspace".to_owned(),
        })
    }
}

/// Whether decoding a whole text takes away the space that encoding put before it.
fn strips_leading_space(decoder: &Value) -> bool {
    match decoder["type"].as_str() {
        Some("Strip") => decoder["content"] == " " && decoder["start"] == 1,
        Some("Metaspace") => {
            decoder["prepend_scheme"].as_str().unwrap_or("always") != "never"
                && decoder["add_prefix_space"].as_bool() != Some(false)
        }
        _ => decoder["decoders"].as_array().is_some_and(|steps| steps.iter().any(strips_leading_space)),
    }
}

/// Makes control tokens of those that the configuration names as the beginning or the end of a sequence, and of those that begin or end turns,
/// as in GGUF files: what a file calls an ordinary word could be written by users. Takes over what the configuration says of them, as transformers does.
pub(crate) fn mark_control_tokens(added: &mut [AddedTokenJson], config: Option<&TokenizerConfig>) {
    let named = config.map(|config| [config.bos_token.as_deref(), config.eos_token.as_deref()]);
    let named = named.unwrap_or_default();
    let configured = config.and_then(|config| config.added_tokens.as_ref()?.as_object());
    let configured: AHashMap<&str, &Value> = configured
        .into_iter()
        .flat_map(|tokens| tokens.values())
        .filter_map(|token| Some((token["content"].as_str()?, token)))
        .collect();
    for AddedTokenJson { token, .. } in added {
        if let Some(configured) = configured.get(token.content.as_str()) {
            token.lstrip = configured["lstrip"] == true;
            token.rstrip = configured["rstrip"] == true;
            token.single_word = configured["single_word"] == true;
            token.special |= configured["special"] == true;
            if let Some(normalized) = configured["normalized"].as_bool() {
                token.normalized = normalized;
            }
        }
        let is_control = named.contains(&Some(token.content.as_str())) || marks_turn(&token.content);
        token.special |= is_control;
    }
}

fn build_table(
    vocabulary: &AHashMap<String, u32>,
    added: &[AddedTokenJson],
    alphabet: TokenAlphabet,
) -> Result<TokenTable, TokenizerError> {
    if vocabulary.is_empty() {
        return Err(TokenizerError::Vocabulary("the model has no vocabulary".to_owned()));
    }
    let highest = vocabulary.values().copied().chain(added.iter().map(|added| added.id)).max().unwrap_or(0);
    check_size("the vocabulary", (highest as usize).saturating_add(1), MAX_VOCABULARY_SIZE)?;
    let mut tokens: Vec<Option<(Vec<u8>, bool)>> = vec![None; highest as usize + 1];
    for (token, &id) in vocabulary {
        let slot = &mut tokens[id as usize];
        if slot.is_some() {
            return Err(TokenizerError::Vocabulary(format!("two tokens have the id {id}")));
        }
        *slot = Some((alphabet.bytes_of(token), false));
    }
    for added in added {
        let AddedToken { content, special, .. } = &added.token;
        let bytes = if *special { content.clone().into_bytes() } else { alphabet.bytes_of_added(content) };
        tokens[added.id as usize] = Some((bytes, *special));
    }
    TokenTable::new(tokens.into_iter().map(Option::unwrap_or_default))
}

/// The control token that a post-processor writes before the text.
fn leading_special_token(post_processor: &Value) -> Option<&str> {
    match post_processor["type"].as_str()? {
        "TemplateProcessing" => post_processor["single"][0]["SpecialToken"]["id"].as_str(),
        "Sequence" => post_processor["processors"].as_array()?.iter().find_map(leading_special_token),
        _ => None,
    }
}

pub(crate) fn special_ids(
    added: &[AddedTokenJson],
    post_processor: &Value,
    config: Option<&TokenizerConfig>,
) -> SpecialIds {
    let id_of = |text: &str| added.iter().find(|added| added.token.content == text).map(|added| added.id);
    let leading = leading_special_token(post_processor);
    let bos_text = config.and_then(|config| config.bos_token.as_deref()).or(leading);
    let bos = bos_text.and_then(id_of);
    let eos = config.and_then(|config| config.eos_token.as_deref()).and_then(id_of);
    let declared = config.and_then(|config| config.add_bos_token);
    // False takes nothing away: AutoTokenizer leaves the setting aside where there is a `tokenizer.json`, whose template counts.
    let adds_bos = leading.is_some() && leading == bos_text || declared == Some(true);
    let special = added.iter().filter(|added| added.token.special);
    let ends_turn = special.filter(|added| END_OF_TURN_TEXTS.contains(&added.token.content.as_str()));
    let end_of_turn = eos.into_iter().chain(ends_turn.map(|added| added.id)).collect();
    SpecialIds { bos, eos, adds_bos, end_of_turn: without_repeats(end_of_turn) }
}

pub(crate) fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), TokenizerError> {
    if size > limit { Err(TokenizerError::TooLarge { what, size, limit }) } else { Ok(()) }
}

pub(crate) fn json_error(file: &'static str, error: serde_json::Error) -> TokenizerError {
    TokenizerError::Json { file, reason: error.to_string() }
}
