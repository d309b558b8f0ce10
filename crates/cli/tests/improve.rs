//! `zhenjin improve`, `promote` and `rollback` as people run them: from judgements in the store to an adapter that answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::improve_place::{Place, refuse, succeed};
use crate::tiny_model;
use serde_json::Value;
use zhenjin_model::write::FloatType;
use zhenjin_store::{NewFeedback, Owner, Rating};

#[test]
fn choices_become_an_adapter_that_is_measured_promoted_and_taken_back() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..120);
    let text = succeed(place.improve(&["--auto"]));
    let records = place.records();
    let record = &records[0];
    let id = record["id"].as_str().expect("an id").to_owned();
    assert_eq!((&record["method"], &record["data"]["pairs"]), (&"dpo".into(), &120.into()));
    let gate = record["gate"].as_array().expect("criteria");
    let names: Vec<&str> = gate.iter().filter_map(|criterion| criterion["name"].as_str()).collect();
    assert_eq!(
        names,
        ["preference_accuracy", "liked_answers", "win_rate", "perplexity_en", "perplexity_zh", "speed"]
    );
    assert_eq!(gate[0]["passed"], true, "{text}");
    // What people wrote is in the store alone.
    let left: Vec<String> = std::fs::read_dir(place.path("improvements").join(&id))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!left.iter().any(|name| name.ends_with(".jsonl") || name == "judge"), "{left:?}");

    let text = refuse(place.improve(&[]));
    assert!(text.contains("nothing was judged since"), "{text}");
    // The same choice again, or a comment, once changed the order of the examples.
    place.choose_again(&Owner::Local);
    let text = succeed(place.improve(&["--reproduce", &id]));
    assert!(text.contains("the same adapter, bit for bit"), "{text}");
}

#[test]
fn nobody_learns_from_people_who_did_not_allow_it_and_too_few_judgements_say_so() {
    let place = Place::new();
    place.choose(&Owner::Local, false, 0..60);
    let text = refuse(place.improve(&[]));
    assert!(
        text.contains("too few judgements") && text.contains("60 (whoever judged does not allow"),
        "{text}"
    );
    assert_eq!(place.records(), Value::Array(Vec::new()));
    let text = refuse(place.improve(&["--reproduce", "none"]));
    assert!(text.contains("no improvement `none`"), "{text}");
}

/// Regression: the record of one that was asked for by its name said that nothing was counted, beside an error that had the numbers.
#[test]
fn too_few_judgements_are_counted_in_the_record() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..6);
    let text = refuse(place.improve(&["--id", "few"]));
    let record = place.record("few");
    assert_eq!((&record["state"], &record["method"]), (&"failed".into(), &"dpo".into()), "{record}");
    let error = record["error"].as_str().expect("a reason");
    assert!(error.starts_with("there are too few judgements"), "{error}");
    assert!(text.contains("too few judgements"), "{text}");
    let count = |name: &str| record["data"][name].as_u64().expect("a number");
    assert_eq!((count("pairs"), count("conversations"), count("owners")), (6, 6, 1), "{record}");
    assert_eq!(count("train") + count("held_out"), 6, "{record}");
    // A table without criteria once stood before the reason.
    let text = succeed(place.program(&["improve", "--show", "few"]));
    assert!(text.contains("6 choices") && text.contains("failed: there are too few"), "{text}");
    assert!(!text.contains("criterion"), "{text}");
    // Nobody waits for the name of one that has none.
    refuse(place.improve(&[]));
    assert_eq!(place.records().as_array().map(Vec::len), Some(1));
}

/// The value of a criterion, and whether it passed.
fn criterion<'a>(record: &'a Value, name: &str) -> (&'a Value, &'a Value) {
    let gate = record["gate"].as_array().expect("criteria");
    let found = gate.iter().find(|criterion| criterion["name"] == name).expect("the criterion");
    (&found["value"], &found["passed"])
}

/// Thumbs up and down on the same words once made everybody's choices be learned as thumbs.
#[test]
fn a_thousand_thumbs_of_somebody_who_says_both_change_neither_the_adapter_nor_the_gate() {
    let place = Place::new();
    let model = place.model();
    place.choose(&Owner::Local, true, 0..120);
    succeed(place.improve(&[&model, "--id", "before"]));
    let troll = place.person("troll");
    place.rate(&troll, (0..500).map(|number| [number, number].map(|number| format!("it is {}", number % 7))));
    let text = succeed(place.improve(&[&model, "--id", "after", "--again"]));
    assert!(text.contains("left out: 500 (the same person judged the same both ways)"), "{text}");
    let [before, after] = ["before", "after"].map(|id| place.record(id));
    for key in ["train_sha256", "held_out_sha256", "adapter_sha256"] {
        assert_eq!(before["recipe"][key], after["recipe"][key], "{key}");
    }
    assert_eq!(after["method"], "dpo");
    for name in ["preference_accuracy", "liked_answers", "win_rate", "perplexity_en", "perplexity_zh"] {
        assert_eq!(criterion(&before, name), criterion(&after, name), "{name}");
    }
}

