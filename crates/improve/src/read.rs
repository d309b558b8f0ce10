//! Judgements to examples: which count, which contradict each other, which say the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::example::{Example, Item, Judged, Judgement, Turn};
use crate::limits::{Limits, cut};

/// Examples of each kind.
#[derive(Debug, Default)]
pub(crate) struct Examples {
    pub(crate) pairs: OneKind,
    pub(crate) thumbs: OneKind,
    pub(crate) answers: OneKind,
}

/// Examples of one kind, and what was left out of them.
#[derive(Debug, Default)]
pub(crate) struct OneKind {
    pub(crate) items: Vec<Item>,
    /// All judgements that say something of this kind, used or not.
    pub(crate) rows: BTreeSet<String>,
    pub(crate) left_out: LeftOutCounts,
}

impl OneKind {
    fn push(&mut self, item: Item) {
        self.rows.extend(item.rows.iter().cloned());
        self.items.push(item);
    }
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

/// All examples that the judgements make.
pub(crate) fn examples(judged: &[&Judged], limits: &Limits) -> Examples {
    let mut examples = Examples::default();
    let mut ratings: BTreeMap<(&str, &str), Vec<&Judged>> = BTreeMap::new();
    for row in judged {
        let item = |example: Example| item(&[row], example);
        match &row.judgement {
            Judgement::Rating { answer, up } => {
                examples.thumbs.push(item(Example::Thumb { answer: answer.clone(), liked: *up }));
                if *up {
                    examples.answers.push(item(Example::Answer(answer.clone())));
                }
                ratings.entry((&row.owner, &row.question)).or_default().push(row);
            }
            Judgement::Correction { answer: rejected, correction: chosen }
            | Judgement::Choice { chosen, rejected } => {
                let [chosen, rejected] = [chosen, rejected].map(Clone::clone);
                examples.thumbs.push(item(Example::Thumb { answer: chosen.clone(), liked: true }));
                examples.thumbs.push(item(Example::Thumb { answer: rejected.clone(), liked: false }));
                examples.answers.push(item(Example::Answer(chosen.clone())));
                examples.pairs.push(item(Example::Pair { chosen, rejected }));
            }
        }
    }
    for of_question in ratings.values() {
        rated_siblings(of_question).into_iter().for_each(|item| examples.pairs.push(item));
    }
    for kind in [&mut examples.pairs, &mut examples.thumbs, &mut examples.answers] {
        let OneKind { items, left_out, .. } = kind;
        items.sort_by(|left, right| (left.at, &left.rows).cmp(&(right.at, &right.rows)));
        left_out.add("the same person judged the same both ways", remove_contradictions(items));
        left_out.add("the same judgement twice", remove_repeated(items));
        for (owner, (count, limit)) in cut(items, limits) {
            let reason = format!("more than one person's share: the newest {limit} of `{owner}` count");
            left_out.add(&reason, count);
        }
    }
    examples
}

/// Of answers to one question, each one that was liked beside each one that was not.
fn rated_siblings(of_question: &[&Judged]) -> Vec<Item> {
    let rated = |liked: bool| {
        of_question.iter().filter_map(move |row| match &row.judgement {
            Judgement::Rating { answer, up } if *up == liked => Some((*row, answer)),
            _ => None,
        })
    };
    let pairs = rated(true).flat_map(|(liked, chosen)| {
        rated(false).map(move |(disliked, rejected)| {
            item(&[liked, disliked], Example::Pair { chosen: chosen.clone(), rejected: rejected.clone() })
        })
    });
    pairs.collect()
}

fn item(rows: &[&Judged], example: Example) -> Item {
    let first = rows[0];
    Item {
        rows: rows.iter().map(|row| row.id.clone()).collect(),
        owner: first.owner.clone(),
        conversation: first.conversation.clone(),
        question: first.question.clone(),
        at: rows.iter().map(|row| row.at).max().unwrap_or(first.at),
        prompt: first.prompt.clone(),
        example,
    }
}

/// What an example is about, and what it says of it.
type Statement<'a> = ((&'a str, &'a [Turn], BTreeSet<&'a str>), &'a str);

fn statement(item: &Item) -> Statement<'_> {
    let (about, says) = match &item.example {
        Example::Pair { chosen, rejected } => {
            (BTreeSet::from([chosen.as_str(), rejected.as_str()]), chosen.as_str())
        }
        Example::Thumb { answer, liked: true } => (BTreeSet::from([answer.as_str()]), "liked"),
        Example::Thumb { answer, liked: false } => (BTreeSet::from([answer.as_str()]), "disliked"),
        Example::Answer(answer) => (BTreeSet::from([answer.as_str()]), ""),
    };
    ((&item.owner, &item.prompt, about), says)
}

/// Takes out everything of which one person says both; two answers that are alike say nothing either.
fn remove_contradictions(items: &mut Vec<Item>) -> usize {
    let mut said: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for item in items.iter() {
        let (about, says) = statement(item);
        said.entry(about).or_default().insert(says);
    }
    let is_alike =
        |item: &Item| matches!(&item.example, Example::Pair { chosen, rejected } if chosen == rejected);
    let stays: Vec<bool> =
        items.iter().map(|item| said[&statement(item).0].len() == 1 && !is_alike(item)).collect();
    retain(items, &stays)
}

/// Takes out what the same person said before in the same words.
fn remove_repeated(items: &mut Vec<Item>) -> usize {
    let mut seen = BTreeSet::new();
    let stays: Vec<bool> = items.iter().map(|item| seen.insert(statement(item))).collect();
    drop(seen);
    retain(items, &stays)
}

fn retain(items: &mut Vec<Item>, stays: &[bool]) -> usize {
    let before = items.len();
    let mut stays = stays.iter();
    items.retain(|_| stays.next().copied().unwrap_or(false));
    before - items.len()
}
