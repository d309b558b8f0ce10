//! The user's own reward: a process that speaks JSON lines.
//!
//! Numbers of answers are never used twice in the life of a process, so that a score that comes late is taken for no other answer.
//!
//! It is given one line an answer, `{"id": 0, "messages": […], "answer": "…", "tokens": 12, "ended": true, "fields": {…}}`, and
//! gives one line a score, `{"id": 0, "score": 0.5}`, in any order. It goes on for the whole run.

use std::ops::Range;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::child::{LineProcess, NoLine};
use super::scores::{lenient, score_of};
use super::{Answer, Reward, RewardFault, shortened};

const EXPECTED: &str = "a line such as {\"id\": 0, \"score\": 0.5}";
/// Where a line has an id that no open answer has.
const EXPECTED_ONCE: &str = "one score for each id that it was given";
/// Answers one after another that a process fails at and gives no score between, after which the fault is the process's and not theirs.
const MOST_SKIPPED: usize = 16;

/// How long the scores of a step are still read after the run was asked to stop, as long as they come at once.
const GRACE: Duration = Duration::from_secs(2);

/// The score of an answer, once there is one or a fault in its place.
type Open = Option<Result<f64, RewardFault>>;

/// A process, and the number of the first answer that it has not been given.
struct Running {
    process: LineProcess,
    next: usize,
}

/// How often a process was started again since it was last asked, and why it was for the first time.
#[derive(Default)]
struct Restarts {
    count: u64,
    first: Option<RewardFault>,
}

/// A process that gives scores.
pub struct ProcessReward {
    command: String,
    limit: Duration,
    attempts: u32,
    stop: fn() -> bool,
    running: Mutex<Option<Running>>,
    restarts: Mutex<Restarts>,
}

impl ProcessReward {
    /// A shell command. `limit` is how long it may take for the next score; a process that takes longer, ends or writes what names no answer
    /// is ended, and its open answers are given to a new one. The first of them is taken for the cause: after `attempts` such failures it has
    /// a fault, and the others are asked for without it. A process that fails at one answer after another is given up.
    pub fn new(command: &str, limit: Duration, attempts: u32) -> ProcessReward {
        ProcessReward {
            command: command.to_owned(),
            limit,
            attempts: attempts.max(1),
            stop: || false,
            running: Mutex::new(None),
            restarts: Mutex::new(Restarts::default()),
        }
    }

    /// The same, whose wait for scores ends when `stop` says so; the process is ended with all that it started.
    #[must_use]
    pub fn with_stop(self, stop: fn() -> bool) -> ProcessReward {
        ProcessReward { stop, ..self }
    }

    fn who(&self) -> String {
        format!("the reward process `{}`", self.command)
    }

    fn restarts(&self) -> MutexGuard<'_, Restarts> {
        self.restarts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn start(&self) -> Result<LineProcess, RewardFault> {
        let started = LineProcess::start(Command::new("/bin/sh").arg("-c").arg(&self.command));
        let started = started.map_err(|error| RewardFault::Died {
            who: self.who(),
            what: format!("cannot be started: {error}"),
        })?;
        let mut restarts = self.restarts();
        restarts.count += u64::from(restarts.first.is_some());
        Ok(started)
    }

