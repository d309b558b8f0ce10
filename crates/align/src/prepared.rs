//! Numbers that are computed once for a run, kept beside it: log-probabilities of the reference.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zhenjin_train::checkpoint::CheckpointError;

use crate::error::AlignError;

/// A file of such numbers, good for one data set and model.
#[derive(Debug)]
pub(crate) struct PreparedFile {
    path: PathBuf,
    fingerprint: String,
}

/// Numbers as their bits, so that they come back as they were.
#[derive(Serialize, Deserialize)]
struct Document {
    fingerprint: String,
    sha256: String,
    bits: Vec<Vec<u64>>,
}

impl PreparedFile {
    pub(crate) fn new(path: PathBuf, fingerprint: String) -> PreparedFile {
        PreparedFile { path, fingerprint }
    }

    /// The numbers, if the file is whole and of this run; otherwise they are computed again.
    pub(crate) fn read(&self) -> Option<Vec<Vec<f64>>> {
        let Document { fingerprint, sha256, bits } =
            serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        let is_ours = fingerprint == self.fingerprint && sha256 == sum(&bits);
        is_ours.then(|| bits.into_iter().map(|bits| bits.into_iter().map(f64::from_bits).collect()).collect())
    }

    pub(crate) fn write(&self, numbers: &[Vec<f64>]) -> Result<(), AlignError> {
        let bits: Vec<Vec<u64>> =
            numbers.iter().map(|numbers| numbers.iter().map(|number| number.to_bits()).collect()).collect();
        let document = Document { fingerprint: self.fingerprint.clone(), sha256: sum(&bits), bits };
        // Texts and whole numbers can always be written.
        let text = serde_json::to_vec(&document).unwrap_or_default();
        zhenjin_files::write_whole(&self.path, &[&text]).map_err(CheckpointError::from)?;
        Ok(())
    }
}

fn sum(bits: &[Vec<u64>]) -> String {
    let mut hash = Sha256::new();
    for numbers in bits {
        hash.update((numbers.len() as u64).to_le_bytes());
        numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_with_their_bits_and_only_to_the_run_that_wrote_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.json");
        let file = PreparedFile::new(path.clone(), "one".to_owned());
        assert_eq!(file.read(), None);
        let numbers = vec![vec![0.1, -1e-300, f64::MIN], Vec::new()];
        file.write(&numbers).unwrap();
        assert_eq!(file.read().unwrap(), numbers);
        assert_eq!(PreparedFile::new(path.clone(), "two".to_owned()).read(), None);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("],[", ",7],[", 1)).unwrap();
        assert_eq!(file.read(), None);
    }
}
