//! How much of one person's judgements counts, so that nobody decides for all.

use std::collections::{BTreeMap, BTreeSet};

use crate::example::{Example, Item};

/// What decides whether an example is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Division {
    /// How its conversation begins ([`opening`](crate::opening)): whoever asks the same in whichever chat is on the same side, and whatever else
    /// is judged later changes nothing.
    #[default]
    Opening,
    /// The name of its conversation; with fewer than ten conversations, that of its question. Earlier versions divided so, and what they
    /// made is made again so.
    Names,
}

impl Division {
    /// Its word in a recipe.
    pub fn as_str(self) -> &'static str {
        match self {
            Division::Opening => "opening",
            Division::Names => "names",
        }
    }

    /// The one that a recipe names; records of earlier versions name none.
    ///
    /// # Errors
    /// A sentence, for a word that this version does not know.
    pub fn of_recipe(word: &str) -> Result<Division, String> {
        match word {
            "opening" => Ok(Division::Opening),
            "names" | "" => Ok(Division::Names),
            _ => Err(format!(
                "its recipe divides the examples by `{word}`, which this version of the program does not know: use the version that made it"
            )),
        }
    }
}

/// Bounds of a collection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The most examples of one person, the newest first; `None`: as many as the other person with the most has, and half as many as all others
    /// have together, so that whoever contradicts all others is outvoted; but at least [`Limits::LEAST_OF_A_PERSON`] ([`Limits::LEAST_CONSIDERED`] of the
    /// operator's, and of choices and corrections where there is only one other person, against whom nobody can be outvoted) and at most
    /// [`Limits::MOST_OF_A_PERSON`]. Who is alone has the most.
    pub of_a_person: Option<usize>,
    /// What decides which examples are held out.
    pub division: Division,
    /// The share of first questions that is held out.
    pub held_out_share: f64,
    /// The fewest examples to learn from.
    pub least_train: usize,
    /// The fewest first questions that held-out examples are of: examples of one conversation depend on each other.
    pub least_held_out: usize,
}

impl Limits {
    /// What everybody may contribute, however few others judge.
    pub const LEAST_OF_A_PERSON: usize = 20;
    /// What the operator may contribute, who could promote anything without a gate, and what one of two people may by choices and corrections,
    /// which take more thought than thumbs.
    pub const LEAST_CONSIDERED: usize = 200;
    /// What nobody may exceed.
    pub const MOST_OF_A_PERSON: usize = 500;
    /// First questions below which nothing held out decides anything.
    pub const LEAST_HELD_OUT: usize = 5;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            of_a_person: None,
            division: Division::default(),
            held_out_share: 0.2,
            least_train: 20,
            least_held_out: Limits::LEAST_HELD_OUT,
        }
    }
}

/// Takes out what is beyond each person's share, the oldest first, and says how many each person's share was cut by.
pub(crate) fn cut(items: &mut Vec<Item>, limits: &Limits) -> BTreeMap<String, (usize, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut operators = BTreeSet::new();
    let mut considered: BTreeMap<String, usize> = BTreeMap::new();
    for item in items.iter() {
        *counts.entry(item.owner.clone()).or_default() += 1;
        if item.is_operator {
            operators.insert(item.owner.clone());
        }
        // A pair of two judgements is one of two thumbs.
        if matches!(item.example, Example::Pair { .. }) && item.rows.len() == 1 {
            *considered.entry(item.owner.clone()).or_default() += 1;
        }
    }
    let bounded = |count: usize| count.min(Limits::MOST_OF_A_PERSON);
    let all: usize = counts.values().copied().map(bounded).sum();
    let most_of_another = |owner: &String| {
        let others = counts.iter().filter(|(other, _)| *other != owner);
        others.map(|(_, count)| bounded(*count)).max().unwrap_or(0)
    };
    let share = |owner: &String, count: usize| match limits.of_a_person {
        Some(limit) => limit,
        None if counts.len() == 1 => Limits::MOST_OF_A_PERSON,
        None => {
            let of_two = if counts.len() == 2 { considered.get(owner).copied().unwrap_or(0) } else { 0 };
            let least = match operators.contains(owner) {
                true => Limits::LEAST_CONSIDERED,
                false => of_two.clamp(Limits::LEAST_OF_A_PERSON, Limits::LEAST_CONSIDERED),
            };
            let half_of_others = (all - bounded(count)) / 2;
            half_of_others.min(most_of_another(owner)).clamp(least, Limits::MOST_OF_A_PERSON)
        }
    };
    let shares: BTreeMap<String, usize> =
        counts.iter().map(|(owner, count)| (owner.clone(), share(owner, *count))).collect();
    let mut kept: BTreeMap<String, usize> = BTreeMap::new();
    let mut newest: Vec<usize> = (0..items.len()).collect();
    newest.sort_by(|left, right| (items[*right].at, right).cmp(&(items[*left].at, left)));
    let mut stays = vec![false; items.len()];
    for index in newest {
        let owner = &items[index].owner;
        let taken = kept.entry(owner.clone()).or_default();
        if *taken < shares[owner] {
            *taken += 1;
            stays[index] = true;
        }
    }
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        stays[index - 1]
    });
    let beyond = |(owner, count): (String, usize)| {
        let limit = shares[&owner];
        (count > limit).then(|| (owner, (count - limit, limit)))
    };
    counts.into_iter().filter_map(beyond).collect()
}
