//! `zhenjin pretrain` as people and batch systems run it: killed, stopped, without room, with wrong settings, and served afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::shards::{TINY, make_shards};
use zhenjin_train::checkpoint::{Checkpoint, Checkpoints};
use zhenjin_train::metrics::{Event, read_events};

/// Beside those of the tiny model.
const SETTINGS: [&str; 5] = [
    "schedule.steps=30",
    "intervals.checkpoint=1",
    "intervals.validation=10",
    "intervals.samples=15",
    "faults.spike_deviations=0",
];

fn zhenjin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env_remove("ZHENJIN_LOG").stdin(Stdio::null());
    command
}

fn pretrain(data: &Path, out: &Path, settings: &[&str]) -> Command {
    let mut command = zhenjin();
    command.arg("pretrain").arg("--data").arg(data).arg("--out").arg(out);
    command.args(["--depth", "1", "--sample-tokens", "4"]);
    TINY.iter().chain(&SETTINGS).chain(settings).for_each(|setting| {
        command.args(["--set", setting]);
    });
    command
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("the program starts");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// The program's answer to `arguments`, which must be a success.
fn succeed(command: &mut Command) -> String {
    let (code, text) = run(command);
    assert_eq!(code, Some(0), "{text}");
    text
}

/// The command that goes on with a run as it was begun.
fn resumed(data: &Path, out: &Path) -> Command {
    let mut command = zhenjin();
    command.args(["pretrain", "--resume", "auto", "--sample-tokens", "4"]);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

fn newest(out: &Path) -> Checkpoint {
    let found = Checkpoints::new(&out.join("checkpoints"), 9).find().expect("a folder");
    assert!(found.passed_over.is_empty(), "{:?}", found.passed_over);
    found.newest.expect("a whole checkpoint")
}

/// SHA-256 of weights and optimiser state of a run that has ended.
fn sums(out: &Path) -> Vec<(String, String)> {
    let checkpoint = newest(out);
    assert_eq!(checkpoint.state.step, 30);
    checkpoint.state.files.into_iter().map(|(name, sum)| (name, sum.sha256)).collect()
}

/// What a run told, without times and folders.
fn told(out: &Path) -> Vec<Event> {
    let read = read_events(&out.join("metrics.jsonl")).expect("a log");
    assert!(read.broken_lines.is_empty());
    let without_path = |event: &Event| match event.reproducible() {
        Event::Checkpoint { step, .. } => Event::Checkpoint { step, path: PathBuf::new() },
        event => event,
    };
    read.events.iter().map(without_path).collect()
}

/// A number below `limit` that follows from `state`.
fn random(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) % limit
}

fn kill(child: &mut Child) {
    child.kill().expect("the process is there");
    child.wait().expect("it ends");
}

#[test]
fn killed_at_random_instants_it_ends_with_the_same_bits_and_the_same_log() {
    let kills: u64 = std::env::var("ZHENJIN_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 400);
    let straight = folder.path().join("straight");
    let begun = Instant::now();
    succeed(pretrain(&data, &straight, &[]).args(["--threads", "1"]));
    let whole = begun.elapsed().as_millis() as u64;
    let mut state = 0x9E37_79B9;
    let (mut killed, mut finished) = (0, 0);
    while killed < kills || finished == 0 {
        let out = folder.path().join(format!("killed-{finished}"));
        let threads = if random(&mut state, 2) == 0 { "1" } else { "2" };
        let mut command = pretrain(&data, &out, &[]);
        command.args(["--resume", "auto", "--threads", threads]).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        if killed < kills {
            std::thread::sleep(Duration::from_millis(random(&mut state, whole)));
        }
        match child.try_wait().expect("its state") {
            Some(status) => assert!(status.success()),
            None if killed < kills => {
                kill(&mut child);
                killed += 1;
                continue;
            }
            None => assert!(child.wait().expect("it ends").success()),
        }
        assert_eq!(sums(&out), sums(&straight), "after {killed} kills");
        assert_eq!(told(&out), told(&straight), "after {killed} kills");
        std::fs::remove_dir_all(&out).expect("removed");
        finished += 1;
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_aloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let [straight, out] = ["straight", "out"].map(|name| folder.path().join(name));
    succeed(&mut pretrain(&data, &straight, &[]));
    succeed(&mut pretrain(&data, &out, &["intervals.keep=3"]));
    let last = newest(&out).path;
    let weights = last.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("the weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).expect("damaged");
    let text = succeed(&mut resumed(&data, &out));
    for part in [
        "step-00000030 is passed over",
        "model.safetensors is damaged: its SHA-256",
        "step-00000029 (step 29)",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(sums(&out), sums(&straight));
}

#[cfg(unix)]
#[test]
fn asked_to_stop_it_saves_and_ends_with_its_own_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    for signal in ["TERM", "USR1", "INT"] {
        let out = folder.path().join(signal);
        // No checkpoint but the one of the stop.
        let mut command = pretrain(
            &data,
            &out,
            &["schedule.steps=100000", "intervals.checkpoint=0", "intervals.validation=0"],
        );
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let is_step =
            |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.starts_with("step 1"));
        assert!(lines.by_ref().any(|line| is_step(&line)), "the first step is told");
        let process = child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &process]).status().expect("kill").success()
        );
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(75), "{signal}: {rest:?}");
        let step = newest(&out).state.step;
        let last = rest.last().expect("a last line");
        assert!(
            last.contains(&format!("saved after step {step}")) && last.contains("--resume auto"),
            "{last}"
        );
    }
}

