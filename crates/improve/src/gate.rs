//! What a candidate has to reach before it may answer: criteria of what was measured on held-out examples.

use zhenjin_promotions::Criterion;

use crate::limits::Limits;

/// What nobody's perplexity may rise beyond: 3 %.
pub const MOST_PERPLEXITY_RATIO: f64 = 1.03;
/// What the log-probability of a liked answer may lose on average, in nats for each token.
pub const MOST_LIKED_LOSS: f64 = 0.25;
/// The least share of its speed that the model keeps.
pub const LEAST_SPEED_RATIO: f64 = 0.5;
/// What a guess reaches.
pub const CHANCE: f64 = 0.5;

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The mean.
    pub mean: f64,
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
    /// Examples behind it.
    pub examples: usize,
    /// First questions that the examples are of. Those of one depend on each other, so the interval is by resampling these.
    pub units: usize,
}

/// The share of held-out judgements that the candidate agrees with must be better than a guess, with certainty.
pub fn preference_accuracy(candidate: Measured, base: f64, note: Option<String>) -> Criterion {
    let criterion = of_units("preference_accuracy", candidate, note);
    Criterion { base: criterion.value.map(|_| base), ..criterion }
}

/// How often the candidate's answers win against those of what answers now must be better than a guess, with certainty.
pub fn win_rate(candidate: Measured, note: Option<String>) -> Criterion {
    of_units("win_rate", candidate, note)
}

/// A share that must be better than a guess. Few first questions decide nothing, however many examples they have: the interval of one has no
/// width.
fn of_units(name: &str, measured: Measured, note: Option<String>) -> Criterion {
    let Measured { examples, units, .. } = measured;
    if units < Limits::LEAST_HELD_OUT {
        let least = Limits::LEAST_HELD_OUT;
        let why = format!(
            "the held-out examples that fit into the model's context are of too few first questions: {examples} examples of {units}, and at least \
             {least} are needed"
        );
        return not_measured(name, CHANCE, why);
    }
    let counted = format!("{examples} examples of {units} first questions");
    let note = note.map_or(counted.clone(), |note| format!("{note}; {counted}"));
    Criterion { note: Some(note), ..above(name, measured, CHANCE) }
}

/// A criterion that could not be measured: it decides nothing, and says why.
pub fn not_measured(name: &str, limit: f64, why: String) -> Criterion {
    Criterion {
        name: name.to_owned(),
        value: None,
        base: None,
        lower: None,
        upper: None,
        limit,
        examples: 0,
        passed: None,
        note: Some(why),
    }
}

/// What liked answers lost in log-probability, in nats for each token, must be little: `change` is the candidate's minus that of what
/// answers now.
pub fn liked_answers(change: Measured) -> Criterion {
    let limit = -MOST_LIKED_LOSS;
    Criterion { passed: Some(change.mean >= limit), ..above("liked_answers", change, limit) }
}

/// The perplexity of neutral text in one language must not rise.
pub fn perplexity(language: &str, candidate: f64, base: f64, tokens: usize) -> Criterion {
    let limit = base * MOST_PERPLEXITY_RATIO;
    Criterion {
        name: format!("perplexity_{language}"),
        value: Some(candidate),
        base: Some(base),
        lower: None,
        upper: None,
        limit,
        examples: tokens,
        passed: Some(candidate < limit),
        note: None,
    }
}

/// Tokens per second of an answer.
pub fn speed(candidate: f64, base: f64, rounds: usize) -> Criterion {
    let limit = base * LEAST_SPEED_RATIO;
    Criterion {
        name: "speed".to_owned(),
        value: Some(candidate),
        base: Some(base),
        lower: None,
        upper: None,
        limit,
        examples: rounds,
        passed: Some(candidate >= limit),
        note: None,
    }
}

/// Whether a candidate may answer: nothing failed, and at least the agreement with people was measured.
pub fn passes(criteria: &[Criterion]) -> bool {
    let is_judged = criteria
        .iter()
        .any(|criterion| criterion.name == "preference_accuracy" && criterion.passed == Some(true));
    is_judged && criteria.iter().all(|criterion| criterion.passed != Some(false))
}

fn above(name: &str, measured: Measured, limit: f64) -> Criterion {
    Criterion {
        name: name.to_owned(),
        value: Some(measured.mean),
        base: None,
        lower: Some(measured.lower),
        upper: Some(measured.upper),
        limit,
        examples: measured.examples,
        passed: Some(measured.lower > limit),
        note: None,
    }
}
