//! Follows one answer through its grammar, for the engine.

use llguidance::Matcher;
use std::sync::Arc;
use zhenjin_engine::{ConstraintError, TokenConstraint, TokenMask};
use zhenjin_tokenizer::Tokenizer;

use crate::answer::repetition::{RepetitionDetection, RepetitionDetector};
use crate::answer::thoughts::{AnswerDecoder, ThoughtReading, ThoughtSplitter};

/// When JSON counts as going round in a circle: a list of equal items, a text of equal words, digits without end.
const LOOP: RepetitionDetection =
    RepetitionDetection::Pattern { min_pattern: 1, max_pattern: 128, min_count: LOOP_COUNT };
const LOOP_COUNT: usize = 24;
/// The least tokens of such a circle.
const LOOP_TOKENS: usize = 192;

/// The tokens that bring JSON towards its end.
#[derive(Debug)]
pub(crate) struct ClosingTokens {
    /// Quotes and brackets that close.
    ends: Vec<u32>,
    /// What may stand between two values, where none of those may.
    separators: Vec<u32>,
}

impl ClosingTokens {
    /// Of a vocabulary, given by its tokens' bytes.
    pub(crate) fn new(tokens: &[Vec<u8>]) -> ClosingTokens {
        let of = |characters: &[u8]| {
            let consists =
                |token: &Vec<u8>| !token.is_empty() && token.iter().all(|byte| characters.contains(byte));
            let ids = tokens.iter().enumerate().filter(|(_, token)| consists(token));
            ids.map(|(id, _)| id as u32).collect()
        };
        ClosingTokens { ends: of(b"\"}]"), separators: of(b"\"}],: ") }
    }

    /// Leaves only such tokens in `mask`, if it has any of them.
    pub(crate) fn keep(&self, mask: &mut TokenMask) {
        for group in [&self.ends, &self.separators] {
            let allowed: Vec<u32> = group.iter().copied().filter(|&token| mask.allows(token)).collect();
            if !allowed.is_empty() {
                mask.clear();
                allowed.into_iter().for_each(|token| mask.allow(token));
                return;
            }
        }
    }
}

/// A compiled grammar and how far the answer has come in it.
///
/// An answer in JSON that goes round in a circle (the same tokens 24 times and at least 192 of them) is brought to its end:
/// from then on it closes texts, lists and objects wherever it may. It is a function of the answer's tokens alone.
#[derive(Clone)]
pub struct GrammarConstraint {
    matcher: Matcher,
    /// For JSON.
    closing: Option<Arc<ClosingTokens>>,
    detector: Option<RepetitionDetector>,
    is_closing: bool,
    /// The thought that must end first.
    thought: Option<ThoughtWatch>,
}

/// A thought that is being written, in which everything is allowed but to end the answer.
#[derive(Clone)]
struct ThoughtWatch {
    tokenizer: Tokenizer,
    decoder: AnswerDecoder,
    splitter: ThoughtSplitter,
}

impl GrammarConstraint {
    pub(crate) fn new(matcher: Matcher, closing: Option<Arc<ClosingTokens>>) -> GrammarConstraint {
        let detector = closing
            .as_ref()
            .and_then(|_| RepetitionDetector::new(LOOP))
            .map(|detector| detector.of_at_least(LOOP_TOKENS));
        GrammarConstraint { matcher, closing, detector, is_closing: false, thought: None }
    }

    /// The same for another answer. Copies of the library's matcher share its lexer: how far that has been built decides what a mask costs, and
    /// whether it is refused.
    pub(crate) fn separate(&self) -> GrammarConstraint {
        GrammarConstraint { matcher: self.matcher.deep_clone(), ..self.clone() }
    }

    /// From now on the answer closes what it may close.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// The same grammar, for what comes after an open thought.
    pub(crate) fn after_thought(self, tokenizer: &Tokenizer, reading: ThoughtReading) -> GrammarConstraint {
        let markers = reading.markers;
        let thought = ThoughtWatch {
            tokenizer: tokenizer.clone(),
            decoder: AnswerDecoder::new(tokenizer, [markers.opening, markers.closing]),
            splitter: ThoughtSplitter::new(Some(reading)),
        };
        GrammarConstraint { thought: Some(thought), ..self }
    }
}

impl ThoughtWatch {
    fn mask(&self, mask: &mut TokenMask) {
        mask.clear();
        // The grammar can only be entered between tokens, so none may complete the marker and go on with text.
        let rest = self.splitter.rest_of_closing();
        let reaches_beyond = |token: u32| {
            let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
            let after = rest.and_then(|rest| bytes.strip_prefix(rest.as_bytes()));
            after.is_some_and(|after| !after.iter().all(u8::is_ascii_whitespace))
        };
        let ends = self.tokenizer.end_of_turn();
        for token in 0..self.tokenizer.vocabulary_size() as u32 {
            if !ends.contains(&token) && !reaches_beyond(token) {
                mask.allow(token);
            }
        }
    }

    /// Whether the thought has ended with this token.
    fn accept(&mut self, token: u32) -> Result<bool, ConstraintError> {
        let text = self.decoder.push(token)?;
        self.splitter.push(&text);
        Ok(self.splitter.is_past_thought())
    }
}

impl TokenConstraint for GrammarConstraint {
    fn mask(&mut self, mask: &mut TokenMask) -> Result<(), ConstraintError> {
        if let Some(thought) = &self.thought {
            thought.mask(mask);
            return Ok(());
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        mask.copy_from_words(allowed.as_slice());
        if self.is_closing
            && let Some(closing) = &self.closing
        {
            closing.keep(mask);
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if let Some(thought) = &mut self.thought {
            if thought.accept(token)? {
                self.thought = None;
            }
            return Ok(());
        }
        if let Some(detector) = &mut self.detector {
            self.is_closing = detector.push(token) || self.is_closing;
        }
        self.matcher.consume_token(token).map_err(|error| error.to_string().into())
    }

    fn is_finished(&self) -> bool {
        self.thought.is_none() && self.matcher.is_stopped()
    }
}

impl std::fmt::Debug for GrammarConstraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GrammarConstraint")
            .field("is_closing", &self.is_closing)
            .finish_non_exhaustive()
    }
}