#[test]
fn a_thousand_thumbs_against_everybody_do_not_swing_the_gate() {
    let place = Place::new();
    let model = place.model();
    for name in ["anna", "ben", "chen", "dora", "emil"] {
        place.choose(&place.person(name), true, 0..80);
    }
    let troll = place.person("troll");
    let texts = |number: usize| [format!("it is {number}."), format!("{number}, you see?")];
    place.rate(&troll, (0..500).map(texts));
    let text = succeed(place.improve(&[&model, "--id", "one"]));
    assert!(text.contains("the newest 58 of") && text.contains("the newest 4 of"), "{text}");
    let record = place.record("one");
    assert_eq!(record["data"]["owners"], 6);
    let (value, passed) = criterion(&record, "preference_accuracy");
    assert_eq!(passed, true, "{value}: {text}");
}

/// Thumbs alone are learned by KTO, good answers alone by SFT; both pass through the same gate.
#[test]
fn thumbs_and_good_answers_become_adapters_that_are_measured() {
    for (method, texts) in [("kto", ["you see?", "it is."]), ("sft", ["you see?", ""])] {
        let place = Place::new();
        place.with_store(async |store| {
            store.set_training_consent(&Owner::Local, true).await.expect("consent");
            for number in 0..120 {
                let text = match texts[number % 2] {
                    "" => texts[0],
                    text => text,
                };
                let answers = [format!("{number}, {text}"), "never judged".to_owned()];
                let [answer, _] = place.answers(store, &Owner::Local, number, answers).await;
                let rating = if text == texts[0] { Rating::Up } else { Rating::Down };
                let said = NewFeedback { rating: Some(rating), ..NewFeedback::default() };
                store.set_feedback(&Owner::Local, &answer, said).await.expect("kept");
            }
        });
        let text = succeed(place.improve(&["--id", "one"]));
        let record = place.record("one");
        assert_eq!((&record["method"], &record["data"]["ratings"]), (&method.into(), &120.into()), "{text}");
        let (value, passed) = criterion(&record, "preference_accuracy");
        assert_eq!(passed, true, "{method}: {value}: {text}");
        assert!(criterion(&record, "win_rate").1.is_null(), "there are no pairs to judge by");
    }
}

#[test]
fn an_improvement_that_was_killed_goes_on_and_ends_with_the_same_bits() {
    let killed = Place::new();
    killed.choose(&Owner::Local, true, 0..100);
    let mut child = killed.improve(&["--id", "one", "--passes", "6"]).spawn().expect("the program starts");
    // Killed as soon as a checkpoint is there, if it is not faster than we look.
    let checkpoints = killed.path("improvements/one/run/checkpoints");
    while child.try_wait().expect("a status").is_none() {
        let has_one = std::fs::read_dir(&checkpoints).is_ok_and(|mut entries| entries.next().is_some());
        if has_one {
            child.kill().expect("killed");
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.wait().expect("its end");
    if killed.records()[0]["state"] == "running" {
        let text = succeed(killed.improve(&[&killed.model()]));
        assert!(text.contains("going on with the improvement one"), "{text}");
    }
    let state = killed.records()[0]["state"].clone();
    assert!(["passed", "refused"].contains(&state.as_str().unwrap_or_default()), "{state}");
    // The undisturbed run.
    let text = succeed(killed.improve(&["--reproduce", "one"]));
    assert!(text.contains("the same adapter, bit for bit"), "{text}");
}

/// The examples of an interrupted improvement once stayed in its folder, whatever was erased since.
#[test]
fn what_is_erased_does_not_stay_in_an_interrupted_improvement() {
    let place = Place::new();
    place.choose(&place.person("anna"), true, 0..60);
    place.choose(&Owner::Local, true, 60..160);
    place.begin_and_kill("one");
    let text = succeed(place.program(&["feedback", "erase", "--owner", "anna"]));
    assert!(text.contains("erased: 60 of") && text.contains("the improvement one is given up"), "{text}");
    assert!(!text.contains("do not forget it"), "nothing is left that learned from it: {text}");
    for name in ["train.jsonl", "held_out.jsonl", "run", "adapter"] {
        assert!(!place.path("improvements/one").join(name).exists(), "{name}");
    }
    let record = place.record("one");
    let error = record["error"].as_str().expect("a reason");
    assert!(record["state"] == "failed" && error.contains("erased"), "{record}");
}

/// An interrupted improvement once went on with the words of people who no longer allow it.
#[test]
fn an_interrupted_improvement_does_not_go_on_with_what_is_no_longer_allowed() {
    let place = Place::new();
    let anna = place.person("anna");
    place.choose(&anna, true, 0..60);
    place.choose(&Owner::Local, true, 60..160);
    place.begin_and_kill("one");
    // No program looks at the folder when this is said.
    place.with_store(async |store| {
        store.set_training_consent(&anna, false).await.expect("kept");
    });
    let text = succeed(place.improve(&["--id", "one"]));
    assert!(text.contains("the improvement one is given up") && !text.contains("going on with"), "{text}");
    let record = place.record("one");
    assert!(["passed", "refused"].contains(&record["state"].as_str().unwrap_or_default()), "{record}");
    assert_eq!((&record["data"]["owners"], &record["data"]["pairs"]), (&1.into(), &100.into()));
    let text = succeed(place.program(&["feedback", "erase", "--owner", "anna"]));
    assert!(!text.contains("do not forget it"), "it learned from others alone: {text}");
}

/// The copies were once made before the record that says what they are of; they are made again where a crash left the record alone.
#[test]
fn an_improvement_without_its_examples_makes_them_again_and_goes_on() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..100);
    place.begin_and_kill("one");
    for name in ["train.jsonl", "held_out.jsonl", "anchor.txt"] {
        std::fs::remove_file(place.path("improvements/one").join(name)).expect("a copy");
    }
    let text = succeed(place.improve(&[]));
    assert!(text.contains("going on with the improvement one"), "{text}");
    let text = succeed(place.improve(&["--reproduce", "one"]));
    assert!(text.contains("the same adapter, bit for bit"), "{text}");
}

