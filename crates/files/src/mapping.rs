//! Files mapped into memory: the only `unsafe` of this crate.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::FileError;

/// A whole file, mapped into memory for reading.
///
/// The file must not be changed or cut while it is mapped. A changed file gives changed bytes, and reading a part that
/// was cut off ends the process, as with every program that maps files; files are replaced by renaming, which is safe.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
}

impl Mapping {
    /// Maps a regular file.
    ///
    /// # Errors
    /// [`FileError::Io`] if it cannot be opened or mapped, [`FileError::NotRegular`] if it is a folder, a pipe or a device,
    /// [`FileError::LfsPointer`] if only a pointer to it is there.
    pub fn open(path: &Path) -> Result<Mapping, FileError> {
        // Opening a pipe would wait for its other end, so its kind is checked first.
        if !std::fs::metadata(path).map_err(FileError::io("open", path))?.is_file() {
            return Err(FileError::NotRegular { path: path.to_owned() });
        }
        let file = File::open(path).map_err(FileError::io("open", path))?;
        // SAFETY: the map is read-only; that the file is not cut meanwhile is the contract of this type. All readers treat
        // the bytes as untrusted, so a change can corrupt numbers but not memory.
        let map = unsafe { Mmap::map(&file) }.map_err(FileError::io("map into memory", path))?;
        crate::check_no_lfs_pointer(path, &map)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_range_reads_the_same_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bytes");
        let bytes: Vec<u8> = (0..3 * 4096 + 5_u32).map(|index| index as u8).collect();
        std::fs::write(&path, &bytes).expect("a file");
        let mapping = Mapping::open(&path).expect("a mapping");
        assert_eq!(mapping.as_ref(), bytes);
        mapping.release(0..2 * 4096);
        mapping.release(4096..usize::MAX);
        assert_eq!(mapping.as_ref(), bytes);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Mapping::open(folder.path()), Err(FileError::NotRegular { .. })));
        let missing = Mapping::open(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing: cannot open: "), "{missing}");
    }
}
