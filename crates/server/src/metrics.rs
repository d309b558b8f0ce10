//! The server's metrics, as Prometheus reads them at `/metrics`. Names of routes and models come from the callers, as labels.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use zhenjin_assistant::{EngineObserver, EngineStats, ObserverOfModel, StepReport, Timings, Usage};
use zhenjin_engine::EndReason;

const METADATA: Metadata<'static> = Metadata::new("zhenjin", Level::INFO, None);

const HTTP_REQUESTS: &str = "zhenjin_http_requests_total";
const HTTP_SECONDS: &str = "zhenjin_http_request_seconds";
const FIRST_TOKEN: &str = "zhenjin_time_to_first_token_seconds";
const NEXT_TOKEN: &str = "zhenjin_inter_token_seconds";
const STEP_SECONDS: &str = "zhenjin_step_seconds";
const SAMPLING_SECONDS: &str = "zhenjin_sampling_seconds";
const DRAFTING_SECONDS: &str = "zhenjin_drafting_seconds";
const BATCH: &str = "zhenjin_batch_size";
const ROWS: &str = "zhenjin_tokens_computed_total";
const FINISHED: &str = "zhenjin_generations_total";
const PROMPT_TOKENS: &str = "zhenjin_prompt_tokens_total";
const CACHED_TOKENS: &str = "zhenjin_cached_prompt_tokens_total";
const ANSWER_TOKENS: &str = "zhenjin_answer_tokens_total";
const WAITING: &str = "zhenjin_queue_length";
const RUNNING: &str = "zhenjin_running";
const PAGES: &str = "zhenjin_kv_pages";
const DRAFTED: &str = "zhenjin_draft_tokens_total";
const PREEMPTIONS: &str = "zhenjin_preemptions";
const SPEED: &str = "zhenjin_tokens_per_second";
const LOADED: &str = "zhenjin_model_loaded";

/// From a fast machine's single step to a long prompt on a slow one.
const LATENCIES: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Counters, gauges and histograms. Cheap to clone; one for each server, so that servers in one process do not mix.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in [
            (HTTP_SECONDS, LATENCIES),
            (FIRST_TOKEN, LATENCIES),
            (NEXT_TOKEN, LATENCIES),
            (STEP_SECONDS, LATENCIES),
            (SAMPLING_SECONDS, LATENCIES),
            (DRAFTING_SECONDS, LATENCIES),
            (BATCH, BATCHES),
        ] {
            // It fails on an empty list of buckets alone, and then the histogram becomes a summary.
            builder = match builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets) {
                Ok(builder) => builder,
                Err(_) => PrometheusBuilder::new(),
            };
        }
        let recorder = builder.build_recorder();
        describe(&recorder);
        Metrics { handle: recorder.handle(), recorder: Arc::new(recorder) }
    }
}

impl Metrics {
    /// Everything counted so far, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds recorded values into their histograms; called at intervals, so that they do not pile up between two readings.
    pub(crate) fn fold(&self) {
        self.handle.run_upkeep();
    }

    /// One request was answered.
    pub(crate) fn http_request(&self, method: &'static str, route: &str, status: u16, duration: Duration) {
        let labels = vec![
            Label::from_static_parts("method", method),
            Label::new("route", route.to_owned()),
            Label::new("status", status.to_string()),
        ];
        self.counter(HTTP_REQUESTS, labels).increment(1);
        self.histogram(HTTP_SECONDS, vec![Label::new("route", route.to_owned())])
            .record(duration.as_secs_f64());
    }

    /// For the models' engines, so that what they do is counted here.
    pub fn observer_of_model(&self) -> ObserverOfModel {
        let metrics = self.clone();
        Arc::new(move |model| metrics.observer(model))
    }

    /// Who counts what the engine of this model does.
    fn observer(&self, model: &str) -> Arc<dyn EngineObserver> {
        let model = Label::new("model", model.to_owned());
        let one = || vec![model.clone()];
        let with = |name: &'static str, value: &'static str| {
            vec![model.clone(), Label::from_static_parts(name, value)]
        };
        Arc::new(EngineMetrics {
            first_token: self.histogram(FIRST_TOKEN, one()),
            next_token: self.histogram(NEXT_TOKEN, one()),
            step: self.histogram(STEP_SECONDS, one()),
            sampling: self.histogram(SAMPLING_SECONDS, one()),
            batch: self.histogram(BATCH, one()),
            prefill_rows: self.counter(ROWS, with("phase", "prefill")),
            decode_rows: self.counter(ROWS, with("phase", "decode")),
            draft_rows: self.counter(ROWS, with("phase", "draft")),
            lookups: self.drafts(&model, "lookup"),
            guesses: self.drafts(&model, "model"),
            drafting: self.histogram(DRAFTING_SECONDS, one()),
            prompt_tokens: self.counter(PROMPT_TOKENS, one()),
            cached_tokens: self.counter(CACHED_TOKENS, one()),
            answer_tokens: self.counter(ANSWER_TOKENS, one()),
            stopped: self.counter(FINISHED, with("end", "stop")),
            length: self.counter(FINISHED, with("end", "length")),
            cancelled: self.counter(FINISHED, with("end", "cancelled")),
            failed: self.counter(FINISHED, with("end", "failed")),
        })
    }

