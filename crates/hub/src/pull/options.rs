//! How to pull: endpoints, tokens, patience. Callers read the environment; nothing here does.

use std::fmt;
use std::time::Duration;

use crate::Catalogue;

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The Hugging Face hub or a mirror of it (`HF_ENDPOINT`).
    pub hugging_face_endpoint: String,
    /// Access token for gated and private repositories (`HF_TOKEN`). Never sent to another host.
    pub hugging_face_token: Option<Secret>,
    /// ModelScope (`MODELSCOPE_ENDPOINT`).
    pub model_scope_endpoint: String,
    /// The Python package index or a mirror of it (`PIP_INDEX_URL`), as pip takes it: the address below which packages have pages.
    pub package_index: String,
    /// Proxy for all HTTP (`HTTPS_PROXY`), as a URL.
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy (`NO_PROXY`).
    pub no_proxy: Vec<String>,
    /// Models with names; the program's own list when missing.
    pub catalogue: Option<Catalogue>,
    /// Patience.
    pub timeouts: Timeouts,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the beginning of a response, and for every piece of it.
    pub read: Duration,
    /// How often a file is tried again without having got any further.
    pub retries: u32,
    /// Before the first retry; doubled before each further one.
    pub retry_wait: Duration,
    /// The longest `Retry-After` that is waited for.
    pub longest_wait: Duration,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            hugging_face_endpoint: "https://huggingface.co".to_owned(),
            hugging_face_token: None,
            model_scope_endpoint: "https://www.modelscope.cn".to_owned(),
            package_index: "https://pypi.org/simple".to_owned(),
            proxy: None,
            no_proxy: Vec::new(),
            catalogue: None,
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
            retries: 4,
            retry_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(120),
        }
    }
}

/// A text that cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret; white space around it is dropped.
    pub fn new(secret: &str) -> Secret {
        Secret(secret.trim().to_owned())
    }

    /// The secret itself, for a request's header only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed() {
        let token = Secret::new("hf_abc");
        let options = PullOptions { hugging_face_token: Some(token), ..PullOptions::default() };
        let printed = format!("{options:?}");
        assert!(printed.contains("Secret(…)") && !printed.contains("hf_abc"), "{printed}");
    }
}
