//! Downloading one file: resumed where an earlier attempt stopped, verified, and renamed only when it is right.
//!
//! While a download runs, `FILE.partial` holds its bytes and `FILE.partial.json` says what they are a part of. They are
//! kept when the program dies; bytes of something else are never continued.
//! This file does not know which hub it talks to.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::{Method, Response};

use super::http::{Follow, header_text, host_of};
use super::retry::{Attempt, Retries, status_failure};
use super::{DownloadProgress, PullContext, PullEvent, Secret, SourceError};
use crate::ManifestFile;

const BUFFER_BYTES: usize = 128 * 1024;
/// What an unfinished file is a part of is said in a few hundred bytes.
const MAX_DESCRIPTION_BYTES: usize = 1 << 16;

/// Where to get a file, and what it must be.
#[derive(Debug, Clone)]
pub(crate) struct FileRequest {
    pub(crate) url: String,
    pub(crate) token: Option<Secret>,
    pub(crate) expected: Expected,
}

/// What is known of a file beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// Size in bytes.
    pub(crate) bytes: Option<u64>,
    /// SHA-256 in lower-case hexadecimal.
    pub(crate) sha256: Option<String>,
    /// Git's name for the contents, SHA-1 in hexadecimal, where there is no SHA-256: hubs keep small files in Git.
    #[serde(default)]
    pub(crate) git_blob: Option<String>,
    /// The hub's name for this version of a file without a known digest.
    pub(crate) version: Option<String>,
}

impl Expected {
    /// Whether an unfinished file of `other` may be continued.
    fn is_same_file(&self, other: &Expected) -> bool {
        match (&self.sha256, &other.sha256) {
            (Some(this), Some(other)) => this == other,
            (None, None) => self.version.is_some() && self == other,
            _ => false,
        }
    }
}

impl Expected {
    /// Whether a file's contents can be compared with what they must be.
    pub(crate) fn has_digest(&self) -> bool {
        self.sha256.is_some() || self.git_blob.is_some()
    }
}

/// A file that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Bytes that are still to be written for a file; 0 when its size is not known.
pub(crate) fn missing_bytes(request: &FileRequest, destination: &Path) -> u64 {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    let present = length(destination).max(length(&beside(destination, ".partial")));
    request.expected.bytes.unwrap_or(0).saturating_sub(present)
}

/// Downloads a file to `destination`.
///
/// # Errors
/// [`SourceError::Failed`] when the source cannot deliver it or delivers something else; [`SourceError::Stop`] when the
/// pull is cancelled or the disk refuses.
pub(crate) fn download(
    context: &PullContext<'_>,
    request: &FileRequest,
    name: &str,
    destination: &Path,
    progress: &mut DownloadProgress<'_>,
) -> Result<Verified, SourceError> {
    if let Some(verified) = already_there(context, request, destination)? {
        progress.finish_file(verified.bytes);
        return Ok(verified);
    }
    let mut partial = Partial::open(destination, &request.expected)?;
    let resumed_at = partial.hash_existing(context)?;
    context.observer.on_event(PullEvent::FileStarted {
        file: name,
        bytes: request.expected.bytes,
        resumed_at,
    });
    let mut retries = Retries::default();
    let mut restarted = resumed_at == 0;
    loop {
        let before = partial.length;
        let outcome = attempt(context, request, &mut partial, progress);
        if partial.length > before {
            retries.reset();
        }
        match outcome {
            Ok(()) => match partial.check(&request.expected) {
                Ok(verified) => {
                    partial.finish(destination)?;
                    context.observer.on_event(PullEvent::FileVerified {
                        file: name,
                        sha256: &verified.sha256,
                        digest_was_known: request.expected.has_digest(),
                    });
                    progress.finish_file(verified.bytes);
                    return Ok(verified);
                }
                // An unfinished file may have been damaged by a power cut; a fresh one has no excuse.
                Err(_) if !restarted => {
                    restarted = true;
                    partial.restart()?;
                }
                Err(reason) => {
                    partial.discard()?;
                    return Err(SourceError::Failed(reason));
                }
            },
            Err(Attempt::Final(error)) => return Err(error),
            Err(Attempt::Again { reason, wait }) => retries.wait(context, reason, wait)?,
        }
    }
}

