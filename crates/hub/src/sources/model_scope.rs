//! ModelScope's protocol: a list of files with sizes and SHA-256, and an address per file.
//! This file does not know how contents are stored.

use serde_json::Value;

use super::ask::json;
use super::{agree, as_sha256};
use crate::CatalogueFile;
use crate::pull::{FileRequest, PullContext, PullOptions, RemoteFile, SourceError};
use crate::pull::{encode_path, host_of};

const REVISION: &str = "master";

pub(super) fn describe(options: &PullOptions, repository: &str) -> String {
    format!("ModelScope, {}/models/{repository}", host_of(&options.model_scope_endpoint))
}

/// Files of the catalogue in a repository.
pub(super) fn offer_files(
    context: &PullContext<'_>,
    repository: &str,
    files: &[CatalogueFile],
) -> Result<Vec<RemoteFile>, SourceError> {
    let endpoint = context.options.model_scope_endpoint.trim_end_matches('/');
    let repository_url = format!("{endpoint}/api/v1/models/{repository}/repo");
    let list_url = format!("{repository_url}/files?Revision={REVISION}&Recursive=True");
    let (list, _) = json(context, &list_url, None, &|status| match status {
        404 => format!("{} has no repository {repository} (status 404)", host_of(endpoint)),
        other => format!("{} answers with status {other}", host_of(endpoint)),
    })?;
    let Some(listed) = list["Data"]["Files"].as_array() else {
        let message = list["Message"].as_str().unwrap_or("the answer has no list of files");
        return Err(SourceError::Failed(format!("{}: {message}", host_of(endpoint))));
    };
    let mut offered = Vec::with_capacity(files.len());
    for known in files {
        let Some(entry) = listed.iter().find(|entry| entry["Path"] == Value::String(known.file.clone()))
        else {
            return Err(SourceError::Failed(format!("{repository} has no file {}", known.file)));
        };
        let sha256 = entry["Sha256"].as_str().and_then(as_sha256);
        let expected =
            agree(known, entry["Size"].as_u64(), sha256, entry["Revision"].as_str().map(str::to_owned))?;
        // The list names no revision, so that only digests tell that all files are of one.
        if expected.sha256.is_none() {
            return Err(SourceError::Failed(format!(
                "{} does not say the digest of {}, so it could not be verified",
                host_of(endpoint),
                known.file
            )));
        }
        let url = format!("{repository_url}?Revision={REVISION}&FilePath={}", encode_path(&known.file));
        offered.push(RemoteFile {
            file: known.file.clone(),
            request: FileRequest { url, token: None, expected },
        });
    }
    Ok(offered)
}
