//! From the names of rewards to rewards.

use std::path::PathBuf;
use std::time::Duration;

use regex::RegexBuilder;
use serde_json::Value;
use zhenjin_prosody::{Form, Standard};

use super::code::{CodeReward, SandboxLimits};
use super::expression::{RewardExpression, RewardTerm};
use super::http::HttpReward;
use super::numbers::NumberReward;
use super::process::ProcessReward;
use super::rules::{ExactReward, JsonReward, LengthReward, RegexReward, schema_of};
use super::verse::{Aspect, VerseReward, form_of};
use super::{Reward, WeightedPart, WeightedRewards};

/// The rewards, with what they say of an answer.
pub const REWARDS: [(&str, &str); 11] = [
    ("number[:FIELD]", "1 where the answer's last number is that of the field `answer`, or of FIELD"),
    ("exact[:FIELD]", "1 where the answer is the text of the field `answer`, or of FIELD"),
    ("regex:EXPRESSION", "1 where the regular expression matches somewhere in the answer"),
    (
        "json[:FILE]",
        "1 where the answer is JSON of the schema in FILE or in the field `schema`, ½ for other JSON",
    ),
    (
        "length:UNIT<=N",
        "1 where the answer has at most (>=: at least, =: just) N characters or tokens, less beyond",
    ),
    (
        "poem[:FORM]",
        "the mean of poem-form, poem-rhyme and poem-tones; FORM is such as 4x7, or the field `form`",
    ),
    (
        "poem-form[:FORM]",
        "½ for the number of lines, ½ for the share of lines with the right number of characters",
    ),
    ("poem-rhyme[:modern]", "the share of rhymes, by the rhyme book or by modern readings"),
    ("poem-tones[:modern]", "the share of the tone rules of regulated verse that are kept"),
    ("code", "1 where the answer's Python code passes the field `test` or `tests`, in a sandbox"),
    ("process:COMMAND, http:URL", "what a process that speaks JSON lines, or a service, says"),
];

const NAMES: [&str; 12] = [
    "number",
    "exact",
    "regex",
    "json",
    "length",
    "poem",
    "poem-form",
    "poem-rhyme",
    "poem-tones",
    "code",
    "process",
    "http",
];

/// A reward that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{term}` (at byte {at}): {reason}")]
pub struct RewardError {
    /// The reward, as it was written.
    pub term: String,
    /// Where it stands in the text, in bytes.
    pub at: usize,
    /// Why it cannot be.
    pub reason: String,
}

/// Limits of rewards.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// How long a process may take for a score, and a service for a request of at most 32 answers.
    pub limit: Duration,
    /// How often a process is tried with an answer, and a service with a request.
    pub attempts: u32,
    /// The Python that runs code.
    pub python: PathBuf,
    /// Limits on code.
    pub sandbox: SandboxLimits,
    /// Programs under test, and requests to a service, at once.
    pub threads: usize,
    /// Whether the wait for a process or a service is to stop. Answers then have the fault [`super::RewardFault::Stopped`].
    pub stop: fn() -> bool,
}

impl Default for BuildOptions {
    fn default() -> BuildOptions {
        BuildOptions {
            limit: Duration::from_secs(60),
            attempts: 3,
            python: PathBuf::from("python3"),
            sandbox: SandboxLimits::default(),
            threads: 1,
            stop: || false,
        }
    }
}

impl RewardExpression {
    /// The rewards of the text.
    ///
    /// # Errors
    /// [`RewardError`] for a name that there is not, with the one that was meant, and for an argument that cannot be.
    pub fn build(&self, options: &BuildOptions) -> Result<WeightedRewards, RewardError> {
        let part = |term: &RewardTerm| {
            let error = |reason| RewardError { term: term.to_string(), at: term.at, reason };
            let reward = reward(term, options).map_err(error)?;
            Ok(WeightedPart { name: term.to_string(), weight: term.weight, reward })
        };
        Ok(WeightedRewards::new(self.terms.iter().map(part).collect::<Result<_, RewardError>>()?))
    }
}

fn reward(term: &RewardTerm, options: &BuildOptions) -> Result<Box<dyn Reward>, String> {
    let argument = term.argument.as_deref();
    let needed = |what: &str| argument.ok_or_else(|| format!("it needs {what}, as in `{}:…`", term.name));
    let field = || argument.unwrap_or("answer").to_owned();
    Ok(match term.name.as_str() {
        "number" => Box::new(NumberReward { field: field() }),
        "exact" => Box::new(ExactReward { field: field() }),
        "regex" => {
            let built = RegexBuilder::new(needed("an expression")?).size_limit(1 << 20).build();
            Box::new(RegexReward { expression: built.map_err(|error| error.to_string())? })
        }
        "json" => Box::new(JsonReward { schema: argument.map(schema_file).transpose()? }),
        "length" => Box::new(LengthReward::parse(needed("a length such as tokens<=64")?)?),
        "poem" => verse(Aspect::All, argument)?,
        "poem-form" => verse(Aspect::Form, argument)?,
        "poem-rhyme" => verse(Aspect::Rhyme, argument)?,
        "poem-tones" => verse(Aspect::Tones, argument)?,
        "code" if argument.is_some() => return Err("it takes no argument".to_owned()),
        "code" => {
            Box::new(CodeReward::new(options.python.clone(), options.sandbox.clone(), options.threads)?)
        }
        "process" => {
            let reward = ProcessReward::new(needed("a command")?, options.limit, options.attempts);
            Box::new(reward.with_stop(options.stop))
        }
        "http" | "https" => {
            let address = address(term)?;
            let reward = HttpReward::new(&address, options.limit, options.attempts, options.threads);
            Box::new(reward.with_stop(options.stop))
        }
        other => {
            let meant = NAMES
                .iter()
                .map(|name| (strsim::normalized_damerau_levenshtein(other, name), name))
                .filter(|(likeness, _)| *likeness >= 0.6)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = meant.map_or(String::new(), |(_, name)| format!(", did you mean `{name}`?"));
            return Err(format!("there is no such reward{hint}; there are {}", NAMES.join(", ")));
        }
    })
}

/// `http:http://…` or the address alone.
fn address(term: &RewardTerm) -> Result<String, String> {
    let argument = term.argument.as_deref().unwrap_or_default();
    let url =
        if argument.starts_with("//") { format!("{}:{argument}", term.name) } else { argument.to_owned() };
    let is_address =
        |scheme: &str| url.strip_prefix(scheme).is_some_and(|rest| !rest.trim_start_matches('/').is_empty());
    if is_address("http://") || is_address("https://") {
        return Ok(url);
    }
    Err(format!("`{url}` is no address such as http://127.0.0.1:9000/score"))
}

fn schema_file(path: &str) -> Result<jsonschema::Validator, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    schema_of(&Value::String(text)).map_err(|problem| format!("{path} {problem}"))
}

fn verse(aspect: Aspect, argument: Option<&str>) -> Result<Box<dyn Reward>, String> {
    let (mut form, mut standard): (Option<Form>, Standard) = (None, Standard::RhymeBook);
    for part in argument.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let has_form = matches!(aspect, Aspect::Form | Aspect::All);
        match (part, form_of(part)) {
            ("modern", _) if aspect != Aspect::Form => standard = Standard::Modern,
            (_, Some(asked)) if has_form => form = Some(asked),
            _ if has_form => return Err(format!("`{part}` is no form such as 4x7 or 七言絕句")),
            _ => {
                return Err(format!("`{part}` is nothing that it takes; `modern` counts by modern readings"));
            }
        }
    }
    Ok(Box::new(VerseReward { aspect, form, standard }))
}
