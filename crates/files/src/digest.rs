//! The SHA-256 of a file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::FileError;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// What tells a file's contents from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its contents.
    pub sha256: [u8; 32],
}

impl FileDigest {
    /// That of the file at `path`, which is read piece by piece.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn of(path: &Path) -> Result<FileDigest, FileError> {
        let mut file = File::open(path).map_err(FileError::io("open", path))?;
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; PIECE]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(FileDigest { bytes, sha256: hash.finalize().into() }),
                Ok(count) => {
                    hash.update(&buffer[..count]);
                    bytes += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::io("read", path)(error)),
            }
        }
    }

    /// The SHA-256 in 64 hexadecimal digits.
    pub fn hexadecimal(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "abc").expect("a file");
        let digest = FileDigest::of(&path).expect("a digest");
        // The example of FIPS 180-2.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((digest.bytes, digest.hexadecimal().as_str()), (3, expected));
        // More than one piece, and a part of one.
        let long = vec![7; 2 * PIECE + 1];
        std::fs::write(&path, &long).expect("a file");
        let digest = FileDigest::of(&path).expect("a digest");
        assert_eq!(digest.bytes, long.len() as u64);
        assert_eq!(digest.sha256, <[u8; 32]>::from(Sha256::digest(&long)));
        let error = FileDigest::of(&folder.path().join("none")).expect_err("no file").to_string();
        assert!(error.contains("none: cannot open"), "{error}");
    }
}