/// One request for the rest of a file.
fn attempt(
    context: &PullContext<'_>,
    request: &FileRequest,
    partial: &mut Partial,
    progress: &mut DownloadProgress<'_>,
) -> Result<(), Attempt> {
    let again = |reason: String| Attempt::Again { reason, wait: None };
    if context.observer.is_cancelled() {
        return Err(SourceError::cancelled().into());
    }
    if request.expected.bytes == Some(partial.length) {
        return Ok(());
    }
    let mut headers = vec![("accept-encoding", "identity".to_owned())];
    if partial.length > 0 {
        headers.push(("range", format!("bytes={}-", partial.length)));
    }
    let response = context
        .client
        .send(&Method::GET, &request.url, &headers, request.token.as_ref(), Follow::All)
        .map_err(again)?;
    match response.status().as_u16() {
        200 if partial.length > 0 => partial.restart()?,
        200 => {}
        206 if content_range_start(&response) == Some(partial.length) => {}
        206 | 416 => {
            partial.restart()?;
            return Err(again(format!("{} cannot continue the file", host_of(&request.url))));
        }
        _ => {
            let host = host_of(&request.url);
            return Err(status_failure(&response, &request.url, |status| match status {
                401 | 403 => format!("{host} refuses the file (status {status})"),
                404 => format!("{host} does not have the file (status 404)"),
                other => format!("{host} answers with status {other}"),
            }));
        }
    }
    receive(context, response, request, partial, progress)
}

fn content_range_start(response: &Response<Body>) -> Option<u64> {
    let range = header_text(response, "content-range")?;
    range.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Writes a response's body behind what is there already.
fn receive(
    context: &PullContext<'_>,
    response: Response<Body>,
    request: &FileRequest,
    partial: &mut Partial,
    progress: &mut DownloadProgress<'_>,
) -> Result<(), Attempt> {
    let announced = header_text(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
    let end = announced.map(|length| partial.length + length);
    let limit = request.expected.bytes.or(end);
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if context.observer.is_cancelled() {
            return Err(SourceError::cancelled().into());
        }
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                let reason = format!("the connection to {} broke: {error}", host_of(&request.url));
                return Err(Attempt::Again { reason, wait: None });
            }
        };
        if limit.is_some_and(|limit| partial.length + read as u64 > limit) {
            partial.discard()?;
            let reason = format!(
                "{} sends more than the {} bytes that the file has",
                host_of(&request.url),
                limit.unwrap_or(0)
            );
            return Err(SourceError::Failed(reason).into());
        }
        partial.append(&buffer[..read])?;
        progress.set_current(partial.length);
    }
    if limit.is_some_and(|limit| partial.length < limit) {
        let reason = format!("the connection to {} broke in the middle of the file", host_of(&request.url));
        return Err(Attempt::Again { reason, wait: None });
    }
    Ok(())
}

/// A pull that died between its last file and the model's description left complete files.
fn already_there(
    context: &PullContext<'_>,
    request: &FileRequest,
    destination: &Path,
) -> Result<Option<Verified>, SourceError> {
    let Some(expected) = &request.expected.sha256 else { return Ok(None) };
    let Ok(mut file) = File::open(destination) else { return Ok(None) };
    let (bytes, digest) = hash(context, &mut file, destination)?;
    let sha256 = hexadecimal(&digest.finalize());
    Ok((sha256 == *expected).then_some(Verified { bytes, sha256 }))
}

