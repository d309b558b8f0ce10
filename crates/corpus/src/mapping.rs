//! Files mapped into memory: the only `unsafe` of this crate.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::CorpusError;

/// A whole file, mapped into memory for reading.
///
/// The file must not be cut while it is mapped: reading a part that was cut off ends the process, as with every program that
/// maps files. Shards are replaced by renaming, which is safe. Changed bytes give wrong tokens, and each token is checked
/// against the vocabulary when it is read.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Mmap,
}

impl Mapping {
    /// Maps a regular file.
    ///
    /// # Errors
    /// [`CorpusError::Io`] if it cannot be opened or mapped, [`CorpusError::Shard`] if it is a folder, a pipe or a device.
    pub(crate) fn open(path: &Path) -> Result<Mapping, CorpusError> {
        // Opening a pipe would wait for its other end, so its kind is checked first.
        if !std::fs::metadata(path).map_err(CorpusError::io(path, "open"))?.is_file() {
            let reason = "it is not a regular file".to_owned();
            return Err(CorpusError::Shard { path: path.to_owned(), reason });
        }
        let file = File::open(path).map_err(CorpusError::io(path, "open"))?;
        // SAFETY: the map is read-only; that the file is not cut meanwhile is the contract of this type. All readers treat
        // the bytes as untrusted, so a change can corrupt numbers but not memory.
        let map = unsafe { Mmap::map(&file) }.map_err(CorpusError::io(path, "map into memory"))?;
        Ok(Mapping { map })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
