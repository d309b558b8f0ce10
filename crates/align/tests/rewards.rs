//! Rewards by rules, programs and services; whatever goes wrong with one is named, and nothing waits for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zhenjin_align::data::EncodedTask;
use zhenjin_align::rewards::{
    Answer, BuildOptions, RewardExpression, RewardFault, SandboxLimits, Score, WeightedRewards,
};

pub(crate) fn task(fields: Value) -> EncodedTask {
    let messages = vec![json!({"role": "user", "content": "?"})];
    EncodedTask { prompt: vec![1], messages, fields: fields.as_object().unwrap().clone() }
}

pub(crate) fn options() -> BuildOptions {
    BuildOptions {
        limit: Duration::from_secs(60),
        attempts: 2,
        python: PathBuf::from("python3"),
        sandbox: SandboxLimits { wall: Duration::from_secs(60), cpu_seconds: 2, ..SandboxLimits::default() },
        threads: 2,
        stop: || false,
    }
}

/// For what is late always.
fn impatient() -> BuildOptions {
    BuildOptions { limit: Duration::from_millis(300), ..options() }
}

pub(crate) fn build(text: &str) -> WeightedRewards {
    RewardExpression::parse(text).unwrap().build(&options()).unwrap()
}

pub(crate) fn scores(
    rewards: &WeightedRewards,
    task: &EncodedTask,
    texts: &[&str],
) -> Vec<Result<Score, RewardFault>> {
    let tokens = [7; 8];
    let answer = |text| Answer { task, text, tokens: &tokens, ended: true };
    let answers: Vec<Answer<'_>> = texts.iter().map(|text| answer(*text)).collect();
    rewards.score(&answers)
}

pub(crate) fn totals(text: &str, fields: Value, texts: &[&str]) -> Vec<f64> {
    scores(&build(text), &task(fields), texts).into_iter().map(|score| score.unwrap().total).collect()
}

pub(crate) fn fault(text: &str, fields: Value) -> RewardFault {
    fault_within(text, fields, &options())
}

