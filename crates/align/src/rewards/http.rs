//! The user's own reward: a service that is asked over HTTP.
//!
//! It is given `{"answers": [{"id": 0, …}, …]}` as a POST request, each answer as a reward process is told of it, and gives
//! `{"scores": [0.5, …]}`, one number an answer, in their order.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

use super::process::{not_finite, request};
use super::{Answer, Reward, RewardFault, shortened};

const EXPECTED: &str = "an object such as {\"scores\": [0.5, 1]} with one number an answer";
/// The largest answer that is read.
const MAX_BYTES: u64 = 16 << 20;
/// The pause before the second attempt; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A service that gives scores.
pub struct HttpReward {
    url: String,
    limit: Duration,
    attempts: u32,
    agent: Agent,
}

impl HttpReward {
    /// A service at `url`. `limit` is for all attempts together; connections that fail and the statuses 429 and 5xx are tried
    /// again, `attempts` times in all.
    pub fn new(url: &str, limit: Duration, attempts: u32) -> HttpReward {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("zhenjin/", env!("CARGO_PKG_VERSION")))
            .build();
        HttpReward { url: url.to_owned(), limit, attempts: attempts.max(1), agent: config.new_agent() }
    }

    fn who(&self) -> String {
        format!("the reward service {}", self.url)
    }

    fn ask(&self, body: &str, count: usize) -> Result<Vec<f64>, RewardFault> {
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
            let again = match self.attempt(body, left) {
                Ok(text) => return self.read(&text, count),
                Err(failure) => failure,
            };
            if !again.may_pass || attempt == self.attempts {
                let timed_out = until.saturating_duration_since(Instant::now()).is_zero();
                let (who, limit, attempts) = (self.who(), self.limit, attempt);
                return Err(match timed_out {
                    true => RewardFault::TimedOut { who, limit, attempts },
                    false => RewardFault::Service { who, reason: again.reason, attempts },
                });
            }
            std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
            pause *= 2;
        }
    }

    fn attempt(&self, body: &str, left: Duration) -> Result<String, Failure> {
        let sent = self
            .agent
            .post(&self.url)
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

    fn read(&self, text: &str, count: usize) -> Result<Vec<f64>, RewardFault> {
        let garbage = || RewardFault::Garbage { who: self.who(), got: shortened(text), expected: EXPECTED };
        let value: Value =
            serde_json::from_str(text).map_err(|_| not_finite(&self.who(), text).unwrap_or_else(garbage))?;
        let scores = value.get("scores").and_then(Value::as_array).ok_or_else(garbage)?;
        let scores: Option<Vec<f64>> = scores.iter().map(Value::as_f64).collect();
        scores.filter(|scores| scores.len() == count).ok_or_else(garbage)
    }
}

/// Why an attempt failed.
struct Failure {
    /// Another attempt may succeed.
    may_pass: bool,
    reason: String,
}

impl Reward for HttpReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        if answers.is_empty() {
            return Vec::new();
        }
        let requests: Vec<Value> =
            answers.iter().enumerate().map(|(place, answer)| request(place, answer)).collect();
        match self.ask(&json!({ "answers": requests }).to_string(), answers.len()) {
            Ok(scores) => scores.into_iter().map(Ok).collect(),
            Err(fault) => answers.iter().map(|_| Err(fault.clone())).collect(),
        }
    }
}
