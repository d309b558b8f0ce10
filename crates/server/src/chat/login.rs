//! Logging a browser in with an API key, and out again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use zhenjin_store::Store;

use super::fields::{self, LoginBody};
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::security::{Credential, LoginThrottle, Peer, session_cookie};

/// How long a browser stays logged in.
const SESSION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Takes an API key and gives the browser a session cookie, which page scripts cannot read.
#[utoipa::path(post, path = "/api/login", operation_id = "login", tag = "chat", request_body = LoginBody, responses(
    (status = 204, description = "Logged in; the cookie is set."),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 401, description = "The key is unknown or revoked.", body = ErrorBody),
    (status = 429, description = "Too many failed logins from this address.", body = ErrorBody)))]
pub(crate) async fn login(
    State(store): State<Store>,
    State(logins): State<Arc<LoginThrottle>>,
    parts: Parts,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1]), ApiError> {
    let fields = check(fields::LOGIN, &body)?;
    let key = fields::full_text(&fields, "key")?.trim();
    let (peer, now) = (Peer::of(&parts.extensions), Instant::now());
    logins.check(peer, now)?;
    let Some(key) = store.verify_api_key(key).await? else {
        logins.failed(peer, now);
        return Err(
            ApiError::unauthorised("this API key is not known here, or was revoked").with_param("key")
        );
    };
    let session = store.create_session(&key.id, SESSION).await?;
    let cookie = cookie(session.expose(), SESSION, &parts.headers)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]))
}

/// Ends the browser's session.
#[utoipa::path(post, path = "/api/logout", operation_id = "logout", tag = "chat",
    responses((status = 204, description = "Logged out; the cookie is gone.")))]
pub(crate) async fn logout(
    State(store): State<Store>,
    headers: HeaderMap,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1]), ApiError> {
    if let Some(Credential::Session(session)) = Credential::from_headers(&headers) {
        store.end_session(&session).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie("", Duration::ZERO, &headers)?)]))
}

/// A page that came over TLS, to us or to a proxy before us, gets a cookie that never leaves it. A proxy that says so in vain, or
/// a caller who only claims it, gets a cookie that its own browser does not send in the clear.
fn cookie(value: &str, length: Duration, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_secure = origin.starts_with(b"https://") || came_over_tls(headers);
    let text = session_cookie(value, length, is_secure).to_string();
    let mut cookie =
        HeaderValue::from_str(&text).map_err(|_| ApiError::internal("the session has no cookie"))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

/// What proxies say of the browser's own connection: `X-Forwarded-Proto: https`, or `Forwarded: proto=https` (RFC 7239). The first
/// entry of several is the browser's.
fn came_over_tls(headers: &HeaderMap) -> bool {
    let first = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.split(',').next().unwrap_or_default().trim().to_ascii_lowercase())
    };
    let forwarded = first("forwarded").is_some_and(|entry| {
        let mut pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == "proto" && value.trim_matches('"') == "https")
    });
    forwarded || first("x-forwarded-proto").is_some_and(|scheme| scheme == "https" || scheme == "wss")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie_with(name: &'static str, value: &'static str) -> String {
        let headers =
            HeaderMap::from_iter([(header::HeaderName::from_static(name), HeaderValue::from_static(value))]);
        cookie("x", Duration::from_secs(1), &headers).expect("a cookie").to_str().expect("text").to_owned()
    }

    #[test]
    fn a_cookie_that_came_over_tls_stays_there() {
        for (name, value) in [
            ("origin", "https://chat.example.org"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "HTTPS, http"),
            ("forwarded", "for=192.0.2.60;proto=https;by=203.0.113.43, for=10.0.0.1;proto=http"),
            ("forwarded", "Proto=\"https\""),
        ] {
            let cookie = cookie_with(name, value);
            assert!(cookie.split("; ").any(|attribute| attribute == "Secure"), "{name}: {value}: {cookie}");
        }
        for (name, value) in [
            ("origin", "http://localhost:8080"),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-proto", "httpsx"),
            ("forwarded", "for=\"https\";proto=http"),
            ("accept", "https"),
        ] {
            assert!(!cookie_with(name, value).contains("Secure"), "{name}: {value}");
        }
    }
}
