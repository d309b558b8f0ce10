//! Files mapped into memory: the only `unsafe` of this crate's file reading.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::errors::ModelError;

/// A whole file, mapped into memory for reading.
///
/// The file must not be changed or cut while it is mapped. A changed file gives changed numbers, and reading a part that
/// was cut off ends the process, as with every program that maps files; model files are replaced by renaming, which is safe.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
}

impl Mapping {
    /// Maps a regular file.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be opened or mapped, [`ModelError::NotAModel`] if it is a pipe or a device.
    pub fn open(path: &Path) -> Result<Mapping, ModelError> {
        let failed = |action| move |source| ModelError::Io { path: path.to_owned(), action, source };
        // Opening a pipe would wait for its other end, so its kind is checked first.
        if !std::fs::metadata(path).map_err(failed("open"))?.is_file() {
            return Err(ModelError::NotAModel {
                path: path.to_owned(),
                reason: "it is not a regular file".to_owned(),
            });
        }
        let file = File::open(path).map_err(failed("open"))?;
        // SAFETY: the map is read-only; that the file is not cut meanwhile is the contract
        // of this type. All readers treat the bytes as untrusted, so a change can corrupt numbers but not memory.
        let map = unsafe { Mmap::map(&file) }.map_err(failed("map into memory"))?;
        Ok(Mapping { map })
    }

    /// Tells the operating system that `range` has been read for the last time. Reading it again is allowed and slow.
    pub fn release(&self, range: Range<usize>) {
        if range.start >= range.end || range.end > self.map.len() {
            return;
        }
        #[cfg(unix)]
        {
            // SAFETY: the map is backed by a file and read-only, so a dropped page comes back from the file with the
            // same contents when it is touched again.
            let advised = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.end - range.start,
                )
            };
            // It is advice: where the system does not take it, the pages stay until memory is short.
            drop(advised);
        }
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
