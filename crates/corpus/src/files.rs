//! Small files read with a limit, and sums as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::CorpusError;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`CorpusError::Io`], also when it is larger.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CorpusError> {
    let failed = || CorpusError::io(path, "read");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed())?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed())?;
    if bytes.len() as u64 > limit {
        return Err(failed()(std::io::Error::other(format!("it has more than {limit} bytes"))));
    }
    Ok(bytes)
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn sha256_text(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
