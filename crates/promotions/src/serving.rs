//! Which models a server lets answer, said to other programs: what is promoted under a name that nobody serves changes no answer.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{PromotionError, io};
use crate::json_file;
use crate::list::Promotions;

const SERVED_FILE: &str = "served.json";
const LOCK_FILE: &str = "serving.lock";

/// A model that a server lets answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedName {
    /// The name under which requests ask for it.
    pub name: String,
    /// Its own files, whatever is promoted in their place.
    pub path: PathBuf,
}

/// Held by a server for as long as it runs; the system lets go of it when the server ends, however it ends.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    _file: File,
}

impl Serving {
    /// Says which models answer from now on.
    ///
    /// # Errors
    /// [`PromotionError::File`].
    pub fn say(&self, served: &[ServedName]) -> Result<(), PromotionError> {
        json_file::write(&self.path, &served)
    }
}

impl Promotions {
    /// The right to say which models answer; `None` while another server has it.
    ///
    /// # Errors
    /// [`PromotionError::Io`].
    pub fn begin_serving(&self) -> Result<Option<Serving>, PromotionError> {
        let lock = try_lock(self.folder())?;
        Ok(lock.map(|file| Serving { path: self.folder().join(SERVED_FILE), _file: file }))
    }

    /// The models that the running server lets answer; `None` while no server runs.
    ///
    /// # Errors
    /// [`PromotionError::Io`], [`PromotionError::Damaged`].
    pub fn served(&self) -> Result<Option<Vec<ServedName>>, PromotionError> {
        match try_lock(self.folder())? {
            Some(_nobody_serves) => Ok(None),
            None => Ok(Some(json_file::read(&self.folder().join(SERVED_FILE))?.unwrap_or_default())),
        }
    }
}

/// The server's lock; `None` while somebody has it.
fn try_lock(folder: &Path) -> Result<Option<File>, PromotionError> {
    let file = json_file::open_lock(folder, LOCK_FILE)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io("lock", &folder.join(LOCK_FILE))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_holds_for_as_long_as_it_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let promotions = Promotions::new(folder.path().join("promoted"));
        assert_eq!(promotions.served().expect("a look"), None);
        let serving = promotions.begin_serving().expect("a lock").expect("nobody else");
        assert!(promotions.begin_serving().expect("a look").is_none());
        assert_eq!(promotions.served().expect("a look"), Some(Vec::new()));
        let served = [ServedName { name: "m.gguf".to_owned(), path: "/models/m.gguf".into() }];
        serving.say(&served).expect("written");
        assert_eq!(promotions.served().expect("a list"), Some(served.to_vec()));
        drop(serving);
        assert_eq!(promotions.served().expect("a look"), None);
    }
}
