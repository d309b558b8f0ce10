//! All answers to all prompts, one line for each prompt, behind a line that says what they depend on. A line that was not written whole is
//! written again.

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use zhenjin_align::best_of::Candidate;

/// Of the file's format and of how seeds are made. Files of version 1 say less of their reward models and schemas.
pub(crate) const VERSION: u32 = 2;
/// The version that says less.
const EARLIER: u32 = 1;

/// What answers and their rewards depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) version: u32,
    pub(crate) model: String,
    pub(crate) adapter: Option<String>,
    pub(crate) prompts: String,
    /// What templates show, in seconds since 1970.
    pub(crate) time: i64,
    pub(crate) answers: usize,
    pub(crate) max_tokens: usize,
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) top_k: usize,
    pub(crate) seed: u64,
    pub(crate) reward: Option<String>,
    /// Digests of the schemas that `reward` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reward_schemas: Vec<String>,
    /// A digest of the reward model's files.
    pub(crate) reward_model: Option<String>,
    /// The fingerprint of the weights that the reward model is an adapter to, where they are not the model's.
    pub(crate) reward_base: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    prompt: usize,
    answers: Vec<Candidate>,
}

/// The file, and the answers in it.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    pub(super) answers: Vec<Vec<Candidate>>,
}

/// The whole lines of a file; nothing where there is none.
fn whole_lines(path: &Path) -> Result<String> {
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    // Before decoding: a write may be cut off inside a character.
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    String::from_utf8(bytes).map_err(|error| {
        let whole = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = whole.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow!("{}: line {line} is not UTF-8 text: delete the file, or give another --out", path.display())
    })
}

/// What the answers in a file depend on, if there is one.
pub(crate) fn settings(path: &Path) -> Result<Option<Settings>> {
    let text = whole_lines(path)?;
    let Some(first) = text.lines().next() else { return Ok(None) };
    let settings = serde_json::from_str(first).with_context(|| {
        format!(
            "{} is not a file of answers of this command: delete it, or give another --out",
            path.display()
        )
    })?;
    Ok(Some(settings))
}

impl Journal {
    /// Opens the file, or makes it. Half a line at its end is removed.
    pub(super) fn open(path: &Path, settings: &Settings) -> Result<Journal> {
        let opening = || format!("opening {}", path.display());
        let mut file = OpenOptions::new().append(true).create(true).open(path).with_context(opening)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another command is writing {}", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(opening),
        }
        let mut answers = Vec::new();
        let text = whole_lines(path)?;
        if let Some(theirs) = self::settings(path)? {
            let different = differences(settings, &theirs)?;
            if !different.is_empty() {
                bail!(
                    "{} has answers of another command ({}): delete it, or give another --out",
                    path.display(),
                    different.join("; ")
                );
            }
            for (number, line) in text.lines().skip(1).enumerate() {
                let line: Line = serde_json::from_str(line)
                    .with_context(|| format!("{}: line {}", path.display(), number + 2))?;
                if line.prompt != number || line.answers.len() != settings.answers {
                    bail!(
                        "{}: line {} is not of prompt {number}: delete the file",
                        path.display(),
                        number + 2
                    );
                }
                answers.push(line.answers);
            }
            if !answers.is_empty() {
                eprintln!("{} prompts are answered in {} already", answers.len(), path.display());
            }
        }
        file.set_len(text.len() as u64).with_context(opening)?;
        if text.is_empty() {
            writeln!(file, "{}", serde_json::to_string(settings)?)?;
        }
        Ok(Journal { path: path.to_owned(), file, answers })
    }

    /// Adds the answers to the next prompts.
    pub(super) fn append(&mut self, answers: Vec<Vec<Candidate>>) -> Result<()> {
        let mut lines = String::new();
        for answers in answers {
            let line = Line { prompt: self.answers.len(), answers };
            lines += &serde_json::to_string(&line)?;
            lines.push('\n');
            self.answers.push(line.answers);
        }
        let writing = || format!("writing {}", self.path.display());
        self.file.write_all(lines.as_bytes()).with_context(writing)?;
        self.file.sync_data().with_context(writing)
    }
}

