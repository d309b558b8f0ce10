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

/// A run of one step with what preferences measure.
fn page_of(configuration: &str, prices: &Prices, language: Language) -> String {
    let Event::Step(mut metrics) = step(1, 0.69) else { panic!("a step") };
    metrics.measures =
        [("margin", 0.5), ("accuracy", 0.75)].map(|(name, value)| (name.to_owned(), value)).into();
    let mut next = metrics.clone();
    next.step = 2;
    let log = ReadEvents { events: vec![Event::Step(metrics), Event::Step(next)], broken_lines: Vec::new() };
    let machine = [("CPU".to_owned(), "2 threads".to_owned())];
    report(&ReportInput {
        name: "a run",
        log: &log,
        configuration,
        data: &[],
        machine: &machine,
        prices,
        language,
    })
}

/// Every loss was called nats per token, and every margin one of implicit rewards.
#[test]
fn titles_are_those_of_the_method() {
    let titled = |configuration: &str, language: Language| page_of(configuration, &prices(), language);
    for (configuration, english, chinese) in [
        ("depth = 4", "Loss (nats per token)", "损失(奈特/词元)"),
        ("method = \"sft\"", "Loss (nats per token)", "损失(奈特/词元)"),
        ("method = \"distill\"", "Loss (nats per token)", "损失(奈特/词元)"),
        (
            "method = \"dpo\"\n[preference]\nloss = \"sigmoid\"",
            "DPO loss (nats per pair)",
            "DPO 损失(奈特/对)",
        ),
        ("method = \"dpo\"\n[preference]\nloss = \"ipo\"", "IPO loss (per pair)", "IPO 损失(每对)"),
        ("method = \"kto\"", "KTO loss (per answer)", "KTO 损失(每个回答)"),
        ("method = \"grpo\"", "Loss of the policy", "策略的损失"),
        ("method = \"ppo\"", "Loss of the policy", "策略的损失"),
        ("method = \"reward\"", "Loss of the reward model (nats per pair)", "奖励模型的损失(奈特/对)"),
        ("no configuration", "Loss (nats per token)", "损失(奈特/词元)"),
    ] {
        for (title, language) in [(english, Language::English), (chinese, Language::Chinese)] {
            let page = titled(configuration, language);
            assert!(page.contains(title), "{configuration}: {title}");
            let is_of_tokens = page.contains("Loss (nats per token)") || page.contains("损失(奈特/词元)");
            assert_eq!(is_of_tokens, english == "Loss (nats per token)", "{configuration}");
        }
    }
    let of_rewards = titled("method = \"reward\"", Language::English);
    assert!(of_rewards.contains("Margin of the rewards") && !of_rewards.contains("implicit"), "{of_rewards}");
    let of_preferences = titled("method = \"dpo\"", Language::English);
    assert!(of_preferences.contains("Margin of the implicit rewards"), "{of_preferences}");
    assert!(titled("method = \"kto\"", Language::Chinese).contains("与人的评判一致的回答比例"));
}

/// The machine at which the report was made stood there as the one that had trained, and watts that were given had no effect.
#[test]
fn the_machine_is_that_of_the_report_and_given_watts_count() {
    let page = |prices: &Prices, language| page_of("", prices, language);
    assert!(page(&prices(), Language::English).contains("The machine that made this report"));
    assert!(page(&prices(), Language::Chinese).contains("生成本报告的机器"));
    // Twice 12.5 J in the log; given are 3.6 kW for a second.
    assert!(page(&prices(), Language::English).contains("0.0000 kWh (an estimate"));
    let given = Prices { watts: 3600.0, watts_known: true, ..prices() };
    assert!(page(&given, Language::English).contains("0.0010 kWh (watts as given"));
}
