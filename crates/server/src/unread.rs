//! Requests that are answered before they are read, such as one without a key or with too large a body. A server that then closes
//! the connection makes the system reset it, and a client that is still sending never sees the answer. So the rest of the body
//! is read and thrown away beside the answer, within a size and a time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::options::ServerOptions;

/// How many times the largest body is read for nothing; who sends more learns it by the closed connection.
const TIMES_THE_LIMIT: usize = 8;

/// A request's body, and whether anybody has begun to read it.
struct Unread {
    body: Option<Body>,
    begun: bool,
}

/// The same body, for the handlers.
struct Shared(Arc<Mutex<Unread>>);

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unread.begun = true;
        match &mut unread.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unread.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unread.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Middleware that reads what the handlers leave of a request's body.
pub(crate) async fn read_rest(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // A client that waits to be asked for its body gets the answer instead, and sends none.
    let waits = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let unread = Arc::new(Mutex::new(Unread { body: Some(body), begun: false }));
    let response = next.run(Request::from_parts(parts, Body::new(Shared(Arc::clone(&unread))))).await;
    let Unread { body, begun } = {
        let mut unread = unread.lock().unwrap_or_else(PoisonError::into_inner);
        Unread { body: unread.body.take(), begun: unread.begun }
    };
    if let Some(rest) = body.filter(|body| !body.is_end_stream() && (begun || !waits)) {
        tokio::spawn(discard(rest, options.body_limit.saturating_mul(TIMES_THE_LIMIT), options.read_timeout));
    }
    response
}

async fn discard(mut body: Body, limit: usize, time: Duration) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > limit {
                return;
            }
        }
    };
    if tokio::time::timeout(time, reading).await.is_err() {
        tracing::debug!("a request's unread body did not end in time");
    }
}
