//! From what was asked to the answer: the model is found and loaded, and answers, or is only loaded or unloaded.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use zhenjin_assistant::ServedModels;

use super::durations::KeepAlive;
use super::request::{Asked, Task};
use super::writer::{Shape, Unload, Writer};
use super::{names, refusal};
use crate::answering::{Answering, send_lines};
use crate::chat::ModelMenu;
use crate::errors::ApiError;
use crate::security::Caller;

pub(super) async fn answer(
    answering: Answering,
    menu: Arc<ModelMenu>,
    models: Arc<ServedModels>,
    read: Asked,
    shape: Shape,
    asked: Instant,
) -> Result<Response, ApiError> {
    let Asked { model, task, stream, keep_alive } = read;
    let keep_alive = allowed(keep_alive, matches!(task, Task::Load), answering.caller())?;
    let name = names::find(&menu, &model).await?;
    let unload = Unload::wanted(keep_alive, &models, &name);
    let mut writer = Writer {
        shape,
        model,
        asked,
        load: asked.elapsed(),
        reports_logprobs: false,
        calls: Vec::new(),
        sent_calls: 0,
        _unload: unload,
    };
    if matches!(task, Task::Load) && keep_alive == KeepAlive::UNLOAD {
        return Ok(Json(writer.loaded("unload")).into_response());
    }
    let caller = answering.caller().clone();
    let ready = answering.open_with(menu.assistant(&name, &caller)).await?;
    writer.load = asked.elapsed();
    let generations = match task {
        Task::Load => return Ok(Json(writer.loaded("load")).into_response()),
        Task::Chat(request) => {
            writer.reports_logprobs = request.options.logprobs.is_some();
            // Ollama's clients ask for more than there is room for; `done_reason` then says `length`.
            ready.chat_within_context(*request, refusal).await?.0
        }
        Task::Complete(request) => {
            writer.reports_logprobs = request.options.logprobs.is_some();
            ready.complete_within_context(*request, refusal).await?
        }
    };
    if stream {
        return Ok(send_lines(generations, writer));
    }
    let answer = generations.gather(1).await?.pop().unwrap_or_default();
    Ok(Json(writer.whole(answer)).into_response())
}

/// What the caller may say of the time that a model stays in memory: that is the operator's to decide, as loading and unloading are. `only_loads`:
/// there is nothing to answer.
fn allowed(keep_alive: KeepAlive, only_loads: bool, caller: &Caller) -> Result<KeepAlive, ApiError> {
    if caller.is_operator() {
        return Ok(keep_alive);
    }
    if only_loads && keep_alive == KeepAlive::UNLOAD {
        let message = "only the operator of this server may unload its models, and this API key is a user's: leave `keep_alive` out, or \
                       name a time above 0, which has no effect";
        return Err(ApiError::forbidden(message).with_param("keep_alive").with_code("operator_only"));
    }
    // Many clients name a time with every question, also 0, whoever asks; the model is treated as if they had not.
    Ok(KeepAlive::Stay)
}
