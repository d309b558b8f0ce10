//! What a run tells about itself while it trains, and who listens: files, the terminal, the report.
//!
//! The loop sends each [`Event`] to every [`Observer`]. Events of one step come in this order: step, validation, samples, notes, checkpoint.

mod error;
mod json_lines;
mod number;
mod plain;
mod tensorboard;

pub use error::MetricsError;
pub use json_lines::{JsonLines, ReadEvents, Resumption, SyncPolicy, read_events};
pub use plain::{PlainLines, Progress, duration_text, measures_text, quantity_text};
pub use tensorboard::TensorBoard;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Energy that was used, and whether a counter of the machine said so.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// Joules.
    #[serde(with = "number")]
    pub joules: f64,
    /// `true`: read from the processor's counters; `false`: assumed watts times seconds.
    pub measured: bool,
}

/// What the routers of a model with experts did in a step, over all of its targets.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RouterMetrics {
    /// The load of the busiest expert as a multiple of the mean, in the layer where that is greatest; 1 is perfect balance.
    #[serde(with = "number")]
    pub imbalance: f64,
    /// Mean over layers of E · Σ f_e · p_e, with the shares of this step; 1 where all experts are equally busy.
    #[serde(with = "number")]
    pub balance: f64,
    /// Mean entropy of the routers' probabilities, in nats; ln E when they do not care.
    #[serde(with = "number")]
    pub entropy: f64,
    /// For each layer with experts, each one's share of the choices.
    pub shares: Vec<Vec<f64>>,
}

/// What the ranks of a run exchanged in a step.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct NetworkUse {
    /// Bytes that the first rank sent.
    pub bytes_sent: u64,
    /// Seconds in which the first rank computed nothing because it exchanged something.
    #[serde(with = "number")]
    pub waited_seconds: f64,
}

/// One step of the optimiser.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct StepMetrics {
    /// Number of this step; the first is 1.
    pub step: u64,
    /// Tokens that the run has read so far, this step's included.
    pub tokens: u64,
    /// Cross-entropy in nats per target of this step's batch.
    #[serde(with = "number")]
    pub loss: f64,
    /// What the z-loss adds to the loss that is differentiated, per target; 0 without z-loss.
    #[serde(with = "number")]
    pub z_loss: f64,
    /// Euclidean norm of the whole gradient before clipping.
    #[serde(with = "number")]
    pub gradient_norm: f64,
    /// Whether the gradient was scaled down to the largest norm allowed.
    pub clipped: bool,
    /// Learning rate of this step (of the matrices, where groups have different ones).
    #[serde(with = "number")]
    pub learning_rate: f64,
    /// Seconds that this step took.
    #[serde(with = "number")]
    pub seconds: f64,
    /// Tokens per second of this step.
    #[serde(with = "number")]
    pub tokens_per_second: f64,
    /// Floating-point operations of this step by the model's formula (recomputation not counted).
    #[serde(with = "number")]
    pub model_flops: f64,
    /// `model_flops / seconds` as a fraction of the machine's measured peak, where that is known.
    pub peak_fraction: Option<f64>,
    /// Resident memory of the process in bytes, where the system tells it.
    pub resident_bytes: Option<u64>,
    /// Energy of this step.
    pub energy: Option<Energy>,
    /// What several ranks exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkUse>,
    /// Targets in this step's batch: what the loss is divided by.
    pub targets: u64,
    /// The routers, in a model with experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routers: Option<RouterMetrics>,
    /// What else the method measures in each step, by name: a reward, a divergence, a share of clipped tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "number::map")]
    pub measures: BTreeMap<String, f64>,
    /// Why the weights did not change in this step, if they did not.
    pub skipped: Option<String>,
}

/// A pass over the validation split.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ValidationMetrics {
    /// The last step before it.
    pub step: u64,
    /// Cross-entropy in nats per target.
    #[serde(with = "number")]
    pub loss: f64,
    /// Bits per byte of text: comparable between tokenizers.
    #[serde(with = "number")]
    pub bits_per_byte: f64,
    /// Targets that were scored.
    pub targets: u64,
    /// Bytes of text that these targets are.
    pub bytes: u64,
}

/// What a method measures on examples that it does not train on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct HeldOutMetrics {
    /// The last step before it.
    pub step: u64,
    /// How many examples were measured.
    pub examples: u64,
    /// The means over them, by name; `loss` is the method's loss, if it has one for given answers.
    #[serde(with = "number::map")]
    pub measures: BTreeMap<String, f64>,
}

