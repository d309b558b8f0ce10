//! The tokenizer itself: text → ids and ids → bytes. Where its parts come from is in `hugging_face` and `gguf`.
//! This file does not know files, templates or models.

use std::ops::Range;
use std::sync::Arc;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizer::Range as TextRange;
use tokenizers::{
    Model, NormalizedString, Normalizer, NormalizerWrapper, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, Token,
};

use crate::added_tokens::{AddedTokens, ControlTokens, Found};
use crate::byte_level_encoder::{ByteLevelEncoder, Encoded};
use crate::segments::{SEGMENT_BYTES, Segment, segments};
use crate::stream::{ControlText, decode_lossy};
use crate::vocabulary::TokenTable;
use crate::{Rendered, TokenizerError};

/// Runs of white space beyond this length exceed the step limit of the regular expressions in the pre-tokenisers, which
/// would then silently stop splitting.
const MAX_WHITESPACE_RUN: usize = 250_000;

/// What to do with the text of control tokens (such as `<|im_end|>`) inside a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// Encode it as ordinary text: for everything that a user wrote.
    AsText,
    /// Encode it as the control token: only for text that the program itself wrote.
    Parse,
}

/// Control tokens with a meaning of their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) adds_bos: bool,
    pub(crate) end_of_turn: Vec<u32>,
}

/// Everything a tokenizer is made of.
pub(crate) struct TokenizerParts {
    pub(crate) normaliser: Option<NormalizerWrapper>,
    pub(crate) pre_tokeniser: Option<PreTokenizerWrapper>,
    pub(crate) model: BPE,
    /// The fast way to the same ids, where there is one.
    pub(crate) byte_level_encoder: Option<ByteLevelEncoder>,
    pub(crate) added: AddedTokens,
    pub(crate) table: TokenTable,
    pub(crate) special_ids: SpecialIds,
    /// Encoding puts a space before the text, so decoding a whole text takes one away.
    pub(crate) strips_leading_space: bool,
}

