//! Which judgements a model learns from, how, and which are held out.

use std::collections::BTreeSet;

use zhenjin_promotions::{DataCounts, LeftOut};

use crate::example::{Example, Item, Judged, Judgement, Method, hash};
use crate::limits::{Division, Limits, cut};
use crate::read::{Examples, LeftOutCounts, OneKind, all_examples, is_usable};

/// Conversations below which [`Division::Names`] divides questions instead.
const LEAST_CONVERSATIONS: usize = 10;
/// What stands between a model's name and that of its adapter.
const SEPARATOR: char = '+';

/// Examples to learn from, and examples that are only measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// How a model learns from them.
    pub method: Method,
    /// What it learns from, in the order of the judgements.
    pub train: Vec<Item>,
    /// What is only measured: of conversations that begin otherwise.
    pub held_out: Vec<Item>,
    /// What was counted.
    pub counts: DataCounts,
    /// Names of the examples that the judgements of these make as well, and that are not among them: they were beyond a person's share, or
    /// contradicted by, or said before in, a judgement of which nothing else is used. [`collect_again`] needs them.
    pub without: Vec<Vec<String>>,
}

impl Collection {
    /// First questions that the held-out examples are of.
    pub fn held_out_units(&self) -> usize {
        units(&self.held_out)
    }

    /// Of the thumbs to learn from, those up and those down.
    pub fn liked_and_disliked(&self) -> (usize, usize) {
        let count = |wanted: bool| {
            let is = |item: &&Item| matches!(item.example, Example::Thumb { liked, .. } if liked == wanted);
            self.train.iter().filter(is).count()
        };
        (count(true), count(false))
    }
}

/// Too few examples, and what there is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "there are too few judgements to learn from: examples to learn from: {train}, held out: {held_out}, of {held_out_units} first questions of \
     chats, by {method}; at least {least_train} examples and {least_held_out} held-out first questions are needed{}",
    left_out_text(.counts)
)]
pub struct TooFew {
    /// The method that was chosen or asked for.
    pub method: Method,
    /// Examples to learn from.
    pub train: usize,
    /// Held-out ones.
    pub held_out: usize,
    /// First questions that the held-out ones are of.
    pub held_out_units: usize,
    /// The fewest to learn from.
    pub least_train: usize,
    /// The fewest first questions that held-out ones are of.
    pub least_held_out: usize,
    /// What was counted.
    pub counts: Box<DataCounts>,
}

fn left_out_text(counts: &DataCounts) -> String {
    let parts: Vec<String> =
        counts.left_out.iter().map(|left_out| format!("{} ({})", left_out.count, left_out.reason)).collect();
    if parts.is_empty() { String::new() } else { format!("; left out: {}", parts.join(", ")) }
}

/// What [`collect`] gives.
pub type Collected = Result<Collection, TooFew>;

/// Makes examples for `model` of all judgements; `method` where it is not to be chosen by what there is.
///
/// # Errors
/// [`TooFew`].
pub fn collect(rows: &[Judged], model: &str, method: Option<Method>, limits: &Limits) -> Collected {
    collect_without(rows, model, method, limits, &[])
}

/// Makes the examples of an earlier collection again: of `rows`, which are the judgements behind all its examples, those that are not named in
/// `without` (see [`Collection::without`]), however many there are.
///
/// # Errors
/// None: nothing is too few.
pub fn collect_again(
    rows: &[Judged],
    model: &str,
    method: Method,
    division: Division,
    without: &[Vec<String>],
) -> Collected {
    let of_a_person = Some(usize::MAX);
    let limits = Limits { of_a_person, division, least_train: 0, least_held_out: 0, ..Limits::default() };
    collect_without(rows, model, Some(method), &limits, without)
}

fn collect_without(
    rows: &[Judged],
    model: &str,
    method: Option<Method>,
    limits: &Limits,
    without: &[Vec<String>],
) -> Collected {
    let mut left_out = LeftOutCounts::default();
    let usable: Vec<&Judged> =
        rows.iter().filter(|row| is_usable(row, &mut left_out) && is_of(row, model, &mut left_out)).collect();
    let mut made = all_examples(&usable);
    for kind in [&mut made.pairs, &mut made.thumbs, &mut made.answers] {
        for (owner, (count, limit)) in cut(&mut kind.items, limits) {
            let reason = format!("more than one person's share: the newest {limit} of `{owner}` count");
            kind.left_out.add(&reason, count);
        }
    }
    let method = method.unwrap_or_else(|| choose(&made, &usable));
    let OneKind { mut items, rows, left_out: of_kind } = made.of(method);
    let without: BTreeSet<&Vec<String>> = without.iter().collect();
    items.retain(|item| !without.contains(&item.name()));
    for (reason, count) in of_kind.0 {
        left_out.add(&reason, count);
    }
    let unused = usable.iter().filter(|row| !rows.contains(&row.id)).count();
    left_out.add(&format!("nothing that {method} learns from"), unused);
    let used: BTreeSet<&str> = items.iter().flat_map(|item| item.rows.iter().map(String::as_str)).collect();
    let is_used = |row: &&&Judged| used.contains(row.id.as_str());
    let count =
        |is: fn(&Judgement) -> bool| usable.iter().filter(is_used).filter(|row| is(&row.judgement)).count();
    let counts = DataCounts {
        pairs: count(|judgement| matches!(judgement, Judgement::Choice { .. })),
        ratings: count(|judgement| matches!(judgement, Judgement::Rating { .. })),
        corrections: count(|judgement| matches!(judgement, Judgement::Correction { .. })),
        train: 0,
        held_out: 0,
        conversations: items.iter().map(|item| &item.conversation).collect::<BTreeSet<_>>().len(),
        owners: items.iter().map(|item| &item.owner).collect::<BTreeSet<_>>().len(),
        left_out: left_out.0.into_iter().map(|(reason, count)| LeftOut { reason, count }).collect(),
    };
    let used: Vec<&Judged> = usable.iter().copied().filter(|row| used.contains(row.id.as_str())).collect();
    let without = made_beside(&items, &used, method);
    divide(items, counts, limits, method, without)
}

