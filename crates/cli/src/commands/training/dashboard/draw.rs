//! The dashboard's picture: progress, the loss curve beside the numbers, sample texts. Small terminals get what fits.

use super::state::State;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Wrap};
use zhenjin_train::metrics::{duration_text, quantity_text};
use zhenjin_train::plan::bytes_text;

/// Columns of the numbers.
const NUMBERS: u16 = 38;
/// Rows of the sample texts, with their frame.
const SAMPLES: u16 = 8;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let [top, middle, samples, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(SAMPLES.min(frame.area().height / 3)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [curve, numbers] =
        Layout::horizontal([Constraint::Min(10), Constraint::Length(NUMBERS)]).areas(middle);
    draw_progress(frame, top, state);
    draw_curve(frame, curve, state);
    frame.render_widget(Paragraph::new(number_lines(state)).block(Block::bordered().title(" now ")), numbers);
    draw_samples(frame, samples, state);
    let note = state.note.as_deref().unwrap_or("Ctrl-C saves and stops; `--resume auto` goes on");
    frame.render_widget(Paragraph::new(clean(note)).style(Style::new().fg(Color::DarkGray)), bottom);
}

fn draw_progress(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let step = state.step.as_ref().map_or(0, |metrics| metrics.step);
    let left = state
        .progress
        .seconds_left()
        .map_or_else(String::new, |left| format!(", {} left", duration_text(left)));
    let label = format!("{}: step {step} of {}{left}", clean(&state.name), state.progress.total_steps());
    let gauge = Gauge::default()
        .ratio(state.progress.fraction().clamp(0.0, 1.0))
        .label(label)
        .gauge_style(Style::new().fg(Color::Blue));
    frame.render_widget(gauge, area);
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let points = || state.losses.iter().chain(&state.validation_losses);
    let least = points().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
    let greatest = points().map(|(_, loss)| *loss).fold(f64::NEG_INFINITY, f64::max);
    let last = points().map(|(step, _)| *step).fold(1.0, f64::max);
    let block = Block::bordered().title(" loss ");
    if !(least.is_finite() && greatest.is_finite()) {
        frame.render_widget(Paragraph::new("no step yet").block(block), area);
        return;
    }
    let margin = ((greatest - least) * 0.05).max(1e-3);
    let bounds = [least - margin, greatest + margin];
    let dataset = |name: &'static str, colour, graph, points| {
        Dataset::default()
            .name(name)
            .marker(Marker::Braille)
            .graph_type(graph)
            .style(Style::new().fg(colour))
            .data(points)
    };
    let chart = Chart::new(vec![
        dataset("training", Color::Blue, GraphType::Line, &state.losses),
        dataset("validation", Color::Yellow, GraphType::Line, &state.validation_losses),
    ])
    .block(block)
    .x_axis(Axis::default().bounds([0.0, last]).labels(["0".to_owned(), quantity_text(last)]))
    .y_axis(Axis::default().bounds(bounds).labels(bounds.map(|bound| format!("{bound:.2}"))));
    frame.render_widget(chart, area);
}

fn number_lines(state: &State) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut line = |name: &'static str, value: String| lines.push(named_line(name, value));
    let none = || "–".to_owned();
    let step = state.step.as_ref();
    let of_step =
        |text: &dyn Fn(&zhenjin_train::metrics::StepMetrics) -> String| step.map_or_else(none, text);
    line("loss", of_step(&|metrics| format!("{:.4}", metrics.loss)));
    let measures = step.iter().flat_map(|metrics| &metrics.measures);
    // What a method measures tells more than the loss: small terminals show it before the rest.
    lines.extend(measures.map(|(name, value)| measure_line(name, *value)));
    let mut line = |name: &'static str, value: String| lines.push(named_line(name, value));
    let validation = state.validation.as_ref();
    line("bits per byte", validation.map_or_else(none, |metrics| format!("{:.4}", metrics.bits_per_byte)));
    line("learning rate", of_step(&|metrics| format!("{:.2e}", metrics.learning_rate)));
    line(
        "gradient norm",
        of_step(&|metrics| {
            format!("{:.3}{}", metrics.gradient_norm, if metrics.clipped { " clipped" } else { "" })
        }),
    );
    line("tokens", of_step(&|metrics| quantity_text(metrics.tokens as f64)));
    line("tokens/s", of_step(&|metrics| quantity_text(metrics.tokens_per_second)));
    let peak = step.and_then(|metrics| metrics.peak_fraction);
    line("of peak", peak.map_or_else(none, |fraction| format!("{:.0} %", 100.0 * fraction)));
    if let Some(routers) = step.and_then(|metrics| metrics.routers.as_ref()) {
        line("busiest expert", format!("{:.2} × mean", routers.imbalance));
        line("router entropy", format!("{:.3} nats", routers.entropy));
    }
    let memory = step.and_then(|metrics| metrics.resident_bytes);
    line("memory", memory.map_or_else(none, bytes_text));
    let estimate = if state.is_energy_measured { "" } else { " (estimate)" };
    line("energy", format!("{:.4} kWh{estimate}", state.joules / 3.6e6));
    line("money", format!("{:.4} {}", state.price(), clean(&state.prices.currency)));
    lines
}

