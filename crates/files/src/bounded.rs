//! Small files, read whole and never beyond a limit.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

use crate::FileError;

/// The contents of a regular file of at most `limit` bytes. No more are read, however long the file is or becomes meanwhile.
///
/// # Errors
/// [`FileError::Io`] if it cannot be opened or read, of [`ErrorKind::FileTooLarge`] if it is longer; [`FileError::NotRegular`] if it is a
/// folder, a pipe or a device.
pub fn read_at_most(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    // Opening a pipe would wait for its other end, so its kind is checked first.
    let metadata = std::fs::metadata(path).map_err(FileError::io("open", path))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    let file = File::open(path).map_err(FileError::io("open", path))?;
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(limit);
    let mut bytes = Vec::with_capacity(expected);
    let one_more = (limit as u64).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() > limit {
        let problem = format!("it has more than {limit} bytes, the most that is read");
        return Err(FileError::io("read", path)(Error::new(ErrorKind::FileTooLarge, problem)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_not_beyond_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").expect("a file");
        for limit in [5, 6, usize::MAX] {
            assert_eq!(read_at_most(&path, limit).expect("a short file"), b"12345");
        }
        for limit in [0, 4] {
            let error = read_at_most(&path, limit).expect_err("a file that is too long");
            assert!(
                matches!(&error, FileError::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge)
            );
            let expected = format!("file: cannot read: it has more than {limit} bytes");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        std::fs::write(&path, b"").expect("a file");
        assert_eq!(read_at_most(&path, 0).expect("an empty file"), b"");
    }

    /// What a file says of its length is not what counts.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_longer_than_it_says_is_refused() {
        let path = Path::new("/proc/self/maps");
        assert_eq!(std::fs::metadata(path).expect("a file").len(), 0);
        assert!(!read_at_most(path, 16 << 20).expect("a file").is_empty());
        let error = read_at_most(path, 10).expect_err("a file that is too long").to_string();
        assert!(error.contains("more than 10 bytes"), "{error}");
    }

    #[test]
    fn what_is_missing_or_no_regular_file_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(read_at_most(folder.path(), 9), Err(FileError::NotRegular { .. })));
        let missing = read_at_most(&folder.path().join("missing"), 9).unwrap_err();
        assert!(matches!(&missing, FileError::Io { source, .. } if source.kind() == ErrorKind::NotFound));
        assert!(missing.to_string().contains("missing: cannot open: "), "{missing}");
    }

    /// A pipe without a writer would be waited for without end.
    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        assert!(matches!(read_at_most(&path, 9), Err(FileError::NotRegular { .. })));
    }
}
