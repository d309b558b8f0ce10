//! From files of text to a folder of shards: in constant memory, on several threads, and resumable.
//!
//! Where a shard ends depends on the documents alone, so that the result is the same with any number of threads. A shard says
//! how far its reader had come; a run that was cut off goes on behind the last whole shard, and ends with the same bytes as one
//! that was not.

mod fingerprint;
mod resume;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use zhenjin_tokenizer::Tokenizer;

use crate::files::{hexadecimal, sha256_text};
use crate::pipeline::{Item, Position, for_each_record};
use crate::source::{Document, Input, InputFile, InputOptions, Record, discover};
use crate::{CorpusError, DocumentTokens, ShardMetadata, ShardSet, ShardSetDescription, ShardWriter};

/// Broken records of which a shard, and the summary, tell file, line and reason; all are counted.
const MAX_REPORTS: usize = 1_000;
const MAX_REASON_CHARACTERS: usize = 300;

/// A tokenizer's files, which are put beside the shards.
#[derive(Debug, Clone)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer_json: Vec<u8>,
    /// Files that are put beside it by these names, such as `tokenizer_config.json` and a chat template.
    pub companions: Vec<(String, Vec<u8>)>,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct TokenizeOptions {
    /// Files and folders, in order.
    pub inputs: Vec<Input>,
    /// How files become documents.
    pub input: InputOptions,
    /// The token that follows a document; `None` takes `<|endoftext|>`, or the tokenizer's end of sequence.
    pub end_of_text: Option<String>,
    /// A shard ends with the document that brings it to this many tokens.
    pub shard_tokens: u64,
    /// Threads that encode.
    pub threads: NonZeroUsize,
    /// Stop at the first broken record, and accept no shards of a run that left one out.
    pub strict: bool,
    /// Replace what the folder holds, if it was made from something else, and other tokenizer files in it.
    pub replace: bool,
}

/// A record that cannot be a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokenRecord {
    /// The file's name below its input.
    pub file: String,
    /// The line (for Parquet the row), counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for BrokenRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl BrokenRecord {
    pub(crate) fn at(inputs: &[Vec<InputFile>], position: Position, line: u64, reason: &str) -> BrokenRecord {
        let file = inputs.get(position.input).and_then(|files| files.get(position.file));
        BrokenRecord {
            file: file.map(|file| file.name.clone()).unwrap_or_default(),
            line,
            reason: reason.chars().take(MAX_REASON_CHARACTERS).collect(),
        }
    }
}

/// Counts of what was read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Documents that were written.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Bytes of their text, control tokens not counted.
    pub text_bytes: u64,
    /// Characters of their text.
    pub text_characters: u64,
    /// Records that are broken.
    pub broken: u64,
    /// Texts that were longer than a document may be, and go on in another document.
    pub cut: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.documents += other.documents;
        self.tokens += other.tokens;
        self.text_bytes += other.text_bytes;
        self.text_characters += other.text_characters;
        self.broken += other.broken;
        self.cut += other.cut;
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Everything in the folder.
    pub counts: Counts,
    /// The first broken records.
    pub broken: Vec<BrokenRecord>,
    /// Shards in the folder.
    pub shards: usize,
    /// Shards that an earlier run had finished.
    pub kept_shards: usize,
    /// Nothing was done, because nothing has changed.
    pub unchanged: bool,
}

/// What happens on the way.
#[derive(Debug)]
pub enum TokenizeEvent<'a> {
    /// Something that the user should know.
    Note(String),
    /// A broken record.
    Broken(&'a BrokenRecord),
    /// A shard was written: everything in the folder so far.
    Shard(&'a Counts),
    /// Bytes of text that were read since the last such event.
    Read(usize),
}

/// What a shard remembers of the run that made it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// The hash of tokenizer, options and data.
    job: String,
    /// The shard's place among the others.
    number: usize,
    /// The place behind its last document.
    position: Position,
    /// What was read since the shard before.
    counts: Counts,
    broken: Vec<BrokenRecord>,
}