    /// Asks for the scores that are open; what is there stays when it fails.
    fn ask(
        &self,
        running: &mut Option<Running>,
        answers: &[Answer<'_>],
        scores: &mut [Open],
    ) -> Result<(), RewardFault> {
        let open: Vec<usize> = (0..answers.len()).filter(|&place| scores[place].is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let Running { process, next } = match running {
            Some(running) => running,
            None => running.insert(Running { process: self.start()?, next: 0 }),
        };
        let first = *next;
        *next += open.len();
        for (id, &place) in (first..).zip(&open) {
            process.send(request(id, &answers[place]).to_string());
        }
        let mut asked: Option<Instant> = None;
        for _ in &open {
            if (self.stop)() && asked.get_or_insert_with(Instant::now).elapsed() > GRACE {
                return Err(RewardFault::Stopped { who: self.who() });
            }
            let line = match process.line(Instant::now() + self.limit, self.stop) {
                Ok(line) => line,
                Err(NoLine::TimedOut) => {
                    return Err(RewardFault::TimedOut {
                        who: self.who(),
                        limit: self.limit,
                        attempts: self.attempts,
                    });
                }
                Err(NoLine::Stopped) => return Err(RewardFault::Stopped { who: self.who() }),
                Err(NoLine::Ended) => return Err(RewardFault::Died { who: self.who(), what: process.end() }),
                Err(NoLine::TooLong) => return Err(self.garbage("a line without an end")),
            };
            let (id, score) = self.read(&line)?;
            let place = id.checked_sub(first).and_then(|place| open.get(place).copied());
            let open_score = match place {
                Some(place) => scores.get_mut(place),
                None => None,
            };
            match open_score {
                Some(open @ None) => *open = Some(score),
                _ => {
                    let (who, got) = (self.who(), shortened(&line));
                    return Err(RewardFault::Garbage { who, got, expected: EXPECTED_ONCE });
                }
            }
        }
        Ok(())
    }

    fn garbage(&self, line: &str) -> RewardFault {
        RewardFault::Garbage { who: self.who(), got: shortened(line), expected: EXPECTED }
    }

    /// A line of the process: which answer, and its score or why that is none.
    fn read(&self, line: &str) -> Result<(usize, Result<f64, RewardFault>), RewardFault> {
        let value = lenient(line).ok_or_else(|| self.garbage(line))?;
        let id = value.get("id").and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok());
        let id = id.ok_or_else(|| self.garbage(line))?;
        let score = match value.get("score") {
            Some(score) => score_of(score, &self.who(), EXPECTED),
            None => Err(self.garbage(line)),
        };
        Ok((id, score))
    }
}

/// How a process has failed since it last gave a score.
struct Failures {
    /// The first answer without a score, and how often the process failed there.
    first: usize,
    tries: u32,
    /// Answers that had a score or a fault at the last failure.
    done: usize,
    /// Answers that have a fault since the last score, and when that was.
    skipped: usize,
    since: Instant,
}

impl Failures {
    fn new() -> Failures {
        Failures { first: 0, tries: 0, done: 0, skipped: 0, since: Instant::now() }
    }

    /// Counts a failure; the answers that it gives are not asked for again.
    fn count(&mut self, scores: &[Open], reward: &ProcessReward) -> Range<usize> {
        let done = scores.iter().flatten().count();
        if done > self.done {
            (self.done, self.skipped, self.since) = (done, 0, Instant::now());
        }
        let first = scores.iter().position(Option::is_none).unwrap_or(scores.len());
        self.tries = if first == self.first { self.tries + 1 } else { 1 };
        self.first = first;
        if self.tries < reward.attempts {
            return first..first;
        }
        self.skipped += 1;
        self.done += 1;
        // A process that hangs costs its limit each time, so one that only hangs is given up sooner.
        let most = reward.limit.saturating_mul(reward.attempts).saturating_mul(2);
        let is_given_up = self.skipped >= MOST_SKIPPED || self.since.elapsed() >= most;
        let end = if is_given_up { scores.len() } else { scores.len().min(first + 1) };
        first..end
    }
}

/// An answer as a process or a service is told of it.
pub(super) fn request(place: usize, answer: &Answer<'_>) -> Value {
    json!({
        "id": place,
        "messages": answer.task.messages,
        "answer": answer.text,
        "tokens": answer.tokens.len(),
        "ended": answer.ended,
        "fields": answer.task.fields,
    })
}

impl Reward for ProcessReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut scores: Vec<Open> = answers.iter().map(|_| None).collect();
        let mut failures = Failures::new();
        while let Err(fault) = self.ask(&mut running, answers, &mut scores) {
            // A process that was late or wrong once may still write what belongs to the answers before.
            *running = None;
            let skipped = match fault.is_stop() {
                true => 0..scores.len(),
                false => {
                    self.restarts().first.get_or_insert_with(|| fault.clone());
                    failures.count(&scores, self)
                }
            };
            for score in &mut scores[skipped] {
                if score.is_none() {
                    *score = Some(Err(fault.clone()));
                }
            }
        }
        let missing = || RewardFault::Died { who: self.who(), what: "gave too few scores".to_owned() };
        scores.into_iter().map(|score| score.unwrap_or_else(|| Err(missing()))).collect()
    }

    fn take_notes(&self) -> Vec<String> {
        let mut restarts = self.restarts();
        // Of one that is not started again yet the reason stays, for when it is.
        if restarts.count == 0 {
            return Vec::new();
        }
        let Restarts { count, first } = std::mem::take(&mut *restarts);
        let reason = first.map(|fault| fault.to_string()).unwrap_or_default();
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        vec![format!("the program of a reward was started again {times}; the first reason: {reason}")]
    }
}
