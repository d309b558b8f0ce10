//! Progress as plain lines, for logs and for terminals that cannot be drawn on.

use super::{Event, MetricsError, Observer, StepMetrics};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

/// How far a run is and how long the rest takes, from the steps seen so far.
#[derive(Clone, Debug)]
pub struct Progress {
    total_steps: u64,
    step: u64,
    /// Moving average of the seconds per step, each step weighing a twentieth.
    seconds_per_step: Option<f64>,
}

impl Progress {
    /// A run of `total_steps` steps of which none has been seen.
    pub fn new(total_steps: u64) -> Self {
        Self { total_steps, step: 0, seconds_per_step: None }
    }

    /// Takes a step into account.
    pub fn add(&mut self, metrics: &StepMetrics) {
        self.step = metrics.step;
        if metrics.seconds.is_finite() {
            let before = self.seconds_per_step.unwrap_or(metrics.seconds);
            self.seconds_per_step = Some(before + (metrics.seconds - before) / 20.0);
        }
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Fraction of the steps that are done, 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.total_steps == 0 { 1.0 } else { (self.step as f64 / self.total_steps as f64).min(1.0) }
    }

    /// Seconds until the last step, if a step has been seen.
    pub fn seconds_left(&self) -> Option<f64> {
        Some(self.seconds_per_step? * self.total_steps.saturating_sub(self.step) as f64)
    }
}

/// Writes a line for every event, and for steps only every so often.
pub struct PlainLines<W> {
    output: W,
    every: u64,
    progress: Progress,
}

impl<W: Write + Send> PlainLines<W> {
    /// Lines for every `every`-th step (at least the first and the last) of `total_steps`, and for all other events.
    pub fn new(output: W, total_steps: u64, every: u64) -> Self {
        Self { output, every: every.max(1), progress: Progress::new(total_steps) }
    }

    fn line(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Step(metrics) => {
                self.progress.add(metrics);
                let is_shown = metrics.step % self.every == 0
                    || metrics.step == 1
                    || metrics.step == self.progress.total_steps
                    || metrics.skipped.is_some();
                is_shown.then(|| step_line(metrics, &self.progress))
            }
            Event::Validation(metrics) => Some(format!(
                "step {}: validation loss {:.4}, {:.4} bits per byte",
                metrics.step, metrics.loss, metrics.bits_per_byte
            )),
            Event::HeldOut(metrics) => Some(format!(
                "step {}: {} held-out examples: {}",
                metrics.step,
                metrics.examples,
                measures_text(&metrics.measures)
            )),
            Event::Sample(sample) => {
                Some(format!("step {}: sample: {}", sample.step, one_line(&sample.prompt, &sample.text)))
            }
            Event::Checkpoint { step, path } => Some(format!("step {step}: saved {}", path.display())),
            Event::Note { step, text } => Some(format!("step {step}: {text}")),
        }
    }
}

impl<W: Write + Send> Observer for PlainLines<W> {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        let Some(line) = self.line(event) else { return Ok(()) };
        writeln!(self.output, "{line}").and_then(|()| self.output.flush()).map_err(MetricsError::Progress)
    }
}

fn step_line(metrics: &StepMetrics, progress: &Progress) -> String {
    let mut line = format!(
        "step {}/{}: loss {:.4}, learning rate {:.2e}, gradient norm {:.3}{}, {} tokens/s",
        metrics.step,
        progress.total_steps,
        metrics.loss,
        metrics.learning_rate,
        metrics.gradient_norm,
        if metrics.clipped { " (clipped)" } else { "" },
        quantity_text(metrics.tokens_per_second),
    );
    // Writing to a String cannot fail.
    if let Some(fraction) = metrics.peak_fraction {
        let _ = write!(line, ", {:.0} % of peak", fraction * 100.0);
    }
    if let Some(routers) = &metrics.routers {
        let _ = write!(line, ", busiest expert {:.2} × the mean", routers.imbalance);
    }
    if !metrics.measures.is_empty() {
        let _ = write!(line, ", {}", measures_text(&metrics.measures));
    }
    if let Some(seconds) = progress.seconds_left() {
        let _ = write!(line, ", {} left", duration_text(seconds));
    }
    if let Some(reason) = &metrics.skipped {
        let _ = write!(line, "; weights unchanged: {reason}");
    }
    line
}

