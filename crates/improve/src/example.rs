//! Judgements as they come, and the examples that are made of them.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How a model learns from examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// From pairs of answers (Rafailov et al. 2023).
    Dpo,
    /// From answers with thumbs (Ethayarajh et al. 2024).
    Kto,
    /// From good answers alone.
    Sft,
}

impl Method {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Dpo => "dpo",
            Method::Kto => "kto",
            Method::Sft => "sft",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(word: &str) -> Result<Method, String> {
        let known = [Method::Dpo, Method::Kto, Method::Sft];
        let found = known.into_iter().find(|method| method.as_str() == word);
        found.ok_or_else(|| format!("`{word}` is no method: dpo, kto or sft"))
    }
}

/// What somebody said in a conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// What somebody judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// A thumb.
    Rating {
        /// The answer.
        answer: String,
        /// Up or down.
        up: bool,
    },
    /// What an answer should have been.
    Correction {
        /// The answer.
        answer: String,
        /// What it should have been.
        correction: String,
    },
    /// The better one of two answers.
    Choice {
        /// The better one.
        chosen: String,
        /// The other one.
        rejected: String,
    },
}

/// A judgement with all that matters to its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its name in the store.
    pub id: String,
    /// Who judged.
    pub owner: String,
    /// The conversation of the answer.
    pub conversation: String,
    /// The question that was answered.
    pub question: String,
    /// When: milliseconds since 1970.
    pub at: i64,
    /// The name under which the model that answered was served.
    pub model: String,
    /// Whether whoever judged allows that models learn from it.
    pub consents: bool,
    /// Whether the answer that is liked breaks off: to imitate it would teach to break off.
    pub breaks_off: bool,
    /// What was said before the answer, the system prompt first.
    pub prompt: Vec<Turn>,
    /// The judgement.
    pub judgement: Judgement,
}

/// What a model learns from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Example {
    /// Two answers, one better than the other.
    Pair {
        /// The better one.
        chosen: String,
        /// The other one.
        rejected: String,
    },
    /// An answer that was liked or not.
    Thumb {
        /// The answer.
        answer: String,
        /// Whether it was liked.
        liked: bool,
    },
    /// A good answer.
    Answer(String),
}

/// An example with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The judgements that it is made of.
    pub rows: Vec<String>,
    /// Who judged.
    pub owner: String,
    /// The conversation.
    pub conversation: String,
    /// The question.
    pub question: String,
    /// When the latest of the judgements was made.
    pub at: i64,
    /// What was said before the answer.
    pub prompt: Vec<Turn>,
    /// The example.
    pub example: Example,
}

impl Item {
    /// A record of a file of examples, as training reads it.
    pub fn to_json(&self) -> Value {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let prompt: Vec<Value> = self.prompt.iter().map(|turn| message(&turn.role, &turn.content)).collect();
        let answer = |content: &str| json!([message("assistant", content)]);
        match &self.example {
            Example::Pair { chosen, rejected } => {
                json!({ "prompt": prompt, "chosen": answer(chosen), "rejected": answer(rejected) })
            }
            Example::Thumb { answer: content, liked } => {
                json!({ "prompt": prompt, "completion": answer(content), "label": liked })
            }
            Example::Answer(content) => {
                let messages: Vec<Value> =
                    prompt.into_iter().chain([message("assistant", content)]).collect();
                json!({ "messages": messages })
            }
        }
    }
}

/// The SHA-256 of texts, each with its length, in hexadecimal digits.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut sum = Sha256::new();
    for text in texts {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text.as_bytes());
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
