//! Conversations with their answers, and answers with a thumb.

use zhenjin_conversation::{Message, Role, Tool};

use super::super::errors::{BadKind, Fault};
use super::super::example::{Body, Conversation, Thumb};
use super::fields::{Fields, wrong};
use super::labels::thumb_of;
use super::{COMPLETIONS, LABELS, Unread, check, messages, prompts};

/// Fields in which a judged answer stands.
const JUDGED: [&str; 4] = ["completion", "response", "output", "answer"];

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
    let learns = |(place, message): (usize, &Message)| {
        message.role == Role::Assistant && unlearnt.binary_search(&place).is_err()
    };
    if !messages.iter().enumerate().any(learns) {
        return Err(Fault::new(BadKind::NoAnswer, "no answer is to be learnt: all have the weight 0"));
    }
    Ok(Body::Conversation(Conversation { messages, tools, unlearnt }))
}

/// A prompt and its answer in two fields: Alpaca's and others. Of a field `prompt` and of a dialogue in one text, nothing is learnt.
pub(super) fn completed(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let missing = || Fault::new(BadKind::WrongField, "there is no prompt");
    let mut read = prompts::before(fields, unread)?.ok_or_else(missing)?;
    let is_answer = |place: &usize| read.messages[*place].role == Role::Assistant;
    let earlier: Vec<usize> = (0..read.messages.len()).filter(is_answer).collect();
    let is_in_one_text = prompts::is_in_one_text(fields);
    if (fields.get("prompt").is_some() || is_in_one_text) && !earlier.is_empty() {
        unread.note("prompts with earlier answers, which are not learnt");
        read.unlearnt = earlier;
    }
    let asked = prompts::Asked { messages: &read.messages, is_in_one_text };
    let (_, answer) = completion(fields, &COMPLETIONS, asked, unread)?;
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

/// The answer, and the field in which it stands.
fn completion(
    fields: &Fields<'_>,
    names: &[&'static str],
    asked: prompts::Asked<'_>,
    unread: &mut Unread,
) -> Result<(&'static str, messages::Messages), Fault> {
    let missing = || Fault::new(BadKind::NoAnswer, format!("none of {} is there", names.join(", ")));
    let (name, value) = fields.first(names).ok_or_else(missing)?;
    Ok((name, asked.answer(name, value, unread)?))
}

/// An answer that somebody judged: the last one of a conversation or of a dialogue in one text, or the completion of a prompt.
pub(super) fn thumb(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let missing = |what: &str| Fault::new(BadKind::WrongField, format!("there is no {what}"));
    let (label_name, label) = fields.first(&LABELS).ok_or_else(|| missing("`label`"))?;
    // A disliked answer that was imitated would be worse than none: what is not plain is refused.
    let liked = thumb_of(label).ok_or_else(|| {
        let expected = "true or false, or 1 or 0, or \"true\" or \"false\", since it stands beside an answer (what says \
                        something else needs another name)";
        wrong(label_name, expected, label)
    })?;
    if !label.is_boolean() {
        unread.note("labels 1 and 0, or \"true\" and \"false\", which count as true and false");
    }
    let read = match prompts::before(fields, unread)? {
        Some(read) => read,
        None => {
            let text = fields.text("text")?.ok_or_else(|| missing("prompt"))?;
            messages::Messages { messages: messages::of_text("text", text)?, unlearnt: Vec::new() }
        }
    };
    let messages::Messages { mut messages, mut unlearnt } = read;
    let tools = messages::read_tools(fields)?;
    let mut answer_name = None;
    if messages.last().is_none_or(|last| last.role != Role::Assistant) {
        let is_in_one_text = prompts::is_in_one_text(fields);
        let asked = prompts::Asked { messages: &messages, is_in_one_text };
        let (name, answer) = completion(fields, &JUDGED, asked, unread)?;
        answer_name = Some(name);
        unlearnt.extend(answer.unlearnt.iter().map(|place| messages.len() + place));
        messages.extend(answer.messages);
    }
    check(&messages)?;
    let start = messages.iter().rposition(|message| message.role == Role::Assistant).unwrap_or(0);
    if start + 1 != messages.len() {
        return Err(Fault::new(BadKind::NoAnswer, "the conversation does not end with the judged answer"));
    }
    messages::judged_as_a_whole("messages", &unlearnt, start)?;
    let answer = messages.split_off(start);
    // An `answer` may as well be the right one: rewards compare with it, and may read the label beside it.
    let read_by_both = ["answer", label_name];
    let others = fields.for_rewards(if answer_name == Some("answer") { &read_by_both[..] } else { &[] });
    Ok(Body::Thumb(Thumb { prompt: messages, tools, answer, liked, fields: others }))
}
