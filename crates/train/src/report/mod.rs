//! A run as one page: curves, samples, data, cost, machine, configuration. The page asks nobody for anything and runs no script.

mod chart;
mod page;
mod words;

pub use words::Language;

use crate::metrics::{
    Event, HeldOutMetrics, ReadEvents, SampleText, StepMetrics, ValidationMetrics, duration_text,
    quantity_text,
};
use crate::plan::{Prices, bytes_text};
use chart::{Chart, Series};
use page::{document, escape, table};
use std::collections::BTreeSet;
use words::{Method, Words};

/// Samples that a report shows: those of the last step that has some, and the first of earlier ones.
const MOST_SAMPLES: usize = 12;

/// Where training texts come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSource {
    /// A name or an address.
    pub source: String,
    /// Under which licence.
    pub licence: String,
    /// Number of documents, if it is known.
    pub documents: Option<u64>,
    /// Number of tokens, if it is known.
    pub tokens: Option<u64>,
}

/// What a report is made of.
#[derive(Debug)]
pub struct ReportInput<'a> {
    /// The run's name.
    pub name: &'a str,
    /// Its log.
    pub log: &'a ReadEvents,
    /// The effective configuration, as text.
    pub configuration: &'a str,
    /// The data.
    pub data: &'a [DataSource],
    /// The machine that makes the report: names and values. The log does not say where the run was.
    pub machine: &'a [(String, String)],
    /// What energy and time cost. Watts count where they are known, and are otherwise those that the run had.
    pub prices: &'a Prices,
    /// Language of headings and labels.
    pub language: Language,
}

/// The report, as HTML.
pub fn report(input: &ReportInput<'_>) -> String {
    let words = input.language.words();
    let log = Log::of(input.log);
    let mut body = section(words.summary, &table(&summary(input, &log, words)));
    let curves = curves(&log, &Method::of(input.configuration), words);
    body += &section(words.curves, &format!("<div class=\"curves\">{curves}</div>\n"));
    if !log.samples.is_empty() {
        body += &section(words.samples, &samples(&log, words));
    }
    if !input.data.is_empty() {
        body += &section(words.data, &data(input.data, words));
    }
    if !log.notes.is_empty() {
        let rows: Vec<(String, String)> =
            log.notes.iter().map(|(step, text)| (format!("{} {step}", words.step), escape(text))).collect();
        body += &section(words.notes, &table(&rows));
    }
    let machine: Vec<(String, String)> =
        input.machine.iter().map(|(name, value)| (name.clone(), escape(value))).collect();
    body += &section(words.hardware, &table(&machine));
    body += &section(words.configuration, &format!("<pre>{}</pre>\n", escape(input.configuration)));
    document(words.tag, &format!("{}{}{}", words.title, words.colon, input.name), &body)
}

fn section(title: &str, contents: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{contents}</section>\n", escape(title))
}

/// A run's events by kind.
#[derive(Default)]
struct Log<'a> {
    steps: Vec<&'a StepMetrics>,
    validations: Vec<&'a ValidationMetrics>,
    held_out: Vec<&'a HeldOutMetrics>,
    samples: Vec<&'a SampleText>,
    notes: Vec<(u64, &'a str)>,
}

impl<'a> Log<'a> {
    fn of(read: &'a ReadEvents) -> Self {
        let mut log = Self::default();
        for event in &read.events {
            match event {
                Event::Step(metrics) => log.steps.push(metrics),
                Event::Validation(metrics) => log.validations.push(metrics),
                Event::HeldOut(metrics) => log.held_out.push(metrics),
                Event::Sample(sample) => log.samples.push(sample),
                Event::Note { step, text } => log.notes.push((*step, text)),
                Event::Checkpoint { .. } => {}
            }
        }
        log
    }
}

