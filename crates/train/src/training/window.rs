//! The latest losses and gradient norms, and whether new ones leap out of them: the skip-step rule of OLMo (Ai2, OLMo-core).

use std::collections::VecDeque;

use crate::configuration::FaultSection;

/// Losses and gradient norms of the latest steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    deviations: f64,
    length: usize,
    values: VecDeque<[f64; 2]>,
}

impl Window {
    pub(super) fn new(faults: &FaultSection) -> Window {
        Window { deviations: faults.spike_deviations, length: faults.spike_window, values: VecDeque::new() }
    }

    pub(super) fn to_bits(&self) -> Vec<[u64; 2]> {
        self.values.iter().map(|values| values.map(f64::to_bits)).collect()
    }

    pub(super) fn restore(&mut self, bits: &[[u64; 2]]) {
        self.values = bits.iter().map(|bits| bits.map(f64::from_bits)).collect();
    }

    /// Remembers a step's finite numbers.
    pub(super) fn push(&mut self, loss: f64, norm: f64) {
        if !(loss.is_finite() && norm.is_finite()) {
            return;
        }
        if self.values.len() >= self.length {
            self.values.pop_front();
        }
        self.values.push_back([loss, norm]);
    }

    /// What leaps, as a sentence. Nothing does before half of the window is filled.
    pub(super) fn leap(&self, loss: f64, norm: f64) -> Option<String> {
        if self.deviations <= 0.0 || self.values.len() < (self.length / 2).max(2) {
            return None;
        }
        for (index, (what, value)) in [("loss", loss), ("gradient norm", norm)].into_iter().enumerate() {
            let count = self.values.len() as f64;
            let mean = self.values.iter().map(|values| values[index]).sum::<f64>() / count;
            let squares = self.values.iter().map(|values| (values[index] - mean).powi(2)).sum::<f64>();
            let deviation = (squares / (count - 1.0)).sqrt();
            if value > mean + self.deviations * deviation {
                return Some(format!(
                    "the {what} leapt to {value:.4}, more than {} standard deviations ({deviation:.4}) over {mean:.4}, \
                     the mean of the last {count} steps",
                    self.deviations
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window { deviations: 6.0, length: 8, values: VecDeque::new() }
    }

    #[test]
    fn six_deviations_over_the_mean_are_a_leap_once_half_of_the_window_is_filled() {
        let mut window = window();
        for step in 0..3 {
            window.push(2.0 + 0.1 * f64::from(step % 2), 1.0);
            assert_eq!(window.leap(1e9, 1e9), None);
        }
        window.push(2.1, 1.0 + 1e-9);
        assert_eq!(window.leap(2.2, 1.0), None);
        let loss = window.leap(2.5, 1.0).expect("mean 2.05, deviation 0.058");
        assert!(loss.contains("loss leapt to 2.5000"), "{loss}");
        assert!(window.leap(2.0, 1.1).expect("the norm was constant").contains("gradient norm"));
    }

    #[test]
    fn the_window_moves_forgets_and_is_restored_bit_by_bit() {
        let mut moved = window();
        for step in 0..20 {
            moved.push(f64::from(step), 0.1 * f64::from(step));
        }
        moved.push(f64::NAN, 1.0);
        assert_eq!(moved.values.len(), 8);
        assert_eq!(moved.values[0][0], 12.0);
        let mut restored = window();
        restored.restore(&moved.to_bits());
        assert_eq!(restored, moved);
        let off = Window { deviations: 0.0, ..moved };
        assert_eq!(off.leap(1e9, 1e9), None);
    }
}
