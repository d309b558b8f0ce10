//! The records of a file, one after another: what will be a document each, not yet checked.

use serde_json::{Map, Value};

use super::lines::Lines;
use super::parquet::Rows;
use super::{InputFile, InputKind, InputOptions, Split};
use crate::CorpusError;

/// Parts of lines that a text is read in; a text is cut, where it must be, between them.
const PART_BYTES: usize = 64 << 10;
/// Roughly the memory of a JSON value beside the text that it holds.
const VALUE_BYTES: usize = 80;
/// What a number counts as a part of a row.
const NUMBER_BYTES: usize = 8;

/// One record.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its first line (for Parquet its row), counted from 1.
    pub(crate) line: u64,
    pub(crate) body: Body,
    /// The text was longer than a document may be, and goes on in the next record.
    pub(crate) is_cut: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    Text(Vec<u8>),
    Json(Vec<u8>),
    Row(Map<String, Value>),
    /// Already known to be broken.
    Broken(String),
}

impl Record {
    /// The bytes of what it holds: of a line, or of all texts and numbers in a row.
    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::Text(bytes) | Body::Json(bytes) => bytes.len(),
            Body::Row(fields) => contents_of_all(fields).0,
            Body::Broken(reason) => reason.len(),
        }
    }

    /// Roughly the memory that it takes, which for a row of lists is far more than the bytes that they hold.
    pub(crate) fn memory(&self) -> usize {
        match &self.body {
            Body::Row(fields) => {
                let (bytes, values) = contents_of_all(fields);
                bytes + values * VALUE_BYTES
            }
            Body::Text(_) | Body::Json(_) | Body::Broken(_) => self.bytes(),
        }
    }
}

/// The bytes of all texts and numbers in a value, and how many values it consists of.
fn contents(value: &Value) -> (usize, usize) {
    match value {
        Value::String(text) => (text.len(), 1),
        Value::Array(values) => values.iter().map(contents).fold((0, 1), add),
        Value::Object(fields) => add(contents_of_all(fields), (0, 1)),
        Value::Null => (0, 1),
        Value::Bool(_) | Value::Number(_) => (NUMBER_BYTES, 1),
    }
}

fn contents_of_all(fields: &Map<String, Value>) -> (usize, usize) {
    fields.values().map(contents).fold((0, 0), add)
}

fn add(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0 + right.0, left.1 + right.1)
}

/// Reads a file's records.
pub(crate) struct RecordReader {
    file: InputFile,
    source: Source,
    split: Split,
    limit: usize,
    line: u64,
}

enum Source {
    Lines { lines: Lines, is_json: bool, next: Option<super::lines::LinePart> },
    Rows(Box<Rows>),
}

impl RecordReader {
    /// # Errors
    /// [`CorpusError::Io`], or [`CorpusError::Input`] when it is not a Parquet file with the columns that are needed.
    pub(crate) fn open(file: &InputFile, options: &InputOptions) -> Result<RecordReader, CorpusError> {
        let source = match file.kind {
            InputKind::Parquet => {
                let mut columns = options.format.columns();
                columns.extend(options.identity.iter().flat_map(|identity| identity.columns()));
                let rows = Rows::open(&file.path, &columns)
                    .map_err(|reason| CorpusError::Input { path: file.path.clone(), reason })?;
                Source::Rows(Box::new(rows))
            }
            kind => {
                let lines = Lines::open(&file.path).map_err(CorpusError::io(&file.path, "read"))?;
                Source::Lines { lines, is_json: kind == InputKind::JsonLines, next: None }
            }
        };
        Ok(RecordReader {
            file: file.clone(),
            source,
            split: options.split,
            limit: options.max_document_bytes,
            line: 0,
        })
    }

