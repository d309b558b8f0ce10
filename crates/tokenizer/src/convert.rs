//! One description of a tokenizer turned into the other: `tokenizer.json` and the vocabulary inside a GGUF file.
//!
//! What one of them cannot say is refused by name, so that both mean the same tokenizer.

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::gguf::{SpaceRule, UNUSED, marks_turn};
use crate::hugging_face::{
    MergeJson, NORMALISERS, PRE_TOKENISERS, TokenizerJson, alphabet_of, check_model_kind, check_size,
    json_error, mark_control_tokens, read_part, special_ids,
};
use crate::pre_tokenizers;
use crate::sentence_piece;
use crate::vocabulary::{MAX_VOCABULARY_SIZE, TokenAlphabet};
use crate::{GgufVocabulary, MAX_TOKENIZER_JSON_BYTES, TokenizerConfig, TokenizerError};

/// Token types of the GGUF format.
pub(crate) const NORMAL: i32 = 1;
pub(crate) const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
pub(crate) const USER_DEFINED: i32 = 4;

impl GgufVocabulary {
    /// The vocabulary of a `tokenizer.json`, with which [`crate::Tokenizer::from_gguf`] and llama.cpp give the same ids.
    ///
    /// # Errors
    /// As [`crate::Tokenizer::from_tokenizer_json`]; [`TokenizerError::Unsupported`] names what a GGUF file cannot say.
    pub fn from_tokenizer_json(
        bytes: &[u8],
        config: Option<&TokenizerConfig>,
    ) -> Result<GgufVocabulary, TokenizerError> {
        check_size("tokenizer.json", bytes.len(), MAX_TOKENIZER_JSON_BYTES)?;
        let mut json: TokenizerJson =
            serde_json::from_slice(bytes).map_err(|error| json_error("tokenizer.json", error))?;
        check_model_kind(&json.model)?;
        mark_control_tokens(&mut json.added_tokens, config);
        let special = special_ids(&json.added_tokens, &json.post_processor, config);
        let alphabet = alphabet_of(&json.decoder, &json.pre_tokenizer)?;
        let (tokens, token_types) = tokens(&json, alphabet)?;
        let end_of_turn = special.end_of_turn.iter().copied().find(|id| Some(*id) != special.eos);
        let vocabulary = GgufVocabulary {
            tokens,
            token_types,
            bos: special.bos,
            eos: special.eos.or(special.end_of_turn.first().copied()),
            end_of_turn,
            add_bos: Some(special.adds_bos),
            ..GgufVocabulary::default()
        };
        match alphabet {
            TokenAlphabet::ByteLevel => byte_level(json, vocabulary),
            TokenAlphabet::SentencePiece => sentence_piece::with_scores(json, vocabulary),
        }
    }

    /// The `tokenizer.json` of a vocabulary, and the `tokenizer_config.json` beside it. Unused ids at the end are left out: in that file they
    /// would be ordinary tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another kind of vocabulary or an unknown pre-tokeniser, [`TokenizerError::Vocabulary`] for
    /// contradictions.
    pub fn to_tokenizer_json(&self) -> Result<(Value, Value), TokenizerError> {
        match (self.model.as_str(), &self.pre) {
            ("gpt2", Some(pre)) => self.byte_level_json(&pre_tokenizers::by_name(pre)?),
            ("llama", _) => self.sentence_piece_json(),
            (model, _) => {
                Err(unsupported("tokenizer model to write as tokenizer.json", model, "gpt2, llama"))
            }
        }
    }

    fn byte_level_json(
        &self,
        pre: &pre_tokenizers::PreTokenisation,
    ) -> Result<(Value, Value), TokenizerError> {
        let merges: Result<Vec<_>, _> = self
            .merges
            .iter()
            .enumerate()
            .map(|(rank, merge)| crate::gguf::split_merge(rank, merge))
            .collect();
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        });
        let adds_bos = self.add_bos.unwrap_or(pre.adds_bos);
        let (vocabulary, added) = self.vocabulary_and_added();
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": pre.normaliser,
            "pre_tokenizer": pre.pre_tokeniser,
            "post_processor": self.post_processor(adds_bos).unwrap_or_else(|| bytes.clone()),
            "decoder": bytes,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": pre.ignore_merges, "vocab": vocabulary, "merges": merges?,
            },
        });
        Ok((tokenizer, self.tokenizer_config(adds_bos)))
    }

    fn sentence_piece_json(&self) -> Result<(Value, Value), TokenizerError> {
        let adds_space = self.add_space_prefix.unwrap_or(true);
        let adds_bos = self.add_bos.unwrap_or(true);
        let merges = crate::gguf::sentence_piece_merges(self)?;
        let (vocabulary, added) = self.vocabulary_and_added();
        let unknown = self.tokens.get(self.unknown.unwrap_or(0) as usize);
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": sentence_piece::normaliser(adds_space),
            "pre_tokenizer": null,
            "post_processor": self.post_processor(adds_bos),
            "decoder": sentence_piece::decoder(adds_space),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false, "vocab": vocabulary, "merges": merges,
            },
        });
        Ok((tokenizer, self.tokenizer_config(adds_bos)))
    }

    /// Every id that is used with its text, and the tokens among them that are found in texts as they are.
    fn vocabulary_and_added(&self) -> (serde_json::Map<String, Value>, Vec<Value>) {
        let spaces = SpaceRule::of(&self.model, self.tokens.iter().map(String::as_str));
        let mut vocabulary = serde_json::Map::new();
        let mut added = Vec::new();
        for (id, token) in self.tokens.iter().enumerate().take(self.used_ids()) {
            let declared = self.token_types.get(id).copied().unwrap_or(NORMAL);
            let kind = if marks_turn(token) { CONTROL } else { declared };
            let is_special = kind == CONTROL || (kind == UNKNOWN && self.model == "llama");
            // Every id stands in the vocabulary: the library numbers an added token that is not there anew.
            vocabulary.insert(token.clone(), json!(id));
            if is_special || kind == USER_DEFINED {
                let (lstrip, rstrip) = spaces.taken_by(token, is_special);
                added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": lstrip,
                    "rstrip": rstrip, "normalized": false, "special": is_special,
                }));
            }
        }
        (vocabulary, added)
    }

    /// What puts the first token before texts, where one stands there.
    fn post_processor(&self, adds_bos: bool) -> Option<Value> {
        let bos = self.text_of(self.bos).filter(|_| adds_bos)?;
        Some(json!({
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": bos, "type_id": 1 } }, { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { bos: { "id": bos, "ids": [self.bos], "tokens": [bos] } },
        }))
    }

    fn tokenizer_config(&self, adds_bos: bool) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": adds_bos && self.bos.is_some(),
            "bos_token": self.text_of(self.bos),
            "eos_token": self.text_of(self.eos),
            "clean_up_tokenization_spaces": false,
        })
    }

    fn text_of(&self, id: Option<u32>) -> Option<&String> {
        id.and_then(|id| self.tokens.get(id as usize))
    }
}

