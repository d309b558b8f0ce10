//! `POST /api/pull`: a download, and how far it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde_json::Value;
use tokio::sync::watch;

use super::models::read_name;
use super::names::{downloadable, resolve};
use super::wire::OllamaProgress;
use super::{ErrorLine, body, fields};
use crate::blocking::blocking;
use crate::chat::{Begun, ModelMenu, PullJson, PullState, begin_pull};
use crate::errors::ApiError;
use crate::openai::fields::check;
use crate::security::Caller;
use crate::shutdown::Shutdown;
use crate::stream_limit::{StreamLimit, StreamPermit};

/// Least interval between two lines about one download.
const PAUSE: Duration = Duration::from_millis(100);

/// The model's name, and whether progress is told.
fn read(body: &Value) -> Result<(String, bool), ApiError> {
    let stream = check(fields::PULL, body)?.boolean("stream").unwrap_or(true);
    Ok((read_name(fields::PULL, body)?, stream))
}

/// Downloads a model. If the caller goes away, the download that it began stops; what is here so far is kept.
#[utoipa::path(post, path = "/api/pull", operation_id = "ollama_pull", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaPullRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "It is here; unless `stream` is false, one object a line says how far it is.",
            content((OllamaProgress = "application/json"), (OllamaProgress = "application/x-ndjson"))),
        (status = 400, description = "The request is wrong; the message names the field.", body = ErrorLine),
        (status = 404, description = "There is no such model to download.", body = ErrorLine),
        (status = 429, description = "Too many downloads are under way.", body = ErrorLine)))]
pub(super) async fn pull(
    State(menu): State<Arc<ModelMenu>>,
    State(streams): State<StreamLimit>,
    State(shutdown): State<Shutdown>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let (asked, stream) = body::read(request, read).await?;
    let permit = streams.permit(&caller.owner)?;
    // Watched from before the download begins, so that no change is missed.
    let changes = menu.pulls.subscribe();
    let name = pullable(&menu, &downloadable(&asked))?;
    let (begun, began) = (Arc::clone(&menu), name.clone());
    let begun = blocking(move || begin_pull(begun, &began)).await?;
    let cancel = (begun == Begun::Now).then(|| CancelOnDrop { menu: Arc::clone(&menu), name: name.clone() });
    let state = if begun == Begun::IsHere { Stage::Here } else { Stage::Begins };
    let mut progress = Progress {
        menu,
        shutdown,
        name,
        changes,
        stage: state,
        told: None,
        _cancel: cancel,
        _permit: permit,
    };
    if stream {
        let lines = unfold(progress, |mut progress| async move {
            let line = progress.next().await?;
            Some((line, progress))
        });
        let lines = lines.map(|line| {
            let text = match line {
                Ok(line) => serde_json::to_string(&line),
                Err(error) => serde_json::to_string(&ErrorLine::of(&error)),
            };
            Ok::<String, Infallible>(text.unwrap_or_default() + "\n")
        });
        return Ok(
            ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
        );
    }
    let mut last = OllamaProgress::default();
    while let Some(line) = progress.next().await {
        last = line?;
    }
    Ok(Json(last).into_response())
}

/// A name without a tag is that of the only model of the catalogue that has it with one.
fn pullable(menu: &ModelMenu, name: &str) -> Result<String, ApiError> {
    let catalogue: Vec<String> = menu.catalogue().models().iter().map(|entry| entry.name.clone()).collect();
    Ok(resolve(name, &catalogue)?.unwrap_or_else(|| name.to_owned()))
}

struct CancelOnDrop {
    menu: Arc<ModelMenu>,
    name: String,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.menu.pulls.cancel(&self.name);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The model was on this machine before.
    Here,
    /// Nothing was told yet.
    Begins,
    Running,
    /// Only `success` is still to be told.
    Succeeds,
    Ended,
}

struct Progress {
    menu: Arc<ModelMenu>,
    shutdown: Shutdown,
    name: String,
    changes: watch::Receiver<()>,
    stage: Stage,
    told: Option<OllamaProgress>,
    _cancel: Option<CancelOnDrop>,
    /// Counts against [`StreamLimit`] for as long as the download is followed.
    _permit: StreamPermit,
}

impl Progress {
    /// The next line; `None` after the last one.
    async fn next(&mut self) -> Option<Result<OllamaProgress, ApiError>> {
        loop {
            let status = match self.stage {
                Stage::Ended => return None,
                Stage::Succeeds | Stage::Here => {
                    self.stage = Stage::Ended;
                    "success"
                }
                Stage::Begins => {
                    self.stage = Stage::Running;
                    "pulling manifest"
                }
                Stage::Running => match self.running().await {
                    Some(line) => return Some(line),
                    None => continue,
                },
            };
            return Some(Ok(OllamaProgress { status: status.to_owned(), ..OllamaProgress::default() }));
        }
    }

    /// The next line of a download under way; `None` if nothing new is to be told.
    async fn running(&mut self) -> Option<Result<OllamaProgress, ApiError>> {
        self.changes.borrow_and_update();
        let pull = self.menu.pulls.get(&self.name);
        let Some(pull) = pull else {
            self.stage = Stage::Ended;
            return Some(Err(ApiError::conflict(format!(
                "`{}` was removed while it was downloaded",
                self.name
            ))));
        };
        match pull.state {
            PullState::Running => {}
            PullState::Done => {
                self.stage = Stage::Succeeds;
                return Some(Ok(OllamaProgress {
                    status: "verifying sha256 digest".to_owned(),
                    ..OllamaProgress::default()
                }));
            }
            PullState::Failed | PullState::Cancelled => {
                self.stage = Stage::Ended;
                let reason = pull.error.unwrap_or_else(|| "the download was stopped".to_owned());
                return Some(Err(ApiError::unavailable(reason).with_code("download_failed")));
            }
        }
        let line = self.line(&pull);
        if self.told.as_ref() != Some(&line) {
            self.told = Some(line.clone());
            return Some(Ok(line));
        }
        tokio::select! {
            _ = self.changes.changed() => {}
            () = self.shutdown.draining() => {
                self.stage = Stage::Ended;
                return Some(Err(ApiError::shutting_down()));
            }
        }
        // A line for each piece that arrives would be thousands.
        tokio::time::sleep(PAUSE).await;
        None
    }

    fn line(&self, pull: &PullJson) -> OllamaProgress {
        OllamaProgress {
            status: format!("pulling {}", self.name),
            digest: Some(self.name.clone()),
            total: pull.total_bytes,
            completed: Some(pull.done_bytes),
        }
    }
}
