//! Rebuilding an encoder's tokenizer from the vocabulary inside a GGUF file: WordPiece (BERT) and Unigram (XLM-RoBERTa).
//!
//! llama.cpp's converter writes WordPiece's tokens in SentencePiece's way: `▁` before the first piece of a word, nothing before the others.
//! Older converters leave out whether texts are put into lower case; a vocabulary without any capital letter says it then.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::vocabulary::MAX_VOCABULARY_SIZE;
use crate::{TextEncoder, TokenizerError};

/// What stands for a space.
const SPACE: char = '▁';
/// The types of tokens that texts do not hold, and of those that are found in texts as they are.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNKNOWN: i32 = 2;

/// The special tokens of BERT's own vocabularies and their ids, which llama.cpp takes where a file with WordPiece names none.
const USUAL_IDS: [(&str, u32); 3] = [("[UNK]", 100), ("[CLS]", 101), ("[SEP]", 102)];

/// The values of `tokenizer.ggml.*` in the file of an encoder, each under its own name.
#[derive(Debug, Clone, Default)]
pub struct GgufTextVocabulary {
    /// `model`: `bert` (WordPiece) or `t5` (Unigram).
    pub model: String,
    /// `tokens`, one per id.
    pub tokens: Vec<String>,
    /// `token_type`, one per id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. May be empty.
    pub token_types: Vec<i32>,
    /// `scores`, one per id; Unigram only.
    pub scores: Vec<f32>,
    /// `precompiled_charsmap`: how Unigram normalises texts. May be empty.
    pub character_map: Vec<u8>,
    /// What stands before a text (`cls_token_id`, `bos_token_id`), if anything does.
    pub first: Option<u32>,
    /// What stands behind it (`seperator_token_id`, `eos_token_id`), if anything does.
    pub last: Option<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `normalizer.lowercase`: whether texts are put into lower case. Where it is absent, WordPiece's tokens say it, and Unigram does not.
    pub lowercase: Option<bool>,
    /// `normalizer.strip_accents`: whether letters lose their accents. Where it is absent, WordPiece takes them away with capitals.
    pub strip_accents: Option<bool>,
}

impl TextEncoder {
    /// Rebuilds the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another `model`, [`TokenizerError::Vocabulary`] where lists disagree in length, two ids have one
    /// token or a special id lies outside the vocabulary.
    pub fn from_gguf(vocabulary: &GgufTextVocabulary) -> Result<TextEncoder, TokenizerError> {
        let count = vocabulary.tokens.len();
        if count > MAX_VOCABULARY_SIZE {
            let what = "tokenizer.ggml.tokens";
            return Err(TokenizerError::TooLarge { what, size: count, limit: MAX_VOCABULARY_SIZE });
        }
        for (what, length) in
            [("token_type", vocabulary.token_types.len()), ("scores", vocabulary.scores.len())]
        {
            if length != 0 && length != count {
                let problem = format!("tokenizer.ggml.{what} has {length} entries for {count} tokens");
                return Err(TokenizerError::Vocabulary(problem));
            }
        }
        let (model, normalizer, pre_tokenizer) = match vocabulary.model.as_str() {
            "bert" => word_piece(vocabulary)?,
            "t5" => unigram(vocabulary)?,
            other => {
                return Err(TokenizerError::Unsupported {
                    part: "tokenizer model (tokenizer.ggml.model) of an encoder",
                    name: other.to_owned(),
                    supported: "bert, t5".to_owned(),
                });
            }
        };
        let document = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added_tokens(vocabulary),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": post_processor(vocabulary)?,
            "decoder": null,
            "model": model,
        });
        TextEncoder::from_tokenizer_json(document.to_string().as_bytes())
    }
}

impl GgufTextVocabulary {
    /// The id that `[UNK]`, `[CLS]` or `[SEP]` has in BERT's own vocabularies, if this is WordPiece and has the token there.
    pub fn usual_id(&self, token: &str) -> Option<u32> {
        let (_, id) = USUAL_IDS.into_iter().find(|(usual, _)| *usual == token)?;
        let is_there = self.tokens.get(id as usize).is_some_and(|found| found == token);
        (self.model == "bert" && is_there).then_some(id)
    }

    fn kind(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(1)
    }

    fn token(&self, what: &str, id: u32) -> Result<&str, TokenizerError> {
        let count = self.tokens.len();
        let outside = || {
            TokenizerError::Vocabulary(format!(
                "the {what} token is {id}, outside the vocabulary of {count} tokens"
            ))
        };
        self.tokens.get(id as usize).map(String::as_str).ok_or_else(outside)
    }

    fn unknown(&self) -> Result<&str, TokenizerError> {
        let missing = || TokenizerError::Vocabulary("tokenizer.ggml.unknown_token_id is missing".to_owned());
        self.token("unknown", self.unknown.ok_or_else(missing)?)
    }
}

type Parts = (Value, Value, Value);

