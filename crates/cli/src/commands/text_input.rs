//! The arguments by which a command is told which text to read, and how.

use crate::memory_size::MemorySize;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use zhenjin_corpus::{BrokenRecord, DocumentFormat, Input, InputKind, InputOptions, Split};

/// Broken records that are shown; all are counted.
const SHOWN: u64 = 20;

/// Which text, and what in it is a document.
#[derive(Debug, Args)]
pub(crate) struct TextInputArguments {
    /// Files or folders of text, JSON lines or Parquet, plain or compressed (gzip, zstd)
    #[arg(required = true, value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// What in a text is a document.
#[derive(Debug, Args)]
pub(crate) struct DocumentArguments {
    /// What the files are [default: by their endings; a file without a known one is text]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kind: Option<KindArgument>,
    /// Where a document of plain text ends
    #[arg(long, value_enum, default_value_t = SplitArgument::File, value_name = "WHERE")]
    pub(crate) split: SplitArgument,
    /// The field or column that is the document [default: text]
    #[arg(long, value_name = "NAME", conflicts_with = "format")]
    pub(crate) field: Option<String>,
    /// The document, put together from fields: {name} is a field, {name?} one that may be missing, \n a new line; lists are
    /// written line by line, and control tokens count only here, never inside a field
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Documents with the same values here are the same: they stay together when some are set aside for validation
    /// [default: the whole document]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) identity: Option<String>,
    /// The longest document; a longer JSON line is broken, a longer text becomes several documents
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub(crate) max_document: MemorySize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArgument {
    /// UTF-8 text
    Text,
    /// One JSON object a line
    Jsonl,
    /// Parquet
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArgument {
    /// With its file
    File,
    /// At blank lines
    Paragraph,
    /// With its line
    Line,
}

impl DocumentArguments {
    pub(crate) fn options(&self) -> Result<InputOptions> {
        let format = match (&self.format, &self.field) {
            (Some(format), _) => DocumentFormat::parse(format).context("--format")?,
            (None, field) => DocumentFormat::field(field.as_deref().unwrap_or("text")),
        };
        let identity =
            self.identity.as_deref().map(DocumentFormat::parse).transpose().context("--identity")?;
        Ok(InputOptions {
            kind: self.kind.map(|kind| match kind {
                KindArgument::Text => InputKind::Text,
                KindArgument::Jsonl => InputKind::JsonLines,
                KindArgument::Parquet => InputKind::Parquet,
            }),
            split: match self.split {
                SplitArgument::File => Split::File,
                SplitArgument::Paragraph => Split::Paragraph,
                SplitArgument::Line => Split::Line,
            },
            format,
            identity,
            max_document_bytes: usize::try_from(self.max_document.0).context("--max-document")?,
        })
    }
}

impl TextInputArguments {
    pub(crate) fn options(&self) -> Result<InputOptions> {
        self.document.options()
    }

    /// The inputs with their licences: one for all, or one for each.
    pub(crate) fn inputs(&self, licences: &[String]) -> Result<Vec<Input>> {
        if licences.len() > 1 && licences.len() != self.inputs.len() {
            bail!(
                "--licence is given {} times for {} inputs; give it once for all, or once for each",
                licences.len(),
                self.inputs.len()
            );
        }
        let licence = |number: usize| licences.get(number).or(licences.first()).cloned().unwrap_or_default();
        let inputs = self.inputs.iter().enumerate();
        Ok(inputs.map(|(number, path)| Input { path: path.clone(), licence: licence(number) }).collect())
    }

    pub(crate) fn threads(&self) -> NonZeroUsize {
        threads(self.threads)
    }
}

/// Threads that read text: as many as were asked for, or as there are cores.
pub(crate) fn threads(given: Option<u16>) -> NonZeroUsize {
    let given = given.and_then(|threads| NonZeroUsize::new(threads.into()));
    given.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// Says which records are broken: the first ones each, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct BrokenRecords {
    count: u64,
}

impl BrokenRecords {
    pub(crate) fn show(&mut self, record: &BrokenRecord) {
        self.count += 1;
        if self.count <= SHOWN {
            eprintln!("left out: {record}");
        } else if self.count == SHOWN + 1 {
            eprintln!("left out: more, which are counted");
        }
    }
}
