//! Code that passes tests, run in a process with limits.
//!
//! The process is Python, isolated from its environment (`-I`), in a [`Sandbox`]. It limits its own CPU time, memory, file sizes, open
//! files and processes, gives up calls that escape these limits, then runs the answer and behind it the tests. The memory of all its
//! processes together is looked at from outside. A program that passed says a secret, which it got through a pipe and
//! which no name of Python's leads to while the answer runs ([`HARNESS`]): neither files nor frames nor arguments hold it or the tests, so
//! that an answer that prints what it finds, replaces functions or ends early does not pass.
//!
//! What remains possible, as tests need the answer's objects and so share an interpreter with it: to read the process's memory (`ctypes`),
//! to jump over the tests in a trace function (`sys.settrace`), to replace the functions that the tests call, and to give objects that equal
//! everything. Look at what is rewarded.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::{end_group, how_it_ended, in_group, wait};
use super::memory;
use super::sandbox::Sandbox;
use super::{Answer, Reward, RewardFault, shortened};
use crate::data::EncodedTask;

/// Sets the limits, runs the answer and its tests, and says that they passed.
const HARNESS: &str = include_str!("harness.py");

/// What the harness writes as soon as the answer can run.
const MARK: u8 = b'+';

/// What it writes instead, before the reason, where it cannot limit the answer.
const REFUSAL: u8 = b'-';

/// What it writes instead, before the reason, where the tests test nothing.
const NO_TESTS: u8 = b'?';

/// Bytes that are read of what a program wrote: more than a secret has, so that one that wrote more does not pass.
const READ: u64 = 256;

/// How often the memory of a program's processes is summed up.
const LOOK: Duration = Duration::from_millis(100);

/// Characters of a secret.
const SECRET_LENGTH: usize = 32;

/// Limits on a program under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxLimits {
    /// From start to end.
    pub wall: Duration,
    /// Seconds of CPU time.
    pub cpu_seconds: u64,
    /// Bytes of memory: addresses of each process, and pages of all together. The sum is looked at ten times a second.
    pub memory_bytes: u64,
    /// Bytes of a file that it writes.
    pub file_bytes: u64,
    /// Files that are open at once.
    pub open_files: u64,
    /// Processes and threads.
    pub processes: u64,
}

impl Default for SandboxLimits {
    fn default() -> SandboxLimits {
        SandboxLimits {
            wall: Duration::from_secs(10),
            cpu_seconds: 5,
            memory_bytes: 512 << 20,
            file_bytes: 1 << 20,
            open_files: 32,
            processes: 16,
        }
    }
}

/// 1 where the answer's code passes the example's tests, else 0.
///
/// Tests are the example's field `test` (with `entry_point`, as HumanEval has them, `check(entry_point)` is called) or `tests`, a
/// list of statements. The code is the answer's last fenced block, or all of it; where it does not define `entry_point`, it goes on
/// from the field `prompt_code`, or from the last message.
pub(super) struct CodeReward {
    python: PathBuf,
    limits: SandboxLimits,
    threads: usize,
    sandbox: Sandbox,
}

impl Reward for CodeReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        let mut scores: Vec<Option<Result<f64, RewardFault>>> = answers.iter().map(|_| None).collect();
        let share = answers.len().div_ceil(self.threads.max(1)).max(1);
        thread::scope(|scope| {
            for (answers, scores) in answers.chunks(share).zip(scores.chunks_mut(share)) {
                scope.spawn(move || {
                    for (answer, score) in answers.iter().zip(scores) {
                        *score = Some(self.of_answer(answer));
                    }
                });
            }
        });
        scores.into_iter().flatten().collect()
    }

    fn check(&self, task: &EncodedTask) -> Result<(), RewardFault> {
        program(&Answer { task, text: "", tokens: &[], ended: true }).map(|_| ())
    }
}

impl CodeReward {
    /// Runs programs with `python`, so many at once.
    ///
    /// # Errors
    /// If this system cannot keep programs from the user's files.
    pub(super) fn new(python: PathBuf, limits: SandboxLimits, threads: usize) -> Result<CodeReward, String> {
        let sandbox = Sandbox::for_python(&python)?;
        Ok(CodeReward { python, limits, threads, sandbox })
    }

