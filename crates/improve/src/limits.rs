//! How much of one person's judgements counts, so that nobody decides for all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::example::{Example, Item};

/// What stands in a recipe before the last place that is held out.
const UP_TO: &str = "opening up to ";

/// What decides whether an example is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Division {
    /// How its conversation begins ([`opening`](crate::opening)): whoever asks the same in whichever chat is on the same side, and whatever else
    /// is judged later changes nothing. Records of earlier versions say this word alone: their shares were bounded before anything was held
    /// out, so what they used divides as it did.
    #[default]
    Opening,
    /// The same with the last place that is held out, as it was found among all judgements: those that were used may be too few to find it
    /// again.
    UpTo(u32),
    /// The name of its conversation; with fewer than ten conversations, that of its question. Earlier versions divided so, and what they
    /// made is made again so.
    Names,
}

impl Division {
    /// The one that a recipe names; records of earlier versions name none.
    ///
    /// # Errors
    /// A sentence, for a word that this version does not know.
    pub fn of_recipe(word: &str) -> Result<Division, String> {
        match word {
            "opening" => Ok(Division::Opening),
            "names" | "" => Ok(Division::Names),
            _ => match word.strip_prefix(UP_TO).map(str::parse) {
                Some(Ok(place)) => Ok(Division::UpTo(place)),
                _ => Err(unknown("divides the examples by", word)),
            },
        }
    }
}

impl fmt::Display for Division {
    /// Its words in a recipe.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Division::Opening => formatter.write_str("opening"),
            Division::UpTo(place) => write!(formatter, "{}{place}", UP_TO),
            Division::Names => formatter.write_str("names"),
        }
    }
}

/// The order of examples, which is that of a file and so decides every bit of what learns from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By the names of their judgements, which sort by age and stay as they are whatever is said of an answer besides.
    #[default]
    Name,
    /// By when they were said last, which a comment changes. Earlier versions ordered so, and so does what people take along.
    Time,
}

impl Order {
    /// Its word in a recipe.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Name => "name",
            Order::Time => "time",
        }
    }

    /// The one that a recipe names; records of earlier versions name none.
    ///
    /// # Errors
    /// A sentence, for a word that this version does not know.
    pub fn of_recipe(word: &str) -> Result<Order, String> {
        match word {
            "name" => Ok(Order::Name),
            "time" | "" => Ok(Order::Time),
            _ => Err(unknown("orders the examples by", word)),
        }
    }
}

fn unknown(does: &str, word: &str) -> String {
    format!(
        "its recipe {does} `{word}`, which this version of the program does not know: use the version that made it"
    )
}

/// Bounds of a collection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The most examples of one person to learn from, the newest first; of those that are held out, a part of it as large as
    /// [`Limits::held_out_share`]. `None`: as many as the other person with the most has on that side, and half as many as all others have
    /// there together, so that whoever contradicts all others is outvoted; but at least [`Limits::LEAST_OF_A_PERSON`]
    /// ([`Limits::LEAST_CONSIDERED`] of the operator's, and of choices and corrections where there is only one other person, against whom
    /// nobody can be outvoted) and at most [`Limits::MOST_OF_A_PERSON`], or that part of them. Who is alone has the most.
    ///
    /// What is held out is bounded so in examples and in first questions, each of which weighs the same there.
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
    /// What everybody may contribute to learn from, however few others judge.
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

/// What examples are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// To learn from.
    Train,
    /// To measure.
    HeldOut,
}

impl Side {
    /// The measures in which one person's share of this side is bounded.
    fn measures(self, items: &[Item], limits: &Limits, people: usize) -> Vec<Measure> {
        let each = Parts::examples(items);
        let all = match self {
            Side::Train => vec![each],
            Side::HeldOut => vec![each, Parts::questions(items)],
        };
        all.into_iter()
            .map(|parts| {
                let left = shares(items, &parts.weights, limits, self, people);
                Measure { parts, left, taken: BTreeSet::new() }
            })
            .collect()
    }
}

/// What is counted of a person, and of which part each example is.
struct Parts {
    /// How much each example counts.
    weights: Vec<f64>,
    /// The part of each example: all of a part is taken with the first example of it.
    part_of: Vec<usize>,
    /// How much each part counts.
    sizes: Vec<f64>,
}

impl Parts {
    /// Each example is a part.
    fn examples(items: &[Item]) -> Parts {
        let each = vec![1.0; items.len()];
        Parts { weights: each.clone(), part_of: (0..items.len()).collect(), sizes: each }
    }

