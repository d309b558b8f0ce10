//! What a candidate has to reach before it may answer: criteria of what was measured on held-out examples.

use zhenjin_promotions::Criterion;

use crate::limits::Limits;

/// What nobody's perplexity may rise beyond: 3 %.
pub const MOST_PERPLEXITY_RATIO: f64 = 1.03;
/// What the log-probability of a liked answer may lose on average, in nats for each token.
pub const MOST_LIKED_LOSS: f64 = 0.25;
/// The least share of its speed that the model keeps.
pub const LEAST_SPEED_RATIO: f64 = 0.5;
/// Rounds of the comparison of speed where the first ones pass.
pub const SPEED_ROUNDS: usize = 5;
/// Rounds after which a candidate is slow, and not only other programs busy.
pub const MOST_SPEED_ROUNDS: usize = 40;
const PREFERENCE_ACCURACY: &str = "preference_accuracy";
const WIN_RATE: &str = "win_rate";
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
    let criterion = of_units(PREFERENCE_ACCURACY, candidate, CHANCE, note);
    Criterion { base: criterion.value.map(|_| base), ..criterion }
}

/// How often the candidate's answers win against those of what answers now must be better than a guess, with certainty.
pub fn win_rate(candidate: Measured, note: Option<String>) -> Criterion {
    of_units(WIN_RATE, candidate, CHANCE, note)
}

/// What must be above a limit with certainty.
fn of_units(name: &str, measured: Measured, limit: f64, note: Option<String>) -> Criterion {
    let Measured { examples, units, .. } = measured;
    if let Some(unmeasured) = of_too_few(name, limit, examples, units) {
        return unmeasured;
    }
    let counted = format!("{examples} examples of {units} first questions");
    let note = note.map_or(counted.clone(), |note| format!("{note}; {counted}"));
    Criterion { note: Some(note), ..above(name, measured, limit) }
}

/// A criterion that examples of so few first questions do not measure. Few first questions decide nothing, however many examples they have: the
/// interval of one has no width. `None` where there are enough.
pub fn of_too_few(name: &str, limit: f64, examples: usize, units: usize) -> Option<Criterion> {
    let least = Limits::LEAST_HELD_OUT;
    (units < least).then(|| {
        let why = format!(
            "the held-out examples that fit into the model's context are of too few first questions: {examples} examples of {units}, and at least \
             {least} are needed"
        );
        not_measured(name, limit, why)
    })
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
    let criterion = of_units("liked_answers", change, limit, None);
    // The mean decides, not an end of its interval.
    Criterion { passed: criterion.passed.map(|_| change.mean >= limit), ..criterion }
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

/// Whose answer is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// The candidate's.
    Candidate,
    /// Of what answers now.
    Current,
}

/// Tokens per second of an answer, with the candidate and with what answers now in turns; `rate` measures one. The fastest of
/// [`SPEED_ROUNDS`] rounds each, and where that does not pass, of up to [`MOST_SPEED_ROUNDS`], until it does: other programs only make a round
/// slower, so that with each the fastest comes nearer to what it is without them.
///
/// # Errors
/// Those of `rate`.
pub fn speed<E>(mut rate: impl FnMut(Answers) -> Result<f64, E>) -> Result<Criterion, E> {
    // Not counted: memory and files are new to it.
    rate(Answers::Current)?;
    let (mut candidate, mut base, mut rounds) = (0.0_f64, 0.0_f64, 0);
    while rounds < SPEED_ROUNDS || (candidate < base * LEAST_SPEED_RATIO && rounds < MOST_SPEED_ROUNDS) {
        candidate = candidate.max(rate(Answers::Candidate)?);
        base = base.max(rate(Answers::Current)?);
        rounds += 1;
    }
    let limit = base * LEAST_SPEED_RATIO;
    Ok(Criterion {
        name: "speed".to_owned(),
        value: Some(candidate),
        base: Some(base),
        lower: None,
        upper: None,
        limit,
        examples: rounds,
        passed: Some(candidate >= limit),
        note: None,
    })
}

/// The criteria as they decide together. What people want is measured twice: by the probabilities of given answers, and by the candidate's own
/// answers. A property that is a few tokens of a long answer hardly moves the probability of all of it, while the answers have it: so agreement
/// that is above a guess, but not with certainty, decides nothing where the answers win with certainty.
pub fn settled(mut criteria: Vec<Criterion>) -> Vec<Criterion> {
    let wins = criteria.iter().any(|criterion| criterion.name == WIN_RATE && criterion.passed == Some(true));
    for criterion in &mut criteria {
        let is_uncertain = criterion.passed == Some(false) && criterion.value >= Some(CHANCE);
        if wins && is_uncertain && criterion.name == PREFERENCE_ACCURACY {
            criterion.passed = None;
        }
    }
    criteria
}

