//! Finding the files of an input, in an order that does not depend on the file system.

use std::path::{Path, PathBuf};

use super::InputKind;
use crate::CorpusError;

const MAX_DEPTH: usize = 64;
const MAX_FILES: usize = 10_000_000;

/// A file or folder that the user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// The licence of its text, where the user said it.
    pub licence: String,
}

impl Input {
    /// The last part of the path, which names the source in shards: the same on every machine.
    pub fn source(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

/// One file of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the input, with the input's name: the same on every machine.
    pub name: String,
    /// What it is.
    pub kind: InputKind,
}

/// What lies in an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The files to read, in order of their names.
    pub files: Vec<InputFile>,
    /// Files in folders that are of no known kind.
    pub ignored: Vec<PathBuf>,
}

/// Finds the files of an input. A file that is named itself is text unless its ending says otherwise; in folders only files
/// with known endings are taken, and hidden ones are not looked at.
///
/// # Errors
/// [`CorpusError::Io`] when something cannot be read, [`CorpusError::Input`] when there is nothing to read, or a file is of a
/// kind that is not supported.
pub fn discover(input: &Input, kind: Option<InputKind>) -> Result<Discovered, CorpusError> {
    let metadata = std::fs::metadata(&input.path).map_err(CorpusError::io(&input.path, "open"))?;
    let mut discovered = Discovered::default();
    if metadata.is_dir() {
        walk(&input.path, &input.source(), kind, 0, &mut discovered)?;
        discovered.files.sort_by(|a, b| a.name.cmp(&b.name));
        discovered.ignored.sort();
    } else {
        check_regular(&input.path, &metadata)?;
        let kind = match kind {
            Some(kind) => kind,
            None => kind_of_name(&input.path)?.unwrap_or(InputKind::Text),
        };
        let (path, name) = (input.path.clone(), input.source());
        discovered.files.push(InputFile { path, name, kind });
    }
    if discovered.files.is_empty() {
        let reason = "no file in it ends in .txt, .md, .rst, .jsonl, .ndjson or .parquet (plain, .gz or .zst); \
            name the kind of its files if they are named otherwise";
        return Err(CorpusError::Input { path: input.path.clone(), reason: reason.to_owned() });
    }
    Ok(discovered)
}

fn walk(
    folder: &Path,
    name: &str,
    kind: Option<InputKind>,
    depth: usize,
    discovered: &mut Discovered,
) -> Result<(), CorpusError> {
    let refused = |reason: String| CorpusError::Input { path: folder.to_owned(), reason };
    if depth > MAX_DEPTH {
        return Err(refused(format!("folders lie more than {MAX_DEPTH} deep")));
    }
    for entry in std::fs::read_dir(folder).map_err(CorpusError::io(folder, "read"))? {
        let entry = entry.map_err(CorpusError::io(folder, "read"))?;
        let path = entry.path();
        let entry_name = entry.file_name().to_string_lossy().into_owned();
        if entry_name.starts_with('.') {
            continue;
        }
        let name = format!("{name}/{entry_name}");
        // A link to a folder could lead back to where it stands, so that only links to files are followed.
        let file_type = entry.file_type().map_err(CorpusError::io(&path, "open"))?;
        if file_type.is_dir() {
            walk(&path, &name, kind, depth + 1, discovered)?;
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(CorpusError::io(&path, "open"))?;
        let found = match kind {
            Some(kind) => Some(kind),
            None => kind_of_name(&path).unwrap_or(None),
        };
        match found.filter(|_| metadata.is_file()) {
            Some(kind) => discovered.files.push(InputFile { path, name, kind }),
            None => discovered.ignored.push(path),
        }
        if discovered.files.len() + discovered.ignored.len() > MAX_FILES {
            return Err(refused(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(())
}

fn check_regular(path: &Path, metadata: &std::fs::Metadata) -> Result<(), CorpusError> {
    if metadata.is_file() {
        return Ok(());
    }
    let reason =
        "it is a pipe or a device; text is read more than once, so write it to a file first".to_owned();
    Err(CorpusError::Input { path: path.to_owned(), reason })
}

/// The kind that a file's ending names, below the ending of its compression.
fn kind_of_name(path: &Path) -> Result<Option<InputKind>, CorpusError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let inner = [".gz", ".zst", ".zstd"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let ending = inner.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending {
        "txt" | "text" | "md" | "markdown" | "rst" => Ok(Some(InputKind::Text)),
        "jsonl" | "ndjson" => Ok(Some(InputKind::JsonLines)),
        "parquet" => Ok(Some(InputKind::Parquet)),
        "json" => Err(CorpusError::Input {
            path: path.to_owned(),
            reason: "a JSON document is not one object a line; `jq -c '.[]'` writes a list as JSON lines"
                .to_owned(),
        }),
        _ => Ok(None),
    }
}
