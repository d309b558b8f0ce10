//! How learning rates change over a run: a factor from 0 to 1 for every step, which all learning rates are multiplied with.

use crate::configuration::{ScheduleKind, ScheduleSection};

impl ScheduleSection {
    /// The factor of step `step`, counted from 0: it rises linearly over the warm-up (whose last step has the full rates), then
    /// follows the curve down to [`ScheduleSection::final_share`] at the last step. Steps behind the end have that as well.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let last = self.steps.saturating_sub(1);
        match self.kind {
            ScheduleKind::Wsd => {
                let falling = (self.decay_share * self.steps as f64).round() as u64;
                let first = self.steps.saturating_sub(falling).max(self.warmup_steps);
                self.between(progress(step, first, last))
            }
            ScheduleKind::Cosine => {
                let turned = std::f64::consts::PI * progress(step, self.warmup_steps, last);
                self.between((1.0 - turned.cos()) / 2.0)
            }
        }
    }

    /// 1 at `gone` 0, the final share at `gone` 1.
    fn between(&self, gone: f64) -> f64 {
        1.0 - (1.0 - self.final_share) * gone
    }
}

/// How far `step` is on the way from `first` (0) to `last` (1).
fn progress(step: u64, first: u64, last: u64) -> f64 {
    if step <= first {
        return if last <= first && step >= last { 1.0 } else { 0.0 };
    }
    ((step - first) as f64 / last.saturating_sub(first).max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: ScheduleKind) -> ScheduleSection {
        ScheduleSection { kind, steps: 100, warmup_steps: 10, decay_share: 0.4, final_share: 0.1 }
    }

    #[test]
    fn warm_up_rises_to_the_full_rate_and_the_last_step_has_the_final_share() {
        for kind in [ScheduleKind::Wsd, ScheduleKind::Cosine] {
            let section = section(kind);
            assert_eq!(section.factor(0), 0.1);
            assert_eq!(section.factor(9), 1.0);
            assert_eq!(section.factor(10), 1.0);
            assert!((section.factor(99) - 0.1).abs() < 1e-12);
            assert!((section.factor(5000) - 0.1).abs() < 1e-12);
            let falls = (10..99).all(|step| section.factor(step + 1) <= section.factor(step));
            assert!(falls, "{kind:?}");
        }
    }

    #[test]
    fn wsd_is_stable_then_linear_and_the_cosine_is_half_way_down_in_the_middle() {
        let wsd = section(ScheduleKind::Wsd);
        assert!((10..=60).all(|step| wsd.factor(step) == 1.0));
        let step = wsd.factor(61) - wsd.factor(62);
        assert!((step - 0.9 / 39.0).abs() < 1e-12, "{step}");
        let cosine = ScheduleSection { warmup_steps: 9, ..section(ScheduleKind::Cosine) };
        assert!((cosine.factor(54) - 0.55).abs() < 1e-12);
    }

    #[test]
    fn runs_of_one_step_and_without_warm_up_have_finite_rates() {
        for kind in [ScheduleKind::Wsd, ScheduleKind::Cosine] {
            for (steps, warmup_steps, decay_share) in [(1, 0, 0.4), (1, 1, 1.0), (2, 0, 0.0), (3, 3, 1.0)] {
                let section = ScheduleSection { kind, steps, warmup_steps, decay_share, final_share: 0.0 };
                for step in 0..steps + 2 {
                    let factor = section.factor(step);
                    assert!((0.0..=1.0).contains(&factor), "{kind:?} {steps} {step}: {factor}");
                }
            }
        }
    }
}
