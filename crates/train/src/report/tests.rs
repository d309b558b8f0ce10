//! What a report shows, and what it must never do.

use super::*;
use crate::metrics::tests::step;

fn prices() -> Prices {
    Prices { watts: 40.0, watts_known: false, per_kilowatt_hour: 0.3, per_hour: 0.0, currency: "EUR".into() }
}

fn log() -> ReadEvents {
    let mut events = Vec::new();
    for number in 1..=50 {
        events.push(step(number, 9.0 - number as f64 * 0.1));
        if number % 10 == 0 {
            events.push(Event::Validation(ValidationMetrics {
                step: number,
                loss: 9.0 - number as f64 * 0.09,
                bits_per_byte: 3.0 - number as f64 * 0.02,
                targets: 900,
                bytes: 3000,
            }));
            events.push(Event::Sample(SampleText {
                step: number,
                prompt: "床前<b>".into(),
                text: format!("明月光 {number}<script src=\"https://example.org/x.js\"></script>"),
            }));
        }
    }
    events.push(Event::Note { step: 33, text: "a batch was skipped <img src=x>".into() });
    ReadEvents { events, broken_lines: vec![7] }
}

fn page(language: Language) -> String {
    report(&ReportInput {
        name: "poems & <more>",
        log: &log(),
        configuration: "depth = 4\n[model]\nname = \"<x>\"\n",
        data: &[DataSource {
            source: "https://example.org/poems".into(),
            licence: "MIT".into(),
            documents: Some(4000),
            tokens: None,
        }],
        machine: &[("CPU".into(), "2 threads".into())],
        prices: &prices(),
        language,
    })
}

#[test]
fn a_report_has_everything_in_both_languages() {
    let english = page(Language::English);
    for part in [
        "poems &amp; &lt;more&gt;",
        "Training report",
        "validation",
        "Licence",
        "MIT",
        "depth = 4",
        "2 threads",
        "0.0002 kWh",
        "an estimate",
    ] {
        assert!(english.contains(part), "{part}");
    }
    let chinese = page(Language::Chinese);
    for part in ["训练报告：", "学习率", "许可证", "明月光 50", "lang=\"zh-CN\""] {
        assert!(chinese.contains(part), "{part}");
    }
    assert_eq!(english.matches("<svg").count(), 6);
    assert!(english.contains("2.0000 bits/byte"), "the best validation");
}

#[test]
fn nothing_in_a_report_is_fetched_or_run() {
    for language in [Language::English, Language::Chinese] {
        let page = page(language);
        for forbidden in
            ["<script", "<img", "<link", "<iframe", " src=", " href=", "url(", "@import", "javascript:"]
        {
            // The texts of the log are there, but not as markup.
            let outside = page.replace("script src=&quot;", "").replace("&lt;img src=x", "");
            assert!(!outside.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}

#[test]
fn an_empty_log_is_a_report_too() {
    let page = report(&ReportInput {
        name: "nothing",
        log: &ReadEvents::default(),
        configuration: "",
        data: &[],
        machine: &[],
        prices: &prices(),
        language: Language::English,
    });
    assert!(page.contains("not known") && !page.contains("<svg"), "{page}");
}
