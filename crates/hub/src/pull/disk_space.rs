//! Whether a disk has room. This file does not know what for.

use std::path::Path;

use super::PullError;

/// Room that a pull leaves for everybody else.
const RESERVE_BYTES: u64 = 32 << 20;

/// # Errors
/// [`PullError::NoSpace`] when the disk of `folder` cannot take `needed` more bytes.
pub(crate) fn check(folder: &Path, needed: u64) -> Result<(), PullError> {
    let needed = if needed == 0 { 0 } else { needed.saturating_add(RESERVE_BYTES) };
    match available_bytes(folder) {
        Some(available) if available < needed => {
            Err(PullError::NoSpace { folder: folder.to_owned(), needed, available })
        }
        _ => Ok(()),
    }
}

/// Bytes that this user may still write, or `None` where the system does not tell.
#[cfg(unix)]
fn available_bytes(folder: &Path) -> Option<u64> {
    let statistics = rustix::fs::statvfs(folder).ok()?;
    Some(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

#[cfg(not(unix))]
fn available_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path(), 1).unwrap();
        let error = check(folder.path(), u64::MAX / 2).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PullError::NoSpace { .. }), "{text}");
        assert!(text.contains("free") && text.contains("needed"), "{text}");
    }
}
