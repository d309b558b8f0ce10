//! What people write examples in: each format is known by the fields of its records.
//!
//! To add one: a variant of [`Format`] with its name, its recognition in [`recognise`], and a reader in one of the files here.

mod answers;
mod fields;
mod labels;
mod messages;
mod preferences;
mod prompts;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use zhenjin_conversation::{Message, Role};

use super::errors::{BadKind, Fault};
use super::example::Body;
pub(super) use fields::shape;
use fields::{Fields, meant};
pub(super) use labels::Labels;

/// What a file's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Messages,
    MessageList,
    Alpaca,
    PromptAndCompletion,
    Dialogue,
    Pairs,
    RankedAnswers,
    Thumbs,
    QuestionAndAnswer,
    Turns,
    Tasks,
}

impl Format {
    /// In words, as what a record is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Messages => "a conversation (messages)",
            Format::MessageList => "a conversation (a list of messages)",
            Format::Alpaca => "an instruction with its output (Alpaca)",
            Format::PromptAndCompletion => "a prompt with its completion",
            Format::Dialogue => "a dialogue in one text (Human:, Assistant:)",
            Format::Pairs => "a preference pair (chosen, rejected)",
            Format::RankedAnswers => "a list of ranked answers",
            Format::Thumbs => "an answer with a thumb (label)",
            Format::QuestionAndAnswer => "a question with its answer",
            Format::Turns => "a list of questions (turns)",
            Format::Tasks => "a prompt for rewards",
        }
    }
}

/// Fields and other things that have no effect, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread {
    pub(super) fields: BTreeMap<String, u64>,
    /// Of these fields, those that stay with their examples: a reward may read them.
    pub(super) for_rewards: BTreeMap<String, u64>,
    pub(super) notes: BTreeMap<&'static str, u64>,
}

impl Unread {
    pub(super) fn add(&mut self, field: String) {
        *self.fields.entry(field).or_default() += 1;
    }

    pub(super) fn note(&mut self, what: &'static str) {
        *self.notes.entry(what).or_default() += 1;
    }

    fn add_all(&mut self, fields: &Fields<'_>) {
        fields.unread().into_iter().for_each(|(name, _)| self.add(name.clone()));
    }

    fn keep_all_for_rewards(&mut self, fields: &Fields<'_>) {
        for (name, _) in fields.unread() {
            *self.for_rewards.entry(name.clone()).or_default() += 1;
        }
    }
}

/// What a record is by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    As(Format),
    /// A conversation that ends with no answer: cut short, or a prompt for rewards. The file's other records tell.
    Unanswered,
}

impl Recognised {
    /// The format of the record in a file whose records are of `format`.
    pub(super) fn among(self, format: Option<Format>) -> Format {
        match self {
            Recognised::As(own) => own,
            Recognised::Unanswered if format == Some(Format::Messages) => Format::Messages,
            Recognised::Unanswered => Format::Tasks,
        }
    }
}

const PREFERRED: [&str; 2] = ["chosen", "response_chosen"];
const OTHER: [&str; 2] = ["rejected", "response_rejected"];
const MESSAGES: [&str; 3] = ["messages", "conversations", "conversation"];
const LISTS_OF_ANSWERS: [&str; 6] =
    ["answers", "responses", "completions", "candidates", "outputs", "generations"];
const LABELS: [&str; 2] = ["label", "kto_tag"];
const COMPLETIONS: [&str; 3] = ["completion", "response", "output"];
const QUESTIONS: [&str; 3] = ["question", "query", "problem"];
/// Fields by which formats are known, for "did you mean".
const KNOWN: [&str; 21] = [
    "messages",
    "conversations",
    "instruction",
    "output",
    "prompt",
    "completion",
    "response",
    "chosen",
    "rejected",
    "answers",
    "responses",
    "completions",
    "label",
    "kto_tag",
    "question",
    "answer",
    "problem",
    "turns",
    "text",
    "scores",
    "ranks",
];

