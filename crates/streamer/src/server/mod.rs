//! HTTP: routes, limits, and an orderly end.
//!
//! Guarantees: who has no token is not read; bodies are bounded in all; a request that is answered with 202 is with the broker and counted; where one is
//! refused as a whole, nothing of it is published. What was begun is ended although its sender has gone away.

mod error_response;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use assay_http_server::{Bodies, Limits};
use assay_queue::Broker;
use assay_store::Store;
use assay_transaction::{LiveRules, Namespace};
use axum::Router;
use axum::http::HeaderMap;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::error_response::ErrorResponse;
use crate::accept::MessageAcceptor;
use crate::count::LiveCounter;
use crate::lookup::Lookup;
use crate::metrics::{self, count_request};
use crate::tokens::Tokens;
use crate::{ServeOptions, StreamError};

/// How long a body may take to come.
const READ: Duration = Duration::from_secs(30);
/// The bytes of all bodies together, from when they begin to be read until their requests are answered: what is made of a body
/// takes some times as much.
const BODIES: u32 = 16 * 1024 * 1024;

/// What all requests share.
struct ServerState {
    acceptor: MessageAcceptor,
    lookup: Lookup,
    rules: LiveRules,
    namespace: Namespace,
    tokens: Tokens,
    bodies: Bodies,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// That one more request may be answered; whoever has to end what it began keeps it.
type RequestPermit = Arc<OwnedSemaphorePermit>;

impl ServerState {
    /// Lets a request in, or says why not.
    fn admit(&self, headers: &HeaderMap) -> Result<RequestPermit, ErrorResponse> {
        if !self.tokens.let_in(headers) {
            return Err(ErrorResponse::Unauthorized);
        }
        Arc::clone(&self.permits).try_acquire_owned().map(Arc::new).map_err(|_| ErrorResponse::Busy)
    }
}

/// Begins to listen.
pub async fn listen(options: &ServeOptions) -> Result<TcpListener, StreamError> {
    let address = options.streamer_addr;
    TcpListener::bind(address)
        .await
        .map_err(|error| StreamError::Setting(format!("cannot listen at {address} ({error}): check STREAMER_ADDR")))
}

/// Answers until `shutdown`, then finishes the requests that it has, within `drain`, and tells the ledger the last counts.
pub async fn serve(
    listener: TcpListener,
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    options: &ServeOptions,
    tokens: Tokens,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), StreamError> {
    metrics::describe();
    let settings = options.read.settings(&options.producer_run_id);
    let rules = LiveRules::new(&settings)?;
    let address = listener.local_addr()?;
    let (counter, counting) = LiveCounter::start(Arc::clone(&store) as _, options.producer_run_id.clone());
    let state = Arc::new(ServerState {
        acceptor: MessageAcceptor::new(broker, Arc::clone(&counter)),
        lookup: Lookup::new(store),
        rules,
        namespace: settings.namespace,
        tokens,
        bodies: Bodies::new(options.max_body_bytes, BODIES, READ),
        permits: Arc::new(Semaphore::new(options.max_requests as usize)),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    info!("transactions of {} are taken at http://{address}/transactions", options.producer_run_id);
    let limits = Limits::default();
    // Each request that is answered has a connection, and others come meanwhile.
    let limits = Limits { connections: limits.connections.max(2 * options.max_requests as usize), ..limits };
    let answering = assay_http_server::serve(listener, router(&state), limits, shutdown.clone());
    let answered = async {
        answering.await;
        // What was begun for senders that have gone away.
        state.tasks.close();
        state.tasks.wait().await;
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = answered => {}
        () = overdue => warn!("ending with requests that are still open after DRAIN_TIMEOUT ({drain:?})"),
    }
    counter.finish(counting).await;
    let totals = counter.totals();
    info!("Accepted {} transactions in {} messages", totals.rows, totals.messages);
    Ok(())
}

fn router(state: &Arc<ServerState>) -> Router {
    Router::new()
        .route("/transactions", post(requests::send))
        .route("/transactions/{id}", get(requests::ask))
        .route("/openapi.json", get(requests::describe))
        .fallback(async || ErrorResponse::NoSuchPath)
        .method_not_allowed_fallback(async || ErrorResponse::NoSuchMethod)
        .layer(from_fn(count_request))
        .with_state(Arc::clone(state))
}
