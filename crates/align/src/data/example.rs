//! Examples as people write them: messages, before any template.

use std::path::PathBuf;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use zhenjin_conversation::{Message, Role, Tool};

/// Where an example stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Index into the files that were read.
    pub file: usize,
    /// The record's line, counted from 1.
    pub line: u64,
}

/// A conversation whose answers are to be learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Everything that was said, oldest first.
    pub messages: Vec<Message>,
    /// Functions that the assistant could call.
    pub tools: Vec<Tool>,
    /// Places of the assistant's messages that are not to be learnt (OpenAI's `"weight": 0`), ascending.
    pub unlearnt: Vec<usize>,
}

/// Two answers to one prompt, of which the first is preferred.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// What was said before; may be empty only where the assistant speaks first.
    pub prompt: Vec<Message>,
    /// Functions that the assistant could call.
    pub tools: Vec<Tool>,
    /// The preferred answer; the first message is the assistant's.
    pub chosen: Vec<Message>,
    /// The other answer, likewise.
    pub rejected: Vec<Message>,
    /// By how much the first is better, where a field `margin` says it.
    pub margin: Option<f32>,
}

/// An answer that somebody judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumb {
    /// What was said before.
    pub prompt: Vec<Message>,
    /// Functions that the assistant could call.
    pub tools: Vec<Tool>,
    /// The answer; the first message is the assistant's.
    pub answer: Vec<Message>,
    /// Whether they liked it.
    pub liked: bool,
    /// What rewards may read where the prompt alone is used: the record's other fields, and an `answer` with its label, which may as well be
    /// the right one. They are no part of the judgement.
    pub fields: Map<String, Value>,
}

/// A prompt whose answers a reward judges.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The prompt.
    pub messages: Vec<Message>,
    /// Functions that the assistant may call.
    pub tools: Vec<Tool>,
    /// The record's other fields, such as the right answer, for rewards that compare.
    pub fields: Map<String, Value>,
}

/// What an example is.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Answers to imitate.
    Conversation(Conversation),
    /// A preference.
    Pair(Pair),
    /// A judgement of one answer.
    Thumb(Thumb),
    /// A prompt for rewards.
    Task(Task),
}

/// An example and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Where it stands.
    pub origin: Origin,
    /// What it is.
    pub body: Body,
}

/// A kind of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers to imitate.
    Conversations,
    /// Preferences.
    Pairs,
    /// Judgements of single answers.
    Thumbs,
    /// Prompts for rewards.
    Tasks,
}

impl Kind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Conversations => "conversations",
            Kind::Pairs => "preference pairs",
            Kind::Thumbs => "judged answers (thumbs)",
            Kind::Tasks => "prompts for rewards",
        }
    }
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile {
    /// Where it is.
    pub path: PathBuf,
    /// What its records are, in words; `None` for a file without one.
    pub format: Option<&'static str>,
    /// Records, the bad ones included.
    pub records: u64,
}

impl Body {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Body::Conversation(_) => Kind::Conversations,
            Body::Pair(_) => Kind::Pairs,
            Body::Thumb(_) => Kind::Thumbs,
            Body::Task(_) => Kind::Tasks,
        }
    }

    /// All messages in order: what was said before, then the answers.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        let (before, first, second): (&[Message], &[Message], &[Message]) = match self {
            Body::Conversation(conversation) => (&conversation.messages, &[], &[]),
            Body::Pair(pair) => (&pair.prompt, &pair.chosen, &pair.rejected),
            Body::Thumb(thumb) => (&thumb.prompt, &thumb.answer, &[]),
            Body::Task(task) => (&task.messages, &[], &[]),
        };
        before.iter().chain(first).chain(second)
    }

    fn tools(&self) -> &[Tool] {
        match self {
            Body::Conversation(conversation) => &conversation.tools,
            Body::Pair(pair) => &pair.tools,
            Body::Thumb(thumb) => &thumb.tools,
            Body::Task(task) => &task.tools,
        }
    }

    /// SHA-256 of all that it says: equal for equal examples.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(self.kind().name());
        self.tools().iter().for_each(|tool| add(&tool.to_template_value().to_string()));
        let mut add_messages = |name: &str, messages: &[Message]| {
            add(name);
            messages.iter().for_each(|message| add(&written(message)));
        };
        let others = match self {
            Body::Conversation(conversation) => {
                add_messages("messages", &conversation.messages);
                format!("{:?}", conversation.unlearnt)
            }
            Body::Pair(pair) => {
                add_messages("prompt", &pair.prompt);
                add_messages("chosen", &pair.chosen);
                add_messages("rejected", &pair.rejected);
                format!("{:?}", pair.margin)
            }
            Body::Thumb(thumb) => {
                add_messages("prompt", &thumb.prompt);
                add_messages("answer", &thumb.answer);
                thumb.liked.to_string()
            }
            Body::Task(task) => {
                add_messages("prompt", &task.messages);
                Value::Object(task.fields.clone()).to_string()
            }
        };
        add(&others);
        hash.finalize().into()
    }

    /// SHA-256 of how the conversation begins: everything before the assistant's first word, white space at the ends aside.
    /// Equal for all examples that grew out of one question.
    pub fn opening_hash(&self) -> [u8; 32] {
        self.hash_of_opening(|_| true)
    }

    /// The same without system messages: equal for one question under any of them.
    pub(super) fn question_hash(&self) -> [u8; 32] {
        self.hash_of_opening(|role| role != Role::System)
    }

    fn hash_of_opening(&self, counts: impl Fn(Role) -> bool) -> [u8; 32] {
        let mut hash = Sha256::new();
        let opening = self.messages().take_while(|message| message.role != Role::Assistant);
        for message in opening.filter(|message| counts(message.role)) {
            let content = message.content.trim();
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(message.role.name());
            hash.update(content);
        }
        hash.finalize().into()
    }
}

/// A message with everything in it, as one text.
fn written(message: &Message) -> String {
    let thought = message.thought.as_deref().map(|thought| format!("\u{0}{thought}"));
    message.to_template_value().to_string() + &thought.unwrap_or_default()
}
