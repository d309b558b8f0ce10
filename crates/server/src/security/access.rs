//! Keys: which requests need one, and where they carry it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use zhenjin_store::{Store, StoreError};

use crate::errors::ApiError;
use crate::options::ServerOptions;

/// The cookie that the web chat's login sets.
pub(crate) const SESSION_COOKIE: &str = "zhenjin_session";

/// What a caller shows. Deliberately without `Debug`: it must not reach a log.
pub(crate) enum Credential {
    /// `Authorization: Bearer …`: an API key.
    Key(String),
    /// The login's cookie.
    Session(String),
}

impl Credential {
    /// What these headers carry; a key goes before a cookie.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Credential> {
        let key = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            (scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty()).then(|| key.trim().to_owned())
        });
        if let Some(key) = key {
            return Some(Credential::Key(key));
        }
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|line| line.split(';')).find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == SESSION_COOKIE && !value.is_empty()).then(|| Credential::Session(value.to_owned()))
        })
    }
}

/// Middleware: when the server needs a key, everything but health and login asks for one.
pub(crate) async fn authenticate(
    State(options): State<Arc<ServerOptions>>,
    State(store): State<Store>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let open = matches!(request.uri().path(), "/healthz" | "/readyz" | "/api/login" | "/api/status");
    if options.needs_key() && !open {
        let Some(credential) = Credential::from_headers(request.headers()) else {
            return Err(ApiError::unauthorised(
                "this server needs an API key: send it as the header `Authorization: Bearer KEY`",
            ));
        };
        if !is_known(&store, &credential).await? {
            return Err(ApiError::unauthorised("this API key is not known here, or was revoked"));
        }
    }
    Ok(next.run(request).await)
}

/// Whether whoever shows this credential may use `/v1` and `/api`.
async fn is_known(store: &Store, credential: &Credential) -> Result<bool, StoreError> {
    Ok(match credential {
        Credential::Key(key) => store.verify_api_key(key).await?.is_some(),
        Credential::Session(session) => store.verify_session(session).await?,
    })
}