fn word_piece(vocabulary: &GgufTextVocabulary) -> Result<Parts, TokenizerError> {
    let is_special = |id: usize| {
        matches!(vocabulary.kind(id), CONTROL | UNKNOWN | USER_DEFINED)
            || [vocabulary.first, vocabulary.last, vocabulary.unknown].contains(&u32::try_from(id).ok())
    };
    let mut pieces = Map::new();
    let mut has_capitals = false;
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let piece = match (is_special(id), token.strip_prefix(SPACE)) {
            (true, _) => token.clone(),
            (false, Some(word)) => {
                // The lists without capitals have `[UNK]` and signs such as ℝ too.
                has_capitals |=
                    !word.starts_with('[') && word.chars().any(|letter| letter.is_ascii_uppercase());
                word.to_owned()
            }
            (false, None) => format!("##{token}"),
        };
        if pieces.insert(piece, json!(id)).is_some() {
            let problem = format!("tokenizer.ggml.tokens: token {id}, {token:?}, stood before");
            return Err(TokenizerError::Vocabulary(problem));
        }
    }
    let model = json!({
        "type": "WordPiece", "unk_token": vocabulary.unknown()?, "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": pieces,
    });
    let normalizer = json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": vocabulary.strip_accents, "lowercase": vocabulary.lowercase.unwrap_or(!has_capitals),
    });
    Ok((model, normalizer, json!({ "type": "BertPreTokenizer" })))
}

fn unigram(vocabulary: &GgufTextVocabulary) -> Result<Parts, TokenizerError> {
    if vocabulary.scores.is_empty() {
        return Err(TokenizerError::Vocabulary("tokenizer.ggml.scores is missing".to_owned()));
    }
    vocabulary.unknown()?;
    let pieces: Vec<Value> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.scores)
        .map(|(token, score)| json!([token, f64::from(*score)]))
        .collect();
    let model =
        json!({ "type": "Unigram", "unk_id": vocabulary.unknown, "vocab": pieces, "byte_fallback": false });
    let mut steps = Vec::new();
    if vocabulary.strip_accents == Some(true) {
        steps.extend([json!({ "type": "NFD" }), json!({ "type": "StripAccents" })]);
    }
    if vocabulary.lowercase == Some(true) {
        steps.push(json!({ "type": "Lowercase" }));
    }
    if !vocabulary.character_map.is_empty() {
        let map = STANDARD.encode(&vocabulary.character_map);
        steps.push(json!({ "type": "Precompiled", "precompiled_charsmap": map }));
    }
    let normalizer =
        if steps.is_empty() { Value::Null } else { json!({ "type": "Sequence", "normalizers": steps }) };
    let pre_tokenizer = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "WhitespaceSplit" },
        { "type": "Metaspace", "replacement": SPACE.to_string(), "prepend_scheme": "always", "split": true },
    ] });
    Ok((model, normalizer, pre_tokenizer))
}

fn added_tokens(vocabulary: &GgufTextVocabulary) -> Vec<Value> {
    let entry = |(id, token): (usize, &String)| {
        let kind = vocabulary.kind(id);
        let is_added = matches!(kind, CONTROL | USER_DEFINED | UNKNOWN) && !token.is_empty();
        is_added.then(|| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": kind != USER_DEFINED,
            })
        })
    };
    vocabulary.tokens.iter().enumerate().filter_map(entry).collect()
}

