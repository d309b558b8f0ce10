//! Addresses that clients make up from a base URL with or without `/v1`, and what is meant by one that does not exist.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::Uri;
use serde_json::Value;

use crate::openai::request::suggest::suggestion;

/// Routes under `/v1` that are found without it too, with whatever stands below them.
const WITHOUT_V1: [&str; 6] =
    ["/chat/completions", "/completions", "/models", "/responses", "/messages", "/embeddings"];

/// What other servers call things that are called differently here.
const ELSEWHERE: [(&str, &str); 4] = [
    ("/completion", "/v1/completions"),
    ("/generate", "/v1/completions"),
    ("/generate_stream", "/v1/completions"),
    ("/v1/chat", "/v1/chat/completions"),
];

/// Middleware: the request with the address that its client meant.
pub(crate) async fn correct(mut request: Request) -> Request {
    if let Some(path) = corrected(request.uri().path()) {
        let with_query = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let mut parts = request.uri().clone().into_parts();
        if let Ok(path_and_query) = with_query.parse() {
            parts.path_and_query = Some(path_and_query);
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The path that is meant, if it is another one: `/v1` is there once.
fn corrected(path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("/v1/v1/") {
        return Some(format!("/v1/{rest}"));
    }
    let is_known = |known: &str| {
        path.strip_prefix(known).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    WITHOUT_V1.iter().any(|known| is_known(known)).then(|| format!("/v1{path}"))
}

/// The paths of all routes.
#[derive(Clone, Debug)]
pub(crate) struct KnownPaths(Arc<Vec<String>>);

impl KnownPaths {
    /// Those that an OpenAPI document describes, without those that hold names.
    pub(crate) fn of(document: &Value) -> KnownPaths {
        let paths = document["paths"].as_object().into_iter().flat_map(|paths| paths.keys());
        KnownPaths(Arc::new(paths.filter(|path| !path.contains('{')).cloned().collect()))
    }

    /// The path that `unknown` was probably meant to be.
    pub(crate) fn nearest(&self, unknown: &str) -> Option<String> {
        let unknown = unknown.trim_end_matches('/');
        let known = || self.0.iter().map(String::as_str);
        let with_v1 = format!("/v1{unknown}");
        let meant = ELSEWHERE.iter().find(|(foreign, _)| *foreign == unknown).map(|(_, meant)| *meant);
        meant
            .filter(|meant| known().any(|path| path == *meant))
            .or_else(|| known().find(|path| *path == unknown || *path == with_v1))
            .or_else(|| suggestion(unknown, known()))
            .map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_stands_in_the_path_once() {
        assert_eq!(corrected("/chat/completions").as_deref(), Some("/v1/chat/completions"));
        assert_eq!(corrected("/models/a/b").as_deref(), Some("/v1/models/a/b"));
        assert_eq!(corrected("/v1/v1/models").as_deref(), Some("/v1/models"));
        for right in ["/v1/models", "/", "/modelsx", "/api/models", "/v1/v1", "/tokenize"] {
            assert_eq!(corrected(right), None, "{right}");
        }
    }

    #[test]
    fn the_nearest_path_is_named() {
        let paths = json!({ "/v1/chat/completions": {}, "/v1/completions": {}, "/healthz": {}, "/v1/models/{model}": {} });
        let known = KnownPaths::of(&json!({ "paths": paths }));
        for (unknown, near) in [
            ("/v1/chat/completion", Some("/v1/chat/completions")),
            ("/v1/chat/completions/", Some("/v1/chat/completions")),
            ("/completion", Some("/v1/completions")),
            ("/healhtz", Some("/healthz")),
            ("/v1/audio/speech", None),
        ] {
            assert_eq!(known.nearest(unknown).as_deref(), near, "{unknown}");
        }
    }
}
