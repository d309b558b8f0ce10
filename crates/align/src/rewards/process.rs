//! The user's own reward: a process that speaks JSON lines.
//!
//! Numbers of answers are never used twice in the life of a process, so that a score that comes late is taken for no other answer.
//!
//! It is given one line an answer, `{"id": 0, "messages": […], "answer": "…", "tokens": 12, "ended": true, "fields": {…}}`, and
//! gives one line a score, `{"id": 0, "score": 0.5}`, in any order. It goes on for the whole run.

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::child::{LineProcess, NoLine};
use super::{Answer, Reward, RewardFault, shortened};

const EXPECTED: &str = "a line such as {\"id\": 0, \"score\": 0.5}";

/// A process, and the number of the first answer that it has not been given.
struct Running {
    process: LineProcess,
    next: usize,
}

/// A process that gives scores.
pub struct ProcessReward {
    command: String,
    limit: Duration,
    attempts: u32,
    running: Mutex<Option<Running>>,
}

impl ProcessReward {
    /// A shell command. `limit` is how long it may take for the next score; a process that takes longer, ends or writes something
    /// else is ended, and its open answers are given to a new one, `attempts` times in all.
    pub fn new(command: &str, limit: Duration, attempts: u32) -> ProcessReward {
        ProcessReward {
            command: command.to_owned(),
            limit,
            attempts: attempts.max(1),
            running: Mutex::new(None),
        }
    }

    fn who(&self) -> String {
        format!("the reward process `{}`", self.command)
    }

    /// Asks for the scores that are open; what is there stays when it fails.
    fn ask(
        &self,
        running: &mut Option<Running>,
        answers: &[Answer<'_>],
        scores: &mut [Option<Result<f64, RewardFault>>],
    ) -> Result<(), RewardFault> {
        let Running { process, next } = match running {
            Some(running) => running,
            None => {
                let started = LineProcess::start(Command::new("/bin/sh").arg("-c").arg(&self.command));
                let started = started.map_err(|error| RewardFault::Died {
                    who: self.who(),
                    what: format!("cannot be started: {error}"),
                })?;
                running.insert(Running { process: started, next: 0 })
            }
        };
        let open: Vec<usize> = (0..answers.len()).filter(|&place| scores[place].is_none()).collect();
        let first = *next;
        *next += open.len();
        for (id, &place) in (first..).zip(&open) {
            process.send(request(id, &answers[place]).to_string());
        }
        for _ in &open {
            let line = match process.line(Instant::now() + self.limit) {
                Ok(line) => line,
                Err(NoLine::TimedOut) => {
                    return Err(RewardFault::TimedOut {
                        who: self.who(),
                        limit: self.limit,
                        attempts: self.attempts,
                    });
                }
                Err(NoLine::Ended) => return Err(RewardFault::Died { who: self.who(), what: process.end() }),
                Err(NoLine::TooLong) => return Err(self.garbage("a line without an end")),
            };
            let (id, score) = self.read(&line)?;
            let place = id.checked_sub(first).and_then(|place| open.get(place).copied());
            let score_of = match place {
                Some(place) => scores.get_mut(place),
                None => None,
            };
            match score_of {
                Some(open @ None) => *open = Some(score),
                _ => return Err(self.garbage(&line)),
            }
        }
        Ok(())
    }

    fn garbage(&self, line: &str) -> RewardFault {
        RewardFault::Garbage { who: self.who(), got: shortened(line), expected: EXPECTED }
    }

    /// A line of the process: which answer, and its score or that it is no number.
    fn read(&self, line: &str) -> Result<(usize, Result<f64, RewardFault>), RewardFault> {
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(_) => return not_finite(&self.who(), line).map_or_else(|| Err(self.garbage(line)), Err),
        };
        let place = value.get("id").and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok());
        let score = value.get("score").and_then(Value::as_f64);
        match (place, score) {
            (Some(place), Some(score)) => Ok((place, Ok(score))),
            _ => Err(self.garbage(line)),
        }
    }
}

/// JSON has no number that is not finite; several languages write them all the same.
pub(super) fn not_finite(who: &str, text: &str) -> Option<RewardFault> {
    let value = ["-Infinity", "Infinity", "NaN"].into_iter().find(|value| text.contains(value))?;
    Some(RewardFault::NotFinite { who: who.to_owned(), value: value.to_owned() })
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
        let mut scores: Vec<Option<Result<f64, RewardFault>>> = answers.iter().map(|_| None).collect();
        let mut fault = None;
        for _ in 0..self.attempts {
            match self.ask(&mut running, answers, &mut scores) {
                Ok(()) => break,
                Err(found) => {
                    // A process that was late or wrong once may still write what belongs to the answers before.
                    *running = None;
                    fault = Some(found);
                }
            }
        }
        let missing = || RewardFault::Died { who: self.who(), what: "gave too few scores".to_owned() };
        let fault = fault.unwrap_or_else(missing);
        scores.into_iter().map(|score| score.unwrap_or_else(|| Err(fault.clone()))).collect()
    }
}
