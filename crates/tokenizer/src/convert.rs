//! One description of a tokenizer turned into the other: `tokenizer.json` and the vocabulary inside a GGUF file.
//!
//! What one of them cannot say is refused by name, so that both mean the same tokenizer.

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::gguf::{UNUSED, marks_turn};
use crate::hugging_face::{
    MergeJson, NORMALISERS, PRE_TOKENISERS, TokenizerJson, alphabet_of, check_model_kind, check_size,
    json_error, mark_control_tokens, read_part, special_ids,
};
use crate::pre_tokenizers;
use crate::vocabulary::{MAX_VOCABULARY_SIZE, TokenAlphabet};
use crate::{GgufVocabulary, MAX_TOKENIZER_JSON_BYTES, TokenizerConfig, TokenizerError};

/// Token types of the GGUF format.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

impl GgufVocabulary {
    /// The vocabulary of a byte-level `tokenizer.json`, with which [`crate::Tokenizer::from_gguf`] and llama.cpp give the
    /// same ids.
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
        if alphabet_of(&json.decoder, &json.pre_tokenizer)? != TokenAlphabet::ByteLevel {
            return Err(unsupported(
                "tokenizer model, in a GGUF file,",
                "SentencePiece BPE",
                "byte-level BPE",
            ));
        }
        let special = special_ids(&json.added_tokens, &json.post_processor, config);
        let (tokens, token_types) = tokens(&json)?;
        let normaliser: Option<NormalizerWrapper> = read_part("normaliser", json.normalizer, NORMALISERS)?;
        let pre_tokeniser: Option<PreTokenizerWrapper> =
            read_part("pre-tokeniser", json.pre_tokenizer, PRE_TOKENISERS)?;
        let pre =
            pre_tokenizers::name_of(pre_tokeniser.as_ref(), normaliser.as_ref(), json.model.ignore_merges)?;
        let merge = |merge: MergeJson| match merge {
            MergeJson::Pair(left, right) => format!("{left} {right}"),
            MergeJson::Line(line) => line,
        };
        let end_of_turn = special.end_of_turn.iter().copied().find(|id| Some(*id) != special.eos);
        Ok(GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: Some(pre.to_owned()),
            tokens,
            token_types,
            merges: json.model.merges.into_iter().map(merge).collect(),
            bos: special.bos,
            eos: special.eos.or(special.end_of_turn.first().copied()),
            end_of_turn,
            add_bos: Some(special.adds_bos),
            ..GgufVocabulary::default()
        })
    }

    /// The `tokenizer.json` of a byte-level vocabulary, and the `tokenizer_config.json` beside it. Unused ids at the end are left out: in
    /// that file they would be ordinary tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another kind of vocabulary or an unknown pre-tokeniser.
    pub fn to_tokenizer_json(&self) -> Result<(Value, Value), TokenizerError> {
        let pre = match (self.model.as_str(), &self.pre) {
            ("gpt2", Some(pre)) => pre_tokenizers::by_name(pre)?,
            (model, _) => {
                return Err(unsupported("tokenizer model to write as tokenizer.json", model, "gpt2"));
            }
        };
        let mut vocabulary = serde_json::Map::new();
        let mut added = Vec::new();
        for (id, token) in self.tokens.iter().enumerate().take(self.used_ids()) {
            let declared = self.token_types.get(id).copied().unwrap_or(NORMAL);
            let kind = if marks_turn(token) { CONTROL } else { declared };
            // Every id stands in the vocabulary: the library numbers an added token that is not there anew.
            vocabulary.insert(token.clone(), json!(id));
            if matches!(kind, CONTROL | USER_DEFINED) {
                added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind == CONTROL,
                }));
            }
        }
        let merges: Result<Vec<_>, _> = self
            .merges
            .iter()
            .enumerate()
            .map(|(rank, merge)| crate::gguf::split_merge(rank, merge))
            .collect();
        let text = |id: Option<u32>| id.and_then(|id| self.tokens.get(id as usize));
        let adds_bos = self.add_bos.unwrap_or(pre.adds_bos);
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        });
        let post_processor = match (adds_bos, text(self.bos)) {
            (true, Some(bos)) => json!({
                "type": "TemplateProcessing",
                "single": [
                    { "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                ],
                "pair": [
                    { "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                    { "SpecialToken": { "id": bos, "type_id": 1 } }, { "Sequence": { "id": "B", "type_id": 1 } },
                ],
                "special_tokens": { bos: { "id": bos, "ids": [self.bos], "tokens": [bos] } },
            }),
            _ => bytes.clone(),
        };
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": pre.normaliser,
            "pre_tokenizer": pre.pre_tokeniser,
            "post_processor": post_processor,
            "decoder": bytes,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": pre.ignore_merges, "vocab": vocabulary, "merges": merges?,
            },
        });
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": adds_bos && self.bos.is_some(),
            "bos_token": text(self.bos),
            "eos_token": text(self.eos),
            "clean_up_tokenization_spaces": false,
        });
        Ok((tokenizer, config))
    }
}

/// The text and the type of every id; ids that stand for nothing are unused.
fn tokens(json: &TokenizerJson) -> Result<(Vec<String>, Vec<i32>), TokenizerError> {
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
    for added in &json.added_tokens {
        let token = &added.token;
        if token.lstrip || token.rstrip || token.single_word {
            let supported = "tokens without lstrip, rstrip and single_word";
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
    /// The same vocabulary for a model whose embedding has `rows` rows: more ids, which are never used.
    pub fn padded_to(mut self, rows: usize) -> GgufVocabulary {
        for id in self.tokens.len()..rows {
            self.tokens.push(unused_token(id));
            self.token_types.push(UNUSED);
        }
        self
    }
}

fn unsupported(part: &'static str, name: &str, supported: &str) -> TokenizerError {
    TokenizerError::Unsupported { part, name: name.to_owned(), supported: supported.to_owned() }
}
