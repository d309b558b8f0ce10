//! Judgements as they come, and the examples that are made of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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
    pub role: &'static str,
    /// The text, without a thought.
    pub content: Arc<str>,
    /// What a model thought before it.
    pub thought: Option<Arc<str>>,
}

impl Turn {
    /// One without a thought.
    pub fn new(role: &'static str, content: impl Into<Arc<str>>) -> Turn {
        Turn { role, content: content.into(), thought: None }
    }

    fn to_json(&self) -> Value {
        message(self.role, &self.content, self.thought.as_deref())
    }
}

fn message(role: &str, content: &str, thought: Option<&str>) -> Value {
    let mut message = json!({ "role": role, "content": content });
    if let Some(thought) = thought {
        message["reasoning_content"] = json!(thought);
    }
    message
}

/// A model's answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// What a person reads.
    pub text: Arc<str>,
    /// What the model thought before.
    pub thought: Option<Arc<str>>,
}

impl Answer {
    fn to_json(&self) -> Value {
        message("assistant", &self.text, self.thought.as_deref())
    }
}

impl From<&str> for Answer {
    /// One without a thought.
    fn from(text: &str) -> Answer {
        Answer { text: text.into(), thought: None }
    }
}

/// What somebody judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// A thumb.
    Rating {
        /// The answer.
        answer: Answer,
        /// Up or down.
        up: bool,
    },
    /// What an answer should have been.
    Correction {
        /// The answer.
        answer: Answer,
        /// What it should have been.
        correction: String,
    },
    /// The better one of two answers.
    Choice {
        /// The better one.
        chosen: Answer,
        /// The other one.
        rejected: Answer,
    },
}

/// A judgement with all that matters to its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its name in the store. Names sort by age, and stay as they are as long as the same is judged in the same way.
    pub id: String,
    /// Who judged.
    pub owner: String,
    /// Whether that is the operator, whose machine it is.
    pub is_operator: bool,
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
    /// What was said before the answer, the system prompt first. All judgements of a question's answers may share it.
    pub prompt: Arc<[Turn]>,
    /// The judgement.
    pub judgement: Judgement,
}

/// What a model learns from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Example {
    /// Two answers, one better than the other.
    Pair {
        /// The better one.
        chosen: Answer,
        /// The other one.
        rejected: Answer,
    },
    /// An answer that was liked or not.
    Thumb {
        /// The answer.
        answer: Answer,
        /// Whether it was liked.
        liked: bool,
    },
    /// A good answer.
    Answer(Answer),
}

impl Example {
    /// Its answers.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Answer> {
        match self {
            Example::Pair { chosen, rejected } => [Some(chosen), Some(rejected)],
            Example::Thumb { answer, .. } | Example::Answer(answer) => [Some(answer), None],
        }
        .into_iter()
        .flatten()
    }
}

/// An example with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The judgements that it is made of.
    pub rows: Vec<String>,
    /// Who judged.
    pub owner: String,
    /// Whether that is the operator, whose machine it is.
    pub is_operator: bool,
    /// The conversation.
    pub conversation: String,
    /// The question.
    pub question: String,
    /// When the latest of the judgements was made.
    pub at: i64,
    /// What was said before the answer, shared with the judgements: a long chat can be before hundreds of examples.
    pub prompt: Arc<[Turn]>,
    /// The example.
    pub example: Example,
}

impl Item {
    /// How its conversation begins: see [`opening`].
    pub fn opening(&self) -> String {
        opening(self.prompt.iter().map(|turn| (turn.role, &*turn.content)))
    }

    /// Its name among all examples of its kind: the judgements that it is made of, and of a thumb whether it is up, as a correction and a
    /// choice make one of each.
    pub(crate) fn name(&self) -> Vec<String> {
        let word = match &self.example {
            Example::Thumb { liked: true, .. } => Some("liked"),
            Example::Thumb { liked: false, .. } => Some("disliked"),
            Example::Pair { .. } | Example::Answer(_) => None,
        };
        self.rows.iter().cloned().chain(word.map(str::to_owned)).collect()
    }

    /// A record of a file of examples, as training reads it.
    pub fn to_json(&self) -> Value {
        let mut messages: Vec<Value> = self.prompt.iter().map(Turn::to_json).collect();
        match &self.example {
            Example::Pair { chosen, rejected } => {
                json!({ "prompt": messages, "chosen": [chosen.to_json()], "rejected": [rejected.to_json()] })
            }
            Example::Thumb { answer, liked } => {
                json!({ "prompt": messages, "completion": [answer.to_json()], "label": liked })
            }
            Example::Answer(answer) => {
                // Nobody has said that the earlier answers are good.
                for message in messages.iter_mut().filter(|message| message["role"] == "assistant") {
                    message["weight"] = json!(0);
                }
                messages.push(answer.to_json());
                json!({ "messages": messages })
            }
        }
    }
}

/// A name for how a conversation of these turns (each a role and a text) begins: with all that was said before the first answer, white space at
/// the ends aside. It is the same whoever asks and in whichever chat, and in all branches that grow out of one first question. The system prompt
/// does not count, or two people with different ones would not ask the same.
pub fn opening<'a>(turns: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let before = turns.into_iter().take_while(|(role, _)| *role != "assistant");
    let said = before.filter(|(role, _)| *role != "system").map(|(_, content)| content.trim());
    hash(std::iter::once("opening").chain(said))
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
