//! Files of JSON that several programs read and write: bounded when read, whole when written, and the locks beside them.

use std::fs::{File, OpenOptions};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zhenjin_files::write_whole;

use crate::error::{PromotionError, io};

/// The longest file that is read.
const MOST_BYTES: u64 = 16 << 20;

/// What the file at `path` holds; `None` without one.
///
/// # Errors
/// [`PromotionError::Damaged`] when it is too long or not what is expected, [`PromotionError::Io`] when it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PromotionError> {
    let damaged = |problem: String| PromotionError::Damaged { path: path.to_owned(), problem };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("read", path)(error)),
        Ok(found) if found.len() > MOST_BYTES => {
            return Err(damaged(format!("it has {} bytes, more than {MOST_BYTES}", found.len())));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(io("read", path))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(error.to_string()))
}

/// Writes `value` in the place of what was there.
///
/// # Errors
/// [`PromotionError::File`]; the file is then as it was.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), PromotionError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| PromotionError::Damaged { path: path.to_owned(), problem: error.to_string() })?;
    Ok(write_whole(path, &[text.as_bytes(), b"\n"])?)
}

/// Opens a file to lock, in a folder that is made where it is missing.
///
/// # Errors
/// [`PromotionError::Io`].
pub(crate) fn open_lock(folder: &Path, name: &str) -> Result<File, PromotionError> {
    std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    let path = folder.join(name);
    OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))
}
