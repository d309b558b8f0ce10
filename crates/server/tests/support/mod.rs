//! A whole application in a temporary folder, with a tiny random model that knows every byte, asked without a network.

#![allow(unreachable_pub, reason = "not a public interface")]

#[path = "../../../../tests/tiny_embedder.rs"]
mod tiny_embedder;
#[path = "../../../../tests/tiny_encoder.rs"]
mod tiny_encoder;
mod tiny_model;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;
use zhenjin_assistant::{DraftSpec, ModelSpec, ServeOptions, ServedModels};
use zhenjin_hub::{ModelStore, PullOptions};
use zhenjin_promotions::{Improvements, Promotions};
use zhenjin_server::{AppState, Library, Metrics, ServerOptions, Services, router};
use zhenjin_store::Store;
use zhenjin_tensor::ComputeOptions;

pub use tiny_encoder::{ENCODER_LIMIT, ENCODER_WIDTH, write_tiny_encoder};
pub use tiny_model::{CONTEXT, VOCABULARY, template_that_ends_with, write_scripted_model, write_tiny_model};

/// The application, and the folder that its files lie in.
pub struct Application {
    pub router: Router,
    pub state: AppState,
    pub folder: TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Reads a response to its end.
    pub async fn of(response: Response) -> Answer {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        Answer { status, headers, text: String::from_utf8(bytes.to_vec()).expect("UTF-8") }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The error's message, code and field.
    pub fn error(&self) -> (String, String, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or("").to_owned();
        (text("message"), text("code"), text("param"))
    }

    /// The data of each server-sent event.
    pub fn events(&self) -> Vec<&str> {
        self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

/// What a server works with: one model called `tiny`, and an empty store.
pub async fn services(folder: &TempDir) -> Services {
    services_with(folder, write_tiny_model, |_| ()).await
}

async fn services_with(
    folder: &TempDir,
    write_model: impl FnOnce(&Path),
    change: impl FnOnce(&mut ServeOptions),
) -> Services {
    let model = folder.path().join("tiny");
    write_model(&model);
    let metrics = Metrics::default();
    let mut serve = ServeOptions {
        memory_bytes: 256 << 20,
        compute: ComputeOptions { threads: 1, ..ComputeOptions::detect() },
        kv_cache_dtype: Default::default(),
        context: None,
        max_batch: 8,
        queue_limit: 64,
        speculation: zhenjin_engine::Speculation::default(),
        drafts: Vec::new(),
        repetition_detection: zhenjin_assistant::RepetitionDetection::default(),
        observer: Some(metrics.observer_of_model()),
    };
    change(&mut serve);
    let specs = vec![ModelSpec { name: "tiny".to_owned(), path: model }];
    let models = Arc::new(ServedModels::new(specs, serve).expect("one model"));
    let store = Store::open(&folder.path().join("store.sqlite")).await.expect("an empty store");
    let library = Library {
        models: ModelStore::new(folder.path().join("models")),
        adapters: folder.path().join("adapters"),
        promotions: Promotions::new(folder.path().join("promoted")),
        improvements: Improvements::new(folder.path().join("improvements")),
        improve: None,
        pull: PullOptions::default(),
        memory_total: 1 << 30,
    };
    Services { store, models, library, metrics }
}

impl Application {
    pub async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub async fn with(options: ServerOptions) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = AppState::new(options, services(&folder).await);
        Application { router: router(state.clone()), state, folder }
    }

    /// An application whose model answers every conversation with `script`; see [`write_scripted_model`].
    pub async fn with_script(template: &str, script: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let services =
            services_with(&folder, |model| write_scripted_model(model, template, script), |_| ()).await;
        let state = AppState::new(ServerOptions::default(), services);
        Application { router: router(state.clone()), state, folder }
    }

    /// An application with places for so many running and waiting answers.
    pub async fn with_places(max_batch: usize, queue_limit: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let services = services_with(&folder, write_tiny_model, |serve| {
            (serve.max_batch, serve.queue_limit) = (max_batch, queue_limit);
        })
        .await;
        let state = AppState::new(ServerOptions::default(), services);
        Application { router: router(state.clone()), state, folder }
    }

    /// An application whose model drafts for itself.
    pub async fn with_draft() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let draft = DraftSpec { model: "tiny".to_owned(), path: folder.path().join("tiny") };
        let services = services_with(&folder, write_tiny_model, |serve| {
            serve.drafts.push(draft);
            // Whether guesses pay depends on the time that steps take.
            serve.speculation = zhenjin_engine::Speculation::ModelAlways;
        })
        .await;
        let state = AppState::new(ServerOptions::default(), services);
        Application { router: router(state.clone()), state, folder }
    }

    /// An application whose models come from elsewhere than usual.
    pub async fn with_library(change: impl FnOnce(&mut Library)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut services = services(&folder).await;
        change(&mut services.library);
        let state = AppState::new(ServerOptions::default(), services);
        Application { router: router(state.clone()), state, folder }
    }

    /// An application that also serves an encoder called `encoder`.
    pub async fn with_encoder() -> Self {
        let application = Self::new().await;
        let path = application.folder.path().join("encoder");
        write_tiny_encoder(&path);
        application.state.models.add(ModelSpec { name: "encoder".to_owned(), path }).expect("a new name");
        application
    }

    /// An application that also serves a decoder called `embedder`, which makes vectors: its last token's hidden state, of unit length.
    pub async fn with_embedder() -> Self {
        let application = Self::new().await;
        let path = application.folder.path().join("embedder");
        write_tiny_model(&path);
        tiny_embedder::make_embedder(&path, "<|endoftext|>", 256);
        application.state.models.add(ModelSpec { name: "embedder".to_owned(), path }).expect("a new name");
        application
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.expect("infallible")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).expect("valid")).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(body.into()).expect("valid")).await
    }
}

/// A request as a local client sends it.
pub fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:8080")
}
