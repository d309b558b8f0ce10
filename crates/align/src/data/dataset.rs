//! Files of examples, read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::errors::{BadKind, BadPolicy, BadRecord, BadRecords, DataError, Fault};
use super::example::{Body, Example, Kind, Origin, ReadFile};
use super::formats::{self, Format, Labels, Recognised, Unread};
use super::records::{self, MAX_FILE_BYTES, Records};

/// How files are read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// What happens to bad records.
    pub bad: BadPolicy,
    /// The most bytes of one file, unpacked.
    pub max_file_bytes: u64,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { bad: BadPolicy::Stop, max_file_bytes: MAX_FILE_BYTES }
    }
}

/// Examples of one or several files, in their order.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The files.
    pub files: Vec<ReadFile>,
    /// The good examples.
    pub examples: Vec<Example>,
    /// The bad records that were left out.
    pub bad: BadRecords,
    /// Fields that have no effect, and how many records have them.
    pub unread_fields: BTreeMap<String, u64>,
    /// Those of these that stay with their examples, for rewards.
    pub(super) fields_for_rewards: BTreeMap<String, u64>,
    /// What was done beside reading, and to how many records.
    pub notes: BTreeMap<String, u64>,
}

impl Dataset {
    /// Reads files, each of one format, which the fields of its records tell. Whether labels beside answers are judgements, all labels of a
    /// file say together.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::File`] for a file that cannot be read. Where bad records are not to be dropped,
    /// [`DataError::Unrecognised`] for a record of no known format, [`DataError::Mixed`] for two formats in one file, and
    /// [`DataError::Bad`] for the first bad record. Where they are, [`DataError::NoneGood`] for a file that has no others; its format
    /// is then that of most of its records.
    pub fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Dataset, DataError> {
        let mut dataset = Dataset::default();
        for path in paths {
            dataset.read_file(path, options)?;
        }
        Ok(dataset)
    }

    fn read_file(&mut self, path: &Path, options: &ReadOptions) -> Result<(), DataError> {
        let Records { records, with_key_twice } = records::read(path, options.max_file_bytes)?;
        let labels = formats::labels_of(records.iter().filter_map(|(_, record)| record.as_ref().ok()));
        // Where the run ends with the first record, lines behind it may be parts of it, whose format says nothing.
        let ends_at_first = records.first().is_some_and(|(_, record)| record.is_err());
        let format = match options.bad {
            BadPolicy::Stop if ends_at_first => None,
            BadPolicy::Stop => format_of(path, &records, labels)?,
            BadPolicy::Drop => commonest_format(&records, labels),
        };
        let (file, count) = (self.files.len(), records.len() as u64);
        let format_name = format.map(Format::name);
        self.files.push(ReadFile { path: path.to_owned(), format: format_name, records: count });
        if records.is_empty() {
            // It stays visible where other files have examples.
            *self.notes.entry(format!("file without records: {}", path.display())).or_default() += 1;
        }
        let mut unread = Unread::default();
        if with_key_twice > 0 {
            let note = "records with a key that stands twice in an object that no format reads, of which the last value counts";
            unread.notes.insert(note, with_key_twice);
        }
        let (mut bad, mut first_bad) = (BadRecords::default(), None);
        let examples_before = self.examples.len();
        for (line, record) in records {
            let origin = Origin { file, line };
            match bodies_of(record, format, labels, &mut unread) {
                Ok(bodies) => {
                    self.examples.extend(bodies.into_iter().map(|body| Example { origin, body }));
                }
                Err(fault) => {
                    let record = self.bad_record(origin, fault);
                    first_bad.get_or_insert_with(|| record.clone());
                    bad.take(record, options.bad)?;
                }
            }
        }
        if let Some(first) = first_bad.filter(|_| self.examples.len() == examples_before) {
            let (path, first, kinds) = (path.to_owned(), Box::new(first), bad.kinds());
            return Err(DataError::NoneGood { path, records: count, first, kinds });
        }
        self.bad.merge(bad);
        for (field, count) in unread.fields {
            *self.unread_fields.entry(field).or_default() += count;
        }
        for (field, count) in unread.for_rewards {
            *self.fields_for_rewards.entry(field).or_default() += count;
        }
        for (note, count) in unread.notes {
            *self.notes.entry(note.to_owned()).or_default() += count;
        }
        Ok(())
    }

