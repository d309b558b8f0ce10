//! SentencePiece's vocabularies in both descriptions: pieces and merges in `tokenizer.json`, pieces and scores in a GGUF file.
//!
//! Scores merge the two neighbours whose union has the best score. A list of merges says the same if it has every way to cut a piece into two
//! others, those of the best piece first, as the converters of SentencePiece's models write it; that is checked.

use std::collections::HashSet;

use ahash::AHashMap;
use serde_json::{Value, json};

use crate::convert::{NORMAL, UNKNOWN, USER_DEFINED, unsupported};
use crate::gguf::{sentence_piece_merges, split_merge};
use crate::hugging_face::{MergeJson, ModelJson, TokenizerJson};
use crate::vocabulary::byte_of_fallback_token;
use crate::{GgufVocabulary, TokenizerError};

/// The type of the tokens of single bytes.
const BYTE: i32 = 6;

/// What turns spaces into `▁`, and puts one before every text.
pub(crate) fn normaliser(adds_space: bool) -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let prepend = json!({ "type": "Prepend", "prepend": "▁" });
    if adds_space { json!({ "type": "Sequence", "normalizers": [prepend, replace] }) } else { replace }
}

/// The way back.
pub(crate) fn decoder(adds_space: bool) -> Value {
    let mut steps = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if adds_space {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

/// The vocabulary with the scores that say the same as the merges.
///
/// # Errors
/// [`TokenizerError::Unsupported`] names what a GGUF file cannot say, [`TokenizerError::Vocabulary`] says what contradicts itself.
pub(crate) fn with_scores(
    json: TokenizerJson,
    vocabulary: GgufVocabulary,
) -> Result<GgufVocabulary, TokenizerError> {
    let adds_space = adds_space(&json.normalizer, &json.pre_tokenizer)?;
    let unknown = unknown_id(&json.model)?;
    if let Some(added) = json.added_tokens.iter().find(|added| added.token.normalized) {
        let supported = "tokens that are looked for in the text as it was written";
        return Err(unsupported(
            "added token with `normalized`, in a GGUF file,",
            &added.token.content,
            supported,
        ));
    }
    let GgufVocabulary { mut tokens, mut token_types, .. } = vocabulary;
    for (token, kind) in tokens.iter_mut().zip(&mut token_types) {
        match *kind {
            NORMAL if byte_of_fallback_token(token).is_some() => *kind = BYTE,
            // They are found in texts, whose spaces are spaces.
            USER_DEFINED => *token = token.replace('▁', " "),
            _ => {}
        }
    }
    token_types[unknown as usize] = UNKNOWN;
    check_distinct(&tokens)?;
    let merges = merges_of_pieces(json.model, &token_types)?;
    let scores = scores(&merges, &tokens);
    let vocabulary = GgufVocabulary {
        model: "llama".to_owned(),
        pre: Some("default".to_owned()),
        tokens,
        token_types,
        scores,
        unknown: Some(unknown),
        add_space_prefix: Some(adds_space),
        ..vocabulary
    };
    if by_union(&sentence_piece_merges(&vocabulary)?) != by_union(&merges) {
        let supported = "every way to cut each piece into two others, those of the best piece first";
        return Err(unsupported("order of merges, in a GGUF file,", "of its own", supported));
    }
    Ok(vocabulary)
}

fn check_distinct(tokens: &[String]) -> Result<(), TokenizerError> {
    let mut seen = HashSet::with_capacity(tokens.len());
    match tokens.iter().find(|token| !seen.insert(token.as_str())) {
        None => Ok(()),
        Some(token) => {
            Err(TokenizerError::Vocabulary(format!("two tokens would be `{token}` in a GGUF file")))
        }
    }
}

/// Whether a space is put before every text.
fn adds_space(normaliser_json: &Value, pre_tokeniser: &Value) -> Result<bool, TokenizerError> {
    let Some(adds_space) = [false, true].into_iter().find(|adds| normaliser(*adds) == *normaliser_json)
    else {
        let supported = "Replace of spaces by ▁, alone or behind Prepend of ▁";
        let name = kinds(normaliser_json, "normalizers");
        return Err(unsupported("normaliser, in a GGUF file,", &name, supported));
    };
    // Behind the normaliser, no text has a space to be split at.
    let splits_nothing = pre_tokeniser.is_null()
        || (pre_tokeniser["type"] == "Split" && pre_tokeniser["pattern"] == json!({ "String": " " }));
    if !splits_nothing {
        let name = kinds(pre_tokeniser, "pretokenizers");
        return Err(unsupported("pre-tokeniser, in a GGUF file,", &name, "none, or Split at spaces"));
    }
    Ok(adds_space)
}

fn kinds(part: &Value, list: &str) -> String {
    let steps = part[list].as_array().map_or_else(|| std::slice::from_ref(part), Vec::as_slice);
    let kinds: Vec<&str> = steps.iter().map(|step| step["type"].as_str().unwrap_or("none")).collect();
    kinds.join(", ")
}

fn unknown_id(model: &ModelJson) -> Result<u32, TokenizerError> {
    if !model.byte_fallback {
        return Err(unsupported("byte_fallback, in a GGUF file,", "false", "true"));
    }
    if model.ignore_merges {
        return Err(unsupported("ignore_merges, in a GGUF file,", "true", "false"));
    }
    let Some(token) = &model.unk_token else {
        return Err(unsupported("unk_token, in a GGUF file,", "none", "a token"));
    };
    let missing = || TokenizerError::Vocabulary(format!("the unk_token `{token}` is not in the vocabulary"));
    model.vocab.0.get(token).copied().ok_or_else(missing)
}

/// The merges without those that make tokens which are found in texts before anything is merged.
fn merges_of_pieces(model: ModelJson, token_types: &[i32]) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut merges = Vec::with_capacity(model.merges.len());
    for (rank, merge) in model.merges.into_iter().enumerate() {
        let (left, right) = match merge {
            MergeJson::Pair(left, right) => (left, right),
            MergeJson::Line(line) => split_merge(rank, &line)?,
        };
        let id = model.vocab.0.get(&format!("{left}{right}"));
        let kind = id.and_then(|id| token_types.get(*id as usize));
        if kind != Some(&USER_DEFINED) {
            merges.push((left, right));
        }
    }
    Ok(merges)
}

/// The place of each token among those that merges make, negative; less than all of them for what no merge makes.
fn scores(merges: &[(String, String)], tokens: &[String]) -> Vec<f32> {
    let ids: AHashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut scores = vec![None; tokens.len()];
    let mut place = 0u32;
    for (left, right) in merges {
        let Some(&id) = ids.get(format!("{left}{right}").as_str()) else { continue };
        if scores[id].is_none() {
            scores[id] = Some(place);
            place += 1;
        }
    }
    scores.into_iter().map(|score| -(score.unwrap_or(place) as f32)).collect()
}

/// What each run of merges makes, with all of them in one order: in which order one piece is put together makes no difference to scores.
fn by_union(merges: &[(String, String)]) -> Vec<(String, Vec<&str>)> {
    let mut runs: Vec<(String, Vec<&str>)> = Vec::new();
    for (left, right) in merges {
        let union = format!("{left}{right}");
        match runs.last_mut() {
            Some((last, lefts)) if *last == union => lefts.push(left),
            _ => runs.push((union, vec![left.as_str()])),
        }
    }
    for (_, lefts) in &mut runs {
        lefts.sort_unstable();
    }
    runs
}