/// Runs the program by a shell script, which gets it as its last arguments.
#[cfg(target_os = "linux")]
fn by_script(
    shell: &[&str],
    script: &str,
    first: &Path,
    second: &str,
    command: &Command,
) -> (Option<i32>, String) {
    let mut outer = Command::new(shell[0]);
    outer.args(&shell[1..]).args(["sh", "-c", script, "sh"]).arg(first).arg(second);
    outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    run(&mut outer)
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_that_fills_up_in_the_middle_of_a_save_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let straight = folder.path().join("straight");
    succeed(&mut pretrain(&data, &straight, &[]));
    // Room for one checkpoint and a half, in whole pages: the second does not fit beside the first.
    let files = std::fs::read_dir(newest(&straight).path).expect("a folder").flatten();
    let pages: u64 = files.map(|file| file.metadata().expect("a file").len().div_ceil(4096)).sum();
    let kilobytes = (pages * 6 + 64).to_string();
    let out = folder.path().join("full");
    let mut command = pretrain(&data, &out, &["intervals.keep=1"]);
    command.arg("--allow-small-disk");
    // Only root, or a system with user namespaces, may mount; elsewhere the next test is the one that fills a disk.
    let script = "mkdir -p \"$1\" && mount -t tmpfs -o size=$2k tmpfs \"$1\" || { echo not mounted >&2; exit 99; }; \
        out=$1; shift 2; \"$@\"; code=$?; cp -r \"$out\" \"$out.kept\"; umount \"$out\"; exit $code";
    let (code, text) = by_script(&["unshare", "-rm"], script, &out, &kilobytes, &command);
    if text.contains("not mounted") || text.contains("unshare") {
        return;
    }
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no checkpoint was saved") && text.contains("the one before it stays"), "{text}");
    let kept = folder.path().join("full.kept");
    assert_eq!(newest(&kept).state.step, 1);
    // With room again it goes on to the same bits.
    succeed(&mut resumed(&data, &kept));
    assert_eq!(sums(&kept), sums(&straight));
}

/// A copy of a checkpoint as the only one of a new run's folder.
fn begin_from(checkpoint: &Path, out: &Path) {
    let name = checkpoint.file_name().expect("a name");
    let copy = out.join("checkpoints").join(name);
    std::fs::create_dir_all(&copy).expect("a folder");
    for file in std::fs::read_dir(checkpoint).expect("a folder").flatten() {
        std::fs::copy(file.path(), copy.join(file.file_name())).expect("a copy");
    }
}

/// Folder of the checkpoint after `step`.
fn checkpoint(out: &Path, step: u64) -> PathBuf {
    out.join("checkpoints").join(format!("step-{step:08}"))
}