    pub(super) fn bad_record(&self, origin: Origin, fault: Fault) -> BadRecord {
        let file = self.files.get(origin.file).map(|file| file.path.display().to_string());
        let Fault { kind, reason } = fault;
        BadRecord { file: file.unwrap_or_default(), line: origin.line, kind, reason }
    }

    /// Where an example stands, as `file:line`.
    pub fn place(&self, origin: Origin) -> String {
        let file = self.files.get(origin.file).map(|file| file.path.display().to_string());
        format!("{}:{}", file.unwrap_or_default(), origin.line)
    }

    /// The kinds of examples, and how many there are of each.
    pub fn kinds(&self) -> BTreeMap<Kind, u64> {
        let mut kinds = BTreeMap::new();
        for example in &self.examples {
            *kinds.entry(example.body.kind()).or_default() += 1;
        }
        kinds
    }

    /// SHA-256 over the contents of all examples in their order, in hexadecimal: what a checkpoint remembers of its data. It
    /// does not depend on file names or on how the files are written.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"zhenjin alignment data 1");
        for example in &self.examples {
            hash.update(example.body.content_hash());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Divides the examples into those to train on and those to hold out.
    ///
    /// An example's place depends on `seed` and on how its conversation begins, and on nothing else: examples that grew out of one
    /// question are never on both sides, whatever else the files hold and in whatever order.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a share that is not from 0 to below 1.
    pub fn split(self, held_out_share: f64, seed: u64) -> Result<(Dataset, Dataset), DataError> {
        if !(0.0..1.0).contains(&held_out_share) {
            let reason = format!("{held_out_share} is not from 0 to below 1");
            return Err(DataError::Setting { field: "held_out_share", reason });
        }
        let held_out = |example: &Example| is_held_out(&example.body, held_out_share, seed);
        let (test, train): (Vec<Example>, Vec<Example>) = self.examples.into_iter().partition(held_out);
        let rest = Dataset { files: self.files.clone(), examples: test, ..Dataset::default() };
        Ok((Dataset { examples: train, ..Dataset { examples: Vec::new(), ..self } }, rest))
    }
}

/// What is to be said of a division with [`Dataset::split`] into so many examples: that nothing is held out although a share was asked for, or
/// that what is differs from the share by more than half of it, as it does where there are few questions.
pub fn held_out_note(learnt: usize, held_out: usize, share: f64) -> Option<String> {
    let all = learnt.saturating_add(held_out);
    if all == 0 || share <= 0.0 {
        return None;
    }
    if held_out == 0 {
        return Some(format!("of {all} examples none is held out: nothing will be measured"));
    }
    let found = held_out as f64 / all as f64;
    ((found - share).abs() > share / 2.0).then(|| {
        format!(
            "of {all} examples {held_out} are held out, {:.1} % and not {:.1} %: each question is drawn by itself, so that few of them \
             rarely meet a share",
            100.0 * found,
            100.0 * share
        )
    })
}

/// Whether an example is held out: a function of the seed and of how its conversation begins.
pub fn is_held_out(body: &Body, share: f64, seed: u64) -> bool {
    let mut hash = Sha256::new();
    hash.update(b"zhenjin held out");
    hash.update(seed.to_le_bytes());
    hash.update(body.opening_hash());
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    zhenjin_corpus::is_for_validation(u64::from_le_bytes([a, b, c, d, e, f, g, h]), share)
}

/// Whether a value can be a record at all.
fn is_possible(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// The examples of a record of a file whose records are of `format`.
fn bodies_of(
    record: Result<Value, Fault>,
    format: Option<Format>,
    labels: Labels,
    unread: &mut Unread,
) -> Result<Vec<Body>, Fault> {
    let record = record?;
    if !is_possible(&record) {
        let found = formats::shape(&record);
        let reason = format!("a record is an object with fields, and {found} stands there");
        return Err(Fault::new(BadKind::NoRecord, reason));
    }
    let recognised = formats::recognise(&record, labels)
        .map_err(|(found, expected)| Fault::new(BadKind::Unrecognised, format!("{found}; {expected}")))?;
    let own = recognised.among(format);
    match format {
        Some(format) if format != own => {
            let (own, files) = (own.name(), format.name());
            let reason =
                format!("it is {own}, and the file's format is {files}; one file has records of one format");
            Err(Fault::new(BadKind::OtherFormat, reason))
        }
        _ => formats::read(own, &record, unread),
    }
}

/// The format of most of a file's records, where others are left out; of several that are as frequent, the one that comes first. The first
/// record alone does not decide, or a single stray one would leave out all others.
fn commonest_format(records: &[records::Record], labels: Labels) -> Option<Format> {
    let values = records.iter().filter_map(|(_, record)| record.as_ref().ok());
    let possible = values.filter(|value| is_possible(value));
    let recognised: Vec<Recognised> =
        possible.filter_map(|value| formats::recognise(value, labels).ok()).collect();
    let has_conversations = recognised.contains(&Recognised::As(Format::Messages));
    let conversations = has_conversations.then_some(Format::Messages);
    let mut counts: Vec<(Format, usize)> = Vec::new();
    for recognised in recognised {
        let format = recognised.among(conversations);
        match counts.iter_mut().find(|(counted, _)| *counted == format) {
            Some((_, count)) => *count += 1,
            None => counts.push((format, 1)),
        }
    }
    // Of equals `max_by_key` takes the last.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(format, _)| format)
}

/// The format of all records of a file; `None` where there is not one that is JSON.
fn format_of(path: &Path, records: &[records::Record], labels: Labels) -> Result<Option<Format>, DataError> {
    let mut found: Option<(u64, Format)> = None;
    let mut unanswered: Option<(u64, &Value)> = None;
    for (line, record) in records {
        let Ok(record) = record else { continue };
        if !is_possible(record) {
            continue;
        }
        let recognised = formats::recognise(record, labels).map_err(|(found, expected)| {
            DataError::Unrecognised { path: path.to_owned(), line: *line, found, expected }
        })?;
        match (recognised, found) {
            (Recognised::Unanswered, _) => unanswered = unanswered.or(Some((*line, record))),
            (Recognised::As(format), None) => found = Some((*line, format)),
            (Recognised::As(format), Some((first_line, first))) if format != first => {
                return Err(mixed(path, (first_line, first), (*line, format)));
            }
            (Recognised::As(_), Some(_)) => {}
        }
    }
    match (found, unanswered) {
        (Some((_, Format::Messages | Format::Tasks)), _) | (Some(_), None) => {
            Ok(found.map(|(_, format)| format))
        }
        (Some(first), Some((line, _))) if first.0 < line => Err(mixed(path, first, (line, Format::Tasks))),
        (Some(other), Some((line, _))) => Err(mixed(path, (line, Format::Tasks), other)),
        (None, Some(_)) => Ok(Some(Format::Tasks)),
        (None, None) => Ok(None),
    }
}

fn mixed(path: &Path, (first_line, first): (u64, Format), (line, other): (u64, Format)) -> DataError {
    DataError::Mixed { path: path.to_owned(), first_line, first: first.name(), line, other: other.name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 8 questions a share of 0.2 held out 4, or none, without a word.
    #[test]
    fn a_share_that_few_examples_do_not_meet_is_told() {
        let none = held_out_note(8, 0, 0.2).expect("a note");
        assert_eq!(none, "of 8 examples none is held out: nothing will be measured");
        let half = held_out_note(4, 4, 0.2).expect("a note");
        assert!(half.contains("of 8 examples 4 are held out, 50.0 % and not 20.0 %"), "{half}");
        assert!(held_out_note(19, 1, 0.2).is_some());
        for (learnt, held_out, share) in [(8, 2, 0.2), (8, 0, 0.0), (0, 0, 0.2), (95, 5, 0.05)] {
            assert_eq!(held_out_note(learnt, held_out, share), None, "{learnt} {held_out} {share}");
        }
    }
}
