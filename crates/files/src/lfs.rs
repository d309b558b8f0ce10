//! Git LFS pointers: small text files that stand in a repository for large ones, until these are fetched.

use std::path::Path;

use crate::FileError;

/// How every pointer begins.
const BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Pointers are smaller than this, by their specification.
const MOST_BYTES: usize = 1024;

/// Refuses the contents of a file that is only a Git LFS pointer. `path` is for the message.
///
/// # Errors
/// [`FileError::LfsPointer`].
pub fn check_no_lfs_pointer(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    if contents.len() >= MOST_BYTES || !contents.starts_with(BEGINNING) {
        return Ok(());
    }
    let size = String::from_utf8_lossy(contents)
        .lines()
        .find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
    Err(FileError::LfsPointer { path: path.to_owned(), bytes: size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_says_what_it_is_and_how_large_the_file_is() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        let error = check_no_lfs_pointer(Path::new("model.gguf"), pointer).unwrap_err().to_string();
        assert_eq!(
            error,
            "model.gguf: it is a Git LFS pointer, not the file itself, which has 12345 bytes; \
             run `git lfs pull` in its repository, or download the file"
        );
        let cut = b"version https://git-lfs.github.com/spec/v1\r\n";
        let error = check_no_lfs_pointer(Path::new("a"), cut).unwrap_err();
        assert!(matches!(error, FileError::LfsPointer { bytes: None, .. }));
    }

    #[test]
    fn other_files_pass() {
        for contents in [&b"GGUF"[..], b"", b"version 3", b"{\"version\": 1}"] {
            check_no_lfs_pointer(Path::new("a"), contents).unwrap();
        }
        let long = [BEGINNING, &[b'x'; 2000]].concat();
        check_no_lfs_pointer(Path::new("a"), &long).unwrap();
    }
}
