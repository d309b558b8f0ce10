//! Arithmetic problems with worked steps, for models that learn to calculate.
//!
//! The n-th problem is a function of the seed and n. A problem is for testing or for training by a hash of its question, so that
//! no question is ever in both, whatever seeds and counts are used.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zhenjin_random::SplitMix64;

use crate::CorpusError;
use crate::random::numbers_of;

/// One question of this many is for testing.
const TEST_EVERY: u8 = 8;
/// Draws without a new test question, after which there are no more to be expected.
const MAX_DRAWS: u64 = 100_000;

/// Which problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArithmeticOptions {
    /// Another seed gives other problems.
    pub seed: u64,
    /// Numbers have at most this many digits, from 1 to 9.
    pub digits: u32,
    /// Questions for testing, each once, instead of those for training, which repeat.
    pub test: bool,
}

/// A problem, as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArithmeticProblem {
    /// Such as `47*36=`.
    pub question: String,
    /// The way to the answer, a line for each step.
    pub steps: Vec<String>,
    /// The answer.
    pub answer: String,
}

/// Makes `count` problems, sums, differences and products equally often, until `take` returns false.
///
/// # Errors
/// [`CorpusError::Setting`] when numbers cannot have so many digits, or there are not so many questions for testing.
pub fn arithmetic(
    options: &ArithmeticOptions,
    count: u64,
    take: &mut dyn FnMut(&ArithmeticProblem) -> bool,
) -> Result<(), CorpusError> {
    let setting = |field, reason: String| Err(CorpusError::Setting { field, reason });
    if !(1..=9).contains(&options.digits) {
        return setting("digits", format!("numbers of {} digits; from 1 to 9 is possible", options.digits));
    }
    let mut seen = BTreeSet::new();
    let (mut made, mut draw, mut last_new) = (0, 0, 0);
    while made < count {
        let problem = problem(&mut numbers_of(options.seed, draw), options.digits);
        draw += 1;
        if is_for_testing(&problem.question) == options.test
            && (!options.test || seen.insert(problem.question.clone()))
        {
            if !take(&problem) {
                return Ok(());
            }
            made += 1;
            last_new = draw;
        } else if draw - last_new > MAX_DRAWS {
            return setting(
                "count",
                format!("{count}, and with so few digits there are about {made} questions"),
            );
        }
    }
    Ok(())
}

fn is_for_testing(question: &str) -> bool {
    Sha256::digest(question.as_bytes())[0] % TEST_EVERY == 0
}

fn problem(numbers: &mut SplitMix64, digits: u32) -> ArithmeticProblem {
    let mut number = || {
        let length = 1 + numbers.below(digits as usize) as u32;
        numbers.below(10usize.pow(length)) as u64
    };
    let (a, b) = (number(), number());
    match numbers.below(3) {
        0 => sum(a, b),
        1 => difference(a.max(b), a.min(b)),
        _ => product(a, b),
    }
}

fn digit(number: u64, place: u32) -> u64 {
    number / 10u64.pow(place) % 10
}

fn places(number: u64) -> u32 {
    number.checked_ilog10().map_or(1, |places| places + 1)
}

/// Digit by digit from the right, with what is carried: `7+6=13` means write 3, carry 1.
fn sum(a: u64, b: u64) -> ArithmeticProblem {
    let mut carried = 0;
    let mut steps = Vec::new();
    for place in 0..places(a.max(b)) {
        let (x, y) = (digit(a, place), digit(b, place));
        let total = x + y + carried;
        steps.push(if carried > 0 {
            format!("{x}+{y}+{carried}={total}")
        } else {
            format!("{x}+{y}={total}")
        });
        carried = total / 10;
    }
    ArithmeticProblem { question: format!("{a}+{b}="), steps, answer: (a + b).to_string() }
}

