//! Examples in tokens: what the methods train on.

use serde_json::Value;
use zhenjin_tokenizer::EncodedDialogue;

/// An example, as far as it was encoded: where a conversation is longer than a model can read, its end is not needed.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning<T> {
    /// What was encoded. Where answers are missing, the prompt of the first of them stands at its end.
    pub example: T,
    /// How many answers are missing; 0 where it is whole.
    pub unread: usize,
}

/// Two answers to one prompt, of which the first is preferred. Both dialogues begin with the prompt's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPair {
    /// The dialogue with the preferred answer; its mask has the answer's tokens, the end of its turn included.
    pub chosen: EncodedDialogue,
    /// The dialogue with the other answer.
    pub rejected: EncodedDialogue,
    /// By how much the first is better, where a field `margin` says it: a reward model's margin.
    pub margin: Option<f32>,
}

/// An answer that somebody judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedThumb {
    /// The dialogue; its mask has the answer's tokens, the end of its turn included.
    pub dialogue: EncodedDialogue,
    /// Whether they liked it.
    pub liked: bool,
}

/// A prompt whose answers a reward judges.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedTask {
    /// The prompt, up to where the answer begins.
    pub prompt: Vec<u32>,
    /// The prompt's messages, for rewards that read them.
    pub messages: Vec<Value>,
    /// The example's other fields, such as the right answer, for rewards that compare.
    pub fields: serde_json::Map<String, Value>,
}
