//! Conversations with their answers, and answers with a thumb.

use serde_json::Value;
use zhenjin_conversation::{Message, Role, Tool};

use super::super::errors::{BadKind, Fault};
use super::super::example::{Body, Conversation, Thumb};
use super::fields::{Fields, wrong};
use super::{COMPLETIONS, LABELS, Unread, check, messages, prompts};

/// A conversation in `messages` or `conversations`.
pub(super) fn conversation(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let missing = || Fault::new(BadKind::WrongField, "there are no messages");
    let read = prompts::before(fields, unread)?.ok_or_else(missing)?;
    of_messages(read, messages::read_tools(fields)?, unread)
}

/// A conversation of messages that were read.
pub(super) fn of_messages(
    read: messages::Messages,
    tools: Vec<Tool>,
    unread: &mut Unread,
) -> Result<Body, Fault> {
    let messages::Messages { mut messages, unlearnt } = read;
    check(&messages)?;
    let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else {
        return Err(Fault::new(BadKind::NoAnswer, "the assistant says nothing in it"));
    };
    if last + 1 < messages.len() {
        messages.truncate(last + 1);
        unread.note("conversations that end without an answer, and are read up to their last one");
    }
    let learns =
        |(place, message): (usize, &Message)| message.role == Role::Assistant && !unlearnt.contains(&place);
    if !messages.iter().enumerate().any(learns) {
        return Err(Fault::new(BadKind::NoAnswer, "no answer is to be learnt: all have the weight 0"));
    }
    Ok(Body::Conversation(Conversation { messages, tools, unlearnt }))
}

/// A prompt and its answer in two fields: Alpaca's and others.
pub(super) fn completed(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let missing = || Fault::new(BadKind::WrongField, "there is no prompt");
    let mut read = prompts::before(fields, unread)?.ok_or_else(missing)?;
    let answer = completion(fields, unread)?;
    let start = read.messages.len();
    read.unlearnt.extend(answer.unlearnt.iter().map(|place| start + place));
    read.messages.extend(answer.messages);
    of_messages(read, messages::read_tools(fields)?, unread)
}

/// A dialogue in one text.
pub(super) fn dialogue(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let messages = messages::of_text("text", fields.text("text")?.unwrap_or_default())?;
    of_messages(messages::Messages { messages, unlearnt: Vec::new() }, Vec::new(), unread)
}

fn completion(fields: &Fields<'_>, unread: &mut Unread) -> Result<messages::Messages, Fault> {
    let missing = || Fault::new(BadKind::NoAnswer, format!("none of {} is there", COMPLETIONS.join(", ")));
    let (name, value) = fields.first(&COMPLETIONS).ok_or_else(missing)?;
    messages::read_answer(name, value, unread)
}

/// An answer that somebody judged: the last one of a conversation, or the completion of a prompt.
pub(super) fn thumb(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let liked = match fields.first(&LABELS) {
        Some((_, Value::Bool(liked))) => *liked,
        Some((name, other)) => return Err(wrong(name, "true or false", other)),
        None => return Err(Fault::new(BadKind::WrongField, "`label` is missing")),
    };
    let missing = || Fault::new(BadKind::WrongField, "there is no prompt");
    let mut messages = prompts::before(fields, unread)?.ok_or_else(missing)?.messages;
    let tools = messages::read_tools(fields)?;
    if messages.last().is_none_or(|last| last.role != Role::Assistant) {
        messages.append(&mut completion(fields, unread)?.messages);
    }
    check(&messages)?;
    let start = messages.iter().rposition(|message| message.role == Role::Assistant).unwrap_or(0);
    if start + 1 != messages.len() {
        return Err(Fault::new(BadKind::NoAnswer, "the conversation does not end with the judged answer"));
    }
    let answer = messages.split_off(start);
    Ok(Body::Thumb(Thumb { prompt: messages, tools, answer, liked }))
}
