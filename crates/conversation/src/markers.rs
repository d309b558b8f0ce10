//! The texts that published models write around their thoughts.

use zhenjin_tokenizer::{ChatTemplate, Tokenizer};

/// The texts around a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThoughtMarkers {
    /// Before it.
    pub opening: &'static str,
    /// Behind it.
    pub closing: &'static str,
}

/// The markers of published models. To add a pair: a line here.
const KNOWN: &[ThoughtMarkers] = &[
    ThoughtMarkers::COMMON,
    ThoughtMarkers { opening: "[THINK]", closing: "[/THINK]" },
    ThoughtMarkers { opening: "<seed:think>", closing: "</seed:think>" },
    ThoughtMarkers { opening: "<|START_THINKING|>", closing: "<|END_THINKING|>" },
    ThoughtMarkers { opening: "<|begin_of_thought|>", closing: "<|end_of_thought|>" },
    ThoughtMarkers { opening: "◁think▷", closing: "◁/think▷" },
    ThoughtMarkers { opening: "<thinking>", closing: "</thinking>" },
    ThoughtMarkers { opening: "<thought>", closing: "</thought>" },
    ThoughtMarkers { opening: "<reasoning>", closing: "</reasoning>" },
];

impl ThoughtMarkers {
    /// Those of most models.
    pub const COMMON: ThoughtMarkers = ThoughtMarkers { opening: "<think>", closing: "</think>" };

    /// The markers that a template names, if it names any.
    pub fn of_template(template: &ChatTemplate) -> Option<ThoughtMarkers> {
        KNOWN.iter().copied().find(|markers| template.mentions(markers.closing))
    }

    /// The markers that are control tokens of a vocabulary.
    pub fn of_tokenizer(tokenizer: &Tokenizer) -> Option<ThoughtMarkers> {
        KNOWN.iter().copied().find(|markers| {
            [markers.opening, markers.closing].iter().all(|text| tokenizer.special_id(text).is_some())
        })
    }
}