/// Whether a format reads a field of this name.
pub(super) fn reads(name: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "prompt",
        "instruction",
        "input",
        "system",
        "system_prompt",
        "history",
        "text",
        "turns",
        "answer",
        "tools",
        "functions",
        "margin",
    ];
    let lists: [&[&str]; 8] =
        [&OTHERS, &MESSAGES, &PREFERRED, &OTHER, &LISTS_OF_ANSWERS, &LABELS, &COMPLETIONS, &QUESTIONS];
    lists.iter().any(|names| names.contains(&name))
}

/// A record's fields, as far as they say what it is. Those that are `null` count as missing.
#[derive(Clone, Copy)]
struct Present<'a>(&'a Map<String, Value>);

impl<'a> Present<'a> {
    fn value(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn any(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.value(name).is_some())
    }

    fn is(self, name: &str, test: fn(&Value) -> bool) -> bool {
        self.value(name).is_some_and(test)
    }

    fn has_prompt(self) -> bool {
        self.list().is_some() || self.any(&["prompt", "instruction"]) || self.any(&QUESTIONS)
    }

    /// Its list of messages.
    fn list(self) -> Option<&'a Value> {
        MESSAGES.iter().find_map(|name| self.value(name))
    }

    /// Whether its list of messages ends with an answer.
    fn is_answered(self) -> bool {
        self.list().and_then(Value::as_array).and_then(|list| list.last()).is_some_and(is_assistants)
    }

    fn is_dialogue(self) -> bool {
        self.value("text").and_then(Value::as_str).is_some_and(messages::has_answer)
    }

    /// Its format, if it compares answers.
    fn comparison(self) -> Option<Format> {
        if self.any(&PREFERRED) && self.any(&OTHER) {
            return Some(Format::Pairs);
        }
        let has_list = LISTS_OF_ANSWERS.iter().any(|name| self.is(name, Value::is_array));
        (has_list && self.has_prompt()).then_some(Format::RankedAnswers)
    }

    /// Its label, if that stands beside an answer and may judge it. Where it is true or false it does, and an answer that is missing is
    /// found to be so where it is read.
    fn label(self) -> Option<(&'static str, &'a Value)> {
        let (name, label) = LABELS.iter().find_map(|name| Some((*name, self.value(name)?)))?;
        let is_beside_answer = match self.has_prompt() {
            true => {
                label.is_boolean()
                    || self.any(&COMPLETIONS)
                    || self.is("answer", Value::is_string)
                    || self.is_answered()
            }
            false => self.is_dialogue(),
        };
        (is_beside_answer && self.comparison().is_none()).then_some((name, label))
    }
}

/// What the labels of a file's records say together.
pub(super) fn labels_of<'a>(records: impl Iterator<Item = &'a Value>) -> Labels {
    let mut labels = Labels::default();
    for (name, label) in records.filter_map(Value::as_object).filter_map(|map| Present(map).label()) {
        labels.add(name, label);
    }
    labels
}

