//! Files and folders that become visible whole or not at all: temporary name, fsync, rename, fsync of the folder around it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::FileError;

/// The names of unfinished files and folders begin so; one that a killed program left behind can be removed.
pub const TEMPORARY_PREFIX: &str = ".writing-";

/// Bytes that are collected before they are handed to the operating system.
const BUFFER: usize = 1 << 20;

/// A file being written under a temporary name in its folder. Dropped before [`NewFile::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Begins the file that will replace `path`.
    ///
    /// # Errors
    /// [`FileError::Io`] when the folder is missing or cannot be written to.
    pub fn create(path: &Path) -> Result<NewFile, FileError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        #[cfg(unix)]
        {
            // What the user's mask allows, as for every new file; a temporary file alone would be for its owner only.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(folder_of(path)).map_err(FileError::io("create", path))?;
        Ok(NewFile { path: path.to_owned(), out: BufWriter::with_capacity(BUFFER, temporary) })
    }

    /// The path that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `bytes`; [`Write::write_all`] with an error that names the file.
    ///
    /// # Errors
    /// [`FileError::Io`], when the disk is full for example.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.out.write_all(bytes).map_err(FileError::io("write", &self.path))
    }

    /// Gives the file its name, for good.
    ///
    /// # Errors
    /// [`FileError::Io`]; a file that had the name before is then still there.
    pub fn finish(self) -> Result<(), FileError> {
        let NewFile { path, out } = self;
        let temporary =
            out.into_inner().map_err(|error| FileError::io("write", &path)(error.into_error()))?;
        temporary.as_file().sync_all().map_err(FileError::io("write to disk", &path))?;
        temporary.persist(&path).map_err(|error| FileError::io("rename", &path)(error.error))?;
        sync_folder(folder_of(&path))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A folder being filled under a temporary name. Dropped before [`NewFolder::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFolder {
    path: PathBuf,
    temporary: TempDir,
}

impl NewFolder {
    /// Begins the folder that will be `path`.
    ///
    /// # Errors
    /// [`FileError::Io`] when the folder around it is missing or cannot be written to.
    pub fn create(path: &Path) -> Result<NewFolder, FileError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let temporary = builder.tempdir_in(folder_of(path)).map_err(FileError::io("create", path))?;
        Ok(NewFolder { path: path.to_owned(), temporary })
    }

    /// Where its files go. They must be forced to the disk, as [`NewFile::finish`] does.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name, for good.
    ///
    /// # Errors
    /// [`FileError::Io`], also when the name is taken by a file or a folder with files in it.
    pub fn finish(self) -> Result<(), FileError> {
        std::fs::rename(self.temporary.path(), &self.path).map_err(FileError::io("rename", &self.path))?;
        // It has its name now and must stay.
        let _moved = self.temporary.keep();
        sync_folder(folder_of(&self.path))
    }
}

/// Replaces `path` by `parts`, one after another: after a crash there is the old file or the new one, never a part of it.
///
/// # Errors
/// [`FileError::Io`]; the old file is then still there, and nothing else.
pub fn write_whole(path: &Path, parts: &[&[u8]]) -> Result<(), FileError> {
    let mut file = NewFile::create(path)?;
    parts.iter().try_for_each(|part| file.append(part))?;
    file.finish()
}

/// Gives a file that is on the disk its final name, for good.
///
/// # Errors
/// [`FileError::Io`].
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(FileError::io("rename", from))?;
    sync_folder(folder_of(to))
}

/// Makes a folder, and the missing ones around it, for good. One that is there already stays as it is.
///
/// # Errors
/// [`FileError::Io`].
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing = path.ancestors().take_while(is_missing).count();
    std::fs::create_dir_all(path).map_err(FileError::io("make", path))?;
    // That of a folder that is there too: what made it may have been killed before it was on the disk.
    path.ancestors().take(missing.max(1)).try_for_each(|made| sync_folder(folder_of(made)))
}

/// Makes what was created, renamed and removed in a folder survive a power cut.
///
/// # Errors
/// [`FileError::Io`].
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(FileError::io("force to the disk", folder))?;
    }
    Ok(())
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_when_it_is_finished_and_not_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write_whole(&path, &[b"old"]).expect("a written file");
        let mut file = NewFile::create(&path).expect("a new file");
        file.append(b"new").expect("bytes");
        file.flush().expect("bytes on disk");
        assert_eq!(std::fs::read(&path).expect("the old file"), b"old");
        assert!(names(folder.path())[0].starts_with(TEMPORARY_PREFIX));
        file.finish().expect("the new file");
        assert_eq!(std::fs::read(&path).expect("the new file"), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn an_unfinished_file_or_folder_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        NewFile::create(&folder.path().join("file")).expect("a new file").append(b"half").expect("bytes");
        let new = NewFolder::create(&folder.path().join("folder")).expect("a new folder");
        write_whole(&new.temporary_path().join("file"), &[b"a", b"b"]).expect("a file in it");
        drop(new);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_finished_folder_has_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let new = NewFolder::create(&folder.path().join("folder")).expect("a new folder");
        write_whole(&new.temporary_path().join("file"), &[b"a", b"b"]).expect("a file in it");
        new.finish().expect("a folder");
        assert_eq!(names(folder.path()), ["folder"]);
        assert_eq!(std::fs::read(folder.path().join("folder/file")).expect("the file"), b"ab");
        let taken = NewFolder::create(&folder.path().join("folder")).expect("a new folder");
        assert!(taken.finish().is_err());
        assert_eq!(names(folder.path()), ["folder"]);
    }

    #[test]
    fn a_folder_is_made_with_those_around_it_or_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("a/b/c");
        for _ in 0..2 {
            make_folder(&made).expect("a made folder");
            write_whole(&made.join("file"), &[b"a"]).expect("a file in it");
        }
        assert_eq!(names(&made), ["file"]);
        let error = make_folder(&made.join("file")).unwrap_err().to_string();
        assert!(error.contains("a/b/c/file: cannot make: "), "{error}");
    }

    #[test]
    fn errors_name_the_file_and_what_was_tried() {
        let error = write_whole(Path::new("/no-such-folder/file"), &[b""]).unwrap_err().to_string();
        assert!(error.starts_with("/no-such-folder/file: cannot create: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_can_be_read_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let mode = |name: &str| {
            let metadata = std::fs::metadata(folder.path().join(name)).expect("a file");
            metadata.permissions().mode()
        };
        write_whole(&folder.path().join("whole"), &[b"a"]).expect("a written file");
        std::fs::write(folder.path().join("plain"), b"a").expect("a written file");
        assert_eq!(mode("whole"), mode("plain"));
    }
}
