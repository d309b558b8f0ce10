//! The records of a file, one after another: what will be a document each, not yet checked.

use serde_json::{Map, Value};

use super::lines::Lines;
use super::parquet::Rows;
use super::{InputFile, InputKind, InputOptions, Split};
use crate::CorpusError;

/// Parts of lines that a text is read in; a text is cut, where it must be, between them.
const PART_BYTES: usize = 64 << 10;

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
    /// Roughly the memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::Text(bytes) | Body::Json(bytes) => bytes.len(),
            Body::Row(fields) => fields.values().map(|value| value.as_str().map_or(64, str::len)).sum(),
            Body::Broken(reason) => reason.len(),
        }
    }
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
                Ok(row.map(|(line, fields)| Record { line, body: Body::Row(fields), is_cut: false }))
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
