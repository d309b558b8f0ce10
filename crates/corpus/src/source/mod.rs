//! Text that users have: files and folders of plain text, JSON lines or Parquet, plain or compressed, as documents.

mod discover;
mod document;
mod footer;
mod format;
mod lines;
mod parquet;
mod records;

pub use discover::{Discovered, Input, InputFile, discover};
pub use document::{Document, Piece};
pub use format::DocumentFormat;
pub(crate) use lines::for_each_block;
pub use lines::open_unpacked;
pub(crate) use records::{Record, RecordReader};

use crate::CorpusError;

/// What kind of file an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// UTF-8 text.
    Text,
    /// One JSON object a line.
    JsonLines,
    /// Columns.
    Parquet,
}

/// Where a document of plain text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// With its file.
    File,
    /// At blank lines.
    Paragraph,
    /// With its line.
    Line,
}

/// How files become documents.
#[derive(Debug, Clone, PartialEq)]
pub struct InputOptions {
    /// The kind of all files; `None` goes by each file's ending.
    pub kind: Option<InputKind>,
    /// Where a document of plain text ends.
    pub split: Split,
    /// How a document is made from the fields of a JSON line or the columns of a row.
    pub format: DocumentFormat,
    /// Which fields decide whether two documents are the same, for the validation split; `None` for the whole document.
    pub identity: Option<DocumentFormat>,
    /// The longest line, row or document. A longer JSON line or Parquet row is broken; a longer text is cut into several
    /// documents.
    pub max_document_bytes: usize,
}

impl Default for InputOptions {
    fn default() -> InputOptions {
        InputOptions {
            kind: None,
            split: Split::File,
            format: DocumentFormat::field("text"),
            identity: None,
            max_document_bytes: 16 << 20,
        }
    }
}

impl InputOptions {
    /// # Errors
    /// [`CorpusError::Setting`] for a limit that cannot be.
    pub(crate) fn check(&self) -> Result<(), CorpusError> {
        if (1 << 10..=1 << 30).contains(&self.max_document_bytes) {
            return Ok(());
        }
        let reason = format!("{} bytes; from 1 KiB to 1 GiB is possible", self.max_document_bytes);
        Err(CorpusError::Setting { field: "the longest document", reason })
    }
}
