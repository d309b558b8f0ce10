//! The Hugging Face hub's protocol: a list of files, and for every file a head with its size and digest before the
//! contents, which usually come from another host.
//! This file does not know how contents are stored.

use serde_json::Value;
use ureq::http::Method;

use super::ask::{Question, ask, json};
use super::choose::{self, ListedFile};
use super::{Content, Offer, agree, as_sha256, holds_weights, is_sha1};
use crate::CatalogueFile;
use crate::pull::{FileRequest, Follow, PullContext, PullOptions, RemoteFile, SourceError};
use crate::pull::{encode_path, header_text, host_of};

const DEFAULT_REVISION: &str = "main";
/// Pages of a repository's list, 1,000 files each.
const MAX_PAGES: usize = 20;

pub(super) fn describe(options: &PullOptions, repository: &str) -> String {
    format!("the Hugging Face hub, {}/{repository}", host_of(&options.hugging_face_endpoint))
}

/// Files of the catalogue in a repository.
pub(super) fn offer_files(
    context: &PullContext<'_>,
    repository: &str,
    revision: Option<&str>,
    files: &[CatalogueFile],
) -> Result<Vec<RemoteFile>, SourceError> {
    let commit = commit(context, repository, revision.unwrap_or(DEFAULT_REVISION))?;
    files.iter().map(|file| look_up(context, repository, &commit, file)).collect()
}

/// The files that make one model of a repository outside the catalogue.
pub(super) fn offer_repository(
    context: &PullContext<'_>,
    repository: &str,
    file: Option<&str>,
) -> Result<Offer, SourceError> {
    let commit = commit(context, repository, DEFAULT_REVISION)?;
    let listed = list(context, repository, &commit)?;
    let chosen = choose::choose(&listed, repository, file).map_err(SourceError::Failed)?;
    let mut files = Vec::with_capacity(chosen.files.len());
    for file in &chosen.files {
        let known = CatalogueFile {
            file: file.path.clone(),
            bytes: Some(file.bytes),
            approximate_bytes: None,
            sha256: file.sha256.clone(),
        };
        files.push(look_up(context, repository, &commit, &known)?);
    }
    Ok(Offer { open: chosen.open, content: Content::Files(files) })
}

/// The commit that a revision is now. All files of a pull are of this one, also when the repository changes meanwhile.
fn commit(context: &PullContext<'_>, repository: &str, revision: &str) -> Result<String, SourceError> {
    if is_sha1(revision) {
        return Ok(revision.to_owned());
    }
    let endpoint = context.options.hugging_face_endpoint.trim_end_matches('/');
    let url = format!("{endpoint}/api/models/{repository}/revision/{}", encode_path(revision));
    let token = context.options.hugging_face_token.as_ref();
    let (described, _) = json(context, &url, token, &|status| refusal(context, repository, status, None))?;
    match described["sha"].as_str().filter(|commit| is_sha1(commit)) {
        Some(commit) => Ok(commit.to_owned()),
        None => Err(SourceError::Failed(format!(
            "{} does not say which commit `{revision}` is, so its files might be of several",
            host_of(endpoint)
        ))),
    }
}

/// Asks for a file's head: the hub answers with size and digest before it redirects to the contents.
fn look_up(
    context: &PullContext<'_>,
    repository: &str,
    revision: &str,
    known: &CatalogueFile,
) -> Result<RemoteFile, SourceError> {
    let endpoint = context.options.hugging_face_endpoint.trim_end_matches('/');
    let url =
        format!("{endpoint}/{repository}/resolve/{}/{}", encode_path(revision), encode_path(&known.file));
    let token = context.options.hugging_face_token.clone();
    let response = ask(
        context,
        &Question {
            method: Method::HEAD,
            url: &url,
            token: token.as_ref(),
            follow: Follow::SameHost,
            accept: None,
            refusal: &|status| refusal(context, repository, status, Some(&known.file)),
        },
    )?;
    let linked = header_text(&response, "x-linked-etag");
    let etag = header_text(&response, "etag");
    let size = header_text(&response, "x-linked-size")
        .or_else(|| header_text(&response, "content-length").filter(|_| response.status().is_success()))
        .and_then(|size| size.parse().ok());
    let sha256 = linked.as_deref().or(etag.as_deref()).and_then(as_sha256);
    let expected = agree(known, size, sha256, linked.or(etag))?;
    if holds_weights(&known.file) && expected.sha256.is_none() {
        return Err(SourceError::Failed(format!(
            "{} does not say the digest of {}, so it could not be verified",
            host_of(endpoint),
            known.file
        )));
    }
    Ok(RemoteFile { file: known.file.clone(), request: FileRequest { url, token, expected } })
}

/// All files of a repository at one commit; of a list that is not read to its end, none, since a model could lack some of its files.
fn list(context: &PullContext<'_>, repository: &str, commit: &str) -> Result<Vec<ListedFile>, SourceError> {
    let endpoint = context.options.hugging_face_endpoint.trim_end_matches('/');
    let token = context.options.hugging_face_token.as_ref();
    let mut next = Some(format!("{endpoint}/api/models/{repository}/tree/{commit}?recursive=true"));
    let mut files = Vec::new();
    for _ in 0..MAX_PAGES {
        let Some(url) = next.take() else { return Ok(files) };
        let (page, following) =
            json(context, &url, token, &|status| refusal(context, repository, status, None))?;
        files.extend(page.as_array().into_iter().flatten().filter_map(listed_file));
        if let Some(following) = &following
            && !is_of(endpoint, following)
        {
            return Err(SourceError::Failed(format!(
                "{} says that its list of files goes on at {following}, which is another host or unencrypted and is not asked",
                host_of(endpoint)
            )));
        }
        next = following;
    }
    match next {
        None => Ok(files),
        Some(_) => Err(SourceError::Failed(format!(
            "the list of files at {} goes on after {MAX_PAGES} pages ({} files): a repository of so many is not read",
            host_of(endpoint),
            files.len()
        ))),
    }
}

/// Whether an address is the hub's own, and as safe to send a token to.
fn is_of(endpoint: &str, address: &str) -> bool {
    let is_encrypted = |address: &str| address.starts_with("https://");
    host_of(address) == host_of(endpoint) && (is_encrypted(address) || !is_encrypted(endpoint))
}

fn listed_file(entry: &Value) -> Option<ListedFile> {
    if entry["type"] != "file" {
        return None;
    }
    let large = &entry["lfs"];
    Some(ListedFile {
        path: entry["path"].as_str()?.to_owned(),
        bytes: large["size"].as_u64().or_else(|| entry["size"].as_u64())?,
        sha256: large["oid"].as_str().and_then(as_sha256),
    })
}

/// Why the hub refuses, and what to do about it.
fn refusal(context: &PullContext<'_>, repository: &str, status: u16, file: Option<&str>) -> String {
    let endpoint = context.options.hugging_face_endpoint.trim_end_matches('/');
    let page = format!("{endpoint}/{repository}");
    match status {
        401 | 403 if context.options.hugging_face_token.is_none() => format!(
            "the repository is gated, private, or does not exist (status {status}): accept its licence at {page}, then \
             set HF_TOKEN to an access token of that account"
        ),
        401 | 403 => format!(
            "the token in HF_TOKEN may not read this repository (status {status}): accept its licence at {page} with the \
             token's account"
        ),
        404 => match file {
            Some(file) => format!("{page} has no file {file} (status 404)"),
            None => format!("there is no repository {page} (status 404)"),
        },
        other => format!("{} answers with status {other}", host_of(endpoint)),
    }
}