/// Finds out what a record is; `labels` are those of its file.
///
/// # Errors
/// What was found, and what was expected.
pub(super) fn recognise(record: &Value, labels: Labels) -> Result<Recognised, (String, String)> {
    let map = match record {
        Value::Object(map) => map,
        Value::Array(items) if !items.is_empty() && items.iter().all(is_message) => {
            return Ok(Recognised::As(Format::MessageList));
        }
        other => return Err((format!("the record is {}", shape(other)), expected(&[]))),
    };
    let present = Present(map);
    let recognised = |format| Ok(Recognised::As(format));
    if let Some(format) = present.comparison() {
        return recognised(format);
    }
    // Whether this one says plainly that the answer was liked is found out where it is read. Labels that do not judge are fields like others.
    if labels.judge() && present.label().is_some() {
        return recognised(Format::Thumbs);
    }
    if present.list().is_some() {
        return match present.is_answered() {
            true => recognised(Format::Messages),
            false => Ok(Recognised::Unanswered),
        };
    }
    if present.is("instruction", Value::is_string) && present.any(&COMPLETIONS) {
        return recognised(Format::Alpaca);
    }
    if present.any(&["prompt"]) {
        let has_completion = present.any(&COMPLETIONS);
        return recognised(if has_completion { Format::PromptAndCompletion } else { Format::Tasks });
    }
    if QUESTIONS.iter().any(|name| present.is(name, Value::is_string)) {
        return recognised(Format::QuestionAndAnswer);
    }
    if present.is("turns", Value::is_array) {
        return recognised(Format::Turns);
    }
    if present.is_dialogue() {
        return recognised(Format::Dialogue);
    }
    let found = format!("the record is {}", shape(record));
    let names: Vec<&str> = map.keys().map(String::as_str).collect();
    Err((found, wrapped(map).or_else(|| undivided(map)).unwrap_or_else(|| expected(&names))))
}

/// What to do with an object that holds the records in a list of its own.
fn wrapped(map: &Map<String, Value>) -> Option<String> {
    const WRAPPERS: [&str; 7] = ["data", "records", "examples", "samples", "rows", "items", "train"];
    let is_record = |value: &Value| value.as_object().is_some_and(|record| !record.is_empty());
    WRAPPERS.iter().find_map(|name| {
        let list = map.get(*name)?.as_array().filter(|list| !list.is_empty() && list.iter().all(is_record))?;
        let count = list.len();
        Some(format!(
            "its field `{name}` is a list of {count} objects: if these are the records, take the list out of `{name}`, so that \
             the file is that list alone"
        ))
    })
}

/// What is wrong with a dialogue in one text that is known as none, since no empty line divides its turns.
fn undivided(map: &Map<String, Value>) -> Option<String> {
    let text = map.get("text").and_then(Value::as_str)?;
    let is_users = messages::begins_as(text.trim_start(), Role::User);
    let mark = messages::answer_mark_of_a_line(text).filter(|_| is_users)?;
    Some(messages::without_empty_line("text", mark))
}

fn is_message(value: &Value) -> bool {
    value.get("role").or_else(|| value.get("from")).is_some_and(Value::is_string)
}

fn is_assistants(message: &Value) -> bool {
    let role =
        message.get("role").or_else(|| message.get("from")).and_then(Value::as_str).unwrap_or_default();
    messages::role("", role).is_ok_and(|role| role == Role::Assistant)
        || matches!(role, "function_call" | "tool_call")
}

/// What a record could be, and which of its fields may be misspelt.
fn expected(names: &[&str]) -> String {
    let unknown = names.iter().filter(|name| !KNOWN.contains(name));
    let likely = unknown.filter_map(|name| Some((*name, meant(name, &KNOWN)?)));
    // Names with other capitals are meant for certain, and all of them are; what is only alike may be anything.
    let (mut likely, others): (Vec<_>, Vec<_>) =
        likely.partition(|(name, known)| name.to_lowercase() == *known);
    if likely.is_empty() {
        likely.extend(others.into_iter().next());
    }
    let likely: Vec<String> = likely.iter().map(|(name, known)| format!("`{known}` by `{name}`")).collect();
    let meant = match likely.is_empty() {
        true => String::new(),
        false => format!("did you mean {}? ", likely.join(", ")),
    };
    format!(
        "{}expected are `messages` or `conversations`, `instruction` and `output`, `prompt` and `completion`, `chosen` and \
         `rejected` (with or without `prompt`), a prompt with `answers` and their `scores` or `ranks`, an answer with \
         `label` true or false (or 1 or 0), or `prompt` or `question` with whatever a reward reads{}",
        meant,
        if names.contains(&"text") { "; plain text is for pre-training" } else { "" }
    )
}

