//! Guessing the next tokens of an answer, so that one step can check several: speculative decoding, by prompt
//! lookup and by a smaller model. Knows tokens, probabilities and times; does not know requests, pages or models.
//!
//! A step over the last token and a draft of the next ones costs little more than a step over the last token
//! alone, because both read all weights once (Leviathan et al. 2023, "Fast inference from transformers via
//! speculative decoding"). The draft is what followed the last tokens when they occurred before (Saxena 2023,
//! "Prompt lookup decoding"), or what a smaller model says comes next. The scheduler then chooses token after token exactly as without a draft, by the
//! logits that single steps would have given, and goes on within the step as long as the draft holds the
//! token that was chosen. So drafts decide how long an answer takes, never what it is.
//!
//! [`ngram_index`] finds earlier occurrences, [`drafter`] proposes and learns how often an answer keeps to
//! its drafts, [`row_cost`] learns what a row more costs on this machine. [`acceptance`] learns how often a smaller model guesses
//! right, [`draft_cost`] what its guesses cost.

pub(crate) mod acceptance;
pub(crate) mod draft;
pub(crate) mod draft_cost;
pub(crate) mod drafter;
mod ngram_index;
pub(crate) mod row_cost;

use std::str::FromStr;

/// How the next tokens of answers are guessed. It changes how fast answers come, never an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Not at all: one token of each answer in a step.
    Off,
    /// By what followed the same tokens earlier in the prompt and the answer, and by the engine's draft model if it has one, as
    /// long as that pays: while few requests run, and in answers that can be guessed.
    #[default]
    Ngram,
    /// The same, whether it pays or not: for tests.
    NgramAlways,
    /// By the draft model alone, whether it pays or not: for tests.
    ModelAlways,
}

impl Speculation {
    /// The most rows of a step that holds drafts. Beyond a few rows a step is no longer bound by reading the
    /// weights, and a row costs what a token brings.
    pub(crate) fn most_rows(self) -> usize {
        const BOUND_BY_MEMORY: usize = 8;
        match self {
            Speculation::Off => 0,
            Speculation::Ngram => BOUND_BY_MEMORY,
            Speculation::NgramAlways | Speculation::ModelAlways => usize::MAX,
        }
    }

    /// True if drafts are checked whether they pay or not.
    pub(crate) fn is_forced(self) -> bool {
        matches!(self, Speculation::NgramAlways | Speculation::ModelAlways)
    }

    /// True if the sequence's own tokens are searched for drafts.
    pub(crate) fn looks_up(self) -> bool {
        matches!(self, Speculation::Ngram | Speculation::NgramAlways)
    }
}

/// The text names no way of guessing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a way to guess tokens; give `ngram` or `off`")]
pub struct UnknownSpeculation(String);

impl FromStr for Speculation {
    type Err = UnknownSpeculation;

    fn from_str(name: &str) -> Result<Speculation, UnknownSpeculation> {
        match name {
            "off" => Ok(Speculation::Off),
            "ngram" => Ok(Speculation::Ngram),
            _ => Err(UnknownSpeculation(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_refused_with_what_to_give() {
        assert_eq!("off".parse(), Ok(Speculation::Off));
        assert_eq!("ngram".parse(), Ok(Speculation::Ngram));
        let refusal = "eagle".parse::<Speculation>().unwrap_err().to_string();
        assert_eq!(refusal, "`eagle` is not a way to guess tokens; give `ngram` or `off`");
    }
}
