//! Which API a request speaks, and errors in the shape that its clients read.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;

use crate::errors::ApiError;
use crate::observe::REQUEST_ID;
use crate::{anthropic, ollama};

/// An API whose clients read errors in a shape of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    /// OpenAI's shape, which everything else here has as well.
    OpenAi,
    Ollama,
    Anthropic,
}

impl Dialect {
    fn of(request: &Request) -> Dialect {
        let path = request.uri().path();
        // Both APIs have `/v1/models`.
        if anthropic::is_route(path) || request.headers().contains_key(anthropic::VERSION_HEADER) {
            Dialect::Anthropic
        } else if ollama::is_route(path) {
            Dialect::Ollama
        } else {
            Dialect::OpenAi
        }
    }
}

/// Middleware: writes errors anew where the caller's dialect has another shape for them, wherever they came from: a handler, a
/// missing key, a body that is too large, a method that the route does not take.
pub(crate) async fn shape_errors(request: Request, next: Next) -> Response {
    let dialect = Dialect::of(&request);
    let mut response = next.run(request).await;
    if dialect == Dialect::Anthropic
        && let Some(id) = response.headers().get(REQUEST_ID).cloned()
    {
        response.headers_mut().insert("request-id", id);
    }
    let Some(error) = response.extensions().get::<ApiError>() else { return response };
    match dialect {
        Dialect::OpenAi => response,
        Dialect::Ollama => {
            let body = ollama::ErrorLine::of(error);
            with_body(response, &body)
        }
        Dialect::Anthropic => {
            let body = anthropic::AnthropicError::of(error);
            with_body(response, &body)
        }
    }
}

fn with_body(response: Response, body: &impl Serialize) -> Response {
    let Ok(bytes) = serde_json::to_vec(body) else { return response };
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Response::from_parts(parts, bytes.into())
}
