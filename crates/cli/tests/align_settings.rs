//! Settings of a run that goes on, and of an adapter that is trained further: none is lost, none is without effect.

use crate::align::{Place, run, succeed};
use serde_json::{Value, json};

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

/// DPO by the settings of an SFT run wrote down that it was one, and a run of PPO went on where GRPO was asked for.
#[test]
fn settings_and_runs_of_another_method_are_refused_with_both_names() {
    let place = Place::new();
    succeed(place.train("sft", "talks.jsonl", "sft", &["--steps", "1"]));
    let settings = place.text("sft/run.toml");
    let (code, text) = run(place.train("dpo", "pairs.jsonl", "dpo", &["--config", &settings]));
    assert!(code == Some(2) && text.contains("\"sft\"") && text.contains("\"dpo\""), "{text}");
    let more = ["--reward", "number", "--answers", "2", "--max-tokens", "4", "--steps", "1"];
    succeed(place.train("ppo", "problems.jsonl", "online", &more));
    let again = [&more[..], &["--resume", "auto"]].concat();
    let (code, text) = run(place.train("grpo", "problems.jsonl", "online", &again));
    assert!(code == Some(1) && text.contains("`ppo`") && text.contains("`grpo`"), "{text}");
    succeed(place.train("ppo", "problems.jsonl", "online", &again));
}

/// The option was ignored where an adapter's run went on, and where it was not given, a run of all weights said that its result is an adapter.
#[test]
fn whether_all_weights_learn_is_said_by_the_run_that_goes_on() {
    let place = Place::new();
    let again = |out: &str, more: &[&str]| {
        run(place.train("sft", "talks.jsonl", out, &[&["--resume", "auto"], more].concat()))
    };
    succeed(place.train("sft", "talks.jsonl", "adapter", &["--steps", "1"]));
    let (code, text) = again("adapter", &["--full"]);
    assert!(code == Some(1) && text.contains("--full has no effect"), "{text}");
    succeed(place.train("sft", "talks.jsonl", "full", &["--steps", "1", "--full"]));
    for more in [&[][..], &["--full"]] {
        let (code, text) = again("full", more);
        assert!(code == Some(0) && text.contains("`zhenjin serve ") && !text.contains("--adapter"), "{text}");
    }
    let more = ["--reward", "number", "--answers", "2", "--max-tokens", "4", "--steps", "1"];
    succeed(place.train("grpo", "problems.jsonl", "grpo", &[&more[..], &["--full"]].concat()));
    let model = place.text("model");
    let faster = [&more[..], &["--resume", "auto", "--rollout-model", &model]].concat();
    let (code, text) = run(place.train("grpo", "problems.jsonl", "grpo", &faster));
    assert!(code == Some(1) && text.contains("--rollout-model"), "{text}");
}

