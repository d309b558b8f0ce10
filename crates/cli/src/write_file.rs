//! Writes a file whole or not at all.

use anyhow::{Context, Result};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Replaces `path` by `bytes`: after a crash there is the old file or the new one, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |file| Ok(file.write_all(bytes)?))
}

/// The same with contents that `fill` writes piece by piece, so that they need not be in memory together.
pub(crate) fn write_atomically_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut buffered = BufWriter::new(tempfile::NamedTempFile::new_in(folder).with_context(doing)?);
    fill(&mut buffered).with_context(doing)?;
    let file = buffered.into_inner().map_err(|error| error.into_error()).with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    file.persist(path).with_context(doing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(doing)
}
