//! Requests that came through a proxy. A server that listens on this machine alone asks for no key; behind a proxy on the same
//! machine it would be open to everybody whom the proxy serves. What a proxy sends tells it apart from a program on this machine.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Version};

/// Headers by which proxies and tunnels say for whom they ask. Those that begin with one of [`PREFIXES`] count as well.
const HEADERS: [&str; 8] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
];

const PREFIXES: [&str; 4] = ["x-forwarded", "x-original-", "cf-", "tailscale-"];

/// Whether a proxy passed this request on: by its headers, or by HTTP/1.0, which nginx speaks to servers unless told otherwise, and
/// with which it adds no header.
pub(crate) fn is_proxied(parts: &Parts) -> bool {
    parts.version == Version::HTTP_10 || names_a_proxy(&parts.headers)
}

fn names_a_proxy(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        HEADERS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(name: &str, version: Version) -> Parts {
        Request::builder().version(version).header(name, "x").body(()).expect("valid").into_parts().0
    }

    #[test]
    fn proxies_are_known_by_headers_and_by_their_version() {
        for name in [
            "Forwarded",
            "X-Forwarded-For",
            "x-forwarded-proto",
            "X-Real-IP",
            "Via",
            "CF-Ray",
            "X-Original-Host",
        ] {
            assert!(is_proxied(&parts(name, Version::HTTP_11)), "{name}");
        }
        for name in ["host", "user-agent", "x-request-id", "x-stainless-os", "viable", "origin"] {
            assert!(!is_proxied(&parts(name, Version::HTTP_11)), "{name}");
        }
        assert!(is_proxied(&parts("host", Version::HTTP_10)));
    }
}