/// A run went on with another schema that had been written into the same file.
#[test]
fn a_run_goes_on_only_with_the_schema_that_it_began_with() {
    let place = Place::new();
    let reward = format!("json:{}", place.text("schema.json"));
    let grpo = |more: &[&str]| {
        let all = ["--steps", "1", "--answers", "2", "--max-tokens", "4", "--reward", &reward];
        place.train("grpo", "problems.jsonl", "grpo", &[&all[..], more].concat())
    };
    std::fs::write(place.path("schema.json"), r#"{"type": "object"}"#).expect("a file");
    succeed(grpo(&[]));
    succeed(grpo(&["--resume", "auto"]));
    std::fs::write(place.path("schema.json"), r#"{"type": "array"}"#).expect("a file");
    let (code, text) = run(grpo(&["--resume", "auto"]));
    assert!(code == Some(1) && text.contains("other data or another model"), "{text}");
}

/// An expression for modules was taken for all of them, and an adapter that was named by its file for one of the default rank.
#[test]
fn an_adapter_that_is_trained_further_is_known_by_its_matrices() {
    let place = Place::new();
    let first = ["--steps", "1", "--rank", "3", "--set", "tuning.projections=q_proj,down_proj"];
    succeed(place.train("sft", "talks.jsonl", "first", &first));
    let file = place.last("first").join("adapter_config.json");
    let text = std::fs::read(&file).expect("a file");
    let mut settings: Value = serde_json::from_slice(&text).expect("JSON");
    settings["target_modules"] = json!(".*(q_proj|down_proj)");
    std::fs::write(&file, settings.to_string()).expect("a file");
    for (out, path) in [("folder", place.last("first")), ("file", file)] {
        let path = path.to_str().expect("a path");
        succeed(place.train("dpo", "pairs.jsonl", out, &["--steps", "1", "--adapter", path]));
        let settings = std::fs::read_to_string(place.path(out).join("run.toml")).expect("a file");
        assert!(
            settings.contains("rank = 3") && settings.contains("projections = \"q_proj,down_proj\""),
            "{settings}"
        );
    }
}

/// The base of a policy's adapter was compared with the model, that of a reward model's was not.
#[test]
fn a_reward_model_of_another_base_is_said() {
    let place = Place::new();
    succeed(place.train("reward", "pairs.jsonl", "reward", &["--steps", "1"]));
    let reward_model = place.last("reward");
    let folder = reward_model.to_str().expect("a path");
    let more = ["--steps", "1", "--max-tokens", "6", "--reward-model", folder];
    let note = "says that it was trained on `somebody/another-model`";
    let text = succeed(place.train("ppo", "pairs.jsonl", "same", &more));
    assert!(!text.contains("says that it was trained on"), "{text}");
    let file = reward_model.join("adapter_config.json");
    let text = std::fs::read(&file).expect("a file");
    let mut settings: Value = serde_json::from_slice(&text).expect("JSON");
    settings["base_model_name_or_path"] = json!("somebody/another-model");
    std::fs::write(&file, settings.to_string()).expect("a file");
    let text = succeed(place.train("ppo", "pairs.jsonl", "other", &more));
    assert_eq!(text.matches(note).count(), 1, "{text}");
}

/// The option was one of `data` alone, and what it showed no training made.
#[test]
fn a_model_that_can_be_told_not_to_think_is_trained_so() {
    let place = Place::new();
    let template = "{% for message in messages %}<|im_start|>\
        {% if enable_thinking is defined and enable_thinking is false and message.role == 'user' %}/no_think {% endif %}\
        {{ message.content }}<|im_end|>{% endfor %}<|im_start|>";
    std::fs::write(place.path("model").join("chat_template.jinja"), template).expect("a file");
    let talk = |before: &str, number: i32| {
        json!({"messages": [
            {"role": "user", "content": format!("{before}say {number}")},
            {"role": "assistant", "content": format!("{number} it is")},
        ]})
    };
    place.write("told.jsonl", (0..20).map(|number| talk("/no_think ", number)));
    let held_out = place.text("talks.jsonl");
    let adapter = |data: &str, out: &str, more: &[&str]| {
        let all = [&["--steps", "2", "--held-out", &held_out][..], more].concat();
        succeed(place.train("sft", data, out, &all));
        std::fs::read(place.last(out).join("adapter_model.safetensors")).expect("an adapter")
    };
    let plain = adapter("talks.jsonl", "plain", &[]);
    let without_thoughts = adapter("talks.jsonl", "off", &["--thinking", "off"]);
    assert!(plain != without_thoughts);
    assert!(adapter("told.jsonl", "told", &[]) == without_thoughts);
    // What is shown, measured and answered is the same.
    let (model, pairs) = (place.text("model"), place.text("pairs.jsonl"));
    let shown = ["data", "show", &held_out, "--model", &model, "--thinking", "off"];
    assert!(succeed(place.program(&shown)).contains("/|n|o|_|t|h|i|n|k"));
    let measured =
        ["evaluate", "preferences", &model, "--data", &pairs, "--thinking", "off", "--threads", "1"];
    succeed(place.program(&measured));
    let (problems, out) = (place.text("problems.jsonl"), place.text("best.jsonl"));
    let best = ["best-of-n", &model, "--data", &problems, "--out", &out, "--thinking", "off"];
    let mut program = place.program(&best);
    program.args(["--n", "2", "--reward", "length:tokens<=4", "--max-tokens", "4", "--threads", "1"]);
    let (_, text) = run(program);
    assert!(!text.contains("unexpected argument") && text.contains("20 prompts"), "{text}");
}

/// Regression: a run that was refused before it began left a folder with its lock behind.
#[test]
fn a_run_that_is_refused_leaves_no_folder() {
    let place = Place::new();
    for (out, more, expected) in
        [("runs/small", ["--memory", "1k"], "memory"), ("none", ["--context", "4"], "tokens")]
    {
        let (code, text) = run(place.train("sft", "talks.jsonl", out, &more));
        assert!(code != Some(0) && text.contains(expected), "{text}");
        assert!(!place.path(out).exists() && !place.path("runs").exists(), "{out}: {text}");
    }
    // Where there was one already, it stays.
    std::fs::create_dir(place.path("there")).expect("a folder");
    let (code, text) = run(place.train("sft", "talks.jsonl", "there", &["--memory", "1k"]));
    assert!(code != Some(0) && place.path("there").is_dir(), "{text}");
}
