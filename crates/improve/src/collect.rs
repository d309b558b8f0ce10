//! Which judgements a model learns from, how, and which are held out.

use std::collections::BTreeSet;

use zhenjin_promotions::{DataCounts, LeftOut};

use crate::example::{Example, Item, Judged, Judgement, Method, hash};
use crate::limits::{Division, Limits, Order, Side, cut};
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
    /// What it learns from, in the order of the judgements' names.
    pub train: Vec<Item>,
    /// What is only measured: of conversations that begin otherwise.
    pub held_out: Vec<Item>,
    /// What was counted.
    pub counts: DataCounts,
    /// What decided which are held out. [`collect_again`] needs it, and [`Order::Name`].
    pub division: Division,
    /// Names of the examples that the judgements of these make as well, and that are not among them: they were beyond a person's share, or
    /// contradicted by, or said before in, a judgement of which nothing else is used. [`collect_again`] needs them.
    pub without: Vec<Vec<String>>,
}

impl Collection {
    /// First questions that the held-out examples are of.
    pub fn held_out_units(&self) -> usize {
        units(&self.held_out)
    }

    /// The names of all judgements behind the examples, each once, in their order.
    pub fn rows(&self) -> Vec<String> {
        let items = self.train.iter().chain(&self.held_out);
        let names: BTreeSet<&String> = items.flat_map(|item| &item.rows).collect();
        names.into_iter().cloned().collect()
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
    let mut left_out = LeftOutCounts::default();
    let usable = usable(rows, model, &mut left_out);
    let mut made = all_examples(&usable, Order::Name);
    let rules = [&mut made.pairs, &mut made.thumbs, &mut made.answers].map(|kind| bound(kind, limits));
    let method = method.unwrap_or_else(|| choose(&made, &usable));
    let [of_pairs, of_thumbs, of_answers] = rules;
    let rule = match method {
        Method::Dpo => of_pairs,
        Method::Kto => of_thumbs,
        Method::Sft => of_answers,
    };
    let collection = divided(made.of(method), rule, &Made { usable, method, order: Order::Name }, left_out);
    let held_out_units = collection.held_out_units();
    if collection.train.len() < limits.least_train || held_out_units < limits.least_held_out {
        return Err(TooFew {
            method,
            train: collection.train.len(),
            held_out: collection.held_out.len(),
            held_out_units,
            least_train: limits.least_train,
            least_held_out: limits.least_held_out,
            counts: Box::new(collection.counts),
        });
    }
    Ok(collection)
}

/// How examples were made and divided, as a recipe says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again<'a> {
    /// How the model learned from them.
    pub method: Method,
    /// What decided which were held out.
    pub division: Division,
    /// Their order.
    pub order: Order,
    /// See [`Collection::without`].
    pub without: &'a [Vec<String>],
}

/// Makes the examples of an earlier collection again: of `rows`, which are the judgements behind all its examples, those that are not named in
/// [`Again::without`], however many there are.
pub fn collect_again(rows: &[Judged], model: &str, again: &Again<'_>) -> Collection {
    let Again { method, division, order, without } = *again;
    let mut left_out = LeftOutCounts::default();
    let usable = usable(rows, model, &mut left_out);
    let mut kind = all_examples(&usable, order).of(method);
    let without: BTreeSet<&Vec<String>> = without.iter().collect();
    kind.items.retain(|item| !without.contains(&item.name()));
    let rule = Rule::of(&kind.items, &Limits { division, ..Limits::default() });
    divided(kind, rule, &Made { usable, method, order }, left_out)
}

/// The judgements that may be used for `model`; the others are counted.
fn usable<'a>(rows: &'a [Judged], model: &str, left_out: &mut LeftOutCounts) -> Vec<&'a Judged> {
    let mut may_be_used = |row: &Judged| is_usable(row, left_out) && is_of(row, model, left_out);
    rows.iter().filter(|row| may_be_used(row)).collect()
}

/// Divides examples of one kind, and then takes out what is beyond each person's share of either side. Whoever says much about one question
/// would else have a share of what is held out that nobody bounds.
fn bound(kind: &mut OneKind, limits: &Limits) -> Rule {
    let rule = Rule::of(&kind.items, limits);
    let items = std::mem::take(&mut kind.items);
    let people = items.iter().map(|item| &item.owner).collect::<BTreeSet<_>>().len();
    let (held_out, train): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| rule.is_held_out(item));
    for (side, mut items) in [(Side::Train, train), (Side::HeldOut, held_out)] {
        for (owner, (count, limit)) in cut(&mut items, limits, side, people) {
            let reason = match side {
                Side::Train => {
                    format!("more than one person's share: the newest {limit} of `{owner}` count")
                }
                Side::HeldOut => {
                    format!(
                        "more than one person's share of what is held out: the newest {limit} of `{owner}` count"
                    )
                }
            };
            kind.left_out.add(&reason, count);
        }
        kind.items.append(&mut items);
    }
    rule
}

/// What examples are made of, and how.
struct Made<'a> {
    usable: Vec<&'a Judged>,
    method: Method,
    order: Order,
}

