//! The user's own reward: a service that is asked over HTTP.
//!
//! It is given `{"answers": [{"id": 0, …}, …]}` as a POST request, at most [`MOST_ANSWERS`] answers at once, each as a reward process is
//! told of it and numbered within the request. It gives `{"scores": [0.5, …]}`, one number an answer, in their order.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

use super::process::request;
use super::scores::{lenient, score_of};
use super::{Answer, Reward, RewardFault, STOP_INTERVAL, shortened};

const EXPECTED: &str = "an object such as {\"scores\": [0.5, 1]} with one number an answer";
/// Of one answer's score.
const EXPECTED_SCORE: &str = "a number";
/// Answers in a request, so that the time that a request may take does not depend on the size of a step.
const MOST_ANSWERS: usize = 32;
/// Requests one after another that no answer comes to in time, after which the service is asked no more for these answers: each costs the
/// whole limit.
const MOST_LATE: usize = 2;
/// The largest answer that is read.
const MAX_BYTES: u64 = 16 << 20;
/// The pause before the second attempt; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The scores of a request.
type Scores = Vec<Result<f64, RewardFault>>;

/// A service that gives scores.
pub struct HttpReward {
    url: String,
    limit: Duration,
    attempts: u32,
    threads: usize,
    stop: fn() -> bool,
    agent: Agent,
}

impl HttpReward {
    /// A service at `url`. `limit` is for all attempts of a request together; connections that fail and the statuses 429 and 5xx are tried
    /// again, `attempts` times in all. So many requests as `threads` are open at once.
    pub fn new(url: &str, limit: Duration, attempts: u32, threads: usize) -> HttpReward {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("zhenjin/", env!("CARGO_PKG_VERSION")))
            .build();
        HttpReward {
            url: url.to_owned(),
            limit,
            attempts: attempts.max(1),
            threads: threads.max(1),
            stop: || false,
            agent: config.new_agent(),
        }
    }

    /// The same, whose wait for scores ends when `stop` says so.
    #[must_use]
    pub fn with_stop(self, stop: fn() -> bool) -> HttpReward {
        HttpReward { stop, ..self }
    }

    fn who(&self) -> String {
        format!("the reward service {}", self.url)
    }

    /// The scores of requests, one request after another.
    fn ask_in_turn(&self, requests: &[&[Answer<'_>]], scores: &mut [Scores]) {
        let mut late: Vec<RewardFault> = Vec::new();
        for (answers, scores) in requests.iter().zip(scores) {
            let found = match late.get(MOST_LATE - 1) {
                Some(fault) => Err(fault.clone()),
                None => self.ask(answers),
            };
            match &found {
                Err(fault @ RewardFault::TimedOut { .. }) => late.push(fault.clone()),
                _ => late.clear(),
            }
            *scores = found.unwrap_or_else(|fault| answers.iter().map(|_| Err(fault.clone())).collect());
        }
    }

    /// The scores of one request.
    fn ask(&self, answers: &[Answer<'_>]) -> Result<Scores, RewardFault> {
        let requests: Vec<Value> =
            answers.iter().enumerate().map(|(place, answer)| request(place, answer)).collect();
        let body = json!({ "answers": requests }).to_string();
        let until = Instant::now() + self.limit;
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RewardFault::TimedOut {
                    who: self.who(),
                    limit: self.limit,
                    attempts: attempt - 1,
                });
            }
            let again = match self.attempt(&body, left) {
                None => return Err(RewardFault::Stopped { who: self.who() }),
                Some(Ok(text)) => return self.read(&text, answers.len()),
                Some(Err(failure)) => failure,
            };
            if !again.may_pass || attempt == self.attempts {
                let timed_out = until.saturating_duration_since(Instant::now()).is_zero();
                let (who, limit, attempts) = (self.who(), self.limit, attempt);
                return Err(match timed_out {
                    true => RewardFault::TimedOut { who, limit, attempts },
                    false => RewardFault::Service { who, reason: again.reason, attempts },
                });
            }
            if !self.sleep(pause.min(until.saturating_duration_since(Instant::now()))) {
                return Err(RewardFault::Stopped { who: self.who() });
            }
            pause *= 2;
        }
    }

    /// Waits so long; false where the wait was to stop.
    fn sleep(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if (self.stop)() {
                return false;
            }
            thread::sleep(left.min(STOP_INTERVAL));
        }
    }

    /// What an attempt gives; `None` where the wait was to stop. The attempt itself then goes on in its thread until its time is over, as a
    /// request that waits cannot be ended.
    fn attempt(&self, body: &str, left: Duration) -> Option<Result<String, Failure>> {
        let (sender, answer) = sync_channel(1);
        let (agent, url, body) = (self.agent.clone(), self.url.clone(), body.to_owned());
        thread::spawn(move || {
            // Where nobody waits any more, nobody needs it.
            let _ = sender.send(post(&agent, &url, &body, left));
        });
        loop {
            match answer.recv_timeout(STOP_INTERVAL) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Timeout) if (self.stop)() => return None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "the request ended without a result".to_owned();
                    return Some(Err(Failure { may_pass: true, reason }));
                }
            }
        }
    }

    /// Scores from a reply. One that is no number is a fault of its answer; where their number is wrong, none belongs to an answer for sure.
    fn read(&self, text: &str, count: usize) -> Result<Scores, RewardFault> {
        let garbage = |got: String| RewardFault::Garbage { who: self.who(), got, expected: EXPECTED };
        let value = lenient(text);
        let scores = value.as_ref().and_then(|value| value.get("scores")).and_then(Value::as_array);
        let scores = scores.ok_or_else(|| garbage(shortened(text)))?;
        if scores.len() != count {
            let found = scores.len();
            return Err(garbage(format!("{found} scores for {count} answers: {}", shortened(text))));
        }
        Ok(scores.iter().map(|score| score_of(score, &self.who(), EXPECTED_SCORE)).collect())
    }
}

/// One request, with `left` for all of it.
fn post(agent: &Agent, url: &str, body: &str, left: Duration) -> Result<String, Failure> {
    let sent = agent
        .post(url)
        .config()
        .timeout_global(Some(left))
        .build()
        .header("content-type", "application/json")
        .send(body);
    let mut response = sent.map_err(|error| Failure { may_pass: true, reason: error.to_string() })?;
    let status = response.status();
    let text = response.body_mut().with_config().limit(MAX_BYTES).read_to_string();
    let text = text.map_err(|error| Failure { may_pass: true, reason: error.to_string() })?;
    if status.is_success() {
        return Ok(text);
    }
    let may_pass = status.is_server_error() || status.as_u16() == 429;
    Err(Failure { may_pass, reason: format!("status {status}: {}", shortened(&text)) })
}

/// Why an attempt failed.
struct Failure {
    /// Another attempt may succeed.
    may_pass: bool,
    reason: String,
}

impl Reward for HttpReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        let requests: Vec<&[Answer<'_>]> = answers.chunks(MOST_ANSWERS).collect();
        let mut scores: Vec<Scores> = requests.iter().map(|_| Vec::new()).collect();
        let share = requests.len().div_ceil(self.threads).max(1);
        thread::scope(|scope| {
            for (requests, scores) in requests.chunks(share).zip(scores.chunks_mut(share)) {
                scope.spawn(move || self.ask_in_turn(requests, scores));
            }
        });
        scores.into_iter().flatten().collect()
    }
}
