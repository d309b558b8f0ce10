//! The only crate that speaks HTTP and JSON: OpenAI's and Anthropic's APIs under `/v1`, Ollama's and the web chat's own under `/api`, operations
//! (`/healthz`, `/readyz`, `/metrics`, `/openapi.json`, `/docs`) and the embedded pages.
//!
//! No token ids, weights, sampling or SQL here: text comes from `assistant`, models from `hub`, rows from `store`.
//! It never reads the environment, the home folder or the terminal: everything arrives in [`ServerOptions`].
#![warn(missing_docs)]

mod addresses;
mod answering;
mod anthropic;
mod app;
mod blocking;
mod body;
mod chat;
mod connection;
mod dialect;
mod errors;
mod json;
mod judged;
mod metrics;
mod observe;
mod ollama;
pub(crate) mod openai;
mod openapi;
mod operations;
mod options;
mod pages;
mod security;
mod serve;
mod shares;
mod shutdown;
mod state;
mod store_errors;
mod stream_limit;
mod unread;

pub use app::{openapi_document, router};
pub use chat::{ImproveCommand, Library, apply_promotions};
pub use errors::{ApiError, ErrorBody, ErrorObject};
pub use judged::judged;
pub use metrics::Metrics;
pub use openai::reference::field_reference;
pub use openai::{check_chat_request, check_completion_request};
pub use options::{OptionsError, ServerOptions};
pub use serve::{ServeError, Server};
pub use shutdown::Shutdown;
pub use state::{AppState, Services};
pub use stream_limit::{StreamLimit, StreamPermit};
