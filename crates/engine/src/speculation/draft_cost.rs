//! What a draft model's guesses cost on this machine, by measured time, and how much may be spent on trying it where it does not pay.

/// Steps with more rows than this are not told apart.
const MOST_ROWS: usize = 8;
/// What one row more adds to a step, as a share of it, where it was not measured.
const ASSUMED_SHARE: f64 = 0.1;
const WEIGHT_OF_LATEST: f64 = 1.0 / 8.0;
/// The share of all time that is spent on trying drafts that do not seem to pay.
const SHARE_FOR_TRIES: f64 = 0.01;

/// Measured times of a draft model's steps.
#[derive(Debug, Default)]
pub(crate) struct DraftCost {
    /// Seconds of a step that guesses one token of each of its sequences, by its rows less one.
    steps: [Option<f64>; MOST_ROWS],
    /// Seconds of one row of a step that computes known tokens.
    known_row: Option<f64>,
    /// Seconds that may be spent on a try.
    allowance: f64,
}

fn note(average: &mut Option<f64>, seconds: f64) {
    *average = Some(average.map_or(seconds, |average| {
        // The time of an interrupted step says little about the next one.
        average + WEIGHT_OF_LATEST * (seconds.min(2.0 * average) - average)
    }));
}

impl DraftCost {
    /// Records a step that guessed tokens, with so many rows.
    pub(crate) fn note_guesses(&mut self, rows: usize, seconds: f64) {
        if let Some(average) = rows.checked_sub(1).and_then(|index| self.steps.get_mut(index)) {
            note(average, seconds);
        }
    }

    /// Records a step over known tokens.
    pub(crate) fn note_known(&mut self, rows: usize, seconds: f64) {
        note(&mut self.known_row, seconds / rows.max(1) as f64);
    }

    /// Seconds of a step that guesses one token of each of so many sequences; `None` if none was measured.
    pub(crate) fn guesses(&self, rows: usize) -> Option<f64> {
        let index = rows.clamp(1, MOST_ROWS) - 1;
        let with_fewer = self.steps[..=index].iter().enumerate().rev();
        let fewer = with_fewer.filter_map(|(at, seconds)| Some((index - at, (*seconds)?))).next();
        let more = || self.steps[index..].iter().flatten().next().copied();
        fewer.map(|(less, seconds)| seconds * (1.0 + ASSUMED_SHARE * less as f64)).or_else(more)
    }

    /// Seconds for computing so many known tokens, if anything was measured.
    pub(crate) fn known(&self, rows: usize) -> Option<f64> {
        Some(rows as f64 * self.known_row.or_else(|| self.guesses(1))?)
    }

    /// How many known tokens can be computed in about so many seconds, if that was measured.
    pub(crate) fn known_rows(&self, seconds: f64) -> Option<usize> {
        Some((seconds / self.known_row?) as usize)
    }

    /// So many seconds passed in which answers were computed.
    pub(crate) fn earn(&mut self, seconds: f64) {
        self.allowance += SHARE_FOR_TRIES * seconds;
    }

    /// True if a try may be made that takes so many seconds. What was saved up for longer is forgotten then, so that tries
    /// never follow each other closely.
    pub(crate) fn allows(&mut self, seconds: f64) -> bool {
        let allowed = self.allowance >= seconds;
        if allowed {
            self.allowance = seconds;
        }
        allowed
    }

    /// A try took so many seconds.
    pub(crate) fn spend(&mut self, seconds: f64) {
        self.allowance -= seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_estimated_by_the_nearest_measured_one() {
        let mut cost = DraftCost::default();
        assert_eq!((cost.guesses(1), cost.known(10), cost.known_rows(1.0)), (None, None, None));
        cost.note_guesses(2, 0.010);
        assert_eq!((cost.guesses(1), cost.guesses(2)), (Some(0.010), Some(0.010)));
        assert!(cost.guesses(4).is_some_and(|seconds| (seconds - 0.012).abs() < 1e-9));
        cost.note_guesses(2, 1.0);
        assert!(cost.guesses(2).is_some_and(|seconds| seconds < 0.012), "an interrupted step");
        cost.note_known(100, 0.1);
        assert!(cost.known(10).is_some_and(|seconds| (seconds - 0.01).abs() < 1e-9));
        assert_eq!(cost.known_rows(0.0505), Some(50));
        cost.note_guesses(0, 1.0);
        cost.note_guesses(9, 1.0);
        assert!(cost.guesses(100).is_some_and(|seconds| seconds < 0.02));
    }

    #[test]
    fn tries_take_their_share_of_the_time() {
        let mut cost = DraftCost::default();
        let (mut tries, mut spent) = (0, 0.0);
        for _ in 0..10_000 {
            cost.earn(0.1);
            if cost.allows(0.02) {
                cost.spend(0.02);
                tries += 1;
                spent += 0.02;
            }
        }
        assert!((490..=500).contains(&tries), "{tries}");
        assert!(spent <= 0.01 * 1000.0);
        // Nothing is saved up for many tries at once.
        cost.earn(1e6);
        assert!(cost.allows(0.02));
        cost.spend(0.02);
        assert!(!cost.allows(0.02));
    }
}