/// Text ↔ token ids. Cloning is cheap: clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    parts: Arc<TokenizerParts>,
    special_ids: Arc<SpecialIds>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary_size())
            .field("special_ids", &self.special_ids)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    pub(crate) fn from_parts(parts: TokenizerParts) -> Self {
        let special_ids = Arc::new(parts.special_ids.clone());
        Self { parts: Arc::new(parts), special_ids }
    }

    /// The same tokenizer with more ids that end the assistant's turn (a `generation_config.json` lists them).
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] for an id outside the vocabulary.
    pub fn with_end_of_turn(self, ids: impl IntoIterator<Item = u32>) -> Result<Self, TokenizerError> {
        let mut special_ids = (*self.special_ids).clone();
        for id in ids {
            if id as usize >= self.vocabulary_size() {
                return Err(self.unknown_token(id));
            }
            if !special_ids.end_of_turn.contains(&id) {
                special_ids.end_of_turn.push(id);
            }
        }
        Ok(Self { parts: self.parts, special_ids: Arc::new(special_ids) })
    }

    /// The ids of `text`. No beginning-of-sequence token is added; see [`Tokenizer::adds_bos`].
    ///
    /// A byte-level vocabulary may lack tokens for bytes that only rare characters hold (SmolLM2's lacks some); such bytes
    /// are left out, as by every implementation of these tokenizers.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the vocabulary cannot express the text or the text is beyond the library's limits.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError> {
        let control = match specials {
            Specials::AsText => ControlTokens::Never,
            Specials::Parse => ControlTokens::ExceptAcross(&[]),
        };
        self.ids(text, control)
    }

    /// The ids of one text that was put together from pieces, each with its own rule for control tokens: a control token is
    /// recognised only where all of it lies in a piece that is [`Specials::Parse`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pieces(&self, pieces: &[(&str, Specials)]) -> Result<Vec<u32>, TokenizerError> {
        let mut text = String::with_capacity(pieces.iter().map(|(piece, _)| piece.len()).sum());
        let mut parsed = Vec::new();
        for (piece, specials) in pieces {
            let start = text.len();
            text.push_str(piece);
            if *specials == Specials::Parse {
                parsed.push(start..text.len());
            }
        }
        self.ids(&text, ControlTokens::Within(&parsed))
    }

    /// The ids of a rendered conversation: the template's control tokens are control tokens, the same text written by
    /// users is plain text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<u32>, TokenizerError> {
        self.ids(&rendered.text, ControlTokens::ExceptAcross(&rendered.plain_text_breaks))
    }

    /// As [`Tokenizer::encode_rendered`], and for every id whether the assistant wrote it: a token counts as the
    /// assistant's when any of its bytes lie in an assistant span.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered_with_mask(
        &self,
        rendered: &Rendered,
    ) -> Result<(Vec<u32>, Vec<bool>), TokenizerError> {
        let encoded =
            self.ids_and_ranges(&rendered.text, ControlTokens::ExceptAcross(&rendered.plain_text_breaks))?;
        let spans = &rendered.assistant_spans;
        let mask = encoded
            .ranges
            .iter()
            .map(|range| {
                let candidate = spans.partition_point(|span| span.end <= range.start);
                spans.get(candidate).is_some_and(|span| span.start < range.end)
            })
            .collect();
        Ok((encoded.ids, mask))
    }

    /// The ids of what follows a prompt in a rendered conversation, as a model that was given the prompt has to write them:
    /// the first `prompt_bytes` bytes of the text are the prompt, whose ids are `prompt`.
    ///
    /// They are the ids behind the prompt's in the ids of the whole text. Where a token of the whole text reaches across the
    /// end of the prompt, the rest is encoded by itself.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_rendered_from`].
    pub fn encode_rendered_behind(
        &self,
        rendered: &Rendered,
        prompt: &[u32],
        prompt_bytes: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        match self.encode_rendered(rendered)?.strip_prefix(prompt) {
            Some(rest) => Ok(rest.to_vec()),
            None => self.encode_rendered_from(rendered, prompt_bytes),
        }
    }

    /// The ids of a rendered conversation's text from byte `start` on, encoded by itself.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and [`TokenizerError::Encode`] where `start` lies inside a character, or where the tokens spell
    /// something else than the text, as they do where a vocabulary puts a space before every text.
    pub fn encode_rendered_from(
        &self,
        rendered: &Rendered,
        start: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        let wrong = |reason: &str| TokenizerError::Encode(reason.to_owned());
        let text = rendered.text.get(start..).ok_or_else(|| wrong("it begins inside a character"))?;
        let breaks = rendered.plain_text_breaks.iter();
        let breaks: Vec<usize> = breaks.filter_map(|place| place.checked_sub(start)).collect();
        let ids = self.ids(text, ControlTokens::ExceptAcross(&breaks))?;
        if self.decode_bytes(&ids, ControlText::Show)? != text.as_bytes() {
            return Err(wrong("its tokens behind the prompt do not spell it"));
        }
        Ok(ids)
    }

    fn ids(&self, text: &str, control: ControlTokens<'_>) -> Result<Vec<u32>, TokenizerError> {
        check_whitespace_runs(text)?;
        let found = self.parts.added.find_raw(text, control);
        match self.byte_level_encoder() {
            Some(encoder) => self.ids_by_segments(encoder, text, &found, SEGMENT_BYTES),
            None => self.ids_by_library(text, &found, control),
        }
    }

    /// The ids of a text by the encoder and, of the segments that it leaves to it, by the library. Segments have at most `most` bytes where a
    /// text can be divided.
    fn ids_by_segments(
        &self,
        encoder: &ByteLevelEncoder,
        text: &str,
        found: &[Found],
        most: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        for Segment { text, found } in segments(text, found, most) {
            // Where there is an encoder, no token is matched in normalised text, so that all of them are found already.
            let of_segment = match encoder.ids(text, &found) {
                Some(of_segment) => of_segment,
                None => self.ids_by_library(text, &found, ControlTokens::Never)?,
            };
            if ids.is_empty() {
                ids = of_segment;
            } else {
                ids.extend(of_segment);
            }
        }
        Ok(ids)
    }

    fn ids_by_library(
        &self,
        text: &str,
        found: &[Found],
        control: ControlTokens<'_>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let split = self.tokenize(text, found, control)?;
        let encoding = split.into_encoding(None, 0, OffsetType::None).map_err(encode_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn ids_and_ranges(&self, text: &str, control: ControlTokens<'_>) -> Result<Encoded, TokenizerError> {
        check_whitespace_runs(text)?;
        if let Some(encoder) = self.byte_level_encoder()
            && let Some(encoded) = encoder.ids_and_ranges(text, &self.parts.added.find_raw(text, control))
        {
            return Ok(encoded);
        }
        self.ids_and_ranges_by_library(text, control)
    }

    fn ids_and_ranges_by_library(
        &self,
        text: &str,
        control: ControlTokens<'_>,
    ) -> Result<Encoded, TokenizerError> {
        let split = self.tokenize(text, &self.parts.added.find_raw(text, control), control)?;
        let encoding = split.into_encoding(None, 0, OffsetType::Byte).map_err(encode_error)?;
        let ranges = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), ranges })
    }

    /// The encoder that needs no library, unless added tokens are matched in normalised text.
    pub(crate) fn byte_level_encoder(&self) -> Option<&ByteLevelEncoder> {
        self.parts.byte_level_encoder.as_ref().filter(|_| !self.parts.added.has_normalised())
    }

    /// Both ways to encode with control tokens, for the test that compares them.
    #[cfg(test)]
    pub(crate) fn encode_by_library(&self, text: &str) -> Result<Encoded, TokenizerError> {
        self.ids_and_ranges_by_library(text, ControlTokens::ExceptAcross(&[]))
    }

    #[cfg(test)]
    pub(crate) fn encode_with_ranges(&self, text: &str) -> Result<Encoded, TokenizerError> {
        self.ids_and_ranges(text, ControlTokens::ExceptAcross(&[]))
    }

    /// The ids by segments of at most so many bytes, for the test that compares them too.
    #[cfg(test)]
    pub(crate) fn encode_in_segments(&self, text: &str, most: usize) -> Option<Vec<u32>> {
        let found = self.parts.added.find_raw(text, ControlTokens::ExceptAcross(&[]));
        self.ids_by_segments(self.byte_level_encoder()?, text, &found, most).ok()
    }

    /// The steps of the `tokenizers` library in its order: added tokens, which are `found`, normaliser, added tokens in normalised text,
    /// pre-tokeniser, model.
    fn tokenize(
        &self,
        text: &str,
        found: &[Found],
        control: ControlTokens<'_>,
    ) -> Result<PreTokenizedString, TokenizerError> {
        let parts = &*self.parts;
        let mut split = PreTokenizedString::from(text);
        if !found.is_empty() {
            split.split(|_, piece| cut(&piece, found)).map_err(encode_error)?;
        }
        if let Some(normaliser) = &parts.normaliser {
            split.normalize(|piece| normaliser.normalize(piece)).map_err(encode_error)?;
        }
        if parts.added.has_normalised() {
            split
                .split(|_, piece| {
                    let offset = piece.offsets_original().0;
                    let found = parts.added.find_normalised(piece.get(), |range| {
                        let original = piece.convert_offsets(TextRange::Normalized(range.clone()));
                        original.is_some_and(|original| control_allows(control, original, offset))
                    });
                    cut(&piece, &found)
                })
                .map_err(encode_error)?;
        }
        if let Some(pre_tokeniser) = &parts.pre_tokeniser {
            pre_tokeniser.pre_tokenize(&mut split).map_err(encode_error)?;
        }
        split.tokenize(|piece| parts.model.tokenize(piece.get())).map_err(encode_error)?;
        Ok(split)
    }

    /// The text of a whole sequence: the inverse of [`Tokenizer::encode`]. Bytes that are not UTF-8 become U+FFFD, as in
    /// [`String::from_utf8_lossy`].
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], control: ControlText) -> Result<String, TokenizerError> {
        let mut bytes = self.decode_bytes(ids, control)?;
        if self.parts.strips_leading_space && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        Ok(decode_lossy(bytes))
    }

    /// The exact bytes of a sequence of tokens, nothing stripped or replaced.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] for an id outside the vocabulary.
    pub fn decode_bytes(&self, ids: &[u32], control: ControlText) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let token = self.parts.table.bytes(id).ok_or_else(|| self.unknown_token(id))?;
            if control == ControlText::Show || !self.is_special(id) {
                bytes.extend_from_slice(token);
            }
        }
        Ok(bytes)
    }

    /// The bytes that `id` adds to a text (for a control token its name), or `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.parts.table.bytes(id)
    }

    /// Whether `id` is a control token.
    pub fn is_special(&self, id: u32) -> bool {
        self.parts.table.is_special(id)
    }

    /// All control tokens, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.table.special_ids()
    }

    /// The texts of all control tokens, in order of their ids.
    pub fn special_texts(&self) -> Vec<String> {
        self.special_ids()
            .filter_map(|id| self.token_bytes(id))
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    /// The control token with this text.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.special_ids().find(|&id| self.token_bytes(id) == Some(text.as_bytes()))
    }

    /// Number of ids that a model may write. Its embedding may have more rows (padding), which a GGUF file lists as unused tokens.
    pub fn vocabulary_size(&self) -> usize {
        self.parts.table.len()
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.special_ids.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.special_ids.eos
    }

    /// Whether plain text (a completion, not a rendered template) begins with [`Tokenizer::bos`].
    pub fn adds_bos(&self) -> bool {
        self.special_ids.adds_bos && self.special_ids.bos.is_some()
    }

    /// Whether a space is put before every stretch of text between control tokens, so that what follows one begins with a space that nobody
    /// wrote (Llama 2, Phi-3).
    pub fn puts_space_before_texts(&self) -> bool {
        self.parts.strips_leading_space
    }

    /// The ids that end the assistant's turn: end of sequence, and the template's end markers that this vocabulary has.
    pub fn end_of_turn(&self) -> &[u32] {
        &self.special_ids.end_of_turn
    }

    fn unknown_token(&self, id: u32) -> TokenizerError {
        TokenizerError::UnknownToken { id, vocabulary_size: self.vocabulary_size() }
    }
}