fn named_line(name: &str, value: String) -> Line<'static> {
    let name = Span::styled(format!("{name:<15}"), Style::new().fg(Color::DarkGray));
    Line::from(vec![name, Span::styled(value, Style::new().add_modifier(Modifier::BOLD))])
}

/// What the method measures, under its own name.
fn measure_line(name: &str, value: f64) -> Line<'static> {
    let shown: String = clean(name).replace('_', " ").chars().take(14).collect();
    named_line(&shown, format!("{value:.4}"))
}

fn draw_samples(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let title = state
        .samples
        .first()
        .map_or_else(|| " samples ".to_owned(), |sample| format!(" samples of step {} ", sample.step));
    let lines: Vec<Line<'_>> = state
        .samples
        .iter()
        .map(|sample| {
            let prompt = Span::styled(clean(&sample.prompt), Style::new().fg(Color::Blue));
            Line::from(vec![prompt, Span::raw(clean(&sample.text))])
        })
        .collect();
    let paragraph = Paragraph::new(lines).wrap(Wrap { trim: false }).block(Block::bordered().title(title));
    frame.render_widget(paragraph, area);
}

/// Text without line breaks and control characters: a model's text must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use zhenjin_train::metrics::{Energy, Event, RouterMetrics, SampleText, StepMetrics, ValidationMetrics};
    use zhenjin_train::plan::Prices;

    fn state() -> State {
        let prices = Prices {
            watts: 20.0,
            watts_known: false,
            per_kilowatt_hour: 0.3,
            per_hour: 0.0,
            currency: "EUR".to_owned(),
        };
        let mut state = State::new("poems".to_owned(), 400, prices);
        for step in 1..=100 {
            state.take(&Event::Step(StepMetrics {
                step,
                tokens: step * 4096,
                loss: if step == 50 { f64::NAN } else { 8.0 - 0.03 * step as f64 },
                z_loss: 0.0,
                gradient_norm: 0.75,
                clipped: step == 100,
                learning_rate: 2e-3,
                seconds: 2.0,
                tokens_per_second: 2048.0,
                model_flops: 1e11,
                peak_fraction: Some(0.62),
                resident_bytes: Some(700 << 20),
                energy: Some(Energy { joules: 36_000.0, measured: false }),
                network: None,
                targets: 4000,
                routers: Some(RouterMetrics {
                    imbalance: 1.234,
                    balance: 1.01,
                    entropy: 1.987,
                    shares: Vec::new(),
                }),
                measures: std::collections::BTreeMap::new(),
                skipped: None,
            }));
        }
        state.take(&Event::Validation(ValidationMetrics {
            step: 100,
            loss: 5.5,
            bits_per_byte: 2.1234,
            targets: 100,
            bytes: 300,
        }));
        let text = "明月光,\n疑是地上霜\u{1b}[2J";
        state.take(&Event::Sample(SampleText { step: 100, prompt: "床前".into(), text: text.into() }));
        state
    }

    fn picture(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| row(y) + "\n").collect()
    }

    #[test]
    fn eighty_columns_show_everything() {
        let picture = picture(&state(), 80, 24);
        for part in [
            "poems: step 100 of 400, 10 min left",
            "loss",
            "5.0000",
            "2.1234",
            "2.00e-3",
            "0.750 clipped",
            "2.05 k",
            "62 %",
            "1.23 × mean",
            "1.987 nats",
            "700 MiB",
            "1.0000 kWh (estimate)",
            "0.3000 EUR",
            "410 k",
            "samples of step 100",
            "床",
        ] {
            assert!(picture.contains(part), "{part} in\n{picture}");
        }
        assert!(!picture.contains('\u{1b}'));
    }

    #[test]
    fn what_a_method_measures_is_shown_first() {
        let mut state = state();
        let Some(last) = state.step.clone() else { panic!("a step") };
        let measures =
            [("reward", 0.75), ("a_name_of_many_letters", 1.5)].map(|(name, value)| (name.to_owned(), value));
        state.take(&Event::Step(StepMetrics { step: 101, measures: measures.into(), ..last }));
        let picture = picture(&state, 80, 24);
        for part in ["reward         0.7500", "a name of many 1.5000"] {
            assert!(picture.contains(part), "{part} in\n{picture}");
        }
    }

    #[test]
    fn no_size_and_no_state_is_too_small() {
        let prices = state().prices;
        let empty = State::new(String::new(), 0, prices);
        for (width, height) in [(1, 1), (10, 3), (40, 10), (200, 60)] {
            picture(&state(), width, height);
            picture(&empty, width, height);
        }
        assert!(picture(&empty, 80, 24).contains("no step yet"));
    }

    #[test]
    fn long_runs_keep_a_bounded_curve() {
        let mut state = state();
        let Some(last) = state.step.clone() else { panic!("a step") };
        for step in 101..20_000 {
            state.take(&Event::Step(StepMetrics { step, ..last.clone() }));
        }
        assert!((500..=2000).contains(&state.losses.len()), "{}", state.losses.len());
    }
}