    fn drafts(&self, model: &Label, by: &'static str) -> DraftCounters {
        let counter = |end: &'static str| {
            let labels =
                [("by", by), ("end", end)].map(|(name, value)| Label::from_static_parts(name, value));
            self.counter(DRAFTED, std::iter::once(model.clone()).chain(labels).collect())
        };
        DraftCounters { accepted: counter("accepted"), rejected: counter("rejected") }
    }

    /// How things stand with one served model; `None`: it is not loaded.
    pub(crate) fn model_state(&self, model: &str, stats: Option<&EngineStats>) {
        let labels = || vec![Label::new("model", model.to_owned())];
        let pages =
            |state| vec![Label::new("model", model.to_owned()), Label::from_static_parts("state", state)];
        let now = stats.copied().unwrap_or_default();
        self.gauge(LOADED, labels()).set(if stats.is_some() { 1.0 } else { 0.0 });
        self.gauge(WAITING, labels()).set(now.waiting as f64);
        self.gauge(RUNNING, labels()).set(now.running as f64);
        self.gauge(PREEMPTIONS, labels()).set(now.preemptions as f64);
        self.gauge(PAGES, pages("used")).set(now.pages_used as f64);
        self.gauge(PAGES, pages("cached")).set(now.pages_cached as f64);
        self.gauge(PAGES, pages("total")).set(now.pages_total as f64);
    }

    /// Tokens generated in the latest second or so.
    pub(crate) fn model_speed(&self, model: &str, tokens_per_second: f64) {
        self.gauge(SPEED, vec![Label::new("model", model.to_owned())]).set(tokens_per_second);
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

fn describe(recorder: &PrometheusRecorder) {
    let counter = |name: &'static str, text: &'static str| {
        recorder.describe_counter(name.into(), None, SharedString::const_str(text));
    };
    counter(HTTP_REQUESTS, "Requests answered, by method, route and status.");
    counter(ROWS, "Tokens that went through the model, by phase.");
    counter(PROMPT_TOKENS, "Tokens in the prompts of ended generations.");
    counter(CACHED_TOKENS, "Of these, found in the cache instead of computed.");
    counter(ANSWER_TOKENS, "Tokens generated by ended generations.");
    counter(
        DRAFTED,
        "Tokens guessed and checked, by who guessed (lookup: the chat's own text, model: the draft model) and whether they were right; a right one saves a step.",
    );
    counter(FINISHED, "Generations that ended, by how.");
    let gauge = |name: &'static str, text: &'static str| {
        recorder.describe_gauge(name.into(), None, SharedString::const_str(text));
    };
    gauge(WAITING, "Generations that wait for their turn.");
    gauge(RUNNING, "Generations that take part in steps.");
    gauge(PAGES, "Pages of keys and values: used by generations, holding something reusable, and in all.");
    gauge(
        PREEMPTIONS,
        "How often a generation had to give its pages to an older one since the model was loaded.",
    );
    gauge(SPEED, "Tokens generated per second, over the latest seconds.");
    gauge(LOADED, "1 for each model that is in memory, 0 for each that is not.");
    let histogram = |name: &'static str, unit: Unit, text: &'static str| {
        recorder.describe_histogram(name.into(), Some(unit), SharedString::const_str(text));
    };
    histogram(HTTP_SECONDS, Unit::Seconds, "From a request's head to its answer's head.");
    histogram(FIRST_TOKEN, Unit::Seconds, "From a generation's submission to its first token.");
    histogram(NEXT_TOKEN, Unit::Seconds, "Between two tokens of one generation.");
    histogram(STEP_SECONDS, Unit::Seconds, "One step of the engine.");
    histogram(SAMPLING_SECONDS, Unit::Seconds, "Of a step of the engine, choosing the next tokens.");
    histogram(DRAFTING_SECONDS, Unit::Seconds, "Before a step of the engine, guessing by the draft model.");
    histogram(BATCH, Unit::Count, "Generations in one step of the engine.");
}

/// Tokens drafted in one way.
struct DraftCounters {
    accepted: Counter,
    rejected: Counter,
}

impl DraftCounters {
    fn note(&self, drafted: usize, accepted: usize) {
        self.accepted.increment(accepted as u64);
        self.rejected.increment(drafted.saturating_sub(accepted) as u64);
    }
}

/// The engine's events of one model.
struct EngineMetrics {
    first_token: Histogram,
    next_token: Histogram,
    step: Histogram,
    sampling: Histogram,
    batch: Histogram,
    prefill_rows: Counter,
    decode_rows: Counter,
    draft_rows: Counter,
    lookups: DraftCounters,
    guesses: DraftCounters,
    drafting: Histogram,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    answer_tokens: Counter,
    stopped: Counter,
    length: Counter,
    cancelled: Counter,
    failed: Counter,
}

impl EngineObserver for EngineMetrics {
    fn step(&self, report: &StepReport) {
        self.step.record(report.duration.as_secs_f64());
        self.sampling.record(report.choosing.as_secs_f64());
        self.batch.record(report.sequences as f64);
        self.prefill_rows.increment(report.prefill_rows as u64);
        self.decode_rows.increment(report.decode_rows as u64);
        self.draft_rows.increment(report.draft_rows as u64);
        let (guessed, right) = (report.model_draft_rows, report.model_accepted_rows);
        self.guesses.note(guessed, right);
        self.lookups
            .note(report.draft_rows.saturating_sub(guessed), report.accepted_rows.saturating_sub(right));
        if !report.drafting.is_zero() {
            self.drafting.record(report.drafting.as_secs_f64());
        }
    }

    fn first_token(&self, since_submission: Duration) {
        self.first_token.record(since_submission.as_secs_f64());
    }

    fn next_token(&self, since_last_token: Duration) {
        self.next_token.record(since_last_token.as_secs_f64());
    }

    fn finished(&self, reason: Option<&EndReason>, usage: &Usage, _timings: &Timings) {
        self.prompt_tokens.increment(usage.prompt_tokens as u64);
        self.cached_tokens.increment(usage.cached_tokens as u64);
        self.answer_tokens.increment(usage.completion_tokens as u64);
        match reason {
            Some(EndReason::StopToken(_) | EndReason::StopCondition | EndReason::ConstraintFinished) => {
                self.stopped.increment(1)
            }
            Some(EndReason::Length) => self.length.increment(1),
            Some(EndReason::ShutDown) | None => self.cancelled.increment(1),
            Some(EndReason::Error(_)) => self.failed.increment(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered_with_its_labels() {
        let metrics = Metrics::default();
        metrics.http_request("POST", "/v1/chat/completions", 200, Duration::from_millis(30));
        let observer = metrics.observer("small");
        observer.first_token(Duration::from_millis(20));
        observer.next_token(Duration::from_millis(4));
        observer.step(&StepReport {
            sequences: 1,
            prefill_rows: 0,
            decode_rows: 1,
            draft_rows: 5,
            accepted_rows: 3,
            model_draft_rows: 4,
            model_accepted_rows: 3,
            drafting: Duration::from_millis(2),
            duration: Duration::from_millis(5),
            choosing: Duration::from_millis(1),
        });
        let usage = Usage { prompt_tokens: 7, cached_tokens: 3, completion_tokens: 5 };
        observer.finished(Some(&EndReason::Length), &usage, &Timings::default());
        metrics.model_state(
            "small",
            Some(&EngineStats { pages_total: 9, pages_used: 2, ..EngineStats::default() }),
        );
        metrics.fold();
        let text = metrics.render();
        for line in [
            r#"zhenjin_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1"#,
            r#"zhenjin_time_to_first_token_seconds_bucket{model="small",le="0.025"} 1"#,
            r#"zhenjin_inter_token_seconds_count{model="small"} 1"#,
            r#"zhenjin_sampling_seconds_sum{model="small"} 0.001"#,
            r#"zhenjin_prompt_tokens_total{model="small"} 7"#,
            r#"zhenjin_generations_total{model="small",end="length"} 1"#,
            r#"zhenjin_kv_pages{model="small",state="total"} 9"#,
            r#"zhenjin_draft_tokens_total{model="small",by="model",end="accepted"} 3"#,
            r#"zhenjin_draft_tokens_total{model="small",by="model",end="rejected"} 1"#,
            r#"zhenjin_draft_tokens_total{model="small",by="lookup",end="accepted"} 0"#,
            r#"zhenjin_draft_tokens_total{model="small",by="lookup",end="rejected"} 1"#,
            r#"zhenjin_drafting_seconds_sum{model="small"} 0.002"#,
            r#"zhenjin_model_loaded{model="small"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n---\n{text}");
        }
    }
}
