//! Rebuilding a tokenizer from the vocabulary inside a GGUF file (`tokenizer.ggml.*`).
//! This file does not know the GGUF container: it receives the metadata's values.

use std::collections::HashSet;

use ahash::AHashMap;
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence;
use tokenizers::{AddedToken, NormalizerWrapper};

use crate::added_tokens::{AddedTokenEntry, AddedTokens};
use crate::byte_level_encoder::ByteLevelEncoder;
use crate::pre_tokenizers;
use crate::tokenizer::{SpecialIds, TokenizerParts};
use crate::vocabulary::{MAX_VOCABULARY_SIZE, TokenAlphabet, TokenTable};
use crate::{Tokenizer, TokenizerError};

/// Tokens that end a turn in the templates of the supported families. Some files mark them as ordinary words; like
/// llama.cpp we treat them as control tokens whenever they are in the vocabulary.
pub(crate) const END_OF_TURN_TEXTS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    // Gemma's files name one of its two ends.
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
];

/// Tokens that begin a turn, or stand around the name of whose turn it is: whoever can write them can speak as the assistant. Some files mark
/// them as ordinary words too.
const TURN_BEGINNINGS: &[&str] = &[
    "<|im_start|>",
    "<|im_sep|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<start_of_turn>",
    "<|START_OF_TURN_TOKEN|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<｜User｜>",
    "<｜Assistant｜>",
];

/// Whether a token of this text is a control token, whatever a file calls it.
pub(crate) fn marks_turn(text: &str) -> bool {
    END_OF_TURN_TEXTS.contains(&text) || TURN_BEGINNINGS.contains(&text)
}

/// A token that only the vocabulary of Phi-3 and Phi-3.5 has.
const OF_PHI3: &str = "<|placeholder1|>";

/// Tokens that only the vocabulary of Phi-4 has together.
const OF_PHI4: [&str; 2] = ["<|im_sep|>", "<|dummy_0|>"];

/// The type of tokens that stand for nothing.
pub(crate) const UNUSED: i32 = 5;

/// The longest token of a SentencePiece vocabulary whose splits are searched for merges, in characters. SentencePiece
/// itself stops at 16 unless told otherwise; runs of white space go further.
const MAX_PIECE_CHARACTERS: usize = 256;