/// Which field of a prompt for rewards may be misspelt, where an answer was expected.
pub(super) fn misspelt_answer(fields: &Map<String, Value>) -> Option<String> {
    const ANSWERS: [&str; 6] = ["completion", "response", "output", "answer", "chosen", "rejected"];
    let mut unknown = fields.keys().filter(|name| !ANSWERS.contains(&name.as_str()));
    unknown.find_map(|name| Some(format!("did you mean `{}` by `{name}`?", meant(name, &ANSWERS)?)))
}

/// Reads a record of a known format: the examples that it makes.
pub(super) fn read(format: Format, record: &Value, unread: &mut Unread) -> Result<Vec<Body>, Fault> {
    let empty = Map::new();
    let fields = Fields::new(record.as_object().unwrap_or(&empty));
    let bodies = match format {
        Format::Messages => vec![answers::conversation(&fields, unread)?],
        Format::MessageList => {
            vec![answers::of_messages(messages::read("", record, unread)?, Vec::new(), unread)?]
        }
        Format::Alpaca | Format::PromptAndCompletion => vec![answers::completed(&fields, unread)?],
        Format::Dialogue => vec![answers::dialogue(&fields, unread)?],
        Format::Pairs => vec![preferences::pair(&fields, unread)?],
        Format::RankedAnswers => preferences::ranked(&fields, unread)?,
        Format::Thumbs => vec![answers::thumb(&fields, unread)?],
        Format::QuestionAndAnswer | Format::Tasks | Format::Turns => {
            return Ok(vec![prompts::task(format, &fields, unread)?]);
        }
    };
    if bodies.iter().any(|body| body.messages().any(messages::holds_turns)) {
        unread.note(
            "answers with lines that begin with \"Human:\" and \"Assistant:\" (or such marks in Chinese), which are learnt as text; turns of \
             a dialogue in one text have an empty line before them",
        );
    }
    unread.add_all(&fields);
    if format == Format::Thumbs {
        unread.keep_all_for_rewards(&fields);
    }
    Ok(bodies)
}

/// Refuses conversations in which somebody speaks who cannot, or says nothing.
fn check(messages: &[Message]) -> Result<(), Fault> {
    let mut last: Option<&Message> = None;
    // Whether the latest message that is no tool's result calls tools.
    let mut has_called = false;
    for (place, message) in messages.iter().enumerate() {
        let out_of_order = |reason: &str| {
            let role = message.role.name();
            Fault::new(BadKind::RolesOutOfOrder, format!("message {} ({role}): {reason}", place + 1))
        };
        let before = last.map(|last| last.role);
        match message.role {
            Role::System if before.is_some_and(|before| before != Role::System) => {
                return Err(out_of_order("a system message stands behind others"));
            }
            Role::User if before == Some(Role::User) => {
                return Err(out_of_order("it follows another of the user's"));
            }
            Role::Assistant if before.is_none_or(|before| before == Role::System) => {
                return Err(out_of_order("nobody has asked anything before it"));
            }
            Role::Assistant if before == Some(Role::Assistant) => {
                return Err(out_of_order("it follows another of the assistant's"));
            }
            Role::Tool if !has_called => {
                return Err(out_of_order("a tool's result follows no call"));
            }
            _ => {}
        }
        if message.content.trim().is_empty() {
            let number = place + 1;
            match message.role {
                Role::Assistant if message.tool_calls.is_empty() => {
                    let reason = format!("message {number}: the assistant says nothing and calls nothing");
                    return Err(Fault::new(BadKind::EmptyAnswer, reason));
                }
                Role::User | Role::System => {
                    let reason = format!("message {number}: the {} says nothing", message.role.name());
                    return Err(Fault::new(BadKind::EmptyMessage, reason));
                }
                Role::Assistant | Role::Tool => {}
            }
        }
        if message.role != Role::Tool {
            has_called = !message.tool_calls.is_empty();
        }
        last = Some(message);
    }
    Ok(())
}
