//! The texts that published models write around their thoughts.

use zhenjin_tokenizer::{ChatTemplate, Tokenizer};

/// The texts around a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThoughtMarkers {
    /// Before it.
    pub opening: &'static str,
    /// Behind it.
    pub closing: &'static str,
    /// The texts around the answer behind the thought, which Granite 3.3 writes there.
    pub answer: Option<AnswerMarkers>,
}

/// The texts around an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerMarkers {
    /// Before it.
    pub opening: &'static str,
    /// Behind it.
    pub closing: &'static str,
}

/// The markers around an answer that are known.
const RESPONSE: AnswerMarkers = AnswerMarkers { opening: "<response>", closing: "</response>" };

/// The markers of published models. To add a pair: a line here.
const KNOWN: &[ThoughtMarkers] = &[
    ThoughtMarkers::COMMON,
    ThoughtMarkers::new("[THINK]", "[/THINK]"),
    ThoughtMarkers::new("<seed:think>", "</seed:think>"),
    ThoughtMarkers::new("<|START_THINKING|>", "<|END_THINKING|>"),
    ThoughtMarkers::new("<|begin_of_thought|>", "<|end_of_thought|>"),
    ThoughtMarkers::new("◁think▷", "◁/think▷"),
    ThoughtMarkers::new("<thinking>", "</thinking>"),
    ThoughtMarkers::new("<thought>", "</thought>"),
    ThoughtMarkers::new("<reasoning>", "</reasoning>"),
    // Granite 3.2.
    ThoughtMarkers::new("Here is my thought process:", "Here is my response:"),
];

impl ThoughtMarkers {
    /// Those of most models.
    pub const COMMON: ThoughtMarkers = ThoughtMarkers::new("<think>", "</think>");

    const fn new(opening: &'static str, closing: &'static str) -> ThoughtMarkers {
        ThoughtMarkers { opening, closing, answer: None }
    }

    /// The markers that a template names, if it names any.
    pub fn of_template(template: &ChatTemplate) -> Option<ThoughtMarkers> {
        let markers = KNOWN.iter().copied().find(|markers| template.mentions(markers.closing))?;
        let AnswerMarkers { opening, closing } = RESPONSE;
        let answer = template.mentions(&format!("{opening}{closing}")).then_some(RESPONSE);
        Some(ThoughtMarkers { answer, ..markers })
    }

    /// An answer behind a thought without the markers around it.
    pub fn without_answer_markers(self, said: &str) -> &str {
        let Some(AnswerMarkers { opening, closing }) = self.answer else { return said };
        let Some(said) = said.strip_prefix(opening) else { return said };
        said.trim_end().strip_suffix(closing).unwrap_or(said)
    }

    /// The markers that are control tokens of a vocabulary.
    pub fn of_tokenizer(tokenizer: &Tokenizer) -> Option<ThoughtMarkers> {
        KNOWN.iter().copied().find(|markers| {
            [markers.opening, markers.closing].iter().all(|text| tokenizer.special_id(text).is_some())
        })
    }
}