/// Names of the examples that the judgements `used` make, and that are not among `items`, which are made of them.
fn made_beside(items: &[Item], used: &[&Judged], method: Method) -> Vec<Vec<String>> {
    let kept: BTreeSet<Vec<String>> = items.iter().map(Item::name).collect();
    let all = all_examples(used).of(method).items;
    all.iter().map(Item::name).filter(|name| !kept.contains(name)).collect()
}

/// Holds out a share of the first questions, at least as many as a gate needs where there are twice as many. Which ones depends on themselves,
/// and of few questions on their order by hash, so that what was learned from is never held out later.
fn divide(
    items: Vec<Item>,
    counts: DataCounts,
    limits: &Limits,
    method: Method,
    without: Vec<Vec<String>>,
) -> Collected {
    let place = |item: &Item| {
        let unit = match limits.division {
            Division::Opening => item.opening(),
            Division::Names if counts.conversations < LEAST_CONVERSATIONS => item.question.clone(),
            Division::Names => item.conversation.clone(),
        };
        let digits = hash(["held out", unit.as_str()]);
        u32::from_str_radix(&digits[..8], 16).unwrap_or(0)
    };
    let places: BTreeSet<u32> = items.iter().map(place).collect();
    let has_enough = limits.division == Division::Opening && places.len() >= 2 * Limits::LEAST_HELD_OUT;
    let needed = places.iter().nth(Limits::LEAST_HELD_OUT - 1).filter(|_| has_enough).copied();
    let is_held_out = |item: &Item| {
        let place = place(item);
        needed.is_some_and(|needed| place <= needed)
            || f64::from(place) / f64::from(u32::MAX) < limits.held_out_share
    };
    let (held_out, train): (Vec<Item>, Vec<Item>) = items.into_iter().partition(is_held_out);
    let counts = DataCounts { train: train.len(), held_out: held_out.len(), ..counts };
    let held_out_units = units(&held_out);
    if train.len() < limits.least_train || held_out_units < limits.least_held_out {
        return Err(TooFew {
            method,
            train: train.len(),
            held_out: held_out.len(),
            held_out_units,
            least_train: limits.least_train,
            least_held_out: limits.least_held_out,
            counts: Box::new(counts),
        });
    }
    Ok(Collection { method, train, held_out, counts, without })
}

/// First questions that examples are of: those of one depend on each other, and say less than as many of different ones.
fn units(items: &[Item]) -> usize {
    items.iter().map(Item::opening).collect::<BTreeSet<_>>().len()
}

/// Whether a judgement is of this model's answers; if not, it is counted.
fn is_of(row: &Judged, model: &str, left_out: &mut LeftOutCounts) -> bool {
    let base = row.model.split(SEPARATOR).next().unwrap_or_default();
    let is_of = base == model || row.model == model;
    left_out.add("another model's answers", usize::from(!is_of));
    is_of
}

/// Pairs say the most; thumbs need both kinds; good answers are left. Only what counts decides: not what somebody said both ways, nor what is
/// beyond a person's share.
fn choose(made: &Examples, usable: &[&Judged]) -> Method {
    let is_rating = |row: &&&Judged| matches!(row.judgement, Judgement::Rating { .. });
    let ratings: BTreeSet<&str> = usable.iter().filter(is_rating).map(|row| row.id.as_str()).collect();
    let is_rated = |item: &&Item| item.rows.iter().any(|row| ratings.contains(row.as_str()));
    let rated = made.thumbs.items.iter().filter(is_rated).count();
    let has = |liked: bool| {
        let is = |item: &Item| matches!(item.example, Example::Thumb { liked: is, .. } if is == liked);
        made.thumbs.items.iter().any(is)
    };
    if made.pairs.items.len() * 2 >= rated {
        Method::Dpo
    } else if has(true) && has(false) {
        Method::Kto
    } else {
        Method::Sft
    }
}