/// Divides examples and counts what they are made of.
fn divided(kind: OneKind, rule: Rule, made: &Made<'_>, mut left_out: LeftOutCounts) -> Collection {
    let Made { usable, method, order } = made;
    let OneKind { items, rows, left_out: of_kind } = kind;
    for (reason, count) in of_kind.0 {
        left_out.add(&reason, count);
    }
    let unused = usable.iter().filter(|row| !rows.contains(&row.id)).count();
    left_out.add(&format!("nothing that {method} learns from"), unused);
    let names: BTreeSet<&str> = items.iter().flat_map(|item| item.rows.iter().map(String::as_str)).collect();
    let used: Vec<&Judged> = usable.iter().copied().filter(|row| names.contains(row.id.as_str())).collect();
    let count = |is: fn(&Judgement) -> bool| used.iter().filter(|row| is(&row.judgement)).count();
    let mut counts = DataCounts {
        pairs: count(|judgement| matches!(judgement, Judgement::Choice { .. })),
        ratings: count(|judgement| matches!(judgement, Judgement::Rating { .. })),
        corrections: count(|judgement| matches!(judgement, Judgement::Correction { .. })),
        train: 0,
        held_out: 0,
        conversations: items.iter().map(|item| &item.conversation).collect::<BTreeSet<_>>().len(),
        owners: items.iter().map(|item| &item.owner).collect::<BTreeSet<_>>().len(),
        left_out: left_out.0.into_iter().map(|(reason, count)| LeftOut { reason, count }).collect(),
    };
    let without = made_beside(&items, &used, *method, *order);
    let (held_out, train): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| rule.is_held_out(item));
    (counts.train, counts.held_out) = (train.len(), held_out.len());
    Collection { method: *method, train, held_out, counts, division: rule.found(), without }
}

/// Names of the examples that the judgements `used` make, and that are not among `items`, which are made of them.
fn made_beside(items: &[Item], used: &[&Judged], method: Method, order: Order) -> Vec<Vec<String>> {
    let kept: BTreeSet<Vec<String>> = items.iter().map(Item::name).collect();
    let all = all_examples(used, order).of(method).items;
    all.iter().map(Item::name).filter(|name| !kept.contains(name)).collect()
}

/// Which examples are held out: those of the first places, which a hash gives.
#[derive(Clone, Copy)]
struct Rule {
    division: Division,
    /// Where [`Division::Names`] divides questions instead of conversations.
    by_question: bool,
    /// The last place that is held out; `None` where nothing is.
    last: Option<u32>,
}

impl Rule {
    /// Holds out a share of the first questions, at least as many as a gate needs where there are twice as many. Which ones depends on themselves,
    /// and of few questions on their order by hash, so that more of them take nothing that was learned from to the other side.
    fn of(items: &[Item], limits: &Limits) -> Rule {
        let conversations = items.iter().map(|item| &item.conversation).collect::<BTreeSet<_>>().len();
        let by_question = conversations < LEAST_CONVERSATIONS;
        let rule = Rule { division: limits.division, by_question, last: None };
        let places: BTreeSet<u32> = items.iter().map(|item| rule.place(item)).collect();
        let is_of_share = |place: &u32| f64::from(*place) / f64::from(u32::MAX) < limits.held_out_share;
        let of_share = places.iter().copied().rfind(is_of_share);
        let last = match limits.division {
            Division::UpTo(last) => Some(last),
            Division::Opening if places.len() >= 2 * Limits::LEAST_HELD_OUT => {
                of_share.max(places.iter().copied().nth(Limits::LEAST_HELD_OUT - 1))
            }
            Division::Opening | Division::Names => of_share,
        };
        Rule { last, ..rule }
    }

    fn place(&self, item: &Item) -> u32 {
        let unit = match self.division {
            Division::Opening | Division::UpTo(_) => item.opening(),
            Division::Names if self.by_question => item.question.clone(),
            Division::Names => item.conversation.clone(),
        };
        let digits = hash(["held out", unit.as_str()]);
        u32::from_str_radix(&digits[..8], 16).unwrap_or(0)
    }

    fn is_held_out(&self, item: &Item) -> bool {
        self.last.is_some_and(|last| self.place(item) <= last)
    }

    /// The division as it has become, which holds out the same of any part of the examples.
    fn found(&self) -> Division {
        match self.division {
            Division::Names => Division::Names,
            // The first place of all has nobody.
            Division::Opening | Division::UpTo(_) => Division::UpTo(self.last.unwrap_or(0)),
        }
    }
}

/// First questions that examples are of: those of one depend on each other, and say less than as many of different ones.
fn units(items: &[Item]) -> usize {
    items.iter().map(Item::opening).collect::<BTreeSet<_>>().len()
}

/// Whether a judgement is of this model's answers, with an adapter or without; if not, it is counted.
fn is_of(row: &Judged, model: &str, left_out: &mut LeftOutCounts) -> bool {
    // A model's own name may have the separator as well, that of an adapter has neither it nor a path's.
    let is_adapter =
        |rest: &str| rest.strip_prefix(SEPARATOR).is_some_and(|adapter| !adapter.contains([SEPARATOR, '/']));
    let is_of = row.model.strip_prefix(model).is_some_and(|rest| rest.is_empty() || is_adapter(rest));
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
