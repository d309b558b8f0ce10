//! Preferences: two answers to one prompt, or several in an order.

use serde_json::Value;
use zhenjin_conversation::{Message, Role, Tool};

use super::super::errors::{BadKind, Fault};
use super::super::example::{Body, Pair};
use super::fields::{Fields, shape, wrong};
use super::messages::is_same;
use super::{LISTS_OF_ANSWERS, MESSAGES, OTHER, PREFERRED, Unread, check, messages, prompts};

/// The most answers of a list: with more, the pairs would be too many to be meant.
const MAX_ANSWERS: usize = 64;

/// The most bytes, roughly, of all pairs that a list makes. Each pair has the prompt and two of the answers.
const MAX_PAIRS_BYTES: usize = 256 << 20;

/// A pair; where it has no prompt of its own, the prompt is what both sides begin with. Where it has one and both sides repeat it, they
/// must agree.
pub(super) fn pair(fields: &Fields<'_>, unread: &mut Unread) -> Result<Body, Fault> {
    let (before, beside) = given(fields, unread)?;
    let is_in_one_text = prompts::is_in_one_text(fields);
    let tools = messages::read_tools(fields)?;
    let mut side = |names: &[&'static str]| -> Result<Side, Fault> {
        let missing = || Fault::new(BadKind::WrongField, format!("`{}` is missing", names[0]));
        let (name, value) = fields.first(names).ok_or_else(missing)?;
        let read = match value {
            Value::String(text) if before.is_none() || prompts::repeats_prompt(text, is_in_one_text) => {
                messages::Messages { messages: messages::of_whole_text(name, text)?, unlearnt: Vec::new() }
            }
            _ => messages::read_answer(name, value, unread)?,
        };
        if read.messages.is_empty() {
            let reason = format!("`{name}` is an empty list; the answer must stand in it");
            return Err(Fault::new(BadKind::NoAnswer, reason));
        }
        Ok(Side { name, all: read.messages.len(), unlearnt: read.unlearnt, messages: read.messages })
    };
    let (mut of_chosen, mut of_rejected) = (side(&PREFERRED)?, side(&OTHER)?);
    let chosen = std::mem::take(&mut of_chosen.messages);
    let rejected = std::mem::take(&mut of_rejected.messages);
    let speaks_first = |side: &[Message]| side.first().is_some_and(|first| first.role == Role::Assistant);
    let (prompt, chosen, rejected) = match before {
        Some(prompt) if speaks_first(&chosen) && speaks_first(&rejected) => (prompt, chosen, rejected),
        before => {
            let (common, chosen, rejected) = divided(chosen, rejected)?;
            let prompt = match before {
                Some(given) => agreed(given, common)?,
                // A record without a prompt of its own may still say who the assistant is.
                None => with_system(prompts::system(fields)?.into_iter().collect(), common)?,
            };
            (prompt, chosen, rejected)
        }
    };
    for (side, answer) in [(of_chosen, &chosen), (of_rejected, &rejected)] {
        messages::judged_as_a_whole(side.name, &side.unlearnt, side.all - answer.len())?;
    }
    let pair = checked(Pair { prompt, tools, chosen, rejected, margin: margin(fields)? })?;
    if let Some(beside) = beside {
        beside.check(&pair)?;
        unread.note("lists of messages that repeat one side of their pair, and are not read");
    }
    Ok(Body::Pair(pair))
}

/// What a pair gives as its prompt, and a list of messages beside it that is none. A field `prompt` is the prompt: beside it some data (such
/// as those of UltraFeedback in pairs) repeat the chosen dialogue in `messages`.
fn given(fields: &Fields<'_>, unread: &mut Unread) -> Result<(Option<Vec<Message>>, Option<Beside>), Fault> {
    let list = fields.first(&MESSAGES).filter(|_| fields.peek("prompt").is_some());
    let Some((name, value)) = list else {
        return Ok((prompts::before(fields, unread)?.map(|read| read.messages), None));
    };
    let prompt = prompts::asked(fields, unread)?.map(|read| read.messages);
    let beside = Beside { name, messages: messages::read(name, value, unread)?.messages };
    let Some(last) = beside.messages.last() else {
        unread.add(name.to_owned());
        return Ok((prompt, None));
    };
    if last.role == Role::Assistant {
        return Ok((prompt, Some(beside)));
    }
    // It is a prompt, of which `prompt` may be a part.
    let differs = beside.differs();
    Ok((Some(agreed(prompt.unwrap_or_default(), beside.messages).map_err(|_| differs)?), None))
}

/// A list of messages that stands beside the prompt and ends with an answer.
struct Beside {
    name: &'static str,
    messages: Vec<Message>,
}

