//! Logging a browser in with an API key, and out again.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use zhenjin_store::Store;

use super::fields::{self, LoginBody};
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::security::{Credential, SESSION_COOKIE};

/// How long a browser stays logged in.
const SESSION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Takes an API key and gives the browser a session cookie, which page scripts cannot read.
#[utoipa::path(post, path = "/api/login", operation_id = "login", tag = "chat", request_body = LoginBody, responses(
    (status = 204, description = "Logged in; the cookie is set."),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 401, description = "The key is unknown or revoked.", body = ErrorBody)))]
pub(crate) async fn login(
    State(store): State<Store>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1]), ApiError> {
    let fields = check(fields::LOGIN, &body)?;
    let key = fields::full_text(&fields, "key")?.trim();
    let Some(key) = store.verify_api_key(key).await? else {
        return Err(
            ApiError::unauthorised("this API key is not known here, or was revoked").with_param("key")
        );
    };
    let session = store.create_session(&key.id, SESSION).await?;
    let cookie = cookie(session.expose(), SESSION.as_secs(), &headers)?;
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
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie("", 0, &headers)?)]))
}

/// A page that came over TLS gets a cookie that never leaves it.
fn cookie(value: &str, seconds: u64, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    let secure = if origin.starts_with(b"https://") { "; Secure" } else { "" };
    let text =
        format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut cookie =
        HeaderValue::from_str(&text).map_err(|_| ApiError::internal("the session has no cookie"))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}