    /// What one person said of a first question is a part: however much of it stays, the question counts as one.
    fn questions(items: &[Item]) -> Parts {
        let openings: Vec<String> = items.iter().map(Item::opening).collect();
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for opening in &openings {
            *counts.entry(opening).or_default() += 1.0;
        }
        let weights: Vec<f64> = openings.iter().map(|opening| 1.0 / counts[opening.as_str()]).collect();
        let mut numbers = BTreeMap::new();
        let mut sizes = Vec::new();
        let mut part_of = Vec::with_capacity(items.len());
        for ((item, opening), weight) in items.iter().zip(&openings).zip(&weights) {
            let part = *numbers.entry((item.owner.as_str(), opening.as_str())).or_insert_with(|| {
                sizes.push(0.0);
                sizes.len() - 1
            });
            sizes[part] += weight;
            part_of.push(part);
        }
        Parts { weights, part_of, sizes }
    }
}

/// Sums of parts are rounded.
const ROUNDING: f64 = 1e-9;

/// What is left of each person's share in one measure.
struct Measure {
    parts: Parts,
    left: BTreeMap<String, f64>,
    taken: BTreeSet<usize>,
}

impl Measure {
    fn has_room(&self, owner: &str, index: usize) -> bool {
        let part = self.parts.part_of[index];
        let fits = |left: &f64| self.parts.sizes[part] <= left + ROUNDING;
        self.taken.contains(&part) || self.left.get(owner).is_some_and(fits)
    }

    fn take(&mut self, owner: &str, index: usize) {
        let part = self.parts.part_of[index];
        if !self.taken.insert(part) {
            return;
        }
        if let Some(left) = self.left.get_mut(owner) {
            *left -= self.parts.sizes[part];
        }
    }
}

/// Takes out what is beyond each person's share of a side, the oldest first, and says of each person whose share was cut how many are out
/// and how many are left. `people` judged in all: some of them may have nothing on this side.
pub(crate) fn cut(
    items: &mut Vec<Item>,
    limits: &Limits,
    side: Side,
    people: usize,
) -> BTreeMap<String, (usize, usize)> {
    let stays = within_shares(items, limits, side, people);
    let mut found: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (item, stays) in items.iter().zip(&stays) {
        let (out, left) = found.entry(item.owner.clone()).or_default();
        *(if *stays { left } else { out }) += 1;
    }
    let mut stays = stays.into_iter();
    items.retain(|_| stays.next().unwrap_or(false));
    found.retain(|_, (out, _)| *out > 0);
    found
}

/// Of each example, whether it is within its person's share, the newest first.
fn within_shares(items: &[Item], limits: &Limits, side: Side, people: usize) -> Vec<bool> {
    let mut measures = side.measures(items, limits, people);
    // Names of judgements sort by age, and nothing that is said besides changes them.
    let mut newest: Vec<usize> = (0..items.len()).collect();
    newest.sort_by_key(|index| Reverse((items[*index].rows.iter().max(), *index)));
    let mut stays = vec![false; items.len()];
    for index in newest {
        let owner = &items[index].owner;
        if measures.iter().all(|measure| measure.has_room(owner, index)) {
            measures.iter_mut().for_each(|measure| measure.take(owner, index));
            stays[index] = true;
        }
    }
    stays
}

/// Each person's share of a side, where each example counts by its weight.
fn shares(
    items: &[Item],
    weights: &[f64],
    limits: &Limits,
    side: Side,
    people: usize,
) -> BTreeMap<String, f64> {
    let part = match side {
        Side::Train => 1.0,
        Side::HeldOut => limits.held_out_share,
    };
    let of_side = |bound: usize| (bound as f64 * part).round().max(1.0);
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    let mut operators = BTreeSet::new();
    let mut considered: BTreeMap<&str, f64> = BTreeMap::new();
    for (item, weight) in items.iter().zip(weights) {
        *sums.entry(&item.owner).or_default() += weight;
        if item.is_operator {
            operators.insert(item.owner.as_str());
        }
        // A pair of two judgements is one of two thumbs.
        if matches!(item.example, Example::Pair { .. }) && item.rows.len() == 1 {
            *considered.entry(&item.owner).or_default() += weight;
        }
    }
    let most = of_side(Limits::MOST_OF_A_PERSON);
    let all: f64 = sums.values().map(|sum| sum.min(most)).sum();
    let share = |owner: &str, sum: f64| match limits.of_a_person {
        Some(limit) => of_side(limit),
        None if sums.len() == 1 => most,
        None => {
            let of_two = if people == 2 { considered.get(owner).copied().unwrap_or(0.0) } else { 0.0 };
            let least = match operators.contains(owner) {
                true => of_side(Limits::LEAST_CONSIDERED),
                false => of_two.clamp(of_side(Limits::LEAST_OF_A_PERSON), of_side(Limits::LEAST_CONSIDERED)),
            };
            let others = sums.iter().filter(|(other, _)| **other != owner);
            let most_of_another = others.map(|(_, sum)| sum.min(most)).fold(0.0, f64::max);
            let half_of_others = (all - sum.min(most)) / 2.0;
            half_of_others.min(most_of_another).clamp(least, most)
        }
    };
    sums.iter().map(|(owner, sum)| ((*owner).to_owned(), share(owner, *sum))).collect()
}
