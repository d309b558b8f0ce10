//! Judgements to examples: which count, which contradict each other, which say the same.
//!
//! What a person reads is compared: texts without thoughts and without white space at their ends.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::example::{Answer, Example, Item, Judged, Judgement, Method, Turn};
use crate::limits::Order;

/// Examples of each kind.
#[derive(Debug, Default)]
pub(crate) struct Examples {
    pub(crate) pairs: OneKind,
    pub(crate) thumbs: OneKind,
    pub(crate) answers: OneKind,
}

impl Examples {
    pub(crate) fn of(self, method: Method) -> OneKind {
        match method {
            Method::Dpo => self.pairs,
            Method::Kto => self.thumbs,
            Method::Sft => self.answers,
        }
    }
}

/// Examples of one kind, and what was left out of them.
#[derive(Debug, Default)]
pub(crate) struct OneKind {
    pub(crate) items: Vec<Item>,
    /// All judgements that say something of this kind, used or not.
    pub(crate) rows: BTreeSet<String>,
    pub(crate) left_out: LeftOutCounts,
}

/// Counts what is left out, by reason.
#[derive(Debug, Default)]
pub(crate) struct LeftOutCounts(pub(crate) BTreeMap<String, usize>);

impl LeftOutCounts {
    pub(crate) fn add(&mut self, reason: &str, count: usize) {
        if count > 0 {
            *self.0.entry(reason.to_owned()).or_default() += count;
        }
    }
}

/// Something said, before it is known whether it counts.
struct Candidate {
    item: Item,
    /// Whether an answer that it likes breaks off.
    breaks_off: bool,
}

/// The examples that `method` learns from, whatever the model and however many one person has: in the order in which they were said,
/// with the count of what was left out, by reason.
pub fn examples(rows: &[Judged], method: Method) -> (Vec<Item>, BTreeMap<String, usize>) {
    let mut left_out = LeftOutCounts::default();
    let usable: Vec<&Judged> = rows.iter().filter(|row| is_usable(row, &mut left_out)).collect();
    let made = all_examples(&usable, Order::Time).of(method);
    for (reason, count) in made.left_out.0 {
        left_out.add(&reason, count);
    }
    (made.items, left_out.0)
}

/// Whether anything may be learned from a judgement; if not, it is counted.
pub(crate) fn is_usable(row: &Judged, left_out: &mut LeftOutCounts) -> bool {
    let reason = if !row.consents {
        "whoever judged does not allow that models learn from it"
    } else if row.prompt.is_empty() {
        "no question before the answer"
    } else {
        return true;
    };
    left_out.add(reason, 1);
    false
}

/// All examples that the judgements make, in this order.
pub(crate) fn all_examples(judged: &[&Judged], order: Order) -> Examples {
    let [mut pairs, mut thumbs, mut answers] = [Vec::new(), Vec::new(), Vec::new()];
    let mut ratings: BTreeMap<(&str, &str), Vec<&Judged>> = BTreeMap::new();
    for row in judged {
        let said = |example: Example, breaks_off: bool| candidate(&[row], example, breaks_off);
        let thumb = |answer: &Answer, liked| Example::Thumb { answer: answer.clone(), liked };
        match &row.judgement {
            Judgement::Rating { answer, up } => {
                thumbs.push(said(thumb(answer, *up), *up && row.breaks_off));
                if *up {
                    answers.push(said(Example::Answer(answer.clone()), row.breaks_off));
                }
                ratings.entry((&row.owner, &row.question)).or_default().push(row);
            }
            Judgement::Correction { answer, correction } => {
                // The thought stays: without it, a model would learn not to think.
                let better = Answer { text: correction.as_str().into(), thought: answer.thought.clone() };
                thumbs.push(said(thumb(&better, true), false));
                thumbs.push(said(thumb(answer, false), false));
                answers.push(said(Example::Answer(better.clone()), false));
                pairs.push(said(Example::Pair { chosen: better, rejected: answer.clone() }, false));
            }
            // The chosen one is better than the other, which does not make it one to imitate.
            Judgement::Choice { chosen, rejected } => {
                thumbs.push(said(thumb(chosen, true), row.breaks_off));
                thumbs.push(said(thumb(rejected, false), false));
                let pair = Example::Pair { chosen: chosen.clone(), rejected: rejected.clone() };
                pairs.push(said(pair, row.breaks_off));
            }
        }
    }
    pairs.extend(ratings.values().flat_map(|of_question| rated_siblings(of_question, order)));
    let disliked: BTreeSet<_> =
        thumbs.iter().filter(|said| !is_liked(said)).map(|said| about(&said.item)).collect();
    let (disputed, answers): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|said| disliked.contains(&about(&said.item)));
    Examples {
        pairs: one_kind(pairs, Vec::new(), order),
        thumbs: one_kind(thumbs, Vec::new(), order),
        answers: one_kind(answers, disputed, order),
    }
}

/// Of answers to one question, so many newest ones that were liked, and so many that were not, make pairs: their number is the product of
/// both.
const MOST_SIBLINGS: usize = 16;

