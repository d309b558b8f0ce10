//! Which host names may address this server.
//!
//! A page of another site can make a browser on this machine call a loopback server by DNS rebinding: the site's own name is pointed
//! at 127.0.0.1, so the browser sees one origin; but then `Host` carries that name, which is refused. Where a key is needed such a
//! page has none, and names need not be known, except by browsers that are logged in.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use super::access::{Credential, needs_key};
use crate::errors::ApiError;
use crate::options::ServerOptions;

/// Names of the machine itself, and those under which containers see the machine that they run on. Nobody can register them:
/// `.localhost` and `.internal` are reserved.
const OWN_NAMES: [&str; 7] = [
    "localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "ip6-loopback",
    "host.docker.internal",
    "gateway.docker.internal",
    "host.containers.internal",
];

/// The route by which a browser gets its cookie.
const LOGIN: &str = "/api/login";

/// Middleware that refuses host names which nobody gave to this server.
pub(crate) async fn check_host(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let header = parts.headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
    let target = parts.uri.authority().map(|authority| authority.as_str());
    if header.is_none() && target.is_none() {
        return Err(ApiError::bad_request("the header `Host` is missing"));
    }
    let by_cookie = matches!(Credential::from_headers(&parts.headers), Some(Credential::Session(_)));
    let protected = needs_key(&options, &parts) && !by_cookie && parts.uri.path() != LOGIN;
    for authority in header.into_iter().chain(target).filter(|_| !protected) {
        if !is_allowed_host(host_of(authority), &options.allowed_hosts) {
            return Err(ApiError::forbidden(format!(
                "this server does not answer under the host name `{}`; if it is yours, add it to the server's allowed hosts",
                host_of(authority)
            ))
            .with_code("host_not_allowed"));
        }
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// An IP address cannot be rebound, so every one is fine; a name must be known.
fn is_allowed_host(host: &str, allowed: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    OWN_NAMES.contains(&name.as_str())
        || name.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || (host.starts_with('[') && bare.parse::<Ipv6Addr>().is_ok())
        || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
}

/// `host:port` without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebound_name_is_refused_and_addresses_are_not() {
        let allowed = vec!["chat.example.org".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]",
            "192.168.1.7",
            "chat.example.org",
            "chat.example.org.",
            "localhost.",
            "zhenjin.localhost",
            "host.docker.internal",
            "ip6-localhost",
        ] {
            assert!(is_allowed_host(host, &allowed), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "::1",
            "",
            "[evil]",
            "?",
            "evillocalhost",
            ".",
            "docker.internal",
            "evil.docker.internal",
            "localhost..",
        ] {
            assert!(!is_allowed_host(host, &allowed), "{host}");
        }
    }

    #[test]
    fn ports_are_taken_off_and_addresses_in_brackets_survive() {
        assert_eq!(host_of("localhost:8080"), "localhost");
        assert_eq!(host_of("[::1]:8080"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
        assert_eq!(host_of("localhost"), "localhost");
    }
}