/// Whether a candidate may answer: nothing failed, agreement with people was measured, and that or its wins are certain.
pub fn passes(criteria: &[Criterion]) -> bool {
    let is_measured =
        |criterion: &Criterion| criterion.name == PREFERENCE_ACCURACY && criterion.value.is_some();
    let is_certain = |criterion: &Criterion| {
        [PREFERENCE_ACCURACY, WIN_RATE].contains(&criterion.name.as_str()) && criterion.passed == Some(true)
    };
    criteria.iter().any(is_measured)
        && criteria.iter().any(is_certain)
        && criteria.iter().all(|criterion| criterion.passed != Some(false))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn share(mean: f64, lower: f64) -> Measured {
        Measured { mean, lower, upper: mean + 0.1, examples: 39, units: 32 }
    }

    /// A candidate at full speed was refused because another program was busy in each of its five rounds, and not in one of the others.
    #[test]
    fn a_busy_machine_does_not_make_a_candidate_slow() {
        let measured = |alone: f64, quiet_from: usize| {
            let mut asked = 0;
            let criterion = speed(|whose| {
                asked += 1;
                Ok::<f64, ()>(match whose {
                    Answers::Current => 290.0,
                    Answers::Candidate if asked >= quiet_from => alone,
                    Answers::Candidate => alone / 2.0,
                })
            });
            let Criterion { value, base, passed, examples, .. } = criterion.expect("measured");
            (value, base, passed, examples)
        };
        assert_eq!(measured(250.0, 0), (Some(250.0), Some(290.0), Some(true), SPEED_ROUNDS));
        assert_eq!(measured(250.0, 20), (Some(250.0), Some(290.0), Some(true), 10));
        assert_eq!(measured(140.0, 0), (Some(140.0), Some(290.0), Some(false), MOST_SPEED_ROUNDS));
    }

    /// One liked answer once decided, and refused whatever else had been measured.
    #[test]
    fn liked_answers_of_fewer_than_five_first_questions_are_not_measured() {
        let lost = |examples: usize, units: usize| {
            liked_answers(Measured { mean: -0.9, lower: -0.9, upper: -0.9, examples, units })
        };
        for units in [1, Limits::LEAST_HELD_OUT - 1] {
            let criterion = lost(40, units);
            assert_eq!((criterion.passed, criterion.value, criterion.limit), (None, None, -MOST_LIKED_LOSS));
            let note = criterion.note.as_deref().expect("a reason");
            assert!(note.contains(&format!("40 examples of {units}, and at least 5")), "{note}");
        }
        assert_eq!(lost(40, Limits::LEAST_HELD_OUT).passed, Some(false));
        // The mean decides, not the end of the interval.
        let kept = liked_answers(Measured { mean: -0.2, lower: -0.4, upper: 0.0, examples: 9, units: 9 });
        assert_eq!((kept.passed, kept.value), (Some(true), Some(-0.2)));
    }

    /// A candidate whose answers had what people chose 3.25 times as often, and won 0.81 (0.72 to 0.91), was refused: of 39 held-out choices it
    /// agreed with 0.64 (0.49 to 0.79).
    #[test]
    fn agreement_that_is_not_certain_decides_nothing_where_answers_win() {
        let gate = |agreement: Measured, wins: Option<Measured>| {
            let wins = match wins {
                Some(wins) => win_rate(wins, None),
                None => not_measured("win_rate", CHANCE, "no pairs".to_owned()),
            };
            settled(vec![preference_accuracy(agreement, 0.6, None), wins, perplexity("en", 60.0, 62.0, 700)])
        };
        let wins = share(0.81, 0.72);
        let uncertain = gate(share(0.64, 0.49), Some(wins));
        assert!(uncertain[0].passed.is_none() && passes(&uncertain), "{uncertain:?}");
        for refused in [
            gate(share(0.49, 0.3), Some(wins)),
            gate(share(0.64, 0.49), Some(share(0.6, 0.45))),
            gate(share(0.64, 0.49), None),
            gate(share(0.8, 0.7), Some(share(0.6, 0.45))),
        ] {
            assert!(!passes(&refused), "{refused:?}");
        }
        let without_wins = gate(share(0.8, 0.7), None);
        assert!(passes(&without_wins) && without_wins[0].passed == Some(true));
        let unmeasured = not_measured("preference_accuracy", CHANCE, "too few".to_owned());
        assert!(!passes(&[unmeasured, win_rate(wins, None)]));
    }
}