#[cfg(target_os = "linux")]
#[test]
fn ended_at_any_byte_of_a_save_the_checkpoint_before_it_is_whole_and_the_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let straight = folder.path().join("straight");
    succeed(&mut pretrain(&data, &straight, &["intervals.keep=30"]));
    let files = std::fs::read_dir(checkpoint(&straight, 21)).expect("a folder").flatten();
    let longest = files.map(|file| file.metadata().expect("a file").len()).max().expect("files");
    // The kernel ends the process in the write that reaches this many blocks of 512 bytes of any file (SIGXFSZ).
    let script = "ulimit -c 0; ulimit -f $2; shift 2; exec \"$@\"";
    let mut state = 0x1234_5678;
    let (mut in_a_save, mut removed) = (0, 0);
    for round in 0..50 {
        let out = folder.path().join(format!("ended-{round}"));
        begin_from(&checkpoint(&straight, 20), &out);
        let blocks = random(&mut state, longest / 512).to_string();
        let (code, text) = by_script(&["env"], script, &out, &blocks, &resumed(&data, &out));
        assert_eq!(code, None, "ended by a signal, {blocks} blocks: {text}");
        in_a_save += usize::from(out.join("checkpoints/.step-00000021.unfinished").exists());
        assert_eq!(newest(&out).state.step, 20, "{blocks} blocks");
        // To the end costs more, and a few show it.
        if round % 10 == 0 {
            succeed(&mut resumed(&data, &out));
            assert_eq!(sums(&out), sums(&straight), "{blocks} blocks");
            removed += 1;
        }
        std::fs::remove_dir_all(&out).expect("removed");
    }
    assert!(in_a_save > 40 && removed == 5, "{in_a_save} ended in the middle of a save");
}

