//! How many arithmetic problems a model solves, by operation and length of the numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Proportion;

/// What is asked, such as `47*36=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// a + b
    Sum,
    /// a − b
    Difference,
    /// a · b
    Product,
}

impl Operation {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Sum => "sums",
            Operation::Difference => "differences",
            Operation::Product => "products",
        }
    }
}

/// A kind of problem: its operation and the digits of the longer number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ProblemKind {
    /// What is asked.
    pub operation: Operation,
    /// Digits of the longer of the two numbers.
    pub digits: usize,
}

impl ProblemKind {
    /// The kind of a question such as `47*36=`; `None` for any other text.
    pub fn of(question: &str) -> Option<ProblemKind> {
        let body = question.trim().strip_suffix('=')?;
        let at = body.find(['+', '-', '*'])?;
        let (left, right) = (&body[..at], &body[at + 1..]);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let operation = match body.as_bytes()[at] {
            b'+' => Operation::Sum,
            b'-' => Operation::Difference,
            _ => Operation::Product,
        };
        (is_number(left) && is_number(right))
            .then(|| ProblemKind { operation, digits: left.len().max(right.len()) })
    }
}

/// The answer in what a model wrote: its last line that is not empty.
pub fn answer_of(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("")
}

/// What a model solved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArithmeticScores {
    by_kind: BTreeMap<ProblemKind, Proportion>,
}

impl ArithmeticScores {
    /// Counts what a model wrote behind the question of a problem.
    pub fn judge(&mut self, kind: ProblemKind, written: &str, answer: &str) {
        self.by_kind.entry(kind).or_default().add(answer_of(written) == answer);
    }

    /// The kinds that occurred, in order.
    pub fn by_kind(&self) -> impl Iterator<Item = (ProblemKind, Proportion)> {
        self.by_kind.iter().map(|(kind, solved)| (*kind, *solved))
    }

    /// All kinds together.
    pub fn total(&self) -> Proportion {
        self.by_kind.values().fold(Proportion::default(), |sum, solved| Proportion {
            count: sum.count + solved.count,
            of: sum.of + solved.of,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_tells_its_kind() {
        let kind = |question| ProblemKind::of(question).map(|kind| (kind.operation, kind.digits));
        assert_eq!(kind("47*36="), Some((Operation::Product, 2)));
        assert_eq!(kind("7+360="), Some((Operation::Sum, 3)));
        assert_eq!(kind("9-9="), Some((Operation::Difference, 1)));
        for other in ["", "=", "47*=", "a+b=", "47*36", "4+5+6=", "-4+5="] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_last_line_is_the_answer_and_it_must_be_all_of_it() {
        let kind = ProblemKind::of("47*36=").expect("a question");
        let mut scores = ArithmeticScores::default();
        for (written, is_right) in [
            ("\n47*6=282\n47*30=1410\n282+1410=1692\n1692", true),
            ("1692\n\n", true),
            ("282+1410=1692", false),
            ("1692\n1693", false),
            ("16920", false),
            ("", false),
        ] {
            let before = scores.total().count;
            scores.judge(kind, written, "1692");
            assert_eq!(scores.total().count - before, usize::from(is_right), "{written:?}");
        }
        assert_eq!(scores.total(), Proportion { count: 2, of: 6 });
        assert_eq!(scores.by_kind().collect::<Vec<_>>(), [(kind, Proportion { count: 2, of: 6 })]);
    }
}
