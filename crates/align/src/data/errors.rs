//! What can go wrong with examples: a whole file that is something else, and single records that are bad.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Data that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused, or the file cannot be unpacked.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record is of no known format.
    #[error("{}:{line}: {found}; {expected}", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// The record's line, counted from 1.
        line: u64,
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: String,
    },
    /// Two records of one file are of different kinds.
    #[error(
        "{}: line {first_line} is {first}, line {line} is {other}; one file has records of one format",
        path.display()
    )]
    Mixed {
        /// The file.
        path: PathBuf,
        /// The first record's line.
        first_line: u64,
        /// What it is.
        first: &'static str,
        /// The line of the one that differs.
        line: u64,
        /// What that is.
        other: &'static str,
    },
    /// A file without one good record, where bad ones are to be left out: it is something else than it was taken for.
    #[error("{}: all {records} records are bad, such as {first}; by kind: {kinds}", path.display())]
    NoneGood {
        /// The file.
        path: PathBuf,
        /// Its records.
        records: u64,
        /// The first of them.
        first: Box<BadRecord>,
        /// How many are bad in which way.
        kinds: String,
    },
    /// A bad record, where the caller wants to stop at the first.
    #[error("{0}")]
    Bad(Box<BadRecord>),
    /// An example with more tokens than the context, where the caller wants to stop at the first.
    #[error(
        "{origin}: the example has {tokens} tokens{}, the context has {context}; nothing is cut, so take a longer context, or \
         have such examples dropped{}",
        if *is_whole { "" } else { " or more" },
        if *can_split { " or split at their turns" } else { "" }
    )]
    TooLong {
        /// Where it stands.
        origin: String,
        /// Its tokens.
        tokens: usize,
        /// Whether these are all: a conversation is not encoded to its end once it is too long.
        is_whole: bool,
        /// The most that there may be.
        context: usize,
        /// Whether examples of this kind can be split.
        can_split: bool,
    },
    /// The data are of another kind than the one that is needed.
    #[error("{}: these are {found}; {needed} are needed{hint}", path.display())]
    Purpose {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
        /// What is needed.
        needed: &'static str,
        /// What to do, with a separator before it.
        hint: String,
    },
    /// The model's template cannot be trained with.
    #[error("{0}")]
    Template(String),
    /// A setting that cannot be.
    #[error("{field}: {reason}")]
    Setting {
        /// Which setting.
        field: &'static str,
        /// Why it cannot be.
        reason: String,
    },
    /// Nothing is left to train on.
    #[error("there is not one example: {0}")]
    Empty(String),
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
        let path = path.to_owned();
        move |source| DataError::Io { path, source }
    }
}

/// In which way a record is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BadKind {
    /// It is not JSON.
    NotJson,
    /// It is JSON, but no object with fields.
    NoRecord,
    /// Its fields are those of no known format.
    Unrecognised,
    /// It is of another format than the file's other records.
    OtherFormat,
    /// A field holds something else than it should.
    WrongField,
    /// A role that nobody knows.
    UnknownRole,
    /// Who speaks when cannot be.
    RolesOutOfOrder,
    /// An answer without a word.
    EmptyAnswer,
    /// A question, a system message or a tool's result without a word.
    EmptyMessage,
    /// There is no answer to learn.
    NoAnswer,
    /// Both answers of a pair, or all of a list, are the same.
    SameAnswers,
    /// No two answers of a list differ in rank.
    NoPreference,
    /// The two sides of a pair have no common prompt.
    NoCommonPrompt,
    /// A list makes so many pairs of so long dialogues that memory does not hold them.
    TooLarge,
    /// The template refuses the conversation.
    RefusedByTemplate,
    /// The template cannot write a part of it: tools, or a thought.
    NotWritable,
    /// The tokens of the answer cannot be told from those of its prompt.
    NotEncodable,
}

impl BadKind {
    /// In words, as a heading.
    pub fn description(self) -> &'static str {
        match self {
            BadKind::NotJson => "not JSON",
            BadKind::NoRecord => "no record",
            BadKind::Unrecognised => "of no known format",
            BadKind::OtherFormat => "of another format",
            BadKind::WrongField => "a field that holds something else",
            BadKind::UnknownRole => "unknown role",
            BadKind::RolesOutOfOrder => "roles out of order",
            BadKind::EmptyAnswer => "empty answer",
            BadKind::EmptyMessage => "empty message",
            BadKind::NoAnswer => "no answer",
            BadKind::SameAnswers => "answers that are the same",
            BadKind::NoPreference => "answers of equal rank",
            BadKind::NoCommonPrompt => "no common prompt",
            BadKind::TooLarge => "too large",
            BadKind::RefusedByTemplate => "refused by the template",
            BadKind::NotWritable => "not writable by the template",
            BadKind::NotEncodable => "not encodable",
        }
    }
}

/// Why a record is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which way.
    pub kind: BadKind,
    /// In words.
    pub reason: String,
}

impl Fault {
    pub(crate) fn new(kind: BadKind, reason: impl Into<String>) -> Fault {
        Fault { kind, reason: reason.into() }
    }
}

/// A bad record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadRecord {
    /// The file, as the caller named it.
    pub file: String,
    /// Its line, counted from 1.
    pub line: u64,
    /// In which way it is bad.
    pub kind: BadKind,
    /// In words.
    pub reason: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}: {}", self.file, self.line, self.kind.description(), self.reason)
    }
}

/// What happens to bad records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadPolicy {
    /// The first one is an error.
    #[default]
    Stop,
    /// They are left out and counted.
    Drop,
}

/// Bad records of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadCount {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: BadRecord,
}

/// Bad records, counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct BadRecords {
    by_kind: BTreeMap<BadKind, BadCount>,
}

impl BadRecords {
    /// Counts one, or returns it as the error that it is.
    ///
    /// # Errors
    /// [`DataError::Bad`] where the policy is to stop.
    pub(crate) fn take(&mut self, record: BadRecord, policy: BadPolicy) -> Result<(), DataError> {
        if policy == BadPolicy::Stop {
            return Err(DataError::Bad(Box::new(record)));
        }
        let counted = self.by_kind.entry(record.kind);
        counted.or_insert_with(|| BadCount { count: 0, first: record }).count += 1;
        Ok(())
    }

    /// Adds others.
    pub fn merge(&mut self, others: BadRecords) {
        for (kind, others) in others.by_kind {
            let counted = self.by_kind.entry(kind).or_insert(BadCount { count: 0, first: others.first });
            counted.count += others.count;
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_kind.values().map(|counted| counted.count).sum()
    }

    /// How many there are of each kind, in words.
    pub(crate) fn kinds(&self) -> String {
        let kinds = self.by_kind().map(|(kind, counted)| format!("{} {}", counted.count, kind.description()));
        kinds.collect::<Vec<_>>().join(", ")
    }

    /// By kind, in a fixed order.
    pub fn by_kind(&self) -> impl Iterator<Item = (BadKind, &BadCount)> {
        self.by_kind.iter().map(|(kind, counted)| (*kind, counted))
    }
}
