//! Requests to hubs: redirects followed with care, statuses left to the caller.
//! This file does not know what is asked for.

use std::time::Duration;

use ureq::http::{Method, Request, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use url::{Position, Url};

use super::{PullError, PullOptions, Secret};

const MAX_REDIRECTS: usize = 10;

/// Which redirects a request follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// All: for contents, which hubs keep on other hosts.
    All,
    /// Those to the same host: the answer of a hub itself, which carries sizes and digests.
    SameHost,
}

/// A client for all sources.
pub(crate) struct HttpClient {
    agent: Agent,
}

impl HttpClient {
    pub(crate) fn new(options: &PullOptions) -> Result<HttpClient, PullError> {
        let timeouts = options.timeouts;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("zhenjin/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(timeouts.connect))
            .timeout_resolve(Some(timeouts.connect))
            .timeout_recv_response(Some(timeouts.read))
            .timeout_per_read(Some(timeouts.read))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .proxy(proxy(options)?)
            .build();
        Ok(HttpClient { agent: config.new_agent() })
    }

    /// Sends a request without a body. The token goes to the first host only.
    ///
    /// # Errors
    /// A description of what failed on the way; statuses are no errors.
    pub(crate) fn send(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, String)],
        token: Option<&Secret>,
        follow: Follow,
    ) -> Result<Response<Body>, String> {
        let mut url = url.to_owned();
        let first_origin = origin(&url);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(method.clone()).uri(&url);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(token) = token.filter(|_| origin(&url) == first_origin) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
            }
            let request = request.body(()).map_err(|error| format!("{url}: {error}"))?;
            let response = self.agent.run(request).map_err(|error| format!("{}: {error}", host_of(&url)))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(location) = header_text(&response, "location") else { return Ok(response) };
            let Some(next) = join(&url, &location) else {
                return Err(format!("{} redirects to an address that is none", host_of(&url)));
            };
            if origin(&next) != first_origin && follow == Follow::SameHost {
                return Ok(response);
            }
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err(format!("{} redirects to an unencrypted address", host_of(&url)));
            }
            url = next;
        }
        Err(format!("{}: more than {MAX_REDIRECTS} redirects", host_of(&url)))
    }
}

fn proxy(options: &PullOptions) -> Result<Option<Proxy>, PullError> {
    let Some(url) = &options.proxy else { return Ok(None) };
    let bad = |error: ureq::Error| PullError::BadOption { setting: "proxy", reason: error.to_string() };
    let plain = Proxy::new(url).map_err(bad)?;
    let mut builder = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(username) = plain.username() {
        builder = builder.username(username);
    }
    if let Some(password) = plain.password() {
        builder = builder.password(password);
    }
    for host in &options.no_proxy {
        builder = builder.no_proxy(host);
    }
    builder.build().map(Some).map_err(bad)
}

/// A header's value, when it is text.
pub(crate) fn header_text(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// `Retry-After` in seconds; the form with a date is not used by hubs.
pub(crate) fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds: f64 = header_text(response, "retry-after")?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Scheme, host and port of an address of the web; `None` for any other text.
fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    Some(url.origin().ascii_serialization())
}

/// Host and port, for people.
pub(crate) fn host_of(url: &str) -> String {
    match Url::parse(url) {
        Ok(parsed) if parsed.has_host() => parsed[Position::BeforeHost..Position::AfterPort].to_owned(),
        _ => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}

/// An address found in an answer from `base`, as a browser reads it; `None` for one that leaves the web.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let joined = Url::parse(base).ok()?.join(location).ok()?;
    matches!(joined.scheme(), "http" | "https").then(|| joined.into())
}

/// The address marked `rel="next"` in a `Link` header.
pub(crate) fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (address, relation) = part.split_once(';')?;
        let is_next = relation.replace(' ', "").contains("rel=\"next\"");
        is_next.then(|| address.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
    })
}

/// A path for use inside an address: everything but letters, digits and `-_.~/` as `%XX`.
pub(crate) fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_like_a_browser_does() {
        let base = "https://hub.example:8443/a/b?c=d";
        for (location, expected) in [
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x/y", "https://hub.example:8443/x/y"),
            ("x", "https://hub.example:8443/a/x"),
            ("../x", "https://hub.example:8443/x"),
            ("?page=2", "https://hub.example:8443/a/b?page=2"),
            // Regression: an address inside the query was taken for the whole.
            (
                "/login?next=https://evil.example/x",
                "https://hub.example:8443/login?next=https://evil.example/x",
            ),
            ("file?from=http://a.example", "https://hub.example:8443/a/file?from=http://a.example"),
        ] {
            assert_eq!(join(base, location).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(join("https://hub.example", "x").as_deref(), Some("https://hub.example/x"));
        for location in ["file:///etc/passwd", "data:,x", "ftp://h/x", "javascript:x"] {
            assert_eq!(join(base, location), None, "{location}");
        }
    }

    #[test]
    fn an_address_has_the_origin_that_is_really_asked() {
        assert_eq!(origin("http://h:1/p").as_deref(), Some("http://h:1"));
        assert_eq!(origin("https://hub.example:443/p"), origin("https://HUB.example"));
        assert_ne!(origin("https://hub.example"), origin("https://hub.example@evil.example/"));
        assert_eq!(
            (host_of("http://h:1/p"), host_of("https://name:word@h/p?q")),
            ("h:1".to_owned(), "h".to_owned())
        );
        assert_eq!(origin("no address"), None);
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        let link = "<https://h/api?cursor=1>; rel=\"prev\", <https://h/api?cursor=2>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("https://h/api?cursor=2"));
        assert_eq!(next_page("<https://h>; rel=\"prev\""), None);
    }

    #[test]
    fn paths_are_encoded_per_byte() {
        assert_eq!(encode_path("a b/中.gguf"), "a%20b/%E4%B8%AD.gguf");
    }
}