/// The values of `tokenizer.ggml.*`, each under its own name.
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary {
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `pre`: the pre-tokeniser of a byte-level vocabulary.
    pub pre: Option<String>,
    /// `tokens`, one per id.
    pub tokens: Vec<String>,
    /// `token_type`, one per id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. May be empty.
    pub token_types: Vec<i32>,
    /// `merges`, `left right` by rank; byte-level vocabularies only.
    pub merges: Vec<String>,
    /// `scores`, one per id; SentencePiece vocabularies only.
    pub scores: Vec<f32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: ends a turn.
    pub end_of_turn: Option<u32>,
    /// `eom_token_id`: ends a message that calls a tool.
    pub end_of_message: Option<u32>,
    /// Further ids that end a turn, where one of these keys holds a list.
    pub more_ends: Vec<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_space_prefix`; SentencePiece vocabularies only.
    pub add_space_prefix: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl GgufVocabulary {
    /// How many ids there are without the unused ones at the end: rows that were added to the embedding, which no text has and no model
    /// learned to write. Unused ids in the middle count, and so do those that the file gives a meaning.
    pub(crate) fn used_ids(&self) -> usize {
        let is_used =
            |(id, token): (usize, &String)| self.token_types.get(id) != Some(&UNUSED) || marks_turn(token);
        let last = self.tokens.iter().enumerate().rposition(is_used);
        let named = [self.bos, self.eos, self.end_of_turn, self.end_of_message, self.unknown];
        let named = named.iter().flatten().chain(&self.more_ends).map(|id| *id as usize);
        named.chain(last).map(|id| id.saturating_add(1)).max().unwrap_or(0).min(self.tokens.len())
    }
}

impl Tokenizer {
    /// Rebuilds the tokenizer of a GGUF file. Unused ids at the end of its list are not part of the vocabulary.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for an unknown `model` or `pre`, [`TokenizerError::Vocabulary`] when lists disagree
    /// in length, merges are missing, a merge names a token that does not exist, or a special id lies outside the vocabulary.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, TokenizerError> {
        if vocabulary.tokens.len() > MAX_VOCABULARY_SIZE {
            return Err(TokenizerError::TooLarge {
                what: "tokenizer.ggml.tokens",
                size: vocabulary.tokens.len(),
                limit: MAX_VOCABULARY_SIZE,
            });
        }
        let types = token_types(&vocabulary)?;
        match vocabulary.model.as_str() {
            "gpt2" => byte_level(vocabulary, types),
            "llama" => sentence_piece(vocabulary, types),
            other => Err(TokenizerError::Unsupported {
                part: "tokenizer model (tokenizer.ggml.model)",
                name: other.to_owned(),
                supported: "gpt2, llama".to_owned(),
            }),
        }
    }
}

fn token_types(vocabulary: &GgufVocabulary) -> Result<Vec<TokenType>, TokenizerError> {
    let count = vocabulary.tokens.len();
    if count == 0 {
        return Err(TokenizerError::Vocabulary("tokenizer.ggml.tokens is missing or empty".to_owned()));
    }
    if !vocabulary.token_types.is_empty() && vocabulary.token_types.len() != count {
        return Err(lengths_differ("token_type", vocabulary.token_types.len(), count));
    }
    let mut types = Vec::with_capacity(count);
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let declared = match vocabulary.token_types.get(id).copied().unwrap_or(1) {
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            UNUSED => TokenType::Unused,
            6 => TokenType::Byte,
            other => {
                return Err(TokenizerError::Vocabulary(format!(
                    "token {id} (`{token}`) has the unknown type {other}"
                )));
            }
        };
        types.push(if marks_turn(token) { TokenType::Control } else { declared });
    }
    Ok(types)
}

fn byte_level(vocabulary: GgufVocabulary, types: Vec<TokenType>) -> Result<Tokenizer, TokenizerError> {
    // Files from before the key was introduced have none.
    let pre_tokenisation = pre_tokenizers::by_name(vocabulary.pre.as_deref().unwrap_or("default"))?;
    let mut ids = AHashMap::with_capacity(vocabulary.tokens.len());
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if types[id] == TokenType::Normal {
            ids.insert(token.clone(), id as u32);
        }
    }
    check_merges_are_there(&vocabulary, &types)?;
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for (rank, merge) in vocabulary.merges.iter().enumerate() {
        merges.push(split_merge(rank, merge)?);
    }
    add_merged(&mut ids, &vocabulary, &types, &merges);
    check_merges(&ids, &merges)?;
    let byte_level_encoder = ByteLevelEncoder::new(
        Some(&pre_tokenisation.pre_tokeniser),
        pre_tokenisation.normaliser.as_ref(),
        &ids,
        &merges,
        pre_tokenisation.ignore_merges,
    );
    let model = build_model(
        BPE::builder().vocab_and_merges(ids, merges).ignore_merges(pre_tokenisation.ignore_merges),
    )?;
    assemble(
        vocabulary,
        &types,
        TokenAlphabet::ByteLevel,
        Assembly {
            model,
            byte_level_encoder,
            pre_tokeniser: Some(pre_tokenisation.pre_tokeniser),
            normaliser: pre_tokenisation.normaliser,
            adds_bos_by_default: pre_tokenisation.adds_bos,
            strips_leading_space: false,
        },
    )
}

/// Adds the tokens of other types that merges make or join. A token may be both: llama.cpp looks up what a merge makes whatever its type, and so does a
/// `tokenizer.json`. Not those that mark a turn, which no text may become.
fn add_merged(
    ids: &mut AHashMap<String, u32>,
    vocabulary: &GgufVocabulary,
    types: &[TokenType],
    merges: &[(String, String)],
) {
    let others = vocabulary.tokens.iter().zip(types).enumerate();
    let others = others.filter(|(_, (token, kind))| **kind != TokenType::Normal && !marks_turn(token));
    let others: AHashMap<&str, u32> = others.map(|(id, (token, _))| (token.as_str(), id as u32)).collect();
    for (left, right) in merges {
        for part in [left.clone(), right.clone(), format!("{left}{right}")] {
            if let Some(id) = others.get(part.as_str()) {
                ids.entry(part).or_insert(*id);
            }
        }
    }
}

/// Without merges, texts would become single bytes, whatever longer tokens there are.
fn check_merges_are_there(vocabulary: &GgufVocabulary, types: &[TokenType]) -> Result<(), TokenizerError> {
    if !vocabulary.merges.is_empty() {
        return Ok(());
    }
    let is_merged =
        |(token, kind): &(&String, &TokenType)| **kind == TokenType::Normal && token.chars().nth(1).is_some();
    match vocabulary.tokens.iter().zip(types).find(is_merged) {
        None => Ok(()),
        Some((token, _)) => Err(TokenizerError::Vocabulary(format!(
            "tokenizer.ggml.merges is missing or empty, so that no text has the token `{token}`"
        ))),
    }
}

/// The tokens of a SentencePiece vocabulary of which texts are put together.
fn pieces(vocabulary: &GgufVocabulary, types: &[TokenType]) -> AHashMap<String, u32> {
    let unknown = vocabulary.unknown.unwrap_or(0);
    let mut ids = AHashMap::with_capacity(vocabulary.tokens.len());
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let is_piece = matches!(types[id], TokenType::Normal | TokenType::Byte | TokenType::Unknown);
        if is_piece || id as u32 == unknown {
            ids.insert(token.clone(), id as u32);
        }
    }
    ids
}

/// The merges of a SentencePiece vocabulary, the best first.
///
/// # Errors
/// As [`Tokenizer::from_gguf`].
pub(crate) fn sentence_piece_merges(
    vocabulary: &GgufVocabulary,
) -> Result<Vec<(String, String)>, TokenizerError> {
    let count = vocabulary.tokens.len();
    if vocabulary.scores.len() != count {
        return Err(lengths_differ("scores", vocabulary.scores.len(), count));
    }
    let types = token_types(vocabulary)?;
    Ok(merges_from_scores(&pieces(vocabulary, &types), &types, &vocabulary.scores))
}

fn sentence_piece(vocabulary: GgufVocabulary, types: Vec<TokenType>) -> Result<Tokenizer, TokenizerError> {
    let count = vocabulary.tokens.len();
    if vocabulary.scores.len() != count {
        return Err(lengths_differ("scores", vocabulary.scores.len(), count));
    }
    let unknown = vocabulary.unknown.unwrap_or(0);
    let ids = pieces(&vocabulary, &types);
    let merges = merges_from_scores(&ids, &types, &vocabulary.scores);
    let mut builder = BPE::builder().vocab_and_merges(ids, merges).byte_fallback(true).fuse_unk(true);
    if let Some(token) = vocabulary.tokens.get(unknown as usize) {
        builder = builder.unk_token(token.clone());
    }
    let model = build_model(builder)?;
    let adds_space = vocabulary.add_space_prefix.unwrap_or(true);
    let normaliser = space_normaliser(adds_space)?;
    assemble(
        vocabulary,
        &types,
        TokenAlphabet::SentencePiece,
        Assembly {
            model,
            byte_level_encoder: None,
            pre_tokeniser: None,
            normaliser: Some(normaliser),
            adds_bos_by_default: true,
            strips_leading_space: adds_space,
        },
    )
}

/// `▁` for the space, and one before every stretch of text between added tokens.
fn space_normaliser(adds_space: bool) -> Result<NormalizerWrapper, TokenizerError> {
    let replace = Replace::new(" ", "▁")
        .map_err(|error| TokenizerError::Part { part: "normaliser", reason: error.to_string() })?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if adds_space {
        steps.push(Prepend::new("▁".to_owned()).into());
    }
    steps.push(replace.into());
    Ok(Sequence::new(steps).into())
}

/// SentencePiece merges the neighbouring pieces whose union has the best score. Every way to cut a piece into two other
/// pieces becomes a merge, ranked by the score of the union; ties by the longer left part, as in Hugging Face's converter.
fn merges_from_scores(
    ids: &AHashMap<String, u32>,
    types: &[TokenType],
    scores: &[f32],
) -> Vec<(String, String)> {
    let mut pieces: Vec<(&str, u32)> = ids
        .iter()
        .filter(|&(_, &id)| types[id as usize] == TokenType::Normal)
        .map(|(piece, &id)| (piece.as_str(), id))
        .filter(|(piece, _)| piece.chars().nth(MAX_PIECE_CHARACTERS).is_none())
        .collect();
    pieces.sort_unstable_by_key(|&(_, id)| id);
    let mut merges: Vec<(f32, u32, &str, &str)> = Vec::new();
    for (piece, id) in pieces {
        for (cut, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(cut);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((scores[id as usize], id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| {
        let longer_left = b.2.chars().count().cmp(&a.2.chars().count());
        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(longer_left)
    });
    merges.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// A merge written as one line, `left right`.
pub(crate) fn split_merge(rank: usize, merge: &str) -> Result<(String, String), TokenizerError> {
    // The left part may itself begin with a space in odd vocabularies, so the separator is searched after it.
    let separator = merge.char_indices().skip(1).find(|&(_, character)| character == ' ');
    match separator {
        Some((position, _)) if position + 1 < merge.len() => {
            Ok((merge[..position].to_owned(), merge[position + 1..].to_owned()))
        }
        _ => Err(TokenizerError::Vocabulary(format!(
            "merge {rank} (`{merge}`) is not two tokens with a space between"
        ))),
    }
}

/// Every merge must join two tokens into a third; the library would panic on some that do not.
pub(crate) fn check_merges(
    ids: &AHashMap<String, u32>,
    merges: &[(String, String)],
) -> Result<(), TokenizerError> {
    let mut union = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        union.clear();
        union.push_str(left);
        union.push_str(right);
        for token in [left, right, &union] {
            if !ids.contains_key(token) {
                return Err(TokenizerError::Vocabulary(format!(
                    "merge {rank} (`{left}` + `{right}`) needs the token `{token}`, which is not in the vocabulary"
                )));
            }
        }
    }
    Ok(())
}

pub(crate) fn build_model(builder: BpeBuilder) -> Result<BPE, TokenizerError> {
    builder
        .build()
        .map_err(|error| TokenizerError::Part { part: "byte-pair encoder", reason: error.to_string() })
}

struct Assembly {
    model: BPE,
    byte_level_encoder: Option<ByteLevelEncoder>,
    pre_tokeniser: Option<tokenizers::PreTokenizerWrapper>,
    normaliser: Option<NormalizerWrapper>,
    adds_bos_by_default: bool,
    strips_leading_space: bool,
}

fn assemble(
    vocabulary: GgufVocabulary,
    types: &[TokenType],
    alphabet: TokenAlphabet,
    assembly: Assembly,
) -> Result<Tokenizer, TokenizerError> {
    let special_ids = special_ids(&vocabulary, types, assembly.adds_bos_by_default)?;
    let used = vocabulary.used_ids();
    if used == 0 {
        return Err(TokenizerError::Vocabulary("every token is unused".to_owned()));
    }
    let entries = added_tokens(&vocabulary, types);
    let added = AddedTokens::new(entries, assembly.normaliser.as_ref())?;
    let tokens = vocabulary.tokens.iter().zip(types).take(used);
    let table = TokenTable::new(tokens.map(|(token, kind)| match kind {
        TokenType::Control | TokenType::Unknown => (token.clone().into_bytes(), true),
        TokenType::UserDefined => (alphabet.bytes_of_added(token), false),
        TokenType::Normal | TokenType::Unused | TokenType::Byte => (alphabet.bytes_of(token), false),
    }))?;
    Ok(Tokenizer::from_parts(TokenizerParts {
        normaliser: assembly.normaliser,
        pre_tokeniser: assembly.pre_tokeniser,
        model: assembly.model,
        byte_level_encoder: assembly.byte_level_encoder,
        added,
        table,
        special_ids,
        strips_leading_space: assembly.strips_leading_space,
    }))
}

/// What the added tokens of a vocabulary do with white space around them: a GGUF file has no place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceRule {
    /// Nothing.
    Kept,
    /// Phi-3 and Phi-3.5: all but three take what is behind them along.
    Phi3,
    /// Phi-4: those that are special take what is before them and behind them along.
    Phi4,
}

impl SpaceRule {
    /// The rule of the vocabulary that has these tokens, or these added tokens.
    pub(crate) fn of<'a>(model: &str, tokens: impl Iterator<Item = &'a str> + Clone) -> SpaceRule {
        let has = |wanted: &str| tokens.clone().any(|token| token == wanted);
        match model {
            "gpt2" if OF_PHI4.iter().all(|wanted| has(wanted)) => SpaceRule::Phi4,
            "llama" if has(OF_PHI3) => SpaceRule::Phi3,
            _ => SpaceRule::Kept,
        }
    }

    /// Whether an added token takes the white space before it along, and that behind it.
    pub(crate) fn taken_by(self, token: &str, special: bool) -> (bool, bool) {
        match self {
            SpaceRule::Kept => (false, false),
            SpaceRule::Phi3 => (false, !["<unk>", "<s>", "<|endoftext|>"].contains(&token)),
            SpaceRule::Phi4 => (special, special),
        }
    }
}

/// What is found in texts as it is.
fn added_tokens(vocabulary: &GgufVocabulary, types: &[TokenType]) -> Vec<AddedTokenEntry> {
    let spaces = SpaceRule::of(&vocabulary.model, vocabulary.tokens.iter().map(String::as_str));
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let special = matches!(types[id], TokenType::Control | TokenType::Unknown);
        let is_added = special || types[id] == TokenType::UserDefined;
        let (lstrip, rstrip) = spaces.taken_by(token, special);
        if is_added && seen.insert(token.as_str()) {
            let token =
                AddedToken::from(token.clone(), special).normalized(false).lstrip(lstrip).rstrip(rstrip);
            entries.push(AddedTokenEntry { id: id as u32, token });
        }
    }
    entries
}

fn special_ids(
    vocabulary: &GgufVocabulary,
    types: &[TokenType],
    adds_bos_by_default: bool,
) -> Result<SpecialIds, TokenizerError> {
    let count = vocabulary.tokens.len();
    let named = [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("eot_token_id", vocabulary.end_of_turn),
        ("eom_token_id", vocabulary.end_of_message),
        ("unknown_token_id", vocabulary.unknown),
    ];
    let more = vocabulary.more_ends.iter().map(|&id| ("eos_token_id", Some(id)));
    for (name, id) in named.into_iter().chain(more) {
        if let Some(id) = id.filter(|&id| id as usize >= count) {
            return Err(TokenizerError::Vocabulary(format!(
                "tokenizer.ggml.{name} is {id}, but the vocabulary has {count} tokens"
            )));
        }
    }
    let mut end_of_turn: Vec<u32> =
        [vocabulary.eos, vocabulary.end_of_turn, vocabulary.end_of_message].into_iter().flatten().collect();
    end_of_turn.extend(&vocabulary.more_ends);
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if types[id] == TokenType::Control && END_OF_TURN_TEXTS.contains(&token.as_str()) {
            end_of_turn.push(id as u32);
        }
    }
    Ok(SpecialIds {
        bos: vocabulary.bos,
        eos: vocabulary.eos,
        adds_bos: vocabulary.add_bos.unwrap_or(adds_bos_by_default),
        end_of_turn: without_repeats(end_of_turn),
    })
}

/// Keeps the first of equal ids.
pub(crate) fn without_repeats(ids: Vec<u32>) -> Vec<u32> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|&id| seen.insert(id)).collect()
}

fn lengths_differ(name: &str, length: usize, tokens: usize) -> TokenizerError {
    TokenizerError::Vocabulary(format!("tokenizer.ggml.{name} has {length} entries for {tokens} tokens"))
}