/// Measures by their names, with as many digits as tell them apart.
pub fn measures_text(measures: &BTreeMap<String, f64>) -> String {
    let text = |(name, value): (&String, &f64)| match value.abs() {
        0.001..100.0 => format!("{name} {value:.4}"),
        100.0..1e6 => format!("{name} {value:.1}"),
        0.0 => format!("{name} 0"),
        _ => format!("{name} {value:.2e}"),
    };
    measures.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A sample without line breaks and control characters: a model's text must not steer the terminal.
fn one_line(prompt: &str, text: &str) -> String {
    let clean = |text: &str| -> String {
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    };
    format!("[{}] {}", clean(prompt), clean(text))
}

/// A duration as people say it: `42 s`, `12 min`, `3 h 20 min`, `12 days`.
pub fn duration_text(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown time".to_owned();
    }
    let minutes = (seconds / 60.0).round();
    let hours = (minutes / 60.0).floor();
    match seconds {
        seconds if seconds < 9.95 => format!("{seconds:.1} s"),
        seconds if seconds < 119.5 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{minutes:.0} min"),
        seconds if seconds < 172_800.0 => format!("{hours:.0} h {:.0} min", minutes - 60.0 * hours),
        seconds if seconds < 730.0 * 86_400.0 => format!("{:.1} days", seconds / 86_400.0),
        seconds => format!("{} years", quantity_text(seconds / 86_400.0 / 365.25)),
    }
}

/// A quantity with three or four digits and a unit prefix: `870`, `12.3 k`, `1.02 M`, `314 Z`.
pub fn quantity_text(value: f64) -> String {
    const PREFIXES: [&str; 9] = ["", " k", " M", " G", " T", " P", " E", " Z", " Y"];
    if !value.is_finite() {
        return value.to_string();
    }
    let (mut scaled, mut prefix) = (value, 0);
    while scaled.abs() >= 999.5 && prefix + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let digits = match scaled.abs() {
        magnitude if magnitude >= 99.95 || (prefix == 0 && magnitude == magnitude.round()) => 0,
        magnitude if magnitude >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{}", PREFIXES[prefix])
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::super::{SampleText, ValidationMetrics};
    use super::*;

    #[test]
    fn lines_say_what_happened_and_leave_steps_out() {
        let mut output = Vec::new();
        let mut lines = PlainLines::new(&mut output, 100, 10);
        for number in 1..=20 {
            lines.event(&step(number, 5.0)).unwrap();
        }
        let Event::Step(mut skipped) = step(21, f64::NAN) else { unreachable!() };
        skipped.skipped = Some("the loss is not a number".into());
        lines.event(&Event::Step(skipped)).unwrap();
        lines
            .event(&Event::Validation(ValidationMetrics {
                step: 21,
                loss: 4.0,
                bits_per_byte: 1.5,
                targets: 9,
                bytes: 30,
            }))
            .unwrap();
        let sample = SampleText { step: 21, prompt: "a".into(), text: "b\n\u{1b}[2Jc".into() };
        lines.event(&Event::Sample(sample)).unwrap();
        let text = String::from_utf8(output).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "step 1/100: loss 5.0000, learning rate 6.00e-4, gradient norm 1.250 (clipped), 8.19 k tokens/s, 57 % of peak, 50 s left",
                "step 10/100: loss 5.0000, learning rate 6.00e-4, gradient norm 1.250 (clipped), 8.19 k tokens/s, 57 % of peak, 45 s left",
                "step 20/100: loss 5.0000, learning rate 6.00e-4, gradient norm 1.250 (clipped), 8.19 k tokens/s, 57 % of peak, 40 s left",
                "step 21/100: loss NaN, learning rate 6.00e-4, gradient norm 1.250 (clipped), 8.19 k tokens/s, 57 % of peak, 40 s left; weights unchanged: the loss is not a number",
                "step 21: validation loss 4.0000, 1.5000 bits per byte",
                "step 21: sample: [a] b  [2Jc",
            ]
        );
    }

    #[test]
    fn durations_and_quantities_are_readable() {
        let durations = [0.5, 42.0, 119.6, 3_599.0, 12_000.0, 7_199.9, 864_000.0, 1e11, f64::NAN];
        assert_eq!(
            durations.map(duration_text),
            [
                "0.5 s",
                "42 s",
                "2 min",
                "60 min",
                "3 h 20 min",
                "120 min",
                "10.0 days",
                "3.17 k years",
                "unknown time"
            ]
        );
        let quantities = [0.0, 870.0, 12_345.0, 999_600.0, 3.14e23, 1.5];
        assert_eq!(quantities.map(quantity_text), ["0", "870", "12.3 k", "1.00 M", "314 Z", "1.50"]);
    }
}
