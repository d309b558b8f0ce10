//! Files of JSON that several programs read and write: bounded when read, whole when written, and the locks beside them.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zhenjin_files::{FileError, read_at_most, write_whole};

use crate::error::{PromotionError, io};

/// The longest file that is read.
const MOST_BYTES: usize = 16 << 20;

/// What the file at `path` holds; `None` without one.
///
/// # Errors
/// [`PromotionError::Damaged`] when it is too long, no file or not what is expected, [`PromotionError::Io`] when it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PromotionError> {
    let damaged = |problem: String| PromotionError::Damaged { path: path.to_owned(), problem };
    let bytes = match read_at_most(path, MOST_BYTES) {
        Ok(bytes) => bytes,
        Err(FileError::Io { source, .. }) => match source.kind() {
            ErrorKind::NotFound => return Ok(None),
            ErrorKind::FileTooLarge => return Err(damaged(source.to_string())),
            _ => return Err(io("read", path)(source)),
        },
        Err(error) => return Err(damaged(error.problem())),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the length was looked at before the file was read, so that a file that grew between the two was read whole, and a pipe
    /// was waited for without end.
    #[test]
    fn a_long_file_and_what_is_no_file_are_damaged_and_a_missing_one_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list.json");
        assert_eq!(read::<Vec<u32>>(&path).expect("no file"), None);
        std::fs::write(&path, "[1, 2]").expect("a file");
        assert_eq!(read::<Vec<u32>>(&path).expect("a list"), Some(vec![1, 2]));
        let file = OpenOptions::new().write(true).open(&path).expect("a file");
        file.set_len(MOST_BYTES as u64 + 1).expect("a file without contents");
        let error = read::<Vec<u32>>(&path).expect_err("a long file");
        assert!(matches!(error, PromotionError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("it has more than 16777216 bytes"), "{error}");
        let error = read::<Vec<u32>>(folder.path()).expect_err("a folder");
        assert!(matches!(error, PromotionError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
