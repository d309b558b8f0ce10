//! GGUF models that are split into several files, named `NAME-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

use zhenjin_files::Mapping;

use super::part::{Contents, Part, fault};
use crate::errors::{FormatError, ModelError};
use crate::gguf::Gguf;

/// The most files that a model may be split into.
const MAX_SPLITS: u64 = 1024;

/// Opens a GGUF file and, if it is the first of several, the others.
pub(super) fn open(path: &Path) -> Result<Vec<Part>, ModelError> {
    let first = Part::open_gguf(path)?;
    let Contents::Gguf(gguf) = &first.contents else { return Ok(vec![first]) };
    let count = split_number(gguf, "split.count").map_err(|error| fault(path, error))?.unwrap_or(1);
    if count <= 1 {
        return Ok(vec![first]);
    }
    if count > MAX_SPLITS {
        let problem = format!("claims {count} files; the most that is accepted is {MAX_SPLITS}");
        return Err(fault(path, FormatError::new("metadata `split.count`", problem)));
    }
    let mut parts = vec![first];
    for index in 1..count {
        parts.push(Part::open_gguf(&sibling(path, index, count)?)?);
    }
    for (index, part) in parts.iter().enumerate() {
        let Contents::Gguf(gguf) = &part.contents else { continue };
        check_number(gguf, index as u64, count).map_err(|error| fault(&part.path, error))?;
    }
    Ok(parts)
}

fn split_number(gguf: &Gguf<Mapping>, key: &str) -> Result<Option<u64>, FormatError> {
    gguf.unsigned(key)
}

fn check_number(gguf: &Gguf<Mapping>, index: u64, count: u64) -> Result<(), FormatError> {
    for (key, expected) in [("split.no", index), ("split.count", count)] {
        let found = split_number(gguf, key)?;
        if found != Some(expected) {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| found.to_string());
            let problem = format!("by the file's name it should be {expected}, found {found}");
            return Err(FormatError::new(format!("metadata `{key}`"), problem));
        }
    }
    Ok(())
}

/// The path of file `index` (from 0) of `count`, beside the first file.
fn sibling(first: &Path, index: u64, count: u64) -> Result<PathBuf, ModelError> {
    let ending = format!("-00001-of-{count:05}.gguf");
    let name = first.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(&ending));
    match name {
        Some(name) => Ok(first.with_file_name(format!("{name}-{:05}-of-{count:05}.gguf", index + 1))),
        None => Err(ModelError::NotAModel {
            path: first.to_owned(),
            reason: format!(
                "it is one of {count} files of a split model; give the one whose name ends with `{ending}`, with the others beside it"
            ),
        }),
    }
}