/// Pairs beyond a person's share were once made again of the thumbs behind the others, and the improvement could not be reproduced: it was said that
/// somebody had judged again.
#[test]
fn an_improvement_is_reproduced_where_a_persons_share_was_less_than_all_pairs() {
    let place = Place::new();
    for (number, name) in ["anna", "ben", "chen", "dora", "emil"].iter().enumerate() {
        place.choose(&place.person(name), true, number * 20..number * 20 + 20);
    }
    place.rate_one_question(&place.person("rater"), 1000, 6, 4);
    let text = succeed(place.improve(&[&place.model(), "--id", "one", "--per-person", "20"]));
    assert!(text.contains("the newest 20 of"), "{text}");
    let record = place.record("one");
    let division = record["recipe"]["division"].as_str().expect("a rule");
    assert!(division.starts_with("opening up to ") && record["recipe"]["order"] == "name", "{record}");
    let without = record["recipe"]["without"].as_array().expect("the pairs that were left out");
    assert_eq!(without.len(), 4, "{without:?}");
    let text = succeed(place.improve(&["--reproduce", "one"]));
    assert!(text.contains("the same adapter, bit for bit"), "{text}");
}

/// What was trained on another model of the same shape was once accepted in silence.
#[test]
fn an_adapter_that_names_another_model_is_used_and_that_is_said() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/adapters/llama-every");
    let adapter = |name: &str, base: &str| {
        let folder = place.path(name);
        std::fs::create_dir(&folder).expect("a folder");
        let file = "adapter_model.safetensors";
        std::fs::copy(golden.join(file), folder.join(file)).expect("a copy");
        let text = std::fs::read_to_string(golden.join("adapter_config.json")).expect("a file");
        let mut settings: Value = serde_json::from_str(&text).expect("JSON");
        settings["base_model_name_or_path"] = base.into();
        std::fs::write(folder.join("adapter_config.json"), settings.to_string()).expect("a file");
        folder.to_str().expect("a path").to_owned()
    };
    let model = place.model();
    for (name, base, is_other) in [("same", model.as_str(), false), ("other", "org/Another-1B", true)] {
        let adapter = adapter(name, base);
        let text = succeed(place.program(&["promote", &model, &adapter]));
        let says = text.contains("trained on `org/Another-1B`, which seems to be another model");
        assert_eq!(says, is_other, "{text}");
        let out = place.path(&format!("{name}-merged"));
        let out = out.to_str().expect("a path");
        let text = succeed(place.program(&["export", &model, "--adapter", &adapter, "--to", "hf", out]));
        assert_eq!(text.contains("seems to be another model"), is_other, "{text}");
    }
}