    fn of_answer(&self, answer: &Answer<'_>) -> Result<f64, RewardFault> {
        let Program { code, tests, field } = program(answer)?;
        let failed = |what: String| RewardFault::Died { who: "the sandbox".to_owned(), what };
        let folder = tempfile::tempdir().map_err(|error| failed(format!("has no folder: {error}")))?;
        let secret = secret().map_err(|error| failed(format!("cannot read /dev/urandom: {error}")))?;
        let SandboxLimits { cpu_seconds, memory_bytes, file_bytes, open_files, processes, .. } = &self.limits;
        let mut command =
            self.sandbox.command(folder.path()).map_err(|error| failed(format!("cannot start: {error}")))?;
        command.arg(&self.python).args(["-I", "-c", HARNESS]);
        command.args([cpu_seconds, memory_bytes, open_files, processes, file_bytes].map(u64::to_string));
        command.args([secret.len(), tests.len()].map(|length| length.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        in_group(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| failed(format!("cannot start {}: {error}", self.python.display())))?;
        hand_over(&mut child, [secret.as_str(), tests.as_str(), code.as_str()].concat());
        let status = self.watch(&mut child);
        end_group(&mut child);
        // What was ended may be gone a moment later and keep the pipe open until then: only the mark is read of it.
        let most = if status.is_some() { READ } else { 1 };
        let mut said = Vec::new();
        if let Some(output) = child.stdout.take() {
            // What was read before an error counts.
            let _ = output.take(most).read_to_end(&mut said);
        }
        let said = match said.split_first() {
            Some((&MARK, said)) => said,
            Some((&REFUSAL, reason)) => {
                let reason = shortened(&String::from_utf8_lossy(reason));
                return Err(failed(format!("cannot limit what it runs: {reason}")));
            }
            Some((&NO_TESTS, problem)) => {
                return Err(fault(field, &shortened(&String::from_utf8_lossy(problem))));
            }
            _ => {
                let how = status
                    .map_or_else(|| "it was not ready in time".to_owned(), |status| how_it_ended(&status));
                return Err(failed(format!("cannot start {}: {how}", self.python.display())));
            }
        };
        let ended_well = status.is_some_and(|status| status.success());
        Ok(f64::from(u8::from(ended_well && said == secret.as_bytes())))
    }

    /// Waits for the program's end; `None` where a limit was passed before.
    fn watch(&self, child: &mut Child) -> Option<ExitStatus> {
        let until = Instant::now() + self.limits.wall;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(status) = wait(child, left.min(LOOK)) {
                return Some(status);
            }
            let most = self.limits.memory_bytes;
            if left.is_zero() || memory::of_tree(child.id(), most) > most {
                return None;
            }
        }
    }
}

/// What nobody can guess.
fn secret() -> std::io::Result<String> {
    let mut bytes = [0; SECRET_LENGTH / 2];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes what a process reads, beside the wait for its end: it may never read it.
fn hand_over(child: &mut Child, text: String) {
    if let Some(mut input) = child.stdin.take() {
        thread::spawn(move || {
            // Where the process does not read it, its end says so.
            let _ = input.write_all(text.as_bytes());
        });
    }
}

/// What is run, one after the other.
struct Program {
    code: String,
    tests: String,
    /// Where the tests stand in the example.
    field: &'static str,
}

fn fault(field: &str, problem: &str) -> RewardFault {
    RewardFault::Field { field: field.to_owned(), problem: problem.to_owned() }
}

/// The program under test: code, tests, and their call.
fn program(answer: &Answer<'_>) -> Result<Program, RewardFault> {
    let fields = &answer.task.fields;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let entry_point = text("entry_point");
    if let Some(name) = entry_point
        && !name.chars().all(|character| character.is_alphanumeric() || matches!(character, '_' | '.'))
    {
        return Err(fault("entry_point", "is no name of a function"));
    }
    let mut code = code_of(answer.text).to_owned();
    if let Some(name) = entry_point
        && !code.contains(&format!("def {name}"))
    {
        let last = answer.task.messages.last().and_then(|message| message["content"].as_str());
        let start = text("prompt_code").or(last).unwrap_or_default();
        code = format!("{start}{code}");
    }
    // Sets of several sources leave the field empty that an example does not use.
    let test = text("test").filter(|test| !test.trim().is_empty());
    let (field, tests) = match (test, fields.get("tests")) {
        (Some(test), _) => match entry_point.filter(|_| test.contains("def check(")) {
            Some(name) => ("test", format!("{test}\ncheck({name})\n")),
            None => ("test", test.to_owned()),
        },
        (None, Some(Value::Array(tests))) => {
            let tests: Option<Vec<&str>> = tests.iter().map(Value::as_str).collect();
            ("tests", tests.ok_or_else(|| fault("tests", "is not a list of texts"))?.join("\n"))
        }
        (None, Some(Value::String(tests))) => ("tests", tests.clone()),
        (None, None) if !fields.contains_key("test") => {
            return Err(fault("test", "is missing; `code` runs it"));
        }
        (None, None) => ("test", String::new()),
        (None, Some(_)) => ("tests", String::new()),
    };
    if tests.trim().is_empty() {
        return Err(fault(
            field,
            "holds no tests, so every answer would pass: give it statements of Python, or leave out the example",
        ));
    }
    Ok(Program { code, tests, field })
}

/// The last fenced block of an answer, or all of it.
fn code_of(text: &str) -> &str {
    let Some(end) = text.rfind("```") else { return text };
    let Some(start) = text[..end].rfind("```") else {
        // A block that a limit cut off.
        return text[end + 3..].split_once('\n').map_or("", |(_, code)| code);
    };
    text[start + 3..end].split_once('\n').map_or("", |(_, code)| code)
}
