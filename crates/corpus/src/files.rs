//! Files that become visible whole or not at all.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::CorpusError;

/// Replaces `path` by `parts`, one after another: after a crash there is the old file or the new one, never a part of it.
///
/// # Errors
/// [`CorpusError::Io`]; the temporary file is removed and the old one is still there.
pub(crate) fn write_atomically(path: &Path, parts: &[&[u8]]) -> Result<(), CorpusError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = || CorpusError::io(path, "write");
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).map_err(failed())?;
    for part in parts {
        file.write_all(part).map_err(failed())?;
    }
    file.as_file().sync_all().map_err(failed())?;
    make_readable(file.as_file()).map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())
}

/// Temporary files are made for their owner alone; finished ones are as readable as any other file.
fn make_readable(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

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
