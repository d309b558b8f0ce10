//! What stands before an answer, and prompts that wait for one.

use serde_json::Value;
use zhenjin_conversation::{Message, Role};

use super::super::errors::{BadKind, Fault};
use super::super::example::{Body, Task};
use super::fields::{Fields, wrong};
use super::{Format, MESSAGES, QUESTIONS, Unread, check, messages};

/// What was said before the answer, in whichever field it stands; `None` where the record has no such field. The places of
/// answers in it that are not to be learnt stand beside it.
pub(super) fn before(fields: &Fields<'_>, unread: &mut Unread) -> Result<Option<messages::Messages>, Fault> {
    match fields.first(&MESSAGES) {
        Some((name, value)) => behind_start(messages::read(name, value, unread)?, fields, unread).map(Some),
        None => asked(fields, unread),
    }
}

/// The same, of a record in which a list of messages is something else.
pub(super) fn asked(fields: &Fields<'_>, unread: &mut Unread) -> Result<Option<messages::Messages>, Fault> {
    let mut read = messages::Messages::default();
    if let Some(prompt) = fields.get("prompt") {
        match prompt {
            Value::String(text) => read.messages = of_text("prompt", text)?,
            // Its weights count as well, or an answer of weight 0 would be learnt beside the completion.
            Value::Array(_) => read = messages::read("prompt", prompt, unread)?,
            other => return Err(wrong("prompt", "a text or a list of messages", other)),
        }
    } else if let Some(instruction) = fields.text("instruction")? {
        let input = fields.text("input")?.unwrap_or_default();
        read.messages = match (instruction.trim().is_empty(), input.trim().is_empty()) {
            (_, true) => of_text("instruction", instruction)?,
            (true, false) => of_text("input", input)?,
            (false, false) => vec![Message::new(Role::User, format!("{instruction}\n{input}"))],
        };
    } else if let Some((name, _)) = fields.first(&QUESTIONS) {
        read.messages = of_text(name, fields.text(name)?.unwrap_or_default())?;
    } else {
        return Ok(None);
    }
    behind_start(read, fields, unread).map(Some)
}

/// What was said, behind what stands before it in fields of its own.
fn behind_start(
    mut read: messages::Messages,
    fields: &Fields<'_>,
    unread: &mut Unread,
) -> Result<messages::Messages, Fault> {
    let mut start = history(fields)?;
    if let Some(system) = system(fields)? {
        if read.messages.first().is_some_and(|first| first.role == Role::System) {
            let reason = "there is a field `system` and a system message; one of them must go";
            return Err(Fault::new(BadKind::WrongField, reason));
        }
        start.insert(0, system);
    }
    read.unlearnt.iter_mut().for_each(|place| *place += start.len());
    start.append(&mut read.messages);
    read.messages = start;
    leave_out_empty_system(&mut read, unread);
    Ok(read)
}

/// A system message without a word, which some exports have always, is none.
fn leave_out_empty_system(read: &mut messages::Messages, unread: &mut Unread) {
    let is_empty = |first: &Message| first.role == Role::System && first.content.trim().is_empty();
    if read.messages.first().is_some_and(is_empty) {
        read.messages.remove(0);
        // It may have a weight of its own, whose place goes with it.
        read.unlearnt = read.unlearnt.iter().filter_map(|place| place.checked_sub(1)).collect();
        unread.note("system messages without a word, which are left out");
    }
}

/// The system message that stands in a field of its own.
pub(super) fn system(fields: &Fields<'_>) -> Result<Option<Message>, Fault> {
    for name in ["system", "system_prompt"] {
        if let Some(text) = fields.text(name)?.filter(|text| !text.trim().is_empty()) {
            return Ok(Some(Message::new(Role::System, text)));
        }
    }
    Ok(None)
}

/// Alpaca's earlier turns: pairs of a question and its answer.
fn history(fields: &Fields<'_>) -> Result<Vec<Message>, Fault> {
    let Some(value) = fields.get("history") else { return Ok(Vec::new()) };
    let expected = "a list of pairs of texts, each a question and its answer";
    let turns = value.as_array().ok_or_else(|| wrong("history", expected, value))?;
    let mut messages = Vec::new();
    for (place, turn) in turns.iter().enumerate() {
        let texts = turn.as_array().map(|turn| turn.iter().map(Value::as_str).collect::<Vec<_>>());
        let Some([Some(question), Some(answer)]) = texts.as_deref() else {
            return Err(wrong(&format!("history[{place}]"), "a question and its answer", turn));
        };
        messages.push(Message::new(Role::User, *question));
        messages.push(Message::new(Role::Assistant, *answer));
    }
    Ok(messages)
}

/// A prompt in one text: what a user says, or a dialogue.
fn of_text(name: &str, text: &str) -> Result<Vec<Message>, Fault> {
    Ok(dialogue(name, text)?.unwrap_or_else(|| vec![Message::new(Role::User, text)]))
}