#[test]
fn weights_are_promoted_shown_and_taken_back() {
    let place = Place::new();
    let model = place.model();
    let adapter = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/golden/adapters/llama-every");
    let text = succeed(place.program(&["promote"]));
    assert!(text.contains("nothing was promoted"), "{text}");
    let text = refuse(place.program(&["promote", &model, "/nowhere"]));
    assert!(text.contains("/nowhere"), "{text}");
    // A folder that holds half of an adapter.
    let half = place.path("half");
    std::fs::create_dir(&half).expect("a folder");
    std::fs::copy(Path::new(adapter).join("adapter_config.json"), half.join("adapter_config.json"))
        .expect("a file");
    let text = refuse(place.program(&["promote", &model, half.to_str().expect("a path")]));
    assert!(text.contains("is no adapter to"), "{text}");
    let text = succeed(place.program(&["promote", &model, adapter]));
    assert!(text.contains("answers as") && !text.contains("another model"), "{text}");
    assert!(succeed(place.program(&["promote", &model, &model])).contains("answers as"));
    let text = succeed(place.program(&["promote"]));
    assert!(text.contains("before: the model itself") && text.contains("llama-every"), "{text}");
    assert!(succeed(place.program(&["rollback", &model])).contains("llama-every"));
    let text = succeed(place.program(&["rollback", &model]));
    assert!(text.contains("the model itself answers as"), "{text}");
    assert!(refuse(place.program(&["rollback", &model])).contains("nothing earlier to go back to"));
}

/// A checkpoint once said nothing of its run where its path was short, or went through a link.
#[test]
fn what_is_promoted_says_which_method_trained_it() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/adapters/llama-every");
    let checkpoint = place.path("run/checkpoints/step-00000008");
    std::fs::create_dir_all(&checkpoint).expect("a folder");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(golden.join(file), checkpoint.join(file)).expect("a copy");
    }
    std::fs::write(place.path("run/run.toml"), "method = \"dpo\"\nseed = 1\n").expect("a file");
    let mut program = place.program(&["promote", &place.model(), "step-00000008"]);
    program.current_dir(place.path("run/checkpoints"));
    let text = succeed(program);
    assert!(text.contains("(dpo from step-00000008)"), "{text}");
    let list: Value = serde_json::from_str(&succeed(place.program(&["promote", "--json"]))).expect("JSON");
    assert_eq!(list[place.model()]["now"]["origin"]["method"], "dpo", "{list}");
}

/// A server, and the address that it listens on; it ends with this.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Serves models by the names that they have in the place's folder.
    fn start(place: &Place, models: &[&str]) -> Server {
        let mut program = place.program(&["serve", "--addr", "127.0.0.1:0", "--threads", "1"]);
        program.args(models).current_dir(place.folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = program.spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let line = output.lines().map_while(Result::ok).find(|line| line.contains("listening on http://"));
        let line = line.expect("the server listens");
        let address = line.rsplit("http://").next().expect("an address").trim().to_owned();
        let server = Server { child, address };
        wait_until(|| place.path("promoted/served.json").is_file());
        server
    }

    /// What answers under the model's name in the place of its own weights.
    fn promoted(&self, model: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let host = &self.address;
        write!(stream, "GET /api/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        // The body may come in chunks, with their lengths around it.
        let list = &body[body.find('[').expect("a list")..=body.rfind(']').expect("its end")];
        let list: Value = serde_json::from_str(list).expect("JSON");
        let list = list.as_array().expect("a list");
        list.iter().find(|one| one["name"] == model).expect("the model")["promoted"].clone()
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("it did not come to it within 20 seconds");
}

/// Promoted under another way to write its path, a model once went on as it was, and the program said that it did not.
#[test]
fn a_model_is_promoted_under_the_name_that_the_server_has_for_it() {
    let place = Place::new();
    tiny_model::write_tiny_model(&place.path("other"), FloatType::F32);
    let adapter = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/golden/adapters/llama-every");
    let server = Server::start(&place, &["./model"]);
    let text = succeed(place.program(&["promote", &place.model(), adapter]));
    assert!(
        text.contains("is known as ./model") && text.contains("answers as ./model from now on"),
        "{text}"
    );
    wait_until(|| server.promoted("./model").is_object());
    let text = succeed(place.program(&["rollback", &place.model()]));
    assert!(text.contains("the model itself answers as ./model from now on"), "{text}");
    wait_until(|| server.promoted("./model").is_null());
    // Nobody serves this one, and that is said.
    let other = place.path("other");
    let text = succeed(place.program(&["promote", other.to_str().expect("a path"), adapter]));
    assert!(
        text.contains("when a server serves a model of that name: the one that runs serves ./model"),
        "{text}"
    );
    drop(server);
    let text = succeed(place.program(&["rollback", other.to_str().expect("a path")]));
    assert!(text.contains("when a server serves a model of that name: none runs now"), "{text}");
}