/// Of answers to one question, each one that was liked beside each one that was not.
fn rated_siblings(of_question: &[&Judged], order: Order) -> Vec<Candidate> {
    let rated = |liked: bool| {
        let rated = of_question.iter().filter_map(|row| match &row.judgement {
            Judgement::Rating { answer, up } if *up == liked => Some((*row, answer)),
            _ => None,
        });
        let mut rated: Vec<(&Judged, &Answer)> = rated.collect();
        match order {
            Order::Name => rated.sort_by(|(left, _), (right, _)| right.id.cmp(&left.id)),
            Order::Time => {
                rated.sort_by(|(left, _), (right, _)| (right.at, &right.id).cmp(&(left.at, &left.id)));
            }
        }
        rated.truncate(MOST_SIBLINGS);
        rated
    };
    let (liked, disliked) = (rated(true), rated(false));
    let pairs = liked.iter().flat_map(|(liked, chosen)| {
        disliked.iter().map(|(disliked, rejected)| {
            let pair = Example::Pair { chosen: (*chosen).clone(), rejected: (*rejected).clone() };
            candidate(&[liked, disliked], pair, liked.breaks_off)
        })
    });
    pairs.collect()
}

fn candidate(rows: &[&Judged], example: Example, breaks_off: bool) -> Candidate {
    let first = rows[0];
    let item = Item {
        rows: rows.iter().map(|row| row.id.clone()).collect(),
        owner: first.owner.clone(),
        is_operator: first.is_operator,
        conversation: first.conversation.clone(),
        question: first.question.clone(),
        at: rows.iter().map(|row| row.at).max().unwrap_or(first.at),
        prompt: Arc::clone(&first.prompt),
        example,
    };
    Candidate { item, breaks_off }
}

fn is_liked(said: &Candidate) -> bool {
    matches!(said.item.example, Example::Thumb { liked: true, .. })
}

/// Sorts out what counts; `disputed` does not.
fn one_kind(mut said: Vec<Candidate>, disputed: Vec<Candidate>, order: Order) -> OneKind {
    let rows = said.iter().chain(&disputed).flat_map(|said| said.item.rows.iter().cloned()).collect();
    let mut left_out = LeftOutCounts::default();
    // Of what is said twice, the first is used.
    match order {
        Order::Name => said.sort_by_cached_key(|said| said.item.name()),
        Order::Time => {
            said.sort_by(|left, right| {
                (left.item.at, &left.item.rows).cmp(&(right.item.at, &right.item.rows))
            });
        }
    }
    let contradictions = disputed.len() + remove_contradictions(&mut said);
    left_out.add("the same person judged the same both ways", contradictions);
    let count = said.len();
    said.retain(|said| !said.breaks_off);
    left_out.add("the answer that is liked breaks off", count - said.len());
    let mut items: Vec<Item> = said.into_iter().map(|said| said.item).collect();
    let count = items.len();
    items.retain(|item| {
        let earlier = item.prompt.iter().filter(|turn| turn.role == "assistant").map(|turn| &turn.content);
        let texts = item.example.answers().map(|answer| &answer.text);
        earlier.chain(texts).all(|text| !text.trim().is_empty())
    });
    left_out.add("an answer without words, here or earlier in the chat", count - items.len());
    left_out.add("the same judgement twice", remove_repeated(&mut items));
    OneKind { items, rows, left_out }
}

/// What an example is about: the person, what was said before, and the answers.
type About<'a> = (&'a str, Before<'a>, BTreeSet<&'a str>);

fn about(item: &Item) -> About<'_> {
    (&item.owner, Before(&item.prompt), item.example.answers().map(|answer| answer.text.trim()).collect())
}

/// What was said before, as a person reads it. It is compared where it lies: a list of a long chat's texts for each example on it would be
/// many times as large as the chat.
#[derive(Clone, Copy)]
struct Before<'a>(&'a [Turn]);

impl<'a> Before<'a> {
    fn texts(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().map(|turn| (turn.role, turn.content.trim()))
    }
}

impl Ord for Before<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Examples of one question mostly share it.
        if std::ptr::eq(self.0, other.0) {
            return Ordering::Equal;
        }
        self.texts().cmp(other.texts())
    }
}

impl PartialOrd for Before<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Before<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Before<'_> {}

/// What an example says of what it is about.
fn says(item: &Item) -> &str {
    match &item.example {
        Example::Pair { chosen, .. } => chosen.text.trim(),
        Example::Thumb { liked: true, .. } => "liked",
        Example::Thumb { liked: false, .. } => "disliked",
        Example::Answer(_) => "",
    }
}

/// Takes out everything of which one person says both; two answers that read alike say nothing either.
fn remove_contradictions(said: &mut Vec<Candidate>) -> usize {
    let mut of_each: BTreeMap<About<'_>, BTreeSet<&str>> = BTreeMap::new();
    for Candidate { item, .. } in said.iter() {
        of_each.entry(about(item)).or_default().insert(says(item));
    }
    let stays = |item: &Item| {
        let about = about(item);
        let is_alike = matches!(item.example, Example::Pair { .. }) && about.2.len() == 1;
        of_each[&about].len() == 1 && !is_alike
    };
    let stays: Vec<bool> = said.iter().map(|said| stays(&said.item)).collect();
    drop(of_each);
    retain(said, &stays)
}

/// Takes out what the same person said before in the same words.
fn remove_repeated(items: &mut Vec<Item>) -> usize {
    let mut seen = BTreeSet::new();
    let stays: Vec<bool> = items.iter().map(|item| seen.insert((about(item), says(item)))).collect();
    drop(seen);
    retain(items, &stays)
}

fn retain<T>(items: &mut Vec<T>, stays: &[bool]) -> usize {
    let before = items.len();
    let mut stays = stays.iter();
    items.retain(|_| stays.next().copied().unwrap_or(false));
    before - items.len()
}
