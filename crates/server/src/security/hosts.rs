//! Which host names and which pages' origins may address this server.
//!
//! A page of another site can make a browser on this machine call a loopback server in two ways. DNS rebinding: the
//! site's own name is pointed at 127.0.0.1, so the browser sees one origin; but then `Host` carries that name, which is
//! refused. A plain cross-origin request: then `Origin` carries the site, which is refused unless the operator allowed
//! it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::errors::ApiError;
use crate::options::ServerOptions;

/// Middleware that refuses host names which nobody gave to this server.
pub(crate) async fn check_host(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let header = request.headers().get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
    let target = request.uri().authority().map(|authority| authority.as_str());
    if header.is_none() && target.is_none() {
        return Err(ApiError::bad_request("the header `Host` is missing"));
    }
    for authority in header.into_iter().chain(target) {
        if !is_allowed_host(host_of(authority), &options.allowed_hosts) {
            return Err(ApiError::forbidden(format!(
                "this server does not answer under the host name `{}`; if it is yours, add it to the server's allowed hosts",
                host_of(authority)
            ))
            .with_code("host_not_allowed"));
        }
    }
    Ok(next.run(request).await)
}

/// An IP address cannot be rebound, so every one is fine; a name must be known.
fn is_allowed_host(host: &str, allowed: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || (host.starts_with('[') && bare.parse::<Ipv6Addr>().is_ok())
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// `host:port` without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Middleware that refuses requests made by other sites' pages, and answers the browser's questions about allowed ones.
pub(crate) async fn check_origin(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return Ok(next.run(request).await);
    };
    let text = origin.to_str().unwrap_or("");
    if is_same_origin(text, request.headers()) {
        return Ok(next.run(request).await);
    }
    if !options.cors_origins.iter().any(|allowed| allowed == text) {
        return Err(ApiError::forbidden(format!(
            "pages of the origin `{text}` may not call this server; if they are yours, add it to the server's CORS origins"
        ))
        .with_code("origin_not_allowed"));
    }
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if is_preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers
        .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
    if is_preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "authorization, content-type, x-request-id, x-api-key, anthropic-version",
            ),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    Ok(response)
}

/// Schemes are not compared: behind a proxy the browser says https while the server hears http.
fn is_same_origin(origin: &str, headers: &HeaderMap) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    match (authority, host) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebound_name_is_refused_and_addresses_are_not() {
        let allowed = vec!["chat.example.org".to_owned()];
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "192.168.1.7", "chat.example.org"] {
            assert!(is_allowed_host(host, &allowed), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "::1", "", "[evil]", "?"] {
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
