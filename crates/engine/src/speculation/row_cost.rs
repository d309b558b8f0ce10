//! What a row of a draft costs on this machine, by measured time.

/// Steps with more answers than this hold no drafts.
const MOST_ANSWERS: usize = 8;
/// A row's share of a step that holds one answer, before anything is measured.
const ASSUMED_SHARE: f64 = 0.1;
const WEIGHT_OF_LATEST: f64 = 1.0 / 8.0;
/// How fast a measured cost decays while no drafts are tried: the machine may have become faster.
const FORGETTING: f64 = 1.0 / 512.0;

/// After so many steps with drafts, one without shows whether they still pay.
const MEASURE_AGAIN_AFTER: u32 = 64;
/// Of the first step since then.
const WEIGHT_AFTER_LONG: f64 = 0.3;
/// Fewer steps without drafts say little: the first ones are often slow.
const LEAST_MEASURED: u32 = 4;

/// Measured times of steps that hold answers only.
#[derive(Debug, Default)]
pub(crate) struct RowCost {
    /// Steps without drafts, by their answers less one.
    plain: [Plain; MOST_ANSWERS],
    /// Seconds that a draft's row adds.
    row: Option<f64>,
}

/// Steps without drafts with so many answers.
#[derive(Clone, Copy, Debug, Default)]
struct Plain {
    seconds: Option<f64>,
    measured: u32,
    /// Steps with drafts since the latest of them.
    drafted_since: u32,
}

impl Plain {
    fn note(&mut self, seconds: f64) -> f64 {
        let weight =
            if self.drafted_since >= MEASURE_AGAIN_AFTER { WEIGHT_AFTER_LONG } else { WEIGHT_OF_LATEST };
        // The time of an interrupted step says little about the next one.
        let latest = self.seconds.map_or(seconds, |plain| seconds.min(2.0 * plain));
        let average = self.seconds.map_or(latest, |plain| plain + weight * (latest - plain));
        *self = Plain { seconds: Some(average), measured: self.measured.saturating_add(1), drafted_since: 0 };
        average
    }
}

impl RowCost {
    /// Records a step with so many answers and rows of drafts.
    pub(crate) fn note(&mut self, answers: usize, draft_rows: usize, seconds: f64) {
        let Some(plain) = answers.checked_sub(1).and_then(|index| self.plain.get_mut(index)) else { return };
        if draft_rows == 0 {
            let average = plain.note(seconds);
            if let Some(row) = &mut self.row {
                *row += FORGETTING * (ASSUMED_SHARE * average - *row);
            }
            return;
        }
        plain.drafted_since = plain.drafted_since.saturating_add(1);
        if let Some(plain) = plain.seconds {
            let latest = ((seconds - plain) / draft_rows as f64).clamp(0.0, plain);
            let row = self.row.unwrap_or(ASSUMED_SHARE * plain);
            self.row = Some(row + WEIGHT_OF_LATEST * (latest - row));
        }
    }

    /// True if too little is known of steps without drafts, with so many answers, to say whether a draft model pays.
    pub(crate) fn should_measure(&self, answers: usize) -> bool {
        let plain = answers.checked_sub(1).and_then(|index| self.plain.get(index));
        plain.is_some_and(|plain| {
            plain.measured < LEAST_MEASURED || plain.drafted_since >= MEASURE_AGAIN_AFTER
        })
    }

    /// Seconds of a step without drafts, with so many answers, if one was measured.
    pub(crate) fn plain(&self, answers: usize) -> Option<f64> {
        let plain = answers.checked_sub(1).and_then(|index| self.plain.get(index))?;
        plain.seconds.filter(|seconds| *seconds > 0.0)
    }

    /// The time that a draft's row adds to a step with so many answers, as a share of that step.
    pub(crate) fn share(&self, answers: usize) -> f64 {
        const LEAST: f64 = 0.01;
        match (self.plain(answers), self.row) {
            (Some(plain), Some(row)) => (row / plain).clamp(LEAST, 1.0),
            _ => ASSUMED_SHARE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_was_measured() {
        let mut cost = RowCost::default();
        assert_eq!(cost.share(1), ASSUMED_SHARE);
        cost.note(1, 3, 0.009);
        assert_eq!(cost.share(1), ASSUMED_SHARE, "without a step to compare with");
        for _ in 0..100 {
            cost.note(1, 0, 0.004);
            cost.note(1, 4, 0.012);
        }
        assert!((cost.share(1) - 0.5).abs() < 0.01, "{}", cost.share(1));
        cost.note(2, 0, 0.008);
        assert!((cost.share(2) - 0.25).abs() < 0.01, "{}", cost.share(2));
        for _ in 0..3000 {
            cost.note(1, 0, 0.004);
        }
        assert!((cost.share(1) - ASSUMED_SHARE).abs() < 0.01, "{}", cost.share(1));
    }

    #[test]
    fn one_interrupted_step_does_not_count_for_many() {
        let mut cost = RowCost::default();
        for _ in 0..10 {
            cost.note(1, 0, 0.004);
        }
        cost.note(1, 0, 4.0);
        assert!(cost.plain(1).is_some_and(|plain| plain < 0.005));
        cost.note(1, 1, 4.0);
        assert!(cost.share(1) < 0.25);
        cost.note(0, 0, 1.0);
        cost.note(9, 1, 1.0);
        assert_eq!(cost.share(9), ASSUMED_SHARE);
    }

    #[test]
    fn steps_without_drafts_are_measured_at_first_and_again_after_many_with_drafts() {
        let mut cost = RowCost::default();
        for _ in 0..LEAST_MEASURED {
            assert!(cost.should_measure(2));
            cost.note(2, 0, 0.008);
        }
        assert!(cost.should_measure(1) && !cost.should_measure(2) && !cost.should_measure(9));
        for _ in 0..MEASURE_AGAIN_AFTER {
            assert!(!cost.should_measure(2));
            cost.note(2, 3, 0.010);
        }
        assert!(cost.should_measure(2));
        cost.note(2, 0, 0.004);
        assert!(!cost.should_measure(2));
        assert!(cost.plain(2).is_some_and(|plain| plain < 0.007), "the machine has become faster");
    }
}