fn hash(context: &PullContext<'_>, file: &mut File, path: &Path) -> Result<(u64, Sha256), SourceError> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        if context.observer.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        let read = file.read(&mut buffer).map_err(SourceError::local("read", path))?;
        if read == 0 {
            return Ok((bytes, digest));
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// An unfinished file.
pub(crate) struct Partial {
    path: PathBuf,
    description: PathBuf,
    file: File,
    length: u64,
    digest: Sha256,
}

impl Partial {
    /// Opens the unfinished file beside `destination`; bytes of anything but `expected` are dropped.
    pub(crate) fn open(destination: &Path, expected: &Expected) -> Result<Partial, SourceError> {
        let path = beside(destination, ".partial");
        let description = beside(destination, ".partial.json");
        let known: Option<Expected> = zhenjin_files::read_at_most(&description, MAX_DESCRIPTION_BYTES)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let continues = known.is_some_and(|known| expected.is_same_file(&known));
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(!continues)
            .open(&path)
            .map_err(SourceError::local("open", &path))?;
        let json = serde_json::to_vec(expected).unwrap_or_default();
        zhenjin_files::write_whole(&description, &[&json])?;
        let mut partial = Partial { path, description, file, length: 0, digest: Sha256::new() };
        let length = partial.file.metadata().map_err(SourceError::local("read", &partial.path))?.len();
        if expected.bytes.is_some_and(|bytes| length > bytes) {
            partial.restart()?;
        }
        Ok(partial)
    }

    /// Reads what is there already; afterwards the file is at its end. Returns its length.
    fn hash_existing(&mut self, context: &PullContext<'_>) -> Result<u64, SourceError> {
        (self.length, self.digest) = hash(context, &mut self.file, &self.path)?;
        Ok(self.length)
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.file.write_all(bytes).map_err(SourceError::local("write", &self.path))?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all bytes.
    pub(crate) fn restart(&mut self) -> Result<(), SourceError> {
        self.file.set_len(0).map_err(SourceError::local("empty", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(SourceError::local("empty", &self.path))?;
        self.length = 0;
        self.digest = Sha256::new();
        Ok(())
    }

    /// Compares size and digest.
    fn check(&self, expected: &Expected) -> Result<Verified, String> {
        let sha256 = hexadecimal(&self.digest.clone().finalize());
        if let Some(bytes) = expected.bytes.filter(|&bytes| bytes != self.length) {
            return Err(format!("the file has {} bytes instead of {bytes}; it was not kept", self.length));
        }
        if let Some(expected) = expected.sha256.as_ref().filter(|&expected| *expected != sha256) {
            return Err(format!("the file has the digest {sha256} instead of {expected}; it was not kept"));
        }
        if let (None, Some(expected)) = (&expected.sha256, &expected.git_blob) {
            let found =
                git_blob(&self.path, self.length).map_err(|error| format!("it cannot be read: {error}"))?;
            if found != *expected {
                return Err(format!(
                    "the file has Git's digest {found} instead of {expected}; it was not kept"
                ));
            }
        }
        Ok(Verified { bytes: self.length, sha256 })
    }

    /// Gives the file its final name for good.
    fn finish(self, destination: &Path) -> Result<(), SourceError> {
        self.file.sync_all().map_err(SourceError::local("write", &self.path))?;
        zhenjin_files::rename(&self.path, destination)?;
        fs::remove_file(&self.description).map_err(SourceError::local("delete", &self.description))
    }

    /// Gives the file its final name if it is what was expected, and deletes it otherwise.
    pub(crate) fn keep(
        mut self,
        name: &str,
        expected: &Expected,
        destination: &Path,
        context: &PullContext<'_>,
    ) -> Result<ManifestFile, SourceError> {
        let verified = match self.check(expected) {
            Ok(verified) => verified,
            Err(reason) => {
                self.discard()?;
                return Err(SourceError::Failed(reason));
            }
        };
        self.finish(destination)?;
        context.observer.on_event(PullEvent::FileVerified {
            file: name,
            sha256: &verified.sha256,
            digest_was_known: expected.has_digest(),
        });
        Ok(ManifestFile {
            file: name.to_owned(),
            bytes: verified.bytes,
            sha256: verified.sha256,
            verified: expected.has_digest(),
        })
    }

    /// Deletes the file.
    pub(crate) fn discard(&mut self) -> Result<(), SourceError> {
        for path in [&self.path, &self.description] {
            if path.exists() {
                fs::remove_file(path).map_err(SourceError::local("delete", path))?;
            }
        }
        Ok(())
    }
}

/// Git's name for a file's contents: SHA-1 over a head with their length, and the contents
/// (<https://git-scm.com/book/en/v2/Git-Internals-Git-Objects>).
fn git_blob(path: &Path, length: u64) -> std::io::Result<String> {
    let mut digest = Sha1::new();
    digest.update(format!("blob {length}\0"));
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