impl Beside {
    /// Refuses one that says something else than a side of the pair: it is not known which of the two is meant.
    fn check(&self, pair: &Pair) -> Result<(), Fault> {
        let same = |one: &[Message], other: &[Message]| {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        };
        let asked = messages::without_system(&pair.prompt);
        let said = messages::without_system(&self.messages);
        let own_system = &self.messages[..self.messages.len() - said.len()];
        let system = &pair.prompt[..pair.prompt.len() - asked.len()];
        let repeats = |answer: &[Message]| same(&[asked, answer].concat(), said);
        match own_system.is_empty() || same(own_system, system) {
            true if repeats(&pair.chosen) || repeats(&pair.rejected) => Ok(()),
            _ => Err(self.differs()),
        }
    }

    fn differs(&self) -> Fault {
        let name = self.name;
        let reason = format!(
            "`{name}` stands beside `prompt`, and neither begins with it or ends with it nor repeats one side of the pair; leave \
             one of the two out"
        );
        Fault::new(BadKind::WrongField, reason)
    }
}

/// One side of a pair as it stands in its field.
struct Side {
    name: &'static str,
    messages: Vec<Message>,
    /// How many messages it has.
    all: usize,
    /// Places of those with the weight 0.
    unlearnt: Vec<usize>,
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
        common = common.saturating_sub(1);
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

/// The prompt of a record that gives one and whose sides repeat it: they must be the same, but for a system message, which may stand in one of
/// them alone. Records of longer dialogues often give only their first or their last question beside them, which are there anyway.
fn agreed(mut given: Vec<Message>, common: Vec<Message>) -> Result<Vec<Message>, Fault> {
    let given_system = system_messages(&given);
    let asked = given.split_off(given_system);
    let prompt = with_system(given, common)?;
    let system = system_messages(&prompt);
    let is_part = |part: &[Message]| part.iter().zip(&asked).all(|(one, other)| is_same(one, other));
    if let Some(rest) = (prompt.len() - system).checked_sub(asked.len())
        && !asked.is_empty()
        && (is_part(&prompt[system..system + asked.len()]) || is_part(&prompt[system + rest..]))
    {
        return Ok(prompt);
    }
    match difference(&asked, &prompt[system..], system) {
        None => Ok(prompt),
        Some(difference) => Err(not_common(&difference)),
    }
}

/// A prompt with the system messages that its record gives beside it. Where it has some already, they must be the same.
fn with_system(mut given: Vec<Message>, mut prompt: Vec<Message>) -> Result<Vec<Message>, Fault> {
    let own = &prompt[..system_messages(&prompt)];
    if given.is_empty() || own.is_empty() {
        given.append(&mut prompt);
        return Ok(given);
    }
    match difference(&given, own, 0) {
        None => Ok(prompt),
        Some(difference) => Err(not_common(&difference)),
    }
}

/// How many system messages stand at the beginning.
fn system_messages(messages: &[Message]) -> usize {
    messages.len() - messages::without_system(messages).len()
}

/// Where the prompt that is given differs first from that of the dialogues; `before` messages stand before both.
fn difference(given: &[Message], common: &[Message], before: usize) -> Option<String> {
    let both = |place: usize| (given.get(place), common.get(place));
    let differs = |place: &usize| match both(*place) {
        (Some(one), Some(other)) => !is_same(one, other),
        _ => true,
    };
    let place = (0..given.len().max(common.len())).find(differs)?;
    let number = before + place + 1;
    Some(match both(place) {
        (Some(one), Some(other)) if one.role == other.role => {
            let role = one.role.name();
            let (one, other) = (one.content.trim(), other.content.trim());
            let alike = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
            let rest = |text: &str| shape(&Value::from(text.chars().skip(alike).collect::<String>()));
            match one == other {
                true => format!("message {number} ({role}) has other calls or another thought"),
                false => format!(
                    "from character {} on, message {number} ({role}) is {} in the prompt and {} in the dialogues",
                    alike + 1,
                    rest(one),
                    rest(other)
                ),
            }
        }
        (one, other) => {
            let whose = |message: Option<&Message>| {
                message.map_or("missing".to_owned(), |message| format!("the {}'s", message.role.name()))
            };
            format!("message {number} is {} in the prompt and {} in the dialogues", whose(one), whose(other))
        }
    })
}

fn not_common(difference: &str) -> Fault {
    let reason = format!(
        "the prompt is not the one with which both answers' dialogues begin: {difference}; make both the same, or leave \
         out what is given beside them"
    );
    Fault::new(BadKind::NoCommonPrompt, reason)
}

/// By how much the chosen answer is better. Scores do not say it: a difference of theirs has whatever scale they have, and a reward model
/// that was to put its rewards 80 apart would learn nothing else.
fn margin(fields: &Fields<'_>) -> Result<Option<f32>, Fault> {
    match fields.number("margin")?.map(|margin| margin as f32) {
        Some(margin) if !margin.is_finite() => {
            Err(Fault::new(BadKind::WrongField, "`margin` is a number that is too large to be one"))
        }
        margin => Ok(margin),
    }
}

fn checked(pair: Pair) -> Result<Pair, Fault> {
    if pair.prompt.is_empty() {
        return Err(Fault::new(BadKind::NoCommonPrompt, "nothing stands before the answers"));
    }
    let as_long = pair.chosen.len() == pair.rejected.len();
    if as_long && pair.chosen.iter().zip(&pair.rejected).all(|(one, other)| is_same(one, other)) {
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
    let asked = prompts::Asked { messages: &prompt, is_in_one_text: prompts::is_in_one_text(fields) };
    for (place, item) in items.iter().enumerate() {
        let path = format!("{name}[{place}]");
        let (answer, own) = ranked_answer(asked, &path, item, unread)?;
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
    /// A score, where more is better, and not a rank: the two cannot be compared.
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
    asked: prompts::Asked<'_>,
    path: &str,
    item: &Value,
    unread: &mut Unread,
) -> Result<(Vec<Message>, Option<Goodness>), Fault> {
    let Value::Object(map) = item else {
        return Ok((judged_answer(asked, path, item, unread)?, None));
    };
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
    let answer = judged_answer(asked, &format!("{path}.{name}"), text, unread)?;
    fields.unread().into_iter().for_each(|(name, _)| unread.add(format!("answers[].{name}")));
    Ok((answer, own))
}

/// An answer all of which has a rank or a score.
fn judged_answer(
    asked: prompts::Asked<'_>,
    path: &str,
    value: &Value,
    unread: &mut Unread,
) -> Result<Vec<Message>, Fault> {
    let read = asked.answer(path, value, unread)?;
    messages::judged_as_a_whole(path, &read.unlearnt, 0)?;
    Ok(read.messages)
}

/// Roughly the memory that messages take.
fn bytes_of(messages: &[Message]) -> usize {
    let of_calls = |message: &Message| -> usize {
        message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum()
    };
    let of_message = |message: &Message| {
        let thought = message.thought.as_ref().map_or(0, String::len);
        size_of::<Message>() + message.content.len() + thought + of_calls(message)
    };
    messages.iter().map(of_message).sum()
}

fn too_large(answers: usize) -> Fault {
    let reason = format!(
        "every two of its {answers} answers make a pair with the whole prompt, which together would be more than {} MiB; give fewer answers \
         or a shorter prompt",
        MAX_PAIRS_BYTES >> 20
    );
    Fault::new(BadKind::TooLarge, reason)
}

fn pairs_of(
    prompt: &[Message],
    tools: &[Tool],
    answers: &[(Vec<Message>, Goodness)],
) -> Result<Vec<Body>, Fault> {
    let mut better: Vec<(&[Message], &[Message])> = Vec::new();
    for (place, (one, of_one)) in answers.iter().enumerate() {
        for (other, of_other) in &answers[place + 1..] {
            let (one, other) = (one.as_slice(), other.as_slice());
            let difference = of_one.value - of_other.value;
            match difference.partial_cmp(&0.0) {
                Some(std::cmp::Ordering::Greater) => better.push((one, other)),
                Some(std::cmp::Ordering::Less) => better.push((other, one)),
                _ => {}
            }
        }
    }
    if better.is_empty() {
        return Err(Fault::new(BadKind::NoPreference, "all answers have the same score or rank"));
    }
    // Before one is made: each has a prompt of its own.
    let of_tools: usize = tools.iter().map(|tool| tool.to_template_value().to_string().len()).sum();
    let of_prompts = (bytes_of(prompt) + of_tools).saturating_mul(better.len());
    let of_answers: usize = better.iter().map(|(one, other)| bytes_of(one) + bytes_of(other)).sum();
    if of_prompts.saturating_add(of_answers) > MAX_PAIRS_BYTES {
        return Err(too_large(answers.len()));
    }
    let mut pairs = Vec::new();
    for (chosen, rejected) in better {
        let pair = Pair {
            prompt: prompt.to_vec(),
            tools: tools.to_vec(),
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
            // Only a field of that name is a margin, as for pairs.
            margin: None,
        };
        pairs.push(Body::Pair(checked(pair)?));
    }
    Ok(pairs)
}
