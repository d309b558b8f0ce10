//! Keys: where requests carry them, and whose they are.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use cookie::time::Duration as CookieDuration;
use cookie::{Cookie, SameSite};
use zhenjin_assistant::CacheSalt;
use zhenjin_store::{KeyRole, Owner, Store, StoreError};

use super::proxies::is_proxied;
use super::rules::{Access, access_of};
use crate::errors::ApiError;
use crate::options::ServerOptions;

/// The cookie that the web chat's login sets.
const SESSION_COOKIE: &str = "zhenjin_session";

/// The header in which Anthropic's clients send a key.
const KEY_HEADER: &str = "x-api-key";

/// What a caller shows. Deliberately without `Debug`: it must not reach a log.
pub(crate) enum Credential {
    /// `Authorization: Bearer …`, or `x-api-key: …` as Anthropic's clients send it: an API key.
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
        let key = key.or_else(|| {
            let key = headers.get(KEY_HEADER)?.to_str().ok()?.trim();
            (!key.is_empty()).then(|| key.to_owned())
        });
        if let Some(key) = key {
            return Some(Credential::Key(key));
        }
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(Cookie::split_parse).flatten();
        let session = cookies.find(|cookie| cookie.name() == SESSION_COOKIE && !cookie.value().is_empty())?;
        Some(Credential::Session(session.value().to_owned()))
    }
}

/// The cookie that gives a browser a session for so long; page scripts cannot read it, and other sites' pages cannot use it. `secure`:
/// the browser sends it over TLS only.
pub(crate) fn session_cookie(value: &str, length: Duration, secure: bool) -> Cookie<'_> {
    let length = CookieDuration::try_from(length).unwrap_or(CookieDuration::ZERO);
    Cookie::build((SESSION_COOKIE, value))
        .path("/")
        .max_age(length)
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(secure)
        .build()
}

/// Who asks: whose conversations they have, and what they may do to the server.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose conversations these are.
    pub(crate) owner: Owner,
    role: KeyRole,
}

impl Caller {
    /// Whoever reaches a server that asks for no key: the person at the machine, who may do everything.
    const LOCAL: Caller = Caller { owner: Owner::Local, role: KeyRole::Operator };

    /// Of a request that [`authenticate`] let through.
    ///
    /// # Errors
    /// For a request that did not come through it: nobody is taken for somebody.
    pub(crate) fn of(extensions: &Extensions) -> Result<Caller, ApiError> {
        let caller = extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::internal("this route does not ask who calls it"))
    }

    /// What the caller may do.
    pub(crate) fn role(&self) -> KeyRole {
        self.role
    }

    /// Whether the caller may administer models and adapters.
    pub(crate) fn is_operator(&self) -> bool {
        self.role == KeyRole::Operator
    }

    /// With whom the caller shares what models remember: with nobody but the same owner.
    pub(crate) fn cache_salt(&self) -> CacheSalt {
        match &self.owner {
            Owner::Local => CacheSalt::SHARED,
            Owner::Key(id) => CacheSalt::of_owner(id.as_str()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, ApiError> {
        Caller::of(&parts.extensions)
    }
}

/// Whether this request needs a key: on every server that others can reach, and on one that only this machine reaches for what a
/// proxy passes on, which others may have asked for.
pub(crate) fn needs_key(options: &ServerOptions, parts: &Parts) -> bool {
    options.needs_key() || is_proxied(parts)
}

/// Middleware: finds out who asks, and refuses what they may not do.
pub(crate) async fn authenticate(
    State(options): State<Arc<ServerOptions>>,
    State(store): State<Store>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let access = access_of(&request);
    if access == Access::Open {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let Some(caller) = identify(&options, &store, &parts).await? else {
        return Err(ApiError::unauthorised(match Credential::from_headers(&parts.headers) {
            Some(_) => "this API key is not known here, or was revoked",
            None if options.needs_key() => {
                "this server needs an API key: send it as the header `Authorization: Bearer KEY`"
            }
            None => {
                "a proxy passed this request on, so others may reach this server: it needs an API key here, as the header \
                 `Authorization: Bearer KEY`"
            }
        }));
    };
    if access == Access::Operator && !caller.is_operator() {
        return Err(ApiError::forbidden(
            "only the operator of this server may administer its models and adapters; this API key is a user's",
        )
        .with_code("operator_only"));
    }
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Who asks. `None` for nobody that is known here, where a key is needed.
pub(crate) async fn identify(
    options: &ServerOptions,
    store: &Store,
    parts: &Parts,
) -> Result<Option<Caller>, StoreError> {
    if !needs_key(options, parts) {
        return Ok(Some(Caller::LOCAL));
    }
    let key = match Credential::from_headers(&parts.headers) {
        None => None,
        Some(Credential::Key(key)) => store.verify_api_key(&key).await?,
        Some(Credential::Session(session)) => store.verify_session(&session).await?,
    };
    Ok(key.map(|key| Caller { owner: key.owner, role: key.role }))
}
