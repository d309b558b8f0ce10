//! What the dashboard knows of a run.

use zhenjin_train::metrics::{Event, Progress, SampleText, StepMetrics, ValidationMetrics, measures_text};
use zhenjin_train::plan::Prices;

/// Points of the curve that are kept; when there are more, every other one goes.
const MOST_POINTS: usize = 2000;

pub(super) struct State {
    pub(super) name: String,
    pub(super) progress: Progress,
    /// Training loss: step and value, finite ones only.
    pub(super) losses: Vec<(f64, f64)>,
    pub(super) validation_losses: Vec<(f64, f64)>,
    pub(super) step: Option<StepMetrics>,
    pub(super) validation: Option<ValidationMetrics>,
    /// Those of the newest step that has some.
    pub(super) samples: Vec<SampleText>,
    pub(super) note: Option<String>,
    pub(super) joules: f64,
    pub(super) is_energy_measured: bool,
    pub(super) seconds: f64,
    pub(super) prices: Prices,
    /// Every so many steps one is kept for the curve.
    every: u64,
}

impl State {
    pub(super) fn new(name: String, total_steps: u64, prices: Prices) -> State {
        State {
            name,
            progress: Progress::new(total_steps),
            losses: Vec::new(),
            validation_losses: Vec::new(),
            step: None,
            validation: None,
            samples: Vec::new(),
            note: None,
            joules: 0.0,
            is_energy_measured: true,
            seconds: 0.0,
            prices,
            every: 1,
        }
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Step(metrics) => self.take_step(metrics),
            Event::Validation(metrics) => {
                if metrics.loss.is_finite() {
                    self.validation_losses.push((metrics.step as f64, metrics.loss));
                }
                self.validation = Some(metrics.clone());
            }
            Event::HeldOut(metrics) => {
                if let Some(loss) = metrics.measures.get("loss").filter(|loss| loss.is_finite()) {
                    self.validation_losses.push((metrics.step as f64, *loss));
                }
                self.note =
                    Some(format!("step {}: held out: {}", metrics.step, measures_text(&metrics.measures)));
            }
            Event::Sample(sample) => {
                self.samples.retain(|shown| shown.step == sample.step);
                self.samples.push(sample.clone());
            }
            Event::Checkpoint { step, .. } => self.note = Some(format!("step {step}: saved")),
            Event::Note { step, text } => self.note = Some(format!("step {step}: {text}")),
        }
    }

    fn take_step(&mut self, metrics: &StepMetrics) {
        self.progress.add(metrics);
        self.seconds += metrics.seconds;
        if let Some(energy) = metrics.energy {
            self.joules += energy.joules;
            self.is_energy_measured &= energy.measured;
        }
        if metrics.loss.is_finite() && metrics.step.is_multiple_of(self.every) {
            self.losses.push((metrics.step as f64, metrics.loss));
            if self.losses.len() > MOST_POINTS {
                self.every *= 2;
                let every = self.every;
                self.losses.retain(|(step, _)| (*step as u64).is_multiple_of(every));
            }
        }
        self.step = Some(metrics.clone());
    }

    /// The price so far.
    pub(super) fn price(&self) -> f64 {
        self.prices.of(self.joules, self.seconds)
    }
}
