//! Settings of a run that goes on, and of an adapter that is trained further: none is lost, none is without effect.

use crate::align::{Place, run, succeed};
use serde_json::json;

/// The seed, by which the data are divided, was taken from the command line alone: the run was refused as one of other data.
#[test]
fn a_run_with_a_seed_goes_on_without_naming_it_again() {
    let place = Place::new();
    let more = ["--steps", "2", "--seed", "7", "--set", "time=1000000000"];
    succeed(place.train("sft", "talks.jsonl", "out", &more));
    let settings = std::fs::read_to_string(place.path("out").join("run.toml")).expect("a file");
    assert!(settings.contains("time = 1000000000"), "{settings}");
    // The steps are another setting: this run is at its end, so what matters is that its data are known again.
    let text = succeed(place.train("sft", "talks.jsonl", "out", &["--resume", "auto"]));
    assert!(!text.contains("other data"), "{text}");
}

#[test]
fn a_time_that_cannot_be_is_refused() {
    let place = Place::new();
    let more = ["--steps", "2", "--set", "time=9000000000000000000"];
    let (code, text) = run(place.train("sft", "talks.jsonl", "out", &more));
    assert!(code == Some(1) && text.contains("time = 9000000000000000000 is no possible time"), "{text}");
}

/// They were ignored, and the effective configuration named a rank that the adapter does not have.
#[test]
fn settings_of_a_new_adapter_are_refused_beside_one_that_is_trained_further() {
    let place = Place::new();
    let first = ["--steps", "2", "--rank", "3", "--set", "tuning.projections=q_proj,down_proj"];
    succeed(place.train("sft", "talks.jsonl", "first", &first));
    let adapter = place.last("first");
    let adapter = adapter.to_str().expect("a path");
    let further = |out: &str, more: &[&str]| {
        place.train("dpo", "pairs.jsonl", out, &[&["--steps", "2", "--adapter", adapter], more].concat())
    };
    for more in [&["--rank", "8"][..], &["--set", "tuning.alpha=3"], &["--set", "tuning.projections=all"]] {
        let (code, text) = run(further("refused", more));
        assert!(code == Some(1) && text.contains("has no effect with --adapter"), "{more:?}: {text}");
    }
    succeed(further("second", &[]));
    let settings = std::fs::read_to_string(place.path("second").join("run.toml")).expect("a file");
    assert!(
        settings.contains("rank = 3") && settings.contains("projections = \"q_proj,down_proj\""),
        "{settings}"
    );
}

/// Of a few questions one is held out, to which all held-out answers belong.
#[test]
fn kto_learns_from_few_questions() {
    let place = Place::new();
    let thumb = |number: i32| {
        json!({
            "prompt": [{"role": "user", "content": format!("say {}", number / 2)}],
            "completion": [{"role": "assistant", "content": if number % 2 == 0 { "yes" } else { "no" }}],
            "label": number % 2 == 0,
        })
    };
    place.write("few.jsonl", (0..10).map(thumb));
    for seed in ["1", "2", "3"] {
        let text = succeed(place.train("kto", "few.jsonl", seed, &["--steps", "2", "--seed", seed]));
        assert!(text.contains("step 2/2"), "{text}");
    }
}
