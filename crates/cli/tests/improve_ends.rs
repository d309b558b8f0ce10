//! Improvements that cannot begin, are asked to stop, fail, or go on; and those that are promoted after something else was.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::improve_place::{Place, refuse, succeed};
use serde_json::Value;
use zhenjin_promotions::{Improvement, ImprovementState, Improvements};
use zhenjin_store::Owner;

/// An adapter to the tiny model that says it belongs to this model.
fn adapter(folder: &Path, base: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/adapters/llama-every");
    std::fs::create_dir_all(folder).expect("a folder");
    let file = "adapter_model.safetensors";
    std::fs::copy(golden.join(file), folder.join(file)).expect("a copy");
    let text = std::fs::read_to_string(golden.join("adapter_config.json")).expect("a file");
    let mut settings: Value = serde_json::from_str(&text).expect("JSON");
    settings["base_model_name_or_path"] = base.into();
    std::fs::write(folder.join("adapter_config.json"), settings.to_string()).expect("a file");
}

/// An adapter to the model's own weights was once trained to its end before this was said.
#[test]
fn nothing_is_trained_where_whole_weights_were_promoted() {
    let place = Place::new();
    let model = place.model();
    place.choose(&Owner::Local, true, 0..60);
    succeed(place.program(&["promote", &model, &model]));
    let text = refuse(place.improve(&["--id", "one"]));
    assert!(text.contains("whole weights were promoted for"), "{text}");
    assert_eq!(place.records(), Value::Array(Vec::new()));
    assert!(!place.path("improvements/one/run").exists());
    // Nor beside an adapter that cannot be opened any more.
    adapter(&place.path("other"), &model);
    succeed(place.program(&["promote", &model, place.path("other").to_str().expect("a path")]));
    let list: Value = serde_json::from_str(&succeed(place.program(&["promote", "--json"]))).expect("JSON");
    let id = list[&model]["now"]["id"].as_str().expect("an id");
    std::fs::remove_dir_all(place.path("promoted").join(id)).expect("removed");
    let text = refuse(place.improve(&["--id", "one"]));
    assert!(text.contains("cannot be compared with: roll it back first"), "{text}");
    assert_eq!(place.records(), Value::Array(Vec::new()));
}

/// Ctrl-C once did nothing while an improvement was judged, as a run before had taken the place of the default action.
#[test]
fn an_improvement_that_is_judged_ends_when_it_is_asked_to_and_goes_on() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..120);
    let mut child = place.improve(&["--id", "one"]).spawn().expect("the program starts");
    let progress = place.path("improvements/one/progress.json");
    let is_judged = || std::fs::read_to_string(&progress).is_ok_and(|text| text.contains("judging"));
    while child.try_wait().expect("a status").is_none() && !is_judged() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = child.id().to_string();
    let sent = Command::new("sh").args(["-c", "kill -INT $0", &id]).status().expect("a shell");
    let status = child.wait().expect("its end");
    assert!(sent.success() && status.code() == Some(75), "{status}");
    assert_eq!(place.record("one")["state"], "running");
    let text = succeed(place.improve(&["--id", "one"]));
    assert!(text.contains("going on with the improvement one"), "{text}");
    let state = place.record("one")["state"].clone();
    assert!(["passed", "refused"].contains(&state.as_str().unwrap_or_default()), "{state}");
}