/// Makes a folder of shards.
///
/// # Errors
/// [`CorpusError::Input`] and [`CorpusError::Io`] when something cannot be read or written: finished shards stay, and a second
/// call goes on behind them. [`CorpusError::Occupied`] when the folder was made from something else or holds another
/// tokenizer's files, [`CorpusError::NoText`] when there is no document, [`CorpusError::Broken`] with [`TokenizeOptions::strict`].
pub fn tokenize(
    tokenizer: &Tokenizer,
    files: &TokenizerFiles,
    folder: &Path,
    options: &TokenizeOptions,
    observe: &mut dyn FnMut(TokenizeEvent<'_>),
) -> Result<Summary, CorpusError> {
    check_options(options)?;
    let mut inputs = Vec::new();
    for input in &options.inputs {
        let found = discover(input, options.input.kind)?;
        if let Some(first) = found.ignored.first() {
            observe(TokenizeEvent::Note(format!(
                "{}: {} files are of no known kind and not read, such as {}",
                input.path.display(),
                found.ignored.len(),
                first.display()
            )));
        }
        inputs.push(found.files);
    }
    let description = describe(tokenizer, files, options.end_of_text.as_deref())?;
    std::fs::create_dir_all(folder).map_err(CorpusError::io(folder, "make"))?;
    let _lock = resume::lock(folder)?;
    resume::remove_unfinished_files(folder)?;
    let hashes = fingerprint::hash_inputs(folder, &inputs)?;
    let job = fingerprint::job(&description, options, &inputs, &hashes);
    let kept = resume::finished_shards(folder, &job, options.replace, observe)?;
    if options.strict {
        kept.check_nothing_was_left_out(folder, observe)?;
    }
    // Also when nothing else is to do: the template may have changed since.
    write_tokenizer(folder, files, options.replace || kept.is_same_job)?;
    if let Some(summary) = kept.whole {
        return Ok(summary);
    }
    let mut run = Run::new(folder, &job, tokenizer, &description, options, observe);
    run.take_kept(&kept.shards);
    let start = kept.shards.last().map(|progress| progress.position).unwrap_or_default();
    let work = |record: &Record| encode(record, tokenizer, &options.input);
    for_each_record(&inputs, start, &options.input, options.threads, &work, &mut |item| {
        run.take(&inputs, item)
    })?;
    let summary = run.finish(&inputs)?;
    fingerprint::check_unchanged(&inputs, &hashes)?;
    resume::remove_shards_from(folder, summary.shards)?;
    let origin = json!({
        "job": job,
        "inputs": origin_of(options, &inputs, &hashes),
        "counts": summary.counts,
        "broken": summary.broken,
    });
    let names: Vec<String> = (0..summary.shards).map(resume::shard_name).collect();
    ShardSet::finish(folder, description, &names, origin)?;
    Ok(summary)
}

fn check_options(options: &TokenizeOptions) -> Result<(), CorpusError> {
    options.input.check()?;
    let setting = |field, reason: &str| Err(CorpusError::Setting { field, reason: reason.to_owned() });
    if options.inputs.is_empty() {
        return setting("inputs", "name a file or a folder");
    }
    if !(1_000..=1 << 30).contains(&options.shard_tokens) {
        return setting("tokens of a shard", "from 1,000 to 1,073,741,824 is possible");
    }
    Ok(())
}

fn origin_of(
    options: &TokenizeOptions,
    inputs: &[Vec<InputFile>],
    hashes: &BTreeMap<String, fingerprint::FileState>,
) -> serde_json::Value {
    let entries = options.inputs.iter().zip(inputs).enumerate().map(|(number, (input, files))| {
        let states = files.iter().filter_map(|file| hashes.get(&fingerprint::key(number, file)));
        let bytes: u64 = states.map(|state| state.bytes).sum();
        json!({ "source": input.source(), "licence": input.licence, "files": files.len(), "bytes": bytes })
    });
    entries.collect()
}

fn describe(
    tokenizer: &Tokenizer,
    files: &TokenizerFiles,
    end_of_text: Option<&str>,
) -> Result<ShardSetDescription, CorpusError> {
    let end = match end_of_text {
        Some(text) => tokenizer.special_id(text),
        None => tokenizer.special_id("<|endoftext|>").or(tokenizer.eos()),
    };
    let end_of_text = end.ok_or_else(|| CorpusError::Setting {
        field: "end of text",
        reason: match end_of_text {
            Some(text) => format!("the tokenizer has no control token `{text}`"),
            None => "the tokenizer has neither <|endoftext|> nor an end of sequence; name one of its control tokens".to_owned(),
        },
    })?;
    let token_bytes = (0..tokenizer.vocabulary_size() as u32)
        .map(|id| match tokenizer.token_bytes(id) {
            Some(bytes) if !tokenizer.is_special(id) => bytes.len() as u32,
            _ => 0,
        })
        .collect();
    Ok(ShardSetDescription { tokenizer_hash: sha256_text(&files.tokenizer_json), end_of_text, token_bytes })
}

/// Puts the tokenizer's files into the folder. Other files by these names, such as those of a model, are replaced only where
/// `may_replace` says so; nothing is written before all of them have been looked at.
fn write_tokenizer(folder: &Path, files: &TokenizerFiles, may_replace: bool) -> Result<(), CorpusError> {
    let tokenizer = std::iter::once(("tokenizer.json", &files.tokenizer_json));
    let companions = files.companions.iter().map(|(name, contents)| (name.as_str(), contents));
    let mut changed = Vec::new();
    for (name, contents) in tokenizer.chain(companions) {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(present) if present == *contents => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => changed.push((path, contents)),
            _ if may_replace => changed.push((path, contents)),
            _ => {
                let holds = format!("another {name}, which is perhaps a model's");
                return Err(CorpusError::Occupied { path: folder.to_owned(), holds });
            }
        }
    }
    for (path, contents) in changed {
        zhenjin_files::write_whole(&path, &[contents])?;
    }
    Ok(())
}

