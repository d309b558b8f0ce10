//! Records of many files, worked on by several threads and given back in their order.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::CorpusError;
use crate::source::{InputFile, InputOptions, Record, RecordReader};

/// Bytes of records that are in memory at once, for each thread.
const GROUP_BYTES: usize = 2 << 20;
/// Records that a thread takes at once.
const RECORDS_AT_ONCE: usize = 32;

/// A place between two records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Inputs that are finished.
    pub(crate) input: usize,
    /// Files of this input that are finished.
    pub(crate) file: usize,
    /// Records of this file that are finished.
    pub(crate) record: u64,
}

/// What comes out, in an order that does not depend on threads.
pub(crate) enum Item<T> {
    Record {
        /// The place behind the record.
        position: Position,
        line: u64,
        is_cut: bool,
        bytes: usize,
        result: T,
    },
    /// A file that held no record at all.
    EmptyFile(Position),
    /// The files of this input are finished.
    InputEnd(usize),
}

/// Calls `work` with every record from `start` on, on `threads` threads, and `take` with the results in order.
///
/// # Errors
/// What reading, or `take`, returns.
pub(crate) fn for_each_record<T: Send>(
    inputs: &[Vec<InputFile>],
    start: Position,
    options: &InputOptions,
    threads: NonZeroUsize,
    work: &(dyn Fn(&Record) -> T + Sync),
    take: &mut dyn FnMut(Item<T>) -> Result<(), CorpusError>,
) -> Result<(), CorpusError> {
    for (input, files) in inputs.iter().enumerate().skip(start.input) {
        let mut reader =
            FilesReader { files, options, position: Position { input, ..Position::default() }, open: None };
        if input == start.input {
            reader.skip_to(start)?;
        }
        loop {
            let group = reader.group(GROUP_BYTES * threads.get())?;
            if group.is_empty() {
                break;
            }
            let results = work_on(&group, threads, work);
            for (entry, result) in group.into_iter().zip(results) {
                take(match (entry, result) {
                    (Entry::Record(position, record), Some(result)) => Item::Record {
                        position,
                        line: record.line,
                        is_cut: record.is_cut,
                        bytes: record.bytes(),
                        result,
                    },
                    (Entry::Record(position, _) | Entry::EmptyFile(position), _) => Item::EmptyFile(position),
                })?;
            }
        }
        take(Item::InputEnd(input))?;
    }
    Ok(())
}

enum Entry {
    Record(Position, Record),
    EmptyFile(Position),
}

struct FilesReader<'a> {
    files: &'a [InputFile],
    options: &'a InputOptions,
    position: Position,
    open: Option<RecordReader>,
}

impl FilesReader<'_> {
    fn skip_to(&mut self, start: Position) -> Result<(), CorpusError> {
        self.position.file = start.file;
        while self.position.record < start.record {
            match self.next()? {
                Some(Entry::Record(position, _)) if position.file == start.file => {}
                _ => {
                    let path = self.files.get(start.file).map(|file| file.path.clone()).unwrap_or_default();
                    let reason =
                        format!("it has fewer than {} records, where it had more before", start.record);
                    return Err(CorpusError::Input { path, reason });
                }
            }
        }
        Ok(())
    }

    fn group(&mut self, limit: usize) -> Result<Vec<Entry>, CorpusError> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < limit {
            let Some(entry) = self.next()? else { break };
            if let Entry::Record(_, record) = &entry {
                bytes += record.memory() + 64;
            }
            group.push(entry);
        }
        Ok(group)
    }

    fn next(&mut self) -> Result<Option<Entry>, CorpusError> {
        loop {
            let Some(file) = self.files.get(self.position.file) else { return Ok(None) };
            let mut reader = match self.open.take() {
                Some(reader) => reader,
                None => RecordReader::open(file, self.options)?,
            };
            if let Some(record) = reader.next()? {
                self.open = Some(reader);
                self.position.record += 1;
                return Ok(Some(Entry::Record(self.position, record)));
            }
            let was_empty = self.position.record == 0;
            let at = self.position;
            self.position = Position { input: at.input, file: at.file + 1, record: 0 };
            if was_empty {
                return Ok(Some(Entry::EmptyFile(self.position)));
            }
        }
    }
}

fn work_on<T: Send>(
    group: &[Entry],
    threads: NonZeroUsize,
    work: &(dyn Fn(&Record) -> T + Sync),
) -> Vec<Option<T>> {
    let mut results: Vec<Option<T>> = Vec::new();
    results.resize_with(group.len(), || None);
    let parts = Mutex::new(group.chunks(RECORDS_AT_ONCE).zip(results.chunks_mut(RECORDS_AT_ONCE)));
    let run = || {
        loop {
            let part = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((entries, results)) = part else { break };
            for (entry, result) in entries.iter().zip(results) {
                if let Entry::Record(_, record) = entry {
                    *result = Some(work(record));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(group.len().div_ceil(RECORDS_AT_ONCE)) {
            scope.spawn(run);
        }
        run();
    });
    results
}
