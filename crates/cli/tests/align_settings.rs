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

/// A run went on with another reward model that had been written into the same folder, and not with the same one in another place.
#[test]
fn a_run_goes_on_only_with_the_reward_model_that_it_began_with() {
    let place = Place::new();
    for (out, seed) in [("reward", "1"), ("other", "2")] {
        succeed(place.train("reward", "pairs.jsonl", out, &["--steps", "2", "--seed", seed]));
    }
    let model = |name: &str| {
        let folder = place.path(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder.to_str().expect("a path").to_owned()
    };
    let copy = |from: &str, to: &str| {
        for entry in std::fs::read_dir(place.last(from)).expect("a folder") {
            let path = entry.expect("an entry").path();
            std::fs::copy(&path, place.path(to).join(path.file_name().expect("a name"))).expect("a copy");
        }
    };
    let [here, moved] = [model("here"), model("moved")];
    copy("reward", "here");
    copy("reward", "moved");
    let ppo = |folder: &str, more: &[&str]| {
        let all = [&["--steps", "2", "--max-tokens", "6", "--reward-model", folder], more].concat();
        place.train("ppo", "pairs.jsonl", "ppo", &all)
    };
    succeed(ppo(&here, &[]));
    succeed(ppo(&moved, &["--resume", "auto"]));
    copy("other", "here");
    let (code, text) = run(ppo(&here, &["--resume", "auto"]));
    assert!(code == Some(1) && text.contains("other data or another model"), "{text}");
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