/// Text that the model wrote.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SampleText {
    /// The last step before it.
    pub step: u64,
    /// What it was given.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
}

/// Something that happened in a run.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The optimiser made a step.
    Step(StepMetrics),
    /// The validation split was scored.
    Validation(ValidationMetrics),
    /// Examples that are not trained on were measured.
    HeldOut(HeldOutMetrics),
    /// The model wrote a sample.
    Sample(SampleText),
    /// A checkpoint is whole on disk.
    Checkpoint {
        /// The last step that it contains.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// Something a reader of the log should know: a batch skipped, a corrupted checkpoint passed over …
    Note {
        /// The last step before it.
        step: u64,
        /// What happened, as a sentence.
        text: String,
    },
}

impl Event {
    /// The step that it belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(metrics) => metrics.step,
            Self::Validation(metrics) => metrics.step,
            Self::HeldOut(metrics) => metrics.step,
            Self::Sample(sample) => sample.step,
            Self::Checkpoint { step, .. } | Self::Note { step, .. } => *step,
        }
    }

    /// The event without what depends on the clock and the machine. Of two runs with the same configuration and data,
    /// one of them killed and resumed, these are equal.
    #[must_use]
    pub fn reproducible(&self) -> Self {
        let mut event = self.clone();
        if let Self::Step(metrics) = &mut event {
            metrics.seconds = 0.0;
            metrics.tokens_per_second = 0.0;
            metrics.peak_fraction = None;
            metrics.resident_bytes = None;
            metrics.energy = None;
            metrics.network = None;
        }
        event
    }
}

/// Listens to a run.
pub trait Observer: Send {
    /// Takes an event.
    ///
    /// # Errors
    /// [`MetricsError`] when it cannot be written; what was written before stays readable.
    fn event(&mut self, event: &Event) -> Result<(), MetricsError>;

    /// Puts everything that it has taken on disk. The loop calls it before a checkpoint becomes visible, so that no checkpoint
    /// is ever newer than the log, and at the end.
    ///
    /// # Errors
    /// [`MetricsError`] when it cannot be written.
    fn flush(&mut self) -> Result<(), MetricsError> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn step(step: u64, loss: f64) -> Event {
        Event::Step(StepMetrics {
            step,
            tokens: step * 4096,
            loss,
            z_loss: 0.0,
            gradient_norm: 1.25,
            clipped: true,
            learning_rate: 6e-4,
            seconds: 0.5,
            tokens_per_second: 8192.0,
            model_flops: 1e11,
            peak_fraction: Some(0.57),
            resident_bytes: Some(500 << 20),
            energy: Some(Energy { joules: 12.5, measured: false }),
            network: Some(NetworkUse { bytes_sent: 1 << 20, waited_seconds: 0.25 }),
            targets: 4090,
            routers: None,
            measures: BTreeMap::new(),
            skipped: None,
        })
    }

    #[test]
    fn every_event_survives_json() {
        let events = [
            step(3, 5.5),
            step(4, f64::NAN),
            step(5, f64::NEG_INFINITY),
            Event::Validation(ValidationMetrics {
                step: 3,
                loss: 4.0,
                bits_per_byte: 1.9,
                targets: 100,
                bytes: 300,
            }),
            Event::HeldOut(HeldOutMetrics {
                step: 3,
                examples: 20,
                measures: BTreeMap::from([("loss".to_owned(), f64::INFINITY), ("kl".to_owned(), f64::NAN)]),
            }),
            Event::Sample(SampleText {
                step: 3, prompt: "床前".into(), text: "明月光\n\u{1b}[31m".into()
            }),
            Event::Checkpoint { step: 3, path: "checkpoints/step-00000003".into() },
            Event::Note { step: 3, text: "a batch was skipped".into() },
        ];
        for event in events {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'), "one line: {line}");
            let read: Event = serde_json::from_str(&line).unwrap();
            // Debug text, because a NaN is not equal to itself.
            assert_eq!(format!("{read:?}"), format!("{event:?}"));
        }
    }

    #[test]
    fn the_reproducible_part_has_no_clock() {
        let (Event::Step(mut slow), fast) = (step(3, 5.5), step(3, 5.5)) else { unreachable!() };
        slow.seconds = 9.0;
        slow.tokens_per_second = 3.0;
        slow.resident_bytes = None;
        slow.peak_fraction = Some(0.1);
        slow.energy = None;
        assert_eq!(Event::Step(slow).reproducible(), fast.reproducible());
        assert_ne!(step(3, 5.5).reproducible(), step(3, 5.6).reproducible());
    }
}
