//! The only room that knows HTTP and JSON: OpenAI's API under `/v1`, the web chat's own API under `/api`, operations
//! (`/healthz`, `/readyz`, `/metrics`, `/openapi.json`, `/docs`) and the embedded pages.
//!
//! It does not know tokens' ids, weights, sampling or SQL: text comes from `assistant`, models from `hub`, rows from `store`.
//! It never reads the environment, the home folder or the terminal: everything arrives in [`ServerOptions`].
#![warn(missing_docs)]

mod app;
mod body;
mod chat;
mod connection;
mod errors;
mod json;
mod metrics;
mod observe;
pub(crate) mod openai;
mod openapi;
mod operations;
mod options;
mod pages;
mod security;
mod serve;
mod shutdown;

pub use app::{AppState, Rooms, router};
pub use chat::Library;
pub use errors::{ApiError, ErrorBody, ErrorObject};
pub use metrics::Metrics;
pub use openai::reference::field_reference;
pub use openai::{check_chat_request, check_completion_request};
pub use openapi::document as openapi_document;
pub use options::{OptionsError, ServerOptions};
pub use serve::{ServeError, Server};
pub use shutdown::Shutdown;