fn fault_within(text: &str, fields: Value, options: &BuildOptions) -> RewardFault {
    let rewards = RewardExpression::parse(text).unwrap().build(options).unwrap();
    match scores(&rewards, &task(fields), &["an answer"]).remove(0) {
        Err(RewardFault::Part { fault, .. }) => *fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_judge_texts() {
    let answer = json!({"answer": "so it is #### 1,234"});
    assert_eq!(
        totals("number", answer, &["1234", "The sum: 1234.0!", "1235", "none", "一千二百三十四"]),
        [1.0, 1.0, 0.0, 0.0, 1.0]
    );
    assert_eq!(totals("number:n", json!({"n": 0.5}), &["1/2", "2"]), [1.0, 0.0]);
    assert_eq!(totals("exact", json!({"answer": "是"}), &[" 是\n", "是的"]), [1.0, 0.0]);
    assert_eq!(totals(r#"regex:"^\d+$""#, json!({}), &["12", "a12"]), [1.0, 0.0]);
    let schema = json!({"schema": {"type": "object", "required": ["a"]}});
    assert_eq!(
        totals("json", schema, &["{\"a\": 1}", "```json\n{\"a\": 1}\n```", "{}", "a"]),
        [1.0, 1.0, 0.5, 0.0]
    );
    assert_eq!(totals("json", json!({}), &["[]", "]"]), [1.0, 0.0]);
    // Formats count: they were notes that nothing had to keep.
    let date = json!({"schema": {"properties": {"on": {"type": "string", "format": "date"}}}});
    assert_eq!(totals("json", date, &[r#"{"on": "2024-02-29"}"#, r#"{"on": "soon"}"#]), [1.0, 0.5]);
    assert_eq!(
        totals("length:characters<=4", json!({}), &["四個漢字", "12345", "12345678"]),
        [1.0, 0.75, 0.0]
    );
    assert_eq!(totals("length:tokens>=16", json!({}), &["x"]), [0.5]);
    assert_eq!(totals("length:characters=2", json!({}), &["ab", "a", "abc"]), [1.0, 0.5, 0.5]);
}

#[test]
fn poems_are_judged_by_form_rhyme_and_tones() {
    let poem = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。";
    let broken = "白日依山，黃河入海流。欲窮千里目。";
    for text in ["poem:4x5", "poem-form:五言絕句", "poem-rhyme", "poem-tones"] {
        let [real, other, none] = totals(text, json!({}), &[poem, broken, "no poem"])[..] else { panic!() };
        assert!(real == 1.0 && other < 1.0 && none == 0.0, "{text}: {real} {other} {none}");
    }
    assert_eq!(totals("poem-form", json!({"form": "5x5"}), &[poem]), [0.4]);
    // Without a form, the nearest of regulated verse.
    assert_eq!(totals("poem-form", json!({}), &[poem]), [1.0]);
    assert!(matches!(fault("poem", json!({"form": 3})), RewardFault::Field { field, .. } if field == "form"));
}

/// A character rhymed with itself, so that two characters made a perfect poem.
#[test]
fn poems_of_few_characters_or_of_repeated_rhymes_are_worth_less() {
    let two = "平平仄仄仄平平\n仄仄平平仄仄平\n仄仄平平平仄仄\n平平仄仄仄平平";
    for aspect in ["poem:4x7", "poem-form:4x7", "poem-rhyme", "poem-tones"] {
        assert!(totals(aspect, json!({}), &[two])[0] < 0.2, "{aspect}");
    }
    let repeated = "白日依山盡，黃河入海樓。欲窮千里目，更上一層樓。";
    assert_eq!(totals("poem-rhyme", json!({}), &[repeated]), [0.5]);
    // By people, one of them playing with a word.
    let waterfall = "日照香爐生紫煙，遙看瀑布掛前川。飛流直下三千尺，疑是銀河落九天。";
    let ones = "一帆一槳一漁舟，一個漁翁一釣鉤。一俯一仰一場笑，一江明月一江秋。";
    for text in ["poem-form:4x7", "poem-rhyme"] {
        assert_eq!(totals(text, json!({}), &[waterfall, ones]), [1.0, 1.0], "{text}");
    }
}

#[test]
fn tunes_of_ci_are_judged_by_the_characters_of_each_line() {
    let first = "明月幾時有，把酒問青天。不知天上宮闕，今夕是何年。";
    let short = "明月幾時有，把酒問青天。不知天上宮闕。";
    let tune = json!({"form": [[5, 5, 6, 5], [7, 7]]});
    // Three of four lines; and the whole poem is its form alone, since tunes have tones and rhymes of their own.
    assert_eq!(totals("poem-form", tune.clone(), &[first, short, "no poem"]), [1.0, 0.375, 0.0]);
    assert_eq!(totals("poem", tune, &[first, short, "no poem"]), [1.0, 0.375, 0.0]);
    // The nearest of several counts, and names of forms stand beside lengths of lines.
    assert_eq!(totals("poem-form", json!({"form": ["4x7", [5, 5, 6]]}), &[short]), [1.0]);
    // A line too many is neither the number of lines nor among the right ones.
    assert_eq!(totals("poem-form", json!({"form": [[5, 5, 6]]}), &[first]), [0.375]);
    for form in [json!([]), json!([[]]), json!([[5, 0]]), json!([[5, "x"]]), json!(["4"]), json!([5, 5])] {
        let found = fault("poem", json!({"form": form}));
        assert!(matches!(&found, RewardFault::Field { field, .. } if field == "form"), "{form}: {found:?}");
    }
}

#[test]
fn sums_keep_the_value_of_each_part() {
    let score = scores(&build("0.7*number+-0.5*length:characters<=1"), &task(json!({"answer": 12})), &["12"])
        .remove(0);
    assert_eq!(score, Ok(Score { total: 0.7, parts: vec![1.0, 0.0] }));
    let names: Vec<String> = build("2*number + exact:x").names().map(str::to_owned).collect();
    assert_eq!(names, ["number", "exact:x"]);
}

#[test]
fn rewards_that_cannot_be_say_where_and_why() {
    for (text, at, reason) in [
        ("numbr", 0, "did you mean `number`?"),
        ("number+regx:a", 7, "did you mean `regex`?"),
        ("regex:(", 0, "unclosed group"),
        ("length:12", 0, "tokens<=64"),
        ("regex", 0, "needs an expression"),
        ("http:ftp://x", 0, "no address"),
        ("json:/no/such/file", 0, "cannot read"),
        ("poem:4", 0, "no form"),
    ] {
        let error = RewardExpression::parse(text).unwrap().build(&options()).unwrap_err();
        assert!(error.at == at && error.to_string().contains(reason), "{text}: {error}");
    }
}

#[test]
fn examples_without_what_is_compared_are_named() {
    for (text, fields) in [
        ("number", json!({})),
        ("number", json!({"answer": "none"})),
        ("exact", json!({})),
        ("code", json!({})),
    ] {
        assert!(matches!(fault(text, fields), RewardFault::Field { .. }), "{text}");
    }
}

/// A Python program that gives a score for each line.
fn process(body: &str) -> String {
    format!(
        "process:\"python3 -u -c '\nimport json, sys, time\nfor line in sys.stdin:\n    a = json.loads(line)\n    {body}'\""
    )
}

#[test]
fn a_process_gives_scores_in_any_order() {
    let length = process(
        "print(json.dumps({\\\"id\\\": a[\\\"id\\\"], \\\"score\\\": len(a[\\\"answer\\\"]) + a[\\\"fields\\\"][\\\"n\\\"]}))",
    );
    assert_eq!(totals(&length, json!({"n": 1}), &["a", "漢字", ""]), [2.0, 3.0, 1.0]);
    let backwards = "process:\"python3 -u -c 'import sys\nlines = [sys.stdin.readline() for _ in range(2)]\nprint(chr(123) + chr(34) + \\\"id\\\" + chr(34) + \\\":1,\\\" + chr(34) + \\\"score\\\" + chr(34) + \\\":5\\\" + chr(125))\nprint(chr(123) + chr(34) + \\\"id\\\" + chr(34) + \\\":0,\\\" + chr(34) + \\\"score\\\" + chr(34) + \\\":4\\\" + chr(125))\nsys.stdin.read()'\"";
    assert_eq!(totals(backwards, json!({}), &["a", "b"]), [4.0, 5.0]);
}

#[test]
fn a_process_that_hangs_dies_or_prints_garbage_is_named_and_never_waited_for() {
    let started = Instant::now();
    match fault_within("process:sleep 1000", json!({}), &impatient()) {
        RewardFault::TimedOut { who, attempts: 2, .. } => assert!(who.contains("sleep 1000")),
        other => panic!("{other:?}"),
    }
    match fault("process:echo broken >&2; exit 3", json!({})) {
        RewardFault::Died { what, .. } => {
            assert!(what.contains("exit code 3") && what.contains("broken"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    for (command, expected) in [
        ("process:echo hello; cat", "hello"),
        ("process:echo '{}'; cat", "{}"),
        ("process:yes | tr -d '\\n'", "without an end"),
    ] {
        match fault(command, json!({})) {
            RewardFault::Garbage { got, .. } => assert!(got.contains(expected), "{got}"),
            other => panic!("{command}: {other:?}"),
        }
    }
    let nan = process("print(json.dumps({\\\"id\\\": 0, \\\"score\\\": float(\\\"nan\\\")}))");
    assert!(matches!(fault(&nan, json!({})), RewardFault::NotFinite { value, .. } if value == "NaN"));
    assert!(started.elapsed() < Duration::from_secs(300));
}

#[test]
fn what_a_process_gave_before_it_died_is_kept_and_another_goes_on() {
    // Each process answers one line and ends: none fails at the same answer twice.
    let one = "process:\"python3 -u -c 'import json, sys\na = json.loads(sys.stdin.readline())\nprint(json.dumps(dict(id=a[\\\"id\\\"], score=1)))'\"";
    let found = scores(&build(one), &task(json!({})), &["a", "b", "c"]);
    assert!(found.iter().all(Result::is_ok), "{found:?}");
}

/// What the part of a sum says of each answer: its score, or its fault.
fn judged(text: &str, options: &BuildOptions, texts: &[&str]) -> Vec<Result<f64, RewardFault>> {
    let rewards = RewardExpression::parse(text).unwrap().build(options).unwrap();
    let found = scores(&rewards, &task(json!({})), texts).into_iter().map(|score| match score {
        Ok(score) => Ok(score.total),
        Err(RewardFault::Part { fault, .. }) => Err(*fault),
        Err(fault) => Err(fault),
    });
    found.collect()
}

/// A line that was no number took the scores of all answers of the step.
#[test]
fn a_score_of_a_process_that_is_no_number_is_the_fault_of_its_own_answer() {
    let float = process("print(json.dumps(dict(id=a[\\\"id\\\"], score=float(a[\\\"answer\\\"]))))");
    let found = judged(&float, &options(), &["1", "nan", "2", "-inf", "3"]);
    assert_eq!([0, 2, 4].map(|place| found[place].clone().ok()), [Some(1.0), Some(2.0), Some(3.0)]);
    for (place, expected) in [(1, "NaN"), (3, "-Infinity")] {
        let fault = found[place].clone().unwrap_err();
        assert!(matches!(&fault, RewardFault::NotFinite { value, .. } if value == expected), "{fault:?}");
    }
    // As a process has no numbers for it, or none at all.
    for score in [", score=None", ", score=str(5)", ""] {
        let reply = format!("dict(id=a[\\\"id\\\"]{score})");
        let good = "dict(id=a[\\\"id\\\"], score=1)";
        let body = format!("print(json.dumps({reply} if a[\\\"answer\\\"] == \\\"b\\\" else {good}))");
        let found = judged(&process(&body), &options(), &["a", "b", "c"]);
        assert!(found[0] == Ok(1.0) && found[1].is_err() && found[2] == Ok(1.0), "{reply}: {found:?}");
    }
}

/// An answer at which the process failed each time took the scores of all answers behind it.
#[test]
fn an_answer_that_a_process_fails_at_is_left_out_and_the_others_are_scored() {
    let good = "print(json.dumps(dict(id=a[\\\"id\\\"], score=1)))";
    let body = |bad: &str| process(&format!("{bad} if a[\\\"answer\\\"] == \\\"bad\\\" else {good}"));
    let texts = ["a", "bad", "c", "bad", "bad", "f"];
    let is_scored =
        |found: &[Result<f64, RewardFault>]| -> Vec<bool> { found.iter().map(Result::is_ok).collect() };
    let expected = [true, false, true, false, false, true];
    let found = judged(&body("sys.exit(3)"), &options(), &texts);
    assert_eq!(is_scored(&found), expected, "{found:?}");
    let Err(RewardFault::Died { what, .. }) = &found[1] else { panic!("{found:?}") };
    assert!(what.contains("exit code 3"), "{what}");
    let found = judged(&body("print(\\\"Traceback\\\")"), &options(), &texts);
    assert_eq!(is_scored(&found), expected, "{found:?}");
    let Err(RewardFault::Garbage { got, .. }) = &found[3] else { panic!("{found:?}") };
    assert_eq!(got, "Traceback");
    let options = BuildOptions { limit: Duration::from_secs(5), attempts: 1, ..options() };
    let found = judged(&body("time.sleep(1000)"), &options, &["a", "bad", "c"]);
    assert_eq!(is_scored(&found), [true, false, true], "{found:?}");
    assert!(matches!(&found[1], Err(RewardFault::TimedOut { .. })), "{found:?}");
}

#[test]
fn a_process_that_only_fails_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let command = format!("process:echo x >> {}; exit 3", starts.display());
    let found = judged(&command, &options(), &["a"; 40]);
    assert!(found.iter().all(Result::is_err), "{found:?}");
    // Two attempts with each of sixteen answers.
    assert_eq!(std::fs::read_to_string(starts).unwrap().lines().count(), 32);
}

/// Scores that a process had given twice were taken for those of the next step's answers.
#[test]
fn a_score_that_comes_twice_is_that_of_no_other_answer() {
    let twice = process(
        "print(json.dumps({\\\"id\\\": a[\\\"id\\\"], \\\"score\\\": len(a[\\\"answer\\\"])}))\n    if a[\\\"answer\\\"] == \\\"bbb\\\": print(json.dumps({\\\"id\\\": 0, \\\"score\\\": 777}))",
    );
    let rewards = build(&twice);
    let totals = |texts: &[&str]| -> Vec<f64> {
        let found = scores(&rewards, &task(json!({})), texts);
        found.into_iter().map(|score| score.map_or(f64::NAN, |score| score.total)).collect()
    };
    assert_eq!(totals(&["a", "bbb"]), [1.0, 3.0]);
    // The line too much is no score of these; another process gives them.
    assert_eq!(totals(&["cc", "dddd"]), [2.0, 4.0]);
}

/// Regression: a program that wrote every score twice was started again for each answer, and nobody was told.
#[test]
fn how_often_a_program_was_started_again_is_told_with_the_first_reason() {
    let score = "print(json.dumps(dict(id=a[\\\"id\\\"], score=1)))";
    let rewards = build(&process(&format!("{score}; {score}")));
    let told = |texts: &[&str]| {
        let found = scores(&rewards, &task(json!({})), texts);
        assert!(found.iter().all(Result::is_ok), "{found:?}");
        rewards.take_notes().join("\n")
    };
    let note = told(&["a", "b", "c", "d"]);
    assert!(note.contains("was started again 3 times; the first reason: the reward process"), "{note}");
    assert!(note.contains("expected is one score for each id that it was given"), "{note}");
    assert!(rewards.take_notes().is_empty());
    // The line too much is in the way of the next answers.
    let note = told(&["e"]);
    assert!(note.contains("was started again once"), "{note}");
    let rewards = build(&process(score));
    scores(&rewards, &task(json!({})), &["a", "b"]);
    assert!(rewards.take_notes().is_empty());
}

/// Serves one answer a connection, and gives its address.
fn serve(answers: Vec<(u16, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (status, body) in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(2).any(|pair| pair == b"]}") {
                match stream.read(&mut buffer) {
                    Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    format!("http:http://{address}/score")
}

#[test]
fn a_service_gives_scores_and_is_asked_again_when_that_may_help() {
    let good = || (200, json!({"scores": [0.5, 2]}).to_string());
    assert_eq!(totals(&serve(vec![good()]), json!({}), &["a", "b"]), [0.5, 2.0]);
    assert_eq!(totals(&serve(vec![(503, "busy".to_owned()), good()]), json!({}), &["a", "b"]), [0.5, 2.0]);
    match fault(&serve(vec![(400, "wrong".to_owned())]), json!({})) {
        RewardFault::Service { reason, attempts: 1, .. } => assert!(reason.contains("wrong"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        fault(&serve(vec![(200, "<html>".to_owned())]), json!({})),
        RewardFault::Garbage { .. }
    ));
    assert!(matches!(fault(&serve(vec![good()]), json!({})), RewardFault::Garbage { .. }));
    let nan = (200, "{\"scores\": [NaN]}".to_owned());
    assert!(matches!(fault(&serve(vec![nan]), json!({})), RewardFault::NotFinite { .. }));
}

/// One entry that was no number took the scores of the whole batch; NaN made the reply unreadable.
#[test]
fn a_score_of_a_service_that_is_no_number_is_the_fault_of_its_own_answer() {
    let reply = r#"{"note": "NaN, \"[", "scores": [0.5, NaN, null, "NaN", -Infinity, 1e999, "high", 2]}"#;
    let found = judged(&serve(vec![(200, reply.to_owned())]), &options(), &["x"; 8]);
    assert!(found[0] == Ok(0.5) && found[7] == Ok(2.0), "{found:?}");
    for fault in &found[1..6] {
        assert!(matches!(fault, Err(RewardFault::NotFinite { .. })), "{found:?}");
    }
    let Err(RewardFault::Garbage { got, .. }) = &found[6] else { panic!("{found:?}") };
    assert_eq!(got, "\"high\"");
    // Where the number of scores is wrong, nobody knows whose they are.
    let found = judged(&serve(vec![(200, reply.to_owned())]), &options(), &["x"; 7]);
    for fault in &found {
        let Err(RewardFault::Garbage { got, .. }) = fault else { panic!("{found:?}") };
        assert!(got.starts_with("8 scores for 7 answers"), "{got}");
    }
}

/// All answers of a step were one request under one time-out.
#[test]
fn a_service_is_asked_for_few_answers_at_once() {
    let options = BuildOptions { threads: 1, ..options() };
    let reply = |score: f64, count: usize| (200, json!({"scores": vec![score; count]}).to_string());
    let refusal = (400, "wrong".to_owned());
    let found = judged(&serve(vec![reply(1.0, 32), refusal, reply(3.0, 6)]), &options, &["x"; 70]);
    assert!(found[..32].iter().all(|score| *score == Ok(1.0)), "{found:?}");
    // A request that is refused takes no scores of the others.
    assert!(found[32..64].iter().all(|score| matches!(score, Err(RewardFault::Service { .. }))), "{found:?}");
    assert!(found[64..].iter().all(|score| *score == Ok(3.0)), "{found:?}");
    // Requests that are open together come back in the order of the answers.
    let options = BuildOptions { threads: 3, ..options };
    let replies = (0..3).map(|_| reply(2.0, 32)).collect();
    assert_eq!(judged(&serve(replies), &options, &["x"; 96]), vec![Ok(2.0); 96]);
}

#[test]
fn a_service_that_does_not_answer_is_a_fault_in_time() {
    let started = Instant::now();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let late = fault_within(&format!("http:http://{address}/"), json!({}), &impatient());
    assert!(matches!(late, RewardFault::TimedOut { .. }), "{late:?}");
    // It is not waited for once for each request.
    let options = BuildOptions { threads: 1, ..impatient() };
    let found = judged(&format!("http:http://{address}/"), &options, &["x"; 3200]);
    assert!(found.iter().all(|score| matches!(score, Err(RewardFault::TimedOut { .. }))), "{:?}", found[0]);
    assert!(started.elapsed() < Duration::from_secs(25));
    drop(silent);
    let gone = fault(&format!("http:http://{address}/"), json!({}));
    assert!(matches!(gone, RewardFault::Service { attempts: 2, .. }), "{gone:?}");
    assert!(started.elapsed() < Duration::from_secs(300));
}

/// Regression: a service that hung was waited for with all its attempts, whatever the run was asked.
#[test]
fn a_service_that_hangs_is_waited_for_no_more_once_the_run_is_to_stop() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http:http://{}/score", listener.local_addr().unwrap());
    thread::spawn(move || {
        let _connection = listener.accept();
        ASKED.store(true, Ordering::SeqCst);
        thread::park();
    });
    let options = BuildOptions { stop: || ASKED.load(Ordering::SeqCst), ..options() };
    let found = fault_within(&url, json!({}), &options);
    assert!(found.is_stop(), "{found:?}");
}

/// Regression: data without the field of a reward were known only after the first answers had been written.
#[test]
fn a_field_that_none_of_the_first_prompts_has_is_known_before_answers_are_written() {
    let tasks = |fields: &[Value]| fields.iter().map(|fields| task(fields.clone())).collect::<Vec<_>>();
    let without = tasks(&[json!({"other": 1}), json!({})]);
    for (text, field) in
        [("number", "answer"), ("length:tokens<=9+exact:solution", "solution"), ("code", "test")]
    {
        let fault = build(text).check(&without).unwrap_err().to_string();
        assert!(fault.contains(&format!("`{field}` is missing")), "{text}: {fault}");
    }
    // One that has it is enough: the others are answers without a reward.
    assert_eq!(build("number").check(&tasks(&[json!({}), json!({"answer": "4"})])), Ok(()));
    assert_eq!(build("length:tokens<=9").check(&without), Ok(()));
    assert_eq!(build("number").check(&[]), Ok(()));
}