/// In what two commands differ.
fn differences(ours: &Settings, theirs: &Settings) -> Result<Vec<String>> {
    let mut theirs = theirs.clone();
    if theirs.version == EARLIER {
        theirs.version = VERSION;
        theirs.reward_schemas.clone_from(&ours.reward_schemas);
        // Whether there is one is known, and no more.
        theirs.reward_model = theirs.reward_model.and(ours.reward_model.clone());
        theirs.reward_base = theirs.reward_base.and(ours.reward_base.clone());
    }
    let theirs = &theirs;
    let [ours, theirs] = [ours, theirs].map(serde_json::to_value);
    let (Value::Object(ours), Value::Object(theirs)) = (ours?, theirs?) else { return Ok(Vec::new()) };
    let different = ours.iter().filter(|(key, value)| theirs.get(*key) != Some(value));
    Ok(different
        .map(|(key, value)| format!("{key} is {value}, there {}", theirs.get(key).unwrap_or(&Value::Null)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_of_a_test() -> Settings {
        Settings {
            version: VERSION,
            model: "m".to_owned(),
            adapter: None,
            prompts: "p".to_owned(),
            time: 0,
            answers: 1,
            max_tokens: 8,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            reward: Some("number".to_owned()),
            reward_schemas: Vec::new(),
            reward_model: None,
            reward_base: None,
        }
    }

    fn candidate(text: &str) -> Candidate {
        Candidate { text: text.to_owned(), tokens: 3, reward: Some(1.0), ..Candidate::default() }
    }

    /// The file was decoded before its half line was dropped: one that was cut inside a Chinese character could not be opened again.
    #[test]
    fn a_file_that_was_cut_at_any_byte_goes_on_behind_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("answers.jsonl");
        let settings = settings_of_a_test();
        let answers = [candidate("答案是四十二"), candidate("春夜")];
        let mut journal = Journal::open(&path, &settings).expect("a new file");
        journal.append(answers.iter().map(|answer| vec![answer.clone()]).collect()).expect("written");
        drop(journal);
        let whole = std::fs::read(&path).expect("a file");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("a file");
            let mut journal =
                Journal::open(&path, &settings).unwrap_or_else(|error| panic!("cut at {cut}: {error:#}"));
            let done = journal.answers.len();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(done, lines.saturating_sub(1), "cut at {cut}");
            let rest = answers[done..].iter().map(|answer| vec![answer.clone()]).collect();
            journal.append(rest).expect("written");
            drop(journal);
            assert!(std::fs::read(&path).expect("a file") == whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_whole_line_that_is_no_text_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("answers.jsonl");
        drop(Journal::open(&path, &settings_of_a_test()).expect("a new file"));
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes.extend(b"{\"prompt\": 0, \"answers\": \"\xe7\xad\"}\n");
        std::fs::write(&path, &bytes).expect("a file");
        let error = format!("{:#}", settings(&path).expect_err("no text"));
        assert!(error.contains("line 2 is not UTF-8"), "{error}");
    }

    /// Answers of version 1, which named reward models otherwise, were refused.
    #[test]
    fn answers_of_the_earlier_version_are_read() {
        let ours = Settings { reward_model: Some("new".to_owned()), ..settings_of_a_test() };
        let earlier = Settings { version: EARLIER, reward_model: Some("old".to_owned()), ..ours.clone() };
        assert!(differences(&ours, &earlier).expect("settings").is_empty());
        let without = Settings { reward_model: None, ..earlier.clone() };
        assert_eq!(differences(&ours, &without).expect("settings").len(), 1);
        let other_seed = Settings { seed: 1, ..earlier };
        assert_eq!(differences(&ours, &other_seed).expect("settings").len(), 1);
    }
}
