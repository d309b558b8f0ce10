//! What a configuration must satisfy before anything is computed.

use super::{Configuration, ConfigurationError};

/// A learning rate above this moves weights by more than their own size in one step.
const MOST_LEARNING_RATE: f64 = 10.0;
/// Rows of one pass; more would overflow sums of sizes long before memory ends.
const MOST_TOKENS_OF_A_PASS: usize = 1 << 24;

fn out_of_range(key: &str, problem: String) -> ConfigurationError {
    ConfigurationError::OutOfRange { key: key.to_owned(), problem }
}

impl Configuration {
    /// Checks that all settings are possible and fit together.
    ///
    /// # Errors
    /// [`ConfigurationError::OutOfRange`] names the first setting that does not.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        self.model_config()
            .check()
            .map_err(|problem| out_of_range("model", format!("is impossible: {problem}")))?;
        self.check_experts()?;
        self.check_batch()?;
        self.check_numbers()?;
        let schedule = &self.schedule;
        if schedule.steps == 0 {
            return Err(out_of_range("schedule.steps", "must be at least 1".to_owned()));
        }
        if schedule.warmup_steps > schedule.steps {
            let problem =
                format!("is {}, more than the {} steps of the run", schedule.warmup_steps, schedule.steps);
            return Err(out_of_range("schedule.warmup_steps", problem));
        }
        if self.intervals.keep == 0 {
            return Err(out_of_range("intervals.keep", "must be at least 1".to_owned()));
        }
        if self.faults.spike_deviations > 0.0 && self.faults.spike_window < 8 {
            let problem = format!("must be at least 8, found {}", self.faults.spike_window);
            return Err(out_of_range("faults.spike_window", problem));
        }
        if self.faults.most_in_a_row == 0 {
            return Err(out_of_range("faults.most_in_a_row", "must be at least 1".to_owned()));
        }
        Ok(())
    }

    fn check_experts(&self) -> Result<(), ConfigurationError> {
        let model = &self.model;
        if model.experts > 0 {
            return Ok(());
        }
        for (key, value) in [
            ("model.active_experts", model.active_experts),
            ("model.expert_intermediate_size", model.expert_intermediate_size),
        ] {
            if value > 0 {
                let problem = format!("is {value}, but model.experts is 0: say how many experts there are");
                return Err(out_of_range(key, problem));
            }
        }
        Ok(())
    }

    fn check_batch(&self) -> Result<(), ConfigurationError> {
        let (batch, length) = (&self.batch, self.data.sequence_length);
        if !batch.micro_batches.is_power_of_two() || batch.micro_batches > 1 << 20 {
            let problem = format!(
                "must be a power of two up to 2^20, found {}: gradients are summed by a binary tree",
                batch.micro_batches
            );
            return Err(out_of_range("batch.micro_batches", problem));
        }
        if length < 2 {
            return Err(out_of_range("data.sequence_length", format!("must be at least 2, found {length}")));
        }
        if batch.sequences == 0 || batch.sequences.saturating_mul(length) > MOST_TOKENS_OF_A_PASS {
            let problem = format!(
                "must be 1 to {} at {length} tokens a sequence, found {}; more is what micro_batches are for",
                (MOST_TOKENS_OF_A_PASS / length).max(1),
                batch.sequences
            );
            return Err(out_of_range("batch.sequences", problem));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ConfigurationError> {
        let optimiser = &self.optimiser;
        let below_one = 1.0 - f64::EPSILON;
        for (key, value, least, most) in [
            ("data.validation_share", self.data.validation_share, 0.0, 0.5),
            ("optimiser.learning_rate", optimiser.learning_rate, 0.0, MOST_LEARNING_RATE),
            ("optimiser.embedding_learning_rate", optimiser.embedding_learning_rate, 0.0, MOST_LEARNING_RATE),
            ("optimiser.muon_learning_rate", optimiser.muon_learning_rate, 0.0, MOST_LEARNING_RATE),
            ("optimiser.weight_decay", optimiser.weight_decay, 0.0, MOST_LEARNING_RATE),
            ("optimiser.beta1", optimiser.beta1, 0.0, below_one),
            ("optimiser.beta2", optimiser.beta2, 0.0, below_one),
            ("optimiser.epsilon", optimiser.epsilon, 1e-30, 1.0),
            ("optimiser.momentum", optimiser.momentum, 0.0, below_one),
            ("optimiser.clip", optimiser.clip, 0.0, 1e30),
            ("optimiser.average_decay", optimiser.average_decay, 0.0, below_one),
            ("schedule.decay_share", self.schedule.decay_share, 0.0, 1.0),
            ("schedule.final_share", self.schedule.final_share, 0.0, 1.0),
            ("loss.z_loss", self.loss.z_loss, 0.0, 1.0),
            ("loss.balance", self.loss.balance, 0.0, 10.0),
            ("faults.spike_deviations", self.faults.spike_deviations, 0.0, 1e6),
        ] {
            if !(least..=most).contains(&value) {
                return Err(out_of_range(key, format!("must lie between {least} and {most}, found {value}")));
            }
        }
        Ok(())
    }
}
