//! Settings that somebody gives: from a file, or one by one. A key that does not exist is refused with the nearest that does.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Names that are further away than this are no suggestion.
const SIMILAR: f64 = 0.6;

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// Not TOML, or a value of the wrong type.
    #[error("{}: {problem}", origin.display())]
    Syntax {
        /// The file, or what else the text came from.
        origin: PathBuf,
        /// Where, and what.
        problem: String,
    },
    /// No such setting.
    #[error("there is no setting `{key}`{}", match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; the sections are {sections}"),
    })]
    UnknownKey {
        /// What was given.
        key: String,
        /// The nearest setting that exists.
        nearest: Option<String>,
        /// The sections that there are.
        sections: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` must be {expected}, found {found}")]
    WrongType {
        /// The setting.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// A value that cannot be, alone or beside another one.
    #[error("`{key}` {problem}")]
    OutOfRange {
        /// The setting.
        key: String,
        /// What it must be, and what it is.
        problem: String,
    },
}

/// Keys of a configuration with values; later ones replace earlier ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    settings: Vec<(String, Value)>,
}

impl Overrides {
    /// Nothing is overridden.
    pub fn new() -> Overrides {
        Overrides::default()
    }

    /// Adds everything that a TOML text sets, in sections as the effective configuration has them.
    ///
    /// # Errors
    /// [`ConfigurationError::Syntax`]; whether the keys exist is seen by [`Overrides::apply`].
    pub fn add_toml(&mut self, text: &str, origin: &Path) -> Result<(), ConfigurationError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigurationError::Syntax {
            origin: origin.to_owned(),
            problem: error.to_string(),
        })?;
        flatten("", &table, &mut self.settings);
        Ok(())
    }

    /// Adds `key=value`, such as `optimiser.kind=adamw` or `schedule.steps=500`. Words need no quotes.
    ///
    /// # Errors
    /// [`ConfigurationError::Syntax`] when there is no `=`.
    pub fn add_assignment(&mut self, assignment: &str) -> Result<(), ConfigurationError> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(ConfigurationError::Syntax {
                origin: PathBuf::from(assignment),
                problem: "a setting is given as KEY=VALUE, such as schedule.steps=500".to_owned(),
            });
        };
        let (key, value) = (key.trim(), value.trim());
        let parsed = format!("value = {value}").parse::<Table>().ok();
        let value = parsed.and_then(|mut table| table.remove("value"));
        self.add(key, value.unwrap_or_else(|| Value::String(assignment_text(assignment))));
        Ok(())
    }

    /// Adds one setting.
    pub fn add(&mut self, key: &str, value: impl Into<Value>) {
        self.settings.push((key.to_owned(), value.into()));
    }

    /// Takes back what was said about `key`.
    pub fn forget(&mut self, key: &str) {
        self.settings.retain(|(given, _)| given != key);
    }

    /// Whether something is said about `key`.
    pub fn has(&self, key: &str) -> bool {
        self.settings.iter().any(|(given, _)| given == key)
    }

    /// The whole number that is given last for `key`.
    pub fn whole_number(&self, key: &str) -> Option<u64> {
        let last = self.settings.iter().rev().find(|(given, _)| given == key);
        last.and_then(|(_, value)| value.as_integer()).and_then(|value| u64::try_from(value).ok())
    }

    /// The word that is given last for `key`; `None` where that is no word.
    pub fn word(&self, key: &str) -> Option<&str> {
        let last = self.settings.iter().rev().find(|(given, _)| given == key);
        last.and_then(|(_, value)| value.as_str())
    }

    /// Those from which other settings follow: the model's shape and the length of sequences.
    pub(super) fn shape_only(&self) -> Overrides {
        let decides = |key: &str| key.starts_with("model.") || key == "data.sequence_length";
        let settings = self.settings.iter().filter(|(key, _)| decides(key)).cloned().collect();
        Overrides { settings }
    }

    /// `base`, a structure of named fields and sections of such, with these settings.
    ///
    /// # Errors
    /// [`ConfigurationError::UnknownKey`], [`ConfigurationError::WrongType`], and [`ConfigurationError::OutOfRange`] for a word that a setting
    /// does not take.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, base: &T) -> Result<T, ConfigurationError> {
        let mut table = table_of(base);
        for (key, value) in &self.settings {
            set(&mut table, key, value)?;
        }
        table.try_into().map_err(|error: toml::de::Error| {
            // The words that a setting takes are known to its type alone, which does not say which setting it is.
            let refused = |(key, value): &&(String, Value)| {
                let mut alone = table_of(base);
                set(&mut alone, key, value).is_ok() && alone.try_into::<T>().is_err()
            };
            let problem = error.message().to_owned();
            match self.settings.iter().find(refused) {
                Some((key, _)) => ConfigurationError::OutOfRange {
                    key: key.clone(),
                    problem: format!("takes no such value: {problem}"),
                },
                None => ConfigurationError::Syntax { origin: PathBuf::from("settings"), problem },
            }
        })
    }
}

/// The keys in which two configurations differ, with both values.
pub fn differing_keys<T: Serialize>(ours: &T, theirs: &T) -> Vec<(String, String, String)> {
    let [ours, theirs] = [ours, theirs].map(|configuration| {
        let mut settings = Vec::new();
        flatten("", &table_of(configuration), &mut settings);
        settings
    });
    let pairs = ours.into_iter().zip(theirs);
    pairs
        .filter(|((_, ours), (_, theirs))| ours != theirs)
        .map(|((key, ours), (_, theirs))| (key, ours.to_string(), theirs.to_string()))
        .collect()
}

fn assignment_text(assignment: &str) -> String {
    assignment.split_once('=').map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn table_of(configuration: &impl Serialize) -> Table {
    // A structure of named fields is a table.
    Table::try_from(configuration).unwrap_or_default()
}

fn flatten(prefix: &str, table: &Table, settings: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) => flatten(&key, table, settings),
            value => settings.push((key, value.clone())),
        }
    }
}

fn set(table: &mut Table, key: &str, value: &Value) -> Result<(), ConfigurationError> {
    let unknown = |table: &Table| {
        let mut known = Vec::new();
        flatten("", table, &mut known);
        let nearest = nearest(key, known.iter().map(|(known, _)| known.as_str())).map(str::to_owned);
        let sections = table.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name.as_str());
        let sections = sections.collect::<Vec<_>>().join(", ");
        ConfigurationError::UnknownKey { key: key.to_owned(), nearest, sections }
    };
    let whole = table.clone();
    let place = match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, name)) => {
            table.get_mut(section).and_then(Value::as_table_mut).and_then(|table| table.get_mut(name))
        }
    };
    let Some(place) = place.filter(|place| !place.is_table()) else {
        return Err(unknown(&whole));
    };
    *place = match (&*place, value) {
        (Value::Float(_), Value::Integer(whole)) => Value::Float(*whole as f64),
        // `100_000` and `1e5` are both numbers of steps to a person.
        (Value::Integer(_), Value::Float(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
            Value::Integer(*float as i64)
        }
        (Value::Integer(_), Value::Integer(whole)) if *whole >= 0 => Value::Integer(*whole),
        (Value::Float(_), Value::Float(_))
        | (Value::Boolean(_), Value::Boolean(_))
        | (Value::String(_), Value::String(_)) => value.clone(),
        (expected, found) => {
            let expected = match expected {
                Value::Integer(_) => "a whole number from 0 on",
                Value::Float(_) => "a number",
                Value::Boolean(_) => "true or false",
                _ => "a word",
            };
            return Err(ConfigurationError::WrongType {
                key: key.to_owned(),
                expected,
                found: found.to_string(),
            });
        }
    };
    Ok(())
}

/// The known key that is most like `key`; only the last words are compared where no section is given.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |candidate: &str| {
        let word = strsim::normalized_damerau_levenshtein(&last(key), &last(candidate));
        let whole = strsim::jaro_winkler(key, candidate);
        if key.contains('.') { (word + whole) / 2.0 } else { word }
    };
    let scored = known.map(|candidate| (likeness(candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= SIMILAR).then_some(best.1)
}