/// The note of what it had learned from once stayed, and so did its adapter, which nobody could use.
#[test]
fn a_failed_improvement_leaves_neither_its_adapter_nor_its_note() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..120);
    let expect_nothing = |id: &str| {
        let record = place.record(id);
        assert!(record["state"] == "failed" && record["error"].is_string(), "{record}");
        for name in ["adapter", "run", "train.jsonl", "held_out.jsonl"] {
            assert!(!place.path("improvements").join(id).join(name).exists(), "{id}: {name}");
        }
    };
    let text = refuse(place.improve(&["--id", "one", "--set", "optimiser.no_such_setting=1"]));
    assert!(text.contains("no_such_setting"), "{text}");
    assert!(!place.path("improvements").join("one").exists(), "nothing was begun");
    // It fails when it was trained.
    place.begin_and_kill("two");
    let trained = place.path("improvements/two/adapter");
    let _ = std::fs::remove_dir_all(&trained);
    std::fs::create_dir(&trained).expect("a folder");
    refuse(place.improve(&["--id", "two"]));
    expect_nothing("two");
    let text = succeed(place.program(&["feedback", "erase", "--owner", "local"]));
    assert!(text.contains("erased: 120 of") && !text.contains("do not forget it"), "{text}");
}

/// Options were once ignored when an interrupted improvement went on.
#[test]
fn an_interrupted_improvement_does_not_go_on_with_other_options() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..120);
    place.begin_and_kill("one");
    let text = refuse(place.improve(&["--passes", "8"]));
    assert!(text.contains("--passes 8 instead of 6") && text.contains("--again"), "{text}");
    assert_eq!(place.record("one")["state"], "running");
    // All that it had computed was once given up for one that could not begin.
    for (more, why) in [
        (["--per-person", "5"], "too few judgements"),
        (["--set", "preference.nothing=1"], "preference.nothing"),
    ] {
        let text = refuse(place.improve(&[&more[..], &["--again"]].concat()));
        assert!(text.contains(why) && !text.contains("begins anew"), "{text}");
        assert_eq!(place.record("one")["state"], "running");
        assert!(place.path("improvements").join("one/train.jsonl").is_file());
    }
    let text = succeed(place.improve(&["--passes", "1", "--again"]));
    assert!(text.contains("the improvement one begins anew"), "{text}");
    let record = place.record("one");
    assert_eq!(record["recipe"]["settings"]["passes"], "1", "{record}");
    assert!(["passed", "refused"].contains(&record["state"].as_str().unwrap_or_default()), "{record}");
    assert_eq!(record["compared_with"], "base");
}

/// It was once not known with what a candidate had been compared.
#[test]
fn what_answers_since_is_said_when_an_improvement_is_promoted() {
    let place = Place::new();
    let model = place.model();
    let improvements = Improvements::new(place.path("improvements"));
    let record = Improvement {
        state: ImprovementState::Passed,
        compared_with: Some("base".to_owned()),
        ..Improvement::begun("one", &model, "dpo", 1)
    };
    improvements.write(&record).expect("written");
    adapter(&improvements.adapter_of("one").expect("a path"), &model);
    let promote = || succeed(place.program(&["promote", &model, "--improvement", "one"]));
    let text = promote();
    assert!(!text.contains("was compared with"), "{text}");
    assert!(!promote().contains("was compared with"), "it answers itself");
    adapter(&place.path("other"), "org/Another-1B");
    succeed(place.program(&["promote", &model, place.path("other").to_str().expect("a path")]));
    let text = promote();
    assert!(
        text.contains("was compared with the model itself, but the promotion")
            && text.contains("answers now: nothing was measured against that"),
        "{text}"
    );
}

/// Regression: nothing said which process makes an improvement, so that no server could end what the one before it had begun.
#[test]
fn a_program_says_that_it_makes_an_improvement_and_whether_it_does_for_a_server() {
    let place = Place::new();
    let ways: [(&[&str], _); 3] = [
        (&["--id", "one", "--background"], Some("one")),
        (&["--id", "one"], None),
        (&["--background"], None),
    ];
    for (options, for_server) in ways {
        // Nobody has judged anything.
        refuse(place.improve(options));
        let text = std::fs::read_to_string(place.path("improvements/running.json")).expect("a file");
        let maker: Value = serde_json::from_str(&text).expect("JSON");
        assert!(
            maker["process"].is_u64() && maker["for_server"].as_str() == for_server,
            "{options:?}: {maker}"
        );
    }
}