fn post_processor(vocabulary: &GgufTextVocabulary) -> Result<Value, TokenizerError> {
    let mut special = Map::new();
    let mut template = |what: &str, id: Option<u32>| -> Result<Option<Value>, TokenizerError> {
        let Some(id) = id else { return Ok(None) };
        let token = vocabulary.token(what, id)?;
        special.insert(token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }));
        Ok(Some(json!({ "SpecialToken": { "id": token, "type_id": 0 } })))
    };
    let (first, last) = (template("first", vocabulary.first)?, template("last", vocabulary.last)?);
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let single: Vec<Value> = first.into_iter().chain([text]).chain(last).collect();
    let pair =
        json!([{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }]);
    Ok(json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bert(words: &[&str]) -> GgufTextVocabulary {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
        GgufTextVocabulary {
            model: "bert".to_owned(),
            tokens: special.iter().chain(words).map(|token| (*token).to_owned()).collect(),
            token_types: special.iter().map(|_| CONTROL).chain(words.iter().map(|_| 1)).collect(),
            first: Some(2),
            last: Some(3),
            unknown: Some(1),
            ..GgufTextVocabulary::default()
        }
    }

    #[test]
    fn words_and_their_pieces_are_told_apart() {
        let encoder = TextEncoder::from_gguf(&bert(&["▁un", "able", "▁able", "▁你", "▁好", "▁ℝ"])).unwrap();
        assert_eq!(encoder.encode("Unable ÀBLE 你好 x").unwrap(), [2, 4, 5, 6, 7, 8, 1, 3]);
        assert_eq!(encoder.encode("able [SEP]").unwrap(), [2, 6, 3, 3]);
    }

    /// Regression: a file without the ids of special tokens was refused; llama.cpp takes those of BERT's own vocabularies.
    #[test]
    fn special_tokens_without_ids_are_looked_for_where_bert_has_them() {
        let mut tokens: Vec<String> = (0..100).map(|id| format!("[unused{id}]")).collect();
        tokens.extend(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁a"].map(str::to_owned));
        let mut vocabulary =
            GgufTextVocabulary { model: "bert".to_owned(), tokens, ..GgufTextVocabulary::default() };
        vocabulary.unknown = vocabulary.usual_id("[UNK]");
        vocabulary.first = vocabulary.usual_id("[CLS]");
        vocabulary.last = vocabulary.usual_id("[SEP]");
        let encoder = TextEncoder::from_gguf(&vocabulary).unwrap();
        assert_eq!(encoder.encode("a x").unwrap(), [101, 104, 100, 102]);
        assert_eq!(vocabulary.usual_id("[MASK]"), None);
        vocabulary.tokens.swap(100, 103);
        assert_eq!(vocabulary.usual_id("[UNK]"), None);
        vocabulary.model = "t5".to_owned();
        assert_eq!(vocabulary.usual_id("[CLS]"), None);
    }

    #[test]
    fn a_vocabulary_with_capitals_keeps_them() {
        let encoder = TextEncoder::from_gguf(&bert(&["▁Paris", "▁paris"])).unwrap();
        assert_eq!(encoder.encode("Paris paris").unwrap(), [2, 4, 5, 3]);
    }

    /// Regression: the two settings were ignored, and the tokens' letters decided.
    #[test]
    fn what_the_file_says_of_letters_is_not_guessed() {
        let ids = |lowercase: Option<bool>, strip_accents: Option<bool>, words: &[&str], text: &str| {
            let vocabulary = GgufTextVocabulary { lowercase, strip_accents, ..bert(words) };
            TextEncoder::from_gguf(&vocabulary).unwrap().encode(text).unwrap()
        };
        let (with_capitals, without) = (["▁Able", "▁able"], ["▁able", "▁àble"]);
        assert_eq!(ids(None, None, &with_capitals, "Able"), [2, 4, 3]);
        assert_eq!(ids(Some(true), None, &with_capitals, "Able"), [2, 5, 3]);
        assert_eq!(ids(None, None, &without, "Able Àble"), [2, 4, 4, 3]);
        assert_eq!(ids(Some(false), None, &without, "Able able"), [2, 1, 4, 3]);
        assert_eq!(ids(Some(true), Some(false), &without, "Àble"), [2, 5, 3]);
        assert_eq!(ids(Some(false), Some(true), &without, "àble"), [2, 4, 3]);
    }

    #[test]
    fn unigram_changes_letters_only_where_the_file_says_so() {
        let ids = |lowercase: Option<bool>, strip_accents: Option<bool>| {
            let vocabulary = GgufTextVocabulary { lowercase, strip_accents, ..small_unigram() };
            TextEncoder::from_gguf(&vocabulary).unwrap().encode("A á").unwrap()
        };
        assert_eq!(ids(Some(true), Some(true)), [0, 4, 4, 2]);
        for plain in [ids(None, None), ids(Some(false), Some(false))] {
            assert!(!plain.contains(&4), "{plain:?}");
        }
    }

    fn small_unigram() -> GgufTextVocabulary {
        let tokens = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "b", "▁ab", "▁"];
        GgufTextVocabulary {
            model: "t5".to_owned(),
            tokens: tokens.iter().map(|token| (*token).to_owned()).collect(),
            token_types: vec![3, 3, 3, 2, 1, 1, 1, 1],
            scores: vec![0.0, 0.0, 0.0, 0.0, -2.0, -2.0, -3.0, -5.0],
            first: Some(0),
            last: Some(2),
            unknown: Some(3),
            ..GgufTextVocabulary::default()
        }
    }

    #[test]
    fn unigram_takes_the_likeliest_pieces() {
        let encoder = TextEncoder::from_gguf(&small_unigram()).unwrap();
        assert_eq!(encoder.encode(" ab  a abb").unwrap(), [0, 6, 4, 6, 5, 2]);
    }

    #[test]
    fn contradictions_are_named() {
        let with = |change: &dyn Fn(&mut GgufTextVocabulary)| {
            let mut vocabulary = bert(&["▁a"]);
            change(&mut vocabulary);
            TextEncoder::from_gguf(&vocabulary).unwrap_err().to_string()
        };
        for (change, words) in [
            (
                &(|v: &mut GgufTextVocabulary| v.tokens.push("▁a".to_owned())) as &dyn Fn(&mut _),
                "token_type has 5",
            ),
            (&|v: &mut GgufTextVocabulary| v.first = Some(9), "the first token is 9"),
            (&|v: &mut GgufTextVocabulary| v.unknown = None, "unknown_token_id is missing"),
            (&|v: &mut GgufTextVocabulary| v.model = "gpt2".to_owned(), "bert, t5"),
            (&|v: &mut GgufTextVocabulary| v.model = "t5".to_owned(), "scores is missing"),
            (&|v: &mut GgufTextVocabulary| v.tokens[4] = "▁[PAD]".to_owned(), "stood before"),
        ] {
            let said = with(change);
            assert!(said.contains(words), "{said}");
        }
    }
}