fn summary(input: &ReportInput<'_>, log: &Log<'_>, words: &Words) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), escape(&value)));
    let steps = &log.steps;
    let sum = |of: fn(&StepMetrics) -> f64| steps.iter().map(|metrics| of(metrics)).sum::<f64>();
    if let Some(last) = steps.last() {
        row(words.steps, last.step.to_string());
        row(words.tokens, quantity_text(last.tokens as f64));
    }
    let finite = |metrics: &&&ValidationMetrics| metrics.loss.is_finite();
    let best = log.validations.iter().filter(finite).min_by(|one, other| one.loss.total_cmp(&other.loss));
    if let Some(best) = best {
        let bits = format!("{:.4} bits/byte, {:.4} nats/token", best.bits_per_byte, best.loss);
        row(words.best, format!("{bits} ({} {})", words.step, best.step));
    }
    let (seconds, operations) = (sum(|metrics| metrics.seconds), sum(|metrics| metrics.model_flops));
    row(words.time, duration_text(seconds));
    row(words.operations, format!("{operations:.3e}"));
    let memory = steps.iter().filter_map(|metrics| metrics.resident_bytes).max();
    row(words.memory, memory.map_or_else(|| words.none.to_owned(), bytes_text));
    let none = || words.none.to_owned();
    let energy = energy(input.prices, steps, seconds, words);
    row(words.energy, energy.map_or_else(none, |(joules, how)| format!("{:.4} kWh ({how})", joules / 3.6e6)));
    let price = energy.map(|(joules, _)| input.prices.of(joules, seconds));
    let money = |price| crate::plan::money_text(price, &input.prices.currency);
    row(words.price, price.map_or_else(none, money));
    let skipped = steps.iter().filter(|metrics| metrics.skipped.is_some()).count();
    if skipped > 0 {
        row(words.skipped_steps, skipped.to_string());
    }
    if !input.log.broken_lines.is_empty() {
        row("metrics.jsonl", format!("{} {}", input.log.broken_lines.len(), words.unreadable_lines));
    }
    rows
}

/// The joules of all steps, and how they are known: by the watts that were given, else as the run's log says. Where it says nothing they are not
/// known: how many watts this machine may take says nothing of the one that trained.
fn energy(
    prices: &Prices,
    steps: &[&StepMetrics],
    seconds: f64,
    words: &Words,
) -> Option<(f64, &'static str)> {
    if prices.watts_known {
        return Some((prices.watts * seconds, words.energy_given));
    }
    let energies: Vec<_> = steps.iter().filter_map(|metrics| metrics.energy).collect();
    let is_measured = energies.iter().all(|energy| energy.measured);
    let how = if is_measured { words.energy_measured } else { words.energy_estimated };
    (!energies.is_empty()).then(|| (energies.iter().map(|energy| energy.joules).sum(), how))
}

fn curves(log: &Log<'_>, method: &Method, words: &Words) -> String {
    let steps = |of: &dyn Fn(&StepMetrics) -> Option<f64>| -> Vec<(f64, f64)> {
        log.steps.iter().filter_map(|metrics| Some((metrics.step as f64, of(metrics)?))).collect()
    };
    let validations = |of: fn(&ValidationMetrics) -> f64| -> Vec<(f64, f64)> {
        log.validations.iter().map(|metrics| (metrics.step as f64, of(metrics))).collect()
    };
    let one = |title, points, from_zero| Chart {
        title,
        step_label: words.step,
        series: vec![Series { name: title.to_owned(), class: "a", points }],
        from_zero,
    };
    let loss = Chart {
        title: words.loss(method),
        step_label: words.step,
        series: vec![
            Series {
                name: words.training_loss.to_owned(),
                class: "a",
                points: steps(&|metrics| Some(metrics.loss)),
            },
            Series {
                name: words.validation_loss.to_owned(),
                class: "b",
                points: validations(|metrics| metrics.loss)
                    .into_iter()
                    .chain(held_out(log, "loss"))
                    .collect(),
            },
        ],
        from_zero: false,
    };
    let charts = [
        loss,
        one(words.bits_per_byte, validations(|metrics| metrics.bits_per_byte), false),
        one(words.learning_rate, steps(&|metrics| Some(metrics.learning_rate)), true),
        one(words.gradient_norm, steps(&|metrics| Some(metrics.gradient_norm)), true),
        one(
            words.imbalance,
            steps(&|metrics| metrics.routers.as_ref().map(|routers| routers.imbalance)),
            false,
        ),
        one(
            words.router_entropy,
            steps(&|metrics| metrics.routers.as_ref().map(|routers| routers.entropy)),
            false,
        ),
        one(words.tokens_per_second, steps(&|metrics| Some(metrics.tokens_per_second)), true),
        one(words.peak_fraction, steps(&|metrics| metrics.peak_fraction.map(|share| 100.0 * share)), true),
    ];
    charts.iter().filter_map(Chart::svg).chain(measure_curves(log, method, words)).collect()
}