#[test]
fn a_run_goes_on_at_every_step_around_the_ends_of_epochs() {
    let folder = tempfile::tempdir().expect("a folder");
    // About 30 sequences, of which a step takes four: several epochs, whose ends lie inside of steps.
    let data = make_shards(&folder.path().join("data"), 22);
    let straight = folder.path().join("straight");
    let text = succeed(&mut pretrain(&data, &straight, &["intervals.keep=30"]));
    let epochs =
        text.lines().find_map(|line| line.split_once(" epochs")?.0.rsplit(' ').next()?.parse::<f64>().ok());
    let epochs = epochs.expect("the number of epochs is said");
    assert!((2.5..8.0).contains(&epochs), "{text}");
    let end = 30.0 / epochs;
    for epoch in 1..=2 {
        let near = (end * f64::from(epoch)) as u64;
        for step in near - 1..=near + 2 {
            let out = folder.path().join(format!("from-{step}"));
            begin_from(&checkpoint(&straight, step), &out);
            succeed(&mut resumed(&data, &out));
            assert_eq!(sums(&out), sums(&straight), "from step {step}, epochs of {end} steps");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_that_cannot_be_written_whole_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let out = folder.path().join("out");
    // Files may have 48 KiB (96 blocks of 512 bytes), less than the weights have.
    let script = "trap '' XFSZ; ulimit -f $2; shift 2; exec \"$@\"";
    let (code, text) = by_script(&["env"], script, &out, "96", &pretrain(&data, &out, &["schedule.steps=5"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no checkpoint was saved") && text.contains("there is none before it"), "{text}");
    assert_eq!(std::fs::read_dir(out.join("checkpoints")).expect("a folder").count(), 0);
    let straight = folder.path().join("straight");
    succeed(&mut pretrain(&data, &straight, &["schedule.steps=5"]));
    succeed(pretrain(&data, &out, &["schedule.steps=5"]).args(["--resume", "auto"]));
    assert_eq!(newest(&out).state.files, newest(&straight).state.files);
}

#[test]
fn wrong_settings_and_data_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let few = make_shards(&folder.path().join("few"), 1);
    let out = folder.path().join("out");
    let refused = |command: &mut Command, code: i32, reason: &str| {
        let (found, text) = run(command);
        assert_eq!(found, Some(code), "{text}");
        assert!(text.contains(reason), "{reason} in {text}");
        assert!(!out.exists(), "{text}");
    };
    refused(
        &mut pretrain(&data, &out, &["optimiser.learning_rat=1"]),
        2,
        "did you mean `optimiser.learning_rate`?",
    );
    refused(
        &mut pretrain(&data, &out, &["optimiser.learning_rate=1e6"]),
        2,
        "`optimiser.learning_rate` must lie between 0 and 10",
    );
    refused(&mut pretrain(&data, &out, &["model.vocabulary_size=100"]), 1, "vocabulary");
    refused(&mut pretrain(&few, &out, &["data.validation_share=0", "data.sequence_length=512"]), 1, "tokens");
    refused(
        &mut pretrain(&few, &out, &["data.validation_share=0", "batch.micro_batches=64"]),
        1,
        "one step takes",
    );
    refused(pretrain(&data, &out, &[]).args(["--memory", "8MiB"]), 1, "of memory");
    refused(&mut pretrain(&folder.path().join("nothing"), &out, &[]), 1, "nothing");
    let config = folder.path().join("settings.toml");
    std::fs::write(&config, "[optimizer]\nkind = \"adamw\"\n").expect("a file");
    refused(pretrain(&data, &out, &[]).arg("--config").arg(&config), 2, "did you mean `optimiser.kind`?");
    std::fs::write(&config, "not toml").expect("a file");
    refused(pretrain(&data, &out, &[]).arg("--config").arg(&config), 2, "settings.toml");
}

#[test]
fn a_run_is_never_overwritten_and_never_goes_on_as_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let out = folder.path().join("out");
    succeed(&mut pretrain(&data, &out, &[]));
    let before = sums(&out);
    let (code, text) = run(&mut pretrain(&data, &out, &[]));
    assert!(code == Some(1) && text.contains("never overwritten"), "{text}");
    let (code, text) = run(pretrain(&data, &out, &["optimiser.beta2=0.9"]).args(["--resume", "auto"]));
    assert!(code == Some(1) && text.contains("optimiser.beta2 is 0.9, there 0.95"), "{text}");
    let other = make_shards(&folder.path().join("other"), 201);
    let (code, text) = run(pretrain(&other, &out, &[]).args(["--resume", "auto"]));
    assert!(code == Some(1) && text.contains("other data"), "{text}");
    assert_eq!(sums(&out), before);
    // Its effective configuration makes the same run again.
    let again = folder.path().join("again");
    let mut command = zhenjin();
    command.args(["pretrain", "--sample-tokens", "4", "--data"]).arg(&data).arg("--out").arg(&again);
    succeed(command.arg("--config").arg(out.join("run.toml")));
    assert_eq!(sums(&again), before);
}

/// `--tokens`, `--minutes` and `--depth` beside the file of another run had no effect: the file holds every key.
#[test]
fn options_beside_the_file_of_another_run_have_an_effect_or_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let (first, out) = (folder.path().join("first"), folder.path().join("out"));
    succeed(&mut pretrain(&data, &first, &[]));
    let with_file = |more: &[&str]| {
        let mut command = zhenjin();
        command.args(["pretrain", "--sample-tokens", "4", "--data"]).arg(&data).arg("--out").arg(&out);
        run(command.arg("--config").arg(first.join("run.toml")).args(more))
    };
    let steps = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("run.toml")).expect("settings");
        let line = text.lines().find(|line| line.starts_with("steps = ")).expect("steps").to_owned();
        line.trim_start_matches("steps = ").parse::<u64>().expect("a number")
    };
    let per_step = newest(&first).state.tokens / steps(&first);
    let (code, text) = with_file(&["--depth", "9"]);
    assert!(code == Some(1) && text.contains("--depth 9 has no effect"), "{text}");
    let tokens = (2 * per_step).to_string();
    let (code, text) = with_file(&["--tokens", &tokens, "--set", "schedule.steps=5"]);
    assert!(code == Some(1) && text.contains("both say how long"), "{text}");
    assert!(!out.exists());
    let (code, text) = with_file(&["--tokens", &tokens]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(steps(&out), 2);
}

/// Killed between the first settings' temporary file and its name, a run could not be begun again.
#[test]
fn a_run_that_was_killed_while_it_wrote_its_settings_is_begun_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    std::fs::write(out.join(".writing-a1b2c3"), "seed = ").expect("a file");
    succeed(&mut pretrain(&data, &out, &[]));
}

#[test]
fn a_checkpoint_is_served_by_the_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 200);
    let out = folder.path().join("out");
    succeed(&mut pretrain(&data, &out, &[]));
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
    let address = format!("127.0.0.1:{port}");
    let mut server = zhenjin();
    server.arg("--home").arg(folder.path().join("home")).arg("serve").arg(newest(&out).path);
    let mut server = server
        .args(["--addr", &address, "--memory", "1GiB"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a server");
    let model = newest(&out).path;
    let body = serde_json::json!({ "model": model, "prompt": "the ", "max_tokens": 4, "temperature": 0 })
        .to_string();
    let mut answer = String::new();
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(&address) {
            let request = format!(
                "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(request.as_bytes()).is_ok()
                && stream.read_to_string(&mut answer).is_ok()
                && !answer.is_empty()
            {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(&mut server);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"completion_tokens\":"), "{answer}");
}