    /// The next record.
    ///
    /// # Errors
    /// [`CorpusError::Io`] when the file cannot be read or unpacked further, with the line up to which it could.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, CorpusError> {
        let line = self.line;
        let failed = |source: std::io::Error| CorpusError::Input {
            path: self.file.path.clone(),
            reason: format!("it cannot be read beyond line {line}: {source}"),
        };
        match &mut self.source {
            Source::Rows(rows) => {
                let row = rows.next();
                let row =
                    row.map_err(|reason| CorpusError::Input { path: self.file.path.clone(), reason })?;
                let limit = self.limit;
                Ok(row.map(|(line, fields)| {
                    let body = fields.map_or_else(Body::Broken, |fields| row_within(limit, fields));
                    Record { line, body, is_cut: false }
                }))
            }
            Source::Lines { lines, is_json, next } => {
                let reader = TextReader { lines, next, line: &mut self.line, limit: self.limit };
                let record = if *is_json {
                    reader.whole_line(Body::Json)
                } else {
                    match self.split {
                        Split::Line => reader.whole_line(Body::Text),
                        Split::Paragraph => reader.text(true),
                        Split::File => reader.text(false),
                    }
                };
                record.map_err(failed)
            }
        }
    }
}

/// A row; a broken one where it is longer than a document may be, as a line is.
fn row_within(limit: usize, fields: Map<String, Value>) -> Body {
    let (bytes, _) = contents_of_all(&fields);
    match bytes > limit {
        true => Body::Broken(format!("the row has {bytes} bytes; the limit is {limit}")),
        false => Body::Row(fields),
    }
}

/// The state of a text file that is read.
struct TextReader<'a> {
    lines: &'a mut Lines,
    /// A part that was read and belongs to the next record.
    next: &'a mut Option<super::lines::LinePart>,
    /// Lines that were read.
    line: &'a mut u64,
    limit: usize,
}

impl TextReader<'_> {
    /// The next line that is not blank.
    fn whole_line(self, body: impl Fn(Vec<u8>) -> Body) -> std::io::Result<Option<Record>> {
        loop {
            let Some(mut part) = self.lines.next(self.limit)? else { return Ok(None) };
            *self.line += 1;
            if !part.ends_line {
                let bytes = part.bytes.len() as u64 + self.lines.skip_line()?;
                let reason = format!("the line has {bytes} bytes; the limit is {}", self.limit);
                return Ok(Some(Record { line: *self.line, body: Body::Broken(reason), is_cut: false }));
            }
            if part.bytes.last() == Some(&b'\r') {
                part.bytes.pop();
            }
            if part.bytes.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(Some(Record { line: *self.line, body: body(part.bytes), is_cut: false }));
            }
        }
    }

    /// The rest of the file, or the lines up to the next blank one; or as much of it as a document may have.
    fn text(self, ends_at_blank_lines: bool) -> std::io::Result<Option<Record>> {
        let mut text = Vec::new();
        let mut first_line = None;
        let mut is_cut = false;
        loop {
            let part = match self.next.take() {
                Some(part) => part,
                None => match self.lines.next(PART_BYTES.min(self.limit / 2))? {
                    Some(part) => part,
                    None => break,
                },
            };
            let is_blank = part.bytes.iter().all(u8::is_ascii_whitespace);
            if ends_at_blank_lines && is_blank && part.ends_line {
                *self.line += 1;
                if first_line.is_some() {
                    break;
                }
                continue;
            }
            if text.len() + part.bytes.len() + 1 > self.limit {
                *self.next = Some(part);
                is_cut = true;
                break;
            }
            first_line.get_or_insert(*self.line + 1);
            text.extend_from_slice(&part.bytes);
            if part.has_newline {
                text.push(b'\n');
            }
            *self.line += u64::from(part.ends_line);
        }
        if ends_at_blank_lines {
            while text.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                text.pop();
            }
        }
        Ok(first_line.map(|line| Record { line, body: Body::Text(text), is_cut }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: Value) -> Record {
        let body = Body::Row(Map::from_iter([("column".to_owned(), value)]));
        Record { line: 1, body, is_cut: false }
    }

    /// Whatever was no text counted 64 bytes, so that a group of rows with long lists grew to gigabytes.
    #[test]
    fn lists_and_nested_texts_count_with_all_that_they_hold() {
        let text = "x".repeat(100);
        for (value, bytes, values) in [
            (json!(text), 100, 1),
            (Value::from(vec![text.as_str(); 1_000]), 100_000, 1_001),
            (Value::from(vec![1; 1_000]), 8_000, 1_001),
            (json!({ "a": { "b": [text, null, true] } }), 108, 6),
        ] {
            let record = row(value);
            assert_eq!((record.bytes(), record.memory()), (bytes, bytes + values * VALUE_BYTES));
        }
    }
}
