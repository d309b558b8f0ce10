//! What is made for a run that is refused before it begins is not left behind.

use anyhow::Result;
use std::path::{Path, PathBuf};

/// Folders that were made for a run, and what lies in the run's own before it begins. Dropped, it removes them, unless something has come into them
/// since.
pub(super) struct MadeFolders {
    /// The run's folder, and those around it that were not there.
    folders: Vec<PathBuf>,
    /// What was made in the run's folder with it.
    entries: Vec<PathBuf>,
}

impl MadeFolders {
    /// Those that `make` makes at `folder` and around it; none where `folder` is there.
    ///
    /// # Errors
    /// That of `make`.
    pub(super) fn by(folder: &Path, make: impl FnOnce() -> Result<()>) -> Result<MadeFolders> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let folders = folder.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        let mut made = MadeFolders { folders, entries: Vec::new() };
        make()?;
        made.entries = entries_of(folder);
        Ok(made)
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        let Some(folder) = self.folders.first() else { return };
        if entries_of(folder) != self.entries {
            return;
        }
        // What cannot be removed stays, and so do the folders around it.
        let is_empty = self.entries.iter().all(|entry| std::fs::remove_file(entry).is_ok());
        if is_empty {
            let _ = self.folders.iter().try_for_each(std::fs::remove_dir);
        }
    }
}

/// What lies in a folder; nothing where it cannot be read.
fn entries_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Makes a folder with a lock in it.
    fn made(folder: &Path) -> MadeFolders {
        let made = MadeFolders::by(folder, || {
            fs::create_dir_all(folder)?;
            fs::write(folder.join(".lock"), "")?;
            Ok(())
        });
        made.expect("a folder")
    }

    /// Regression: a run that was refused, for lack of disk for example, left its folder behind.
    #[test]
    fn folders_go_unless_something_came_into_them_or_they_were_there() {
        let place = tempfile::tempdir().expect("a folder");
        let (outer, inner) = (place.path().join("runs"), place.path().join("runs/first"));
        drop(made(&inner));
        assert!(!outer.exists() && place.path().exists());

        let folders = made(&inner);
        fs::write(inner.join("run.toml"), "").expect("a file");
        drop(folders);
        assert!(inner.join(".lock").exists() && inner.join("run.toml").exists());

        // The folder beside it keeps the one around both.
        drop(made(&outer.join("second")));
        assert!(!outer.join("second").exists() && inner.exists());

        let there = place.path().join("there");
        fs::create_dir(&there).expect("a folder");
        drop(made(&there));
        assert!(there.exists());

        let refused = MadeFolders::by(&outer.join("third"), || Err(anyhow::anyhow!("no room")));
        assert!(refused.is_err() && !outer.join("third").exists());
    }
}
