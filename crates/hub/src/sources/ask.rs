//! Asking a hub something small: a file's head, or a list of files. A hub that is busy is asked again, one that cannot be
//! reached is not: the next source is quicker. This file does not know which hub it talks to.

use serde_json::Value;
use ureq::Body;
use ureq::http::{Method, Response};

use crate::pull::{
    Attempt, Follow, PullContext, Retries, Secret, SourceError, header_text, host_of, join, next_page,
    status_failure,
};

/// Lists of files; the largest repositories need a few megabytes.
pub(super) const MAX_JSON_BYTES: u64 = 16 << 20;

/// A question with the explanation of refusals.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) token: Option<&'a Secret>,
    pub(super) follow: Follow,
    /// The media types that are understood, where there are several.
    pub(super) accept: Option<&'static str>,
    /// Explains a status that will not change.
    pub(super) refusal: &'a dyn Fn(u16) -> String,
}

/// Sends the question until there is an answer.
///
/// # Errors
/// [`SourceError::Failed`] when the hub cannot be reached or refuses.
pub(super) fn ask(context: &PullContext<'_>, question: &Question<'_>) -> Result<Response<Body>, SourceError> {
    let mut headers = vec![("accept-encoding", "identity".to_owned())];
    headers.extend(question.accept.map(|types| ("accept", types.to_owned())));
    let mut retries = Retries::default();
    loop {
        if context.observer.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        let response = context
            .client
            .send(&question.method, question.url, &headers, question.token, question.follow)
            .map_err(SourceError::Failed)?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        match status_failure(&response, question.url, question.refusal) {
            Attempt::Again { reason, wait } => retries.wait(context, reason, wait)?,
            Attempt::Final(error) => return Err(error),
        }
    }
}

/// A JSON document, and the address of the next page of it.
///
/// # Errors
/// As [`ask`], and when the answer is not JSON or too large, or the next page's address is none.
pub(super) fn json(
    context: &PullContext<'_>,
    url: &str,
    token: Option<&Secret>,
    refusal: &dyn Fn(u16) -> String,
) -> Result<(Value, Option<String>), SourceError> {
    let response = ask(
        context,
        &Question { method: Method::GET, url, token, follow: Follow::All, accept: None, refusal },
    )?;
    let next = match header_text(&response, "link").as_deref().and_then(next_page) {
        None => None,
        Some(next) => Some(join(url, &next).ok_or_else(|| {
            let host = host_of(url);
            SourceError::Failed(format!("{host} says that its list goes on at {next}, which is no address"))
        })?),
    };
    let reader = response.into_body().into_with_config().limit(MAX_JSON_BYTES).reader();
    let json = serde_json::from_reader(reader).map_err(|error| {
        SourceError::Failed(format!("{}: its list of files cannot be read: {error}", host_of(url)))
    })?;
    Ok((json, next))
}