/// Digit by digit from the right; ten is borrowed where a digit is too small. `a` is not smaller than `b`.
fn difference(a: u64, b: u64) -> ArithmeticProblem {
    let mut borrowed = 0;
    let mut steps = Vec::new();
    for place in 0..places(a) {
        let (mut x, y) = (digit(a, place), digit(b, place) + borrowed);
        borrowed = u64::from(x < y);
        x += 10 * borrowed;
        steps.push(format!("{x}-{y}={}", x - y));
    }
    ArithmeticProblem { question: format!("{a}-{b}="), steps, answer: (a - b).to_string() }
}

/// The first number times each digit of the second, and the sum so far.
fn product(a: u64, b: u64) -> ArithmeticProblem {
    let mut total = 0;
    let mut steps = Vec::new();
    for place in 0..places(b) {
        let factor = digit(b, place) * 10u64.pow(place);
        let part = a * factor;
        steps.push(format!("{a}*{factor}={part}"));
        if place > 0 {
            steps.push(format!("{total}+{part}={}", total + part));
        }
        total += part;
    }
    ArithmeticProblem { question: format!("{a}*{b}="), steps, answer: total.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(options: ArithmeticOptions, count: u64) -> Vec<ArithmeticProblem> {
        let mut problems = Vec::new();
        arithmetic(&options, count, &mut |problem| {
            problems.push(problem.clone());
            true
        })
        .expect("problems");
        problems
    }

    const OPTIONS: ArithmeticOptions = ArithmeticOptions { seed: 1, digits: 3, test: false };

    fn value(text: &str) -> u64 {
        let (at, sign) = text.char_indices().rfind(|(_, c)| "+-*".contains(*c)).expect("an operation");
        let (a, b) = (&text[..at], text[at + 1..].parse::<u64>().expect("a number"));
        let a = a.parse().unwrap_or_else(|_| value(a));
        match sign {
            '+' => a + b,
            '-' => a - b,
            _ => a * b,
        }
    }

    #[test]
    fn every_step_and_every_answer_is_right() {
        for digits in [1, 3, 9] {
            for problem in problems(ArithmeticOptions { digits, ..OPTIONS }, 500) {
                let question = problem.question.strip_suffix('=').expect("a question");
                assert_eq!(value(question).to_string(), problem.answer, "{problem:?}");
                for step in &problem.steps {
                    let (left, right) = step.split_once('=').expect("an equation");
                    assert_eq!(value(left).to_string(), right, "{problem:?}");
                }
            }
        }
        let sum = sum(478, 56);
        assert_eq!((sum.steps.join(" "), sum.answer.as_str()), ("8+6=14 7+5+1=13 4+0+1=5".to_owned(), "534"));
        assert_eq!(difference(503, 87).steps.join(" "), "13-7=6 10-9=1 5-1=4");
        assert_eq!(product(47, 36).steps.join(" "), "47*6=282 47*30=1410 282+1410=1692");
    }

    #[test]
    fn the_same_seed_gives_the_same_problems_and_no_question_is_for_both() {
        assert_eq!(problems(OPTIONS, 50), problems(OPTIONS, 100)[..50]);
        assert_ne!(problems(OPTIONS, 50), problems(ArithmeticOptions { seed: 2, ..OPTIONS }, 50));
        let questions = |options, count| -> Vec<String> {
            problems(options, count).into_iter().map(|problem| problem.question).collect()
        };
        let test = questions(ArithmeticOptions { test: true, ..OPTIONS }, 300);
        let train = questions(ArithmeticOptions { seed: 9, ..OPTIONS }, 5_000);
        assert!(test.iter().all(|question| !train.contains(question)));
        assert_eq!(test.iter().collect::<BTreeSet<_>>().len(), 300);
    }

    #[test]
    fn more_test_questions_than_there_are_is_an_error_and_not_an_endless_search() {
        let options = ArithmeticOptions { digits: 1, test: true, ..OPTIONS };
        let error = arithmetic(&options, 10_000, &mut |_| true).expect_err("too many").to_string();
        assert!(error.contains("there are about"), "{error}");
        let digits = arithmetic(&ArithmeticOptions { digits: 10, ..OPTIONS }, 1, &mut |_| true);
        assert!(digits.is_err());
    }
}