/// A curve for everything that the method measures, beside the same on examples that are held out.
fn measure_curves(log: &Log<'_>, method: &Method, words: &Words) -> Vec<String> {
    let of_steps = log.steps.iter().map(|metrics| &metrics.measures);
    let of_held_out = log.held_out.iter().map(|metrics| &metrics.measures);
    let names: BTreeSet<&str> = of_steps
        .chain(of_held_out)
        .flatten()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != "loss")
        .collect();
    let curve = |name: &str| {
        let steps = log.steps.iter();
        let points =
            steps.filter_map(|metrics| Some((metrics.step as f64, *metrics.measures.get(name)?))).collect();
        let title = words.measure(method, name);
        let chart = Chart {
            title: &title,
            step_label: words.step,
            series: vec![
                Series { name: words.training_loss.to_owned(), class: "a", points },
                Series { name: words.held_out.to_owned(), class: "b", points: held_out(log, name) },
            ],
            from_zero: false,
        };
        chart.svg()
    };
    names.into_iter().filter_map(curve).collect()
}

/// A measure of held-out examples over the steps.
fn held_out(log: &Log<'_>, name: &str) -> Vec<(f64, f64)> {
    let values = log.held_out.iter();
    values.filter_map(|metrics| Some((metrics.step as f64, *metrics.measures.get(name)?))).collect()
}

fn samples(log: &Log<'_>, words: &Words) -> String {
    let Some(last_step) = log.samples.last().map(|sample| sample.step) else { return String::new() };
    let of_last = log.samples.iter().filter(|sample| sample.step == last_step);
    let mut shown: Vec<&SampleText> = of_last.copied().take(MOST_SAMPLES / 2).collect();
    // One of each earlier step, evenly spread.
    let mut earlier: Vec<&SampleText> =
        log.samples.iter().copied().filter(|sample| sample.step != last_step).collect();
    earlier.dedup_by_key(|sample| sample.step);
    let every = earlier.len().div_ceil(MOST_SAMPLES / 2).max(1);
    shown.extend(earlier.into_iter().step_by(every).collect::<Vec<_>>().into_iter().rev());
    shown
        .into_iter()
        .map(|sample| {
            format!(
                "<div class=\"sample\"><p class=\"when\">{} {}</p><p><b title=\"{}\">{}</b>{}</p></div>\n",
                words.step,
                sample.step,
                words.prompt,
                escape(&sample.prompt),
                escape(&sample.text)
            )
        })
        .collect()
}

fn data(sources: &[DataSource], words: &Words) -> String {
    let mut rows = String::new();
    for source in sources {
        let count = |count: Option<u64>| {
            count.map_or_else(|| words.none.to_owned(), |count| quantity_text(count as f64))
        };
        let or_none = |text: &str| escape(if text.is_empty() { words.none } else { text });
        rows += &format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            or_none(&source.source),
            or_none(&source.licence),
            count(source.documents),
            count(source.tokens)
        );
    }
    let heads = [words.source, words.licence, words.documents, words.tokens]
        .map(|head| format!("<th scope=\"col\">{head}</th>"));
    format!("<table>\n<tr>{}</tr>\n{rows}</table>\n", heads.concat())
}

#[cfg(test)]
mod tests;