fn control_allows(control: ControlTokens<'_>, range: Range<usize>, offset: usize) -> bool {
    control.allow(&(range.start + offset..range.end + offset))
}

/// Cuts a piece at the found tokens; a found token carries its id, the rest is still to be tokenised.
fn cut(
    piece: &NormalizedString,
    found: &[Found],
) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
    let mut parts = Vec::with_capacity(found.len() * 2 + 1);
    let slice = |range: Range<usize>| {
        piece
            .slice(TextRange::Normalized(range.clone()))
            .ok_or_else(|| format!("no text at bytes {} to {}", range.start, range.end))
    };
    let mut position = 0;
    for (range, id) in found {
        if position < range.start {
            parts.push((slice(position..range.start)?, None));
        }
        let length = range.len();
        parts.push((slice(range.clone())?, Some(vec![Token::new(*id, String::new(), (0, length))])));
        position = range.end;
    }
    if position < piece.len() {
        parts.push((slice(position..piece.len())?, None));
    }
    Ok(parts)
}

pub(crate) fn check_whitespace_runs(text: &str) -> Result<(), TokenizerError> {
    if text.len() <= MAX_WHITESPACE_RUN {
        return Ok(());
    }
    let mut run = 0;
    for character in text.chars() {
        run = if character.is_whitespace() { run + 1 } else { 0 };
        if run > MAX_WHITESPACE_RUN {
            return Err(TokenizerError::Encode(format!(
                "it holds more than {MAX_WHITESPACE_RUN} white space characters in a row"
            )));
        }
    }
    Ok(())
}

fn encode_error(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Encode(error.to_string())
}
