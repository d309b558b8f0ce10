//! Preferences: two answers to one prompt, or several in an order.

use serde_json::Value;
use zhenjin_conversation::{Message, Role, Tool};

use super::super::errors::{BadKind, Fault};
use super::super::example::{Body, Pair};
use super::fields::{Fields, wrong};
use super::{LISTS_OF_ANSWERS, OTHER, PREFERRED, Unread, check, messages, prompts};

/// The most answers of a list: with more, the pairs would be too many to be meant.
const MAX_ANSWERS: usize = 64;

/// A pair; where it has no prompt of its own, the prompt is what both sides begin with.
pub(super) fn pair(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let before = prompts::before(fields, unread)?.map(|read| read.messages);
    let tools = messages::read_tools(fields)?;
    let mut side = |names: &[&'static str]| -> Result<Vec<Message>, Fault> {
        let missing = || Fault::new(BadKind::WrongField, format!("`{}` is missing", names[0]));
        let (name, value) = fields.first(names).ok_or_else(missing)?;
        match value {
            Value::String(text) if before.is_none() => messages::of_text(name, text),
            _ => messages::read_answer(name, value, unread),
        }
    };
    let (chosen, rejected) = (side(&PREFERRED)?, side(&OTHER)?);
    let speaks_first = |side: &[Message]| side.first().is_some_and(|first| first.role == Role::Assistant);
    let (prompt, chosen, rejected) = match before {
        Some(prompt) if speaks_first(&chosen) && speaks_first(&rejected) => (prompt, chosen, rejected),
        Some(prompt) => {
            let (common, chosen, rejected) = divided(chosen, rejected)?;
            agree(&prompt, &common)?;
            (common, chosen, rejected)
        }
        None => divided(chosen, rejected)?,
    };
    let pair = checked(Pair { prompt, tools, chosen, rejected, margin: margin(fields)? })?;
    Ok(Body::Pair(pair))
}

/// Messages of a prompt, of the preferred answer, of the other one.
type Divided = (Vec<Message>, Vec<Message>, Vec<Message>);

