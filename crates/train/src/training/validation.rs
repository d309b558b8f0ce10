//! The loss on documents that are never trained on.

use super::Trainer;
use crate::error::TrainError;
use crate::metrics::ValidationMetrics;
use crate::sequences::Rows;

impl Trainer {
    /// Scores the validation sequences (the same ones at every time); `None` when there are none.
    ///
    /// # Errors
    /// What the data or the learner report.
    pub fn validate(&mut self) -> Result<Option<ValidationMetrics>, TrainError> {
        let most = self.configuration.intervals.validation_sequences;
        let count = self.setup.source.validation_sequences().min(most);
        let together = self.configuration.batch.sequences as u64;
        let (mut loss, mut targets, mut bytes) = (0.0, 0, 0);
        for start in (0..count).step_by(together.max(1) as usize) {
            let mut rows = Rows::default();
            for index in start..count.min(start + together) {
                rows.push(self.setup.source.validation_sequence(index)?);
            }
            let scores = self.learner.score(&self.model.weights, &rows.batch())?;
            let scored = scores.iter().zip(&rows.targets).filter(|(_, target)| target.is_some());
            loss -= scored.map(|(score, _)| f64::from(score.log_probability)).sum::<f64>();
            targets += rows.target_count();
            bytes += rows.bytes;
        }
        if targets == 0 {
            return Ok(None);
        }
        Ok(Some(ValidationMetrics {
            step: self.state.step,
            loss: loss / targets as f64,
            bits_per_byte: loss / std::f64::consts::LN_2 / bytes.max(1) as f64,
            targets,
            bytes,
        }))
    }
}
