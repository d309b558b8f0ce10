//! Which answers become examples.

use super::Candidate;

/// What is chosen of the answers to a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The best ones, to imitate.
    Best {
        /// So many distinct ones, at most.
        keep: usize,
        /// Worth at least this.
        least: f64,
    },
    /// The best and the worst, as a preference.
    Pair {
        /// Apart by at least this, and never alike.
        least_margin: f64,
    },
}

/// What was chosen, best first.
#[derive(Clone, Debug, PartialEq)]
pub enum Chosen<'a> {
    /// Answers to imitate.
    Best(Vec<&'a Candidate>),
    /// The preferred answer and the other.
    Pair(&'a Candidate, &'a Candidate),
}

/// Why nothing was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// No answer has a reward and can be an example.
    NoAnswer,
    /// The best is worth less than the least.
    BelowLeast,
    /// All that can be chosen are worth the same, or are the same.
    AllEqual,
    /// Best and worst are nearer than the least margin.
    SmallMargin,
}

impl Choice {
    /// Chooses among the answers to a prompt. Of answers that are worth the same the earlier one counts as better.
    ///
    /// # Errors
    /// Why nothing is chosen.
    pub fn of<'a>(&self, candidates: &'a [Candidate]) -> Result<Chosen<'a>, LeftOut> {
        let mut worths: Vec<(f64, &Candidate)> =
            candidates.iter().filter_map(|candidate| Some((candidate.worth()?, candidate))).collect();
        // The sort is stable.
        worths.sort_by(|one, other| other.0.total_cmp(&one.0));
        let (Some(first), Some(last)) = (worths.first(), worths.last()) else {
            return Err(LeftOut::NoAnswer);
        };
        match *self {
            Choice::Best { keep, least } => {
                let mut chosen: Vec<&Candidate> = Vec::new();
                for (_, candidate) in worths.iter().filter(|(worth, _)| *worth >= least) {
                    if chosen.len() < keep && !chosen.iter().any(|one| one.is_same(candidate)) {
                        chosen.push(candidate);
                    }
                }
                if chosen.is_empty() { Err(LeftOut::BelowLeast) } else { Ok(Chosen::Best(chosen)) }
            }
            Choice::Pair { least_margin } => {
                let margin = first.0 - last.0;
                if margin == 0.0 || first.1.is_same(last.1) {
                    return Err(LeftOut::AllEqual);
                }
                if margin < least_margin {
                    return Err(LeftOut::SmallMargin);
                }
                Ok(Chosen::Pair(first.1, last.1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unusable;
    use super::*;

    fn candidate(text: &str, reward: Option<f64>) -> Candidate {
        Candidate { text: text.to_owned(), reward, ..Candidate::default() }
    }

    fn texts<'a>(chosen: &Chosen<'a>) -> Vec<&'a str> {
        match chosen {
            Chosen::Best(chosen) => chosen.iter().map(|candidate| candidate.text.as_str()).collect(),
            Chosen::Pair(one, other) => vec![&one.text, &other.text],
        }
    }

    #[test]
    fn the_best_distinct_answers_are_kept_and_the_earlier_of_equals() {
        let best = |keep, least| Choice::Best { keep, least };
        let answers = [
            candidate("a", Some(1.0)),
            candidate("b", Some(2.0)),
            candidate("b ", Some(2.0)),
            candidate("c", Some(2.0)),
            candidate("d", None),
        ];
        let chosen = |choice: Choice| texts(&choice.of(&answers).unwrap());
        assert_eq!(chosen(best(1, f64::NEG_INFINITY)), ["b"]);
        assert_eq!(chosen(best(9, f64::NEG_INFINITY)), ["b", "c", "a"]);
        assert_eq!(chosen(best(9, 1.5)), ["b", "c"]);
        assert_eq!(best(1, 2.5).of(&answers), Err(LeftOut::BelowLeast));
        assert_eq!(best(1, 0.0).of(&answers[4..]), Err(LeftOut::NoAnswer));
    }

    #[test]
    fn a_pair_is_the_best_and_the_worst_if_they_differ() {
        let pair = |least_margin| Choice::Pair { least_margin };
        let mut answers =
            vec![candidate("a", Some(1.0)), candidate("b", Some(2.0)), candidate("c", Some(0.5))];
        assert_eq!(texts(&pair(0.0).of(&answers).unwrap()), ["b", "c"]);
        assert_eq!(pair(2.0).of(&answers), Err(LeftOut::SmallMargin));
        answers[2].unusable = Some(Unusable::Cut);
        assert_eq!(texts(&pair(0.0).of(&answers).unwrap()), ["b", "a"]);
        assert_eq!(pair(0.0).of(&answers[..1]), Err(LeftOut::AllEqual));
        let alike = [candidate("a", Some(1.0)), candidate("a", Some(2.0))];
        assert_eq!(pair(0.0).of(&alike), Err(LeftOut::AllEqual));
    }
}