/// What two dialogues begin with, and what follows in each, which the assistant says.
fn divided(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<Divided, Fault> {
    let mut common = chosen.iter().zip(&rejected).take_while(|(one, other)| one == other).count();
    if common == chosen.len() && common == rejected.len() {
        return Err(Fault::new(BadKind::SameAnswers, "both dialogues are the same"));
    }
    // Where one dialogue goes on behind the end of the other, their last answer differs in what follows.
    if common == chosen.len() || common == rejected.len() {
        common -= 1;
    }
    let answers_of = |side: &[Message]| side.get(common).map(|first| first.role);
    let both = [answers_of(&chosen), answers_of(&rejected)];
    if both != [Some(Role::Assistant); 2] {
        let reason = format!(
            "the dialogues differ from message {} on, which is not the assistant's in both: no prompt is common to the answers",
            common + 1
        );
        return Err(Fault::new(BadKind::NoCommonPrompt, reason));
    }
    let (chosen_answer, rejected_answer) = (chosen.split_off(common), rejected.split_off(common));
    Ok((chosen, chosen_answer, rejected_answer))
}

/// Where a prompt is given and both sides repeat it, it must be the same.
fn agree(prompt: &[Message], common: &[Message]) -> Result<(), Fault> {
    let last = |messages: &[Message]| messages.last().map(|message| message.content.trim().to_owned());
    if last(prompt) == last(common) {
        return Ok(());
    }
    let reason = "the prompt is not the one with which both answers' dialogues begin";
    Err(Fault::new(BadKind::NoCommonPrompt, reason))
}

/// A difference of scores, or the field `margin`.
fn margin(fields: &Fields<'_>) -> Result<Option<f32>, Fault> {
    if let Some(margin) = fields.number("margin")? {
        return Ok(Some(margin as f32));
    }
    for [chosen, rejected] in [["score_chosen", "score_rejected"], ["chosen_score", "rejected_score"]] {
        if let (Some(chosen), Some(rejected)) = (fields.number(chosen)?, fields.number(rejected)?) {
            return Ok(Some((chosen - rejected) as f32));
        }
    }
    Ok(None)
}

fn checked(pair: Pair) -> Result<Pair, Fault> {
    if pair.prompt.is_empty() {
        return Err(Fault::new(BadKind::NoCommonPrompt, "nothing stands before the answers"));
    }
    let is_same = |(one, other): (&Message, &Message)| {
        (one.content.trim(), &one.tool_calls, &one.thought)
            == (other.content.trim(), &other.tool_calls, &other.thought)
            && one.role == other.role
    };
    let as_long = pair.chosen.len() == pair.rejected.len();
    if as_long && pair.chosen.iter().zip(&pair.rejected).all(is_same) {
        return Err(Fault::new(BadKind::SameAnswers, "the chosen answer and the rejected one are the same"));
    }
    for side in [&pair.chosen, &pair.rejected] {
        check(&[&pair.prompt[..], side].concat())?;
        if side.last().is_none_or(|last| last.role != Role::Assistant) {
            return Err(Fault::new(BadKind::NoAnswer, "one side does not end with an answer"));
        }
    }
    Ok(pair)
}

/// Several answers with ranks or scores: a pair of every two that differ.
pub(super) fn ranked(fields: &Fields<'_>, unread: &mut Unread) -> Result<Vec<Body>, Fault> {
    let missing = |what: &str| Fault::new(BadKind::WrongField, format!("there is no {what}"));
    let prompt = prompts::before(fields, unread)?.ok_or_else(|| missing("prompt"))?.messages;
    let tools = messages::read_tools(fields)?;
    let (name, value) = fields.first(&LISTS_OF_ANSWERS).ok_or_else(|| missing("list of answers"))?;
    let items = value.as_array().ok_or_else(|| wrong(name, "a list of answers", value))?;
    if !(2..=MAX_ANSWERS).contains(&items.len()) {
        return Err(wrong(name, &format!("a list of 2 to {MAX_ANSWERS} answers"), value));
    }
    let mut answers = Vec::new();
    let beside = values_beside(fields, items.len())?;
    for (place, item) in items.iter().enumerate() {
        let path = format!("{name}[{place}]");
        let (answer, own) = ranked_answer(&path, item, unread)?;
        let value = own.or(beside.as_ref().map(|values| values[place])).ok_or_else(|| {
            Fault::new(BadKind::WrongField, format!("`{path}` has no `score` and no `rank`"))
        })?;
        answers.push((answer, value));
    }
    if answers.iter().any(|(_, value)| value.is_score != answers[0].1.is_score) {
        return Err(Fault::new(BadKind::WrongField, "some answers have a score and others a rank"));
    }
    pairs_of(&prompt, &tools, &answers)
}

/// How good an answer is: more is better.
#[derive(Clone, Copy, Debug)]
struct Goodness {
    value: f64,
    /// Differences of scores mean something, those of ranks do not.
    is_score: bool,
}

const SCORES: [&str; 3] = ["score", "rating", "reward"];
const LISTS_OF_SCORES: [&str; 3] = ["scores", "ratings", "rewards"];

fn values_beside(fields: &Fields<'_>, count: usize) -> Result<Option<Vec<Goodness>>, Fault> {
    let found = fields.first(&LISTS_OF_SCORES).map(|found| (found, true));
    let found = found.or_else(|| fields.first(&["ranks", "ranking"]).map(|found| (found, false)));
    let Some(((name, value), is_score)) = found else { return Ok(None) };
    let expected = format!("a list of {count} numbers, one for each answer");
    let numbers: Option<Vec<f64>> =
        value.as_array().and_then(|values| values.iter().map(Value::as_f64).collect());
    let numbers =
        numbers.filter(|numbers| numbers.len() == count).ok_or_else(|| wrong(name, &expected, value))?;
    let sign = if is_score { 1.0 } else { -1.0 };
    Ok(Some(numbers.into_iter().map(|value| Goodness { value: sign * value, is_score }).collect()))
}

fn ranked_answer(
    path: &str,
    item: &Value,
    unread: &mut Unread,
) -> Result<(Vec<Message>, Option<Goodness>), Fault> {
    let Value::Object(map) = item else { return Ok((messages::read_answer(path, item, unread)?, None)) };
    let fields = Fields::new(map);
    let goodness = |name: &str, is_score: bool| -> Result<Option<Goodness>, Fault> {
        let sign = if is_score { 1.0 } else { -1.0 };
        Ok(fields.number(name)?.map(|value| Goodness { value: sign * value, is_score }))
    };
    let mut own = None;
    for name in SCORES {
        own = own.or(goodness(name, true)?);
    }
    own = own.or(goodness("rank", false)?);
    let (name, text) = fields
        .first(&["content", "text", "answer", "response", "completion", "output", "value", "message"])
        .ok_or_else(|| wrong(path, "an answer with its `text`", item))?;
    if name == "content" || name == "value" {
        fields.get("role");
        fields.get("from");
    }
    let answer = messages::read_answer(&format!("{path}.{name}"), text, unread)?;
    fields.unread().into_iter().for_each(|(name, _)| unread.add(format!("answers[].{name}")));
    Ok((answer, own))
}

fn pairs_of(
    prompt: &[Message],
    tools: &[Tool],
    answers: &[(Vec<Message>, Goodness)],
) -> Result<Vec<Body>, Fault> {
    let mut pairs = Vec::new();
    for (place, (one, of_one)) in answers.iter().enumerate() {
        for (other, of_other) in &answers[place + 1..] {
            let difference = of_one.value - of_other.value;
            let (chosen, rejected) = match difference.partial_cmp(&0.0) {
                Some(std::cmp::Ordering::Greater) => (one, other),
                Some(std::cmp::Ordering::Less) => (other, one),
                _ => continue,
            };
            let pair = Pair {
                prompt: prompt.to_vec(),
                tools: tools.to_vec(),
                chosen: chosen.clone(),
                rejected: rejected.clone(),
                margin: of_one.is_score.then_some(difference.abs() as f32),
            };
            pairs.push(Body::Pair(checked(pair)?));
        }
    }
    if pairs.is_empty() {
        return Err(Fault::new(BadKind::NoPreference, "all answers have the same score or rank"));
    }
    Ok(pairs)
}
