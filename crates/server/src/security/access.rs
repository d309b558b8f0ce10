//! Keys: which requests need one, and where they carry it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use zhenjin_assistant::CacheSalt;
use zhenjin_store::{ApiKeyId, Store, StoreError};

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

/// Whose request it is, as far as models must keep apart what they remember: the holder of an API key; on a server that
/// asks for no key, everybody together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tenant(pub(crate) CacheSalt);

impl Tenant {
    /// Of a request that [`authenticate`] let through.
    pub(crate) fn of(extensions: &Extensions) -> Tenant {
        extensions.get().copied().unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Tenant, Infallible> {
        Ok(Tenant::of(&parts.extensions))
    }
}

/// Middleware: when the server needs a key, everything but health and login asks for one.
pub(crate) async fn authenticate(
    State(options): State<Arc<ServerOptions>>,
    State(store): State<Store>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let open = matches!(request.uri().path(), "/healthz" | "/readyz" | "/api/login" | "/api/status");
    if options.needs_key() && !open {
        let Some(credential) = Credential::from_headers(request.headers()) else {
            return Err(ApiError::unauthorised(
                "this server needs an API key: send it as the header `Authorization: Bearer KEY`",
            ));
        };
        let Some(key) = key_of(&store, &credential).await? else {
            return Err(ApiError::unauthorised("this API key is not known here, or was revoked"));
        };
        request.extensions_mut().insert(Tenant(CacheSalt::of_owner(key.as_str())));
    }
    Ok(next.run(request).await)
}

/// The key that this credential is, or is a session of: whoever shows it may use `/v1` and `/api`. `None` for a credential that
/// is not known.
async fn key_of(store: &Store, credential: &Credential) -> Result<Option<ApiKeyId>, StoreError> {
    Ok(match credential {
        Credential::Key(key) => store.verify_api_key(key).await?.map(|key| key.id),
        Credential::Session(session) => store.verify_session(session).await?,
    })
}
