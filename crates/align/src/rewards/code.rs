//! Code that passes tests, run in a process with limits.
//!
//! The process is Python, isolated from its environment (`-I`), in a [`Sandbox`]. It limits its own CPU time, memory, file sizes, open
//! files and processes before it becomes the program under test, which cannot raise them.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::child::{end_group, how_it_ended, in_group, wait};
use super::sandbox::Sandbox;
use super::{Answer, Reward, RewardFault};

/// Sets the limits, then becomes the program.
const LAUNCHER: &str = "import os, resource, sys
cpu, memory, files, processes, size = map(int, sys.argv[1:6])
os.write(1, b'+')
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
for what, limit in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, files),
                    (resource.RLIMIT_NPROC, processes), (resource.RLIMIT_FSIZE, size), (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(what)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))
os.execv(sys.executable, [sys.executable, '-I', 'answer.py'])
";

/// What the end of a program that passed writes; a program cannot end early and pass.
const PASSED: &str = "passed";

/// Limits on a program under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxLimits {
    /// From start to end.
    pub wall: Duration,
    /// Seconds of CPU time.
    pub cpu_seconds: u64,
    /// Bytes of memory.
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
        let program = program(answer)?;
        let failed = |what: String| RewardFault::Died { who: "the sandbox".to_owned(), what };
        let folder = tempfile::tempdir().map_err(|error| failed(format!("has no folder: {error}")))?;
        // What ends the run well is known to nobody but this run: printing it beforehand needs it.
        let secret = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let program = format!("{program}\nopen({secret:?}, 'w').write({PASSED:?})\n");
        fs::write(folder.path().join("answer.py"), program)
            .map_err(|error| failed(format!("cannot write the program: {error}")))?;
        let SandboxLimits { cpu_seconds, memory_bytes, file_bytes, open_files, processes, .. } = &self.limits;
        let mut command = self.sandbox.command(folder.path(), &secret);
        command.arg(&self.python).args(["-I", "-c", LAUNCHER]);
        command.args([cpu_seconds, memory_bytes, open_files, processes, file_bytes].map(u64::to_string));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        in_group(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| failed(format!("cannot start {}: {error}", self.python.display())))?;
        let status = wait(&mut child, self.limits.wall);
        end_group(&mut child);
        // The launcher's mark, written before the program under test could do anything.
        let mut mark = [0; 1];
        let started = child
            .stdout
            .take()
            .is_some_and(|mut output| output.read(&mut mark).is_ok_and(|count| count == 1));
        if !started {
            let how =
                status.map_or_else(|| "it was not ready in time".to_owned(), |status| how_it_ended(&status));
            return Err(failed(format!("cannot start {}: {how}", self.python.display())));
        }
        let ended_well = status.is_some_and(|status| status.success());
        let reached = fs::read_to_string(folder.path().join("result")).is_ok_and(|text| text == PASSED);
        Ok(f64::from(u8::from(ended_well && reached)))
    }
}

/// The program under test: code, tests, and their call.
fn program(answer: &Answer<'_>) -> Result<String, RewardFault> {
    let fields = &answer.task.fields;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let fault = |field: &str, problem: &str| RewardFault::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    };
    let entry_point = text("entry_point");
    if let Some(name) = entry_point
        && !name.chars().all(|character| character.is_alphanumeric() || matches!(character, '_' | '.'))
    {
        return Err(fault("entry_point", "is no name of a function"));
    }
    let mut program = code_of(answer.text).to_owned();
    if let Some(name) = entry_point
        && !program.contains(&format!("def {name}"))
    {
        let last = answer.task.messages.last().and_then(|message| message["content"].as_str());
        let start = text("prompt_code").or(last).unwrap_or_default();
        program = format!("{start}{program}");
    }
    program.push_str("\n\n");
    match (text("test"), fields.get("tests")) {
        (Some(test), _) => {
            program.push_str(test);
            if let Some(name) = entry_point.filter(|_| test.contains("def check(")) {
                program.push_str(&format!("\ncheck({name})\n"));
            }
        }
        (None, Some(Value::Array(tests))) if !tests.is_empty() => {
            for test in tests {
                program.push_str(test.as_str().ok_or_else(|| fault("tests", "is not a list of texts"))?);
                program.push('\n');
            }
        }
        (None, Some(Value::String(tests))) if !tests.trim().is_empty() => program.push_str(tests),
        (None, None) => return Err(fault("test", "is missing; `code` runs it")),
        (None, Some(_)) => return Err(fault("tests", "holds no tests")),
    }
    Ok(program)
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