/// The messages of a prompt that is a dialogue in one text, which ends where the assistant is to speak or with what the user says.
fn dialogue(name: &str, text: &str) -> Result<Option<Vec<Message>>, Fault> {
    if !messages::is_dialogue(text) {
        return Ok(None);
    }
    let mut messages = messages::of_text(name, text)?;
    let mark_at_end = messages::answer_mark_at_end(text.trim_end());
    let last_answer = messages.last().filter(|last| last.role == Role::Assistant);
    match (last_answer.map(|last| last.content.is_empty()), mark_at_end) {
        (Some(true), _) => {
            messages.pop();
        }
        // Its marks would be learnt as a part of what the user says.
        (_, Some(mark)) => {
            let first = messages::mark_of(text.trim_start()).map_or("Human:", |(first, _)| first);
            let reason = format!(
                "`{name}` begins with \"{first}\" and ends with \"{mark}\", but before the latter there is no empty line; a \
                 dialogue in one text has one before each such mark"
            );
            return Err(Fault::new(BadKind::WrongField, reason));
        }
        // A user may quote a dialogue and ask something of it. With an empty line before its first mark it is a transcript, to whose last
        // answer there is no other: that is refused later.
        (Some(false), _) if !text.starts_with(['\n', '\r']) => return Ok(None),
        _ => {}
    }
    Ok(Some(messages))
}

/// Whether the prompt is a dialogue in one text.
pub(super) fn is_in_one_text(fields: &Fields<'_>) -> bool {
    let texts = ["prompt", "instruction", "input"].into_iter().chain(QUESTIONS);
    let mut texts = texts.filter_map(|name| Some((name, fields.peek(name)?.as_str()?)));
    texts.any(|(name, text)| dialogue(name, text).is_ok_and(|messages| messages.is_some()))
}

/// Whether an answer in a text is a dialogue that repeats its prompt. Where the prompt is none in one text, an answer that begins with "Human:"
/// may be what somebody asked for; one that begins with an empty line before it is not.
pub(super) fn repeats_prompt(answer: &str, prompt_is_in_one_text: bool) -> bool {
    let begins = answer.strip_prefix("\n\n").is_some_and(|text| messages::begins_as(text, Role::User));
    let is_whole = begins && messages::has_answer(answer);
    is_whole || prompt_is_in_one_text && messages::is_dialogue(answer)
}

/// What stands before an answer.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) messages: &'a [Message],
    pub(super) is_in_one_text: bool,
}

impl Asked<'_> {
    /// Reads an answer that stands alone, or behind its prompt once more in a dialogue in one text.
    pub(super) fn answer(
        self,
        name: &str,
        value: &Value,
        unread: &mut Unread,
    ) -> Result<messages::Messages, Fault> {
        let Some(text) = value.as_str().filter(|text| repeats_prompt(text, self.is_in_one_text)) else {
            return messages::read_answer(name, value, unread);
        };
        let mut dialogue = messages::of_text(name, text)?;
        let asked = messages::without_system(self.messages);
        let repeats = dialogue.len() > asked.len()
            && asked.iter().zip(&dialogue).all(|(one, other)| messages::is_same(one, other));
        if !repeats {
            let reason = format!(
                "`{name}` is a dialogue that does not begin with the prompt and go on behind it; let it begin with the same, \
                 or let the answer alone stand in it"
            );
            return Err(Fault::new(BadKind::WrongField, reason));
        }
        Ok(messages::Messages { messages: dialogue.split_off(asked.len()), unlearnt: Vec::new() })
    }
}

/// A prompt with the fields that a reward reads.
pub(super) fn task(format: Format, fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let messages = if format == Format::Turns {
        first_turn(fields, unread)?
    } else {
        let missing = || Fault::new(BadKind::WrongField, "there is no prompt");
        before(fields, unread)?.ok_or_else(missing)?.messages
    };
    let tools = messages::read_tools(fields)?;
    if messages.last().is_none_or(|last| matches!(last.role, Role::Assistant | Role::System)) {
        let reason = match messages.is_empty() {
            true => "there are no messages",
            false => "the prompt must end with what somebody asks or a tool says",
        };
        return Err(Fault::new(BadKind::RolesOutOfOrder, reason));
    }
    check(&messages)?;
    let mut others = fields.for_rewards(&[]);
    if format == Format::Turns
        && let Some(turns) = fields.get("turns")
    {
        others.insert("turns".to_owned(), turns.clone());
    }
    Ok(Body::Task(Task { messages, tools, fields: others }))
}

/// The first of several questions; those after it need answers between them, and stay a field.
fn first_turn(fields: &Fields<'_>, unread: &mut Unread) -> Result<Vec<Message>, Fault> {
    let turns = fields.get("turns").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let first = turns.first().and_then(Value::as_str);
    let expected = || Fault::new(BadKind::WrongField, "`turns` must be a list of texts");
    if turns.len() > 1 {
        unread.note(
            "lists of questions of which the first is the prompt; all of them stay in the field `turns`",
        );
    }
    Ok(vec![Message::new(Role::User, first.ok_or_else(expected)?)])
}
