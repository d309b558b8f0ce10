//! Models that the program itself carries, so that they need no network.
//! This file does not know how they were made.

use crate::pull::{
    DownloadProgress, Expected, Partial, PullContext, PullEvent, SourceError, check_disk_space, destination,
};
use crate::{CatalogueFile, ManifestFile};

/// The files, by their names in the catalogue.
const FILES: &[(&str, &[u8])] = &[("poet.gguf", include_bytes!("../../../../models/poet.gguf"))];

/// Bytes that are written at a time, so that a cancelled pull ends soon.
const PIECE_BYTES: usize = 1 << 20;

/// The source's name, for people.
pub(super) const DESCRIPTION: &str = "this program, which carries the model";

/// Writes the model's files into its folder, verified like downloaded ones.
///
/// # Errors
/// [`SourceError::Failed`] when the program has no such file or another version of it, [`SourceError::Stop`] when the pull is
/// cancelled or the disk refuses.
pub(crate) fn fetch(
    files: &[CatalogueFile],
    context: &PullContext<'_>,
) -> Result<Vec<ManifestFile>, SourceError> {
    let total = files.iter().filter_map(|file| file.bytes).sum();
    check_disk_space(context.folder, total)?;
    let mut progress = DownloadProgress::new(context.observer, Some(total));
    files.iter().map(|file| write(file, context, &mut progress)).collect()
}

fn write(
    file: &CatalogueFile,
    context: &PullContext<'_>,
    progress: &mut DownloadProgress<'_>,
) -> Result<ManifestFile, SourceError> {
    let Some((_, contents)) = FILES.iter().find(|(name, _)| *name == file.file) else {
        return Err(SourceError::Failed(format!("this program does not carry a file {}", file.file)));
    };
    let expected = Expected { bytes: file.bytes, sha256: file.sha256.clone(), ..Expected::default() };
    let destination = destination(context.folder, &file.file)?;
    let mut partial = Partial::open(&destination, &expected)?;
    partial.restart()?;
    context.observer.on_event(PullEvent::FileStarted { file: &file.file, bytes: file.bytes, resumed_at: 0 });
    for (number, piece) in contents.chunks(PIECE_BYTES).enumerate() {
        if context.observer.is_cancelled() {
            partial.discard()?;
            return Err(SourceError::cancelled());
        }
        partial.append(piece)?;
        progress.set_current((number * PIECE_BYTES + piece.len()) as u64);
    }
    let kept = partial.keep(&file.file, &expected, &destination, context)?;
    progress.finish_file(kept.bytes);
    Ok(kept)
}
