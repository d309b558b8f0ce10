//! Follows one answer through its grammar, for the engine.

use llguidance::Matcher;
use zhenjin_engine::{ConstraintError, TokenConstraint, TokenMask};
use zhenjin_tokenizer::Tokenizer;

use crate::answer::thoughts::{AnswerDecoder, ThoughtReading, ThoughtSplitter};

/// A compiled grammar and how far the answer has come in it. Cloned for each of several answers to the same
/// request.
#[derive(Clone)]
pub(crate) struct GrammarConstraint {
    matcher: Matcher,
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
    pub(crate) fn new(matcher: Matcher) -> GrammarConstraint {
        GrammarConstraint { matcher, thought: None }
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
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if let Some(thought) = &mut self.thought {
            if thought.accept(token)? {
                self.thought = None;
            }
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| error.to_string().into())
    }

    fn is_finished(&self) -> bool {
        self.thought.is_none() && self.matcher.is_stopped()
    }
}