/// The rest of a byte-level vocabulary.
fn byte_level(json: TokenizerJson, vocabulary: GgufVocabulary) -> Result<GgufVocabulary, TokenizerError> {
    let normaliser: Option<NormalizerWrapper> = read_part("normaliser", json.normalizer, NORMALISERS)?;
    let pre_tokeniser: Option<PreTokenizerWrapper> =
        read_part("pre-tokeniser", json.pre_tokenizer, PRE_TOKENISERS)?;
    let pre = pre_tokenizers::name_of(pre_tokeniser.as_ref(), normaliser.as_ref(), json.model.ignore_merges)?;
    let merge = |merge: MergeJson| match merge {
        MergeJson::Pair(left, right) => format!("{left} {right}"),
        MergeJson::Line(line) => line,
    };
    Ok(GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        merges: json.model.merges.into_iter().map(merge).collect(),
        ..vocabulary
    })
}

/// The text and the type of every id; ids that stand for nothing are unused.
fn tokens(json: &TokenizerJson, alphabet: TokenAlphabet) -> Result<(Vec<String>, Vec<i32>), TokenizerError> {
    let vocabulary = &json.model.vocab.0;
    let added_ids = json.added_tokens.iter().map(|added| added.id);
    let highest = vocabulary.values().copied().chain(added_ids).max();
    let size = highest.map_or(0, |highest| (highest as usize).saturating_add(1));
    check_size("the vocabulary", size, MAX_VOCABULARY_SIZE)?;
    let mut tokens: Vec<String> = (0..size).map(unused_token).collect();
    let mut types = vec![UNUSED; size];
    for (token, &id) in vocabulary {
        tokens[id as usize].clone_from(token);
        types[id as usize] = NORMAL;
    }
    let model = match alphabet {
        TokenAlphabet::ByteLevel => "gpt2",
        TokenAlphabet::SentencePiece => "llama",
    };
    let texts = json.added_tokens.iter().map(|added| added.token.content.as_str());
    let spaces = SpaceRule::of(model, texts);
    for added in &json.added_tokens {
        let token = &added.token;
        let known = spaces.taken_by(&token.content, token.special);
        if (token.lstrip, token.rstrip) != known || token.single_word {
            let supported = match spaces {
                SpaceRule::Kept => "tokens without lstrip, rstrip and single_word",
                SpaceRule::Phi3 => "tokens with rstrip as Phi-3 has it, without lstrip and single_word",
                SpaceRule::Phi4 => {
                    "special tokens with lstrip and rstrip as Phi-4 has them, without single_word"
                }
            };
            return Err(unsupported("added token, in a GGUF file,", &token.content, supported));
        }
        tokens[added.id as usize].clone_from(&token.content);
        types[added.id as usize] = if token.special { CONTROL } else { USER_DEFINED };
    }
    Ok((tokens, types))
}

/// The text of an id that stands for nothing: every id needs one of its own.
fn unused_token(id: usize) -> String {
    format!("[PAD{id}]")
}

impl GgufVocabulary {
    /// The same vocabulary without the added tokens at its end that a model with `rows` rows has no row for: Gemma's folders have a token that
    /// stands for images, also where the model reads none.
    pub fn limited_to(mut self, rows: usize) -> GgufVocabulary {
        let is_added = |kind: &i32| matches!(*kind, CONTROL | USER_DEFINED);
        let all_added = self.token_types.get(rows..).is_some_and(|beyond| beyond.iter().all(is_added));
        let named = [self.bos, self.eos, self.end_of_turn, self.end_of_message, self.unknown];
        let has_row = |id: &u32| (*id as usize) < rows;
        if all_added && named.iter().flatten().chain(&self.more_ends).all(has_row) {
            self.tokens.truncate(rows);
            self.token_types.truncate(rows);
            self.scores.truncate(rows);
        }
        self
    }

    /// The same vocabulary for a model whose embedding has `rows` rows: more ids, which are never used.
    pub fn padded_to(mut self, rows: usize) -> GgufVocabulary {
        for id in self.tokens.len()..rows {
            self.tokens.push(unused_token(id));
            self.token_types.push(UNUSED);
            if let Some(last) = self.scores.last().copied() {
                self.scores.push(last);
            }
        }
        self
    }
}

pub(crate) fn unsupported(part: &'static str, name: &str, supported: &str) -> TokenizerError {
    TokenizerError::Unsupported { part, name: name.to_owned(), supported: supported.to_owned() }
}