struct Encoded {
    tokens: Vec<u32>,
    content_hash: u64,
}

fn encode(record: &Record, tokenizer: &Tokenizer, options: &InputOptions) -> Result<Encoded, String> {
    let document = Document::of(record, options)?;
    let tokens = document.encode(tokenizer)?;
    if tokens.is_empty() {
        return Err("the tokenizer has no token for any of its text".to_owned());
    }
    Ok(Encoded { tokens, content_hash: document.content_hash })
}

/// The state of a run.
struct Run<'a, 'observer> {
    folder: &'a Path,
    job: &'a str,
    tokenizer: &'a Tokenizer,
    description: &'a ShardSetDescription,
    options: &'a TokenizeOptions,
    observe: &'a mut (dyn FnMut(TokenizeEvent<'_>) + 'observer),
    writer: ShardWriter,
    /// The shard that is being filled.
    progress: Progress,
    summary: Summary,
}

impl<'a, 'observer> Run<'a, 'observer> {
    fn new(
        folder: &'a Path,
        job: &'a str,
        tokenizer: &'a Tokenizer,
        description: &'a ShardSetDescription,
        options: &'a TokenizeOptions,
        observe: &'a mut (dyn FnMut(TokenizeEvent<'_>) + 'observer),
    ) -> Self {
        let writer = ShardWriter::new(description.token_bytes.len() as u32);
        let progress = Progress { job: job.to_owned(), ..Progress::default() };
        Run {
            folder,
            job,
            tokenizer,
            description,
            options,
            observe,
            writer,
            progress,
            summary: Summary::default(),
        }
    }

    fn take_kept(&mut self, shards: &[Progress]) {
        for progress in shards {
            self.count(progress);
        }
        self.summary.kept_shards = shards.len();
        self.progress.number = shards.len();
    }

    fn count(&mut self, progress: &Progress) {
        self.summary.counts.add(&progress.counts);
        let room = MAX_REPORTS.saturating_sub(self.summary.broken.len());
        self.summary.broken.extend(progress.broken.iter().take(room).cloned());
        self.summary.shards = self.summary.shards.max(progress.number);
    }

    fn take(
        &mut self,
        inputs: &[Vec<InputFile>],
        item: Item<Result<Encoded, String>>,
    ) -> Result<(), CorpusError> {
        match item {
            Item::Record { position, line, is_cut, bytes, result } => {
                (self.observe)(TokenizeEvent::Read(bytes));
                self.progress.counts.cut += u64::from(is_cut);
                match result {
                    Err(reason) => self.broken(BrokenRecord::at(inputs, position, line, &reason)),
                    Ok(encoded) => self.document(position, &encoded),
                }
            }
            Item::EmptyFile(position) => {
                let before = Position { file: position.file.saturating_sub(1), ..position };
                self.broken(BrokenRecord::at(inputs, before, 1, "the file is empty"))
            }
            Item::InputEnd(input) => {
                if self.writer.documents() == 0 {
                    return Ok(());
                }
                self.close(Position { input: input + 1, ..Position::default() }, input)
            }
        }
    }

    fn broken(&mut self, record: BrokenRecord) -> Result<(), CorpusError> {
        (self.observe)(TokenizeEvent::Broken(&record));
        if self.options.strict {
            return Err(CorpusError::Broken(Box::new(record)));
        }
        self.progress.counts.broken += 1;
        if self.progress.broken.len() < MAX_REPORTS {
            self.progress.broken.push(record);
        }
        Ok(())
    }

    fn document(&mut self, position: Position, encoded: &Encoded) -> Result<(), CorpusError> {
        let (mut bytes, mut characters) = (0, 0);
        for &token in &encoded.tokens {
            if self.description.token_bytes.get(token as usize).is_some_and(|&bytes| bytes > 0) {
                let text = self.tokenizer.token_bytes(token).unwrap_or_default();
                bytes += text.len() as u64;
                // Every character has one byte that does not continue another.
                characters += text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() as u64;
            }
        }
        let content_hash = encoded.content_hash;
        self.writer.push(&DocumentTokens { tokens: &encoded.tokens, bytes, characters, content_hash })?;
        let counts = &mut self.progress.counts;
        counts.documents += 1;
        counts.tokens += encoded.tokens.len() as u64;
        counts.text_bytes += bytes;
        counts.text_characters += characters;
        if self.writer.tokens() >= self.options.shard_tokens {
            return self.close(position, position.input);
        }
        Ok(())
    }

    /// Writes the shard, whose documents are from `input`; `position` is where its reader had come.
    fn close(&mut self, position: Position, input: usize) -> Result<(), CorpusError> {
        let number = self.progress.number;
        let next = Progress { job: self.job.to_owned(), number: number + 1, ..Progress::default() };
        let progress = Progress { position, ..std::mem::replace(&mut self.progress, next) };
        let input = &self.options.inputs[input];
        let metadata = ShardMetadata {
            source: input.source(),
            licence: input.licence.clone(),
            progress: serde_json::to_value(&progress)
                .map_err(|error| CorpusError::Document(error.to_string()))?,
        };
        self.writer.write(&self.folder.join(resume::shard_name(number)), &metadata)?;
        self.count(&progress);
        self.summary.shards = number + 1;
        (self.observe)(TokenizeEvent::Shard(&self.summary.counts));
        Ok(())
    }

    fn finish(mut self, inputs: &[Vec<InputFile>]) -> Result<Summary, CorpusError> {
        // Broken records behind the last shard.
        let rest = std::mem::take(&mut self.progress);
        self.summary.shards = rest.number;
        self.count(&Progress { number: 0, ..rest });
        if self.summary.counts.documents == 0 {
            let files: usize = inputs.iter().map(Vec::len).sum();
            (self.observe)(TokenizeEvent::Note(format!("{files} files were read")));
            return Err(CorpusError::NoText { broken: self.summary.counts.broken });
        }
        Ok(self.summary)
    }
}

/// SHA-256 of a list of texts, each with its length.
fn hash_of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hexadecimal(&hash.finalize())
}
