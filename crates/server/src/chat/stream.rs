//! Following an answer over server-sent events, from any place in it, while it is written or afterwards.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use zhenjin_store::{MessageId, Store};

use super::answers::{Followed, Follower, RunningAnswers, byte_of_code_point};
use super::extract::{ApiPath, ApiQuery};
use super::wire::{AnswerEvent, Delta, MessageJson};
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;
use crate::stream_limit::{FollowPermit, StreamLimit};

/// Interval of keep-alive comments, so that proxies keep the connection and a lost client is noticed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Place {
    /// How many Unicode code points of the answer are known already; 0 by default.
    offset: Option<usize>,
}

/// What comes next.
enum Source {
    Running(Follower),
    Ended { message: Box<MessageJson>, offset: usize },
    Done,
}

/// The answer from `offset` on: any number of events `delta`, then one event `done` with the whole message. Works while the
/// answer is written and afterwards, for any number of readers.
#[utoipa::path(get, path = "/api/messages/{id}/stream", operation_id = "follow_answer", tag = "chat", params(("id" = String, Path), Place), responses(
    (status = 200, description = "Events: `delta` with a Delta as data, at last `done` with a Message.",
        content_type = "text/event-stream", body = AnswerEvent),
    (status = 400, description = "The answer has ended and is not that long.", body = ErrorBody),
    (status = 404, description = "There is no such message.", body = ErrorBody),
    (status = 429, description = "Too many streams are open.", body = ErrorBody)))]
pub(crate) async fn follow(
    State(store): State<Store>,
    State(answers): State<Arc<RunningAnswers>>,
    State(streams): State<StreamLimit>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiQuery(place): ApiQuery<Place>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let id: MessageId = id.parse()?;
    let offset = place.offset.unwrap_or(0);
    let permit = streams.follow(&caller.owner)?;
    let source = match answers.follow(&caller.owner, &id, offset) {
        Some(follower) => Source::Running(follower),
        None => {
            let message = answers.settled_message(&caller.owner, &id).await?;
            byte_of_code_point(&message.content, offset).ok_or_else(|| {
                ApiError::invalid("offset", format!("the answer has fewer than {offset} characters"))
            })?;
            let feedback = store.feedback(&caller.owner, &id).await?;
            Source::Ended { message: Box::new(MessageJson::judged(message, feedback)), offset }
        }
    };
    Ok(Sse::new(events(source, permit)).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn events(source: Source, permit: FollowPermit) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((source, permit), |(source, permit)| async move {
        let (event, source) = match source {
            Source::Done => return None,
            Source::Running(mut follower) => match follower.next().await {
                Followed::Text { offset, text } => {
                    (event(&AnswerEvent::Delta(Delta { offset, text })), Source::Running(follower))
                }
                Followed::End(message) => (done(message.as_ref().clone().into()), Source::Done),
            },
            Source::Ended { message, offset } => {
                match byte_of_code_point(message.content(), offset)
                    .map(|byte| message.content()[byte..].to_owned())
                {
                    Some(text) if !text.is_empty() => {
                        let end = offset + text.chars().count();
                        (
                            event(&AnswerEvent::Delta(Delta { offset, text })),
                            Source::Ended { message, offset: end },
                        )
                    }
                    _ => (done(*message), Source::Done),
                }
            }
        };
        Some((Ok(event), (source, permit)))
    })
}

fn done(message: MessageJson) -> Event {
    event(&AnswerEvent::Done(Box::new(message)))
}

/// The server-sent event that serialises as `{"event": its name, "data": its data}`, which is how the OpenAPI document
/// describes events.
pub(super) fn event(described: &impl Serialize) -> Event {
    // These types have no maps with odd keys and no infinite numbers: they always are JSON.
    let described = serde_json::to_value(described).unwrap_or_default();
    Event::default()
        .event(described["event"].as_str().unwrap_or_default())
        .data(described["data"].to_string())
}
