//! A curve as inline SVG. Colours come from the page's style, so that it fits light and dark pages.

use super::page::escape;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
/// Space for the labels at the left, top, right and bottom.
const MARGIN: [f64; 4] = [64.0, 12.0, 16.0, 34.0];
/// Points of a curve that are drawn at most; each stands for the mean, least and greatest of its steps.
const MOST_POINTS: usize = 320;

/// Values over steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) name: String,
    /// Class of the page's style: `a`, `b`.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A drawing of some curves with a title, labelled axes and a legend where there are several.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) step_label: &'a str,
    pub(super) series: Vec<Series>,
    /// Whether the axis begins at 0.
    pub(super) from_zero: bool,
}

impl Chart<'_> {
    /// The figure, or nothing when there is no finite value.
    pub(super) fn svg(&self) -> Option<String> {
        let series: Vec<(&Series, Vec<Bin>)> =
            self.series.iter().map(|series| (series, bins(&series.points))).collect();
        let all = || series.iter().flat_map(|(_, bins)| bins);
        let last_step = all().map(|bin| bin.step).fold(1.0, f64::max);
        let first_step = all().map(|bin| bin.step).fold(last_step, f64::min);
        let least = all().map(|bin| bin.least).fold(f64::INFINITY, f64::min);
        let greatest = all().map(|bin| bin.greatest).fold(f64::NEG_INFINITY, f64::max);
        if !(least.is_finite() && greatest.is_finite()) {
            return None;
        }
        let ticks = ticks(if self.from_zero { least.min(0.0) } else { least }, greatest);
        let (bottom, top) = (ticks[0].min(least), ticks[ticks.len() - 1].max(greatest));
        let [left, above, right, below] = MARGIN;
        let span = |low: f64, high: f64| if high > low { high - low } else { 1.0 };
        let x = |step: f64| left + (step - first_step) / span(first_step, last_step) * (WIDTH - left - right);
        let y = |value: f64| HEIGHT - below - (value - bottom) / span(bottom, top) * (HEIGHT - above - below);
        let title = escape(self.title);
        // Writing to a String cannot fail.
        let mut svg = format!(
            "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        );
        for tick in &ticks {
            let (height, label) = (y(*tick), number_text(*tick));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - right,
                left - 8.0,
                height + 4.0
            );
        }
        for step in step_ticks(first_step, last_step) {
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(step),
                HEIGHT - below + 16.0,
                number_text(step)
            );
        }
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTH - right,
            HEIGHT - 3.0,
            escape(self.step_label)
        );
        for (series, bins) in &series {
            svg.push_str(&curve(series, bins, &x, &y));
        }
        svg.push_str("</svg>");
        if self.series.len() > 1 {
            let entry = |series: &Series| {
                format!("<span class=\"key {}\">{}</span>", series.class, escape(&series.name))
            };
            let _ =
                write!(svg, "<p class=\"legend\">{}</p>", self.series.iter().map(entry).collect::<String>());
        }
        svg.push_str("</figure>");
        Some(svg)
    }
}

/// The band from least to greatest of each bin, and the line through the means; single points as dots.
fn curve(series: &Series, bins: &[Bin], x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let class = series.class;
    let mut svg = String::new();
    if bins.iter().any(|bin| bin.greatest > bin.least) {
        let upper = bins.iter().map(|bin| format!("{:.1},{:.1}", x(bin.step), y(bin.greatest)));
        let lower = bins.iter().rev().map(|bin| format!("{:.1},{:.1}", x(bin.step), y(bin.least)));
        let points: Vec<String> = upper.chain(lower).collect();
        let _ = write!(svg, "<polygon class=\"band {class}\" points=\"{}\"/>", points.join(" "));
    }
    let points: Vec<String> =
        bins.iter().map(|bin| format!("{:.1},{:.1}", x(bin.step), y(bin.mean))).collect();
    let _ = write!(svg, "<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" "));
    if bins.len() <= 40 {
        for bin in bins {
            let _ = write!(
                svg,
                "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{}: {}</title></circle>",
                x(bin.step),
                y(bin.mean),
                number_text(bin.step),
                number_text(bin.mean)
            );
        }
    }
    svg
}

/// Some neighbouring points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bin {
    step: f64,
    mean: f64,
    least: f64,
    greatest: f64,
}

/// Neighbouring finite points together, so that at most [`MOST_POINTS`] are left.
fn bins(points: &[(f64, f64)]) -> Vec<Bin> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let together = finite.len().div_ceil(MOST_POINTS).max(1);
    finite
        .chunks(together)
        .map(|chunk| Bin {
            step: chunk[chunk.len() - 1].0,
            mean: chunk.iter().map(|(_, value)| value).sum::<f64>() / chunk.len() as f64,
            least: chunk.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min),
            greatest: chunk.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max),
        })
        .collect()
}

/// Round values that cover a range: multiples of 1, 2 or 5 times a power of ten, four to eight of them.
fn ticks(least: f64, greatest: f64) -> Vec<f64> {
    let range = if greatest > least { greatest - least } else { greatest.abs().max(1e-9) };
    let raw = range / 5.0;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= raw);
    let step = step.unwrap_or(10.0 * power);
    let first = (least / step).floor() as i64;
    let last = ((least + range) / step).ceil() as i64;
    (first..=last.min(first + 12)).map(|index| index as f64 * step).collect()
}

/// Whole steps below the axis.
fn step_ticks(first: f64, last: f64) -> Vec<f64> {
    let ticks = ticks(first, last);
    ticks.into_iter().filter(|step| *step >= first && *step <= last && step.fract() == 0.0).collect()
}

/// A number with as many digits as a reader needs.
fn number_text(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        magnitude if magnitude >= 10_000.0 => crate::metrics::quantity_text(value),
        magnitude if magnitude >= 0.001 => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        for (least, greatest) in [(0.0, 1.0), (3.2, 9.7), (1.0, 1.0), (-4.0, 5.0), (1e-5, 3e-4), (0.0, 1e6)] {
            let ticks = ticks(least, greatest);
            assert!((4..=13).contains(&ticks.len()), "{least} {greatest}: {ticks:?}");
            assert!(ticks[0] <= least && *ticks.last().unwrap() >= greatest - 1e-12, "{ticks:?}");
        }
        assert_eq!(number_text(0.6000000000000001), "0.6");
        assert_eq!(number_text(25_000.0), "25.0 k");
    }

    #[test]
    fn long_curves_are_thinned_and_what_is_not_finite_left_out() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|step| (f64::from(step), if step == 7 { f64::NAN } else { 1.0 })).collect();
        let thinned = bins(&points);
        assert!(thinned.len() <= MOST_POINTS && thinned.iter().all(|bin| bin.mean == 1.0));
        let chart = |points| Chart {
            title: "a < b",
            step_label: "step",
            series: vec![Series { name: "loss".into(), class: "a", points }],
            from_zero: false,
        };
        assert!(chart(vec![(1.0, f64::NAN)]).svg().is_none());
        let svg = chart(vec![(1.0, 2.0), (2.0, 1.0)]).svg().unwrap();
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN"), "{svg}");
    }
}
