//! From a socket to the application: accepting within limits, and stopping without cutting answers off.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;
use zhenjin_store::StoreError;

use crate::app::router;
use crate::connection::WriteDeadline;
use crate::options::{OptionsError, ServerOptions};
use crate::security::Peer;
use crate::shutdown::Late;
use crate::state::{AppState, Services};

/// How long the last error events may take to reach their clients.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// The pause after the system refused a connection, as when it has no file handles left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The most connections at once of those who come when the server stops.
const LATE_CONNECTIONS: usize = 64;
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A server that listens, and serves once it [`run`](Server::run)s.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: AppState,
}

/// Why a server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The options cannot be served under.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; is another server running there? Choose another address; port 0 takes any free one"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be read.
    #[error("cannot look for API keys: {0}")]
    Store(#[from] StoreError),
}

impl Server {
    /// Checks the options and takes the address. Nothing is served yet.
    pub async fn bind(options: ServerOptions, services: Services) -> Result<Server, ServeError> {
        options.check(services.store.has_api_key().await?)?;
        if options.cors_origins.iter().any(|origin| origin == "null") && !options.needs_key() {
            tracing::warn!(
                "the origin `null` is allowed and no key is asked for: a sandboxed frame of any site can use this server"
            );
        }
        let wanted = options.address;
        let bound = |source| ServeError::Bind { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        Ok(Server { listener, address, state: AppState::new(options, services) })
    }

    /// The address with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What requests share; [`Shutdown::drain`](crate::Shutdown::drain) in there stops the server too.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Serves until `stop` resolves. Then no answer is begun; those that run may go on for [`ServerOptions::shutdown_limit`], after which streams
    /// end with an error event. Until the last one has ended, whoever comes is told that the server stops.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Server { listener, state, .. } = self;
        let application = router(state.clone());
        let places = Arc::new(Semaphore::new(state.options.connection_limit));
        let mut connections = JoinSet::new();
        let upkeep =
            tokio::spawn(crate::operations::keep_up(state.metrics.clone(), Arc::clone(&state.models)));
        let purging = tokio::spawn(crate::chat::keep_up(state.store.clone(), Arc::clone(&state.menu)));
        let promotions = tokio::spawn(crate::chat::follow_promotions(Arc::clone(&state.menu)));
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                () = state.shutdown.draining() => break,
                accepted = accept(&listener, &places) => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            if let Some((stream, peer, place)) = accepted {
                let (application, state) = (application.clone(), state.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer, application, state, Come::InTime).await;
                    drop(place);
                });
            }
        }
        state.shutdown.drain();
        // Beside those that are waited for: nobody who comes now makes the end later.
        let late = tokio::spawn(answer_late(listener, application, state.clone()));
        end_connections(connections, &state).await;
        // One may have been about to begin.
        end_improvement(&state).await;
        late.abort();
        // The address is free when this returns.
        let _aborted = late.await;
        upkeep.abort();
        promotions.abort();
        purging.abort();
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Tokens are small and awaited one by one; a failure only costs speed.
            let _ = stream.set_nodelay(true);
            Some((stream, Peer(peer.ip()), place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// When a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Come {
    InTime,
    /// After the server was told to stop.
    Late,
}

/// Tells everybody who comes that the server stops, until it is dropped.
async fn answer_late(listener: TcpListener, application: Router, state: AppState) {
    let places = Arc::new(Semaphore::new(LATE_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        if let Some((stream, peer, place)) = accepted {
            let (application, state) = (application.clone(), state.clone());
            connections.spawn(async move {
                serve_connection(stream, peer, application, state, Come::Late).await;
                drop(place);
            });
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: Peer, application: Router, state: AppState, come: Come) {
    let stream = TokioIo::new(WriteDeadline::new(stream, state.options.write_timeout));
    let service = TowerToHyperService::new(application.map_request(
        move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            if come == Come::Late {
                request.extensions_mut().insert(Late);
            }
            request
        },
    ));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(come == Come::InTime)
        .header_read_timeout(state.options.read_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // One that came late would be closed before its request is read.
        () = state.shutdown.draining(), if come == Come::InTime => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends what this server or one before it had begun; beside the threads that serve, as a large program takes a while to end.
async fn end_improvement(state: &AppState) {
    let menu = Arc::clone(&state.menu);
    if let Err(error) = tokio::task::spawn_blocking(move || menu.end_improvement()).await {
        tracing::error!(%error, "ending the improvement failed");
    }
}

async fn end_connections(mut connections: JoinSet<()>, state: &AppState) {
    // First, as this process may be ended at any moment from now on: the program would go on, and nobody would know it.
    end_improvement(state).await;
    let limit = state.options.shutdown_limit;
    if tokio::time::timeout(limit, all_ended(&mut connections, state)).await.is_ok() {
        return;
    }
    tracing::warn!(
        connections = connections.len(),
        seconds = limit.as_secs(),
        "answers still run and are ended now"
    );
    state.shutdown.end();
    if tokio::time::timeout(LAST_EVENTS, all_ended(&mut connections, state)).await.is_err() {
        connections.shutdown().await;
    }
}

/// Resolves when no client waits any more and what the web chat wrote is saved.
async fn all_ended(connections: &mut JoinSet<()>, state: &AppState) {
    while connections.join_next().await.is_some() {}
    state.menu.cancel_pulls();
    state.answers.all_saved().await;
}
