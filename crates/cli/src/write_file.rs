//! Writes a file whole or not at all.

use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// Replaces `path` by `bytes`: after a crash there is the old file or the new one, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let doing = || format!("writing {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    file.persist(path).with_context(doing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(doing)
}
